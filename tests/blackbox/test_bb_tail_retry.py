"""`gatewayproto tail`: what it retries, how long it waits, and what ends it."""

import email.utils
import time
from typing import Any

import pytest

from tests.blackbox.bbcommand import START, Tail
from tests.blackbox.bbplay import Played, caught_up, end, event, events, kinds, taken
from tests.blackbox.bbwire import (
    Frame,
    Listener,
)

MAY_RETRY = [
    *(1000, None, 1001, 1011, 1012, 1013, 1014, 3000, 3999),
    *(4000, 4001, 4002, 4003, 4004, 4005, 4007, 4499),
]
MAY_NOT = [1002, 1003, 1007, 1008, 1009, 1010, *range(4500, 4510), 4750, 4999]
CODES = {
    4500: "version_unsupported",
    4501: "invalid_protocol_hello",
    4502: "invalid_cursor",
    4503: "auth_required",
    4504: "auth_unauthorized",
    4505: "agent_not_found",
    4506: "malformed_frame",
    4507: "payload_too_large",
    4508: "session_closed",
}


def nobody_comes(listener: Listener) -> None:
    """Show that no further connection is waiting once the client has ended."""
    listener.sock.settimeout(0.0)
    with pytest.raises(BlockingIOError):
        listener.sock.accept()


def stopped(tail: Tail, listener: Listener, code: str | None = None) -> Frame:
    """Take the end with status 1 that names its reason."""
    lines = tail.finished(1)
    (line,) = kinds(lines, "stopped")
    assert set(line) == {"emit", "code", "message"}, line
    assert isinstance(line["message"], str)
    assert isinstance(line["code"], str)
    assert line["code"] not in {"", "disconnected"}
    if code is not None:
        assert line["code"] == code, line
    assert kinds(lines, "state")[-1]["state"] == "disconnected"
    nobody_comes(listener)
    return line


# Close codes


def test_closes_that_may_be_retried_are(listener: Listener) -> None:
    tail = Tail(listener.url)
    for code in MAY_RETRY:
        played = taken(listener, START)
        played.welcome(caught_up(0))
        tail.until("caught_up")
        played.close(code)
        retry = tail.until("retry")
        # It had caught up each time: the count starts again.
        assert retry["attempt"] == 1, (code, retry)
        assert 0 <= retry["delay"] <= 0.1
    played = taken(listener)
    played.welcome(caught_up(0))
    played.peer.cut()
    played = taken(listener)
    played.welcome(caught_up(0))
    end(tail, played)


@pytest.mark.parametrize("code", MAY_NOT)
def test_closes_that_may_not_be_retried_end_it(listener: Listener, code: int) -> None:
    tail = Tail(listener.url)
    played = taken(listener, START)
    played.welcome(caught_up(0))
    tail.until("caught_up")
    played.close(code)
    stopped(tail, listener, CODES.get(code))


def test_an_expired_token_ends_it_for_there_is_no_other(listener: Listener) -> None:
    tail = Tail(listener.url, "--token", "x")
    played = taken(listener, START)
    played.welcome(caught_up(0))
    played.send({"type": "error", "code": "auth_expired", "message": "expired"})
    played.close(4006)
    stopped(tail, listener, "auth_expired")


def test_an_error_after_the_welcome_decides_nothing(listener: Listener) -> None:
    tail = Tail(listener.url)
    played = taken(listener, START)
    played.welcome(*events(1, 2))
    for code in ("version_unsupported", "session_closed", "auth_required", "bogus"):
        played.send({"type": "error", "code": code, "message": "no", "next_step": "do_not_retry"})
    played.settle(2)
    played.send({"type": "error", "code": "session_closed", "message": "no"})
    played.peer.cut()
    played = taken(listener)
    assert played.position == ("s1", "e1", 2)
    played.welcome(caught_up(2))
    played.send({"type": "error", "code": "internal_error", "message": "no"})
    played.close(4508)
    stopped(tail, listener, "session_closed")


# Rejections


@pytest.mark.parametrize(
    ("code", "close", "step"),
    [
        ("version_unsupported", 4500, "upgrade_client"),
        ("invalid_protocol_hello", 4501, "do_not_retry"),
        ("invalid_cursor", 4502, "do_not_retry"),
        ("auth_required", 4503, "reauthenticate"),
        ("auth_unauthorized", 4504, "reauthenticate"),
        ("agent_not_found", 4505, "do_not_retry"),
        ("session_closed", 4508, "do_not_retry"),
        ("auth_expired", 4006, "reauthenticate"),
        ("version_unsupported", None, None),
        ("agent_not_found", None, None),
    ],
)
def test_a_final_rejection_ends_it_with_its_code(
    listener: Listener, code: str, close: int | None, step: str | None
) -> None:
    tail = Tail(listener.url)
    fields: dict[str, Any] = {"next_step": step} if step else {}
    if code == "version_unsupported":
        fields |= {"server_min_version": 7, "server_max_version": 9}
    taken(listener, START).reject(code, close, **fields)
    line = stopped(tail, listener, code)
    assert line["message"]


@pytest.mark.parametrize(
    ("code", "close", "step"),
    [
        ("bogus", 4777, "wait_then_retry"),
        ("bogus", 4500, None),
        ("bogus", 1008, "wait_then_retry"),
        ("bogus", None, "do_not_retry"),
        ("bogus", None, "upgrade_client"),
        ("bogus", None, "reauthenticate"),
    ],
)
def test_an_unknown_rejection_is_final_by_its_close_code_or_next_step(
    listener: Listener, code: str, close: int | None, step: str | None
) -> None:
    tail = Tail(listener.url)
    fields = {"next_step": step} if step else {}
    taken(listener, START).reject(code, close, **fields)
    stopped(tail, listener)


def test_other_rejections_are_retried(listener: Listener) -> None:
    tail = Tail(listener.url)
    retried: list[tuple[str, int | None, str | None]] = [
        ("internal_error", 4004, "wait_then_retry"),
        ("going_away", 4000, "wait_then_retry"),
        ("handshake_timeout", 4005, None),
        ("rate_limited", None, None),
        ("bogus", 4333, "do_not_retry"),
        ("bogus", 1013, "do_not_retry"),
        ("bogus", 3500, None),
        ("bogus", None, "wait_then_retry"),
        ("bogus", None, "a step of tomorrow"),
        ("bogus", None, None),
    ]
    for attempt, (code, close, step) in enumerate(retried, 1):
        fields = {"next_step": step} if step else {}
        taken(listener, START).reject(code, close, **fields)
        retry = tail.until("retry")
        assert retry["attempt"] == attempt
        if code != "bogus":
            assert retry["code"] == code
    played = taken(listener)
    played.welcome(caught_up(0))
    end(tail, played)


# Waiting


def arrives_after(listener: Listener, floor: float, started: float) -> Played:
    """Take the next connection, which may not come before the floor."""
    played = taken(listener, floor + 8.0)
    assert time.monotonic() - started >= floor - 0.01
    return played


def test_retry_after_seconds_is_a_floor_even_over_the_maximum(listener: Listener) -> None:
    tail = Tail(listener.url)
    played = taken(listener, START)
    started = time.monotonic()
    played.reject("rate_limited", 4003, retry_after_seconds=0.6)
    retry = tail.until("retry")
    assert retry["code"] == "rate_limited"
    assert 0.6 <= retry["delay"] <= 0.6 + 0.1
    played = arrives_after(listener, 0.6, started)
    # After the welcome it carries over to the close.
    played.welcome(caught_up(0))
    played.send({"type": "error", "code": "x", "message": "x", "retry_after_seconds": 0.5})
    tail.until("caught_up")
    started = time.monotonic()
    played.close(4003)
    assert tail.until("retry")["delay"] >= 0.5
    played = arrives_after(listener, 0.5, started)
    # And it is good for one time.
    played.welcome(caught_up(0))
    tail.until("caught_up")
    played.close(1012)
    assert tail.until("retry")["delay"] <= 0.1
    played = taken(listener)
    played.welcome(caught_up(0))
    end(tail, played)


def test_delays_are_kept_and_never_above_the_maximum(listener: Listener) -> None:
    tail = Tail(listener.url, backoff=(0.1, 0.2))
    played = taken(listener, START)
    for attempt in range(1, 7):
        started = time.monotonic()
        played.peer.cut()
        retry = tail.until("retry")
        assert retry["attempt"] == attempt
        assert 0 <= retry["delay"] <= 0.2
        played = arrives_after(listener, retry["delay"], started)
    tail.interrupt()
    played.ended()
    tail.finished(0)


def test_the_count_goes_on_until_it_has_caught_up(listener: Listener) -> None:
    tail = Tail(listener.url)
    for attempt in range(1, 5):
        played = taken(listener, START)
        played.welcome(event((played.opening.get("since") or 0) + 1), cursor=9)
        tail.until("event")
        played.peer.cut()
        assert tail.until("retry")["attempt"] == attempt
    played = taken(listener)
    since = played.opening["since"]
    played.welcome(caught_up(since))
    tail.until("caught_up")
    played.peer.cut()
    assert tail.until("retry")["attempt"] == 1
    played = taken(listener)
    played.welcome(caught_up(since))
    end(tail, played)


def test_max_attempts_counts_the_tries_after_the_first(listener: Listener) -> None:
    tail = Tail(listener.url, "--max-attempts", "3")
    for _ in range(4):
        listener.answer("500 Internal Server Error", timeout=START)
    lines = tail.finished(1)
    assert [line["attempt"] for line in kinds(lines, "retry")] == [1, 2, 3]
    assert len(kinds(lines, "stopped")) == 1
    nobody_comes(listener)


def test_nobody_listening_is_retried(listener: Listener) -> None:
    listener.sock.close()
    lines = Tail(listener.url, "--max-attempts", "2").finished(1)
    assert [line["attempt"] for line in kinds(lines, "retry")] == [1, 2]


# HTTP answers


def test_http_answers_that_may_be_retried_are(listener: Listener) -> None:
    tail = Tail(listener.url)
    answers = ["500 Internal Server Error", "502 Bad Gateway", "503 Service Unavailable"]
    answers += ["504 Gateway Timeout", "599 Odd", "429 Too Many Requests"]
    for attempt, status in enumerate(answers, 1):
        listener.answer(status, timeout=START)
        assert tail.until("retry")["attempt"] == attempt
    played = taken(listener)
    played.welcome(caught_up(0))
    end(tail, played)


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
def test_retry_after_is_a_floor(listener: Listener, status: str) -> None:
    tail = Tail(listener.url)
    listener.answer(status, ("Retry-After", "1"), timeout=START)
    started = time.monotonic()
    retry = tail.until("retry")
    assert 1 <= retry["delay"] <= 1.1
    played = arrives_after(listener, 0.95, started)
    played.welcome(caught_up(0))
    end(tail, played)


def test_retry_after_may_be_a_date_and_nonsense_is_none(listener: Listener) -> None:
    tail = Tail(listener.url)
    for nonsense in ("soon", "-5", "", "1e400", "nan", "9" * 5000):
        listener.answer("503 Service Unavailable", ("Retry-After", nonsense), timeout=START)
        if not nonsense.startswith("9"):
            assert 0 <= tail.until("retry")["delay"] <= 0.1
            continue
        # A number, but of no use: whatever is waited, it is told and can be interrupted.
        tail.until("retry")
        tail.interrupt()
        tail.finished(0)
    tail = Tail(listener.url)
    now, later = (email.utils.formatdate(time.time() + wait, usegmt=True) for wait in (0, 60))
    headers = (("Date", now), ("Retry-After", later))
    listener.answer("503 Service Unavailable", *headers, timeout=START)
    assert 59 <= tail.until("retry")["delay"] <= 61.1
    tail.interrupt()
    tail.finished(0)


@pytest.mark.parametrize(
    "status",
    [
        "401 Unauthorized",
        "403 Forbidden",
        "400 Bad Request",
        "404 Not Found",
        "410 Gone",
        "426 Upgrade Required",
        "451 Unavailable For Legal Reasons",
    ],
)
def test_http_answers_that_are_final_end_it(listener: Listener, status: str) -> None:
    tail = Tail(listener.url)
    listener.answer(status, ("Retry-After", "1"), timeout=START)
    stopped(tail, listener)
