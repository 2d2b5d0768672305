"""What stands behind the gateway of a world: who is let in, and what answers messages.

An application is told every event and has jobs: inputs that it would give next. When each is done
is for the world to choose, so that every order is tried. To fuzz an application of your own, give
the world one that wraps it.

Spec: the how-to "Fuzz an application".
"""

from collections.abc import Sequence
from typing import Protocol, Self

from attrs import define, field

from gatewayproto.actions import CommandDropped, GatewayEvent, JoinRequested, MessageReceived
from gatewayproto.errors import ErrorCode
from gatewayproto.frames import Event
from gatewayproto.inputs import Accept, Complete, GatewayInput, Publish, Reject

Job = tuple[GatewayInput, ...]
"""Inputs for the gateway, given one after the other with nothing between."""


class Application(Protocol):
    """What a world asks of the application on its gateway."""

    def note(self, event: GatewayEvent, now: float) -> None:
        """Be told what the gateway emitted at `now`, in seconds."""
        ...

    def jobs(self) -> Sequence[Job]:
        """What it would do now; each, in any order, may be the next that is done."""
        ...

    def refusals(self) -> Sequence[Job]:
        """What it could do in place of its jobs: refuse a handshake."""
        ...

    def do(self, job: Job) -> None:
        """The inputs of this job are given now: forget it."""
        ...

    def restart(self, pending: Sequence[tuple[float, MessageReceived]]) -> None:
        """The process died: forget everything but the messages still pending, each with `now`."""
        ...

    def copy(self) -> Self:
        """The same application in another world."""
        ...


@define(eq=False)
class Echo:
    """Accepts whoever comes, as the principal that the token names, and answers every message.

    An answer is a durable event with the message's text, and then the message is complete.
    """

    joins: dict[int, JoinRequested] = field(factory=dict)
    messages: list[tuple[float, MessageReceived]] = field(factory=list)

    def note(self, event: GatewayEvent, now: float) -> None:
        """Be told what the gateway emitted."""
        match event:
            case JoinRequested():
                self.joins[event.connection] = event
            case MessageReceived():
                self.messages.append((now, event))
            case CommandDropped(command="accept", target=int() as connection):
                self.joins.pop(connection, None)
            case _:
                pass

    def jobs(self) -> Sequence[Job]:
        """Accept each handshake, answer the oldest message."""
        accepts: list[Job] = [
            (Accept(connection=join.connection, principal=join.token),)
            for join in self.joins.values()
        ]
        return accepts + [_answer(*message) for message in self.messages[:1]]

    def refusals(self) -> Sequence[Job]:
        """Refuse each handshake: too much to do, or credentials that are too old."""
        return [
            (Reject(connection=number, code=code, retry_after_seconds=after),)
            for number in self.joins
            for code, after in ((ErrorCode.RATE_LIMITED, 1.0), (ErrorCode.AUTH_EXPIRED, None))
        ]

    def do(self, job: Job) -> None:
        """Forget it."""
        match job[-1]:
            case Accept(connection=connection) | Reject(connection=connection):
                del self.joins[connection]
            case Complete():
                self.messages.pop(0)
            case _:
                pass

    def restart(self, pending: Sequence[tuple[float, MessageReceived]]) -> None:
        """Forget everything but the messages still pending."""
        self.joins.clear()
        self.messages = list(pending)

    def copy(self) -> "Echo":
        """The same application in another world."""
        return Echo(self.joins.copy(), self.messages.copy())


def _answer(now: float, message: MessageReceived) -> Job:
    content = message.content
    data = {"text": content} if isinstance(content, str) else dict(content)
    if message.reply_to is not None:
        data["reply_to"] = message.reply_to
    event = Event(
        type="response",
        data=data,
        event_id=f"a{message.message_id}",
        timestamp=now,
        request_id=message.request_id,
    )
    return (
        Publish(session_id=message.session_id, event=event),
        Complete(session_id=message.session_id, message_id=message.message_id),
    )
