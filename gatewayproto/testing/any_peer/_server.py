"""The alphabet against a client: every frame, every end of a transport, every command, any time.

A letter makes one input for the client as it stands; most are relative to it, because a seq that
is far from everything is met by the same rule each time. Letters take their details as arguments,
so that one table names them with pools to choose from, another with what is tried exhaustively.

Spec: Server to client; The client's side; Version 1.
"""

import json
import math
from collections.abc import Callable
from typing import Any, Final

from attrs import define, field

from gatewayproto.inputs import (
    Abort,
    Activity,
    ClientInput,
    Connect,
    Disconnect,
    FrameReceived,
    Resync,
    Send,
    SetToken,
    Taken,
    TimerExpired,
    TransportClosed,
    TransportOpened,
)
from gatewayproto.testing._shapes import MAX_INT
from gatewayproto.testing.any_peer._client_known import Frame
from gatewayproto.testing.any_peer._client_reference import ClientReference

Letter = Callable[..., "ClientInput | None"]

GRID: Final = 1024
"""Times are multiples of 1/1024 s, so that sums of them are exact."""
POLICIES: Final[dict[str, Frame]] = {
    "usual": {},
    "one at a time": {"max_pending_requests": 1},
    "one at a time, too": {"max_pending_requests": 1, "request_ttl_ms": 16_000},
    "none at a time": {"max_pending_requests": 0},
    "small": {"max_payload": 72},
    "short": {"request_ttl_ms": 4000, "heartbeat_ms": 2000},
    "hasty": {"heartbeat_ms": 1, "request_ttl_ms": 0},
    "never": {"heartbeat_ms": MAX_INT},
    "silent": {"heartbeat_ms": 0},
}
POLICY: Final[Frame] = {
    "max_payload": 1_048_576,
    "heartbeat_ms": 32_000,
    "resume_window_ms": 300_000,
    "request_ttl_ms": 256_000,
    "max_pending_requests": 3,
}
ENTRY: Final[Frame] = {"client_id": "c1", "agent_id": "demo", "connected_at": 1.5}


@define(eq=False)
class AnyServer:
    """The server, the transport, the clock and the application of one client at once.

    `book` is what is known of the client from outside; `count` makes every event another.
    """

    book: ClientReference
    now: float = 0.0
    count: int = 0
    old_nonces: list[str] = field(factory=list)

    @property
    def connection(self) -> int:
        """The present connection, or the newest there was."""
        return self.book.opened

    def frame(self, type_: str, **fields: Any) -> ClientInput | None:
        """A frame on the present connection; None where none is open."""
        return self.raw(json.dumps({"type": type_, **fields}).encode())

    def raw(self, data: bytes) -> ClientInput | None:
        """Bytes on the present connection; None where none is open."""
        if self.book.link is None or self.book.phase == "connecting":
            return None
        return FrameReceived(self.connection, data)

    def event(self, **fields: Any) -> Frame:
        """An event unlike every other."""
        self.count += 1
        inner = {"type": "note", "data": {"n": self.count}, "event_id": f"e{self.count}"}
        return {**inner, "timestamp": self.count + 0.5, **fields}

    def pass_to(self, at: float) -> ClientInput:
        """Let time pass, and let the timer fire."""
        self.now = max(self.now, math.ceil(at * GRID) / GRID)
        return TimerExpired()


# -- what is relative to the client -----------------------------------------------------------


def session_of(server: AnyServer, which: str) -> str:
    held = server.book.position
    own = "s1" if held is None else held.session_id
    bare, _, _ = own.partition(".")
    forms = {"own": own, "bare": bare, "with epoch": f"{bare}.e1", "with other": f"{bare}.e9"}
    return forms.get(which) or f"s{server.connection + 1}"


def epoch_of(server: AnyServer, which: str) -> str:
    held, link = server.book.position, server.book.link
    if which == "other":
        return f"e{server.connection + 5}"
    if which == "own" and link is not None and link.epoch is not None:
        return link.epoch
    return "e1" if held is None else held.epoch or held.session_id.partition(".")[2] or "e1"


def nonce_of(server: AnyServer, which: str | None) -> str | None:
    link = server.book.link
    newest = None if link is None else link.nonce
    return {"newest": newest, "none": None, "stale": "stale"}.get(which or "none")


def unanswered(server: AnyServer, which: int) -> str:
    """The message of that place in the queue, whether or not it was written."""
    outbox = server.book.outbox
    return outbox[which % len(outbox)].request_id if outbox else "bogus"


def good_welcome(server: AnyServer, **fields: Any) -> Frame:
    """A welcome that resumes where the client stands, or begins a session."""
    book = server.book
    held = book.position
    frame: Frame = {
        "type": "joined" if book.phase == "rejoining" else "hello_ok",
        "session_id": session_of(server, "bare" if held else "new"),
        "protocol_version": 2,
        "resumed": held is not None,
        "epoch": epoch_of(server, "held"),
        "cursor": book.cursor,
        "oldest_cursor": 1,
        "resync_required": False,
        "sequence": book.cursor,
        "policy": POLICY,
        "health": {"ok": True},
        "presence": [ENTRY],
        "presence_version": 1,
        "presence_count": 1,
        "health_version": 1,
    }
    present = {**frame, **fields}
    return {name: value for name, value in present.items() if value is not ...}


# -- time and transport -----------------------------------------------------------------------


def due(server: AnyServer, late: float = 0.0) -> ClientInput | None:
    """The timer fires at its deadline, or so much later."""
    deadline = server.book.next_deadline
    return None if deadline is None else server.pass_to(deadline + late)


def early(_: AnyServer) -> ClientInput | None:
    """The timer fires before its deadline."""
    return TimerExpired()


def pause(server: AnyServer, seconds: float) -> ClientInput | None:
    """Time passes; a timer that comes due meanwhile is late."""
    server.pass_to(server.now + seconds)
    return None


def opened(server: AnyServer) -> ClientInput | None:
    """The transport opens."""
    if server.book.phase != "connecting":
        return None
    return TransportOpened(server.connection)


def closed(
    server: AnyServer, code: int | None, retry_after: float | None = None
) -> ClientInput | None:
    """The transport is gone, with the server's close code or without."""
    if server.connection == 0:
        return None
    return TransportClosed(
        connection=server.connection,
        code=code,
        reason="" if code is None else "why",
        retry_after_seconds=retry_after,
    )


def http(server: AnyServer, status: int, retry_after: float | None = None) -> ClientInput | None:
    """An HTTP answer in place of the upgrade."""
    if server.book.phase != "connecting":
        return None
    return TransportClosed(
        connection=server.connection, http_status=status, retry_after_seconds=retry_after
    )


def activity(server: AnyServer) -> ClientInput | None:
    """Bytes came in."""
    return Activity(server.connection) if server.connection else None


def from_the_past(server: AnyServer, what: str) -> ClientInput | None:
    """Something of a connection that was given up."""
    book = server.book
    number = server.connection - (book.link is not None)
    if number < 1:
        return None
    if what == "closed":
        return TransportClosed(connection=number, code=4508)
    if what == "opened":
        return TransportOpened(number)
    if what == "activity":
        return Activity(number)
    frames: dict[str, Frame] = {
        "event": {"type": "event", "seq": book.cursor + 1, "event": server.event()},
        "ahead": {"type": "event", "seq": book.cursor + 3, "event": server.event()},
        "welcome": good_welcome(server),
        "ack": {"type": "message_ack", "request_id": unanswered(server, 0), "duplicate": False},
        "snapshot": {
            "type": "snapshot",
            "cursor": book.cursor + 2,
            "epoch": epoch_of(server, "own"),
            "reason": "lagged",
            "state": {},
        },
        "reject": {"type": "error", "code": "session_closed", "message": ""},
        "bad": {"type": 5},
    }
    return FrameReceived(number, json.dumps(frames[what]).encode())


def mistake(server: AnyServer, what: str) -> ClientInput | None:
    """What no driver and no application may do."""
    book = server.book
    inputs: dict[str, ClientInput | None] = {
        "unknown": FrameReceived(server.connection + 1, b'{"type":"pong"}'),
        "zero": TransportClosed(connection=0),
        "negative": Activity(-1),
        "connect": None if book.phase == "idle" else Connect(),
        "too early": FrameReceived(server.connection, b'{"type":"pong"}')
        if book.phase == "connecting"
        else None,
        "opened": TransportOpened(server.connection)
        if book.link is not None and book.phase != "connecting"
        else None,
        "token": SetToken("\ud800") if book.phase != "stopped" else None,
        "repeated": Send(content="", request_id=book.outbox[0].request_id) if book.outbox else None,
        "no id": Send(content="", request_id=""),
        "long id": Send(content="", request_id="x" * 129),
        "no json": Send(content={"n": math.nan}, request_id="nan"),
    }
    return inputs[what]


# -- commands ---------------------------------------------------------------------------------


def connect(server: AnyServer) -> ClientInput | None:
    """The application starts the client."""
    return Connect() if server.book.phase == "idle" else None


def send(server: AnyServer, size: int = 0, named: bool = True) -> ClientInput | None:
    """A message."""
    server.count += 1
    return Send(content="x" * size, request_id=f"m{server.count}" if named else None)


def send_again(server: AnyServer, which: int) -> ClientInput | None:
    """A message with an id that was used before, where that one has come to its end."""
    ids = [f"m{count}" for count in range(max(1, server.count - 20), server.count + 1)]
    free = [each for each in ids if server.book.owed(each) is None]
    return Send(content="again", request_id=free[which % len(free)]) if free else None


def send_more(server: AnyServer) -> ClientInput | None:
    """A message with everything that one may have."""
    server.count += 1
    return Send(
        content={"text": "é", "n": server.count},
        request_id=f"m{server.count}",
        reply_to="e1",
        metadata={"at": 1.5},
    )


def abort(_: AnyServer, run_id: str | None = None) -> ClientInput | None:
    """The application stops a run."""
    return Abort(run_id=run_id)


def taken(server: AnyServer, ahead: int = 0) -> ClientInput | None:
    """The application has taken everything, or less, or says more than it was given."""
    return Taken(max(0, server.book.cursor + ahead))


def resync(_: AnyServer) -> ClientInput | None:
    """The application wants a snapshot."""
    return Resync()


def set_token(_: AnyServer, token: str | None) -> ClientInput | None:
    """The application has fresh credentials, or none any more."""
    return SetToken(token)


def disconnect(_: AnyServer) -> ClientInput | None:
    """The application ends it."""
    return Disconnect()
