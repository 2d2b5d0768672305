"""Deployed clients against our server: a play is drawn from a seed, played, and judged."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from gatewayproto import GatewayConfig
from tests.blackbox.bbserve import Gateway
from tests.deployed.dpaccount import Said, follow, holds, said_to
from tests.deployed.dpclient import DeployedClient, Habits, draw_habits
from tests.deployed.dphost import Host, Restart
from tests.deployed.dpwire import Fault, draw_fault, everything_closed

TOKEN: Final = "secret"


@dataclass(frozen=True)
class Visit:
    """One connection of the client's, and what happens to the server before it."""

    texts: tuple[str, ...]
    late: int
    fault: Fault
    restart: Restart | None = None
    restart_after: int = 0
    """How many frames the client is told before the server restarts; 0 for while it is away."""
    keeps: bool = False
    """Whether the server's state is copied before, for a later restart that is `older`."""
    away: int = 0
    """How many events are published before the client comes, after a restart while it was away."""


@dataclass(frozen=True)
class Play:
    """All that is drawn from a seed."""

    habits: Habits
    visits: tuple[Visit, ...]
    retain: int
    retain_transient: int


@dataclass(frozen=True)
class Outcome:
    """What a play came to: figures, for a sum over many."""

    visits: int = 0
    events: int = 0
    snapshots: int = 0
    restarts: int = 0


def draw(seed: int, token: str | None = None, *, restarts: bool = False) -> Play:
    """Draw a play."""
    rng = Random(f"client {seed}")
    visits = tuple(_visit(rng, restarts=restarts) for _ in range(rng.randint(3, 9)))
    retain, transient = rng.choice([(1000, 1000), (30, 30), (30, 5), (12, 0), (1000, 3)])
    return Play(draw_habits(rng, token), visits, retain, transient)


def _visit(rng: Random, *, restarts: bool) -> Visit:
    texts = tuple(_text(rng) for _ in range(rng.choice([0, 1, 1, 2, 4])))
    fault = draw_fault(rng, ("in", "in", "out"), ("reset", "fin", "silent"), 60_000)
    late = rng.randint(0, len(texts))
    ways: list[Restart] = ["saved", "unbroken", "older", "lost"]
    restart = rng.choice(ways) if restarts and rng.random() < 0.4 else None
    after = rng.choice([0, 0, 2, 10, 40])
    away = rng.choice([0, 0, 2, 9, 50])
    return Visit(texts, late, fault, restart, after, keeps=rng.random() < 0.3, away=away)


def _text(rng: Random) -> str:
    kind = rng.choice(["tokens", "tokens", "burst", "echo"])
    if kind == "echo":
        return f"say {rng.randrange(10**6)}"
    return f"{kind} {rng.choice([1, 3, 10, 25, 60])}"


def small_gateway() -> Gateway:
    """Start `gatewayproto serve` with a journal that plays overrun."""
    return Gateway("--retain", "30", "--retain-transient", "10", "--token", TOKEN)


def against_serve(seed: int, gateway: Gateway) -> Outcome:
    """Play a seed against a running `gatewayproto serve`, whose agent says what texts ask for."""
    play = draw(seed, TOKEN)
    client = DeployedClient(play.habits, lambda: (gateway.host, gateway.port))

    def done() -> bool:
        return not client.unacknowledged() and client.cursor >= _length(client.written.values())

    with everything_closed():
        for visit in play.visits:
            client.visit(visit.fault, visit.texts, done=done, late_texts=visit.late)
        while not client.visit(done=done):
            assert client.closed_with == 4002, client.closed_with  # it lagged, and comes back
    follow(client.log)
    holds(client.view, said_to(client.written.values()))
    return _outcome(client)


def _length(texts: Iterable[str]) -> int:
    """Count what `said_to` writes out."""
    count = 0
    for text in texts:
        word, _, rest = text.partition(" ")
        count += int(rest) + (word == "tokens") if word in {"tokens", "burst"} else 1
    return count


def against_restarts(seed: int) -> Outcome:
    """Play a seed against a server in this process that is stopped, restored and lost."""
    play = draw(seed, restarts=True)
    config = GatewayConfig(retain=play.retain, retain_transient=play.retain_transient)
    with everything_closed(), Host(config) as host:
        client = DeployedClient(play.habits, lambda: host.address)
        done = _Settled(client, host)
        for visit in play.visits:
            if visit.keeps:
                host.keep()
            done.restart_at(visit.restart, len(client.log) + visit.restart_after)
            if client.session_id is not None:
                host.publish(client.session_id.partition(".")[0], visit.away)
            client.visit(visit.fault, visit.texts, done=done, late_texts=visit.late)
        done.restart_at(None, 0)
        while not client.visit(done=done):
            assert client.closed_with == 4002, client.closed_with
        follow(client.log)
        holds(client.view, done.said())
        done.check_requests()
    return replace(_outcome(client), restarts=done.restarts)


class _Settled:
    """Whether nothing more is to come to a client; which of its requests the server still knows."""

    def __init__(self, client: DeployedClient, host: Host) -> None:
        """Begin with a new client."""
        self.client = client
        self.host = host
        self.restarts = 0
        self._void: set[str | None] = set()
        """Session ids, and so epochs, of which the server has lost something since."""
        self._next: tuple[Restart, int] | None = None

    def restart_at(self, how: Restart | None, frames: int) -> None:
        """Restart the server once the client has been told so many frames: now, or later."""
        self._next = None if how is None else (how, frames)
        self._restart_if_due()

    def _restart_if_due(self) -> None:
        if self._next is None or len(self.client.log) < self._next[1]:
            return
        how, self._next = self.host.restart(self._next[0]), None
        self.restarts += 1
        if how in {"older", "lost"}:
            self._void |= {self.client.session_id, *self.client.acknowledged.values()}

    def _session(self) -> str:
        return (self.client.session_id or "").partition(".")[0]

    def said(self) -> list[Said]:
        """All that was published in the client's session."""
        return list(self.host.life.said.get(self._session(), ()))

    def _finished(self) -> list[str]:
        return list(self.host.life.finished.get(self._session(), ()))

    def __call__(self) -> bool:
        """Tell whether everything that was asked for has come."""
        self._restart_if_due()
        client = self.client
        if client.unacknowledged() or client.cursor < len(self.said()):
            return False
        return self._owed() <= set(self._finished())

    def _owed(self) -> set[str]:
        """Tell what was acknowledged by a server that has lost nothing since."""
        acknowledged = self.client.acknowledged.items()
        return {request_id for request_id, given in acknowledged if given not in self._void}

    def check_requests(self) -> None:
        """No request has run twice in what the server knows, and none is missing."""
        finished = self._finished()
        assert len(finished) == len(set(finished)), finished
        assert self._owed() <= set(finished)


def _outcome(client: DeployedClient) -> Outcome:
    kinds = [frame["type"] for frame in client.log]
    welcomes = sum(kind in {"hello_ok", "joined"} for kind in kinds)
    return Outcome(welcomes, kinds.count("replay"), kinds.count("snapshot"))
