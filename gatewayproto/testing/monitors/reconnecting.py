"""P10, P15 and P17 at a client: when it waits, how long, and when it gives up.

Spec: The client's side (reconnecting, silence); Errors.
"""

from collections import Counter
from typing import Final

from gatewayproto.actions import (
    CaughtUp,
    ClientEvent,
    CloseTransport,
    OpenTransport,
    RetryScheduled,
    Stopped,
    TokenNeeded,
)
from gatewayproto.errors import ERRORS, ErrorCode
from gatewayproto.inputs import (
    Connect,
    Disconnect,
    SetToken,
    TimerExpired,
    TransportClosed,
)
from gatewayproto.testing._shapes import SERVER
from gatewayproto.testing.monitors.base import EPSILON
from gatewayproto.testing.monitors.client import ClientBook, ClientMonitor, Transport
from gatewayproto.testing.monitors.wire import REJECTIONS, Frame
from gatewayproto.testing.steps import Step

_DAY: Final = 86_400.0
_LIVENESS_TIMEOUT: Final = 4001
_AUTH_EXPIRED: Final = 4006
_FINAL: Final = frozenset({1002, 1003, 1007, 1008, 1009, 1010})


class ClientClock(ClientMonitor):
    """P10, at a client: timers, and the delays between its attempts."""

    prop = "P10"
    about = "timers do nothing early and are over once handled; delays follow the formula"
    needs = frozenset(
        {
            "P10 client's early timer",
            "P10 client's due timer",
            "P10 retry",
            "P10 retry again",
            "P10 count begins again",
            "P10 floor",
        }
    )

    def __init__(self, witnessed: Counter[str], book: ClientBook) -> None:
        super().__init__(witnessed, book)
        self._attempt = 0
        self._anew = False
        self._retry_at: float | None = None
        self._floor = 0.0, 0.0
        self._rejected = False

    def begin(self, step: Step) -> None:
        """Hold a timer against its deadline; remember what the server asked for."""
        if isinstance(step.input, TimerExpired) and step.raised is None:
            self._check_timer(step)
        frame = self.book.incoming
        if frame is not None:
            self._heed(frame)
        if isinstance(step.input, TransportClosed) and self._is_present(step.input.connection):
            self._raise_floor(step.input.retry_after_seconds)

    def _is_present(self, connection: int) -> bool:
        return self.book.link is not None and self.book.link.number == connection

    def _check_timer(self, step: Step) -> None:
        deadline = self.book.deadline
        if deadline is None or step.now < deadline:
            self.saw("client's early timer")
            if step.actions or step.deadline != deadline:
                self.fail(
                    f"{self.book.name}: a timer at {step.now} before its deadline {deadline}"
                    f" leads to {step.actions}, deadline {step.deadline}"
                )
            return
        self.saw("client's due timer")
        if step.deadline is not None and step.deadline <= step.now:
            self.fail(f"the deadline {deadline} is handled at {step.now}; {step.deadline} is next")

    # -- delays -------------------------------------------------------------------------------

    def _heed(self, frame: Frame) -> None:
        if frame["type"] in REJECTIONS:
            self._raise_floor(frame.get("retry_after_seconds"), sure=self._is_heeded(frame))
            self._rejected = self._rejected or self.book.link is None or not self.book.link.live
        elif frame["type"] == "going_away":
            after, spread = (
                min(each / 1000, _DAY) if isinstance(each, int) and each > 0 else 0.0
                for each in (frame.get("after_ms"), frame.get("spread_ms"))
            )
            least, most = self._floor
            self._floor = least, max(most, after + spread)

    def _is_heeded(self, frame: Frame) -> bool:
        """Whether an error counts for sure: not behind a rejection, and not where it is none."""
        link = self.book.link
        if link is None or "seq" in frame:
            return False
        if not link.live:
            return not self._rejected
        return link.version == 1 or SERVER["error"](frame)

    def _raise_floor(self, seconds: object, *, sure: bool = True) -> None:
        if isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds > 0:
            floor = min(float(seconds), _DAY) if seconds < float("inf") else 0.0
            least, most = self._floor
            self._floor = max(least, floor) if sure else least, max(most, floor)

    def opening(self, step: Step, action: OpenTransport) -> None:
        """The next attempt comes at its time."""
        match step.input:
            case Connect() | SetToken():
                pass
            case TimerExpired() if self._retry_at is not None:
                if step.now < self._retry_at - EPSILON:
                    self.fail(f"{self.book.name} tries at {step.now}, before {self._retry_at}")
            case _:
                self.fail(f"{self.book.name} opens a connection for {step.input}")
        self._retry_at, self._floor, self._rejected = None, (0.0, 0.0), False

    def told(self, step: Step, event: ClientEvent) -> None:
        """Judge a delay and the number of its attempt."""
        match event:
            case CaughtUp():
                if self.book.link is not None and self.book.link.version == 1:
                    self._anew = True  # with the first frame after it, whatever that is
                else:
                    self._count_anew()
            case RetryScheduled():
                self._check_attempt(event)
                if not isinstance(step.input, SetToken):  # it is the application's own wish then
                    self._check_delay(event)
                self._retry_at = step.now + event.delay
            case _:
                pass

    def _count_anew(self) -> None:
        if self._attempt > 0:
            self.saw("count begins again")
        self._attempt = 0

    def _check_attempt(self, event: RetryScheduled) -> None:
        counted = {self._attempt + 1, 1} if self._anew else {self._attempt + 1}
        if event.attempt not in counted:
            self.fail(f"{self.book.name}: {event}; due is attempt {sorted(counted)}")
        self._attempt, self._anew = event.attempt, False
        self.saw("retry" if event.attempt == 1 else "retry again")

    def _check_delay(self, event: RetryScheduled) -> None:
        limit = self.config.max_attempts
        if limit is not None and event.attempt > limit:
            self.fail(f"{event}, and {limit} attempts are all there may be")
        backoff, (least, most) = self.config.backoff, self._floor
        delay = backoff.initial
        for _ in range(event.attempt - 1):
            if delay >= backoff.maximum:
                break
            delay *= backoff.multiplier
        delay = min(delay, backoff.maximum)
        low = max(delay * (1 - backoff.jitter), least) - EPSILON
        high = max(delay, most) + EPSILON
        if not low <= event.delay <= high:
            self.fail(f"{self.book.name}: {event}; due are {low} to {high} seconds")
        if least > delay * (1 - backoff.jitter):
            self.saw("floor")

    def end(self, step: Step) -> None:
        """While it waits, the deadline is the next attempt's, or an earlier one."""
        due, deadline = self._retry_at, step.deadline
        if due is None or self.book.link is not None or self.book.stopped:
            return
        if deadline is None or deadline > due + EPSILON:
            self.fail(f"the next try is due at {due}, the deadline {deadline}")


class ClientLiveness(ClientMonitor):
    """P17, at a client: nothing that may never come is waited for without a deadline."""

    prop = "P17"
    about = "a silent server is given up by its deadline; one that speaks in time never is"
    needs = frozenset(
        {
            "P17 silent server",
            "P17 ping of a client",
            "P17 handshake given up",
            "P17 recovery given up",
        }
    )

    def __init__(self, witnessed: Counter[str], book: ClientBook) -> None:
        super().__init__(witnessed, book)
        self._asked = 0.0

    def wrote(self, step: Step, link: Transport, frame: Frame) -> None:
        """The client asks for a sign of life, or for a handshake's answer."""
        if frame["type"] == "ping":
            self._asked = step.now
            self.saw("ping of a client")
        elif frame["type"] == "join" and link.live:
            link.opened = step.now

    def closing(self, step: Step, action: CloseTransport) -> None:
        """Judge who is given up for silence."""
        link = self.book.link
        if link is None or not isinstance(step.input, TimerExpired):
            return
        if action.reason == "handshake_timeout":
            self.saw("handshake given up")
            if link.live or step.now < link.opened + self.config.handshake_timeout - EPSILON:
                self.fail(f"{self.book.name} gives up a handshake of {step.now - link.opened} s")
        if action.reason == "recovery_timeout":
            self.saw("recovery given up")
            if step.now < link.progress + self.config.recovery_timeout - EPSILON:
                self.fail(f"{self.book.name} gives up what went on at {link.progress}")
        if action.code != _LIVENESS_TIMEOUT:
            return
        self.saw("silent server")
        if not link.live or step.now < link.heard + 2 * self.book.heartbeat - EPSILON:
            self.fail(f"{self.book.name} gives up a server that spoke at {link.heard}")
        if self.book.taken < self.book.cursor:
            self.fail(f"{self.book.name} counts silence while its application is behind")

    def end(self, step: Step) -> None:
        """The deadline sees to it that a silent server is noticed."""
        link = self.book.link
        if link is None or step.raised is not None:
            return
        limit = self._limit(link)
        if limit is not None and (step.deadline is None or step.deadline > limit + EPSILON):
            self.fail(
                f"{self.book.name} must look at connection {link.number} by {limit}; the"
                f" deadline is {step.deadline}"
            )

    def _limit(self, link: Transport) -> float | None:
        if not link.live:
            return link.opened + self.config.handshake_timeout
        limits: list[float] = []
        if link.awaits or link.recovers:
            limits.append(link.progress + self.config.recovery_timeout)
        if self.book.taken >= self.book.cursor:
            grace = min(self.book.heartbeat, self.config.handshake_timeout)
            limits.append(max(link.heard + 2 * self.book.heartbeat, self._asked + grace))
        return min(limits, default=None)


class Endings(ClientMonitor):
    """P15, at a client: what may be retried is, and what may not ends it."""

    prop = "P15"
    about = "a client comes back after what may be retried, and stops for what may not"
    needs = frozenset({"P15 comes back", "P15 stops for good", "P15 asks for a token"})

    def __init__(self, witnessed: Counter[str], book: ClientBook) -> None:
        super().__init__(witnessed, book)
        self._next: set[str] = set()
        self._rejected = False
        self._has_newer_token = False
        self._presented: float | None = None  # when `auth` carried it
        self._attempts = 0  # since it last caught up

    def told(self, step: Step, event: ClientEvent) -> None:
        """Count the attempts in a row."""
        match event:
            case RetryScheduled():
                self._attempts = event.attempt
            case CaughtUp() if self.book.link is not None and self.book.link.version != 1:
                self._attempts = 0  # in version 1 only with the next frame
            case _:
                pass

    def wrote(self, step: Step, link: Transport, frame: Frame) -> None:
        """Note when a newer token was presented."""
        if frame["type"] == "auth":
            self._presented = step.now

    def begin(self, step: Step) -> None:
        """What the end of a connection must lead to."""
        self._next = set()
        link, input_ = self.book.link, step.input
        if isinstance(input_, Disconnect) and not self.book.stopped:
            self._next = {"stop"}
        if link is None:
            self._rejected = self._has_newer_token = False
            return
        if isinstance(input_, SetToken) and link.hellos and step.raised is None:
            self._has_newer_token, self._presented = input_.token is not None, None
        if isinstance(input_, TransportClosed) and input_.connection == link.number:
            self._next = _after_close(input_, self._rejected)
        frame = self.book.incoming
        waits = bool(link.hellos) and not link.live and not self._rejected
        numbered = frame is not None and "seq" in frame and frame["type"] != "hello_error"
        is_event = numbered and self.config.versions.minimum == 1
        if frame is not None and waits and frame["type"] in REJECTIONS and not is_event:
            code = _close_code(frame.get("code"))
            self._rejected = code is None
            if code is not None:
                self._next = _after_code(code)

    def end(self, step: Step) -> None:
        """It came back, asked for a token, or stopped."""
        if not self._next or step.raised is not None:
            return
        told = [getattr(action, "event", None) for action in step.actions]
        came = {
            kind
            for event in told
            for kind, cls in (("retry", RetryScheduled), ("token", TokenNeeded), ("stop", Stopped))
            if isinstance(event, cls)
        }
        if "token" in self._next and self._is_untried(step.now):
            self._next = {"retry"}
            self.saw("tries a newer token")
        limit = self.config.max_attempts
        if "retry" in self._next and limit is not None and self._attempts >= limit:
            self._next = self._next | {"stop"}
        if len(came) != 1 or not came <= self._next:
            self.fail(f"{self.book.name}: {step.input} leads to {came}; due is {self._next}")
        self.saw(
            {"retry": "comes back", "token": "asks for a token", "stop": "stops for good"}[
                came.pop()
            ]
        )

    def _is_untried(self, now: float) -> bool:
        """No handshake has carried it yet, and no `auth` that the server can have judged."""
        grace = min(self.book.heartbeat, self.config.handshake_timeout)
        judged = self._presented is not None and now >= self._presented + grace
        return self._has_newer_token and not judged


def _after_close(closed: TransportClosed, rejected: bool) -> set[str]:
    """What may follow the end of a connection, by the codes alone."""
    status, code = closed.http_status, closed.code
    if status is not None:
        if status in {401, 403}:
            return {"token"}
        final = 400 <= status < 500 and status != 429  # noqa: PLR2004 -- HTTP's client errors
        return {"stop"} if final else {"retry"}
    if code in {None, 1005, 1006}:
        return {"retry", "stop", "token"} if rejected else {"retry"}
    return _after_code(code or 0)


def _after_code(code: int) -> set[str]:
    if code == _AUTH_EXPIRED:
        return {"token"}
    final = code in _FINAL or 4500 <= code < 5000  # noqa: PLR2004 -- the range that is final
    return {"stop"} if final else {"retry"}


def _close_code(code: object) -> int | None:
    """The close code of an error that a client knows and that ends a connection."""
    try:
        known = ErrorCode("version_unsupported" if code == "protocol_unsupported" else str(code))
    except ValueError:
        return None
    return ERRORS[known].close_code
