"""P4 at a client: it goes by a welcome as it stands, and by none that makes no sense.

Spec: The client's side (CLI-11); Version 1.
"""

from typing import Any

from gatewayproto.actions import ClientEvent, Joined, ResumeToken
from gatewayproto.testing.monitors.client import ClientMonitor
from gatewayproto.testing.monitors.wire import WELCOMES, Frame
from gatewayproto.testing.steps import Step


class Believing(ClientMonitor):
    """P4, at a client: what it is told of a welcome is what the welcome says."""

    prop = "P4"
    about = "a client believes a welcome as it stands, and none that contradicts what it asked"
    needs = frozenset({"P4 told joined", "P4 told resumed", "P4 told resync"})

    def told(self, step: Step, event: ClientEvent) -> None:
        """Hold a `Joined` against its welcome."""
        if not isinstance(event, Joined):
            return
        frame, link = self.book.incoming, self.book.link
        if link is None or not link.hellos:
            self.fail(f"{self.book.name} joined without having asked")
        if frame is None or frame["type"] not in WELCOMES:
            self.fail(f"{self.book.name} joined by {frame}")
        if event.protocol_version > 1:
            self._check(event, frame, self.book.token)
        what = "resumed" if event.resumed else "joined"
        self.saw("told resync" if event.resync_required else f"told {what}")

    def _check(self, event: Joined, frame: Frame, held: ResumeToken | None) -> None:
        said: dict[str, Any] = {
            "session_id": event.session_id,
            "epoch": event.epoch,
            "protocol_version": event.protocol_version,
            "cursor": event.cursor,
            "oldest_cursor": event.oldest_cursor,
            "sequence": event.sequence,
        }
        for name, value in said.items():
            if frame.get(name, value if name == "protocol_version" else None) != value:
                self.fail(f"{name} is told as {value!r} of the welcome {frame}")
        if event.resumed != bool(frame.get("resumed")):
            self.fail(f"resumed is told as {event.resumed} of the welcome {frame}")
        if event.resync_required != bool(frame.get("resync_required")):
            self.fail(f"resync_required is told as {event.resync_required} of {frame}")
        if (
            not self.config.versions.minimum
            <= event.protocol_version
            <= (self.config.versions.maximum)
        ):
            self.fail(f"version {event.protocol_version} was not offered")
        self._check_sense(event, held)

    def _check_sense(self, event: Joined, held: ResumeToken | None) -> None:
        """What must not be believed."""
        if not event.resumed:
            if event.sequence != 0:
                self.fail(f"a new session that begins at {event.sequence} is believed")
            return
        if held is None:
            self.fail("a welcome that resumes what was never held is believed")
        if event.session_id.partition(".")[0] != self.book.session_id:
            self.fail("a welcome that resumes another session is believed")
        if event.resync_reason == "epoch_changed":
            return
        if self.book.epoch not in {None, event.epoch}:
            self.fail(f"epoch {event.epoch} in place of {self.book.epoch} is believed")
        if event.resync_required:
            return
        if event.sequence != held.cursor or event.cursor < held.cursor:
            self.fail(f"a welcome that goes on from {event.sequence}, not {held.cursor}")
