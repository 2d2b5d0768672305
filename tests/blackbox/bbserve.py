"""The command `gatewayproto serve`, and clients that speak to it."""

import re
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final, Self

from tests.adapter.both import on_adapter
from tests.blackbox.bbaccount import (
    SNAPSHOT_REASONS,
    Account,
    account,
    check_policy,
    given,
    is_integer,
)
from tests.blackbox.bbcommand import COMMAND, START, Lines
from tests.blackbox.bbwire import (
    PUSHES,
    WAIT,
    Frame,
    Peer,
    PeerClosedError,
    brief,
    open_client,
    same,
)


class _Left(Enum):
    OUT = "absent"

    def __repr__(self) -> str:
        return self.value


ABSENT: Final = _Left.OUT
"""Stands for a field that is left out of a handshake."""

# JSON texts that are no integer from 0 to 2^53 - 1.
NO_CURSORS: Final = [
    '"5"',
    "5.0",
    "5.5",
    "true",
    "false",
    "-1",
    "9007199254740992",
    "123456789012345678901234567890",
    "1e400",
    "1e2",
    "[]",
    "[5]",
    "{}",
    '""',
]

ANSWER: Final = {"hello": "hello_ok", "join": "joined"}
REJECTION: Final = {"hello": "hello_error", "join": "error"}
RANGE: Final = {
    "hello": ("protocol_min", "protocol_max"),
    "join": ("min_version", "max_version"),
}

NEXT_STEP: Final = {
    "going_away": {"wait_then_retry"},
    "version_unsupported": {"upgrade_client", "downgrade_client"},
    "invalid_protocol_hello": {"do_not_retry"},
    "invalid_cursor": {"do_not_retry"},
    "auth_required": {"reauthenticate"},
    "auth_unauthorized": {"reauthenticate"},
    "agent_not_found": {"do_not_retry"},
    "malformed_frame": {"do_not_retry"},
}
CLOSE_CODE: Final = {
    "version_unsupported": 4500,
    "invalid_protocol_hello": 4501,
    "invalid_cursor": 4502,
    "auth_required": 4503,
    "auth_unauthorized": 4504,
    "agent_not_found": 4505,
    "malformed_frame": 4506,
}

WELCOME: Final = {
    "type",
    "session_id",
    "agent_id",
    "protocol_version",
    "server_min_version",
    "server_max_version",
    "resumed",
    "cursor",
    "oldest_cursor",
    "resync_required",
    "sequence",
    "features",
    "policy",
}
WELCOME_OPTIONAL: Final = {
    "resync_reason",
    "presence",
    "presence_count",
    "presence_version",
    "health",
    "health_version",
}


def handshake(spelling: str = "hello", **fields: Any) -> Frame:
    """Build a version 2 handshake for the demo agent, with these fields over it.

    `range` sets both version fields by whatever name this spelling gives them.
    """
    least, most = fields.pop("range", (1, 2))
    low, high = RANGE[spelling]
    frame = {"type": spelling, "agent_id": "demo", low: least, high: most, **fields}
    return {name: value for name, value in frame.items() if value is not ABSENT}


def v1(spelling: str = "hello", **fields: Any) -> Frame:
    """Build a deployed client's handshake: no version fields."""
    return handshake(spelling, range=(ABSENT, ABSENT), **fields)


def new_id() -> str:
    """Make a request id that nobody else has."""
    return uuid.uuid4().hex


def message(content: object, request_id: object = ABSENT, **fields: Any) -> Frame:
    """Build a user's turn."""
    frame = {"type": "message", "content": content, "request_id": request_id, **fields}
    return {name: value for name, value in frame.items() if value is not ABSENT}


class Follower:
    """A client after its welcome."""

    def __init__(self, peer: Peer, welcome: Frame) -> None:
        """Go on after the welcome that the peer got."""
        self.peer = peer
        self.welcome = welcome
        self.session_id: str = welcome["session_id"]
        self.epoch: str = welcome.get("epoch", "")
        self.head: int = welcome["cursor"]
        self.sequence: int = welcome["sequence"]
        self.frames: list[Frame] = []

    def recv(self, timeout: float = WAIT) -> Frame:
        """The next frame but pushes, kept for the account."""
        frame = self.peer.recv_but(*PUSHES, timeout=timeout)
        self.frames.append(frame)
        return frame

    def until(self, done: Callable[[Frame], bool], timeout: float = WAIT) -> Frame:
        """Read on to the first frame for which it is true."""
        deadline = time.monotonic() + timeout
        while True:
            frame = self.recv(max(0.0, deadline - time.monotonic()))
            if done(frame):
                return frame

    def until_type(self, type_: str, timeout: float = WAIT, **fields: Any) -> Frame:
        """Read on to the first frame of this type with these fields."""
        return self.until(
            lambda frame: (
                frame["type"] == type_
                and all(same(frame.get(name), value) for name, value in fields.items())
            ),
            timeout,
        )

    def until_seq(self, seq: int, timeout: float = WAIT) -> Frame:
        """Read on to the frame that accounts for this seq."""
        return self.until(lambda frame: reached(frame) >= seq, timeout)

    def catch_up(self, timeout: float = WAIT) -> Account:
        """Read on to `caught_up`, and account for all that came."""
        self.until_type("caught_up", timeout)
        return self.account()

    def account(self) -> Account:
        """Account for all frames so far, from where the welcome said that delivery goes on."""
        resync = bool(self.welcome["resync_required"]) and bool(self.welcome["resumed"])
        head = None if resync else self.head
        return account(self.frames, self.sequence, head=head, resync=resync)

    def ask(self, text: object, **fields: Any) -> str:
        """Send one message with an id of its own; the id."""
        request_id = new_id()
        self.peer.send(message(text, request_id, **fields))
        return request_id

    def live(self) -> None:
        """Show that the connection lives and that nothing else was on its way."""
        nonce = new_id()
        self.peer.send({"type": "ping", "nonce": nonce})
        self.peer.expect("pong", nonce=nonce)

    def settle(self) -> None:
        """Read on until the server has answered everything that it was sent so far."""
        nonce = new_id()
        self.peer.send({"type": "ping", "nonce": nonce})
        self.until_type("pong", nonce=nonce)

    def token(self) -> Frame:
        """The fields with which another connection comes back to this session."""
        fields = {"session_id": self.session_id}
        return {**fields, "epoch": self.epoch} if self.epoch else fields


def reached(frame: Frame) -> int:
    """Tell the seq up to which a frame accounts; 0 for those that account for none."""
    match frame["type"]:
        case "replay" | "event":
            return int(frame["seq"])
        case "skip":
            return int(frame["last"])
        case "snapshot" if "cursor" in frame and frame.get("part") == frame.get("parts"):
            return int(frame["cursor"])
        case _:
            return 0


def published(text: str) -> int:
    """Tell how many events the demo agent publishes for a text."""
    word, *rest = text.split()
    if word == "tokens":
        return int(rest[0]) + 1
    return int(rest[0]) if word == "burst" else 1


class Gateway:
    """One running `gatewayproto serve`."""

    def __init__(self, *options: str, adapter: str | None = None) -> None:
        """Start it on a free port and wait until it says that it is ready."""
        self.stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed by stop()
        self.process = subprocess.Popen(
            [*COMMAND, *on_adapter("serve", "--port", "0", *options, adapter=adapter)],
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        self.lines = Lines(self.process.stdout)
        try:
            ready = self.lines.next(START)
            match = re.fullmatch(r"ready ws://([0-9.]+):([0-9]+)/ws", ready or "")
            assert match is not None, f"expected the ready line, got {ready!r}: {self.errors()}"
        except BaseException:
            self.kill()
            raise
        self.host = match[1]
        self.port = int(match[2])
        self.url = f"ws://{self.host}:{self.port}/ws"

    def errors(self) -> str:
        """What it has written to stderr."""
        self.stderr.seek(0)
        return self.stderr.read()

    def kill(self) -> None:
        """End it at once, whatever state it is in."""
        self.process.kill()
        self.process.wait(WAIT)
        self.lines.rest()
        self.stderr.close()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it in order: status 0 within 5 seconds, nothing more on stdout, no traceback."""
        try:
            assert self.process.poll() is None, f"it ended by itself: {self.errors()}"
            self.process.send_signal(number)
            try:
                status = self.process.wait(5.0)
            except subprocess.TimeoutExpired:
                msg = f"alive 5 s after {number.name}: {self.errors()}"
                raise AssertionError(msg) from None
            errors = self.errors()
            assert status == 0, f"status {status}: {errors}"
            assert self.lines.rest() == []
            assert "Traceback" not in errors, errors
            assert "never retrieved" not in errors, errors
        finally:
            self.kill()

    def rss(self) -> int:
        """Resident bytes of the process."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert match is not None
        return int(match[1]) * 1024

    def connect(
        self,
        path: str = "/ws",
        headers: Iterable[tuple[str, str]] = (),
        *,
        rcvbuf: int | None = None,
    ) -> Peer:
        """Open a WebSocket connection; nothing is said on it yet."""
        return open_client(self.host, self.port, path, headers, rcvbuf=rcvbuf)

    def attach(
        self,
        frame: Frame | None = None,
        *,
        peer: Peer | None = None,
        rcvbuf: int | None = None,
        **fields: Any,
    ) -> Follower:
        """Open a connection, shake hands and check every field of the welcome."""
        opening = handshake(**fields) if frame is None else frame
        peer = peer or self.connect(rcvbuf=rcvbuf)
        peer.send(opening)
        return welcomed(peer, opening)

    def reject(self, opening: Frame, code: str, *, peer: Peer | None = None) -> Frame:
        """Show that this handshake gets this rejection, by its frame and its close code."""
        peer = peer or self.connect()
        peer.send(opening)
        return rejected(peer, opening, code)

    def session(self, *texts: str, agent_id: str = "demo", **fields: Any) -> "Past":
        """Make a session in which these messages have been answered, and leave it."""
        follower = self.attach(agent_id=agent_id, **fields)
        seq = 0
        for text in texts:
            follower.ask(text)
            seq += published(text)
        if texts:
            follower.until_seq(seq, timeout=20.0)
        follower.account()
        past = Past(
            follower.session_id,
            follower.epoch,
            seq,
            {f["seq"]: f["event"] for f in follower.frames if f["type"] == "event"},
        )
        follower.peer.cut()
        return past


@dataclass(frozen=True)
class Past:
    """A session with a history: what a client would have stored."""

    session_id: str
    epoch: str
    cursor: int
    events: dict[int, Frame]

    def at(self, since: object, **fields: Any) -> dict[str, Any]:
        """Build the fields with which to come back to it at this position."""
        return {"session_id": self.session_id, "epoch": self.epoch, "since": since, **fields}


def agreed_version(opening: Frame) -> int:
    """Tell the version that a handshake with a readable range must come to."""
    least, most = (opening.get(name) for name in RANGE[opening["type"]])
    if least is None and most is None:
        return 1
    return min(2, most if isinstance(most, int) else int(least or 0))


def welcomed(peer: Peer, opening: Frame) -> Follower:
    """Take the welcome that answers this handshake, every field checked."""
    frame = given(peer.recv())
    assert frame["type"] == ANSWER[opening["type"]], f"no welcome: {brief(frame)}"
    version = agreed_version(opening)
    check_welcome(frame, opening, version)
    return Follower(peer, frame)


def check_welcome(frame: Frame, opening: Frame, version: int) -> None:
    """Hold a welcome to its table."""
    spelled = {"protocol"} if frame["type"] == "hello_ok" else set()
    versioned = {"epoch"} if version == 2 else {"head"}
    required = WELCOME | spelled | versioned
    assert set(frame) >= required, f"missing {required - set(frame)}: {brief(frame)}"
    extra = set(frame) - required - WELCOME_OPTIONAL
    assert not extra, f"not in the specification: {extra}"
    assert frame["agent_id"] == opening["agent_id"]
    assert same(frame["protocol_version"], version), brief(frame)
    assert same(frame.get("protocol", version), version), brief(frame)
    assert same(frame["server_min_version"], 1), brief(frame)
    assert same(frame["server_max_version"], 2), brief(frame)
    for name in ("resumed", "resync_required"):
        assert type(frame[name]) is bool, brief(frame)
    for name in ("cursor", "sequence"):
        assert is_integer(frame[name]), brief(frame)
    assert is_integer(frame["oldest_cursor"], 1), brief(frame)
    assert ("resync_reason" in frame) == frame["resync_required"], brief(frame)
    assert frame.get("resync_reason", "trimmed") in SNAPSHOT_REASONS - {"lagged"}, brief(frame)
    assert set(frame["features"]) == {"methods", "events"}, brief(frame)
    for names in frame["features"].values():
        assert isinstance(names, list), brief(frame)
        assert all(isinstance(name, str) for name in names), brief(frame)
    check_policy(frame["policy"])
    check_identity(frame, version)
    head = frame["cursor"] if version == 2 else frame["head"]
    assert is_integer(head), brief(frame)
    assert frame["oldest_cursor"] <= head + 1, brief(frame)
    assert frame["sequence"] <= head, brief(frame)


def check_identity(frame: Frame, version: int) -> None:
    """Hold the session id and epoch to the form of this version."""
    session_id = frame["session_id"]
    assert isinstance(session_id, str), brief(frame)
    if version == 1:
        bare, dot, epoch = session_id.partition(".")
        assert dot, f"a version 1 session id carries the epoch: {brief(frame)}"
    else:
        bare, epoch = session_id, frame["epoch"]
        assert isinstance(epoch, str), brief(frame)
    assert "." not in bare + epoch, brief(frame)
    assert len(bare) >= 20, f"too short to prove ownership: {brief(frame)}"
    assert 1 <= len(epoch) <= 64, brief(frame)


def rejected(peer: Peer, opening: Frame, code: str, close: int | None = None) -> Frame:
    """Take the rejection: one frame of the right type, then the close code of the code."""
    frame = given(peer.recv())
    assert frame["type"] == REJECTION[opening["type"]], brief(frame)
    assert frame["code"] == code, brief(frame)
    allowed = {"type", "code", "message", "next_step", "retry_after_seconds"}
    if code in {"version_unsupported", "protocol_unsupported"}:
        allowed |= {"server_min_version", "server_max_version"}
    assert set(frame) <= allowed, brief(frame)
    assert isinstance(frame["message"], str), brief(frame)
    assert frame["message"], brief(frame)
    if code in NEXT_STEP:
        assert frame.get("next_step") in NEXT_STEP[code], brief(frame)
    peer.expect_closed(close or CLOSE_CODE[code])
    return frame


class Ends:
    """What is read inside the `with` ends with a close, by one of these codes."""

    def __init__(self, *codes: int) -> None:
        """Remember what is expected."""
        self.codes = codes

    def __enter__(self) -> Self:
        """Nothing to do yet."""
        return self

    def __exit__(self, _: object, error: BaseException | None, trace: object) -> bool:
        """Judge what came out; any other exception passes."""
        if error is not None and not isinstance(error, PeerClosedError):
            return False
        code = error.code if error is not None else None
        assert code in self.codes, f"expected a close with {self.codes}, got {code}"
        return True
