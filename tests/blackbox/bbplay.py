"""The server's part, played by a check against `gatewayproto tail`."""

import select
import time
from typing import Any, Final

from tests.blackbox.bbaccount import is_integer
from tests.blackbox.bbcommand import START, Tail
from tests.blackbox.bbserve import ANSWER, RANGE, REJECTION
from tests.blackbox.bbwire import WAIT, Frame, Listener, Peer, PeerClosedError, brief

POLICY: Final[Frame] = {
    "max_payload": 1_048_576,
    "heartbeat_ms": 30_000,
    "resume_window_ms": 300_000,
    "request_ttl_ms": 300_000,
    "max_pending_requests": 64,
}


def event(seq: int, kind: str = "event", **fields: Any) -> Frame:
    """Build one numbered event of version 2."""
    inner = {
        "type": "note",
        "data": {"n": seq},
        "event_id": f"event-{seq}",
        "timestamp": 1_750_000_000.5,
        **fields,
    }
    return {"type": kind, "seq": seq, "event": inner}


def events(first: int, last: int, kind: str = "event") -> list[Frame]:
    """Build the events from the first to the last seq."""
    return [event(seq, kind) for seq in range(first, last + 1)]


def skip(first: int, last: int) -> Frame:
    """Build a `skip`."""
    return {"type": "skip", "first": first, "last": last, "reason": "superseded"}


def snapshot(cursor: int, reason: str = "trimmed", **fields: Any) -> Frame:
    """Build a whole snapshot of version 2."""
    frame = {"type": "snapshot", "cursor": cursor, "epoch": "e1", "reason": reason}
    return {**frame, "state": {"messages": [f"up to {cursor}"]}, **fields}


def caught_up(cursor: int, **fields: Any) -> Frame:
    """Build a `caught_up`."""
    return {"type": "caught_up", "cursor": cursor, **fields}


class Played:
    """One connection of the client's, its handshake received and checked."""

    def __init__(self, peer: Peer, opening: Frame) -> None:
        """Hold the opening to what every handshake has."""
        self.peer = peer
        self.opening = opening
        check_opening(opening)

    @property
    def position(self) -> tuple[Any, Any, Any]:
        """Session id, epoch and cursor that the client came with."""
        opening = self.opening
        return opening.get("session_id"), opening.get("epoch"), opening.get("since")

    def welcome(self, *after: Frame, **fields: Any) -> None:
        """Welcome it in version 2, and send more in the same write."""
        self.peer.send(self.welcome_frame(**fields), *after)

    def welcome_frame(self, **fields: Any) -> Frame:
        """Build the welcome of version 2.

        Without fields: session `s1` in epoch `e1`, resumed where the client presented a session,
        going on at its `since`.
        """
        since = self.opening.get("since") or 0
        frame: Frame = {
            "type": ANSWER[self.opening["type"]],
            "session_id": "s1",
            "agent_id": self.opening["agent_id"],
            "protocol_version": 2,
            "server_min_version": 1,
            "server_max_version": 2,
            "resumed": self.opening.get("session_id") is not None,
            "epoch": "e1",
            "cursor": since,
            "oldest_cursor": 1,
            "resync_required": False,
            "sequence": since,
            "presence": [],
            "presence_version": 0,
            "health": {},
            "health_version": 0,
            "features": {"methods": [], "events": []},
            "policy": {**POLICY, **fields.pop("policy", {})},
            **fields,
        }
        if frame["type"] == "hello_ok":
            frame["protocol"] = frame["protocol_version"]
        return frame

    def welcome_v1(self, *after: Frame, **fields: Any) -> None:
        """Welcome it as a deployed version 1 server does, which knows no `oldest_cursor`."""
        frame: Frame = {
            "type": ANSWER[self.opening["type"]],
            "session_id": "s1",
            "agent_id": self.opening["agent_id"],
            "protocol_version": 1,
            "server_min_version": 1,
            "server_max_version": 1,
            "resumed": self.opening.get("session_id") is not None,
            "cursor": self.opening.get("since") or 0,
            **fields,
        }
        if frame["type"] == "hello_ok":
            frame["protocol"] = 1
        self.peer.send({k: v for k, v in frame.items() if v is not None}, *after)

    def again(self, **expected: Any) -> None:
        """Take another handshake on this connection, which has these fields."""
        self.opening = self.recv()
        check_opening(self.opening)
        for name, value in expected.items():
            assert self.opening.get(name) == value, self.opening

    def reject(self, code: str, close: int | None, **fields: Any) -> None:
        """Reject the handshake, and close with the code, or without a word."""
        type_ = REJECTION[self.opening["type"]]
        self.peer.send({"type": type_, "code": code, "message": "no", **fields})
        if close is None:
            self.peer.sock.close()
        else:
            self.close(close)

    def close(self, code: int | None) -> None:
        """Close with this code, and wait for the client's end of it."""
        self.peer.send_close(code)
        self.ended()

    def send(self, *frames: Frame) -> None:
        """Send frames, in one write."""
        self.peer.send(*frames)

    def recv(self) -> Frame:
        """The client's next frame, liveness aside."""
        return self.peer.recv_but("ping", "pong")

    def expect(self, type_: str, **fields: Any) -> Frame:
        """The client's next frame, liveness aside, is this."""
        frame = self.recv()
        assert frame["type"] == type_, f"expected {type_}, got {brief(frame)}"
        for name, value in fields.items():
            assert frame.get(name) == value, f"expected {name}={value!r}, got {brief(frame)}"
        return frame

    def settle(self, cursor: int) -> Frame:
        """Show that the client has taken all it was sent and wants nothing: ping and pong."""
        nonce = f"settle-{time.monotonic_ns()}"
        self.send({"type": "ping", "nonce": nonce, "cursor": cursor})
        frame = self.peer.recv_but("ping")
        assert (frame["type"], frame.get("nonce")) == ("pong", nonce), brief(frame)
        return frame

    def keeps_quiet(self, seconds: float) -> None:
        """Nothing but liveness comes for so long."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self.peer.sock], [], [], left)[0]:
                frame = self.peer.recv()
                assert frame["type"] in {"ping", "pong"}, brief(frame)

    def ended(self) -> int:
        """Read to the end; the close code, 1006 where there was none."""
        try:
            while True:
                if self.peer.recv()["type"] == "leave":
                    self.peer.send_close(1000)
        except PeerClosedError as closed:
            self.peer.sock.close()
            return closed.code


def check_opening(opening: Frame) -> None:
    """Hold a client's handshake to what every one has."""
    assert opening["type"] in RANGE, opening
    least, most = (opening.get(name) for name in RANGE[opening["type"]])
    assert is_integer(least, 1), opening
    assert is_integer(most, 1), opening
    assert isinstance(opening.get("agent_id"), str), opening
    if opening.get("session_id") is not None:
        assert is_integer(opening.get("since")), f"a session without since: {opening}"
    for name in ("session_id", "epoch", "token"):
        assert isinstance(opening.get(name) or "", str), opening


def taken(listener: Listener, timeout: float = WAIT) -> Played:
    """Take the client's next connection and its handshake."""
    peer = listener.accept(timeout)
    return Played(peer, peer.recv(timeout))


def followed(
    listener: Listener, *after: Frame, options: tuple[str, ...] = (), **fields: Any
) -> tuple[Tail, Played]:
    """Start a client and welcome it."""
    tail = Tail(listener.url, *options)
    played = taken(listener, START)
    played.welcome(*after, **fields)
    return tail, played


def seqs(lines: list[Frame]) -> list[int]:
    """The seqs of the events that were handed on."""
    return [line["seq"] for line in lines if line["emit"] == "event"]


def kinds(lines: list[Frame], *emits: str) -> list[Frame]:
    """Pick the lines of these kinds."""
    return [line for line in lines if line["emit"] in emits]


def end(tail: Tail, played: Played) -> list[Frame]:
    """Interrupt the client while it is connected; all its lines."""
    tail.interrupt()
    played.ended()
    return tail.finished(0)
