"""A world of one gateway and some clients: links that cut, restarts, virtual time, and an account.

The account is kept from what the gateway published and what each client's application was given,
never from what a machine believes of itself.
"""

import itertools
import json
import random
from collections import deque
from typing import Any

from attrs import define, field

from gatewayproto import Event, Gateway, GatewayConfig
from gatewayproto.actions import (
    CaughtUp,
    ClientAction,
    ClientEvent,
    CloseConnection,
    CloseTransport,
    Emit,
    EventReceived,
    GatewayAction,
    Joined,
    JoinRequested,
    MessageAccepted,
    MessageReceived,
    MessageRefused,
    OpenTransport,
    OutcomeUnknown,
    ResumeToken,
    SendFrame,
    SendFrames,
    SessionExpired,
    Skipped,
    SnapshotReceived,
    StateChanged,
)
from gatewayproto.client import Client
from gatewayproto.config import ClientConfig
from gatewayproto.inputs import (
    Accept,
    Activity,
    ClientInput,
    Complete,
    Connect,
    ConnectionClosed,
    ConnectionOpened,
    Drained,
    FrameReceived,
    GatewayInput,
    Publish,
    Send,
    Taken,
    TimerExpired,
    TransportClosed,
    TransportOpened,
)
from gatewayproto.projection import Transcript


@define(eq=False)
class Link:
    """One transport. `up` and `down` are what is in flight; None stands for the close."""

    client: "Peer"
    transport: int
    number: int = 0
    up: deque[bytes | None] = field(factory=deque)
    down: deque[bytes | int | None] = field(factory=deque)
    client_side: bool = True
    gateway_side: bool = False


class Account:
    """What one client's application was given, held against what was published."""

    def __init__(self, logs: dict[str, list[Event]], witnessed: set[str]) -> None:
        self._logs = logs
        self._witnessed = witnessed
        self.epoch: str | None = None
        self.cursor = 0
        self.state = Transcript()
        self.requests: dict[str, str] = {}

    def start(self, token: ResumeToken) -> None:
        """Begin where a stored token says, with the state that was stored beside it."""
        self.epoch, self.cursor = token.epoch, token.cursor
        for seq, event in enumerate(self._log()[: token.cursor], start=1):
            self.state.apply(seq, event)

    def note(self, event: ClientEvent) -> None:
        """Check one thing that the application was told."""
        match event:
            case Joined(resumed=False):
                self.epoch, self.cursor, self.state = event.epoch, 0, Transcript()
                self._check_token(event.token)
            case EventReceived():
                assert event.seq == self.cursor + 1, "P2: out of order, lost or twice"
                assert event.event == self._log()[event.seq - 1], "P1: not what was published"
                self.cursor = event.seq
                self.state.apply(event.seq, event.event)
                self._check_token(event.token)
                self._witnessed.add("replay" if event.replayed else "event")
            case Skipped():
                assert event.first <= self.cursor + 1 <= event.last, "P3: skips what it should not"
                for seq in range(self.cursor + 1, event.last + 1):
                    assert self._superseded(seq), "P3: skipped though not superseded"
                self.cursor = event.last
                self._check_token(event.token)
                self._witnessed.add("skip")
            case SnapshotReceived():
                self.epoch, self.cursor = event.epoch, event.cursor
                expected = Transcript()
                for seq, published in enumerate(self._log()[: event.cursor], start=1):
                    expected.apply(seq, published)
                assert event.state == expected.state(), "P5: not the fold of what was published"
                self.state = Transcript()
                self.state.load(event.state)
                self._check_token(event.token)
                self._witnessed.add(f"snapshot {event.reason}")
            case MessageAccepted() | MessageRefused() | OutcomeUnknown():
                ended = self.requests.get(event.request_id)
                assert ended == "open", f"P8: {event.request_id} ended twice or never began"
                self.requests[event.request_id] = type(event).__name__
                self._witnessed.add(type(event).__name__)
            case CaughtUp() | StateChanged():
                self._witnessed.add(type(event).__name__)
            case _:
                self._witnessed.add(type(event).__name__)

    def _check_token(self, token: ResumeToken) -> None:
        assert (token.epoch, token.cursor) == (self.epoch, self.cursor), "P6: a dishonest token"

    def _log(self) -> list[Event]:
        assert self.epoch is not None
        return self._logs[self.epoch]

    def _superseded(self, seq: int) -> bool:
        log = self._log()
        event = log[seq - 1]
        return bool(event.transient) and any(
            later.final and later.run_id == event.run_id for later in log[seq:]
        )


@define(eq=False)
class Peer:
    """One client machine, its application and its links."""

    name: str
    machine: Client
    account: Account
    links: dict[int, Link] = field(factory=dict)
    untaken: int = 0
    requests: int = 0


class World:
    """Everything, and the one clock."""

    def __init__(
        self, *, config: GatewayConfig, seed: int = 0, clients: int = 2, ttl: float = 300.0
    ) -> None:
        self.now = 1000.0
        self.rng = random.Random(seed)
        self._ids = (f"id{number:04}" for number in itertools.count())
        self._events = itertools.count(1)
        self.config = config
        self._ttl = ttl
        self.gateway = Gateway(config, ids=self._ids.__next__)
        self.logs: dict[str, list[Event]] = {}
        self.epochs: dict[str, str] = {}
        self.joins: list[int] = []
        self.unfinished: list[MessageReceived] = []
        self.inboxes: dict[str, set[str]] = {}
        self.by_number: dict[int, Link] = {}
        self._numbers = itertools.count(1)
        self.witnessed: set[str] = set()
        self.peers: list[Peer] = []
        self.saved: list[tuple[dict[str, Any], dict[str, list[Event]], dict[str, str]]] = []
        for _ in range(clients):
            self.add_peer(None)

    # -- clients ------------------------------------------------------------------------------

    def add_peer(self, resume: ResumeToken | None) -> Peer:
        """A client, from the beginning or from a stored position."""
        name = f"c{len(self.peers)}"
        config = ClientConfig(agent_id="agent", request_ttl=self._ttl)
        machine = Client(config, rng=self.rng, resume=resume, ids=self._ids.__next__)
        account = Account(self.logs, self.witnessed)
        if resume is not None:
            account.start(resume)
        peer = Peer(name, machine, account)
        self.peers.append(peer)
        self.tell(peer, Connect())
        return peer

    def tell(self, peer: Peer, input_: ClientInput) -> None:
        """Give a client one input and carry out its actions."""
        for action in peer.machine.handle(input_, now=self.now):
            self._carry_out_client(peer, action)

    def _carry_out_client(self, peer: Peer, action: ClientAction) -> None:
        match action:
            case OpenTransport():
                peer.links[action.connection] = Link(peer, action.connection)
            case SendFrame():
                peer.links[action.connection].up.append(action.frame)
            case CloseTransport():
                link = peer.links[action.connection]
                link.client_side = False
                link.up.append(None)
                link.down.clear()
                if not link.gateway_side:
                    self._forget(link)
            case Emit():
                peer.account.note(action.event)
                if isinstance(action.event, EventReceived | Skipped | SnapshotReceived):
                    peer.untaken += 1

    def send(self, peer: Peer, text: str) -> None:
        """A message of the application's, with an id of its own."""
        peer.requests += 1
        request_id = f"{peer.name}-{peer.requests}"
        peer.account.requests[request_id] = "open"
        self.tell(peer, Send(content=text, request_id=request_id))

    def take(self, peer: Peer) -> None:
        """The application takes everything that it was handed."""
        peer.untaken = 0
        self.tell(peer, Taken(peer.account.cursor))

    # -- the gateway --------------------------------------------------------------------------

    def serve(self, input_: GatewayInput) -> None:
        """Give the gateway one input and carry out its actions."""
        for action in self.gateway.handle(input_, now=self.now):
            self._carry_out_gateway(action)
        for session_id in self.gateway.session_ids:
            self._note_epoch(session_id)

    def _carry_out_gateway(self, action: GatewayAction) -> None:
        match action:
            case SendFrames():
                for number in action.connections:
                    link = self.by_number[number]
                    if link.client_side:
                        link.down.extend(action.frames)
            case CloseConnection():
                link = self.by_number[action.connection]
                link.gateway_side = False
                link.up.clear()
                link.down.append(action.code)
                if not link.client_side:
                    self._forget(link)
            case Emit(event=JoinRequested() as join):
                self.joins.append(join.connection)
            case Emit(event=MessageReceived() as message):
                inbox = self.inboxes.setdefault(message.session_id, set())
                assert message.request_id is not None
                assert message.request_id not in inbox, "P8: a request entered the inbox twice"
                inbox.add(message.request_id)
                self.unfinished.append(message)
            case Emit(event=SessionExpired()):
                self.witnessed.add("SessionExpired")
            case Emit():
                pass

    def _note_epoch(self, session_id: str) -> None:
        info = self.gateway.session(session_id)
        assert info is not None
        self.epochs[session_id] = info.epoch
        self.logs.setdefault(info.epoch, [])

    def publish(self, session_id: str, **fields: Any) -> None:
        """Publish an event and write it into the log that everything is held against."""
        number = next(self._events)
        event = Event(type="x", event_id=f"e{number}", timestamp=float(number), **fields)
        self.logs[self.epochs[session_id]].append(event)
        self.serve(Publish(session_id=session_id, event=event))

    def finish(self, index: int) -> None:
        """The application is done with a message and answers it."""
        message = self.unfinished.pop(index)
        if message.session_id in self.gateway.session_ids:
            self.publish(
                message.session_id,
                data={"text": str(message.content)},
                request_id=message.request_id,
            )
        self.serve(Complete(session_id=message.session_id, message_id=message.message_id))

    def accept(self, index: int = 0) -> None:
        """The application accepts a handshake, however late."""
        self.serve(Accept(connection=self.joins.pop(index)))

    # -- the network --------------------------------------------------------------------------

    @property
    def links(self) -> list[Link]:
        """Every link that one side at least still holds."""
        return [link for peer in self.peers for link in peer.links.values()]

    def open(self, link: Link) -> None:
        """A transport that was asked for is open, on both sides."""
        link.number = next(self._numbers)
        link.gateway_side = True
        self.by_number[link.number] = link
        self.serve(ConnectionOpened(connection=link.number))
        self.tell(link.client, TransportOpened(link.transport))

    def deliver_up(self, link: Link) -> None:
        """The gateway gets the next frame."""
        frame = link.up.popleft()
        if frame is None:
            link.gateway_side = False
            self.serve(ConnectionClosed(link.number))
            self._forget(link)
            return
        self.serve(Activity(link.number))
        self.serve(FrameReceived(link.number, frame))

    def deliver_down(self, link: Link) -> None:
        """The client gets the next frame, so the transport took it."""
        frame = link.down.popleft()
        if isinstance(frame, int):
            link.client_side = False
            self.tell(link.client, TransportClosed(connection=link.transport, code=frame))
            self._forget(link)
            return
        assert frame is not None
        if link.gateway_side:
            self.serve(Drained(link.number, len(frame)))
        self.tell(link.client, Activity(link.transport))
        self.tell(link.client, FrameReceived(link.transport, frame))

    def cut(self, link: Link, *, client: bool = True, gateway: bool = True) -> None:
        """What is in flight is gone; each side learns of it, or only one."""
        link.up.clear()
        link.down.clear()
        if gateway and link.gateway_side:
            link.gateway_side = False
            self.serve(ConnectionClosed(link.number))
        if client and link.client_side:
            link.client_side = False
            self.tell(link.client, TransportClosed(connection=link.transport))
        if not (link.client_side or link.gateway_side):
            self._forget(link)

    def _forget(self, link: Link) -> None:
        link.client.links.pop(link.transport, None)

    # -- time and restarts --------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass, with every deadline at its time."""
        end = self.now + seconds
        for _ in range(10_000):
            deadline = self._next_deadline()
            if deadline is None or deadline > end:
                break
            self.now = max(self.now, deadline)
            self._fire()
        else:
            raise AssertionError("P10: a machine spins")
        self.now = end

    def _next_deadline(self) -> float | None:
        deadlines = [self.gateway.next_deadline]
        deadlines += [peer.machine.next_deadline for peer in self.peers]
        return min((each for each in deadlines if each is not None), default=None)

    def _fire(self) -> None:
        self.serve(TimerExpired())
        deadline = self.gateway.next_deadline
        assert deadline is None or deadline > self.now, "P10: handled, and due again"
        for peer in self.peers:
            self.tell(peer, TimerExpired())
            deadline = peer.machine.next_deadline
            assert deadline is None or deadline > self.now, "P10: handled, and due again"

    def save(self) -> None:
        """Keep a copy of the gateway's state, as a store would."""
        state = json.loads(json.dumps(self.gateway.to_state(now=self.now)))
        logs = {epoch: list(log) for epoch, log in self.logs.items()}
        self.saved = [(state, logs, dict(self.epochs))]

    def swap(self) -> None:
        """Replace the machines by what their saved states restore; nobody may notice."""
        state = json.loads(json.dumps(self.gateway.to_state(now=self.now)))
        self.gateway = Gateway.from_state(self.config, state, now=self.now, ids=self._ids.__next__)
        for peer in self.peers:
            state = json.loads(json.dumps(peer.machine.to_state(now=self.now)))
            peer.machine = Client.from_state(
                ClientConfig(agent_id="agent", request_ttl=self._ttl),
                state,
                rng=self.rng,
                now=self.now,
                ids=self._ids.__next__,
            )

    def restart(self, *, unbroken: bool) -> None:
        """The gateway's process dies and comes back with its state as it was."""
        state = json.loads(json.dumps(self.gateway.to_state(now=self.now)))
        self._come_back(state, unbroken=unbroken)
        self.witnessed.add("restart, unbroken" if unbroken else "restart, recovered")

    def restart_from_copy(self) -> None:
        """The gateway's process dies and comes back with an older copy."""
        state, logs, epochs = self.saved[0]
        for session_id, epoch in epochs.items():
            # What was published since the copy is no part of the new numbering.
            self.epochs[session_id] = epoch
        self._come_back(state, unbroken=False, logs=logs)
        self.witnessed.add("restart, older copy")

    def _come_back(
        self,
        state: dict[str, Any],
        *,
        unbroken: bool,
        logs: dict[str, list[Event]] | None = None,
    ) -> None:
        before = dict(self.epochs)
        for link in self.links:
            link.gateway_side = False
            self.cut(link, gateway=False)
        self.joins.clear()
        self.unfinished.clear()
        self.gateway = Gateway.recover(
            self.config, state, now=self.now, unbroken=unbroken, ids=self._ids.__next__
        )
        kept = self.logs if logs is None else logs
        for session_id in self.gateway.session_ids:
            info = self.gateway.session(session_id)
            assert info is not None
            assert unbroken == (info.epoch == before[session_id]), "M06: the epoch stays"
            self.logs.setdefault(info.epoch, list(kept[before[session_id]]))
            self.epochs[session_id] = info.epoch
            for message in self.gateway.pending(session_id):
                self.unfinished.append(message)

    # -- the end ------------------------------------------------------------------------------

    def heal(self) -> None:
        """Faults stop; everything that is in flight arrives, and time passes."""
        for _ in range(60):
            self._settle()
            if self._converged():
                return
            self.advance(5.0)
        raise AssertionError("P15: no convergence")

    def _settle(self) -> None:
        for _ in range(100_000):
            if not self._step():
                return
        raise AssertionError("P15: the machines never fall silent")

    def pick(self, kind: str) -> list[Link]:
        """The links that may be opened (`new`), have a frame in flight (`up`, `down`), or any."""
        return [
            link
            for link in self.links
            if (kind == "new" and link.client_side and not link.number)
            or (kind == "up" and link.gateway_side and link.up)
            or (kind == "down" and link.client_side and link.down)
            or (kind == "any" and link.number)
        ]

    def _step(self) -> bool:
        return self._step_application() or self._step_network()

    def _step_application(self) -> bool:
        if self.joins:
            self.accept()
            return True
        if self.unfinished:
            self.finish(0)
            return True
        for peer in self.peers:
            if peer.untaken:
                self.take(peer)
                return True
        return False

    def _step_network(self) -> bool:
        for kind, carry in (
            ("new", self.open),
            ("up", self.deliver_up),
            ("down", self.deliver_down),
        ):
            links = self.pick(kind)
            if links:
                carry(links[0])
                return True
        return False

    def _converged(self) -> bool:
        return all(self._at_rest(peer) for peer in self.peers)

    def _at_rest(self, peer: Peer) -> bool:
        token = peer.machine.resume_token
        info = None if token is None else self.gateway.session(token.session_id)
        if info is None or "open" in peer.account.requests.values():
            return False
        return (
            (info.epoch, info.cursor) == (peer.account.epoch, peer.account.cursor)
            and any(link.gateway_side for link in peer.links.values())
            and peer.account.state.state() == self._folded(info.epoch)
        )

    def _folded(self, epoch: str) -> dict[str, Any]:
        folded = Transcript()
        for seq, event in enumerate(self.logs[epoch], start=1):
            folded.apply(seq, event)
        return folded.state()
