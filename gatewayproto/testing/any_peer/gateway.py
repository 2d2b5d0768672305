"""A gateway alone, against peers, transports and an application that may do anything at any moment.

Peers may send any frame at any moment, in either version and either spelling of the handshake, with
every kind of field; transports take what they are owed in any portions, or nothing, and end when
they please; the application decides, publishes and rejects as it likes, too late as well; time may
pass or jump. At any step the gateway may be replaced by what its saved state restores, on another
clock, or die and come back: whole, from its store, from an older copy, or with nothing. Each step
is judged by the local monitors and by what the specification calls for, said a second time.

Spec: the verification page, "Each machine against any peer".
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from attrs import evolve, frozen

from gatewayproto.actions import GatewayAction
from gatewayproto.config import GatewayConfig
from gatewayproto.gateway import Gateway, SessionInfo
from gatewayproto.inputs import GatewayInput
from gatewayproto.testing.any_peer import _peers
from gatewayproto.testing.any_peer._gateway_book import Session
from gatewayproto.testing.any_peer._gateway_letters import (
    BUILDING_THEMES,
    ENDING_PREFIXES,
    ENDINGS,
    PREFIXES,
    PUSH_THEMES,
    RATE_THEMES,
    SMALL,
    SMALL_ENDINGS,
    THEMES,
    Chosen,
    Theme,
    any_letter,
)
from gatewayproto.testing.any_peer._gateway_reference import GatewayReference
from gatewayproto.testing.any_peer._peers import AnyPeers
from gatewayproto.testing.any_peer._twin import Twin, call, deadline_of
from gatewayproto.testing.any_peer.runs import Issuing, Run, ended, judged
from gatewayproto.testing.choices import Choices, Odometer, Recorder, pick
from gatewayproto.testing.machines import through_json
from gatewayproto.testing.monitors import Monitors
from gatewayproto.testing.steps import (
    GATEWAY,
    WORLD,
    Restart,
    Restarted,
    Saved,
    Setup,
    Step,
    Swapped,
    Violation,
)
from gatewayproto.versions import VersionRange

__all__ = [
    "ENDINGS",
    "ENDING_STATES",
    "SMALL_ENDINGS",
    "STATES",
    "THEMES",
    "TIGHT",
    "draw_config",
    "exhaust_gateway",
    "run_gateway",
]

TIGHT: Final = GatewayConfig(
    max_pending_requests=2,
    retain=3,
    retain_transient=2,
    send_window=700,
    max_lags=2,
    max_violations=2,
    frame_rate=None,
    recovery_rate=None,
    session_rate=None,
    push_interval=None,
)
"""A configuration whose limits few steps reach."""
STATES: Final = tuple(PREFIXES)
"""The situations that exhaustive runs begin in."""
ENDING_STATES: Final = tuple(ENDING_PREFIXES)
"""Those in which something ends; `SMALL_ENDINGS` are the letters for them."""

_SWAP_EVERY: Final = 16
_RESTART_EVERY: Final = 128


def draw_config(choices: Choices) -> GatewayConfig:
    """A configuration, often with tight limits."""

    def mostly(usual: Any, *tight: Any) -> Any:
        """The usual value, or now and then a tight one."""
        return pick(choices, (*(usual,) * 2 * len(tight), *tight))

    return GatewayConfig(
        versions=mostly(VersionRange(1, 2), VersionRange(2, 2), VersionRange(1, 1)),
        protocol_strict=mostly(False, True),
        heartbeat=mostly(32.0, 2.0),
        handshake_timeout=mostly(8.0, 64.0),
        resume_window=mostly(256.0, 16.0),
        request_ttl=mostly(256.0, 4.0),
        max_pending_requests=mostly(100, 1, 3),
        max_payload=mostly(1_048_576, 4096),
        max_event=mostly(1_048_064, 600),
        retain=pick(choices, (1000, 1000, 3, 1, 0)),
        retain_transient=pick(choices, (1000, 1000, 2, 0)),
        retain_bytes=mostly(8_388_608, 1500, 0),
        send_window=pick(choices, (262_144, 262_144, 600, 3000, 1)),
        answer_window=mostly(65_536, 300, 1000),
        stall_timeout=mostly(64.0, 4.0),
        max_lags=mostly(20, 1, 2),
        lag_period=mostly(64.0, 1.0),
        max_violations=mostly(10, 1, 2),
        max_open_runs=mostly(1000, 1, 2),
        max_connections=mostly(1000, 2, 3),
        max_sessions=mostly(1000, 1, 2),
        retry_after=4.5,
        presence_max=mostly(100, 0, 1),
        frame_rate=None,
        recovery_rate=None,
        session_rate=None,
        push_interval=None,
    )


class _Bench:
    """One gateway machine on a clock of its own, and the twin that it was swapped from."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._ids = Issuing("g")
        self._machine = Gateway(config, ids=self._ids)
        self._ahead = 0.0
        self._twin: Twin[GatewayInput, GatewayAction] | None = None
        self._stored: dict[str, Any] | None = None

    @property
    def issued(self) -> Sequence[str]:
        """The ids that were drawn in the latest step."""
        return self._ids.issued

    def look(self, session_id: str) -> SessionInfo | None:
        """What the application can ask of a session."""
        return self._machine.session(session_id)

    def handle(self, input_: GatewayInput, now: float, *, changes_nothing: bool) -> Step:
        """Give an input; what came of it. Raises `Violation`."""
        self._ids.issued.clear()
        before = self._state(now) if changes_nothing else None
        actions, raised = call(self._machine, input_, now + self._ahead)
        deadline = deadline_of(self._machine, self._ahead, now)
        if before is not None and self._state(now) != before:
            raise Violation("P7", f"{input_} must change nothing")
        if self._twin is not None:
            self._twin.compare(input_, now, actions, deadline)
        return Step(
            now=now, who=GATEWAY, input=input_, actions=actions, deadline=deadline, raised=raised
        )

    def swap(self, now: float, ahead: float) -> Step:
        """Go on with what the saved state restores, on a clock that is so far ahead."""
        self.compare_twin(now)
        state = through_json(self._state(now))
        self._twin = Twin[GatewayInput, GatewayAction](self._machine, self._ahead)
        self._ids, self._ahead = self._ids.copy(), ahead
        self._machine = Gateway.from_state(self._config, state, now=now + ahead, ids=self._ids)
        deadline = deadline_of(self._machine, ahead, now)
        return Step(now=now, who=WORLD, input=Swapped(GATEWAY), deadline=deadline)

    def save(self, now: float) -> Step:
        """Put a copy of the state into the store."""
        self._stored = through_json(self._state(now))
        deadline = deadline_of(self._machine, self._ahead, now)
        return Step(now=now, who=WORLD, input=Saved(), deadline=deadline)

    def restart(self, kind: Restart, now: float) -> Step:
        """The process dies and comes back."""
        self._ids.issued.clear()
        self._twin = None
        state = self._stored if kind == "copy" else through_json(self._state(now))
        self._ahead = 0.0
        if kind == "nothing" or state is None:
            self._machine = Gateway(self._config, ids=self._ids)
        else:
            self._machine = Gateway.recover(
                self._config, state, now=now, unbroken=kind == "whole", ids=self._ids
            )
        deadline = self._machine.next_deadline
        return Step(now=now, who=WORLD, input=Restarted(kind), deadline=deadline)

    def compare_twin(self, now: float) -> None:
        """Hold the machine against the one that it was restored from. Raises `Violation`."""
        if self._twin is not None:
            self._twin.compare_state(self._state(now), now)

    def _state(self, now: float) -> dict[str, Any]:
        return self._machine.to_state(now=now + self._ahead)


@frozen
class _Saved:
    """What is known of what the store has, as of `at`."""

    sessions: dict[str, Session]
    health: dict[str, Any]
    health_version: int
    at: float

    def restore(self, book: GatewayReference, now: float) -> None:
        """Go back to it."""
        book.sessions = copy.deepcopy(self.sessions)
        for session in book.sessions.values():
            session.shift(now - self.at)
        book.health, book.health_version = self.health, self.health_version


class _Play:
    """One run: the gateway, everybody around it, and those who judge."""

    def __init__(self, choices: Recorder, config: GatewayConfig) -> None:
        self.choices = choices
        self.peers = AnyPeers(GatewayReference(config), choices)
        self.bench = _Bench(config)
        self.steps: list[Step] = []
        self.saved: _Saved | None = None
        self.witnessed: set[str] = set()
        self.monitors = Monitors(Setup(gateway=config), tolerant=True)

    def give(self, input_: GatewayInput | None) -> None:
        """Give the gateway an input, and judge what it does. Raises `Violation`."""
        if input_ is None:
            return
        book, now = self.peers.book, self.peers.now
        before = set(book.sessions)
        nothing = book.changes_nothing(input_, now, self.steps[-1].deadline if self.steps else None)
        step = self.bench.handle(input_, now, changes_nothing=nothing)
        self._observe(step)
        book.judge(step, self.bench.issued, self.bench.look)
        self.peers.gone += before - set(book.sessions)

    def swap(self) -> None:
        """Save the machine, and restore it on another clock."""
        ahead = pick(self.choices, (0.0, 0.0, 1024.0, -512.0))
        self._observe(self.bench.swap(self.peers.now, ahead))
        self.witnessed.add("swapped")

    def restart(self) -> None:
        """The process is saved, or dies and comes back."""
        book, now = self.peers.book, self.peers.now
        kind: Restart | None = pick(
            self.choices, (None, None, "whole", "whole", "store", "copy", "copy", "nothing")
        )
        if kind is None:
            self._observe(self.bench.save(now))
            sessions = copy.deepcopy(book.sessions)
            self.saved = _Saved(sessions, book.health, book.health_version, now)
            return
        if kind == "copy" and self.saved is None:
            return
        self.witnessed.add(f"restarted {kind}")
        before = book.sessions
        self.peers.epochs += [session.epoch for session in before.values()]
        if kind == "copy" and self.saved is not None:
            self.saved.restore(book, now)
        elif kind == "nothing":
            _Saved({}, {}, 0, now).restore(book, now)
        self.peers.gone += [id_ for id_ in before if id_ not in book.sessions]
        self._observe(self.bench.restart(kind, now))
        book.recover(
            unbroken=kind == "whole", now=now, issued=self.bench.issued, look=self.bench.look
        )
        self.peers.opened = 0

    def heal(self) -> None:
        """Every transport takes what it is owed: everybody must be at the head (P3)."""
        while (input_ := _peers.drained(self.peers) or _peers.owed_state(self.peers)) is not None:
            self.give(input_)
        for peer in self.peers.book.peers.values():
            if peer.state == "live" and not peer.is_ready:
                raise Violation("P3", f"#{peer.number} took everything, and more is owed")

    def end(self) -> None:
        """The end of the run."""
        self.bench.compare_twin(self.peers.now)
        self.monitors.finish()

    def _observe(self, step: Step) -> None:
        self.steps.append(step)
        self.monitors.observe(step)

    def run(self) -> Run:
        """The run as it stands."""
        witnessed = {*self.witnessed, *self.peers.book.witnessed, *self.monitors.witnessed}
        return ended(self.steps, self.choices, witnessed)


ABOUT: Final[Mapping[str, Sequence[Theme]]] = {
    "": THEMES,
    "pushes": PUSH_THEMES,
    "endings": ENDINGS,
    "rates": RATE_THEMES,
    "building": BUILDING_THEMES,
}
"""What a run may dwell on: nothing in particular, and nothing is pushed; presence, health and
credentials; sessions that are closed and gateways that drain; rates that are reached;
states that the application builds."""


def run_gateway(
    choices: Choices,
    *,
    steps: int = 100,
    config: GatewayConfig | None = None,
    about: str = "",
) -> Run:
    """Let a gateway live through so many steps of anything, and let its transports drain.

    `about` is what it dwells on: one of `ABOUT`. Without a `config`, it is chosen, too. Raises
    `Broken`, and `KeyError` for an unknown `about`.
    """
    recorder = Recorder(choices)
    theme = pick(recorder, ABOUT[about])
    if config is None:
        limits = {name: pick(recorder, values) for name, values in theme.limits.items()}
        config = evolve(draw_config(recorder), **limits)
    return judged(_Play(recorder, config), lambda play: _live(play, steps, theme))


def _live(play: _Play, steps: int, theme: Theme) -> None:
    for _ in range(pick(play.choices, (0, 8, 8))):
        play.give(_peers.go_on(play.peers, pick(play.choices, (2, 2, 1))))
    for _ in range(steps):
        chance = play.choices.choose(_RESTART_EVERY)
        if chance == _RESTART_EVERY - 1:
            play.restart()
        elif chance % _SWAP_EVERY == _SWAP_EVERY - 1:
            play.swap()
        play.give(any_letter(play.peers, theme))
    play.heal()
    play.end()


def exhaust_gateway(state: str, depth: int, *, letters: Sequence[Chosen] = SMALL) -> Iterator[Run]:
    """Every sequence of `depth` letters of an alphabet, from one of the situations on.

    Raises `Broken` where one breaks a property.
    """
    odometer = Odometer()
    for _ in odometer.runs():
        play = _Play(Recorder(odometer), TIGHT)
        yield judged(play, lambda play: _spell(play, state, depth, letters))


def _spell(play: _Play, state: str, depth: int, letters: Sequence[Chosen]) -> None:
    for chosen in {**PREFIXES, **ENDING_PREFIXES}[state]:
        play.give(chosen.write(play.peers, play.choices))
    for _ in range(depth):
        play.give(pick(play.choices, letters).write(play.peers, play.choices))
    play.heal()
    play.end()
