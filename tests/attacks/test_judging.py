"""The judges of attacks see what they look for."""

import pytest
from attrs import evolve

from gatewayproto import Event, ResumeToken
from gatewayproto.actions import EventReceived, SnapshotReceived
from tests.attacks.attack import carry_out
from tests.attacks.catalog import attacks
from tests.attacks.field import Field, Scale
from tests.attacks.stand import Account, Stand, faults_of
from tests.attacks.witness import Witness

MARK = "log-1234"
GOOD = f"{MARK} DEBUG asyncio: Using selector\n"


def test_records_of_ones_own_are_no_fault() -> None:
    assert faults_of(GOOD.encode(), MARK) == []
    assert faults_of(b"", MARK) == []


@pytest.mark.parametrize(
    "log",
    [
        f"{MARK} INFO a: x\nERROR gatewayproto: forged\n",
        f"{MARK} INFO a: \x1b[31mred\n",
        f"{MARK} INFO a: bell\x07\n",
        f"{MARK} INFO a: turned\u202earound\n",
        f"{MARK} INFO a: line\u2028end\n",
        f"{MARK} INFO a: carriage\rreturn\n",
        f"{MARK} INFO a: the token is secret\n",
        f"{MARK} WARNING a: a peer did something\n",
        f"{MARK} TRACE   File somewhere\n",
        f"{MARK} INFO a: no end",
        GOOD + "Exception ignored in: <function>\n",
        GOOD.replace("DEBUG", "INFO") * 100,
    ],
)
def test_what_does_not_belong_into_a_log_is_a_fault(log: str) -> None:
    assert faults_of(log.encode(), MARK, secrets_=("secret",))


def test_bytes_that_are_no_text_are_a_fault() -> None:
    assert faults_of(GOOD.encode() + b"\xff\n", MARK)


def test_records_that_were_called_for_are_none() -> None:
    log = f"{MARK} ERROR asyncio: out of descriptors\n".encode()
    assert faults_of(log, MARK)
    assert faults_of(log, MARK, allowed="asyncio: out") == []
    assert faults_of(log, MARK, allowed="trio: out")


def _token(seq: int) -> ResumeToken:
    return ResumeToken(session_id="s", epoch="e", cursor=seq)


def _event(seq: int, number: int) -> EventReceived:
    event = Event(type="tick", data={"n": number, "at": 0.0}, event_id="e", timestamp=0.0)
    return EventReceived(seq=seq, event=event, replayed=False, token=_token(seq))


@pytest.mark.parametrize(
    ("seqs", "wrong"),
    [
        ([1, 2, 3], 0),
        ([1, 3], 1),
        ([1, 2, 2], 1),
        ([2], 1),
        ([1, 2, 1, 2, 3], 3),
    ],
)
def test_a_witness_notices_what_is_lost_twice_or_out_of_order(seqs: list[int], wrong: int) -> None:
    witness = Witness()
    for seq in seqs:
        witness.take(_event(seq, seq - 1))
    report = witness.report()
    assert (report["wrong"] > 0) is (wrong > 0)
    assert report["events"] == len(seqs)


def test_a_witness_notices_another_event_under_the_right_number() -> None:
    witness = Witness()
    witness.take(_event(1, 7))
    assert witness.report()["wrong"] == 1


def test_a_witness_counts_what_a_snapshot_covers() -> None:
    witness = Witness()
    witness.take(SnapshotReceived(cursor=5, epoch="e", reason="lagged", state={}, token=_token(5)))
    witness.take(_event(6, 5))
    assert witness.report() | {"worst": 0} == {
        "events": 1,
        "wrong": 0,
        "covered": 5,
        "connections": 0,
        "worst": 0,
    }


def test_two_times_of_a_witness_make_one() -> None:
    first = Account(events=1, wrong=2, covered=3, connections=4, worst=5.0)
    assert first.and_then(evolve(first, worst=1.0)) == Account(
        events=2, wrong=4, covered=6, connections=8, worst=5.0
    )


@pytest.mark.deep
def test_an_attack_that_is_not_answered_as_it_should_be_is_reported() -> None:
    (ping,) = attacks(["ping-flood"])
    with Stand("asyncio") as stand:

        def failing(_: Field) -> None:
            raise AssertionError("the answer was another")

        def deadly(_: Field) -> None:
            stand.server.kill()

        for attack, fault in (
            (ping, ""),
            (evolve(ping, act=failing), "the answer was another"),
            (evolve(ping, growth=-1), "memory grew"),
            (evolve(ping, act=deadly), "died"),
        ):
            faults = carry_out(attack, stand, Scale.SMALL).faults
            assert any(fault in each for each in faults) if fault else faults == []
