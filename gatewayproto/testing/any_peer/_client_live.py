"""What a welcomed client must do with the frames of a version 2 server, and with events of any.

Spec: Server to client; Snapshots; The client's side.
"""

from typing import Final

from gatewayproto.actions import (
    CaughtUp,
    EventReceived,
    HealthReceived,
    MessageAccepted,
    MessageRefused,
    PresenceReceived,
    ResumeToken,
    Skipped,
    SnapshotReceived,
)
from gatewayproto.frames import Event
from gatewayproto.testing.any_peer._client_book import Book
from gatewayproto.testing.any_peer._client_known import LEAVE_GRACE, Frame, Parts, floor_of
from gatewayproto.testing.any_peer._reading import entries_of, event_of, object_of

_FORMS: Final = ("from_version", "joined", "left", "entries", "presence_count")
_REFUSALS: Final = frozenset(
    {
        "request_conflict",
        "inbox_full",
        "session_closed",
        "already_answered",
        "invalid_request",
        "not_joined",
        "malformed_frame",
        "payload_too_large",
        "rate_limited",
        "unknown_type",
    }
)


class LiveBook(Book):
    """What frames after the welcome must come to."""

    def _take_v2(self, frame: Frame) -> None:
        match frame["type"]:
            case "hello_ok" | "joined":
                self.end_bad()
            case "event" | "replay":
                replayed = frame["type"] == "replay"
                self._take_event(frame["seq"], event_of(frame["event"]), replayed=replayed)
            case "skip":
                self._take_skip(frame)
            case "caught_up":
                self._take_caught_up(frame)
            case "snapshot":
                self._take_snapshot(frame)
            case "going_away":
                self._take_going_away(frame)
            case "presence":
                self._take_presence(frame)
            case "health":
                known = self.linked.health_version
                if known is None or frame["version"] > known:
                    self.linked.health_version = frame["version"]
                    self.tell(HealthReceived(version=frame["version"], health=frame["health"]))
            case _:
                self._take_answer(frame)

    def _take_presence(self, frame: Frame) -> None:
        """A change of the list that it was told, a list, or a count; else it is a bad frame."""
        link, names = self.linked, {name for name in _FORMS if frame.get(name) is not None}
        if names not in ({"from_version", "joined", "left"}, {"entries"}, {"presence_count"}):
            self.witnessed.add("a presence of no form")
            self.end_bad()
            return
        if link.presence_version is not None and frame["version"] <= link.presence_version:
            self.witnessed.add("an old presence")
            return
        if "left" in names and not (
            link.presence_listed and frame["from_version"] == link.presence_version
        ):
            self.witnessed.add("a change of an unknown list")
            self.end_bad()
            return
        link.presence_version, link.presence_listed = (
            frame["version"],
            "presence_count" not in names,
        )
        self.tell(
            PresenceReceived(
                version=frame["version"],
                from_version=frame.get("from_version"),
                joined=entries_of(frame.get("joined")),
                left=None if frame.get("left") is None else tuple(frame["left"]),
                entries=entries_of(frame.get("entries")),
                presence_count=frame.get("presence_count"),
            )
        )

    def _take_answer(self, frame: Frame) -> None:
        """What answers this client, or asks it."""
        match frame["type"]:
            case "message_ack":
                self._take_ack(frame["request_id"], duplicate=frame["duplicate"])
            case "message_nack":
                self._take_nack(frame)
            case "error" | "hello_error":
                self._take_error(frame)
            case "ping":
                self.send("pong", nonce=frame.get("nonce"), cursor=self.taken)
                self._see_tail(frame.get("cursor"))
            case _:
                pass

    def _take_event(self, seq: int, event: Event, *, replayed: bool) -> None:
        if self.phase == "resyncing":
            if self.linked.version != 1:
                self.end_bad()
            return
        if seq == self.cursor + 1:
            token = self.move(seq)
            self.tell(EventReceived(seq=seq, replayed=replayed, event=event, token=token))
        elif seq > self.cursor:
            self.witnessed.add(f"{self.phase}: event ahead")
            if self._is_known_hole():
                self.witnessed.add("known hole")
                self._skip_to(seq - 1, "trimmed")
                self._take_event(seq, event, replayed=replayed)
            else:
                self._miss(seq)
        else:
            self.witnessed.add(f"{self.phase}: event again")

    def _miss(self, received: int) -> None:
        if self.phase == "live":
            self.gap(received)

    def _is_known_hole(self) -> bool:
        """Whether a version 1 server without a floor was asked for this before."""
        link = self.linked
        return link.version == 1 and not link.has_floor and self.hole == self.held

    def _see_tail(self, cursor: int | None) -> None:
        if cursor is not None and cursor > self.cursor:
            self._miss(cursor)

    def _take_skip(self, frame: Frame) -> None:
        first, last = frame["first"], frame["last"]
        if self.phase == "resyncing" or first > last:
            self.end_bad()
        elif first > self.cursor + 1:
            self._miss(first)
        elif last > self.cursor:
            self._skip_to(last, frame["reason"])
        else:
            self.witnessed.add("skip again")

    def _skip_to(self, last: int, reason: str) -> None:
        first = self.cursor + 1
        self.tell(Skipped(first=first, last=last, reason=reason, token=self.move(last)))

    def _take_caught_up(self, frame: Frame) -> None:
        link, cursor = self.linked, frame["cursor"]
        awaited = link.due and frame.get("nonce") == link.nonce
        if self.phase == "resyncing" or (self.phase == "recovering" and not awaited):
            self.witnessed.add(f"{self.phase}: caught_up of another request")
            return
        if cursor > self.cursor:
            self.gap(cursor)
        elif awaited:
            self.recovered_if_recovering()
            link.due, self.attempt = False, 0
            self.tell(CaughtUp(cursor=cursor))

    def recovered_if_recovering(self) -> None:
        """The answer to a recovery is its end."""
        if self.phase == "recovering":
            self.recovered()

    def _take_going_away(self, frame: Frame) -> None:
        after, spread = floor_of(frame["after_ms"] / 1000), floor_of(frame["spread_ms"] / 1000)
        self.linked.leaving = (after, after + spread)
        if "leave" not in self.deadlines:
            self.arm("leave", self.now + LEAVE_GRACE)

    # -- snapshots ----------------------------------------------------------------------------

    def _take_snapshot(self, frame: Frame) -> None:
        link = self.linked
        if frame["epoch"] != link.epoch and frame["reason"] != "epoch_changed":
            self.end_bad()
            return
        reached = link.parts.reached
        verdict = self._gather(frame)
        if isinstance(verdict, str):
            self.end_bad(too_large=verdict == "too large")
        elif verdict is None:
            if link.parts.reached > reached:
                self.progress()
        else:
            self._start_over(frame["cursor"], frame["epoch"], frame["reason"], verdict)

    def _gather(  # noqa: PLR0911 -- one for each rule
        self, frame: Frame
    ) -> Frame | str | None:
        """The state once it is whole, what is wrong with the frame, or None to wait for more."""
        link, part, parts = self.linked, frame.get("part"), frame.get("parts")
        chunk, state = frame.get("chunk"), frame.get("state")
        if part is None:
            if state is None or parts is not None or chunk is not None:
                return "bad"
            link.parts = Parts()
            return dict(state)
        if state is not None or parts is None or chunk is None:
            return "bad"
        same = {name: value for name, value in frame.items() if name not in {"part", "chunk"}}
        if part == 1:
            link.parts = Parts(first=same, reached=link.parts.reached)
        elif part != link.parts.taken + 1 or same != link.parts.first:
            return "bad"
        gathered = link.parts
        gathered.taken, gathered.text = part, gathered.text + chunk
        size = len(gathered.text.encode())
        if size > self.config.max_snapshot or parts > self.config.max_snapshot:
            return "too large"
        gathered.reached = max(gathered.reached, size)
        if part < parts:
            return None
        link.parts = Parts()
        return object_of(gathered.text)

    def _start_over(self, cursor: int, epoch: str | None, reason: str, state: Frame) -> None:
        link, held = self.linked, self.held
        changed, link.epoch = epoch != link.epoch, epoch
        self.taken = min(self.taken, max(0, cursor - 1)) if held.epoch == epoch else 0
        token = ResumeToken(session_id=link.session_id, epoch=epoch, cursor=cursor)
        self.position = token
        self.recovered()
        self.watch()
        self.witnessed.add("snapshot back" if cursor < held.cursor else "snapshot ahead")
        self.tell(
            SnapshotReceived(cursor=cursor, epoch=epoch, reason=reason, state=state, token=token)
        )
        if changed:
            self.forget_written()
            self.flush()

    # -- messages -----------------------------------------------------------------------------

    def _take_ack(self, request_id: str, *, duplicate: bool) -> None:
        message = self.owed(request_id)
        if message is not None and message.written is not None:
            self.outbox.remove(message)
            self.tell(MessageAccepted(request_id=request_id, duplicate=duplicate))
            self.flush()
        else:
            self.witnessed.add("an answer to nothing")

    def _take_nack(self, frame: Frame) -> None:
        message = self.owed(frame.get("request_id"))
        if message is not None and message.written is not None:
            self.outbox.remove(message)
            self.tell(
                MessageRefused(
                    request_id=message.request_id,
                    code=frame["code"],
                    message=frame.get("message") or "",
                )
            )
            self.flush()

    def _take_error(self, frame: Frame) -> None:
        link = self.linked
        link.floor = max(link.floor, floor_of(frame.get("retry_after_seconds")))
        if frame["code"] in _REFUSALS:
            self._take_nack(frame)
