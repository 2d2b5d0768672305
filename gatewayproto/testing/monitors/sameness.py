"""P12: a machine that was saved and restored goes on as it was; one that lost state begins anew.

What needs machines to show it (the same inputs, the same actions) is compared by whoever has them,
with `same_actions`.

Spec: Terms (epoch); Sessions; the architecture page, "Saved and restored".
"""

from collections import Counter
from collections.abc import Sequence

from gatewayproto.actions import ClientAction, GatewayAction, GatewayEvent, SnapshotNeeded
from gatewayproto.testing.monitors.base import EPSILON, Monitor
from gatewayproto.testing.monitors.book import Book, Connection, Session
from gatewayproto.testing.monitors.gateway import GatewayMonitor
from gatewayproto.testing.monitors.wire import WELCOMES, Frame
from gatewayproto.testing.steps import Restarted, Step, Swapped


def same_actions(
    first: Sequence[GatewayAction | ClientAction], second: Sequence[GatewayAction | ClientAction]
) -> str | None:
    """Compare what two machines gave for one input; says what differs, None if nothing does."""
    for number, (one, other) in enumerate(zip(first, second, strict=False), start=1):
        if one != other:
            return f"action {number} is {one}, and {other} by the other"
    if len(first) != len(second):
        return f"{len(first)} actions, and {len(second)} by the other"
    return None


class Epochs(GatewayMonitor):
    """P12, at the gateway: an epoch is new where the numbering broke, and else stays."""

    prop = "P12"
    about = "after state was lost every epoch is new; unbroken, it is the same"
    needs = frozenset(
        {
            "P12 restart whole",
            "P12 restart store",
            "P12 restart copy",
            "P12 restart nothing",
            "P12 new epoch after a break",
            "P12 same epoch after a restart",
        }
    )

    def __init__(self, witnessed: Counter[str], book: Book) -> None:
        super().__init__(witnessed, book)
        self._names: dict[str, str] = {}
        self._used: set[str] = set()
        self._restarted: set[str] = set()

    def begin(self, step: Step) -> None:
        """A restart."""
        if isinstance(step.input, Restarted):
            self.saw(f"restart {step.input.kind}")
            if step.input.kind == "whole":
                self._restarted = set(self.book.sessions)
            else:
                self._restarted.clear()

    def sent(self, step: Step, connection: Connection, frame: Frame, data: bytes) -> None:
        """Hold an epoch that is named against those before it."""
        epoch = frame.get("epoch") if frame["type"] == "snapshot" else None
        if frame["type"] in WELCOMES:
            epoch = frame.get("epoch") or str(frame.get("session_id")).partition(".")[2]
        session = connection.session
        if epoch and session is not None:
            self._named(session, epoch)

    def told(self, step: Step, event: GatewayEvent) -> None:
        """A question for a state names the epoch, too."""
        if isinstance(event, SnapshotNeeded):
            session = self.book.sessions.get(event.session_id)
            if session is not None:
                self._named(session, event.epoch)

    def _named(self, session: Session, epoch: str) -> None:
        if session.epoch is None:
            if epoch in self._used:
                self.fail(f"epoch {epoch} of session {session.session_id} was one before")
            if session.past:
                self.saw("new epoch after a break")
        elif epoch != session.epoch:
            self.fail(f"session {session.session_id} is in {session.epoch} and names {epoch}")
        elif session.session_id in self._restarted:
            self.saw("same epoch after a restart")
        self._used.add(epoch)


class Swaps(Monitor):
    """P12, for every machine: one that is restored waits for the same deadline as the original."""

    prop = "P12"
    about = "a machine that was saved and restored at any step goes on as it was"

    def __init__(self, witnessed: Counter[str]) -> None:
        super().__init__(witnessed)
        self._deadlines: dict[str, float | None] = {}

    def begin(self, step: Step) -> None:
        """A machine was replaced by what its state restores."""
        if not isinstance(step.input, Swapped):
            return
        self.saw("swap")
        who = step.input.who
        before = self._deadlines.get(who)
        if step.deadline is None or before is None:
            return
        if abs(step.deadline - before) > EPSILON:
            self.fail(f"{who}, restored, waits for {step.deadline}; before for {before}")

    def end(self, step: Step) -> None:
        """Remember what a machine waits for."""
        self._deadlines[step.who] = step.deadline

    def forget(self, who: str) -> None:
        """Another machine begins in its place."""
        self._deadlines.pop(who, None)
