"""What only both sides together show: P1, P3 and P5 from end to end, P15 and P16.

A client's application is held against what the gateway published; once faults stop, everybody
must come to rest at the head.

Spec: The promise; Snapshots; The client's side.
"""

from collections import Counter
from collections.abc import Mapping

from attrs import define

from gatewayproto.actions import (
    CaughtUp,
    ClientEvent,
    Emit,
    EventReceived,
    Joined,
    MessageAccepted,
    MessageRefused,
    OutcomeUnknown,
    Skipped,
    SnapshotReceived,
    Stopped,
)
from gatewayproto.config import ClientConfig, GatewayConfig
from gatewayproto.frames import Event
from gatewayproto.inputs import Resync, Send
from gatewayproto.projection import Projection
from gatewayproto.testing.monitors.base import Monitor
from gatewayproto.testing.monitors.book import Book, Life, new_fold
from gatewayproto.testing.monitors.client import ClientBook, ClientWatch
from gatewayproto.testing.reference import Fold, event_v1
from gatewayproto.testing.steps import (
    GATEWAY,
    WORLD,
    ClientAdded,
    FrameGarbled,
    Healed,
    Rested,
    Step,
)


@define(eq=False)
class Application:
    """What stands above one client: its state, as it was handed on.

    `state` is None while nobody can know it: version 1 is not told which events are transient, and
    a position that was made up has no state that belongs to it. `unfinished` is the final that
    must come before the state is that of one who saw everything. `alive` tells whether it was told
    anything since faults stopped, `news` when it last told its application something.
    """

    state: Fold | Projection | None = None
    unfinished: int = 0
    open_requests: int = 0
    wishes: int = 0
    garbled: int = 0
    alive: bool = False
    news: float = 0.0
    caught_up: bool = False


class WorldMonitor(Monitor):
    """Judges both sides of a world. It is told every step, after those who see one side."""

    def __init__(
        self, witnessed: Counter[str], book: Book, clients: Mapping[str, ClientWatch]
    ) -> None:
        super().__init__(witnessed)
        self.book = book
        self.clients = clients


class EndToEnd(WorldMonitor):
    """P15, and P1, P3 and P5 from end to end: what was handed on, against what was published."""

    prop = "P15"
    about = "applications get what was published, converge, and rest at the head once faults stop"
    needs = frozenset(
        {
            "P1 event from end to end",
            "P3 skip from end to end",
            "P5 converged",
            "P5 converged after a snapshot",
            "P15 rested",
        }
    )

    def __init__(
        self, witnessed: Counter[str], book: Book, clients: Mapping[str, ClientWatch]
    ) -> None:
        super().__init__(witnessed, book, clients)
        self._applications: dict[str, Application] = {}
        self._healed: float | None = None

    # -- steps --------------------------------------------------------------------------------

    def end(self, step: Step) -> None:
        """Judge what an application was handed on."""
        if step.who == GATEWAY:
            return
        if step.who == WORLD:
            self._happened(step)
            return
        watch, application = self.clients.get(step.who), self._applications.get(step.who)
        if watch is None or application is None:
            return
        application.alive = True
        if isinstance(step.input, Send) and step.raised is None:
            application.open_requests += 1
        elif isinstance(step.input, Resync):
            application.wishes += 1
        for action in step.actions:
            if isinstance(action, Emit):
                application.news = step.now
                self._told(watch.book, application, action.event)  # type: ignore[arg-type] # a client's

    def _happened(self, step: Step) -> None:
        match step.input:
            case ClientAdded(client=client, resume=resume):
                application = self._applications[client] = Application()
                life = None if resume is None else self.book.lives.get(resume.epoch or "")
                if life is not None and resume is not None and resume.cursor <= len(life.log):
                    application.state = _folded(self.book, life, resume.cursor)
                elif resume is None:
                    application.state = new_fold(self.book.config)
            case FrameGarbled(client=client) if client in self._applications:
                self._applications[client].garbled += 1
            case Healed():
                self._healed = step.now
                for application in self._applications.values():
                    application.alive = False
            case Rested():
                self._rest(step)
            case _:
                pass

    def _told(self, client: ClientBook, application: Application, event: ClientEvent) -> None:
        match event:
            case Joined():
                application.caught_up = False
                if not event.resumed:
                    application.state, application.unfinished = new_fold(self.book.config), 0
                if event.protocol_version == 1:
                    application.state = None
            case EventReceived():
                self._event(client, application, event)
            case Skipped():
                self._skip(client, application, event)
            case SnapshotReceived():
                self._snapshot(client, application, event)
            case CaughtUp():
                application.caught_up = True
                self._check_state(client, application)
            case MessageAccepted() | MessageRefused() | OutcomeUnknown():
                application.open_requests -= 1
            case Stopped(code="session_closed"):
                self._check_last(client, application)
            case _:
                pass

    def _life(self, client: ClientBook, epoch: str | None, session_id: str) -> Life:
        name = epoch or session_id.partition(".")[2]
        life = self.book.lives.get(name)
        if life is None or life.session_id != session_id.partition(".")[0]:
            self.fail(f"{client.name} follows {session_id} in {name}, which never was", "P1")
        return life

    # -- what was handed on -------------------------------------------------------------------

    def _event(self, client: ClientBook, application: Application, event: EventReceived) -> None:
        life = self._life(client, event.token.epoch, event.token.session_id)
        if event.seq > len(life.log):
            self.fail(f"{client.name} is handed on event {event.seq} of {len(life.log)}", "P1")
        published = life.log[event.seq - 1]
        link = client.link
        if link is not None and link.version == 1:
            same = _same_v1(event.seq, event.event, published)
        else:
            same = event.event == published
        if not same:
            self.fail(f"{client.name}: event {event.seq} is {event.event}, not {published}", "P1")
        self.witnessed["P1 event from end to end"] += 1
        if application.state is not None:
            application.state.apply(event.seq, event.event)

    def _skip(self, client: ClientBook, application: Application, event: Skipped) -> None:
        life = self._life(client, event.token.epoch, event.token.session_id)
        for seq in range(event.first, event.last + 1):
            final = life.ledger.ends.get(seq)
            if final is None:
                self.fail(f"{client.name}: {seq} of {event} is not superseded", "P3")
            application.unfinished = max(application.unfinished, final)
        self.witnessed["P3 skip from end to end"] += 1

    def _snapshot(
        self, client: ClientBook, application: Application, event: SnapshotReceived
    ) -> None:
        life = self._life(client, event.epoch, event.token.session_id)
        if event.cursor > len(life.log):
            self.fail(f"{client.name}: a snapshot as of {event.cursor} of {len(life.log)}", "P5")
        application.unfinished = 0
        if client.link is not None and client.link.version == 1:
            return
        application.state = new_fold(self.book.config)
        application.state.load(event.state)
        if application.state.state() != life.folded.state(life.log, event.cursor):
            self.fail(f"{client.name}: the snapshot at {event.cursor} is {event.state}", "P5")
        self.witnessed["P5 converged after a snapshot"] += 1

    def _check_state(self, client: ClientBook, application: Application) -> None:
        """The state is that of one who never left, once what was skipped has its final."""
        token = client.token
        if application.state is None or token is None or token.cursor < application.unfinished:
            return
        life = self._life(client, token.epoch, token.session_id)
        expected, state = life.folded.state(life.log, token.cursor), application.state.state()
        if state != expected:
            self.fail(f"{client.name} at {token.cursor} has {state}, not {expected}", "P5")
        self.witnessed["P5 converged"] += 1

    # -- the end ------------------------------------------------------------------------------

    def _check_last(self, client: ClientBook, application: Application) -> None:
        """Who is told that its session is closed has everything of it, unless frames were lost."""
        token = client.token
        if token is None or application.garbled:
            return
        life = self._life(client, token.epoch, token.session_id)
        if token.cursor != len(life.log):
            self.fail(f"{client.name} ends at {token.cursor} of {len(life.log)}", "P3")
        self._check_state(client, application)
        self.witnessed["P3 everything of a closed session"] += 1

    def _rest(self, step: Step) -> None:
        """Everybody who may reconnect is connected, at the head, and waits for no answer."""
        healed = self._healed
        for name, watch in self.clients.items():
            application = self._applications[name]
            # A client that is told nothing any more has died.
            if healed is None or watch.book.stopped or not application.alive:
                continue
            self._check_rest(watch.book, application)
            took, bound = application.news - healed, healing_time(self.book.config, watch.config)
            if took > bound:
                self.fail(f"{name} rests {took} s after the faults, over {bound}")
            self.saw("rested")

    def _check_rest(self, client: ClientBook, application: Application) -> None:
        token, link = client.token, client.link
        session = self.book.sessions.get(client.session_id or "")
        if link is None or not link.live or token is None or session is None:
            self.fail(f"{client.name} is not connected: {link}, {token}")
        # A link that loses frames may lose the last: version 1 has no way to notice that.
        blind = link.version == 1 and application.garbled > 0
        at_head = (client.epoch, token.cursor) == (session.epoch, session.ledger.cursor)
        if not at_head and not blind:
            self.fail(
                f"{client.name} rests at {token.cursor} of {client.epoch}; the session stands at"
                f" {session.ledger.cursor} of {session.epoch}"
            )
        if not (application.caught_up or application.garbled):  # its `caught_up` may be lost
            self.fail(f"{client.name} is at {token.cursor} and was not told that it caught up")
        if application.open_requests:
            self.fail(f"{client.name} waits for {application.open_requests} answers")
        self._check_state(client, application)


class Resyncs(WorldMonitor):
    """P16: a client starts over once for a fault, unless the journal was overrun."""

    prop = "P16"
    about = "at most one resync for one fault, unless the journal was overrun in between"
    needs = frozenset({"P16 epoch changed", "P16 session lost", "P16 overrun"})

    def __init__(
        self, witnessed: Counter[str], book: Book, clients: Mapping[str, ClientWatch]
    ) -> None:
        super().__init__(witnessed, book, clients)
        self._garbled: Counter[str] = Counter()
        self._wishes: Counter[str] = Counter()
        self._brought: set[str] = set()  # who began at a position that is the application's word
        self._epochs: dict[str, str | None] = {}
        self._announced: dict[str, str | None] = {}
        self._made_up: set[str] = set()

    def begin(self, step: Step) -> None:
        """Remember in which epoch the client stands."""
        if step.who in self.clients:
            self._epochs[step.who] = self.clients[step.who].book.epoch
            if isinstance(step.input, Resync):
                self._wishes[step.who] += 1
        elif isinstance(step.input, FrameGarbled):
            self._garbled[step.input.client] += 1
        elif isinstance(step.input, ClientAdded) and step.input.resume is not None:
            life = self.book.lives.get(step.input.resume.epoch or "")
            if life is None or step.input.resume.cursor > len(life.log):
                self._made_up.add(step.input.client)
        elif isinstance(step.input, ClientAdded) and step.input.resume is not None:
            self._brought.add(step.input.client)

    def end(self, step: Step) -> None:
        """A snapshot has a reason that is news."""
        if step.who not in self.clients:
            return
        for action in step.actions:
            if not isinstance(action, Emit):
                continue
            match action.event:
                case SnapshotReceived() as snapshot:
                    self._snapshot(step, snapshot)
                case Joined(resync_required=announced, resumed=resumed):
                    # It and the snapshot that it announces are one.
                    self._announced.pop(step.who, None)
                    if announced:
                        self._announced[step.who] = self._epochs.get(step.who)
                    if not resumed and self._epochs.get(step.who) is not None:
                        self.saw("session lost")
                case _:
                    pass

    def _snapshot(self, step: Step, event: SnapshotReceived) -> None:
        held = self._announced.pop(step.who, self._epochs.get(step.who))
        now = self.clients[step.who].book.epoch
        match event.reason:
            case "trimmed" | "lagged":
                self.saw("overrun")  # whether it was is judged at the gateway
                return
            case "requested" if self._wishes[step.who] > 0:
                self._wishes[step.who] -= 1
                return
            case "epoch_changed" if held != now:
                self.saw("epoch changed")
                return
            case "cursor_ahead" if step.who in self._made_up:
                self._made_up.discard(step.who)
                self.saw("position made up")
                return
            case "cursor_ahead" if step.who in self._brought:
                self._brought.remove(step.who)  # whether it was ahead is judged at the gateway
                return
            case _:
                pass
        if self._garbled[step.who] > 0:  # a frame that came twice is a fault, too
            self._garbled[step.who] -= 1
            return
        self.fail(f"{step.who} starts over, {event.reason}, from {held} to {now}: for no fault")


def healing_time(gateway: GatewayConfig, client: ClientConfig) -> float:
    """Seconds within which a client must rest once faults stop, by the configured times.

    At the worst it waits for sessions of others to make room, then for its next attempt; finds its
    connection dead by silence, twice, with a handshake, a recovery and a delay each time; and waits
    for a message whose answer was lost.
    """
    heartbeat = max(gateway.heartbeat, client.heartbeat)
    once = 2 * heartbeat + client.handshake_timeout + client.recovery_timeout
    return (
        gateway.resume_window
        + gateway.stall_timeout
        + gateway.retry_after
        + 2 * max(gateway.request_ttl, client.request_ttl)
        + 3 * (once + client.backoff.maximum)
        + 3 * heartbeat
    )


def _folded(book: Book, life: Life, cursor: int) -> Fold | Projection:
    """The state that an application has stored beside its position."""
    state = new_fold(book.config)
    for seq in range(1, min(cursor, len(life.log)) + 1):
        state.apply(seq, life.log[seq - 1])
    return state


def _same_v1(seq: int, event: Event, published: Event) -> bool:
    fields = event_v1(seq, published)["event"]
    return all(
        getattr(event, name) == fields[name]
        for name in ("type", "data", "event_id", "timestamp", "source", "target")
    )
