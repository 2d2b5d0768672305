"""What a client must do, said a second time: for every input, by the specification's words.

The rules of the client's side are few but many-sided, and a pair of correct machines hides what
either lacks. Here a client is held to all of them at every step, whatever its server does: what it
tells, sends, opens and closes, and what it waits for, is exactly what the inputs so far call for.

Spec: The client's side; Version 1; Errors.
"""

import json
from collections.abc import Sequence
from typing import Any

from gatewayproto.actions import MessageRefused
from gatewayproto.errors import LocalProtocolError
from gatewayproto.inputs import (
    Abort,
    Activity,
    ClientInput,
    Connect,
    Disconnect,
    FrameReceived,
    Resync,
    Send,
    SetToken,
    Taken,
    TimerExpired,
    TransportClosed,
    TransportOpened,
)
from gatewayproto.testing.any_peer._client_frames import FrameBook
from gatewayproto.testing.any_peer._client_known import ANY, ATTACHED, Ending, Frame, Owed
from gatewayproto.testing.reference import compact
from gatewayproto.testing.steps import Step, Violation


class _MistakeError(Exception):
    """The caller's mistake: the machine must raise, and nothing may have changed."""


class ClientReference(FrameBook):
    """Judges a client step by step.

    `judge` raises `Violation` for the first step that is not what the specification calls for.
    """

    def expect(self, input_: ClientInput, now: float, next_id: str) -> bool:
        """Note what an input must come to; `next_id` is what the client would draw next.

        Tells whether it must change nothing at all: a mistake, a connection that was given up, or
        a timer before its time.
        """
        self.begin(now, next_id)
        try:
            self._take(input_)
        except _MistakeError as mistake:
            self.mistake = str(mistake)
        return self.changes_nothing or self.mistake is not None

    def judge(self, step: Step, issued: Sequence[str]) -> None:
        """Hold the step against it; `issued` are the ids that were drawn. Raises `Violation`."""
        if self.mistake is not None:
            if not isinstance(step.raised, LocalProtocolError):
                raise Violation("P13", f"takes the caller's mistake: {self.mistake}")
            self.witnessed.add(f"mistake: {self.mistake}")
        elif step.raised is not None:
            raise Violation("P13", f"raises {step.raised!r}")
        else:
            self.compare(step, issued)

    @property
    def is_settled(self) -> bool:
        """Whether all is well and nothing is open; or the client stopped."""
        link = self.link
        if self.phase == "stopped":
            return True
        if self.phase != "live" or link is None or link.due or link.leaving is not None:
            return False
        return not self.outbox and not self.is_behind

    def finish(self) -> None:
        """After the end nothing may be left. Raises `Violation`."""
        if self.phase == "stopped" and self.next_deadline is not None:
            raise Violation("P10", "a client that stopped waits for something")

    def _take(self, input_: ClientInput) -> None:
        match input_:
            case FrameReceived() | TransportOpened() | Activity() | TransportClosed():
                self._take_of_transport(input_)
            case TimerExpired():
                self._expire()
            case Connect():
                self._connect()
            case Send():
                self._send(input_)
            case _:
                self._command(input_)

    # -- the transport ------------------------------------------------------------------------

    def _take_of_transport(
        self, input_: FrameReceived | TransportOpened | Activity | TransportClosed
    ) -> None:
        number = input_.connection
        if not 1 <= number <= self.opened:
            raise _MistakeError(f"connection {number} was never opened")
        link = self.link
        if link is None or link.number != number:
            self.witnessed.add(f"from the past: {type(input_).__name__}")
            self.changes_nothing = True
            return
        match input_:
            case FrameReceived(data=data):
                if self.phase == "connecting":
                    raise _MistakeError("a frame before the transport is open")
                self.take_bytes(data)
            case TransportOpened():
                if self.phase != "connecting":
                    raise _MistakeError("the transport is open already")
                self._say_hello()
            case Activity():
                if self.phase in ATTACHED:
                    self.hear()
            case TransportClosed():
                self.witnessed.add(f"{self.phase}: closed")
                self.end(self.judge_close(input_))

    def _say_hello(self) -> None:
        link, config, held = self.linked, self.config, self.position
        starts_so = config.start == "snapshot" and held is None
        link.asked_snapshot = self.wants_snapshot or starts_so
        self.send(
            "hello",
            agent_id=config.agent_id,
            protocol_min=config.versions.minimum,
            protocol_max=config.versions.maximum,
            capabilities=list(config.capabilities) or None,
            session_id=None if held is None else held.session_id,
            epoch=None if held is None else held.epoch,
            since=None if held is None else held.cursor,
            start="snapshot" if link.asked_snapshot else None,
            token=self.token,
            max_payload=config.max_payload,
            client=self.about(),
        )
        self.phase = "handshaking"

    # -- commands -----------------------------------------------------------------------------

    def _connect(self) -> None:
        if self.phase != "idle":
            raise _MistakeError("the client was started already")
        self.rename("connecting")
        self.open()

    def _command(self, input_: ClientInput) -> None:
        if self.phase == "stopped":
            return
        match input_:
            case Abort(run_id=run_id, request_id=request_id):
                if self.phase in ATTACHED:
                    names = {"run_id": run_id, "request_id": request_id}
                    given = {name: value for name, value in names.items() if value is not None}
                    if len(compact({"type": "abort", **given})) > self.max_payload:
                        raise _MistakeError("an abort that the server would not take")
                    self.send("abort", **names)
            case Taken(seq=seq):
                self._note_taken(seq)
            case Resync():
                self._resync()
            case SetToken(token=token):
                self._set_token(token)
            case Disconnect():
                if self.phase in ATTACHED:
                    self.send("leave")
                if self.link is not None:
                    self.close(1000)
                self.stop("disconnected", ANY)
            case _:
                raise AssertionError(f"no command: {input_}")

    def _note_taken(self, seq: int) -> None:
        if not self.taken < seq <= self.cursor:
            return
        self.taken = seq
        if seq == self.cursor and self.phase in ATTACHED:
            self.hear()

    def _resync(self) -> None:
        if self.phase == "resyncing":
            return
        self.wants_snapshot = True
        if self.phase in ATTACHED:
            self.ask_snapshot()

    def _set_token(self, token: str | None) -> None:
        if token is not None and any("\ud800" <= character <= "\udfff" for character in token):
            raise _MistakeError("a token that is no text")
        self.token = token
        if self.phase == "token needed" and token is not None:
            low, high = self.not_before
            if high > self.now:
                self.attempt += 1
                self.wait((low - self.now, high - self.now), None)
            else:
                self.open()
        elif self.phase in {"handshaking", "rejoining", "rejected"} | ATTACHED:
            self.linked.new_token, self.linked.presented = token is not None, None
            if self.phase in ATTACHED:
                self.present_token()

    def _send(self, command: Send) -> None:
        frame = self._message(command)
        message = Owed(frame["request_id"], frame, len(compact(frame)))
        if self.phase == "stopped":
            self._refuse(message, "disconnected")
        elif message.size > self.max_payload:
            self._refuse(message, "payload_too_large")
        elif len(self.outbox) >= self.config.max_queued:
            self._refuse(message, "inbox_full")
        else:
            self.outbox.append(message)
            self.flush()

    def _refuse(self, message: Owed, code: str) -> None:
        self.witnessed.add(f"refused {code}")
        self.tell(MessageRefused(request_id=message.request_id, code=code, message=ANY))

    def _message(self, command: Send) -> Frame:
        """The frame of a message; a mistake where it cannot be one."""
        request_id, content = command.request_id, command.content
        if request_id is not None and not 1 <= len(request_id) <= 128:  # noqa: PLR2004
            raise _MistakeError("a request_id that is none")
        if self.owed(request_id) is not None:
            raise _MistakeError("the request_id of a message that has not come to its end")
        try:
            fields: dict[str, Any] = json.loads(json.dumps({"content": content}, allow_nan=False))
            compact(fields)
        except (TypeError, ValueError):
            raise _MistakeError("a message that is no JSON") from None
        if request_id is None:
            request_id = self.next_id
        named = {
            "request_id": request_id,
            "reply_to": command.reply_to,
            "metadata": None if command.metadata is None else dict(command.metadata),
        }
        present = {name: value for name, value in named.items() if value is not None}
        return {"type": "message", **fields, **present}

    # -- time ---------------------------------------------------------------------------------

    def _expire(self) -> None:
        due = self.next_deadline
        self.changes_nothing = due is None or due > self.now
        while self.deadlines:
            name, (at, _) = min(self.deadlines.items(), key=lambda item: item[1])
            if at > self.now:
                return
            del self.deadlines[name]
            self.witnessed.add(f"due: {name}")
            self._run_deadline(name)

    def _run_deadline(self, name: str) -> None:
        match name:
            case "handshake" if self.phase == "rejected":
                self.close(1000)
                closed = TransportClosed(connection=self.linked.number)
                self.end(self.judge_close(closed))
            case "handshake":
                self.give_up("handshake_timeout", 4005)
            case "recovery":
                self.give_up("recovery_timeout")
            case "silence":
                self.ping(self.linked.heard + 2 * self.heartbeat)
            case "liveness":
                self._judge_silence()
            case "leave":
                self.send("leave", reason="going_away")
                self.close(1000)
                self.end(Ending("retry", "going_away", ""))
            case "retry":
                self.open()
            case _:
                for message in list(self.outbox):
                    if message.written is not None and message.written + self.ttl <= self.now:
                        self.outbox.remove(message)
                        self.end_message(message, "")
                self.flush()

    def _judge_silence(self) -> None:
        grace = min(self.heartbeat, self.config.handshake_timeout)
        if self.now > self.linked.give_up + grace:
            self.witnessed.add("pinged again after a jump")
            self.ping(self.now)
        else:
            self.give_up("liveness_timeout", 4001)
