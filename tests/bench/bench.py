"""What the machines cost, as ratios measured in one run against named references.

Run it with `make bench`. It prints ratios, because a ratio within one run means the same on every
machine; it is no test and fails on nothing.
"""

import itertools
import json
import statistics
import time
import tracemalloc
from collections.abc import Callable
from functools import partial

from gatewayproto import Event, Gateway, GatewayConfig
from gatewayproto.actions import SendFrames
from gatewayproto.inputs import (
    Accept,
    ConnectionClosed,
    ConnectionOpened,
    Drained,
    FrameReceived,
    Publish,
)

_ROUNDS = 7
_TOKEN = Event(
    type="token",
    data={"text": "lorem ipsum "},
    event_id="e-0123456789",
    timestamp=1_700_000_000.25,
    run_id="run-1",
    transient=True,
)
_NOTE = Event(
    type="note", data={"text": "lorem ipsum "}, event_id="e-0123456789", timestamp=1_700_000_000.25
)


class World:
    """A gateway with one session and as many subscribers as asked."""

    def __init__(self, *, retain: int, subscribers: int = 0) -> None:
        ids = (f"id{number}" for number in itertools.count())
        config = GatewayConfig(
            retain=retain, retain_transient=retain, retain_bytes=2**40, send_window=2**40
        )
        self.gateway = Gateway(config, ids=ids.__next__)
        self._numbers = itertools.count(1)
        self.session_id = ""
        self.epoch = ""
        self.last = self.attach()
        for _ in range(subscribers - 1):
            self.attach(since=0)

    def attach(self, since: int | None = None) -> int:
        """Attach one more subscriber; give its number."""
        number = next(self._numbers)
        hello = {"type": "hello", "agent_id": "a", "protocol_min": 2, "protocol_max": 2}
        if since is not None:
            hello |= {"session_id": self.session_id, "epoch": self.epoch, "since": since}
        self.gateway.handle(ConnectionOpened(connection=number), now=0.0)
        self.gateway.handle(FrameReceived(number, json.dumps(hello).encode()), now=0.0)
        actions = self.gateway.handle(Accept(connection=number), now=0.0)
        if not self.session_id:
            frames = next(action for action in actions if isinstance(action, SendFrames)).frames
            welcome = json.loads(frames[0])
            self.session_id, self.epoch = welcome["session_id"], welcome["epoch"]
        sent = sum(
            len(frame)
            for action in actions
            if isinstance(action, SendFrames)
            for frame in action.frames
        )
        self.gateway.handle(Drained(number, sent), now=0.0)
        return number

    def publish(self, event: Event, count: int) -> None:
        """Publish an event so many times."""
        for _ in range(count):
            self.gateway.handle(Publish(session_id=self.session_id, event=event), now=0.0)

    def resume(self, behind: int) -> None:
        """Attach at so many events before the head, and leave again."""
        info = self.gateway.session(self.session_id)
        assert info is not None
        number = self.attach(since=info.cursor - behind)
        self.gateway.handle(ConnectionClosed(number), now=0.0)

    def resume_often(self, behind: int, count: int) -> None:
        """Resume so many times."""
        for _ in range(count):
            self.resume(behind)


def cost(work: Callable[[], object], count: int) -> float:
    """Microseconds for one of `count` units of work: the median of some rounds."""
    times: list[float] = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) / count * 1e6)
    return statistics.median(times)


def show(name: str, value: float, reference: str, against: float) -> None:
    """Print one ratio."""
    print(f"{name:<44} {value:9.2f} us   {value / against:8.3f} x {reference} ({against:.2f} us)")


def publish_and_resume() -> None:
    """Neither depends on how much is retained."""
    worlds = {retained: World(retain=retained) for retained in (100, 100_000)}
    publishing: dict[int, float] = {}
    resuming: dict[int, float] = {}
    for retained, world in worlds.items():
        world.gateway.handle(ConnectionClosed(world.last), now=0.0)
        world.publish(_NOTE, retained)
        publishing[retained] = cost(partial(world.publish, _NOTE, 2000), 2000)
        resuming[retained] = cost(partial(world.resume_often, 10, 200), 200)
    show("publish, 100,000 events retained", publishing[100_000], "with 100", publishing[100])
    show("resume at head - 10, 100,000 retained", resuming[100_000], "with 100", resuming[100])
    encoding = cost(lambda: [json.dumps({"n": _NOTE.data}) for _ in range(2000)], 2000)
    show("publish, nobody there", publishing[100], "one json.dumps of its data", encoding)


def fan_out() -> None:
    """One more subscriber costs no encoding and no copy."""
    few, many = World(retain=1000, subscribers=100), World(retain=1000, subscribers=10_000)
    for world in (few, many):
        world.publish(_TOKEN, 3)
    one = cost(lambda: few.publish(_TOKEN, 100), 100 * 100)
    all_ = cost(lambda: many.publish(_TOKEN, 3), 3 * 10_000)
    data = {"type": "event", "seq": 1, "event": {"type": "token", "data": _TOKEN.data}}
    naive = cost(lambda: [json.dumps(data) for _ in range(10_000)], 10_000)
    show("fan-out, for each of 10,000 subscribers", all_, "for each of 100", one)
    show("fan-out, for each of 10,000 subscribers", all_, "one json.dumps for each", naive)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    actions = many.gateway.handle(Publish(session_id=many.session_id, event=_TOKEN), now=0.0)
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    frames = {id(frame) for a in actions if isinstance(a, SendFrames) for frame in a.frames}
    print(
        f"{'one event to 10,000 subscribers':<44} {len(frames):9d} encoded frame(s), "
        f"{held / 10_000:.1f} bytes held for each while it is sent"
    )


def replay() -> None:
    """A replayed event costs less than encoding it again."""
    world = World(retain=100_000)
    world.publish(_NOTE, 20_000)
    replaying = cost(lambda: world.resume(20_000), 20_000)
    fields = {
        "type": "replay",
        "seq": 1,
        "event": {"type": "note", "data": _NOTE.data, "event_id": "e", "timestamp": 1.5},
    }
    encoding = cost(lambda: [json.dumps(fields) for _ in range(20_000)], 20_000)
    show("replay, for each of 20,000 events", replaying, "one json.dumps of it", encoding)


if __name__ == "__main__":
    print("What is measured, what it costs, and that as a multiple of a reference; less is better.")
    publish_and_resume()
    fan_out()
    replay()
