"""What an application tells its gateway, whenever it likes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from gatewayproto.actions import CommandDropped, Emit, GatewayAction, Published
from gatewayproto.errors import ErrorCode
from gatewayproto.frames import Event
from gatewayproto.inputs import (
    Accept,
    ChangeEpoch,
    CloseSession,
    GatewayInput,
    Publish,
    Reject,
    SetHealth,
    SnapshotReady,
)
from gatewayproto_adapter.application import BuiltSnapshot, Grant, SessionHandle


class Commands(ABC):
    """The commands of a server.

    Those for a session work until the machine is saved, also after `close`: what they change is in
    the saved state. A server with a store is an exception: once it has closed, or its store has
    failed, they raise `RuntimeError`, because nothing could be stored. So they all do before the
    server is entered.
    """

    def session(self, session_id: str) -> SessionHandle:
        """A handle to publish in a session from anywhere."""
        return SessionHandle(session_id, self)

    def publish(self, session_id: str, event: Event) -> int | None:
        """Publish an event; returns its seq, or None where the session is gone or closed.

        Raises:
            LocalProtocolError: The event cannot be sent to every client, or too many events wait to
                be stored; nothing was published.

        Spec: Terms; Framing.
        """
        for action in self._command(Publish(session_id=session_id, event=event)):
            match action:
                case Emit(event=Published(seq=seq)):
                    return seq
                case _:
                    pass
        return None

    def give_snapshot(self, session_id: str, epoch: str, built: BuiltSnapshot) -> bool:
        """Give a session's state unasked; see `SessionHandle.give_snapshot`."""
        return self._took(
            SnapshotReady(
                session_id=session_id, epoch=epoch, cursor=built.cursor, state=built.state
            )
        )

    def close_session(self, session_id: str) -> bool:
        """End a session: whoever follows it gets what is left; False where it is gone.

        Nothing more is published in it, and no message is taken. Its owner may come for the rest
        for `resume_window` seconds from now.

        Spec: Sessions.
        """
        return self._took(CloseSession(session_id=session_id))

    def change_epoch(self, session_id: str) -> bool:
        """Begin a new epoch, so that whoever follows gets a snapshot; False if it is gone.

        For an application that can no longer prove that a session's numbering went on unbroken.

        Raises:
            LocalProtocolError: Too many records wait to be stored; nothing has changed.

        Spec: Terms.
        """
        return self._took(ChangeEpoch(session_id=session_id))

    def end_client(
        self,
        connection: int,
        code: ErrorCode,
        message: str = "",
        *,
        retry_after_seconds: float | None = None,
    ) -> bool:
        """End a client's connection, or refuse its handshake; False where it is gone already.

        `connection` is that of `JoinRequested` and `SubscriberJoined`, `code` one that closes, for
        instance `auth_expired`. `message` is for people and must tell no secret.

        Raises:
            LocalProtocolError: The code closes no connection, or there never was this one.

        Spec: Errors; Credentials.
        """
        return self._took(
            Reject(
                connection=connection,
                code=code,
                message=message,
                retry_after_seconds=retry_after_seconds,
            )
        )

    def renew_client(self, connection: int, grant: Grant) -> bool:
        """Say anew how long a client's credentials are good; False where it is gone.

        The client is told nothing. Another principal than the session's closes the connection with
        `auth_unauthorized`.

        Raises:
            LocalProtocolError: There never was this connection.

        Spec: Credentials.
        """
        return self._took(
            Accept(connection=connection, principal=grant.principal, expires_in=grant.expires_in)
        )

    def set_health(self, health: Mapping[str, Any]) -> None:
        """Set the gateway's health, plain JSON data, for every welcome from now on and as a push.

        Raises:
            LocalProtocolError: It cannot be sent.

        Spec: Health.
        """
        self._command(SetHealth(health=health))

    def _took(self, input_: GatewayInput) -> bool:
        """Whether a command did not come too late."""
        return not any(
            isinstance(action, Emit) and isinstance(action.event, CommandDropped)
            for action in self._command(input_)
        )

    @abstractmethod
    def _command(self, input_: GatewayInput) -> tuple[GatewayAction, ...]:
        """Give the machine an input, and have its actions applied; returns them."""
