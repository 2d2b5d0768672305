"""P9 of states that the application builds: who is asked, how often, and what comes of no answer.

Spec: Snapshots.
"""

from typing import Final

from gatewayproto.actions import CloseConnection, GatewayEvent, SnapshotNeeded
from gatewayproto.inputs import SnapshotReady, TimerExpired
from gatewayproto.testing.monitors.base import EPSILON
from gatewayproto.testing.monitors.book import Connection, Session
from gatewayproto.testing.monitors.gateway import GatewayMonitor
from gatewayproto.testing.monitors.wire import Frame
from gatewayproto.testing.steps import Step

_INTERNAL_ERROR: Final = 4004


class Building(GatewayMonitor):
    """P9, at the gateway: one question at a time, not without end, and none without need.

    Who waits, and what for, is judged where welcomes and snapshots are.
    """

    prop = "P9"
    about = "the application is asked for a state once for all who wait, and not without end"

    def begin(self, step: Step) -> None:
        """A state of a former epoch, or of a session that is gone, leads to nothing."""
        if not isinstance(step.input, SnapshotReady) or step.raised is not None:
            return
        session = self.book.sessions.get(step.input.session_id)
        if session is None or session.epoch in {None, step.input.epoch}:
            return
        self.witnessed["P5 state refused, of a former epoch"] += 1
        if step.actions or step.deadline != self.book.deadline:
            self.fail(f"a state of {step.input.epoch} in {session.epoch} leads to {step.actions}")

    def told(self, step: Step, event: GatewayEvent) -> None:
        """A question is as of now, and counted."""
        if not isinstance(event, SnapshotNeeded):
            return
        session = self.book.sessions.get(event.session_id)
        if session is None or not self.config.application_snapshots:
            self.fail(f"{event} asks for what nobody needs")
        if session.question is not None:
            self.fail(f"{event}, though {session.question} is not answered")
        answered = self.book.answered
        attempt = 1 if answered is None else answered.attempt + 1
        if event.attempt != attempt:
            self.fail(f"{event} is question {attempt} in a row")
        if event.attempt > self.config.max_snapshot_tries:
            self.fail(f"{event} is one question too many")
        if event.cursor != session.ledger.cursor:
            self.fail(f"{event} asks for a state as of {session.ledger.cursor}", "P5")
        self.saw("asked" if attempt == 1 else "asked again")

    def sent(self, step: Step, connection: Connection, frame: Frame, data: bytes) -> None:
        """Whom a state served that others were waiting for, too."""
        if frame["type"] == "snapshot" and isinstance(step.input, SnapshotReady):
            self.saw("served by an answer")

    def closed(self, step: Step, connection: Connection, close: CloseConnection) -> None:
        """Only who waits in vain is closed for want of a state."""
        if close.code != _INTERNAL_ERROR or not self.config.application_snapshots:
            return
        session = connection.session or connection.awaits
        if isinstance(step.input, TimerExpired | SnapshotReady):
            if session is None or session.session_id not in self.book.given_up:
                self.fail(f"{connection} is closed for want of a state that may still come")
            timer = isinstance(step.input, TimerExpired)
            self.saw("closed, no answer came" if timer else "closed, no answer helped")

    def end(self, step: Step) -> None:
        """No answer is waited for without end."""
        if not self.config.application_snapshots:
            return
        for session in self.book.sessions.values():
            question = session.question
            if question is None:
                continue
            due = question.asked + self.config.snapshot_timeout
            if step.raised is None and (step.deadline is None or step.deadline > due + EPSILON):
                self.fail(f"{question} is waited for until {step.deadline}", "P10")
            waiting = self._waiting(session.session_id)
            if len(waiting) > 1:
                self.saw("several wait for one state")
            self._note_window(step, session, waiting)

    def _waiting(self, session_id: str) -> list[Connection]:
        """Whose welcome waits for a state of this session."""
        return [
            each
            for each in self.book.connections.values()
            if each.awaits is not None and each.awaits.session_id == session_id
        ]

    def _note_window(self, step: Step, session: Session, waiting: list[Connection]) -> None:
        """Whether a session would be gone by now, if nobody waited to be welcomed to it."""
        alone = waiting and not self.book.followers(session.session_id)
        if alone and step.now >= max(each.opened for each in waiting) + self.config.resume_window:
            self.witnessed["P10 session outlives its window, somebody waits"] += 1
