"""What the machines take: one value for each thing that can happen to them.

`GatewayInput` and `ClientInput` are closed unions. Connections are named by integers that their
driver counts upwards and never uses twice; sessions by the bare id of their welcome. Times never
travel in inputs: they come beside them, as `now`.

Spec: the architecture page, "Machines".
"""

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from gatewayproto.errors import ErrorCode
from gatewayproto.frames import Event

# -- both machines ----------------------------------------------------------------------------


@frozen
class FrameReceived:
    """One whole text message came in on a connection; `data` is its UTF-8 bytes."""

    connection: int
    data: bytes


@frozen
class Activity:
    """Bytes came in on a connection, whether or not they were whole frames: the peer lives."""

    connection: int


@frozen
class TimerExpired:
    """The machine's `next_deadline` may have passed. Too early is no mistake: nothing happens."""


# -- the gateway ------------------------------------------------------------------------------


@frozen(kw_only=True)
class ConnectionOpened:
    """A client's transport is open and upgraded; its handshake frame is still to come.

    `connection` is larger than every one before it. `query` and `headers` (names in lower case)
    are those of the upgrade, read for a token only. `timestamp` is the time in seconds since
    1970, for the presence list; `peer` is the peer's address for the application, and `address`
    what its rates are counted by: the network address without the port, empty where there is none.
    """

    connection: int
    path: str = "/"
    query: Mapping[str, str] = field(factory=dict, repr=False)
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    peer: str = ""
    address: str = ""
    timestamp: float = 0.0


@frozen
class Drained:
    """The transport took `size` more payload bytes of what was sent on a connection.

    `size` is at least 1 and at most what `SendFrames` gave and no `Drained` returned yet.
    """

    connection: int
    size: int


@frozen
class ConnectionClosed:
    """A connection's transport is gone."""

    connection: int


@frozen(kw_only=True)
class Accept:
    """The application accepts a handshake (`JoinRequested`) or fresh credentials (`AuthRequested`).

    `principal` is who the client is, opaque to the gateway: a session belongs to the principal
    that opened it. None where there is no authentication: the session id alone proves ownership.
    `expires_in` is how long the credentials are good, in seconds, more than 0; then the connection
    is closed with `auth_expired`, unless another `Accept` came before that. None: for ever.

    On a living connection it may come unasked. The client is told nothing; another principal than
    the session's closes the connection with `auth_unauthorized`.

    Spec: Credentials.
    """

    connection: int
    principal: str | None = None
    expires_in: float | None = None


@frozen(kw_only=True)
class Reject:
    """The application refuses a handshake or fresh credentials, or ends a living connection.

    `code` is one that closes a connection. `message` is for people and must tell no secret.
    `retry_after_seconds` is the least a client that may retry waits. On a living connection it may
    come unasked, for example with `auth_expired`.

    Spec: Errors; Credentials.
    """

    connection: int
    code: ErrorCode
    message: str = ""
    retry_after_seconds: float | None = None


@frozen(kw_only=True)
class Publish:
    """The application publishes an event in a session; it gets the session's next seq."""

    session_id: str
    event: Event


@frozen(kw_only=True)
class Complete:
    """The application is done with a message that `MessageReceived` gave it."""

    session_id: str
    message_id: int


@frozen(kw_only=True)
class SetHealth:
    """The gateway's health, for every welcome from now on and as a push to who is connected.

    Plain JSON data, at most 2048 bytes. Spec: Health.
    """

    health: Mapping[str, Any]


@frozen(kw_only=True)
class ChangeEpoch:
    """The application can no longer prove that a session's numbering went on unbroken.

    The session begins a new epoch; whoever follows it gets a snapshot.
    """

    session_id: str


@frozen(kw_only=True)
class SnapshotReady:
    """The application gives a session's state as of `cursor`, a seq of this `epoch`.

    Only for a gateway whose `application_snapshots` are on: in answer to `SnapshotNeeded`, or
    unasked, for those who will need one. `state` is plain JSON data, of at most `max_snapshot`
    bytes, with everything up to `cursor` folded in and nothing later.

    Spec: Snapshots.
    """

    session_id: str
    epoch: str
    cursor: int
    state: Mapping[str, Any] = field(repr=False)


@frozen(kw_only=True)
class CloseSession:
    """The application ends a session: nothing more is published in it, no message is taken.

    Whoever follows it gets what is left and is closed with `session_closed`; its owner may come
    for the rest for `resume_window` seconds from now.
    """

    session_id: str


@frozen(kw_only=True)
class Drain:
    """Send every client away, and take no new one; this gateway is about to stop.

    Clients come back, to whatever takes its place, after `after` seconds and a random part of
    `spread` more; `grace` seconds from now those that have not left are closed. All three are 0
    to 1e9. `reason` is for people and short: it fits a frame of 1024 bytes.
    """

    reason: str = "restart"
    after: float = 0.0
    spread: float = 0.0
    grace: float = 0.0


@frozen(kw_only=True)
class Persisted:
    """The store holds every record of a session up to and including `number`.

    What waited for them goes out. A number that `Persist` never gave is the caller's mistake; one
    that was confirmed before, or that of a session that is gone, changes nothing.
    """

    session_id: str
    number: int


GatewayInput = (
    ConnectionOpened
    | FrameReceived
    | Activity
    | Drained
    | ConnectionClosed
    | Accept
    | Reject
    | Publish
    | Complete
    | SetHealth
    | ChangeEpoch
    | SnapshotReady
    | CloseSession
    | Drain
    | Persisted
    | TimerExpired
)

# -- the client -------------------------------------------------------------------------------


@frozen
class Connect:
    """Open the session and stay with it until `Disconnect` or an error that may not be retried."""


@frozen
class TransportOpened:
    """The transport that `OpenTransport` asked for is open and upgraded."""

    connection: int


@frozen(kw_only=True)
class TransportClosed:
    """A transport is gone, or could not be opened.

    `code` and `reason` are those of a close frame that was *received*; None where none was.
    `http_status` is the answer that came in place of the upgrade, with its `Retry-After` in
    seconds.
    """

    connection: int
    code: int | None = None
    reason: str = ""
    http_status: int | None = None
    retry_after_seconds: float | None = None


@frozen(kw_only=True)
class Send:
    """Send a message, now or when there is a session again.

    Without a `request_id` the client makes one: every message of this client can be repeated
    safely.
    """

    content: str | Mapping[str, Any]
    request_id: str | None = None
    reply_to: str | None = None
    metadata: Mapping[str, Any] | None = None


@frozen(kw_only=True)
class Abort:
    """Stop the run `run_id`, or whatever runs; where there is no session now, it comes too late."""

    run_id: str | None = None
    request_id: str | None = None


@frozen
class Taken:
    """The application has taken everything that was handed on up to and including `seq`.

    Given with the cursor of every resume token that was handed on: while the application is
    behind, the server's silence is not counted against it.
    """

    seq: int


@frozen
class Resync:
    """Ask for a snapshot, now."""


@frozen
class SetToken:
    """Fresh credentials, for the next handshake and, in version 2, for the present connection."""

    token: str | None = field(repr=False)


@frozen
class Disconnect:
    """End the client's part, in whatever state it is; never an error."""


ClientInput = (
    Connect
    | TransportOpened
    | FrameReceived
    | Activity
    | TransportClosed
    | Send
    | Abort
    | Taken
    | Resync
    | SetToken
    | Disconnect
    | TimerExpired
)
