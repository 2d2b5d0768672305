"""`gatewayproto demo`: its account, its course, and that the faults it claims did happen."""

import json
import random
from collections import Counter
from functools import partial
from typing import Any

import anyio
import pytest
from gatewayproto_cli.adapters import load
from gatewayproto_cli.demo.account import Account
from gatewayproto_cli.demo.faults import REQUIRED
from gatewayproto_cli.demo.play import FULL, Outcome, plan, play
from gatewayproto_cli.demo.stage import Stage
from gatewayproto_cli.demo.story import Story
from hypothesis import given
from hypothesis import strategies as st

from gatewayproto import Event, Gateway
from gatewayproto.actions import EventReceived, Joined, ResumeToken, Skipped, SnapshotReceived
from gatewayproto.journal import Journal
from gatewayproto.projection import Transcript
from tests.adapter.both import CHOSEN
from tests.cli.cli_support import invoke

KEYS = [
    "published",
    "delivered",
    "skipped",
    "snapshot_covered",
    "duplicates",
    "lost",
    "disconnects",
    "restarts",
    "resyncs",
]


def check(totals: dict[str, int], events: int) -> None:
    assert list(totals) == KEYS
    assert all(type(value) is int for value in totals.values())
    assert totals["published"] == events
    assert (totals["duplicates"], totals["lost"]) == (0, 0)
    accounted = totals["delivered"] + totals["skipped"] + totals["snapshot_covered"]
    assert accounted + totals["lost"] == totals["published"]


# The whole of it


@pytest.mark.on_trio
@pytest.mark.usefixtures("adapter")
@pytest.mark.parametrize("seed", [1, 2])
def test_a_full_one_loses_nothing_and_had_its_faults(seed: int) -> None:
    result = invoke("demo", "--events", "1000", "--seed", str(seed), "--json")
    assert result.exit_code == 0, result.stderr
    first, last = (json.loads(line) for line in result.stdout.splitlines())
    check(last, 1000)
    assert last["disconnects"] >= 20
    assert last["restarts"] >= 2
    assert last["skipped"] > 0
    assert last["snapshot_covered"] > 0
    assert first["faults"] == {fault.name: count for fault, count in REQUIRED.items()}
    assert {"trimmed", "epoch_changed"} <= set(first["resyncs_by_reason"])
    assert sum(first["resyncs_by_reason"].values()) == last["resyncs"]


@pytest.mark.usefixtures("adapter")
@pytest.mark.parametrize("events", [1, 2, 3, 50, 300])
def test_a_small_one_has_what_there_is_room_for(events: int) -> None:
    result = invoke("demo", "--events", str(events), "--seed", "5", "--json")
    assert result.exit_code == 0, result.stderr
    check(json.loads(result.stdout.splitlines()[-1]), events)


def test_for_people_there_is_a_table_of_the_same() -> None:
    result = invoke("demo", "--events", "30")
    assert result.exit_code == 0, result.stderr
    rows = dict(line.rsplit(maxsplit=1) for line in result.stdout.splitlines()[: len(KEYS)])
    numbers = {name.strip(): int(value) for name, value in rows.items()}
    assert numbers["published"] == 30
    assert (numbers["duplicated"], numbers["lost"]) == (0, 0)


def played(events: int) -> Outcome:
    def ignored(_: object) -> None:
        pass

    playing = partial(play, load(CHOSEN.name), events, 1, watch=ignored, note=ignored)
    return anyio.run(playing, backend=CHOSEN.name)


@pytest.mark.usefixtures("adapter")
def test_one_that_cannot_begin_says_so_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gatewayproto_cli.demo.stage.PATIENCE", 0.0)
    result = invoke("demo", "--events", "10", "--json")
    assert result.exit_code == 1
    assert "Error: the client joins: not within 0 s" in result.stderr
    assert list(json.loads(result.stdout.splitlines()[-1])) == KEYS


@pytest.mark.usefixtures("adapter")
def test_a_gateway_that_keeps_its_epoch_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Gateway.recover

    def recover(*arguments: Any, **options: Any) -> Gateway:
        return honest(*arguments, **{**options, "unbroken": True})

    monkeypatch.setattr(Gateway, "recover", recover)
    monkeypatch.setattr("gatewayproto_cli.demo.stage.PATIENCE", 0.5)
    assert played(1000).failures


@pytest.mark.usefixtures("adapter")
def test_a_journal_that_hides_what_it_lost_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Journal, "floor", property(lambda _: 0))
    monkeypatch.setattr("gatewayproto_cli.demo.stage.PATIENCE", 0.5)
    assert played(1000).failures


# The course


@given(st.integers(FULL, 20_000), st.integers())
def test_a_full_one_plans_every_required_fault(events: int, seed: int) -> None:
    faults = plan(events, random.Random(seed))
    assert Counter(faults) >= REQUIRED
    assert sum(fault.cost for fault in faults) < events


@given(st.integers(1, FULL), st.integers())
def test_no_plan_takes_more_events_than_there_are(events: int, seed: int) -> None:
    assert sum(fault.cost for fault in plan(events, random.Random(seed))) < events


@pytest.mark.usefixtures("adapter")
def test_each_fault_takes_no_more_events_than_it_says() -> None:
    async def run() -> None:
        for fault in REQUIRED:
            stage = Stage(load(CHOSEN.name), events=fault.cost + 1, rng=random.Random(fault.name))
            with anyio.fail_after(20):
                async with stage:
                    await fault.play(stage)
                    assert stage.remaining >= 1

    anyio.run(run, backend=CHOSEN.name)


# The story


def test_the_story_is_told_in_runs_with_the_whole_text() -> None:
    story = Story()
    events = [story.next() for _ in range(3000)]
    text = ""
    for event in events:
        if event.transient:
            text += event.data["text"]
        else:
            assert event.final
            assert event.data["text"] == text
            assert text.endswith("\n")
            text = ""
    told = "".join(event.data["text"] for event in events if event.transient)
    assert told.startswith("CHAPTER I. Down the Rabbit-Hole\nAlice was beginning to get very tired")


def test_a_story_that_goes_back_tells_the_same_again() -> None:
    story = Story()
    for _ in range(50):
        story.next()
    mark = story.mark()

    def on() -> list[tuple[Any, ...]]:
        events = [*(story.next() for _ in range(100)), story.note(), story.final()]
        return [(event.type, event.data, event.run_id) for event in events]

    first = on()
    story.go_back(mark)
    assert on() == first


# The account


def made(seq: int, **fields: Any) -> Event:
    return Event(type="note", data={"n": seq}, event_id=f"e{seq}", timestamp=1.0, **fields)


def published(count: int, epoch: str = "e") -> Account:
    account = Account()
    for seq in range(1, count + 1):
        account.note_published(epoch, seq, made(seq))
    account.note_given(welcome(epoch))
    return account


def at(cursor: int, epoch: str = "e") -> ResumeToken:
    return ResumeToken(session_id="s", epoch=epoch, cursor=cursor)


def welcome(epoch: str = "e") -> Joined:
    return Joined(
        token=at(0, epoch),
        session_id="s",
        epoch=epoch,
        protocol_version=2,
        resumed=False,
        cursor=0,
        oldest_cursor=1,
        sequence=0,
        resync_required=False,
        resync_reason=None,
        presence=None,
        health=None,
    )


def given_event(seq: int, epoch: str = "e", event: Event | None = None) -> EventReceived:
    return EventReceived(
        seq=seq, replayed=False, event=made(seq) if event is None else event, token=at(seq, epoch)
    )


def skipped(first: int, last: int) -> Skipped:
    return Skipped(first=first, last=last, reason="superseded", token=at(last))


def snapshot(cursor: int, epoch: str = "e") -> SnapshotReceived:
    fold = Transcript()
    for seq in range(1, cursor + 1):
        fold.apply(seq, made(seq))
    return SnapshotReceived(
        cursor=cursor, epoch=epoch, reason="lagged", state=fold.state(), token=at(cursor, epoch)
    )


Given = EventReceived | Skipped | SnapshotReceived


@st.composite
def courses(draw: st.DrawFn) -> tuple[int, list[Given]]:
    """A number of events, and an honest way to account for all of them."""
    count = draw(st.integers(1, 20))
    items: list[Given] = []
    position = 0
    while position < count:
        last = draw(st.integers(position + 1, min(count, position + 4)))
        match draw(st.integers(0, 2)):
            case 0:
                items += [given_event(seq) for seq in range(position + 1, last + 1)]
            case 1:
                items.append(skipped(position + 1, last))
            case _:
                items.append(snapshot(last))
        position = last
    return count, items


@given(courses())
def test_an_honest_course_accounts_for_everything(course: tuple[int, list[Given]]) -> None:
    count, items = course
    account = published(count)
    for item in items:
        account.note_given(item)
    totals = account.totals()
    assert (totals["lost"], totals["duplicates"], account.problems) == (0, 0, [])
    assert totals["delivered"] == sum(isinstance(item, EventReceived) for item in items)
    assert account.resyncs.total() == sum(isinstance(item, SnapshotReceived) for item in items)


@given(courses(), st.data())
def test_whatever_is_left_out_or_repeated_is_seen(
    course: tuple[int, list[Given]], data: st.DataObject
) -> None:
    count, items = course
    at_ = data.draw(st.integers(0, len(items) - 1))
    changed = list(items)
    if data.draw(st.booleans()):
        changed.insert(at_ + 1, items[at_])
        repeated = isinstance(items[at_], EventReceived)
        expected = repeated or isinstance(items[at_], Skipped)
    else:
        del changed[at_]
        covered = any(isinstance(item, SnapshotReceived) for item in items[at_ + 1 :])
        expected = not covered
    account = published(count)
    for item in changed:
        account.note_given(item)
    wrong = bool(account.lost or account.duplicates or account.problems)
    assert wrong or not expected


def test_what_was_never_published_is_a_problem() -> None:
    for item in (
        given_event(4),
        given_event(1, event=made(2)),
        given_event(1, epoch="other"),
        skipped(1, 4),
        skipped(2, 3),
        snapshot(4),
    ):
        account = published(3)
        account.note_given(item)
        assert account.problems, item


def test_the_end_of_an_epoch_loses_what_only_its_clients_had_not() -> None:
    account = published(5)
    copy = account.gateway_state()
    for seq in (1, 2, 3):
        account.note_given(given_event(seq))
    # The gateway goes on from a copy of 2, in another epoch, and publishes another 3.
    account.note_recovered("e", "f", 2, copy)
    account.note_published("f", 3, made(33))
    account.note_given(snapshot(2, "f"))
    account.note_given(given_event(3, "f", made(33)))
    totals = account.totals()
    assert totals["published"] == 6
    assert totals["delivered"] == 4
    assert totals["lost"] == 2
    assert (totals["duplicates"], account.problems) == (0, [])


def test_a_state_that_differs_is_seen() -> None:
    account = published(3)
    assert not account.converged()
    for seq in (1, 2, 3):
        account.note_given(given_event(seq))
    assert account.converged()
    account.note_given(snapshot(2))
    assert not account.converged()


def test_a_session_that_begins_again_is_a_problem() -> None:
    account = published(3)
    account.note_given(welcome("f"))
    assert account.problems
