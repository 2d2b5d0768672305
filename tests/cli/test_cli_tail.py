"""`gatewayproto tail` as a process, against `gatewayproto serve` as another."""

import signal
import uuid
from itertools import pairwise

import pytest

from tests.cli.cli_support import Process, of_kind, run, tail, without_reasons


@pytest.mark.on_trio
def test_a_visit_is_told_line_by_line(served: str) -> None:
    lines = tail(served, "--send", "tokens 2", "--send", "hello", "--until", "4")
    assert lines[:2] == [
        {"emit": "state", "state": "connecting"},
        {"emit": "state", "state": "connected"},
    ]
    joined = of_kind(lines, "joined")[0]
    assert list(joined) == [
        "emit",
        "session_id",
        "epoch",
        "protocol_version",
        "resumed",
        "cursor",
        "oldest_cursor",
        "sequence",
        "resync_required",
        "resync_reason",
    ]
    assert (joined["protocol_version"], joined["resumed"], joined["cursor"]) == (2, False, 0)
    assert of_kind(lines, "caught_up") == [{"emit": "caught_up", "cursor": 0}]
    accepted = of_kind(lines, "accepted")
    assert [line["duplicate"] for line in accepted] == [False, False]
    first, second = (line["request_id"] for line in accepted)
    assert uuid.UUID(first).version == uuid.UUID(second).version == 4
    events = of_kind(lines, "event")
    assert [(line["seq"], line["replayed"]) for line in events] == [
        (seq, False) for seq in range(1, 5)
    ]
    assert [line["event"]["data"]["text"] for line in events] == ["t0 ", "t1 ", "t0 t1 ", "hello"]
    assert [line["event"]["request_id"] for line in events] == [first, first, first, second]
    assert set(events[3]["event"]) == {"type", "data", "event_id", "timestamp", "request_id"}
    assert lines[-2:] == [
        {"emit": "state", "state": "disconnected"},
        {"emit": "stopped", "code": "disconnected", "message": ""},
    ]


def test_a_stored_position_is_gone_on_from(served: str) -> None:
    lines = tail(served, "--send", "tokens 5", "--send", "burst 3", "--until", "9")
    joined = of_kind(lines, "joined")[0]
    session = ("--session", joined["session_id"])
    position = (*session, "--epoch", joined["epoch"])
    lines = tail(served, *position, "--since", "7", "--until", "9")
    assert [(line["seq"], line["replayed"]) for line in of_kind(lines, "event")] == [
        (8, True),
        (9, True),
    ]
    assert of_kind(lines, "joined")[0]["resumed"] is True
    # Without --since from the beginning: what was superseded is named, also where it ends.
    lines = tail(served, *position, "--until", "5")
    assert of_kind(lines, "skipped") == [
        {"emit": "skipped", "first": 1, "last": 5, "reason": "superseded"}
    ]
    lines = tail(served, *session, "--epoch", "other", "--since", "9", "--until", "9")
    (snapshot,) = of_kind(lines, "snapshot")
    assert list(snapshot) == ["emit", "cursor", "epoch", "reason", "state"]
    assert (snapshot["cursor"], snapshot["epoch"]) == (9, joined["epoch"])
    assert snapshot["reason"] == "epoch_changed"
    assert len(snapshot["state"]["messages"]) == 4


def test_a_position_that_is_already_there_ends_at_the_welcome(served: str) -> None:
    joined = of_kind(tail(served, "--send", "burst 3", "--until", "3"), "joined")[0]
    position = ("--session", joined["session_id"], "--epoch", joined["epoch"], "--since", "3")
    assert of_kind(tail(served, *position, "--until", "2"), "event", "skipped", "snapshot") == []


@pytest.mark.on_trio
def test_messages_are_sent_in_order(served: str) -> None:
    texts = [f"message {number}" for number in range(20)]
    sends = [word for text in texts for word in ("--send", text)]
    lines = tail(served, *sends, "--until", "20")
    assert [line["event"]["data"]["text"] for line in of_kind(lines, "event")] == texts


def test_for_ends_it_whether_or_not_it_is_connected(served: str) -> None:
    lines = tail(served, "--for", "0.3")
    assert of_kind(lines, "caught_up")
    assert lines[-1]["code"] == "disconnected"
    lines = tail("ws://127.0.0.1:1/ws", "--for", "0.3", unreachable=True)
    assert not of_kind(lines, "joined")
    assert lines[-1]["code"] == "disconnected"


@pytest.mark.on_trio
def test_attempts_are_told_and_counted(served: str) -> None:
    del served
    limits = ("--backoff-initial", "0.02", "--backoff-max", "0.03", "--max-attempts", "3")
    lines = tail("ws://127.0.0.1:1/ws", *limits, status=1, unreachable=True)
    retries = of_kind(lines, "retry")
    assert [retry["attempt"] for retry in retries] == [1, 2, 3]
    assert all(0 < retry["delay"] <= 0.03 for retry in retries)
    assert [retry["code"] for retry in retries] == [None, None, None]
    assert [line["emit"] for line in lines[-2:]] == ["state", "stopped"]
    assert lines[-1]["code"] != "disconnected"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--agent-id", "nobody"), "agent_not_found"),
        (("--protocol-min", "3", "--protocol-max", "3"), "version_unsupported"),
    ],
)
def test_a_rejection_for_good_is_1_with_its_code(
    served: str, options: tuple[str, ...], code: str
) -> None:
    lines = tail(served, *options, status=1)
    assert [line["emit"] for line in lines[-2:]] == ["state", "stopped"]
    assert lines[-1]["code"] == code
    assert lines[-1]["message"]
    assert of_kind(lines, "retry") == []


@pytest.mark.usefixtures("adapter")
@pytest.mark.parametrize(
    ("token", "code"), [((), "auth_required"), (("--token", "wrong"), "auth_unauthorized")]
)
def test_a_wish_for_another_token_is_1_with_its_code(token: tuple[str, ...], code: str) -> None:
    with Process("serve", "--port", "0", "--token", "red") as server:
        lines = tail(server.ready(), *token, status=1)
    assert lines[-1]["emit"] == "stopped"
    assert lines[-1]["code"] == code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_disconnects_and_ends_it_with_0(served: str, number: signal.Signals) -> None:
    with Process("tail", served, "--json") as process:
        process.until("caught_up")
        process.signal(number)
        assert process.until("state")["state"] == "disconnected"
        assert process.until("stopped")["code"] == "disconnected"
        assert process.end() == (0, "", "")
    with Process("tail", "ws://127.0.0.1:1/ws", "--json") as process:
        process.until("retry")
        process.signal(number)
        assert process.until("stopped")["code"] == "disconnected"
        status, out, err = process.end()
        assert (status, out, without_reasons(err)) == (0, "", [])


@pytest.mark.on_trio
def test_a_reader_that_goes_away_ends_it_without_a_traceback(served: str) -> None:
    with Process("tail", served, "--json", "--send", "tokens 20000 1") as process:
        process.until("event")
        process.close_stdout()
        status, err = process.wait()
    assert status == 1
    assert "Traceback" not in err


def test_version_1_is_followed_too(served: str) -> None:
    options = ("--protocol-max", "1", "--send", "tokens 3", "--until", "4")
    lines = tail(served, *options)
    assert of_kind(lines, "joined")[0]["protocol_version"] == 1
    seqs = [line["seq"] for line in of_kind(lines, "event")]
    assert seqs == [1, 2, 3, 4]


def test_people_are_told_the_same_in_words(served: str) -> None:
    evil = "\x1b]0;title\x07[bold]red[/bold] \u202e\u2028\x9b :smile:"
    status, out, err = run("tail", served, "--send", evil, "--send", "tokens 2", "--until", "4")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert all(line.isprintable() for line in lines)
    text = r"\x1b]0;title\x07[bold]red[/bold] \u202e\u2028\x9b :smile:"
    assert any(line.startswith("#1 ") and line.endswith(text) for line in lines)
    assert [line.split()[0] for line in lines if line.startswith("#")] == ["#1", "#2", "#3", "#4"]
    assert lines[0] == "connecting"
    assert lines[-1] == "stopped      disconnected"


def test_a_terminal_that_lacks_characters_is_no_failure(served: str) -> None:
    arguments = ("--send", "häß 🛰", "--until", "1")
    status, out, err = run("tail", served, *arguments, PYTHONIOENCODING="ascii")
    assert (status, err) == (0, "")
    assert r"h\xe4\xdf \U0001f6f0" in out


def test_lines_are_flushed_as_they_happen(served: str) -> None:
    with Process("tail", served, "--json", "--send", "tokens 20000 1") as process:
        seqs = [process.until("event")["seq"] for _ in range(20)]
        assert all(later == earlier + 1 for earlier, later in pairwise(seqs))
        process.signal(signal.SIGINT)
        assert process.end()[0] == 0
