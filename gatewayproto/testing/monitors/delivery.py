"""P1, P2, P3 and P6 at the gateway: what each follower is sent accounts for every seq, in order.

Spec: Delivery; Snapshots; Lagging; Recovery in band.
"""

from collections import Counter
from typing import Final

from gatewayproto.actions import CloseConnection, GatewayEvent, Published, SubscriberLagged
from gatewayproto.inputs import (
    ChangeEpoch,
    CloseSession,
    Drained,
    FrameReceived,
    Publish,
    Reject,
    SnapshotReady,
)
from gatewayproto.testing.monitors.accounts import Account
from gatewayproto.testing.monitors.book import Book, Connection
from gatewayproto.testing.monitors.gateway import GatewayMonitor
from gatewayproto.testing.monitors.snapshots import check_state
from gatewayproto.testing.monitors.wire import EVENTS, WELCOMES, Frame, is_off, read
from gatewayproto.testing.steps import Restarted, Step

_SESSION_CLOSED: Final = 4508


class Delivery(GatewayMonitor):
    """P3 at the gateway, and P1, P2, P5 and P6 on the way: one account for each connection.

    A connection that owes its transport nothing is owed nothing itself: whoever has room has been
    sent everything.
    """

    prop = "P3"
    about = "every seq is delivered in order, named as skipped, or covered by a snapshot"
    needs = frozenset(
        {
            "P1 event",
            "P1 replay",
            "P1 event to version 1",
            "P2 resume from the middle",
            "P3 skip",
            "P3 caught_up",
            "P3 caught_up after a recovery",
            "P3 several followers",
            "P5 snapshot",
            "P5 snapshot to version 1",
            "P5 snapshot in parts",
            "P5 snapshot trimmed",
            "P5 snapshot epoch_changed",
            "P5 snapshot requested",
            "P5 snapshot lagged",
            "P6 ping",
        }
    )

    def __init__(self, witnessed: Counter[str], book: Book) -> None:
        super().__init__(witnessed, book)
        self.accounts: dict[int, Account] = {}
        self._touched: dict[int, Account] = {}
        self._ready: set[int] = set()

    # -- inputs -------------------------------------------------------------------------------

    def begin(self, step: Step) -> None:
        """What an input makes due."""
        self._touched.clear()
        self._ready.clear()
        match step.input:
            case FrameReceived(connection=number) | Drained(connection=number):
                account = self.accounts.get(number)
                if account is not None:
                    self._touched[number] = account
                    self._ask(account, step.input, step.now)
            case (
                Publish(session_id=session_id)
                | ChangeEpoch(session_id=session_id)
                | CloseSession(session_id=session_id)
            ):
                followers = self._followers(session_id)
                self._touched.update(followers)
                self._ready.update(n for n, each in followers.items() if each.owed is None)
                if isinstance(step.input, ChangeEpoch):
                    for account in followers.values():
                        account.change_epoch()
                if isinstance(step.input, CloseSession) and len(self._ready) < len(followers):
                    self.saw("closed before one who lags")
                if len(followers) > 1:
                    self.saw("several followers")
            case SnapshotReady(session_id=session_id, epoch=epoch) if (
                session_id in self.book.sessions and self.book.sessions[session_id].epoch == epoch
            ):
                self._touched.update(self._followers(session_id))
            case Restarted():
                self.accounts.clear()
            case _:
                pass

    def _followers(self, session_id: str) -> dict[int, Account]:
        return {
            number: account
            for number, account in self.accounts.items()
            if account.session.session_id == session_id
        }

    def _ask(self, account: Account, input_: FrameReceived | Drained, now: float) -> None:
        if isinstance(input_, Drained) or len(input_.data) > self.config.max_payload:
            return
        if account.connection.flood is not None:
            return
        frame = read(input_.data)
        if frame is None or account.version == 1 or is_off(frame):
            return
        if frame["type"] not in {"resume", "resync"} or not self._may_recover(account, now):
            return
        if frame["type"] == "resume":
            account.resume(frame)
            self.saw("resume")
        else:
            account.resync(frame)

    def _may_recover(self, account: Account, now: float) -> bool:
        """Whether a recovery may begin; one that is merged into another costs nothing."""
        if account.is_recovering:
            return True
        connection = account.connection
        connection.refused = connection.recoveries.take(now)
        return connection.refused is None

    # -- actions ------------------------------------------------------------------------------

    def sent(self, step: Step, connection: Connection, frame: Frame, data: bytes) -> None:
        """Account for a frame."""
        if frame["type"] in WELCOMES and connection.session is not None:
            account = Account.of(connection, connection.session, frame)
            self.accounts[connection.number] = account
            self._touched[connection.number] = account
            if 0 < account.position < account.ledger.cursor:
                self.witnessed["P2 resume from the middle"] += 1
            return
        found = self.accounts.get(connection.number)
        if found is None:
            return
        self._touched[connection.number] = found
        state = found.take(frame)
        if state is not None:
            check_state(found, frame, state)
            self.witnessed["P5 snapshot"] += 1
        self._witness(found, frame)

    def _witness(self, account: Account, frame: Frame) -> None:
        for what in account.seen:
            prop = {"event": "P1", "replay": "P1"}.get(what, "P3")
            self.witnessed[f"{'P5' if what.startswith('snapshot') else prop} {what}"] += 1
        account.seen.clear()
        if frame["type"] == "ping":
            self.witnessed["P6 ping"] += 1
        elif account.version == 1 and frame["type"] in EVENTS:
            self.witnessed["P1 event to version 1"] += 1
        elif account.version == 1 and frame["type"] == "snapshot":
            self.witnessed["P5 snapshot to version 1"] += 1

    def told(self, step: Step, event: GatewayEvent) -> None:
        """A seq was given, or a follower lost its place."""
        match event:
            case Published(session_id=session_id, seq=seq):
                self._check_published(step, event, session_id, seq)
            case SubscriberLagged(connection=number) if number in self.accounts:
                self.accounts[number].lagged_at = event.position
                self._touched[number] = self.accounts[number]
            case _:
                pass

    def _check_published(self, step: Step, event: Published, session_id: str, seq: int) -> None:
        session = self.book.sessions.get(session_id)
        if session is None or session.closed_at is not None or not isinstance(step.input, Publish):
            self.fail(f"{event} of nothing that was published", "P1")
        head = session.ledger.cursor
        if (session_id, event.event_id) != (step.input.session_id, step.input.event.event_id):
            self.fail(f"{event} is told of {step.input}", "P1")
        if seq != head + 1:
            self.fail(f"{event.event_id} gets seq {seq}; {head + 1} is next", "P1")

    def closed(self, step: Step, connection: Connection, close: CloseConnection) -> None:
        """Who is closed is owed nothing more; in a closed session it was owed nothing before."""
        account = self.accounts.pop(connection.number, None)
        ended = isinstance(step.input, Reject)  # by the application, whatever the code
        if close.code == _SESSION_CLOSED and account is not None and not ended:
            self._check_end(account)
        self._touched.pop(connection.number, None)

    def _check_end(self, account: Account) -> None:
        """The last close of a session: everything up to its head was accounted for."""
        if account.session.closed_at is None:
            account.fail("P3", "it is closed as if its session were")
        if account.owed is not None or account.chunks or account.lagged_at is not None:
            account.fail("P3", f"its session is closed and it is not sent {account.owed}")
        self.saw("closed with everything")

    def end(self, step: Step) -> None:
        """Whoever has room was sent everything that is owed."""
        if isinstance(step.input, Publish) and step.raised is None:
            self._check_numbered(step.input)
        for session_id in self.book.given_up:
            self._touched.update(self._followers(session_id))
        for number, account in self._touched.items():
            if self.book.connections.get(number) is not account.connection:
                self.accounts.pop(number, None)
            elif account.connection.session is None:
                self.accounts.pop(number, None)  # version 1 asks anew
            else:
                self._check_turn(step, account)

    def _check_turn(self, step: Step, account: Account) -> None:
        if account.lagged_at is not None:
            if account.lagged_at != account.position:
                account.fail("P6", f"it is said to have lagged at {account.lagged_at}")
            if not (account.is_overrun or account.is_barred):
                account.fail("P16", "it is said to have lagged, though nothing is lost")
            account.due, account.due_since = "lagged", account.position
            account.lagged_at = None
        # One that its welcome announced may wait for room, whatever its reason.
        breaks = account.announced is None and account.due in {"lagged", "epoch_changed"}
        if account.version == 1 and breaks:
            account.fail("P3", f"version 1 is not closed, though due is {account.due}")
        owed, outstanding = account.owed, account.connection.outstanding
        if owed is None:
            if account.session.closed_at is not None:
                account.fail("P3", "it has everything of a closed session, and stays")
            return
        if account.is_built and account.due is not None and not account.chunks:
            if outstanding == 0:
                self._check_waits(step, account)
            return
        if outstanding == 0:
            account.fail("P3", f"its transport has room and it is not sent {owed}")
        # Whoever is behind is woken by its own transport, and else whoever was not behind.
        if isinstance(step.input, Drained) or account.connection.number in self._ready:
            size = account.next_size
            if size is not None and outstanding + size <= self.config.send_window:
                account.fail("P3", f"{outstanding} bytes are owed, and {size} more not sent")

    def _check_waits(self, step: Step, account: Account) -> None:
        """Whoever has room waits for a state only where there is none that it could go on from."""
        session, least = account.session, account.least
        usable = session.usable(least)
        # A final may bring the floor back below a state that was refused; nobody looks then.
        if usable is not None and not isinstance(step.input, Publish):
            account.fail(
                "P3", f"a state as of {usable} is there, and it is not sent {account.owed}"
            )
        if session.question is None:
            account.fail("P3", f"it is not sent {account.owed}, and nobody was asked for a state")
        self.witnessed["P5 subscriber waits"] += 1
        if isinstance(step.input, SnapshotReady) and session.built is not None:
            floor = account.ledger.oldest(account.version) - 1
            what = "the floor" if session.built < floor else "what was sent"
            self.witnessed[f"P5 state refused, behind {what}"] += 1

    def _check_numbered(self, publish: Publish) -> None:
        """What was published got a number, whoever is there to receive it."""
        session = self.book.sessions.get(publish.session_id)
        if session is None or session.closed_at is not None:
            return
        log = session.ledger.log
        if not log or log[-1] is not publish.event:
            self.fail(f"{publish.event.event_id} was published and got no seq", "P1")
