"""The checks of a server's driver with a store, for a machine that writes ahead.

Spec: the architecture page, "Write ahead"; the how-to "Store sessions".
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from gatewayproto.actions import Persist
from gatewayproto.errors import ERRORS, ErrorCode
from gatewayproto.testing.drivers.backend import HookError
from gatewayproto.testing.drivers.check import awaiting, demand, shown
from gatewayproto.testing.drivers.harness import ServerHarness
from gatewayproto.testing.drivers.server_scene import (
    HELLO,
    ServerScene,
    demand_as_sent,
    read_events,
)

_BURST: Final = 5


class _StoringScene(ServerScene):
    """A server that writes ahead."""

    def __init__(self, harness: ServerHarness, **settings: Any) -> None:
        super().__init__(harness, write_ahead=True, **settings)

    async def asked(self, batches: int) -> None:
        """Wait until the store was asked for so many batches; then give the driver its turns."""
        with awaiting(f"batch {batches} for the store"):
            await self.harness.until(lambda: len(self.backend.batches) >= batches)
        await self.harness.sleep(0.05)

    def demand_confirmed(self) -> None:
        """Raise unless just what is stored was confirmed."""
        confirmed, stored = self.gateway.confirmed, self.backend.stored
        demand(confirmed == stored, f"{confirmed} was confirmed, and {stored} is stored")

    def demand_all_stored(self) -> None:
        """Raise unless every record was stored, once, in order and in whole batches."""
        given = _by_session(self.gateway.records)
        stored = _by_session(each for batch in self.backend.batches for each in batch)
        demand(stored == given, f"{_counts(stored)} were stored, {_counts(given)} were given")
        self.demand_confirmed()


def _by_session(records: Iterable[Persist]) -> dict[str, list[Persist]]:
    sessions: dict[str, list[Persist]] = defaultdict(list)
    for record in records:
        sessions[record.session_id].append(record)
    return dict(sessions)


def _counts(sessions: dict[str, list[Persist]]) -> list[list[int]]:
    return [[each.number for each in records] for records in sessions.values()]


async def _confirms_what_is_stored(harness: ServerHarness) -> None:
    scene = _StoringScene(harness)
    scene.backend.holding = True
    await scene.start()
    talker, number = await scene.open()
    await talker.send("hello", **HELLO)
    await scene.asked(1)
    demand(not scene.gateway.confirmed, "a record was confirmed that is not stored")
    scene.backend.release()
    welcome = await talker.only("hello_ok")
    scene.demand_confirmed()
    await talker.only("caught_up")
    head = 0
    for batch in (2, 3, 4):
        before = len(scene.gateway.records)
        await scene.publish(welcome["session_id"], *(_BURST * [10]))
        await scene.asked(batch)
        demand(len(scene.gateway.records) == before + _BURST, "the records are not those of events")
        scene.demand_confirmed()
        scene.backend.release()
        await read_events(talker, head + 1, head + _BURST)
        head += _BURST
    scene.demand_confirmed()
    scene.backend.holding = False
    await talker.fence()
    demand_as_sent(scene, talker, number)
    await scene.finish()


async def _stores_in_order(harness: ServerHarness) -> None:
    scene = _StoringScene(harness, checkpoint_every=7)
    await scene.start()
    one, first, welcome = await scene.join()
    two, second, other = await scene.join()
    at_work: list[int] = []

    def on_persist(_: Sequence[Persist]) -> None:
        at_work.append(scene.backend.storing)

    scene.backend.on_persist = on_persist
    scene.backend.on_message = lambda message: (scene.event(message.session_id),)
    head = 0
    for n in range(4):
        scene.backend.holding = True
        await scene.publish(welcome["session_id"], *(_BURST * [10]))
        await scene.publish(other["session_id"], *(_BURST * [10]))
        await one.send("message", content="go", request_id=f"r{n}")
        await scene.publish(welcome["session_id"], 10)
        await harness.sleep(0.02)
        scene.backend.holding = False
        scene.backend.release()
        head += _BURST + 2  # what the hook publishes is one of them
    with awaiting("all that was published"):
        await read_events_of(one, head)
        await read_events(two, 1, 4 * _BURST)
    demand(max(at_work) == 0, "a batch was given to a store that was at work on another")
    await one.fence()
    for talker, number in ((one, first), (two, second)):
        demand_as_sent(scene, talker, number)
    with awaiting("the confirmation of every record"):
        await harness.until(lambda: not any(_unstored(scene)))
    scene.demand_all_stored()
    await scene.finish()


async def read_events_of(talker: Any, head: int) -> None:
    """Read events up to the head, in order, and what comes between."""
    for seq in range(1, head + 1):
        frame = await talker.frame("event")
        demand(frame["seq"] == seq, f"{frame['seq']} in place of event {seq}")


def _unstored(scene: ServerScene) -> Iterable[int]:
    for session_id in scene.gateway.session_ids:
        info = scene.gateway.session(session_id)
        yield 0 if info is None else info.unstored


async def _waits_for_the_store(harness: ServerHarness) -> None:
    scene = _StoringScene(harness)
    await scene.start()
    talker, _, welcome = await scene.join()
    scene.backend.holding = True
    before = len(scene.backend.batches)
    await scene.publish(welcome["session_id"], *(_BURST * [10]))
    await scene.asked(before + 1)
    await scene.publish(welcome["session_id"], *(_BURST * [10]))
    await harness.stop()
    await talker.drain()
    await harness.sleep(0.05)
    scene.demand_confirmed()
    scene.backend.holding = False
    scene.backend.release()
    with awaiting("the end of the stop"):
        await harness.stopped()
    scene.demand_all_stored()
    scene.judge()


async def _ends_when_the_store_fails(harness: ServerHarness) -> None:
    scene = _StoringScene(harness)
    await scene.start()
    talker, _, welcome = await scene.join()
    with awaiting("the confirmation of a session's first record"):
        await harness.until(lambda: scene.gateway.confirmed)
    confirmed = dict(scene.gateway.confirmed)

    def on_persist(_: Sequence[Persist]) -> None:
        raise HookError("the disk is full")

    scene.backend.on_persist = on_persist
    await scene.publish(welcome["session_id"], 10)
    end = await talker.end(passing=("going_away", "error"))
    expected = ERRORS[ErrorCode.INTERNAL_ERROR].close_code
    demand(end.code == expected, f"{shown(end)} in place of close {expected}")
    demand(scene.gateway.confirmed == confirmed, "what is not stored was confirmed")
    await scene.finish()


STORING: Final = (
    (_confirms_what_is_stored, "`Persisted` is given for what the store has, and for all of it"),
    (_stores_in_order, "records go to the store in order, each once, one batch at a time"),
    (_waits_for_the_store, "a stop waits for the store, and has everything stored"),
    (_ends_when_the_store_fails, "where the store fails, the server ends and confirms nothing"),
)
