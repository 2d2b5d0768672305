"""What the explorer asks of a client: what its application is given, and what it writes.

An `Account` is one client's past, folded to what the future is judged by: where its application
stands, what state it has made, which of its messages have not come to their end.

Spec: The client's side; Requests.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from attrs import define, field

from gatewayproto.actions import (
    CaughtUp,
    CloseTransport,
    Emit,
    EventReceived,
    Gap,
    Joined,
    MessageAccepted,
    MessageRefused,
    OpenTransport,
    OutcomeUnknown,
    ResumeToken,
    RetryScheduled,
    SendFrame,
    Skipped,
    SnapshotReceived,
    Stopped,
)
from gatewayproto.config import ClientConfig
from gatewayproto.errors import ERRORS, ErrorCode, close_may_be_retried
from gatewayproto.frames import Event
from gatewayproto.inputs import (
    Activity,
    FrameReceived,
    Send,
    TransportClosed,
    TransportOpened,
)
from gatewayproto.testing.explorer.history import Log, View, Views, canonical
from gatewayproto.testing.monitors.wire import decode
from gatewayproto.testing.reference import event_object
from gatewayproto.testing.steps import Step, Violation

_NAMED: Final = (FrameReceived, Activity, TransportOpened, TransportClosed)
_CONFLICTS: Final = frozenset({"request_conflict", "already_answered"})
_RETRIED: Final = {"max_attempts"} | {
    code.value
    for code in ErrorCode
    if ERRORS[code].close_code is not None
    and ERRORS[code].next_step != "reauthenticate"
    and close_may_be_retried(ERRORS[code].close_code)
}
"""What ends a connection and not the client."""

Where = tuple[str, str]
"""A session and an epoch of it."""


@define(eq=False)
class Account:
    """One client.

    - `transport`: its newest; `over`: that one was given up or is gone.
    - `session`, `epoch`, `cursor`: where its application stands; `view`: what it made of it all
      (None in version 1, which is not told what folding needs).
    - `attached`: the epoch that the newest welcome or snapshot named.
    - `open`: its messages that have not come to their end, in order, each with where it was first
      written. `here`: those written on this transport.
    - `tries`: attempts since it last caught up.
    - `told`: everything its application was given, where history is not folded.
    """

    name: str
    config: ClientConfig
    transport: int = 0
    over: bool = True
    version: int = 2
    session: str = ""
    epoch: str = ""
    cursor: int = 0
    view: View | None = None
    attached: str = ""
    open: dict[str, Where | None] = field(factory=dict)
    here: tuple[str, ...] = ()
    tries: int = 0
    told: tuple[str, ...] = ()

    def copy(self) -> "Account":
        """The same in another world."""
        return Account(
            self.name,
            self.config,
            self.transport,
            self.over,
            self.version,
            self.session,
            self.epoch,
            self.cursor,
            self.view,
            self.attached,
            self.open.copy(),
            self.here,
            self.tries,
            self.told,
        )

    def text(self, rename: Callable[[str], str]) -> str:
        """What tells it from others."""
        view = "" if self.view is None else self.view.digest
        text = (
            f"{self.transport} {self.over} {self.version} {self.session} {self.epoch} {self.cursor}"
            f" {view} {self.attached} {self.tries}"
        )
        if self.open or self.here or self.told:
            text += rename(f" {self.open} {self.here} {self.told}")
        return text


@define(eq=False)
class ClientRules:
    """Judges the steps of clients.

    `floor` is the longest in seconds that anybody is asked to stay away, `folds` whether history
    is folded.
    """

    views: Views
    witnessed: Counter[str]
    floor: float
    folds: bool

    def judge(
        self,
        account: Account,
        step: Step,
        lives: Mapping[str, Log],
        entered: frozenset[str],
        *,
        may_miss: bool,
    ) -> None:
        """Judge one step of this client and write it into its account.

        `lives` has the log of each epoch, `entered` the ids that ever entered an inbox; `may_miss`
        is whether a frame was garbled, so that a gap may be seen.
        """
        input_ = step.input
        if isinstance(input_, _NAMED) and (account.over or input_.connection != account.transport):
            if step.actions:
                raise Violation(
                    "P7", f"{account.name} acts on transport {input_.connection}, which it gave up"
                )
            self.witnessed["fenced"] += 1
            return
        if isinstance(input_, TransportClosed):
            account.over = True
        elif isinstance(input_, Send) and input_.request_id is not None:
            account.open[input_.request_id] = None
        for action in step.actions:
            match action:
                case Emit(event=event):
                    handle = _TOLD.get(type(event))
                    if handle is not None:
                        handle(_Told(self, account, lives, entered, may_miss), event)
                        if not self.folds:
                            account.told = (*account.told, _history(event))
                case SendFrame():
                    self._written(account, action)
                case OpenTransport():
                    account.transport, account.over = action.connection, False
                    account.here = ()
                case CloseTransport():
                    account.over = True
                case _:
                    pass

    # -- what it writes -----------------------------------------------------------------------

    def _written(self, account: Account, action: SendFrame) -> None:
        if account.over or action.connection != account.transport:
            raise Violation("P7", f"{account.name} writes on {action.connection}, which is gone")
        frame = decode(action.frame)
        match frame["type"]:
            case "hello" | "join":
                self._asked(account, frame)
            case "resume":
                said = (frame.get("epoch"), frame.get("since"))
                if said != (account.epoch, account.cursor) or "nonce" not in frame:
                    raise Violation("P6", f"{account.name} stands at {_at(account)}, asks {frame}")
            case "pong":
                if frame.get("cursor", 0) > account.cursor:
                    raise Violation("P6", f"{account.name} stands at {_at(account)}, says {frame}")
            case "message":
                self._message(account, frame["request_id"])
            case _:
                pass

    def _asked(self, account: Account, frame: Mapping[str, Any]) -> None:
        """A handshake names what is held, all of it, also a cursor of 0."""
        said = tuple(frame.get(name) for name in ("session_id", "epoch", "since"))
        held: tuple[str | int | None, ...] = (None, None, None)
        if account.session:
            epoch = account.epoch if account.version > 1 else None
            held = (account.session, epoch, account.cursor)
        drops = account.version == 1 and frame["type"] == "join" and said[2] == 0
        if said != held and not drops:
            raise Violation("P6", f"{account.name} holds {held}, and asks for {said}")

    def _message(self, account: Account, request_id: str) -> None:
        """Never into another life than the first time, and never before an older one."""
        if request_id not in account.open:
            raise Violation("P8", f"{account.name} writes {request_id} after its end")
        for older in account.open:
            if older == request_id:
                break
            if older not in account.here:
                raise Violation("P8", f"{account.name} writes {request_id} before {older}")
        where = (account.session.partition(".")[0], account.attached)
        first = account.open[request_id]
        if first is not None:
            self.witnessed["written again"] += 1
            if first != where:
                raise Violation(
                    "P8", f"{account.name} writes {request_id} into {where}, formerly into {first}"
                )
        account.open[request_id] = where
        account.here = (*account.here, request_id)


@define(eq=False)
class _Told:
    """One event for an application, and what it is judged by."""

    rules: ClientRules
    account: Account
    lives: Mapping[str, Log]
    entered: frozenset[str]
    may_miss: bool

    # -- where it stands ----------------------------------------------------------------------

    def joined(self, event: Joined) -> None:
        account = self.account
        account.version = event.protocol_version
        account.attached = event.epoch or epoch_of(event.token)
        if event.resumed:
            bare = account.session.partition(".")[0]
            if event.token.session_id.partition(".")[0] != bare:
                self.fail("P6", f"another session is resumed: {event.token.session_id}")
            account.session = event.token.session_id
            self._saw(f"resync {event.resync_reason}" if event.resync_reason else "resumed")
        else:
            account.session, account.epoch = event.token.session_id, account.attached
            account.cursor, account.view = 0, self._view(event.protocol_version)
            self._saw("started over" if event.resync_reason else "joined anew")
        self._check_token(event.token)

    def _view(self, version: int) -> View | None:
        return self.rules.views.empty if version > 1 else None

    def received(self, event: EventReceived) -> None:
        account = self.account
        if event.seq != account.cursor + 1:
            self.fail("P2", f"seq {event.seq} is handed on")
        published = self._log("P1").path[event.seq].event if event.seq <= self._head() else None
        if published is None or not _is_same(event.event, published, account.version):
            self.fail("P1", f"handed on as seq {event.seq}: {event.event}; published: {published}")
        account.cursor = event.seq
        if account.view is not None:
            account.view = self.rules.views.fold(account.view, event.seq, event.event)
        self._check_token(event.token)
        self._saw("replayed" if event.replayed else "live")

    def skipped(self, event: Skipped) -> None:
        account = self.account
        if event.first != account.cursor + 1 or event.last < event.first:
            self.fail("P2", f"{event.first} to {event.last} are skipped")
        if event.last > self._head() or not self._log("P3").is_superseded(event.first, event.last):
            self.fail("P3", f"{event.first} to {event.last} are skipped, and not superseded")
        account.cursor = event.last
        self._check_token(event.token)
        self._saw("skipped")

    def snapshot(self, event: SnapshotReceived) -> None:
        account = self.account
        was = (account.epoch, account.cursor)
        account.epoch = account.attached = event.epoch or epoch_of(event.token)
        account.cursor = event.cursor
        log = self._log("P5")
        if event.cursor > log.cursor or not _folds(event, log, account.version):
            self.fail("P5", f"the snapshot at {event.cursor} is not what was published: {event}")
        goes_back = was[0] == account.epoch and event.cursor < was[1]
        if goes_back and event.reason != "cursor_ahead" and not self.may_miss:
            self.fail("P6", f"a snapshot takes it back from {was[1]} to {event.cursor}")
        if account.version > 1:
            account.view = self.rules.views.of(event.state)
        self._check_token(event.token)
        self._saw(f"snapshot {event.reason}")

    def gap(self, event: Gap) -> None:
        if event.expected != self.account.cursor + 1 or event.received < event.expected:
            self.fail("P6", f"it is told of {event}")
        if not self.may_miss:
            self.fail("P4", f"a false gap: {event}")
        self._saw("gap")

    def caught_up(self, _: CaughtUp) -> None:
        self.account.tries = 0
        self._saw("caught up")

    def retry(self, event: RetryScheduled) -> None:
        """The count goes on until it has caught up; version 1 has no sign of that."""
        account = self.account
        if account.version > 1 and event.attempt != account.tries + 1:
            self.fail("P15", f"attempt {event.attempt} comes after {account.tries}")
        backoff = account.config.backoff
        longest = min(backoff.maximum, backoff.initial * backoff.multiplier ** (event.attempt - 1))
        least, most = longest * (1 - backoff.jitter), max(longest, self.rules.floor)
        if not least <= event.delay <= most:
            self.fail("P15", f"attempt {event.attempt} in {event.delay} s, not {least} to {most}")
        account.tries = event.attempt
        self._saw("retry")

    def stopped(self, event: Stopped) -> None:
        """What may be retried ends a client only after all its attempts."""
        account = self.account
        if event.code in _RETRIED:
            if account.tries != account.config.max_attempts:
                self.fail("P15", f"{event} after {account.tries} attempts")
            self._saw("gave up")
        self._saw("stopped")

    # -- how messages end ---------------------------------------------------------------------

    def accepted(self, event: MessageAccepted) -> None:
        self._end(event.request_id)
        if event.request_id not in self.entered:
            self.fail("P8", f"{event.request_id} is accepted, and in no inbox")
        self._saw("accepted again" if event.duplicate else "accepted")

    def refused(self, event: MessageRefused) -> None:
        self._end(event.request_id)
        if event.request_id in self.entered and event.code not in _CONFLICTS:
            self.fail("P8", f"{event.request_id} is refused ({event.code}), and in an inbox")
        self._saw(f"refused {event.code}")

    def unknown(self, event: OutcomeUnknown) -> None:
        if self._end(event.request_id) is None:
            self.fail("P8", f"{event.request_id} was never written: it may be written now")
        self._saw("outcome unknown")

    def _end(self, request_id: str) -> Where | None:
        if request_id not in self.account.open:
            self.fail("P8", f"{request_id} ends twice, or was never sent")
        return self.account.open.pop(request_id)

    # -- all of them --------------------------------------------------------------------------

    def _log(self, prop: str) -> Log:
        log = self.lives.get(self.account.epoch)
        if log is None:
            self.fail(prop, f"an epoch that nobody named: {self.account.epoch}")
        return log

    def _head(self) -> int:
        return self._log("P1").cursor

    def _check_token(self, token: ResumeToken) -> None:
        account = self.account
        epoch = token.epoch if account.version > 1 else epoch_of(token)
        said = (token.session_id, epoch, token.cursor)
        if said != (account.session, account.epoch, account.cursor):
            self.fail("P6", f"what is handed on carries {said}")

    def _saw(self, what: str) -> None:
        self.rules.witnessed[what] += 1

    def fail(self, prop: str, text: str) -> NoReturn:
        raise Violation(prop, f"{self.account.name} stands at {_at(self.account)}; {text}")


_TOLD: Final[Mapping[type[object], Callable[[_Told, Any], None]]] = {
    Joined: _Told.joined,
    EventReceived: _Told.received,
    Skipped: _Told.skipped,
    SnapshotReceived: _Told.snapshot,
    Gap: _Told.gap,
    CaughtUp: _Told.caught_up,
    RetryScheduled: _Told.retry,
    Stopped: _Told.stopped,
    MessageAccepted: _Told.accepted,
    MessageRefused: _Told.refused,
    OutcomeUnknown: _Told.unknown,
}


def _at(account: Account) -> tuple[str, str, int]:
    return account.session, account.epoch, account.cursor


def epoch_of(token: ResumeToken) -> str:
    """The epoch that a token names, in its field or in its id."""
    return token.epoch or token.session_id.partition(".")[2]


def _is_same(given: Event, published: Event, version: int) -> bool:
    if version == 1:
        return (given.event_id, given.type) == (published.event_id, published.type)
    return given == published or event_object(given) == event_object(published)


def _folds(event: SnapshotReceived, log: Log, version: int) -> bool:
    """Whether a snapshot is the fold of what was published up to its cursor."""
    state = dict(event.state)
    if version == 1:
        for name in ("event_cursor", "session_id", "agent_id"):
            state.pop(name, None)
    return canonical(state) == log.path[event.cursor].state


def _history(event: object) -> str:
    """What an application is given, but for what a folded account has anyway."""
    match event:
        case EventReceived():
            return f"e{event.seq}"
        case Skipped():
            return f"s{event.first}-{event.last}"
        case SnapshotReceived():
            return f"S{event.cursor}{event.reason}"
        case MessageAccepted():
            return f"a{event.request_id}{event.duplicate}"
        case _:
            return type(event).__name__
