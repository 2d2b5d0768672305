"""What a client's calls raise, each with the event that says why."""

from gatewayproto.actions import MessageRefused, OutcomeUnknown, Stopped


class ClientStoppedError(Exception):
    """The client has stopped and will not come back by itself.

    `code` is the protocol's code of what ended it, or `disconnected` where a call came after an
    ordinary end.

    Spec: The client's side; Errors.
    """

    def __init__(self, event: Stopped) -> None:
        super().__init__(_words(event))
        self.event = event

    @property
    def code(self) -> str:
        """Why, for programs."""
        return self.event.code

    @property
    def message(self) -> str:
        """Why, for people; the server's own words where it sent any."""
        return self.event.message


class MessageRefusedError(Exception):
    """The message is not in the session's inbox. Spec: Requests."""

    def __init__(self, event: MessageRefused) -> None:
        super().__init__(_words(event))
        self.event = event

    @property
    def code(self) -> str:
        """Why, for programs."""
        return self.event.code


class OutcomeUnknownError(Exception):
    """The message was sent, and whether it was taken can no longer be learned. Spec: Requests."""

    def __init__(self, event: OutcomeUnknown) -> None:
        super().__init__(event.request_id)
        self.event = event


def _words(event: Stopped | MessageRefused) -> str:
    return f"{event.code}: {event.message}" if event.message else event.code
