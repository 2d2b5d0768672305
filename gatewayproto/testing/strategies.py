"""Hypothesis for the machines: choices, events, logs, frames, and a model test of projections.

This module alone needs Hypothesis: `pip install gatewayproto[testing]`.

Spec: the architecture page, "Machines"; Framing; Terms.
"""

from collections.abc import Iterable
from typing import Any, ClassVar, Final, get_args

import msgspec
from attrs import define, evolve

from gatewayproto import frames as f
from gatewayproto.frames import MAX_INT, Event
from gatewayproto.projection import Projection
from gatewayproto.testing.projections import Factory, demand_same, plain_copy, superseded

try:
    from hypothesis import strategies as st
    from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
except ImportError as error:
    raise ImportError(
        "gatewayproto.testing.strategies needs Hypothesis: pip install gatewayproto[testing]"
    ) from error

# -- choices ----------------------------------------------------------------------------------


class Drawn:
    """Choices that Hypothesis makes: what fails is shrunk to few choices, most of them 0.

    `trace` is what was chosen so far; `Recorded(trace)` chooses the same without Hypothesis.
    """

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self.trace: list[int] = []

    def choose(self, n: int) -> int:
        """One of 0 to n - 1."""
        chosen = self._draw(st.integers(0, n - 1)) if n > 1 else 0
        self.trace.append(chosen)
        return chosen

    def __repr__(self) -> str:
        return "choices()"


@st.composite
def choices(draw: st.DrawFn) -> Drawn:
    """A source of choices, for everything that takes `Choices`: a simulated run, for instance.

    It chooses while the test runs, and only then.
    """
    return Drawn(draw)


# -- JSON -------------------------------------------------------------------------------------

scalars: Final[st.SearchStrategy[Any]] = (
    st.none()
    | st.booleans()
    | st.integers(-MAX_INT, MAX_INT)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
"""JSON values that hold no others, within the protocol's limits."""
plain: Final[st.SearchStrategy[Any]] = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
"""JSON values that a frame may hold."""
objects: Final[st.SearchStrategy[f.Object]] = st.dictionaries(
    st.text(max_size=8), plain, max_size=5
)
"""JSON objects that a frame may hold: an event's `data`, for instance."""

# -- frames -----------------------------------------------------------------------------------


def frames(cls: type) -> st.SearchStrategy[Any]:
    """Every frame that the types of a frame's class allow: `frames(Hello)`."""
    return _values(msgspec.inspect.type_info(cls))


def client_frames() -> st.SearchStrategy[f.ClientFrame]:
    """Every frame that a client may send."""
    return st.one_of([frames(cls) for cls in get_args(f.ClientFrame)])


def server_frames() -> st.SearchStrategy[f.ServerFrame]:
    """Every frame that a server may send."""
    return st.one_of([frames(cls) for cls in get_args(f.ServerFrame)])


def _values(type_: msgspec.inspect.Type) -> st.SearchStrategy[Any]:
    strategy: st.SearchStrategy[Any]
    match type_:
        case msgspec.inspect.NoneType():
            strategy = st.none()
        case msgspec.inspect.BoolType():
            strategy = st.booleans()
        case msgspec.inspect.IntType(ge=minimum, le=maximum):
            strategy = st.integers(minimum, maximum)
        case msgspec.inspect.FloatType(ge=minimum):
            strategy = st.floats(min_value=minimum, allow_nan=False, allow_infinity=False)
        case msgspec.inspect.StrType(min_length=minimum, max_length=maximum):
            strategy = st.text(min_size=minimum or 0, max_size=min(maximum or 40, 40))
        case msgspec.inspect.LiteralType(values=values):
            strategy = st.sampled_from(values)
        case msgspec.inspect.DictType():
            strategy = objects
        case msgspec.inspect.VarTupleType(item_type=item):
            strategy = st.lists(_values(item), max_size=3).map(tuple)
        case msgspec.inspect.UnionType(types=types):
            strategy = st.one_of([_values(each) for each in types])
        case msgspec.inspect.DataclassType(cls=cls, fields=fields):
            strategy = st.builds(cls, **{field.name: _values(field.type) for field in fields})
        case _:
            raise NotImplementedError(type_)
    return strategy


# -- events -----------------------------------------------------------------------------------

_RUNS: Final = ("r1", "r2")
_TEXTS: Final = st.sampled_from(["", "a", "bc ", "\u00e9", '"\\', "\x00\x1f", "\U0001f600"])
_DATA: Final[st.SearchStrategy[f.Object]] = st.fixed_dictionaries(
    {"text": _TEXTS}
) | st.fixed_dictionaries({"n": st.integers(0, 9)})
_TYPES: Final = ("note", "token", "progress", "question", "response")


def events(
    *,
    types: Iterable[str] = _TYPES,
    data: st.SearchStrategy[f.Object] = _DATA,
    runs: Iterable[str] = _RUNS,
) -> st.SearchStrategy[Event]:
    """An event that may be published: transient or durable, in a run or in none, or its final.

    `types`, `data` and `runs` (run ids) are those of your application. Every `event_id` is the
    same and every `timestamp` 0: `logs` gives each event its own.

    Spec: Server to client; Terms (run).
    """
    run_ids = st.sampled_from(tuple(runs))
    common: dict[str, st.SearchStrategy[Any]] = {
        "type": st.sampled_from(tuple(types)),
        "data": data,
        "event_id": st.just("e"),
        "timestamp": st.just(0.0),
    }
    text = st.none() | st.sampled_from(["user", "agent"])
    durable = common | {"source": text, "target": text, "request_id": st.none() | st.just("q")}
    yes = st.just(True)
    return st.one_of(
        st.builds(Event, **durable, expects_reply=st.none() | yes, run_id=st.none() | run_ids),
        st.builds(Event, **common, transient=yes, run_id=run_ids),
        st.builds(Event, **common, transient=yes),
        st.builds(Event, **durable, final=yes, run_id=run_ids),
    )


def logs(
    event: st.SearchStrategy[Event] | None = None, *, max_size: int = 30
) -> st.SearchStrategy[tuple[Event, ...]]:
    """What a session publishes, in order: runs with finals and without, questions and answers.

    Its first event is seq 1. Some events answer an earlier question, or one that never was, by
    `data.reply_to`. `event` makes the events, `events()` unless given.

    Spec: Terms.
    """
    answered = st.none() | st.integers(0, max_size)
    return st.lists(
        st.tuples(events() if event is None else event, answered), max_size=max_size
    ).map(_log)


def _log(drawn: list[tuple[Event, int | None]]) -> tuple[Event, ...]:
    return tuple(_numbered(seq, event, asked) for seq, (event, asked) in enumerate(drawn, start=1))


def _numbered(seq: int, event: Event, answered: int | None = None) -> Event:
    data = event.data
    if answered is not None and answered < seq and not event.transient:
        data = {**data, "reply_to": f"e{answered}"}
    return evolve(event, event_id=f"e{seq}", timestamp=float(seq), data=data)


# -- projections ------------------------------------------------------------------------------


@define
class _Follower:
    """One who folds for himself, and how far he is."""

    projection: Projection
    cursor: int


class ProjectionMachine(RuleBasedStateMachine):
    """A model test of a projection; `projection_machine` makes one for yours."""

    max_state: ClassVar[int | None]

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Event] = []
        self.gateway = self.empty()
        self.followers = [_Follower(self.empty(), 0)]

    def empty(self) -> Projection:
        """A new projection."""
        raise NotImplementedError

    def publish(self, event: Event) -> None:
        """Publish an event; `projection_machine` makes a rule of it."""
        self.log.append(_numbered(len(self.log) + 1, event))
        self.gateway.apply(len(self.log), self.log[-1])

    @precondition(lambda self: len(self.followers) < _MOST_FOLLOWERS)
    @rule()
    def join_with_a_snapshot(self) -> None:
        """A further follower."""
        self.followers.append(_Follower(self.empty(), 0))
        self.load_a_snapshot(len(self.followers) - 1)

    @rule(number=st.integers(0, 9))
    def load_a_snapshot(self, number: int) -> None:
        """A follower lagged, or asked for it."""
        follower = self.followers[number % len(self.followers)]
        follower.projection.load(plain_copy(self.gateway.state()))
        follower.cursor = len(self.log)

    @rule(number=st.integers(0, 9), steps=st.integers(1, 5))
    def go_on(self, number: int, steps: int) -> None:
        """A follower gets what is next, and is spared what is superseded by now."""
        follower = self.followers[number % len(self.followers)]
        gone = superseded(self.log)
        for seq in range(follower.cursor + 1, len(self.log) + 1)[:steps]:
            if seq not in gone:
                follower.projection.apply(seq, self.log[seq - 1])
            follower.cursor = seq

    @rule()
    def catch_up(self) -> None:
        """All of them get to the head."""
        for number in range(len(self.followers)):
            self.go_on(number, len(self.log))

    @invariant()
    def whoever_is_at_the_head_has_the_state(self) -> None:
        """What all the rest is for."""
        state = plain_copy(self.gateway.state(), max_state=self.max_state)
        for follower in self.followers:
            if follower.cursor == len(self.log):
                demand_same(follower.projection.state(), state, "a follower at the head")


def projection_machine(
    factory: Factory,
    *,
    event: st.SearchStrategy[Event] | None = None,
    max_state: int | None = None,
) -> type[ProjectionMachine]:
    """A model test of a projection: clients that come, lag, are spared events, and converge.

    Events are published, `events()` unless `event` makes them; followers join with a snapshot, or
    follow from the beginning; each goes on at its own pace, and is spared what was superseded while
    it lagged. Whoever is at the head has the gateway's state, which takes no more than `max_state`
    bytes where that is given. Use it as `TestMine = projection_machine(Mine).TestCase`.

    Spec: Snapshots; Lagging.
    """
    published = rule(event=events() if event is None else event)(ProjectionMachine.publish)
    members = {
        "empty": lambda _: factory(),
        "max_state": max_state,
        "publish": published,
        "__doc__": ProjectionMachine.__doc__,
        "__module__": __name__,
    }
    return type("ProjectionMachine", (ProjectionMachine,), members)


_MOST_FOLLOWERS: Final = 4
