"""The application that checks put behind a server's driver."""

from collections.abc import Callable

from attrs import define, field

from gatewayproto.actions import GatewayEvent, JoinRequested, MessageReceived
from gatewayproto.inputs import Accept, Publish, Reject


class HookError(Exception):
    """What a check's application raises on purpose. The driver is to contain it."""


def accept(join: JoinRequested) -> Accept | Reject:
    """Accept everybody."""
    return Accept(connection=join.connection)


@define
class Backend:
    """Call its three hooks where the driver calls its application's, and carry out what they give.

    - `join`, for every `JoinRequested`: gives `Accept` or `Reject`, for the machine.
    - `message`, for every `MessageReceived`: gives what is to be published from inside the hook;
      after that the message is done.
    - `event`, for everything that the machine emits, in order: gives what is to be published from
      inside the hook.

    Any of them may raise `HookError`.
    """

    on_join: Callable[[JoinRequested], Accept | Reject] = accept
    on_message: Callable[[MessageReceived], tuple[Publish, ...]] = lambda _: ()
    on_event: Callable[[GatewayEvent], tuple[Publish, ...]] = lambda _: ()
    joins: list[JoinRequested] = field(factory=list)
    """What `join` was called with."""
    messages: list[MessageReceived] = field(factory=list)
    """What `message` was called with."""
    told: list[GatewayEvent] = field(factory=list)
    """What `event` was called with."""

    def join(self, join: JoinRequested) -> Accept | Reject:
        """Decide on a handshake. A hook that raises rejects it with `internal_error`."""
        self.joins.append(join)
        return self.on_join(join)

    def message(self, message: MessageReceived) -> tuple[Publish, ...]:
        """Work on a message. One at which the hook raises is done, too."""
        self.messages.append(message)
        return self.on_message(message)

    def event(self, event: GatewayEvent) -> tuple[Publish, ...]:
        """Take note of an event. A hook that raises changes nothing."""
        self.told.append(event)
        return self.on_event(event)
