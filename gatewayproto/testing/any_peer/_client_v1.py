"""What a client must do with the frames of a version 1 server, which guards nothing.

Spec: Version 1.
"""

from gatewayproto.actions import (
    CaughtUp,
    Gap,
    ResumeToken,
)
from gatewayproto.testing import _shapes
from gatewayproto.testing.any_peer._client_known import (
    Frame,
)
from gatewayproto.testing.any_peer._client_live import LiveBook
from gatewayproto.testing.any_peer._reading import event_of, is_numbered, lenient, same_session


class V1Book(LiveBook):
    """What frames of a version 1 server must come to, after its welcome."""

    def _name_trimmed(self, frame: Frame) -> None:
        floor, expected = frame.get("oldest_cursor") or 0, self.cursor + 1
        if self.phase == "live" and self.linked.reason is None and floor > expected:
            self.tell(Gap(expected=expected, received=floor))
            self._skip_to(floor - 1, "trimmed")

    def _note_caught_up_v1(self, *, by_frame: bool) -> None:
        link = self.link
        if link is None or link.version != 1 or self.phase != "live":
            return
        if self.cursor < (link.head or 0):
            return
        if link.due:
            link.due = False
            self.tell(CaughtUp(cursor=self.cursor))
        if by_frame:
            self.attempt = 0

    def _take_v1(self, frame: Frame) -> None:
        type_ = frame["type"]
        if type_ == "response":
            self._take_response(frame)
        if is_numbered(frame):
            self._take_event_v1(frame)
            return
        match type_:
            case "hello_ok" | "joined":
                self.end_bad()
            case "snapshot":
                self._take_snapshot_v1(frame)
            case "ping":
                self.send("pong", nonce=lenient(_shapes.NONCE, frame.get("nonce")))
                self._see_tail(lenient(_shapes.CURSOR, frame.get("cursor")))
                self._note_caught_up_v1(by_frame=True)
            case "pong":
                self._see_pong_v1()
                self._note_caught_up_v1(by_frame=True)
            case "error" | "hello_error":
                said = {
                    "code": lenient(_shapes.text(), frame.get("code")) or "",
                    "message": lenient(_shapes.text(), frame.get("message")),
                    "request_id": lenient(_shapes.text(), frame.get("request_id")),
                    "retry_after_seconds": lenient(
                        _shapes.number, frame.get("retry_after_seconds")
                    ),
                }
                self._take_error(said)
            case _:
                pass

    def _see_pong_v1(self) -> None:
        head = self.linked.head or 0
        if self.phase != "live" or head <= self.cursor or self.linked.has_floor:
            return
        if self._is_known_hole():
            self.witnessed.add("known hole at the tail")
            self.give_up("gap")
        else:
            self.gap(head)

    def _take_response(self, frame: Frame) -> None:
        request_id = lenient(_shapes.REQUEST_ID, frame.get("request_id"))
        status = lenient(_shapes.text(), frame.get("status"))
        taken = isinstance(frame.get("seq"), int) or status in {None, "accepted", "duplicate"}
        if request_id is not None and taken:
            self._take_ack(request_id, duplicate=status == "duplicate")

    def _take_event_v1(self, frame: Frame) -> None:
        if self.phase == "resyncing":
            return
        seq, nested = frame["seq"], frame.get("event")
        source = nested if isinstance(nested, dict) else frame
        data = source.get("data")
        said = {
            "type": lenient(_shapes.NAME, source.get("type")) or frame["type"],
            "data": data if isinstance(data, dict) else source,
            "event_id": lenient(_shapes.NAME, source.get("event_id")) or str(seq),
            "timestamp": lenient(_shapes.number, source.get("timestamp")) or 0.0,
            **{
                name: lenient(_shapes.text(), source.get(name))
                for name in ("source", "target", "request_id")
            },
            "run_id": lenient(_shapes.NAME, source.get("run_id")),
            **{
                name: lenient(_shapes.boolean, source.get(name))
                for name in ("transient", "final", "expects_reply")
            },
        }
        replayed = seq <= (self.linked.head or 0)
        self._take_event(seq, event_of(said), replayed=replayed)
        self._note_caught_up_v1(by_frame=True)

    def _take_snapshot_v1(self, frame: Frame) -> None:
        link, state = self.linked, frame["state"]
        session_id = lenient(_shapes.text(), state.get("session_id"))
        own = ResumeToken(session_id=link.session_id, epoch=None, cursor=0)
        if session_id is not None and not same_session(own, session_id):
            self.end_bad()
            return
        self._start_over(state["event_cursor"], None, link.reason or "unspecified", state)
        self._note_caught_up_v1(by_frame=True)
