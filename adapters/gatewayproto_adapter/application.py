"""What the program behind a gateway provides, and what it is given to publish with."""

import time
import uuid
from collections.abc import Callable

from attrs import field, frozen

from gatewayproto.actions import GatewayEvent, JoinRequested, MessageReceived
from gatewayproto.errors import ERRORS, ErrorCode
from gatewayproto.frames import Event, Object


class Rejected(Exception):  # noqa: N818 - a decision that `authenticate` may take, no failure
    """Raised by `Application.authenticate` to refuse a client.

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
class SessionHandle:
    """One session, to publish in. It stays valid whether or not anybody is connected."""

    session_id: str = field(repr=False)
    _publish: Callable[[str, Event], int | None] = field(repr=False)

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
        return self._publish(self.session_id, event)


class Application:
    """The program behind a gateway. Subclass it and override what you need.

    All hooks run in the event loop that `serve` was entered in.
    """

    async def authenticate(self, join: JoinRequested) -> str | None:  # noqa: ARG002
        """Decide on a handshake: return the client's principal, or raise `Rejected`.

        A session belongs to the principal that opened it; None where there is no authentication.
        Any other exception is logged, and rejects the client with `internal_error`. Cancelled
        when the client leaves before the decision. Accepts everybody unless overridden.

        Spec: The welcome.
        """
        return None

    async def on_message(self, session: SessionHandle, message: MessageReceived) -> None:
        """Work on a message.

        The messages of one session come one after the other, those of different sessions at the
        same time. Whether anybody is connected makes no difference. A message is done when this
        returns or raises; what it raises is logged. Cancelled when the server closes. The client
        was told that the message is taken: one that was not done when the server closed is in the
        saved machine, and comes again to a server that is made with it.

        Spec: Requests.
        """

    def on_event(self, event: GatewayEvent) -> None:
        """Observe everything that the gateway tells, in order. It may publish, but must not block.

        What it raises is logged, and changes nothing.
        """
