"""A client alone, against a server that may do anything at any moment.

The server may send every frame of an alphabet, open, refuse, stall and close transports, and repeat
itself; time may pass or jump; the application sends, takes, asks for snapshots, gives tokens, and
ends it. At any step the client may be replaced by what its saved state restores, on another clock,
or by a new process that starts from a resume token. Each step is judged by the local monitors and
by what the specification calls for, said a second time.

Spec: the verification page, "Each machine against any peer".
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from attrs import evolve

from gatewayproto.actions import ClientAction, ResumeToken
from gatewayproto.backoff import Backoff
from gatewayproto.client import Client
from gatewayproto.config import ClientConfig
from gatewayproto.frames import ClientInfo
from gatewayproto.inputs import ClientInput, Disconnect, SetToken
from gatewayproto.testing.any_peer import _server_frames
from gatewayproto.testing.any_peer._client_letters import (
    PREFIXES,
    PUSH_THEMES,
    SMALL,
    THEMES,
    Chosen,
    Groups,
    any_letter,
)
from gatewayproto.testing.any_peer._client_reference import ClientReference
from gatewayproto.testing.any_peer._server import AnyServer
from gatewayproto.testing.any_peer._twin import Twin, call, deadline_of
from gatewayproto.testing.any_peer.runs import Issuing, Run, ended, judged
from gatewayproto.testing.choices import Choices, Odometer, Recorder, pick
from gatewayproto.testing.machines import Coarse, through_json
from gatewayproto.testing.monitors import Monitors
from gatewayproto.testing.steps import WORLD, ClientAdded, Setup, Step, Swapped, Violation
from gatewayproto.versions import VersionRange

HELD: Final = ResumeToken(session_id="s1", epoch="e1", cursor=5)
"""A position to start from."""
POSITIONS: Final = (
    None,
    HELD,
    None,
    HELD,
    ResumeToken(session_id="s1", epoch="e1", cursor=0),
    ResumeToken(session_id="s1", epoch=None, cursor=0),
    ResumeToken(session_id="s1", epoch=None, cursor=1),
    ResumeToken(session_id="s1", epoch=None, cursor=3),
    ResumeToken(session_id="s1.e1", epoch=None, cursor=4),
)
STATES: Final = tuple(PREFIXES)
"""The states that exhaustive runs begin in."""

_SWAP_EVERY: Final = 16
_RESTART_EVERY: Final = 64
_HEALING: Final = 200
_LIFE: Final = "client"


def draw_config(choices: Choices) -> ClientConfig:
    """A configuration, whose times are such that sums of them are exact."""
    return ClientConfig(
        agent_id="demo",
        token=pick(choices, (None, None, "t0")),
        versions=pick(
            choices,
            (VersionRange(1, 2), VersionRange(1, 2), VersionRange(1, 1), VersionRange(2, 2)),
        ),
        capabilities=pick(choices, ((), (), ("a", "b"))),
        client=pick(choices, (None, None, ClientInfo(name="x", version="1"))),
        start=pick(choices, (None, None, "snapshot", "replay")),
        max_payload=pick(choices, (1_048_576, 1_048_576, 1024)),
        max_snapshot=pick(choices, (1_048_576, 1_048_576, 20, 9, 3)),
        handshake_timeout=pick(choices, (8.0, 64.0)),
        recovery_timeout=pick(choices, (4.0, 64.0)),
        heartbeat=pick(choices, (32.0, 2.0)),
        request_ttl=pick(choices, (256.0, 16.0)),
        server_max_payload=pick(choices, (1_048_576, 1_048_576, 1024)),
        max_queued=pick(choices, (1000, 2, 4)),
        backoff=Backoff(
            initial=1.0, maximum=16.0, multiplier=2.0, jitter=pick(choices, (0.0, 0.5, 1.0))
        ),
        max_attempts=pick(choices, (None, None, None, None, 1, 3)),
    )


class _Bench:
    """One client machine on a clock of its own, and the twin that it was swapped from."""

    def __init__(self, config: ClientConfig, resume: ResumeToken | None, life: int) -> None:
        self._config = config
        self._ids = Issuing(f"{life}-")
        self._rng = Coarse(life)
        self._machine = Client(config, rng=self._rng, resume=resume, ids=self._ids)
        self._ahead = 0.0
        self._twin: Twin[ClientInput, ClientAction] | None = None

    @property
    def next_id(self) -> str:
        """What the machine would draw next."""
        return self._ids.copy()()

    @property
    def config(self) -> ClientConfig:
        """The configuration, with the token that is good now."""
        return self._config

    def handle(
        self, input_: ClientInput, now: float, *, changes_nothing: bool
    ) -> tuple[Step, tuple[str, ...]]:
        """Give an input; what came of it, and the ids that were drawn. Raises `Violation`."""
        self._ids.issued.clear()
        before = self._state(now) if changes_nothing else None
        actions, raised = call(self._machine, input_, now + self._ahead)
        deadline = deadline_of(self._machine, self._ahead, now)
        if before is not None and self._state(now) != before:
            raise Violation("P7", f"{input_} must change nothing")
        if isinstance(input_, SetToken) and raised is None:
            self._config = evolve(self._config, token=input_.token)
        if self._twin is not None:
            self._twin.compare(input_, now, actions, deadline)
        step = Step(
            now=now, who=_LIFE, input=input_, actions=actions, deadline=deadline, raised=raised
        )
        return step, tuple(self._ids.issued)

    def swap(self, now: float, ahead: float) -> Step:
        """Go on with what the saved state restores, on a clock that is so far ahead."""
        self.compare_twin(now)
        state = through_json(self._state(now))
        self._twin = Twin[ClientInput, ClientAction](self._machine, self._ahead)
        rng, self._ids = Coarse(), self._ids.copy()
        rng.setstate(self._rng.getstate())
        self._rng, self._ahead = rng, ahead
        self._machine = Client.from_state(
            self._config, state, rng=rng, now=now + ahead, ids=self._ids
        )
        deadline = deadline_of(self._machine, ahead, now)
        return Step(now=now, who=WORLD, input=Swapped(_LIFE), deadline=deadline)

    def compare_twin(self, now: float) -> None:
        """Hold the machine against the one that it was restored from. Raises `Violation`."""
        if self._twin is not None:
            self._twin.compare_state(self._state(now), now)

    def _state(self, now: float) -> dict[str, Any]:
        return self._machine.to_state(now=now + self._ahead)


class _Play:
    """One run: the client, its server, and those who judge."""

    def __init__(self, choices: Recorder, config: ClientConfig, resume: ResumeToken | None) -> None:
        self.choices = choices
        self.server = AnyServer(ClientReference(config, resume))
        self.bench = _Bench(config, resume, 1)
        self.steps: list[Step] = []
        self.tokens: list[ResumeToken] = [] if resume is None else [resume]
        self.witnessed: set[str] = set()
        self.lives = 1
        self.monitors = Monitors(Setup(clients={_LIFE: config}), tolerant=True)
        self._observe(Step(now=0.0, who=WORLD, input=ClientAdded(_LIFE, config, resume)))

    def give(self, input_: ClientInput | None) -> None:
        """Give the client an input, and judge what it does. Raises `Violation`."""
        if input_ is None:
            return
        server, bench = self.server, self.bench
        nothing = server.book.expect(input_, server.now, bench.next_id)
        step, issued = bench.handle(input_, server.now, changes_nothing=nothing)
        self._observe(step)
        server.book.judge(step, issued)
        for action in step.actions:
            token = getattr(getattr(action, "event", None), "token", None)
            if token is not None:
                self.tokens.append(token)

    def swap(self) -> None:
        """Save the machine, and restore it on another clock."""
        ahead = pick(self.choices, (0.0, 0.0, 1024.0, -512.0))
        self._observe(self.bench.swap(self.server.now, ahead))
        self.witnessed.add("swapped")

    def restart(self) -> None:
        """The process dies; another starts from a token that the application has stored."""
        resume = None
        if self.tokens:
            resume = self.tokens[-1 - self.choices.choose(min(3, len(self.tokens)))]
        config, old = self.bench.config, self.server
        self.witnessed |= {*old.book.witnessed, "restarted"}
        self.lives += 1
        self.server = AnyServer(ClientReference(config, resume), now=old.now, count=old.count)
        self.bench = _Bench(config, resume, self.lives)
        self._observe(Step(now=old.now, who=WORLD, input=ClientAdded(_LIFE, config, resume)))

    def heal(self) -> None:
        """From here on all is well: the client must be live, with nothing open (P15)."""
        for _ in range(_HEALING):
            if self.server.book.is_settled:
                return
            self.give(_server_frames.go_on(self.server))
        raise Violation("P15", f"all is well, and it is still {self.server.book.phase}")

    def end(self) -> None:
        """The application ends it, and nothing may be left."""
        self.bench.compare_twin(self.server.now)
        self.give(Disconnect())
        self.server.book.finish()
        self.monitors.finish()

    def _observe(self, step: Step) -> None:
        self.steps.append(step)
        self.monitors.observe(step)

    def run(self) -> Run:
        """The run as it stands."""
        witnessed = {*self.witnessed, *self.server.book.witnessed, *self.monitors.witnessed}
        return ended(self.steps, self.choices, witnessed)


ABOUT: Final[Mapping[str, Sequence[Groups | None]]] = {"": THEMES, "pushes": PUSH_THEMES}
"""What a run may dwell on: nothing in particular; presence, health and credentials."""


def run_client(
    choices: Choices,
    *,
    steps: int = 60,
    config: ClientConfig | None = None,
    resume: ResumeToken | None = None,
    about: str = "",
) -> Run:
    """Let a client live through so many steps of anything, heal, and end.

    `about` is what it dwells on: one of `ABOUT`. Raises `KeyError` for another.

    Without a `config`, both it and the position to start from are chosen, too. Raises `Broken`.
    """
    recorder = Recorder(choices)
    if config is None:
        config, resume = draw_config(recorder), pick(recorder, POSITIONS)
    return judged(_Play(recorder, config, resume), lambda play: _live(play, steps, about))


def _live(play: _Play, steps: int, about: str) -> None:
    theme = pick(play.choices, ABOUT[about])
    for _ in range(steps):
        chance = play.choices.choose(_RESTART_EVERY)
        stopped = play.server.book.phase == "stopped" and chance >= _RESTART_EVERY // 2
        if stopped or chance == _RESTART_EVERY - 1:
            play.restart()
        elif chance % _SWAP_EVERY == _SWAP_EVERY - 1:
            play.swap()
        play.give(any_letter(play.server, play.choices, theme))
    play.heal()
    play.end()


def exhaust_client(
    state: str, depth: int, *, letters: Sequence[Chosen] = SMALL, resume: ResumeToken | None = HELD
) -> Iterator[Run]:
    """Every sequence of `depth` letters of the small alphabet, from one of `STATES` on.

    Raises `Broken` where one breaks a property.
    """
    config = ClientConfig(agent_id="demo", backoff=Backoff(jitter=0.0))
    odometer = Odometer()
    for _ in odometer.runs():
        yield judged(
            _Play(Recorder(odometer), config, resume),
            lambda play: _spell(play, state, depth, letters),
        )


def _spell(play: _Play, state: str, depth: int, letters: Sequence[Chosen]) -> None:
    for chosen in PREFIXES[state]:
        play.give(chosen.write(play.server, play.choices))
    for _ in range(depth):
        play.give(pick(play.choices, letters).write(play.server, play.choices))
    play.end()
