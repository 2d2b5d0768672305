"""What the program behind a gateway provides, and what it is given to publish with."""

import time
import uuid
from typing import Final, Protocol

from attrs import field, frozen, validators

from gatewayproto.actions import (
    AbortRequested,
    GatewayEvent,
    JoinRequested,
    MessageReceived,
    SnapshotNeeded,
)
from gatewayproto.errors import ERRORS, ErrorCode
from gatewayproto.frames import Event, Object

_LONGEST: Final = 1e9
"""Seconds: the longest time that the machine takes for one."""


class Rejected(Exception):  # noqa: N818 - a decision that `authenticate` may take, no failure
    """Raised by `Application.authenticate` and `reauthenticate` to refuse a client.

    `code` is one that closes a connection. `message` is for people and must tell no secret.
    `retry_after_seconds` is the least that a client which may come back waits.

    Raises:
        ValueError: The code only answers a frame and closes nothing.

    Spec: Errors.
    """

    def __init__(
        self, code: ErrorCode, message: str = "", *, retry_after_seconds: float | None = None
    ) -> None:
        if ERRORS[code].close_code is None:
            raise ValueError(f"{code} does not close a connection")
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.retry_after_seconds = retry_after_seconds


@frozen
class Grant:
    """What credentials are good for.

    `principal` is who the client is, None where there is no authentication. `expires_in` is how
    long they are good, in seconds, more than 0 and at most 1e9; then the connection is closed with
    `auth_expired`, unless fresh ones were accepted before. None: for ever.

    Raises:
        ValueError: `expires_in` is no such time.

    Spec: Credentials.
    """

    principal: str | None
    expires_in: float | None = field(
        default=None,
        validator=validators.optional(validators.and_(validators.gt(0), validators.le(_LONGEST))),
    )


@frozen
class BuiltSnapshot:
    """A session's state as the application built it, with everything up to `cursor` folded in.

    And nothing later. `state` is plain JSON data of at most `GatewayConfig.max_snapshot` bytes.

    Spec: Snapshots.
    """

    cursor: int
    state: Object = field(repr=False)


class SessionCommands(Protocol):
    """What a session's handle asks of its server; see there."""

    def publish(self, session_id: str, event: Event, /) -> int | None:
        """Publish an event."""
        ...

    def give_snapshot(self, session_id: str, epoch: str, built: BuiltSnapshot, /) -> bool:
        """Give a session's state."""
        ...


@frozen
class SessionHandle:
    """One session, to publish in. It stays valid whether or not anybody is connected."""

    session_id: str = field(repr=False)
    _server: SessionCommands = field(repr=False)

    def publish(
        self,
        type: str,  # noqa: A002 - the field's name in the protocol
        data: Object,
        *,
        run_id: str | None = None,
        request_id: str | None = None,
        transient: bool = False,
        final: bool = False,
        expects_reply: bool = False,
        source: str | None = None,
        target: str | None = None,
        event_id: str | None = None,
        timestamp: float | None = None,
    ) -> int | None:
        """Publish an event made of these fields; for the rest as `publish_event`.

        Without an `event_id` it gets a random one, without a `timestamp` (seconds since 1970) the
        present.
        """
        return self.publish_event(
            Event(
                type=type,
                data=data,
                event_id=str(uuid.uuid4()) if event_id is None else event_id,
                timestamp=time.time() if timestamp is None else timestamp,
                source=source,
                target=target,
                run_id=run_id,
                request_id=request_id,
                transient=transient or None,
                final=final or None,
                expects_reply=expects_reply or None,
            )
        )

    def publish_event(self, event: Event) -> int | None:
        """Publish an event; returns its seq, or None where the session is gone.

        Raises:
            LocalProtocolError: The event cannot be sent to every client; nothing was published.

        Spec: Terms; Framing.
        """
        return self._server.publish(self.session_id, event)

    def give_snapshot(self, cursor: int, state: Object, *, epoch: str) -> bool:
        """Give the session's state unasked, for those who will need one; False if it is gone.

        For a gateway with `application_snapshots`. `epoch` is the one that `cursor` is a seq of;
        where the session has begun another one since, nothing happens.

        Raises:
            LocalProtocolError: The session has not reached `cursor`, the state cannot be sent, or
                the snapshots come from a projection; nothing has changed.

        Spec: Snapshots.
        """
        return self._server.give_snapshot(self.session_id, epoch, BuiltSnapshot(cursor, state))


class Application:
    """The program behind a gateway. Subclass it and override what you need.

    All hooks run in the event loop that `serve` was entered in.
    """

    async def authenticate(self, join: JoinRequested) -> str | Grant | None:  # noqa: ARG002
        """Decide on a handshake: return the client's principal, or raise `Rejected`.

        A session belongs to the principal that opened it; None where there is no authentication.
        Return a `Grant` where the credentials expire. Any other exception is logged, and rejects
        the client with `internal_error`. Cancelled when the client leaves before the decision.
        Accepts everybody unless overridden.

        Spec: The welcome; Credentials.
        """
        return None

    async def reauthenticate(self, join: JoinRequested) -> str | Grant | None:
        """Decide on fresh credentials of a client that is connected, as `authenticate` does.

        `join` is its handshake as if it came now, with the new token. One at a time for each
        connection; the client gets its events meanwhile. What is raised closes the connection.
        Asks `authenticate` unless overridden.

        Spec: Credentials.
        """
        return await self.authenticate(join)

    async def on_message(self, session: SessionHandle, message: MessageReceived) -> None:
        """Work on a message.

        The messages of one session come one after the other, those of different sessions at the
        same time. Whether anybody is connected makes no difference. A message is done when this
        returns or raises; what it raises is logged. Cancelled when the server closes. The client
        was told that the message is taken: one that was not done when the server closed is in the
        saved machine, and comes again to a server that is made with it.

        Spec: Requests.
        """

    def on_abort(self, session: SessionHandle, abort: AbortRequested) -> None:
        """Stop a run: the one that is named, the one that answers a request, or what runs.

        Must not block; it may cancel what it finds, and publish. An abort may come more than once,
        and too late. Nobody waits for an answer: that a run has ended is told by its final event.
        What it raises is logged, and changes nothing.

        Spec: Client to server.
        """

    async def build_snapshot(
        self, session: SessionHandle, needed: SnapshotNeeded
    ) -> BuiltSnapshot:
        """Build a session's state, as of `needed.cursor` or later, for everybody who needs it.

        Only for a gateway with `application_snapshots`, and then it must be overridden. One at a
        time for each session; what is asked meanwhile is the next one. What it raises is logged
        and answered by nothing: whoever waits is closed with `internal_error` once
        `snapshot_timeout` is over, and comes back later. Cancelled when the server closes.

        Spec: Snapshots.
        """
        raise NotImplementedError

    def on_event(self, event: GatewayEvent) -> None:
        """Observe everything that the gateway tells, in order. It may publish, but must not block.

        What it raises is logged, and changes nothing.
        """
