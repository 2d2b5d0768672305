"""Our client against deployed version 1 servers: nothing lost without a word, nothing twice."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.blackbox.bbwire import Frame
from tests.deployed.dpjudge import Judge
from tests.deployed.dpplay_server import by_command, follow, in_process, is_end
from tests.deployed.dpserver import Behind, DeployedServer, Floor, Hello, Kind, Live, Visit
from tests.deployed.dpwire import Fault

DEEP = 300
SILENT = 150


@pytest.mark.parametrize("seed", range(5))
def test_it_loses_nothing_without_a_word(seed: int) -> None:
    in_process(seed)


def test_the_command_loses_nothing_without_a_word() -> None:
    by_command(5)


@pytest.mark.deep
@pytest.mark.parametrize("block", range(5, DEEP, 20))
def test_it_loses_nothing_without_a_word_by_many_seeds(block: int) -> None:
    for seed in range(block, block + 20):
        in_process(seed)


@pytest.mark.deep
@pytest.mark.parametrize("block", range(0, 100, 10))
def test_the_command_loses_nothing_without_a_word_by_many_seeds(block: int) -> None:
    for seed in range(block, block + 10):
        by_command(seed)


def played(kind: Kind, *visits: Visit, history: int = 0) -> tuple[Judge, list[Frame]]:
    """Play to the end: the client is where the server is."""
    server = DeployedServer(kind, visits, history)
    judge = Judge(server)
    try:
        lines = asyncio.run(follow(server, judge, 0))
    finally:
        server.stop()
    assert judge.is_complete()
    return judge, lines


def marks(lines: list[Frame]) -> list[tuple[int, int]]:
    """The life and the number of each event, in order."""
    return [tuple(line["event"]["data"]["mark"]) for line in lines if line["emit"] == "event"]


LOST = Visit(live=8, lost=frozenset({2, 3}))


@pytest.mark.parametrize("live", ["replay", "named", "bare", "nested"])
def test_a_live_event_that_it_lost_is_a_gap_and_comes_after_all(live: Live) -> None:
    judge, lines = played(Kind(live=live), LOST)
    assert judge.told.gaps == 1
    assert [seq for _, seq in marks(lines)] == list(range(1, judge.position + 1))


@pytest.mark.parametrize("floor", ["joined", "both"])
def test_what_its_journal_has_let_go_is_named(floor: Floor) -> None:
    kind = Kind(floor=floor, journal=5)
    judge, lines = played(kind, Visit(live=3), Visit(away=20))
    assert (judge.told.gaps, judge.told.skips) == (1, 1)
    (skipped,) = [line for line in lines if line["emit"] == "skipped"]
    assert (skipped["first"], skipped["last"]) == (4, 18)
    assert [seq for _, seq in marks(lines)] == [1, 2, 3, *range(19, judge.position + 1)]


@pytest.mark.parametrize("behind", ["snapshot", "announced"])
def test_what_its_journal_has_let_go_is_covered_by_its_snapshot(behind: Behind) -> None:
    kind = Kind(behind=behind, journal=5)
    judge, _ = played(kind, Visit(live=3), Visit(away=20))
    assert (judge.told.snapshots, judge.told.skips, judge.told.gaps) == (1, 0, 0)


@pytest.mark.parametrize("hello", ["same", "baseline", "deaf", "all"])
def test_a_restart_with_nothing_under_the_same_name_is_noticed_by_its_head(hello: Hello) -> None:
    kind = Kind(hello=hello)
    judge, lines = played(kind, Visit(live=9), Visit(restart="same", away=4))
    assert judge.told.indistinct == 0
    seen = marks(lines)
    assert seen[:9] == [(0, seq) for seq in range(1, 10)]
    assert seen[9:] == [(1, seq) for seq in range(1, judge.position + 1)]


def test_a_restart_under_another_name_is_another_session_whatever_it_says() -> None:
    kind = Kind(resumed="true")
    judge, lines = played(kind, Visit(live=3), Visit(restart="other", away=9))
    assert judge.told.anew == 2
    assert marks(lines)[3:] == [(1, seq) for seq in range(1, judge.position + 1)]


def test_numbers_that_begin_again_on_a_living_connection_are_had_after_the_next() -> None:
    judge, lines = played(Kind(), Visit(live=20, anew_at=15))
    assert judge.told.anew == 2
    seen = marks(lines)
    assert seen[:15] == [(0, seq) for seq in range(1, 16)]
    assert seen[15:] == [(1, seq) for seq in range(1, judge.position + 1)]


def test_a_server_that_falls_silent_is_left() -> None:
    kind = Kind(heartbeat_ms=SILENT)
    judge, lines = played(kind, Visit(live=3, fault=Fault("silent", "out", 900)))
    assert [seq for _, seq in marks(lines)] == list(range(1, judge.position + 1))


# -- what version 1 cannot say ----------------------------------------------------------------


def test_a_new_numbering_that_has_passed_the_clients_cursor_cannot_be_told() -> None:
    """The name is the same and the cursor is one that the server has: nothing speaks of it."""
    judge, lines = played(Kind(), Visit(live=3), Visit(restart="same", away=5))
    assert judge.told.indistinct == 1
    assert marks(lines)[:4] == [(0, 1), (0, 2), (0, 3), (1, 4)]


AT_ONCE = Fault("reset", "out", 0)


async def for_some_heartbeats(
    server: DeployedServer, judge: Judge, enough: Callable[[], bool]
) -> None:
    """Follow a server from which nothing more is to come."""
    with suppress(TimeoutError):
        async with asyncio.timeout(5 * SILENT / 1000):
            await follow(server, judge, 0, enough=enough)


@pytest.mark.parametrize(
    ("kind", "visits"),
    [
        # It says that it is at 7, answers every ping, and never sends one of the seven.
        (Kind(hello="deaf"), ()),
        # Another session: the server goes by a `since` that was of the one before.
        (Kind(), (Visit(live=30), Visit(restart="other", away=7, fault=AT_ONCE))),
    ],
)
def test_what_a_server_has_and_does_not_send_is_asked_for(
    kind: Kind, visits: tuple[Visit, ...]
) -> None:
    server = DeployedServer(kind, visits, 0 if visits else 7, last_live=None)
    judge = Judge(server)
    last = 1 if visits else 0

    def has_all() -> bool:
        return (judge.position, judge.life) == (7, last)

    try:
        asyncio.run(for_some_heartbeats(server, judge, has_all))
    finally:
        server.stop()
    assert has_all()


HOLE = Kind(floor="none", behind="hole", journal=5)


def hole(visits: int) -> tuple[Judge, list[Frame]]:
    """Meet a hole in the journal of a server that names no floor, so often."""
    away = tuple(Visit() for _ in range(visits))
    server = DeployedServer(HOLE, (Visit(live=3), Visit(away=20), *away))
    judge = Judge(server)
    server.finish.set()
    lines: list[Frame] = []
    try:
        with suppress(TimeoutError):
            lines = asyncio.run(follow(server, judge, 0, enough=lambda: judge.told.gaps > visits))
    finally:
        server.stop()
    return judge, lines


def test_a_hole_that_its_server_does_not_name_is_told_and_never_passed_over() -> None:
    judge, _ = hole(3)
    assert judge.told.gaps
    assert judge.told.skips or judge.position == 3


def test_what_lies_above_such_a_hole_is_had() -> None:
    _, lines = hole(10)
    assert is_end(lines[-1])
