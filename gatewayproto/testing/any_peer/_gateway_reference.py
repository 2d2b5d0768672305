"""What a gateway must do, said a second time: for every input, by the specification's words.

Spec: the whole of it, the server's side.
"""

import json
import math
from collections.abc import Sequence
from typing import Final

from gatewayproto.actions import (
    AbortRequested,
    CommandDropped,
    JoinRequested,
    Published,
)
from gatewayproto.errors import LocalProtocolError
from gatewayproto.frames import ClientInfo, Event
from gatewayproto.inputs import (
    Accept,
    Activity,
    ChangeEpoch,
    CloseSession,
    Complete,
    ConnectionClosed,
    ConnectionOpened,
    Drain,
    Drained,
    FrameReceived,
    GatewayInput,
    Persisted,
    Publish,
    Reject,
    SetHealth,
    SnapshotReady,
    TimerExpired,
)
from gatewayproto.testing import _shapes
from gatewayproto.testing.any_peer._gateway_book import (
    Asked,
    Look,
    MistakeError,
    Peer,
    Session,
    error,
    present,
)
from gatewayproto.testing.any_peer._gateway_building import BuildingBook
from gatewayproto.testing.any_peer._gateway_handshakes import RANGES
from gatewayproto.testing.any_peer._reading import NO_FRAMES, has_huge
from gatewayproto.testing.monitors.allowance import Allowance
from gatewayproto.testing.reference import Plain, compact, event_object
from gatewayproto.testing.steps import Step, Violation

_MAX_HEALTH: Final = 2048


class GatewayReference(BuildingBook):
    """Judges a gateway step by step.

    `judge` raises `Violation` for the first step that is not what the specification calls for.
    """

    def judge(self, step: Step, issued: Sequence[str], look: Look) -> None:
        """Judge a step; `issued` are the ids that were drawn in it, `look` shows a session."""
        self.begin(step, issued, look)
        try:
            self._take(step.input)  # type: ignore[arg-type]  # a gateway is given nothing else
        except MistakeError as mistake:
            if not isinstance(step.raised, LocalProtocolError):
                raise Violation("P13", f"takes the caller's mistake: {mistake}") from None
            self.witnessed.add(f"mistake: {mistake}")
            return
        if step.raised is not None:
            raise Violation("P13", f"raises {step.raised!r}")
        self.finish_drain()
        self.finish_step()
        self.check_deadline(step.deadline, expired=isinstance(step.input, TimerExpired))
        self._check_sessions()

    def changes_nothing(self, input_: GatewayInput, now: float, deadline: float | None) -> bool:
        """Tell whether an input must leave the machine as it is: it is too late, or too early.

        `deadline` is what the machine itself waits for.
        """
        match input_:
            case (
                FrameReceived() | Activity() | ConnectionClosed() | Drained() | Accept() | Reject()
            ):
                return input_.connection not in self.peers
            case TimerExpired():
                return deadline is None or deadline > now
            case Publish(session_id=id_) | CloseSession(session_id=id_):
                return id_ not in self.sessions or self.sessions[id_].sealed
            case Complete(session_id=id_) | ChangeEpoch(session_id=id_):
                return id_ not in self.sessions
            case _:
                return False

    def _check_sessions(self) -> None:
        for session in self.sessions.values():
            info = self.look(session.session_id)
            ledger = session.ledger
            if info is None:
                raise Violation("P3", f"the session {session.session_id} is gone")
            expected = (
                session.epoch,
                session.agent_id,
                session.principal,
                ledger.cursor,
                ledger.oldest(2),
                len(ledger.kept),
                sum(map(ledger.size, ledger.kept)),
                len(session.pending),
                len(session.presence),
                session.sealed,
            )
            found = (
                info.epoch,
                info.agent_id,
                info.principal,
                info.cursor,
                info.oldest_cursor,
                info.retained,
                info.retained_bytes,
                info.pending_messages,
                info.subscribers,
                info.sealed,
            )
            if found != expected:
                raise Violation("P9", f"{session.session_id} is {found}, must be {expected}")

    def _take(self, input_: GatewayInput) -> None:  # noqa: C901, PLR0912 -- an arm for each input
        match input_:
            case ConnectionOpened():
                self._open(input_)
            case FrameReceived(connection=number, data=data):
                peer = self._peer(number)
                if peer is not None:
                    self._take_bytes(peer, data)
            case Activity(connection=number):
                peer = self._peer(number)
                if peer is not None:
                    peer.sign = self.now
            case Drained(connection=number, size=size):
                peer = self._peer(number)
                if peer is not None:
                    self._drain(peer, size)
            case ConnectionClosed(connection=number):
                peer = self._peer(number)
                if peer is not None:
                    self.witnessed.add(f"{peer.state}: gone")
                    self.forget(peer)
            case Accept():
                self._accept(input_)
            case Reject():
                self._reject_by_application(input_)
            case Publish(session_id=session_id, event=event):
                self._publish(session_id, event)
            case Complete(session_id=session_id, message_id=message_id):
                self._complete(session_id, message_id)
            case SetHealth(health=health):
                self._set_health(dict(health))
            case ChangeEpoch(session_id=session_id):
                self._change_epoch(session_id)
            case CloseSession(session_id=session_id):
                self.close_session(session_id)
            case Drain():
                self.drain(input_)
            case Persisted(session_id=session_id):
                # Of this gateway, which does not write ahead.
                if session_id in self.sessions:
                    raise MistakeError("a record that was never given is stored")
            case SnapshotReady():
                self.take_state(input_)
            case TimerExpired():
                self._expire()

    # -- connections --------------------------------------------------------------------------

    def _open(self, opened: ConnectionOpened) -> None:
        number = opened.connection
        if number <= self.last:
            raise MistakeError("a connection that was opened already")
        self.last = number
        full = len(self.peers) >= self.config.max_connections
        scheme, _, given = opened.headers.get("authorization", "").partition(" ")
        bearer = given.strip() if scheme.lower() == "bearer" else ""
        peer = self.peers[number] = Peer(
            number,
            self.now,
            opened.path,
            opened.peer,
            opened.timestamp,
            bearer or opened.query.get("token"),
            sign=self.now,
            pinged=self.now,
            owed_since=self.now,
            network=opened.address,
            frames=Allowance(self.config.frame_rate),
            recoveries=Allowance(self.config.recovery_rate),
        )
        if self.retry_after is not None:
            self.turn_away(peer)
            return
        wait = self.allowed("connection", opened.address).take(self.now)
        if full:
            self.witnessed.add("too many connections")
            wait = self.config.retry_after
        elif wait is not None:
            self.witnessed.add("connections too often")
        if wait is not None:
            self.take(peer, error("error", "rate_limited", retry_after=wait), "P9")
            self.close(peer, "rate_limited")

    def _drain(self, peer: Peer, size: int) -> None:
        if not 1 <= size <= peer.outstanding:
            raise MistakeError("more than was owed was taken")
        if size > peer.pings:
            peer.sign = self.now
        peer.owed_since = self.now
        peer.outstanding -= size
        peer.own = min(peer.own, peer.outstanding)
        peer.pings = max(0, peer.pings - size)
        if peer.state == "live":
            self.pump(peer)

    # -- frames -------------------------------------------------------------------------------

    def _take_bytes(self, peer: Peer, data: bytes) -> None:
        wait = peer.frames.take(self.now)
        if wait is not None:
            self._take_flood(peer, wait)
            return
        if len(data) > self.config.max_payload:
            self._take_bad(peer, "payload_too_large")
            return
        frame: Plain | None = None if data in NO_FRAMES else json.loads(data)
        if frame is None:
            self._take_bad(peer, "malformed_frame")
            return
        kind = frame["type"]
        self.witnessed.add(f"{peer.state} {peer.version}: {kind}")
        if kind in RANGES:
            self._take_handshake(peer, frame)
            return
        since_2 = kind in {"resume", "resync", "auth"}
        if peer.state == "live" and peer.version == 1 and since_2:
            self.answer_error(peer, "unknown_type")
            return
        code = _fault(frame)
        if code == "malformed_frame":
            request_id = frame.get("request_id") if kind == "message" else None
            self._take_bad(peer, code, request_id)
        elif peer.state == "live":
            self._take_live(peer, frame, code)
        else:
            self._take_early(peer, frame, code)

    def _take_flood(self, peer: Peer, wait: float) -> None:
        self.witnessed.add(f"{peer.state}: too many frames")
        if peer.state != "live":
            self._reject(peer, "rate_limited", retry_after=wait)
            return
        self.answer(peer, error("error", "rate_limited", retry_after=wait), "P9")
        if peer.number in self.peers:
            self.close(peer, "rate_limited")

    def _take_bad(self, peer: Peer, code: str, request_id: str | None = None) -> None:
        self.witnessed.add(f"{peer.state}: {code}")
        if peer.state != "live":
            self._reject(peer, code)
            return
        peer.violations += 1
        self.answer_error(peer, code, request_id)
        too_many = peer.violations >= self.config.max_violations
        if peer.number in self.peers and (too_many or code == "payload_too_large"):
            self.close(peer, code)

    def _take_early(self, peer: Peer, frame: Plain, fault: str | None) -> None:
        """Before the welcome: what must be said of it waits."""
        if frame["type"] == "leave":
            self.close_with(peer, 1000)
            return
        if frame["type"] == "ping":
            held = present({"type": "pong", "nonce": frame.get("nonce")})
        else:
            names = fault is None and frame["type"] in {"message", "abort"}
            request_id = frame.get("request_id") if names else None
            held = error("error", "not_joined", request_id=request_id)
        self._hold(peer, held)

    def _take_live(self, peer: Peer, frame: Plain, fault: str | None) -> None:
        match frame["type"]:
            case _ if fault == "invalid_request":
                self._nack(peer, fault, None)
            case _ if fault is not None:
                self.answer_error(peer, fault)
            case "message":
                self._take_message(peer, frame)
            case "abort":
                self._take_abort(peer, frame)
            case "auth":
                self.take_auth(peer, frame["token"])
            case "resume" | "resync" if not self._may_recover(peer):
                pass
            case "resume":
                self.resume(peer, frame.get("epoch"), frame["since"], frame.get("nonce"))
            case "resync":
                self.resync(peer, frame.get("nonce"))
            case "ping":
                self.answer(peer, present({"type": "pong", "nonce": frame.get("nonce")}))
            case "pong":
                pass
            case "leave":
                self.close_with(peer, 1000)
            case _:
                self.answer_error(peer, "unknown_type")

    def _may_recover(self, peer: Peer) -> bool:
        """Whether a recovery begins; one that is merged into another costs nothing."""
        if peer.due is not None or peer.recovery is not None or peer.whole is not None:
            return True
        wait = peer.recoveries.take(self.now)
        if wait is not None:
            self.witnessed.add("recovers too often")
            self.answer(peer, error("error", "rate_limited", retry_after=wait), "P9")
        return wait is None

    def _take_abort(self, peer: Peer, frame: Plain) -> None:
        assert peer.session is not None
        self.tell(
            AbortRequested(
                connection=peer.number,
                session_id=peer.session.session_id,
                run_id=frame.get("run_id"),
                request_id=frame.get("request_id"),
            )
        )

    # -- the handshake ------------------------------------------------------------------------

    def _take_handshake(self, peer: Peer, frame: Plain) -> None:
        if peer.state in {"joining", "preparing"}:
            self._hold(peer, error("error", "not_joined"))
            return
        if peer.state == "live":
            if peer.version > 1:
                self._take_bad(peer, "malformed_frame")
                return
            self.witnessed.add("a second attach")
            self.detach(peer)
        wait = self.allowed("handshake", peer.network).take(self.now)
        asked = self._read(frame)
        if isinstance(asked, Asked) and wait is not None:
            self.witnessed.add("handshakes too often")
            peer.asked = asked
            self._reject(peer, "rate_limited", retry_after=wait)
            return
        if isinstance(asked, Asked):
            peer.asked, peer.state = asked, "joining"
            peer.join = JoinRequested(
                connection=peer.number,
                agent_id=asked.agent_id,
                protocol_version=asked.version,
                token=frame.get("token") or peer.token,
                path=peer.path,
                peer=peer.address,
                client=None if asked.about is None else ClientInfo(**asked.about),
                capabilities=tuple(frame.get("capabilities") or ()),
            )
            self.tell(peer.join)
            return
        code, counts_as, step = asked
        self._refuse(peer, code, frame["type"], counts_as, next_step=step)

    # -- the application ----------------------------------------------------------------------

    def _publish(self, session_id: str, event: Event) -> None:
        session = self.sessions.get(session_id)
        if session is None or session.sealed:
            self.tell(CommandDropped(command="publish", target=session_id))
            return
        self._check_event(session, event)
        seq = session.cursor + 1
        self.tell(Published(session_id=session_id, seq=seq, event_id=event.event_id))
        self.publish(session, event)

    def _check_event(self, session: Session, event: Event) -> None:
        try:
            size = len(json.dumps(event_object(event), allow_nan=False).encode()) and len(
                compact(event_object(event))
            )
        except (TypeError, ValueError):
            raise MistakeError("an event that is no JSON") from None
        if size > self.config.max_event:
            raise MistakeError("an event that is too large")
        if event.final and (event.transient or event.run_id is None):
            raise MistakeError("a final that is none")
        if event.expects_reply and event.transient:
            raise MistakeError("a question that is transient")
        open_runs = session.ledger.open_runs
        begins = bool(event.transient) and event.run_id is not None
        if begins and event.run_id not in open_runs and len(open_runs) >= self.config.max_open_runs:
            raise MistakeError("one open run too many")

    def _complete(self, session_id: str, message_id: int) -> None:
        session = self.sessions.get(session_id)
        if session is None:
            self.tell(CommandDropped(command="complete", target=session_id))
        elif message_id not in session.pending:
            raise MistakeError("a message that is not pending is done")
        else:
            del session.pending[message_id]

    def _set_health(self, health: Plain) -> None:
        try:
            size = len(json.dumps(health, allow_nan=False)) and len(compact(health))
        except (TypeError, ValueError):
            raise MistakeError("a health that is no JSON") from None
        if size > _MAX_HEALTH:
            raise MistakeError("a health that is too large")
        self.health = health
        self.health_version += 1
        self.plan_health()

    def _change_epoch(self, session_id: str) -> None:
        session = self.sessions.get(session_id)
        if session is None:
            self.tell(CommandDropped(command="change_epoch", target=session_id))
            return
        self._begin_epoch(session)
        for number in list(session.presence):
            self.change_epoch(self.peers[number])
        self.wake(session)

    def _begin_epoch(self, session: Session) -> None:
        info = self.look(session.session_id)
        if info is None and session.is_over and self.issued:  # its last reader went in this step
            session.epoch = self.issued[0]
            return
        if info is None or info.epoch == session.epoch:
            raise Violation("P12", f"the epoch of {session.session_id} stays {session.epoch}")
        session.epoch = self.issue(info.epoch)
        session.built = session.wanted = None

    # -- time and the process -----------------------------------------------------------------

    def _expire(self) -> None:
        for session in list(self.sessions.values()):
            if session.gives_up is not None and session.gives_up <= self.now:
                session.gives_up = None
                self.give_up(session)
        for peer in list(self.peers.values()):
            due = self.due_at(peer)
            if due is not None and due <= self.now and not self.sees_sent_away(peer):
                self._judge_time(peer)
        self.end_drain()
        for session in list(self.sessions.values()):
            if session.expires is not None and session.expires <= self.now:
                if session.is_followed:
                    self.witnessed.add("read on after the window")
                    session.expires = None
                else:
                    self.expire(session)
        self.push_what_is_due()

    def _judge_time(self, peer: Peer) -> None:
        config = self.config
        if peer.state == "opening":
            self._reject(peer, "handshake_timeout")
        elif peer.expires is not None and peer.expires <= self.now:
            self.close(peer, "auth_expired")
        elif peer.outstanding and peer.owed_since + config.stall_timeout <= self.now:
            self.witnessed.add("stalled")
            self.close(peer, "slow_consumer")
        elif peer.sign + 2 * config.heartbeat <= self.now:
            self.close(peer, "liveness_timeout")
        else:
            peer.pinged = self.now
            if peer.outstanding == 0:
                self.send_ping(peer)

    def recover(self, *, unbroken: bool, now: float, issued: Sequence[str], look: Look) -> None:
        """The process died and came back with its sessions. Raises `Violation`."""
        self.now, self.issued, self.look = now, issued, look
        self.peers, self.last = {}, 0
        self.allowances.clear()
        self.retry_after = self.drain_ends = None
        self.is_drained = False
        self.health_at, self.health_after, self.health_pushed = None, -math.inf, self.health_version
        for session in self.sessions.values():
            session.presence.clear()
            session.awaiting.clear()
            session.wanted = session.gives_up = None
            session.push_after = -math.inf
            self.plan(session)
            session.expires = now + self.config.resume_window
            if not unbroken:
                self._begin_epoch(session)
        self._check_sessions()


def _fault(frame: Plain) -> str | None:
    """The code of what is off in a client's frame that is no handshake."""
    kind = frame["type"]
    shape = _shapes.CLIENT.get(kind)
    if shape is not None:
        if kind == "resume" and not _shapes.CURSOR(frame.get("since")):
            return "invalid_cursor"
        if kind == "message" and not _shapes.maybe(_shapes.REQUEST_ID)(frame.get("request_id")):
            return "invalid_request"
        if not shape(frame):
            return "malformed_frame"
    return "malformed_frame" if has_huge(frame) else None
