"""Where a client stands, what can happen to it, and what it knows of its one connection.

Spec: The client's side.
"""

from enum import StrEnum
from typing import Final

from attrs import define, field, frozen

from gatewayproto._snapshot_parts import SnapshotParts
from gatewayproto.actions import ResumeToken
from gatewayproto.config import ClientConfig
from gatewayproto.frames import Policy


class ClientState(StrEnum):
    """Where a client stands.

    - `connecting`: a transport is asked for; `handshaking`: `hello` is sent.
    - `rejoining`: `join` is sent on a connection whose welcome is not believed (version 1), or
      that is to give a snapshot (version 1 has no other way to ask).
    - `rejected`: with a code that is unknown, so that the close decides.
    - `live`: events follow each other; `recovering`: `resume` or `resync` is sent;
      `resyncing`: welcomed, and nothing counts before the snapshot.
    - `waiting`: between two attempts; `token needed`: until the application gives a new one.
    """

    IDLE = "idle"
    CONNECTING = "connecting"
    HANDSHAKING = "handshaking"
    REJOINING = "rejoining"
    REJECTED = "rejected"
    LIVE = "live"
    RECOVERING = "recovering"
    RESYNCING = "resyncing"
    WAITING = "waiting"
    TOKEN_NEEDED = "token needed"  # noqa: S105 -- a state, not a secret
    STOPPED = "stopped"


class Trigger(StrEnum):
    """What can happen to a client: commands, its transport's life, frames, deadlines."""

    CONNECT = "connect"
    SEND = "send"
    ABORT = "abort"
    TAKEN = "taken"
    RESYNC = "resync"
    SET_TOKEN = "set token"  # noqa: S105 -- a command, not a secret
    DISCONNECT = "disconnect"

    OPENED = "transport opened"
    ACTIVITY = "bytes came in"
    CLOSED = "transport closed"

    WELCOME = "welcome"
    ERROR = "error"
    EVENT = "event"
    SKIP = "skip"
    CAUGHT_UP = "caught_up"
    SNAPSHOT = "snapshot"
    ACK = "message_ack"
    NACK = "message_nack"
    PING = "ping"
    PONG = "pong"
    PRESENCE = "presence"
    HEALTH = "health"
    GOING_AWAY = "going_away"
    UNKNOWN = "a frame of another type"
    BAD_FRAME = "no frame, or a field that is off"

    HANDSHAKE_LATE = "no welcome in time"
    RECOVERY_LATE = "no recovery in time"
    SILENCE = "silence of one heartbeat"
    LIVENESS_LATE = "silence of two heartbeats"
    LEAVE_DUE = "time to leave"
    RETRY_DUE = "time to try again"
    REQUEST_LATE = "a message's time is up"


FRAMES_BY_TYPE: Final = (
    Trigger.ERROR,
    Trigger.EVENT,
    Trigger.SKIP,
    Trigger.CAUGHT_UP,
    Trigger.SNAPSHOT,
    Trigger.ACK,
    Trigger.NACK,
    Trigger.PING,
    Trigger.PONG,
    Trigger.PRESENCE,
    Trigger.HEALTH,
    Trigger.GOING_AWAY,
)
"""Frames whose `type` is the value of the trigger."""
FRAMES: Final = (Trigger.WELCOME, *FRAMES_BY_TYPE, Trigger.UNKNOWN, Trigger.BAD_FRAME)
DEADLINES: Final = (
    Trigger.HANDSHAKE_LATE,
    Trigger.RECOVERY_LATE,
    Trigger.SILENCE,
    Trigger.LIVENESS_LATE,
    Trigger.LEAVE_DUE,
    Trigger.RETRY_DUE,
    Trigger.REQUEST_LATE,
)
LINK_DEADLINES: Final = (
    Trigger.HANDSHAKE_LATE,
    Trigger.RECOVERY_LATE,
    Trigger.SILENCE,
    Trigger.LIVENESS_LATE,
    Trigger.LEAVE_DUE,
)
"""The deadlines that are forgotten together with the connection."""
SHORTEST_HEARTBEAT: Final = 0.1
LONGEST_HEARTBEAT: Final = 86_400.0
"""Seconds: what a server states is taken for the nearer of the two where it lies beyond them."""


@frozen(kw_only=True)
class Limits:
    """What the server asks of this client, or what counts until it has said so.

    `max_payload` is in bytes, `heartbeat` and `request_ttl` in seconds.
    """

    max_payload: int
    heartbeat: float
    request_ttl: float
    max_pending: int

    @classmethod
    def of(cls, config: ClientConfig, policy: Policy | None = None) -> "Limits":
        """The welcome's policy within bounds, else the configuration.

        A heartbeat or a time of 0 states none. Of `max_pending_requests` there is one at least:
        a client that may write nothing could never come to the end of a message.
        """
        if policy is None:
            return cls(
                max_payload=config.server_max_payload,
                heartbeat=config.heartbeat,
                request_ttl=config.request_ttl,
                max_pending=config.max_pending_requests,
            )
        return cls(
            max_payload=policy.max_payload,
            heartbeat=_heartbeat(policy) or config.heartbeat,
            request_ttl=policy.request_ttl_ms / 1000 or config.request_ttl,
            max_pending=max(1, policy.max_pending_requests),
        )


def _heartbeat(policy: Policy) -> float:
    """Seconds, neither so few that pings are all there is nor so many that silence never ends."""
    if policy.heartbeat_ms == 0:
        return 0.0
    return min(max(policy.heartbeat_ms / 1000, SHORTEST_HEARTBEAT), LONGEST_HEARTBEAT)


@frozen(kw_only=True)
class Rejection:
    """A rejection whose code says nothing to this client."""

    code: str
    message: str
    next_step: str | None


@define(kw_only=True)
class Link:
    """What a client knows of its one connection; all of it is forgotten with the connection.

    - `version`, `session_id`, `epoch`, `head`, `resync_reason`: as the welcome gave them;
      `has_floor`: it named an `oldest_cursor`.
    - `nonce`, `caught_up_due`: the `caught_up` that is awaited, if one is.
    - `asked_from`: where the client stood when it last asked for what is missing.
    - `asked_snapshot`: its handshake asked for a snapshot; `dropped`: its handshake found local
      state ahead of the server's, so that the next welcome is one to a new start.
    - `new_token`: a token came after the handshake was written; `presented`: when `auth` carried
      it, if it did.
    - `presence_version`, `health_version`: as the server told last; `presence_listed`: the
      application knows the list of that version.
    - `floor`: seconds that the next attempt must wait at least.
    - `leaving`: the same as `going_away` gave it; nothing is written any more.
    - `heard`: when the server last gave a sign of life; `give_up`: when the silence is too long.
    """

    connection: int
    version: int | None = None
    session_id: str = ""
    epoch: str | None = None
    head: int | None = None
    has_floor: bool = True
    resync_reason: str | None = None
    nonce: str | None = None
    caught_up_due: bool = False
    asked_from: ResumeToken | None = None
    asked_snapshot: bool = False
    dropped: bool = False
    new_token: bool = False
    presented: float | None = None
    presence_version: int | None = None
    presence_listed: bool = False
    health_version: int | None = None
    rejection: Rejection | None = None
    floor: float = 0.0
    leaving: float | None = None
    heard: float
    give_up: float
    parts: SnapshotParts = field(factory=SnapshotParts)
