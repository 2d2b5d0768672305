"""The account of one session, kept by an observer: what was published, and what was handed on."""

from attrs import define, field
from gatewayproto_adapter.client_engine import Item

from gatewayproto.actions import EventReceived, Joined, Skipped, SnapshotReceived
from gatewayproto.frames import Event
from tests.adapter.check_application import Publishes


@define
class Account:
    """Checks every item as it is given: nothing invented, twice, out of order or left out.

    `published` is what the gateway was told to publish, by epoch-independent seq; it is shared by
    all who follow the session.
    """

    published: dict[int, Event]
    cursor: int = 0
    delivered: int = 0
    skipped: int = 0
    covered: int = 0
    snapshots: list[str] = field(factory=list)
    joins: int = 0

    def take(self, item: Item) -> None:
        """Check an item and move the cursor."""
        match item:
            case Joined():
                assert not item.resumed
                self.joins += 1
                self.cursor = 0
            case EventReceived(seq=seq, event=event):
                assert seq == self.cursor + 1, f"{seq} after {self.cursor}"
                assert event == self.published[seq]
                self.delivered += 1
                self.cursor = seq
            case Skipped(first=first, last=last):
                assert first <= self.cursor + 1 <= last
                assert all(self.published[seq].transient for seq in range(first, last + 1))
                self.skipped += last - self.cursor
                self.cursor = last
            case SnapshotReceived(cursor=cursor, reason=reason):
                self.covered += max(0, cursor - self.cursor)
                self.snapshots.append(reason)
                self.cursor = cursor
        assert item.token.cursor == self.cursor


@define
class Publisher:
    """Publishes in a session, and remembers what."""

    session_id: str
    published: dict[int, Event] = field(factory=dict)
    runs: int = 0

    def note(self, server: Publishes, size: int = 20) -> None:
        """One durable event."""
        self._publish(server, type="note", data={"text": "n" * size})

    def run(self, server: Publishes, tokens: int) -> None:
        """A streamed answer: transient tokens and the final that supersedes them."""
        self.runs += 1
        run_id = f"run-{self.runs}"
        for n in range(tokens):
            self._publish(
                server, type="token", data={"text": f"t{n} "}, run_id=run_id, transient=True
            )
        text = "".join(f"t{n} " for n in range(tokens))
        self._publish(server, type="response", data={"text": text}, run_id=run_id, final=True)

    @property
    def head(self) -> int:
        """The newest seq."""
        return len(self.published)

    def _publish(self, server: Publishes, **fields: object) -> None:
        number = self.head + 1
        event = Event(event_id=f"e{number}", timestamp=float(number), **fields)  # type: ignore[arg-type] # by name
        assert server.publish(self.session_id, event) == number
        self.published[number] = event
