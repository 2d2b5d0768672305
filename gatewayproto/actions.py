"""What the machines give: values for a driver to carry out, in order.

`GatewayAction` and `ClientAction` are closed unions. `Emit` carries an event for the application;
the unions of those are `GatewayEvent` and `ClientEvent`.

Spec: the architecture page, "Machines".
"""

from typing import Generic, Literal, TypeVar

from attrs import field, frozen

from gatewayproto.frames import ClientInfo, Event, Object, PresenceEntry

E_co = TypeVar("E_co", covariant=True)


@frozen
class Emit(Generic[E_co]):
    """Tell the application."""

    event: E_co


# -- the gateway's actions --------------------------------------------------------------------


@frozen
class SendFrames:
    """Send every frame, in order, as a text message of its own, on every connection.

    The frames are UTF-8 bytes and are the same objects for all the connections, so a driver may
    frame them once. Each counts with its length against every connection's credit until `Drained`
    gives it back.
    """

    connections: tuple[int, ...]
    frames: tuple[bytes, ...]


@frozen
class CloseConnection:
    """Send what is owed, then close with this code. The machine has forgotten the connection."""

    connection: int
    code: int
    reason: str = ""


@frozen(kw_only=True)
class Persist:
    """Store a record of a session; say `Persisted` once it would outlive a crash.

    Only a gateway that is set to write ahead gives these. `number` counts 1, 2, 3 … for each
    session, without holes. `record` is plain JSON data with a `kind`; it holds what clients sent
    and were sent, so keep it as you keep secrets. What depends on a record leaves the machine
    after it was confirmed.

    Spec: the architecture page, "Write ahead"; the how-to "Store sessions".
    """

    session_id: str
    number: int
    record: Object = field(repr=False)


# -- the gateway's events ---------------------------------------------------------------------


@frozen(kw_only=True)
class JoinRequested:
    """A client asks to open or resume a session; answer with `Accept` or `Reject`, at leisure.

    `token` comes from the handshake, else the `Authorization: Bearer` header, else the query's
    `token`. It is a secret and stays out of every repr.
    """

    connection: int
    agent_id: str
    protocol_version: int
    token: str | None = field(default=None, repr=False)
    path: str = "/"
    peer: str = ""
    client: ClientInfo | None = None
    capabilities: tuple[str, ...] = ()


@frozen(kw_only=True)
class AuthRequested:
    """A welcomed client presents fresh credentials; answer with `Accept` or `Reject`, at leisure.

    `join` is the handshake of this connection as if it came now, with the new token: to judge the
    one like the other is right. No second one comes for a connection before the first is answered;
    what the client presents meanwhile waits, the newest of it. Events go on being delivered.

    Spec: Credentials.
    """

    connection: int
    session_id: str
    client_id: str
    join: JoinRequested


@frozen(kw_only=True)
class AbortRequested:
    """A client asks to stop the run `run_id`, the one that answers `request_id`, or what runs.

    Nothing is owed to the client: that the run has ended is told by its final event. An abort may
    come more than once, and too late. Spec: Client to server.
    """

    connection: int
    session_id: str
    run_id: str | None
    request_id: str | None


@frozen(kw_only=True)
class SessionOpened:
    """A session began: its numbering starts at 1 in a new epoch."""

    session_id: str
    agent_id: str
    principal: str | None


@frozen(kw_only=True)
class SubscriberJoined:
    """A client was welcomed to a session; delivery goes on after `sequence`.

    `resync_reason` is None where it goes on from where the client stood.
    """

    connection: int
    session_id: str
    client_id: str
    resumed: bool
    sequence: int
    resync_reason: str | None


@frozen(kw_only=True)
class SubscriberLeft:
    """A welcomed client's connection ended, by whichever side."""

    connection: int
    session_id: str
    client_id: str


@frozen(kw_only=True)
class SubscriberLagged:
    """What a subscriber still needed is gone; a snapshot covers it, or version 1 joins again."""

    connection: int
    session_id: str
    position: int


@frozen(kw_only=True)
class SnapshotNeeded:
    """Somebody needs a session's state, which the application builds: answer `SnapshotReady`.

    A state of this `epoch` as of `cursor`, the head at this moment, or later is good for everybody
    who waits; an earlier one may be, and is refused where it is not. `attempt` counts from 1 and
    goes up for every answer that left somebody waiting.

    Spec: Snapshots.
    """

    session_id: str
    epoch: str
    cursor: int
    attempt: int


@frozen(kw_only=True)
class MessageReceived:
    """A message entered a session's inbox, once. Answer with `Complete` when it is done."""

    session_id: str
    message_id: int
    content: str | Object
    request_id: str | None
    reply_to: str | None
    metadata: Object | None


@frozen(kw_only=True)
class Published:
    """An event got its seq."""

    session_id: str
    seq: int
    event_id: str


@frozen(kw_only=True)
class SessionExpired:
    """A session outlived its last connection by the resume window and is forgotten."""

    session_id: str


@frozen(kw_only=True)
class SessionClosed:
    """A session was sealed at `cursor`: that stays its newest seq, and it expires in time."""

    session_id: str
    cursor: int


@frozen(kw_only=True)
class DrainFinished:
    """The gateway drains, and no connection is left. Told once."""


@frozen(kw_only=True)
class CommandDropped:
    """A lawful command came too late: its connection or session is gone. Nothing happened.

    A `publish` comes too late for a session that was closed, too.
    """

    command: Literal[
        "accept",
        "reject",
        "publish",
        "complete",
        "change_epoch",
        "close_session",
        "snapshot_ready",
    ]
    target: int | str


GatewayEvent = (
    JoinRequested
    | AuthRequested
    | AbortRequested
    | SessionOpened
    | SubscriberJoined
    | SubscriberLeft
    | SubscriberLagged
    | SnapshotNeeded
    | MessageReceived
    | Published
    | SessionExpired
    | SessionClosed
    | DrainFinished
    | CommandDropped
)
GatewayAction = SendFrames | CloseConnection | Persist | Emit[GatewayEvent]

# -- the client's actions ---------------------------------------------------------------------


@frozen(kw_only=True)
class OpenTransport:
    """Open a new transport and name it `connection` in every input about it.

    `token` is there for a driver that puts it into a header as well; the handshake carries it.
    """

    connection: int
    token: str | None = field(default=None, repr=False)


@frozen
class SendFrame:
    """Send one text message on the transport."""

    connection: int
    frame: bytes


@frozen(kw_only=True)
class CloseTransport:
    """Close the transport; nothing that still comes from it matters."""

    connection: int
    code: int = 1000
    reason: str = ""


# -- the client's events ----------------------------------------------------------------------

ClientStateName = Literal["connecting", "connected", "reconnecting", "disconnected"]


@frozen(kw_only=True)
class ResumeToken:
    """Where a client stands: everything up to `cursor` of this epoch is accounted for.

    An application stores it together with its own state; a new process starts from it. The
    session id proves ownership where there is no authentication, so a token is a secret.

    Spec: The client's side.
    """

    session_id: str = field(repr=False)
    epoch: str | None
    cursor: int


@frozen
class StateChanged:
    """The client's state, as people care for it."""

    state: ClientStateName


@frozen(kw_only=True)
class Joined:
    """The server welcomed the client. The cursor has not moved, save to 0 in a new session.

    `resumed` false: drop local state and start from an empty one at 0. So it is, too, where a
    version 1 server turns out to be behind the client and everything is asked for again.
    With `resync_required` on a resumed session a `SnapshotReceived` follows before anything else.
    `cursor` is the head as of this attach. `presence_version` and `health_version` say where the
    changes in `PresenceReceived` and `HealthReceived` begin.

    Spec: The welcome; Version 1.
    """

    token: ResumeToken
    session_id: str = field(repr=False)
    epoch: str | None
    protocol_version: int
    resumed: bool
    cursor: int
    oldest_cursor: int | None
    sequence: int
    resync_required: bool
    resync_reason: str | None
    presence: tuple[PresenceEntry, ...] | None
    health: Object | None
    presence_count: int | None = None
    presence_version: int | None = None
    health_version: int | None = None


@frozen(kw_only=True)
class EventReceived:
    """The next event; `replayed` if it is from before this attach or the latest resume."""

    seq: int
    replayed: bool
    event: Event
    token: ResumeToken


@frozen(kw_only=True)
class Skipped:
    """The seqs `first` to `last` are accounted for and will not come.

    Reason `superseded`: nothing is lost, the run's final event holds the outcome. `trimmed`: a
    version 1 server no longer has them and gives no snapshot; a `Gap` was told before.
    """

    first: int
    last: int
    reason: str
    token: ResumeToken


@frozen(kw_only=True)
class SnapshotReceived:
    """Drop what was built so far and go on from `state`, which is as of `cursor`."""

    cursor: int
    epoch: str | None
    reason: str
    state: Object
    token: ResumeToken


@frozen(kw_only=True)
class CaughtUp:
    """Everything up to the head as of the attach or the recovery has been handed on.

    Told once for each. Where a version 1 server says nothing of its head, it is told at once.
    """

    cursor: int


@frozen(kw_only=True)
class Gap:
    """Something between is missing; the client recovers it before anything else is handed on.

    `expected` is the cursor + 1, `received` what proved the gap. Told once for each.
    """

    expected: int
    received: int


@frozen(kw_only=True)
class MessageAccepted:
    """The message is in the session's inbox. An end of the request."""

    request_id: str
    duplicate: bool


@frozen(kw_only=True)
class MessageRefused:
    """The message is not in the inbox, and why. An end of the request.

    `code` is the server's, or one of this side: `payload_too_large` for what the server would not
    take, `inbox_full` where too many messages wait here, `disconnected` for what was never
    written when the client ended.
    """

    request_id: str
    code: str
    message: str


@frozen(kw_only=True)
class OutcomeUnknown:
    """The message was written once and its answer can no longer be had. An end of the request."""

    request_id: str


@frozen(kw_only=True)
class PresenceReceived:
    """Who is connected changed; the fields are the frame's.

    Either `joined` and `left` change the list that was as of `from_version`, and that was the last
    one told; or `entries` is the whole list; or `presence_count` is all that is told. `version`
    rises from one to the next. Spec: Presence.
    """

    version: int
    from_version: int | None
    joined: tuple[PresenceEntry, ...] | None
    left: tuple[str, ...] | None
    entries: tuple[PresenceEntry, ...] | None
    presence_count: int | None = None


@frozen(kw_only=True)
class HealthReceived:
    """The gateway's health changed; `version` rises from one to the next. Spec: Health."""

    version: int
    health: Object


@frozen(kw_only=True)
class RetryScheduled:
    """The next attempt is `delay` seconds away. `code` is what ended the last one, if known.

    That is the error's code, or the one that its close code stands for; else `close_` or `http_`
    with the number; or what this side ended it for: `handshake_timeout`, `liveness_timeout`,
    `recovery_timeout`, `malformed_frame`, `payload_too_large`, `going_away`, and `gap` in
    version 1. `attempt` counts from 1, and again from 1 once the client has caught up.
    """

    delay: float
    attempt: int
    code: str | None


@frozen(kw_only=True)
class TokenNeeded:
    """Nothing happens until `SetToken`: the credentials are no longer good."""

    code: str


@frozen(kw_only=True)
class Stopped:
    """The client's part is over. `code` is `disconnected` after an ordinary end.

    Else it is what may not be retried, as in `RetryScheduled`, or what ended the last of
    `max_attempts`, `max_attempts` itself where that is not known. `message` is the server's.
    """

    code: str
    message: str


ClientEvent = (
    StateChanged
    | Joined
    | EventReceived
    | Skipped
    | SnapshotReceived
    | CaughtUp
    | Gap
    | MessageAccepted
    | MessageRefused
    | OutcomeUnknown
    | PresenceReceived
    | HealthReceived
    | RetryScheduled
    | TokenNeeded
    | Stopped
)
ClientAction = OpenTransport | SendFrame | CloseTransport | Emit[ClientEvent]
