"""The wire vocabulary: one frozen class for every frame, its constraints in its types.

A frame is one JSON object in one WebSocket text message. Optional fields are None when they are
absent; `null` means the same. The classes are what `gatewayproto.codec` decodes into and encodes
from, and what the JSON Schemas in the documentation are made of. What version 1 writes
differently is in `gatewayproto.versions`.

Spec: Framing; Client to server; Server to client.
"""

from typing import Annotated, Any, Final, Literal

from attrs import field, frozen
from msgspec import Meta

MAX_INT: Final = 2**53 - 1
"""The largest integer of the protocol, and so the largest seq."""
MAX_DEPTH: Final = 64
"""How deep a frame may nest; the frame's own object is the first level."""
MAX_REQUEST_ID: Final = 128
"""The longest request_id, in characters."""
DEFAULT_MAX_PAYLOAD: Final = 1_048_576
"""What a client that states no `max_payload` takes, in bytes."""
MIN_MAX_PAYLOAD: Final = 1024
"""The least `max_payload` that a client may state: a welcome must fit."""
MAX_NONCE: Final = 128
"""The longest nonce, in characters: a `pong` and every part of a snapshot repeat it, and must fit
the least `max_payload`."""

Cursor = Annotated[int, Meta(ge=0, le=MAX_INT)]
Seq = Annotated[int, Meta(ge=1, le=MAX_INT)]
Version = Annotated[int, Meta(ge=1, le=MAX_INT)]
Bytes = Annotated[int, Meta(ge=1, le=MAX_INT)]
MaxPayload = Annotated[int, Meta(ge=MIN_MAX_PAYLOAD, le=MAX_INT)]
Milliseconds = Annotated[int, Meta(ge=0, le=MAX_INT)]
Count = Annotated[int, Meta(ge=0, le=MAX_INT)]
Name = Annotated[str, Meta(min_length=1)]
AgentId = Annotated[str, Meta(min_length=1, max_length=128)]
Epoch = Annotated[str, Meta(min_length=1, max_length=64)]
RequestId = Annotated[str, Meta(min_length=1, max_length=MAX_REQUEST_ID)]
Nonce = Annotated[str, Meta(max_length=MAX_NONCE)]
ShortText = Annotated[str, Meta(max_length=256)]
Object = dict[str, Any]
ResyncReason = Literal[
    "session_unknown",
    "epoch_changed",
    "cursor_ahead",
    "trimmed",
    "requested",
    "lagged",
]


@frozen(kw_only=True)
class Event:
    """One event of a session, as the application publishes it and its clients receive it.

    `timestamp` is in seconds since 1970 by the application's clock. `transient` events carry the
    `run_id` of their run; the run's `final` event is durable and holds the whole outcome.

    Spec: Server to client; Terms.
    """

    type: Name
    data: Object
    event_id: Name
    timestamp: float
    source: str | None = None
    target: str | None = None
    run_id: Name | None = None
    request_id: str | None = None
    transient: bool | None = None
    final: bool | None = None
    expects_reply: bool | None = None


@frozen(kw_only=True)
class ClientInfo:
    """What a client says of itself; shown to others in the presence list."""

    name: ShortText | None = None
    version: ShortText | None = None


# -- client to server -------------------------------------------------------------------------


@frozen(kw_only=True)
class _Handshake:
    """What a handshake says in either spelling."""

    agent_id: AgentId
    capabilities: tuple[str, ...] | None = None
    session_id: str | None = None
    epoch: Epoch | None = None
    since: Cursor | None = None
    start: Literal["replay", "snapshot"] | None = None
    token: str | None = field(default=None, repr=False)
    max_payload: MaxPayload | None = None
    client: ClientInfo | None = None


@frozen(kw_only=True)
class Hello(_Handshake):
    """Opens or resumes a session; `hello_ok` or `hello_error` answers. Spec: Client to server."""

    protocol_min: Version | None = None
    protocol_max: Version | None = None
    type: Literal["hello"] = "hello"


@frozen(kw_only=True)
class Join(_Handshake):
    """The handshake under its older name; `joined` or `error` answers. Spec: Client to server."""

    min_version: Version | None = None
    max_version: Version | None = None
    type: Literal["join"] = "join"


@frozen(kw_only=True)
class Message:
    """A user's turn, or the answer to an event that `expects_reply`. Spec: Requests."""

    content: str | Object
    request_id: RequestId | None = None
    reply_to: str | None = None
    metadata: Object | None = None
    type: Literal["message"] = "message"


@frozen(kw_only=True)
class Abort:
    """Stop that run, or whatever runs. Spec: Client to server."""

    run_id: str | None = None
    request_id: str | None = None
    type: Literal["abort"] = "abort"


@frozen(kw_only=True)
class Resume:
    """Version 2: back to `since` on this connection, a gap was seen. Spec: Recovery in band."""

    since: Cursor
    epoch: Epoch | None = None
    nonce: Nonce | None = None
    type: Literal["resume"] = "resume"


@frozen(kw_only=True)
class Resync:
    """Version 2: a snapshot, now. Spec: Client to server."""

    nonce: Nonce | None = None
    type: Literal["resync"] = "resync"


@frozen(kw_only=True)
class Auth:
    """Version 2: fresh credentials on a living connection. Spec: Client to server."""

    token: str = field(repr=False)
    type: Literal["auth"] = "auth"


@frozen(kw_only=True)
class Ping:
    """Answered by `pong` with the same nonce; a server's `cursor` is where delivery stands."""

    nonce: Nonce | None = None
    cursor: Cursor | None = None
    type: Literal["ping"] = "ping"


@frozen(kw_only=True)
class Pong:
    """The answer to a `ping`; in version 2 a client's `cursor` is the last seq that was taken."""

    nonce: Nonce | None = None
    cursor: Cursor | None = None
    type: Literal["pong"] = "pong"


@frozen(kw_only=True)
class Leave:
    """The client ends its part; closed with 1000. Spec: Client to server."""

    reason: str | None = None
    type: Literal["leave"] = "leave"


# -- server to client -------------------------------------------------------------------------


@frozen(kw_only=True)
class PresenceEntry:
    """One connected client of a session. `connected_at` is in seconds since 1970."""

    client_id: str
    agent_id: str
    connected_at: float
    client: ClientInfo | None = None


@frozen(kw_only=True)
class Features:
    """The frame types that a server takes (`methods`) and sends (`events`)."""

    methods: tuple[str, ...] | None = None
    events: tuple[str, ...] | None = None


@frozen(kw_only=True)
class Policy:
    """The limits that a server asks a client to keep. Spec: The welcome."""

    max_payload: Bytes
    heartbeat_ms: Milliseconds
    resume_window_ms: Milliseconds
    request_ttl_ms: Milliseconds
    max_pending_requests: Count


@frozen(kw_only=True)
class Welcome:
    """The answer to a handshake that was accepted. Spec: The welcome.

    Only what every version states is required here: a version 1 server leaves out much of it,
    and the client decides what it believes. `head` is version 1's real head.
    """

    type: Literal["hello_ok", "joined"]
    session_id: Name
    agent_id: str | None = None
    protocol: Version | None = None
    protocol_version: Version | None = None
    server_min_version: Version | None = None
    server_max_version: Version | None = None
    resumed: bool | None = None
    epoch: Epoch | None = None
    cursor: Cursor | None = None
    head: Cursor | None = None
    oldest_cursor: Cursor | None = None
    resync_required: bool | None = None
    resync_reason: str | None = None
    sequence: Cursor | None = None
    presence: tuple[PresenceEntry, ...] | None = None
    presence_count: Count | None = None
    presence_version: Count | None = None
    health: Object | None = None
    health_version: Count | None = None
    features: Features | None = None
    policy: Policy | None = None


@frozen(kw_only=True)
class Error:
    """A rejection of a handshake, or the answer to a bad frame. Spec: Errors."""

    code: str
    message: str = ""
    type: Literal["error", "hello_error"] = "error"
    next_step: str | None = None
    retry_after_seconds: Annotated[float, Meta(ge=0)] | None = None
    request_id: str | None = None
    server_min_version: Version | None = None
    server_max_version: Version | None = None


@frozen(kw_only=True)
class EventFrame:
    """One event: `replay` from before this attach or the latest `resume`, `event` since."""

    seq: Seq
    event: Event
    type: Literal["event", "replay"] = "event"


@frozen(kw_only=True)
class Skip:
    """The seqs `first` to `last` are accounted for and not sent. Spec: Server to client."""

    first: Seq
    last: Seq
    reason: str
    type: Literal["skip"] = "skip"


@frozen(kw_only=True)
class CaughtUp:
    """All up to the head as of an attach, a `resume` or a `resync` has been sent."""

    cursor: Cursor
    nonce: Nonce | None = None
    type: Literal["caught_up"] = "caught_up"


@frozen(kw_only=True)
class Snapshot:
    """Authoritative state as of `cursor`: whole (`state`), or in parts (`chunk`)."""

    cursor: Cursor
    epoch: Epoch
    reason: str
    state: Object | None = None
    nonce: Nonce | None = None
    part: Seq | None = None
    parts: Seq | None = None
    chunk: str | None = None
    type: Literal["snapshot"] = "snapshot"


@frozen(kw_only=True)
class MessageAck:
    """The message is in the session's inbox, once, however often it came. Spec: Requests."""

    request_id: RequestId
    duplicate: bool
    type: Literal["message_ack"] = "message_ack"


@frozen(kw_only=True)
class MessageNack:
    """The message is not in the inbox, and why. Spec: Requests."""

    code: str
    message: str = ""
    request_id: str | None = None
    type: Literal["message_nack"] = "message_nack"


@frozen(kw_only=True)
class Presence:
    """A change of who is connected, the whole list, or their number alone. Spec: Presence."""

    version: Count
    from_version: Count | None = None
    joined: tuple[PresenceEntry, ...] | None = None
    left: tuple[str, ...] | None = None
    entries: tuple[PresenceEntry, ...] | None = None
    presence_count: Count | None = None
    type: Literal["presence"] = "presence"


@frozen(kw_only=True)
class Health:
    """The gateway's health as the application set it. Spec: Health."""

    version: Count
    health: Object
    type: Literal["health"] = "health"


@frozen(kw_only=True)
class GoingAway:
    """Leave, and come back after `after_ms` plus a random part of `spread_ms`."""

    reason: str
    after_ms: Milliseconds
    spread_ms: Milliseconds
    type: Literal["going_away"] = "going_away"


@frozen(kw_only=True)
class UnknownFrame:
    """A well-formed frame of a type that the receiver does not know; `fields` is all of it."""

    type: str
    fields: Object


ClientFrame = Hello | Join | Message | Abort | Resume | Resync | Auth | Ping | Pong | Leave
ServerFrame = (
    Welcome
    | Error
    | EventFrame
    | Skip
    | CaughtUp
    | Snapshot
    | MessageAck
    | MessageNack
    | Ping
    | Pong
    | Presence
    | Health
    | GoingAway
)
