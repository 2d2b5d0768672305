"""Our client against deployed servers: a play is drawn from a seed, played, and judged."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

from gatewayproto_asyncio import ClientSession, OutcomeUnknownError, connect

from gatewayproto import Backoff, ClientConfig
from gatewayproto.actions import (
    ClientEvent,
    EventReceived,
    Gap,
    Joined,
    MessageAccepted,
    MessageRefused,
    OutcomeUnknown,
    Skipped,
    SnapshotReceived,
)
from tests.blackbox.bbcommand import START, Tail
from tests.blackbox.bbwire import Frame, brief
from tests.deployed.dpjudge import Judge, Told, requests_are_right
from tests.deployed.dpserver import DeployedServer, Kind, Restart, Visit
from tests.deployed.dpwire import Way, draw_fault, everything_closed

_DEADLINE: Final = 20.0
_WAYS: Final[tuple[Way, ...]] = ("reset", "reset", "fin", "fin", "silent")


@dataclass(frozen=True)
class Play:
    """All that is drawn from a seed."""

    kind: Kind
    visits: tuple[Visit, ...]
    messages: int


def draw(seed: int) -> Play:
    """Draw a play."""
    rng = Random(f"server {seed}")
    kind = draw_kind(rng)
    visits = tuple(_visit(rng) for _ in range(rng.randint(2, 8)))
    # Before it has ever been visited there is nothing.
    first = replace(visits[0], restart=None, away=0)
    return Play(kind, (first, *visits[1:]), rng.randint(0, 4))


def draw_kind(rng: Random) -> Kind:
    """Draw a server that names what its journal has let go, or lets go of nothing."""
    kind = Kind(
        floor=rng.choice(["none", "joined", "both"]),
        head=rng.random() < 0.5,
        sequence=rng.random() < 0.5,
        version=rng.choice(["none", "protocol", "both"]),
        resumed=rng.choice(["true", "false", "absent", "honest"]),
        hello=rng.choice(["same", "baseline", "deaf", "all"]),
        live=rng.choice(["replay", "named", "bare", "nested"]),
        behind=rng.choice(["hole", "snapshot", "announced"]),
        numbered=rng.random() < 0.5,
        remembers=rng.random() < 0.7,
        journal=rng.choice([1000, 30, 5]),
        heartbeat_ms=rng.choice([None, 150]),
    )
    if kind.floor == "both":
        return replace(kind, hello="same")
    if kind.floor == "none" and kind.behind == "hole":
        return replace(kind, journal=1000)
    return kind


def _visit(rng: Random) -> Visit:
    live = rng.choice([0, 1, 3, 10, 40])
    ways: list[Restart] = ["same", "other", "renumbered"]
    return Visit(
        restart=rng.choice(ways) if rng.random() < 0.2 else None,
        away=rng.choice([0, 0, 1, 8, 40]),
        live=live,
        lost=frozenset(index for index in range(live) if rng.random() < 0.03),
        twice=frozenset(index for index in range(live) if rng.random() < 0.05),
        fault=draw_fault(rng, ("out", "out", "in"), _WAYS, 20_000),
    )


def in_process(seed: int) -> Told:
    """Play a seed with `gatewayproto_asyncio.connect`."""
    play = draw(seed)
    with everything_closed():
        server = DeployedServer(play.kind, play.visits)
        judge = Judge(server)
        try:
            lines = asyncio.run(follow(server, judge, play.messages))
        finally:
            server.stop()
        _check_end(judge, lines, play.messages)
    return judge.told


async def follow(
    server: DeployedServer,
    judge: Judge,
    messages: int,
    *,
    enough: Callable[[], bool] = lambda: False,
) -> list[Frame]:
    """Follow the server to its last event, or until it is enough; all that the client told."""
    stopped = asyncio.Event()
    lines: list[Frame] = []
    final = asyncio.Event()
    loop = asyncio.get_running_loop()

    def tell_final() -> None:
        loop.call_soon_threadsafe(final.set)

    server.on_final = tell_final

    def hear(event: ClientEvent) -> None:
        line = as_line(event)
        if line is not None:
            lines.append(line)
            judge.take(line)
            if is_end(line) or enough():
                stopped.set()

    config = ClientConfig(
        agent_id="demo",
        heartbeat=0.15,
        handshake_timeout=0.4,
        recovery_timeout=1.0,
        backoff=Backoff(initial=0.002, maximum=0.02),
    )

    async def send(text: str) -> None:
        with suppress(OutcomeUnknownError):
            await client.send(text)

    async def take(client: ClientSession) -> None:
        async for _ in client:
            pass

    server.start()
    async with (
        asyncio.timeout(_DEADLINE),
        connect(
            server.listener.url, config=config, on_event=hear, close_timeout=0.05, rng=Random(0)
        ) as client,
        asyncio.TaskGroup() as group,
    ):
        sends = [group.create_task(send(f"early {n}")) for n in range(messages // 2)]

        async def finish() -> None:
            await final.wait()
            late = range(messages // 2, messages)
            sends.extend(group.create_task(send(f"late {number}")) for number in late)
            await asyncio.gather(*sends)
            server.finish.set()

        finishing = group.create_task(finish())
        taking = group.create_task(take(client))
        await stopped.wait()
        taking.cancel()
        finishing.cancel()
    return lines


def by_command(seed: int) -> Told:
    """Play a seed with `gatewayproto tail --json`."""
    play = draw(seed)
    with everything_closed():
        # The command's own heartbeat is long: a server that falls silent must have told its own.
        server = DeployedServer(replace(play.kind, heartbeat_ms=200), play.visits)
        judge = Judge(server)
        sends = [word for n in range(play.messages) for word in ("--send", f"message {n}")]
        timeouts = ("--handshake-timeout", "1", "--recovery-timeout", "1")
        tail = Tail(server.listener.url, *sends, *timeouts, backoff=(0.01, 0.05))
        server.start()
        lines: list[Frame] = []
        try:
            missing = play.messages
            while True:
                if missing == 0:
                    server.finish.set()
                line = tail.next_line(START)
                lines.append(line)
                judge.take(line)
                missing -= line["emit"] in {"accepted", "refused", "outcome_unknown"}
                if is_end(line):
                    break
            tail.interrupt()
            tail.ended(0)
        finally:
            server.stop()
        _check_end(judge, lines, play.messages)
    return judge.told


def _check_end(judge: Judge, lines: list[Frame], messages: int) -> None:
    assert judge.is_complete(), f"{judge.position} of {judge.life}: {brief(lines[-5:])}"
    requests_are_right(lines, judge.server, messages)


def is_end(line: Frame) -> bool:
    """Tell whether this is, or covers, what the server publishes last."""
    if line["emit"] == "event":
        return "end" in line["event"]["data"]
    return line["emit"] == "snapshot" and line["state"]["end"] is True


def as_line(event: ClientEvent) -> Frame | None:
    """Write out what a client tells as `tail --json` does, as far as the judge needs it."""
    found: dict[str, Any] | None = None
    match event:
        case Joined(resumed=resumed):
            found = {"emit": "joined", "resumed": resumed}
        case EventReceived(seq=seq, event=inner):
            found = {"emit": "event", "seq": seq, "event": {"data": dict(inner.data)}}
        case Skipped(first=first, last=last, reason=reason):
            found = {"emit": "skipped", "first": first, "last": last, "reason": reason}
        case SnapshotReceived(cursor=cursor, state=state):
            found = {"emit": "snapshot", "cursor": cursor, "state": dict(state)}
        case Gap(expected=expected, received=received):
            found = {"emit": "gap", "expected": expected, "received": received}
        case MessageAccepted(request_id=request_id):
            found = {"emit": "accepted", "request_id": request_id}
        case MessageRefused(request_id=request_id):
            found = {"emit": "refused", "request_id": request_id}
        case OutcomeUnknown(request_id=request_id):
            found = {"emit": "outcome_unknown", "request_id": request_id}
        case _:
            pass
    return found
