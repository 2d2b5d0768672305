"""Machines for the explorer: each is the canonical bytes of its saved state, and nothing else.

What a machine does is a function of its state, the input and the seconds that have passed since it
was saved, so it is computed once and then looked up: few distinct states of machines make up very
many of worlds. Every step of a run goes through `to_state` and `from_state`, which by P12 nobody
can notice. Times are relative: a state is always restored at `BASE`.

Spec: the verification page, "Explorer".
"""

import random
from collections.abc import Callable, Hashable
from hashlib import blake2b
from typing import Any, Final, Generic, Protocol, Self, TypeVar

import msgspec
from attrs import define, field, frozen

from gatewayproto.actions import ClientAction, GatewayAction, MessageReceived, ResumeToken
from gatewayproto.client import Client
from gatewayproto.config import ClientConfig, GatewayConfig
from gatewayproto.gateway import Gateway
from gatewayproto.inputs import Activity, ClientInput, FrameReceived, GatewayInput, Publish
from gatewayproto.records import Stored
from gatewayproto.testing.explorer.holding import check_client, check_gateway
from gatewayproto.testing.machines import ClientSlot, GatewaySlot, Numbered, Outcome
from gatewayproto.testing.steps import Restart, Violation

BASE: Final = 1024.0
"""The time at which machines are saved and restored, and that of every world between two deeds."""

_SHOWN: Final = 60
"""Bytes on either side of where two states differ."""

_Actions = tuple[GatewayAction, ...] | tuple[ClientAction, ...]


class Constant(random.Random):
    """Gives one half, always: a source of jitter that has no state to tell worlds apart by."""

    def random(self) -> float:
        """One half."""
        return 0.5


class Machine(Protocol):
    """What both machines have in common."""

    @property
    def next_deadline(self) -> float | None:
        """When its timer is due."""
        ...

    def handle(self, input_: Any, *, now: float) -> Any:
        """Take an input, give actions."""
        ...

    def to_state(self, *, now: float) -> dict[str, Any]:
        """Plain data from which it goes on."""
        ...


M = TypeVar("M", bound=Machine)


@define(eq=False)
class State(Generic[M]):
    """One distinct state of one machine, saved at `BASE`.

    `body` is its JSON, `ids` how many ids it has drawn, `tag` what else there is to it: that of a
    client its configuration, which is not saved. `digest` tells it from every other. `deadline` is
    in seconds from `BASE`.
    """

    number: int
    body: bytes
    ids: int
    tag: bytes
    digest: bytes
    deadline: float | None
    checked: bool = False

    @classmethod
    def of(
        cls, body: bytes, ids: int, tag: bytes, deadline: float | None, *, number: int = -1
    ) -> Self:
        """A state of this body; -1 is the number of those that are nobody's."""
        return cls(number, body, ids, tag, digest(body, ids, tag), deadline)


def digest(body: bytes, ids: int, tag: bytes) -> bytes:
    """What tells a state from every other."""
    return blake2b(b"%d %b\n%b" % (ids, tag, body), digest_size=16).digest()


def tag_of(config: ClientConfig) -> bytes:
    """What tells a configuration from every other."""
    return msgspec.json.encode(config)


def look(machine: M, ids: Numbered, tag: bytes, now: float) -> State[M]:
    """The state that a machine is in."""
    body = msgspec.json.encode(machine.to_state(now=now))
    return State.of(body, ids.next, tag, _remains(machine, now))


def _remains(machine: Machine, now: float) -> float | None:
    deadline = machine.next_deadline
    return None if deadline is None else deadline - now


@frozen
class Done:
    """What an input came to; the deadline is in `state`."""

    state: State[Any]
    actions: _Actions
    raised: Exception | None
    outcome: Outcome  # as it is where the input came at `BASE`


@define
class Effort:
    """How often machines were asked, and how often they had to be run for it."""

    asked: int = 0
    run: int = 0


@define(eq=False)
class Plant(Generic[M]):
    """Makes one machine out of its states, and remembers what each did.

    - `prefix`: of its ids. `tag`: of its states.
    - `restore`: gives a machine from its saved state, with the ids to draw from.
    - `check`: raises `Violation` for a state beyond the configured bounds (P9).
    - `remembers`: whether it does.
    """

    prefix: str
    tag: bytes
    restore: Callable[[dict[str, Any], Numbered], M]
    check: Callable[[dict[str, Any]], None]
    effort: Effort
    remembers: bool = True
    states: dict[tuple[bytes, int], State[M]] = field(factory=dict)
    memory: dict[Hashable, Done] = field(factory=dict)

    def state(self, machine: M, ids: Numbered, now: float, before: State[M] | None) -> State[M]:
        """The state that a machine is in; `before` where it raised something and has none."""
        try:
            plain = machine.to_state(now=now)
            body = msgspec.json.encode(plain)
        except Exception as error:
            if before is not None:
                return before  # what it raised is for the observer to judge
            raise Violation("P12", f"a state cannot be saved: {error!r}") from error
        known = self.states.get((body, ids.next))
        if known is None:
            self.check(plain)
            due = _remains(machine, now)
            known = State.of(body, ids.next, self.tag, due, number=len(self.states))
            self.states[body, ids.next] = known
        return known

    def machine(self, state: State[M]) -> tuple[M, Numbered]:
        """A machine in that state, at `BASE`."""
        ids = Numbered(self.prefix, state.ids)
        try:
            machine = self.restore(msgspec.json.decode(state.body), ids)
            if not state.checked:
                state.checked = True
                again = msgspec.json.encode(machine.to_state(now=BASE))
                if again != state.body or _remains(machine, BASE) != state.deadline:
                    raise Violation("P12", f"restored, it is another: {_differ(state.body, again)}")
        except Violation:
            raise
        except Exception as error:
            raise Violation("P12", f"a state cannot be restored: {error!r}") from error
        return machine, ids

    def handle(self, state: State[M], elapsed: float, key: Hashable, input_: object) -> Done:
        """What a machine in that state does with an input after `elapsed` seconds.

        `key` tells the input from every other.
        """
        self.effort.asked += 1
        where = (state.number, elapsed, key)
        done = self.memory.get(where) if self.remembers else None
        if done is None:
            self.effort.run += 1
            machine, ids = self.machine(state)
            now = BASE + elapsed
            actions: _Actions = ()
            raised: Exception | None = None
            try:
                actions = machine.handle(input_, now=now)
            except Exception as error:  # noqa: BLE001 -- it is for the observer to judge
                raised = error
            after = self.state(machine, ids, now, state if raised else None)
            deadline = None if after.deadline is None else BASE + after.deadline
            done = Done(after, actions, raised, Outcome(actions, deadline, raised))
            if self.remembers:
                self.memory[where] = done
        return done

    def wait(self, state: State[M], elapsed: float) -> State[M]:
        """The state after `elapsed` seconds in which nothing happened."""
        where = (state.number, elapsed, None)
        done = self.memory.get(where) if self.remembers else None
        if done is None:
            machine, ids = self.machine(state)
            after = self.state(machine, ids, BASE + elapsed, None)
            done = Done(after, (), None, Outcome((), None))
            if self.remembers:
                self.memory[where] = done
        return done.state


def _differ(one: bytes, other: bytes) -> str:
    """Where two states begin to differ."""
    at = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
    begin = max(0, at - _SHOWN)
    return f"{one[begin : at + _SHOWN].decode()} … is now {other[begin : at + _SHOWN].decode()}"


def _key(input_: GatewayInput | ClientInput) -> Hashable:
    """What tells an input from every other. Most are hashable; those with plain data are not."""
    match input_:
        case FrameReceived():
            return "frame", input_.connection, input_.data
        case Activity():
            return "activity", input_.connection
        case Publish():
            return "publish", input_.session_id, msgspec.json.encode(input_.event)
        case _:
            return type(input_).__name__, msgspec.json.encode(input_, order="deterministic")


# -- slots ------------------------------------------------------------------------------------


@define(eq=False)
class Slot(Generic[M]):
    """A machine of a world: its state, and the time as of which it is."""

    plant: Plant[M]
    state: State[M]
    at: float = BASE

    def handle(self, input_: Any, now: float) -> Outcome:
        """Give it an input; whatever it raises is in the outcome."""
        done = self.plant.handle(self.state, now - self.at, _key(input_), input_)
        self.state, self.at = done.state, now
        if now == BASE:
            return done.outcome
        return Outcome(done.actions, self.deadline, done.raised)

    @property
    def deadline(self) -> float | None:
        """When its timer is due, by the world's clock."""
        return None if self.state.deadline is None else self.at + self.state.deadline

    def swap(self, now: float) -> float | None:
        """Nothing changes: it is restored from its state at every input."""
        self.settle(now)
        return self.deadline

    def settle(self, now: float) -> None:
        """Let the time pass, so that the state is as of `now`."""
        if now != self.at:
            self.state = self.plant.wait(self.state, now - self.at)
            self.at = now

    def rebase(self, now: float) -> None:
        """From here on `BASE` is what was `now`."""
        self.settle(now)
        self.at = BASE


class FoldedClient(Slot[Client]):
    """A client as its state."""

    def copy(self, now: float) -> "FoldedClient":  # noqa: ARG002 -- as others need it
        """The same machine in another world."""
        return FoldedClient(self.plant, self.state, self.at)


@define(eq=False)
class FoldedGateway(Slot[Gateway]):
    """A gateway as its state; `store` is the copy in the store."""

    config: GatewayConfig = field(kw_only=True)
    store: State[Gateway] | None = field(default=None, kw_only=True)

    def copy(self, now: float) -> "FoldedGateway":  # noqa: ARG002 -- as others need it
        """The same machine in another world, with the same store."""
        return FoldedGateway(self.plant, self.state, self.at, config=self.config, store=self.store)

    def save(self, now: float) -> None:
        """Put a copy of its state into the store; one that was there is replaced."""
        self.settle(now)
        self.store = self.state

    def restart(self, kind: Restart, now: float) -> float | None:
        """Let the process die and come back; gives the new machine's deadline."""
        self.settle(now)
        stored = self.store if kind == "copy" else self.state
        if stored is None:
            raise ValueError("nothing was saved")
        ids = Numbered(self.plant.prefix, self.state.ids)
        if kind == "nothing":
            machine = Gateway(self.config, ids=ids)
        else:
            plain = msgspec.json.decode(stored.body)
            machine = Gateway.recover(
                self.config, plain, now=BASE, unbroken=kind == "whole", ids=ids
            )
        self.state = self.plant.state(machine, ids, BASE, None)
        return self.deadline

    def recover(self, stored: Stored, now: float, *, unbroken: bool) -> float | None:
        """Let the process die and come back from a store; gives the new machine's deadline."""
        self.settle(now)
        ids = Numbered(self.plant.prefix, self.state.ids)
        machine = Gateway.recover_stored(self.config, stored, now=BASE, unbroken=unbroken, ids=ids)
        self.state = self.plant.state(machine, ids, BASE, None)
        return self.deadline

    def pending(self, session_id: str) -> tuple[MessageReceived, ...]:
        """The messages of a session that are not done."""
        return self.plant.machine(self.state)[0].pending(session_id)

    def session_ids(self) -> tuple[str, ...]:
        """The sessions that it has."""
        return self.plant.machine(self.state)[0].session_ids


class FoldedMachines:
    """Makes folded machines and keeps what all the worlds of an exploration know of them.

    `remembers` is whether they look up what they did before; without, all of it is done again.
    """

    def __init__(self, *, remembers: bool = True) -> None:
        self.remembers = remembers
        self.effort = Effort()
        self._gateways: dict[GatewayConfig, Plant[Gateway]] = {}
        self._clients: dict[tuple[str, ClientConfig], Plant[Client]] = {}

    @property
    def states(self) -> int:
        """How many distinct states of machines were met."""
        counts = [len(plant.states) for plant in self._gateways.values()]
        return sum(counts) + sum(len(plant.states) for plant in self._clients.values())

    def gateway(self, config: GatewayConfig) -> GatewaySlot:
        """The gateway."""
        plant = self._gateways.get(config)
        if plant is None:

            def restore(state: dict[str, Any], ids: Numbered) -> Gateway:
                return Gateway.from_state(config, state, now=BASE, ids=ids)

            plant = self._gateways[config] = Plant(
                "g", b"", restore, check_gateway(config), self.effort, self.remembers
            )
        ids = Numbered("g")
        first = plant.state(Gateway(config, ids=ids), ids, BASE, None)
        return FoldedGateway(plant, first, config=config)

    def client(self, name: str, config: ClientConfig, resume: ResumeToken | None) -> ClientSlot:
        """A client, by a name of its own."""
        plant = self._clients.get((name, config))
        if plant is None:

            def restore(state: dict[str, Any], ids: Numbered) -> Client:
                return Client.from_state(config, state, rng=Constant(), now=BASE, ids=ids)

            plant = self._clients[name, config] = Plant(
                f"{name}-",
                tag_of(config),
                restore,
                check_client(config),
                self.effort,
                self.remembers,
            )
        ids = Numbered(f"{name}-")
        machine = Client(config, rng=Constant(), resume=resume, ids=ids)
        return FoldedClient(plant, plant.state(machine, ids, BASE, None))
