"""Walks through one client's steps: each monitor is told every frame, act and event in order.

Monitors are told first, then the book. A client's server may say anything: it is judged by what it
was sent and what it made of that.

Spec: The client's side.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from attrs import define, field

from gatewayproto.actions import (
    CaughtUp,
    ClientEvent,
    CloseTransport,
    Emit,
    EventReceived,
    Joined,
    OpenTransport,
    ResumeToken,
    SendFrame,
    Skipped,
    SnapshotReceived,
    Stopped,
)
from gatewayproto.config import ClientConfig
from gatewayproto.inputs import Activity, FrameReceived, Taken, TransportClosed
from gatewayproto.testing._shapes import POLICY
from gatewayproto.testing.monitors.base import Monitor
from gatewayproto.testing.monitors.gateway import overriding
from gatewayproto.testing.monitors.wire import WELCOMES, Frame, decode, read
from gatewayproto.testing.steps import Step, Violation

_SHORTEST_HEARTBEAT: Final = 0.1
_LONGEST_HEARTBEAT: Final = 86_400.0


@define(eq=False)
class Transport:
    """The present connection of a client.

    - `hellos`: the handshakes that it wrote. `welcome`: the latest welcome that it believed.
    - `version`, `epoch`: as that says. `live`: whether it believes one now.
    - `awaits`: a snapshot was announced and has not come; `recovers`: what was asked for has not.
    - `heard`: when bytes last came; `progress` when something that was waited for last came.
    """

    number: int
    opened: float
    heard: float
    progress: float
    hellos: list[Frame] = field(factory=list)
    welcome: Frame = field(factory=dict)
    version: int = 0
    epoch: str | None = None
    live: bool = False
    awaits: bool = False
    recovers: bool = False


@define(eq=False)
class ClientBook:
    """What is known of a client: its position, its connection, what the server asks of it.

    `incoming` is the frame of the present step if it came on the present connection and can be
    read, `None` otherwise. `taken` is how far its application has come.
    """

    name: str
    config: ClientConfig
    token: ResumeToken | None
    taken: int = 0
    link: Transport | None = None
    opened: int = 0
    deadline: float | None = None
    stopped: bool = False
    incoming: Frame | None = None
    heartbeat: float = 0.0
    request_ttl: float = 0.0
    max_pending: int = 0
    max_payload: int = 0

    @property
    def cursor(self) -> int:
        """Everything up to here is accounted for."""
        return 0 if self.token is None else self.token.cursor

    @property
    def epoch(self) -> str | None:
        """The epoch of the cursor, wherever it is named."""
        if self.token is None:
            return None
        return self.token.epoch or self.token.session_id.partition(".")[2] or None

    @property
    def session_id(self) -> str | None:
        """The bare id of the session that it holds."""
        return None if self.token is None else self.token.session_id.partition(".")[0]


class ClientMonitor(Monitor):
    """Judges a client by its own steps alone; its server may send anything, lies too."""

    def __init__(self, witnessed: Counter[str], book: ClientBook) -> None:
        super().__init__(witnessed)
        self.book = book
        self.config: ClientConfig = book.config

    def wrote(self, step: Step, link: Transport, frame: Frame) -> None:
        """A frame was written on the present connection."""

    def told(self, step: Step, event: ClientEvent) -> None:
        """The application was told something."""

    def opening(self, step: Step, action: OpenTransport) -> None:
        """A connection is asked for."""

    def closing(self, step: Step, action: CloseTransport) -> None:
        """The present connection is closed by the client."""


class ClientWatch:
    """The monitors of one client, and the book that they share."""

    def __init__(
        self,
        name: str,
        config: ClientConfig,
        resume: ResumeToken | None,
        kinds: Iterable[Callable[[Counter[str], ClientBook], ClientMonitor]],
        witnessed: Counter[str],
    ) -> None:
        self.config = config
        book = self.book = ClientBook(name, config, resume)
        book.taken = book.cursor
        book.heartbeat, book.request_ttl = config.heartbeat, config.request_ttl
        book.max_pending, book.max_payload = config.max_pending_requests, config.server_max_payload
        self.monitors = [kind(witnessed, self.book) for kind in kinds]
        self._begin = overriding(self.monitors, Monitor, "begin")
        self._end = overriding(self.monitors, Monitor, "end")
        self._wrote = overriding(self.monitors, ClientMonitor, "wrote")
        self._told = overriding(self.monitors, ClientMonitor, "told")
        self._opening = overriding(self.monitors, ClientMonitor, "opening")
        self._closing = overriding(self.monitors, ClientMonitor, "closing")

    def observe(self, step: Step) -> None:
        """Judge one step of the client."""
        self.book.incoming = self._incoming(step)
        for begin in self._begin:
            begin(step)
        self._take(step)
        self._act(step)
        for end in self._end:
            end(step)
        self.book.deadline = step.deadline

    def _act(self, step: Step) -> None:
        for action in step.actions:
            match action:
                case SendFrame():
                    self._send(step, action)
                case OpenTransport():
                    self._open(step, action)
                case CloseTransport(connection=number):
                    self._present(number, "a close")
                    for closing in self._closing:
                        closing(step, action)
                    self.book.link = None
                case Emit(event=event):
                    for told in self._told:
                        told(step, event)
                    self._note(step, event)
                case _:
                    raise Violation("P13", f"{action} is no action of a client")

    def _send(self, step: Step, action: SendFrame) -> None:
        link, frame = self._present(action.connection, "a frame"), decode(action.frame)
        for wrote in self._wrote:
            wrote(step, link, frame)
        if frame["type"] in {"hello", "join"}:
            link.hellos.append(frame)
            link.live = link.recovers = False
        elif frame["type"] in {"resume", "resync"}:
            link.recovers, link.progress = True, step.now

    def _open(self, step: Step, action: OpenTransport) -> None:
        number, book = action.connection, self.book
        if book.link is not None or number != book.opened + 1:
            raise Violation("P7", f"{book.name} opens {number}, and {book.link} is there")
        for opening in self._opening:
            opening(step, action)
        book.opened = number
        book.link = Transport(number, step.now, step.now, step.now)

    def finish(self) -> None:
        """The end of the run."""
        for monitor in self.monitors:
            monitor.finish()

    def _present(self, number: int, what: str) -> Transport:
        link = self.book.link
        if link is None or link.number != number:
            raise Violation("P7", f"{self.book.name}: {what} on connection {number}, which is over")
        return link

    def _incoming(self, step: Step) -> Frame | None:
        link, input_ = self.book.link, step.input
        if link is None or not isinstance(input_, FrameReceived):
            return None
        too_large = len(input_.data) > self.book.config.max_payload
        return None if too_large or input_.connection != link.number else read(input_.data)

    def _take(self, step: Step) -> None:
        book, input_ = self.book, step.input
        match input_:
            case FrameReceived(connection=number) | Activity(connection=number):
                if book.link is not None and book.link.number == number:
                    book.link.heard = step.now
                    if book.incoming is not None and book.incoming["type"] == "snapshot":
                        book.link.progress = step.now
            case TransportClosed(connection=number):
                if book.link is not None and book.link.number == number:
                    book.link = None
            case Taken(seq=seq):
                if book.taken < seq <= book.cursor:
                    book.taken = seq
                    if seq == book.cursor and book.link is not None and book.link.live:
                        book.link.heard = step.now
            case _:
                pass

    def _note(self, step: Step, event: object) -> None:
        book = self.book
        match event:
            case Joined():
                self._attach(step, event)
            case EventReceived() | Skipped() | SnapshotReceived():
                if isinstance(event, SnapshotReceived):
                    same = book.token is not None and book.token.epoch == event.epoch
                    book.taken = min(book.taken, max(0, event.cursor - 1)) if same else 0
                book.token = event.token
                if book.link is not None:
                    book.link.progress = step.now
                    if isinstance(event, SnapshotReceived):
                        book.link.awaits, book.link.epoch = False, event.epoch
                        book.link.recovers = False
            case CaughtUp() if book.link is not None:
                book.link.recovers = False
            case Stopped():
                book.stopped, book.link = True, None
            case _:
                pass

    def _attach(self, step: Step, event: Joined) -> None:
        book = self.book
        book.token = event.token
        if not event.resumed:
            book.taken = 0
        link = book.link
        if link is None:
            return
        welcome = book.incoming
        if welcome is not None and welcome["type"] in WELCOMES:
            link.welcome = welcome
            self._heed(welcome.get("policy"))
        link.version, link.epoch, link.live = event.protocol_version, event.epoch, True
        link.awaits = event.resumed and event.resync_required
        link.heard = link.progress = step.now

    def _heed(self, policy: object) -> None:
        """What the server asks of its clients, within bounds."""
        book, config = self.book, self.book.config
        book.heartbeat, book.request_ttl = config.heartbeat, config.request_ttl
        book.max_pending, book.max_payload = config.max_pending_requests, config.server_max_payload
        if not isinstance(policy, dict) or not POLICY(policy):
            return
        if policy["heartbeat_ms"] > 0:
            seconds = policy["heartbeat_ms"] / 1000
            book.heartbeat = min(max(seconds, _SHORTEST_HEARTBEAT), _LONGEST_HEARTBEAT)
        book.request_ttl = policy["request_ttl_ms"] / 1000 or config.request_ttl
        book.max_pending = max(1, policy["max_pending_requests"])
        book.max_payload = policy["max_payload"]
