"""One client of a world: its machine, its links, and what its application knows.

Spec: the verification page, "One world".
"""

from attrs import define, field

from gatewayproto.actions import (
    CaughtUp,
    ClientEvent,
    EventReceived,
    Joined,
    MessageAccepted,
    MessageRefused,
    OutcomeUnknown,
    ResumeToken,
    Skipped,
    SnapshotReceived,
    StateChanged,
    Stopped,
    TokenNeeded,
)
from gatewayproto.config import ClientConfig
from gatewayproto.testing.machines import ClientSlot
from gatewayproto.testing.network import Link


@define(eq=False)
class Peer:
    """One client and what its application knows.

    - `token`: the newest resume token that was handed on, which an application would store.
    - `untaken`: the newest cursor handed on and not yet given back as `Taken`.
    - `open_requests`: what has not come to its end, by `request_id`.
    - `needs_token`: it waits for `SetToken`. `stopped`: its part is over. `dead`: so is it.
    """

    name: str
    config: ClientConfig
    slot: ClientSlot
    links: dict[int, Link] = field(factory=dict)
    deadline: float | None = None
    token: ResumeToken | None = None
    untaken: int | None = None
    sent: int = 0
    open_requests: dict[str, str] = field(factory=dict)
    ended_requests: dict[str, str] = field(factory=dict)
    question: str | None = None
    state: str = ""
    caught_up: bool = False
    needs_token: bool = False
    stopped: bool = False
    dead: bool = False

    def copy(self, now: float) -> "Peer":
        """The same client in another world."""
        return Peer(
            self.name,
            self.config,
            self.slot.copy(now),
            {number: link.copy() for number, link in self.links.items()},
            self.deadline,
            self.token,
            self.untaken,
            self.sent,
            self.open_requests.copy(),
            self.ended_requests.copy(),
            self.question,
            self.state,
            self.caught_up,
            self.needs_token,
            self.stopped,
            self.dead,
        )

    def note(self, event: ClientEvent) -> None:
        """Learn what the machine tells the application."""
        match event:
            case Joined() | EventReceived() | Skipped() | SnapshotReceived():
                self.token = event.token
                self.untaken = event.token.cursor
                if isinstance(event, EventReceived) and event.event.expects_reply:
                    self.question = event.event.event_id
            case MessageAccepted() | MessageRefused() | OutcomeUnknown():
                content = self.open_requests.pop(event.request_id, None)
                if content is not None:
                    self.ended_requests[event.request_id] = content
            case StateChanged():
                self.state = event.state
                self.caught_up = False
            case CaughtUp():
                self.caught_up = True
            case TokenNeeded():
                self.needs_token = True
            case Stopped():
                self.stopped = True
            case _:
                pass
