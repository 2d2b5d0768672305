"""One deterministic world: a gateway, its application, any number of clients, links, and one clock.

The world decides nothing. Whoever drives it (the simulator, the explorer, Hypothesis, a test of
yours) says what happens next, by the methods here or by the deeds of `gatewayproto.testing.deeds`.
Every call of a machine and everything that happens is a `Step`, given to `observe`.

Spec: the verification page, "One world".
"""

from collections.abc import Callable, Iterable
from math import inf

from gatewayproto.actions import (
    AuthRequested,
    ClientAction,
    CloseConnection,
    CloseTransport,
    Emit,
    GatewayAction,
    GatewayEvent,
    OpenTransport,
    Persist,
    ResumeToken,
    SendFrame,
    SendFrames,
    SessionExpired,
    SessionOpened,
    SubscriberJoined,
    SubscriberLeft,
)
from gatewayproto.config import ClientConfig, GatewayConfig
from gatewayproto.frames import Event
from gatewayproto.inputs import (
    Accept,
    Activity,
    ClientInput,
    Connect,
    ConnectionClosed,
    ConnectionOpened,
    Drain,
    Drained,
    FrameReceived,
    GatewayInput,
    Publish,
    Send,
    SetToken,
    Taken,
    TimerExpired,
    TransportClosed,
    TransportOpened,
)
from gatewayproto.testing.application import Application, Echo, Job
from gatewayproto.testing.building import Builder
from gatewayproto.testing.machines import (
    GatewaySlot,
    LiveMachines,
    Machines,
    Outcome,
)
from gatewayproto.testing.network import Close, Link, Whole, Wire
from gatewayproto.testing.peer import Peer
from gatewayproto.testing.steps import (
    GATEWAY,
    WORLD,
    ClientAdded,
    ClockJumped,
    FrameGarbled,
    Garble,
    Happening,
    LinkCut,
    LinkOpened,
    LinkStalled,
    Restart,
    Restarted,
    Saved,
    Side,
    Step,
    Swapped,
    Violation,
)
from gatewayproto.testing.store import Store

_SPINS = 1_000
"""So many deadlines in one wait, or frames on one link at one time, and a machine spins."""


def ignore(_: Step) -> None:
    """Observe nothing."""


def _check_seconds(seconds: float) -> None:
    if not 0 <= seconds < inf:
        raise ValueError(f"{seconds} seconds cannot pass")


class World:
    """Everything, and the one clock.

    - `config`: the gateway's. `machines`: who makes the machines. `application`: what stands
      behind the gateway. `wire`: how frames travel. `observe` is given every step; what it raises
      ends the run. `addresses`: whether the gateway is told from where transports come; each
      principal has an address of its own.
    - `members` are the welcomed connections with their principals; `reviews` the fresh credentials
      that the application was asked about and has not judged, by connection.
    - `store` has the records of a gateway that writes ahead; `broken` tells that a recovery could
      not prove it whole, and that this is not stored yet.
    - `builder`: what the application builds snapshots from, where it is the one who builds them.
    - `now` starts at 1024 seconds, so that no time that a machine subtracts is negative.
    """

    def __init__(
        self,
        config: GatewayConfig,
        *,
        observe: Callable[[Step], None] = ignore,
        machines: Machines | None = None,
        application: Application | None = None,
        wire: Wire | None = None,
        addresses: bool = False,
    ) -> None:
        self.now = 1024.0
        self.config = config
        self.observe = observe
        self.machines: Machines = LiveMachines() if machines is None else machines
        self.application: Application = Echo() if application is None else application
        self.wire: Wire = Whole() if wire is None else wire
        self.addresses = addresses
        self.gateway: GatewaySlot = self.machines.gateway(config)
        self.deadline: float | None = None
        self.peers: dict[str, Peer] = {}
        self.sessions: list[str] = []
        self.store = Store()
        self.broken = False
        self.saved = False
        self.draining = False
        self.published = 0
        self.members: dict[int, str | None] = {}
        self.reviews: dict[int, str | None] = {}
        self.builder = Builder() if config.application_snapshots else None
        self._connections: dict[int, Link] = {}
        self._last_connection = 0

    def copy(self, observe: Callable[[Step], None] = ignore) -> "World":
        """The same world once more; what happens in one is not seen in the other.

        The wire is shared: one that keeps something of a link serves no copies.
        """
        world = object.__new__(type(self))
        world.now, world.config, world.observe = self.now, self.config, observe
        world.machines, world.wire = self.machines, self.wire
        world.addresses = self.addresses
        world.application = self.application.copy()
        world.gateway, world.deadline = self.gateway.copy(self.now), self.deadline
        world.peers = {name: peer.copy(self.now) for name, peer in self.peers.items()}
        world.sessions = self.sessions.copy()
        world.store, world.broken = self.store.copy(), self.broken
        world.saved, world.published = self.saved, self.published
        world.members, world.reviews = self.members.copy(), self.reviews.copy()
        world.draining = self.draining
        world.builder = self.builder and self.builder.copy()
        world._connections = {
            number: world.peers[link.client].links[link.transport]
            for number, link in self._connections.items()
        }
        world._last_connection = self._last_connection
        return world

    # -- machines -----------------------------------------------------------------------------

    def happen(self, happening: Happening, deadline: float | None = None) -> None:
        """Let the observer know; `deadline` is that of a machine that took another's place."""
        self.observe(Step(now=self.now, who=WORLD, input=happening, deadline=deadline))

    def serve(self, input_: GatewayInput) -> None:
        """Give the gateway one input and carry out its actions."""
        outcome = self.gateway.handle(input_, self.now)
        self.deadline = outcome.deadline
        self._observe(GATEWAY, input_, outcome)
        if self.builder is not None:
            self.builder.note(input_, outcome.actions)
        for action in outcome.actions:
            self._carry_out_gateway(action)  # type: ignore[arg-type] # a gateway's, by its slot
        if isinstance(input_, Accept) and input_.connection in self.members:
            self.members[input_.connection] = input_.principal

    def tell(self, peer: Peer, input_: ClientInput) -> None:
        """Give a client one input and carry out its actions."""
        outcome = peer.slot.handle(input_, self.now)
        peer.deadline = outcome.deadline
        self._observe(peer.name, input_, outcome)
        for action in outcome.actions:
            self._carry_out_client(peer, action)  # type: ignore[arg-type] # a client's

    def _observe(self, who: str, input_: GatewayInput | ClientInput, outcome: Outcome) -> None:
        self.observe(
            Step(
                now=self.now,
                who=who,
                input=input_,
                actions=outcome.actions,
                deadline=outcome.deadline,
                raised=outcome.raised,
            )
        )

    def _carry_out_gateway(self, action: GatewayAction) -> None:
        match action:
            case SendFrames():
                for number in action.connections:
                    link = self._connections.get(number)
                    if link is not None and not link.dead:
                        link.owed.extend(action.frames)
            case CloseConnection():
                link = self._connections.get(action.connection)
                if link is not None:
                    link.gateway_open = False
                    if not link.dead:
                        link.owed.append(Close(action.code))
                    self._forget_if_over(link)
            case Persist():
                self.store.take(action)
            case Emit(event=event):
                self._note(event)
                self.application.note(event, self.now)

    def _note(self, event: GatewayEvent) -> None:
        match event:
            case SessionOpened():
                self.sessions.append(event.session_id)
            case SessionExpired():
                self.sessions.remove(event.session_id)
            case SubscriberJoined():
                self.members[event.connection] = None
            case SubscriberLeft():
                self.members.pop(event.connection, None)
                self.reviews.pop(event.connection, None)
            case AuthRequested():
                self.reviews[event.connection] = event.join.token
            case _:
                pass

    def _carry_out_client(self, peer: Peer, action: ClientAction) -> None:
        match action:
            case OpenTransport():
                peer.links[action.connection] = Link(peer.name, action.connection)
            case SendFrame():
                link = peer.links[action.connection]
                if not link.dead:
                    link.up.append(action.frame)
            case CloseTransport():
                link = peer.links[action.connection]
                link.client_open = False
                if not link.dead:
                    link.up.append(Close(action.code))
                self._forget_if_over(link)
            case Emit(event=event):
                peer.note(event)

    # -- clients ------------------------------------------------------------------------------

    def add_client(self, config: ClientConfig, resume: ResumeToken | None = None) -> Peer:
        """A client begins, from nothing or from a stored position, and connects."""
        name = f"c{len(self.peers)}"
        peer = Peer(name, config, self.machines.client(name, config, resume), token=resume)
        self.peers[name] = peer
        self.happen(ClientAdded(name, config, resume))
        self.tell(peer, Connect())
        return peer

    def kill_client(self, peer: Peer) -> None:
        """A client's process dies: nobody tells its machine anything any more."""
        peer.dead = True
        peer.deadline = None
        for link in list(peer.links.values()):
            self.cut(link, "gateway")
            link.client_open = False
            self._forget_if_over(link)

    @property
    def living(self) -> list[Peer]:
        """The clients whose part is not over."""
        return [peer for peer in self.peers.values() if not (peer.dead or peer.stopped)]

    def send(
        self,
        peer: Peer,
        content: str,
        *,
        request_id: str | None = None,
        reply_to: str | None = None,
    ) -> None:
        """The application sends a message, with a new id or with one that was used before."""
        if request_id is None:
            peer.sent += 1
            request_id = f"{peer.name}.{peer.sent}"
        peer.open_requests[request_id] = content
        self.tell(peer, Send(content=content, request_id=request_id, reply_to=reply_to))

    def take(self, peer: Peer) -> None:
        """The application takes everything that was handed on."""
        cursor, peer.untaken = peer.untaken, None
        self.tell(peer, Taken(cursor or 0))

    def give_token(self, peer: Peer) -> None:
        """The application presents its credentials again."""
        peer.needs_token = False
        self.tell(peer, SetToken(peer.config.token))

    # -- the application ----------------------------------------------------------------------

    def work(self, job: Job) -> None:
        """The application does one of its jobs or refusals."""
        self.application.do(job)
        for input_ in job:
            self.serve(input_)

    def review(self, connection: int, good_for: float | None) -> None:
        """The application accepts fresh credentials, as it accepts handshakes."""
        token = self.reviews.pop(connection)
        self.serve(Accept(connection=connection, principal=token, expires_in=good_for))

    def publish(self, session_id: str, event: Event) -> None:
        """An event of whatever origin."""
        self.published += 1
        self.serve(Publish(session_id=session_id, event=event))

    # -- links --------------------------------------------------------------------------------

    @property
    def links(self) -> list[Link]:
        """Every link of which something may still come, oldest client first."""
        return [link for peer in self.peers.values() for link in peer.links.values()]

    @property
    def opened(self) -> int:
        """How many connections there were so far."""
        return self._last_connection

    def open(self, link: Link) -> None:
        """A transport that was asked for is open, on both sides."""
        self._last_connection += 1
        link.connection, link.gateway_open = self._last_connection, True
        self._connections[link.connection] = link
        self.happen(LinkOpened(link.client, link.transport, link.connection))
        peer = self.peers[link.client]
        address = f"of {peer.config.token}" if self.addresses else ""
        self.serve(
            ConnectionOpened(connection=link.connection, address=address, timestamp=self.now)
        )
        if link.client_open and not peer.dead:
            self.tell(peer, TransportOpened(link.transport))

    def refuse(self, link: Link, http_status: int | None, retry_after: float | None = None) -> None:
        """A transport that was asked for could not be opened."""
        link.client_open = False
        self._forget_if_over(link)
        self.tell(
            self.peers[link.client],
            TransportClosed(
                connection=link.transport,
                http_status=http_status,
                retry_after_seconds=retry_after,
            ),
        )

    def go_up(self, link: Link) -> None:
        """The gateway gets what is next. What it gave up still comes: a race that it must bear."""
        connection, item = link.connection, link.up.popleft()
        assert connection is not None
        if connection not in self._connections:
            # The process that had it is gone: nobody is there to be told.
            self._forget_if_over(link)
        elif isinstance(item, Close):
            link.up.clear()
            link.gateway_open = False
            self.serve(ConnectionClosed(connection))
            self._forget_if_over(link)
        else:
            for frames in self.wire.carry(link, item, up=True):
                self.serve(Activity(connection))
                for frame in frames:
                    self.serve(FrameReceived(connection, frame))

    def drain(self, link: Link) -> None:
        """The transport takes what is next from the gateway."""
        item = link.owed.popleft()
        link.down.append(item)
        if not isinstance(item, Close) and link.connection in self._connections:
            self.serve(Drained(link.connection, len(item)))

    def go_down(self, link: Link) -> None:
        """The client's end gets what is next, taken from the gateway at once if need be."""
        if not link.down:
            self.drain(link)
        item = link.down.popleft()
        peer = self.peers[link.client]
        if isinstance(item, Close):
            link.down.clear()
            link.client_open = False
        if not peer.dead:
            if isinstance(item, Close):
                self.tell(peer, TransportClosed(connection=link.transport, code=item.code))
            else:
                for frames in self.wire.carry(link, item, up=False):
                    self.tell(peer, Activity(link.transport))
                    for frame in frames:
                        self.tell(peer, FrameReceived(link.transport, frame))
        self._forget_if_over(link)

    def flow(self, link: Link) -> None:
        """Carry all that is in flight on a link, and what comes of it, until nothing is."""
        for _ in range(_SPINS):
            if link.can_go_up:
                self.go_up(link)
            elif link.can_go_down:
                self.go_down(link)
            else:
                return
        raise Violation("P15", f"a link does not fall silent within {_SPINS} frames")

    def cut(self, link: Link, told: Side) -> None:
        """Lose what is in flight. A side that is not told holds a half-open link from now on."""
        link.die()
        self.happen(LinkCut(link.client, link.transport, link.connection, told))
        if told != "client" and link.gateway_open:
            link.gateway_open = False
            assert link.connection is not None
            self.serve(ConnectionClosed(link.connection))
        if told != "gateway" and link.client_open:
            link.client_open = False
            self.tell(self.peers[link.client], TransportClosed(connection=link.transport))
        self._forget_if_over(link)

    def stall(self, link: Link, *, stalled: bool) -> None:
        """Let nothing flow on a link, or let it flow again."""
        link.stalled = stalled
        self.happen(LinkStalled(link.client, link.transport, link.connection, stalled))

    def garble(self, link: Link, how: Garble, *, up: bool) -> None:
        """Lose, repeat or delay the next frame in flight."""
        queue = link.up if up else link.down
        while not up and link.owed and len(queue) < (2 if how == "swapped" else 1):
            self.drain(link)
        first = queue.popleft()
        if how == "repeated":
            queue.extendleft((first, first))
        elif how == "swapped":
            queue.insert(1, first)
        self.happen(FrameGarbled(link.client, link.transport, link.connection, how, up))

    def _forget_if_over(self, link: Link) -> None:
        if link.over:
            self.peers[link.client].links.pop(link.transport, None)
            if link.connection is not None:
                self._connections.pop(link.connection, None)

    # -- time ---------------------------------------------------------------------------------

    @property
    def next_deadline(self) -> float | None:
        """The earliest deadline of all machines."""
        return min(self._deadlines(), default=None)

    def _deadlines(self) -> Iterable[float]:
        if self.deadline is not None:
            yield self.deadline
        for peer in self.peers.values():
            if peer.deadline is not None:
                yield peer.deadline

    def advance(self, seconds: float) -> None:
        """Let time pass, with every deadline at its time.

        Raises `ValueError` for a time that is no time from 0.
        """
        _check_seconds(seconds)
        end = self.now + seconds
        for _ in range(_SPINS):
            deadline = self.next_deadline
            if deadline is None or deadline > end:
                self.now = end
                return
            self.now = max(self.now, deadline)
            self.expire()
        raise Violation("P10", f"over {_SPINS} deadlines within {seconds} seconds")

    def jump(self, seconds: float) -> None:
        """The clock moves past whatever deadline at once; then the timers fire.

        Raises `ValueError` for a time that is no time from 0.
        """
        _check_seconds(seconds)
        self.now += seconds
        self.happen(ClockJumped(seconds))
        self.expire()

    def expire(self) -> None:
        """Fire the timer of every machine whose deadline has come."""
        if self.deadline is not None and self.deadline <= self.now:
            self.serve(TimerExpired())
        for peer in tuple(self.peers.values()):
            if peer.deadline is not None and peer.deadline <= self.now:
                self.tell(peer, TimerExpired())

    # -- the gateway's process ----------------------------------------------------------------

    def send_away(self, command: Drain) -> None:
        """The gateway is about to stop; it takes nobody until it is restarted."""
        self.draining = True
        self.serve(command)

    def persist(self, session_id: str) -> None:
        """The store has the oldest record of a session that it was given, and says so."""
        self.serve(self.store.confirm(session_id))
        # What a recovery had stored first is, and with it that there was a break.
        self.broken = self.broken and bool(self.store.waiting)

    def persist_all(self) -> None:
        """The store has every record that it was given so far, and says so one by one."""
        for session_id, waiting in tuple(self.store.waiting.items()):
            for _ in range(len(waiting)):
                self.persist(session_id)

    def save(self) -> None:
        """Copy the gateway's state into the store; or what the store has, where that is its."""
        self.gateway.save(self.now)
        self.store.save()
        self.saved = True
        if self.builder is not None:
            self.builder.save()
        self.happen(Saved())

    def restart(self, kind: Restart) -> None:
        """The gateway's process dies, its connections with it, and comes back.

        What was in flight to the clients still arrives, and then the end of the connection. A
        gateway that writes ahead comes back from what the store has confirmed: that is its state.
        """
        for link in self._connections.values():
            link.gateway_open = False
            link.up.clear()
            link.owed.clear()
            if not link.dead:
                link.down.append(Close())
        links, self._connections = list(self._connections.values()), {}
        for link in links:
            self._forget_if_over(link)
        self.members.clear()
        self.reviews.clear()
        self.draining = False
        if self.config.write_ahead:
            # Nobody may assert again what could not be asserted before the crash.
            kind = "store" if kind == "whole" and self.broken else kind
            self.store.crash(to_copy=kind == "copy", empty=kind == "nothing")
            unbroken = kind == "whole"
            self.deadline = self.gateway.recover(self.store, self.now, unbroken=unbroken)
        else:
            self.deadline = self.gateway.restart(kind, self.now)
        self.happen(Restarted(kind), self.deadline)
        self.sessions = list(self.gateway.session_ids())
        if self.builder is not None:
            self.builder.restart(kind)
        self.application.restart(
            [
                (self.now, message)
                for session_id in self.sessions
                for message in self.gateway.pending(session_id)
            ]
        )
        if self.config.write_ahead:
            self.broken = kind in {"store", "copy"} and bool(self.sessions)
            self.expire()

    def swap(self, who: str) -> None:
        """Replace a machine by what its saved state restores."""
        if who == GATEWAY:
            deadline = self.deadline = self.gateway.swap(self.now)
        else:
            deadline = self.peers[who].deadline = self.peers[who].slot.swap(self.now)
        self.happen(Swapped(who), deadline)
