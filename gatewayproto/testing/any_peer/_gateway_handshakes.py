"""What a gateway must do with handshakes, and with what comes before a welcome.

Spec: Versions; The handshake; The welcome; Version 1.
"""

from typing import Any, Final

from attrs import evolve

from gatewayproto.actions import (
    CommandDropped,
    SessionOpened,
    SubscriberJoined,
)
from gatewayproto.inputs import Accept, Reject
from gatewayproto.testing import _shapes
from gatewayproto.testing.any_peer._client_known import CLOSE_OF
from gatewayproto.testing.any_peer._gateway_book import (
    DEFAULT_MAX_PAYLOAD,
    Asked,
    MistakeError,
    Peer,
    Session,
    error,
    present,
)
from gatewayproto.testing.any_peer._gateway_requests import RequestBook
from gatewayproto.testing.any_peer._reading import has_huge
from gatewayproto.testing.monitors.book import new_fold
from gatewayproto.testing.reference import Asked as Question
from gatewayproto.testing.reference import Ledger, Plain, compact, decide
from gatewayproto.testing.steps import Violation

_ROOM_FOR_WELCOME: Final = 768
RANGES: Final = {
    "hello": ("protocol_min", "protocol_max"),
    "join": ("min_version", "max_version"),
}
_V1_CODES: Final = {
    "version_unsupported": "protocol_unsupported",
    **{
        code: code
        for code in ("agent_not_found", "auth_required", "auth_unauthorized", "rate_limited")
    },
}
_WORDS: Final = 200
"""Bytes that a message for people takes at most."""


class HandshakeBook(RequestBook):
    """What handshakes must come to."""

    def _peer(self, number: int) -> Peer | None:
        """The connection; None where it has ended, so that whatever names it comes too late."""
        if not 0 < number <= self.last:
            raise MistakeError("a connection that was never opened")
        if number not in self.peers:
            self.witnessed.add("too late")
        return self.peers.get(number)

    def _hold(self, peer: Peer, frame: Plain) -> None:
        peer.held.append(frame)
        sizes = sum(len(compact({**held, "message": ""})) for held in peer.held)
        words = sum("message" in held for held in peer.held) * _WORDS
        # What waits has words for people in it, so its bound is met only within those.
        closed = self.sees_close(peer)
        over = sizes + words > self.config.answer_window
        if closed and over:
            self.witnessed.add("too many early frames")
            self._reject(peer, "rate_limited")
        elif sizes > self.config.answer_window:
            raise Violation("P9", f"{sizes} bytes of answers wait for the welcome")

    def _read(  # noqa: PLR0911 -- one for each check
        self, frame: Plain
    ) -> Asked | tuple[str, int, str | None]:
        """What it asks for; else the code, the version it counts as, and the next step."""
        kind, server = frame["type"], self.config.versions
        low, high = (frame.get(name) for name in RANGES[kind])
        stated = (low, high) != (None, None)
        low, high = 1 if low is None else low, (low or 1) if high is None else high
        if not (_shapes.VERSION(low) and _shapes.VERSION(high) and low <= high):
            return "invalid_protocol_hello", 2, None
        counts_as = 1 if high == 1 else 2
        if self.config.protocol_strict and not stated:
            return "version_unsupported", counts_as, None
        version = min(high, server.maximum)
        if version < max(low, server.minimum):
            step = "downgrade_client" if low > server.maximum else "upgrade_client"
            return "version_unsupported", counts_as, step
        if not _shapes.maybe(_shapes.CURSOR)(frame.get("since")):
            return "invalid_cursor", counts_as, None
        if not _shapes.CLIENT[kind](frame):
            return "invalid_protocol_hello", counts_as, None
        if has_huge(frame):
            return "malformed_frame", counts_as, None
        room = frame.get("max_payload") or DEFAULT_MAX_PAYLOAD
        if len(compact(frame["agent_id"])) + _ROOM_FOR_WELCOME > room:
            return "invalid_protocol_hello", counts_as, None
        bare, dot, in_id = (frame.get("session_id") or "").partition(".")
        epochs = (frame.get("epoch"), in_id if dot else None)
        about = frame.get("client")
        return Asked(
            kind,
            version,
            counts_as,
            frame["agent_id"],
            bare,
            tuple(epoch for epoch in epochs if epoch is not None),
            frame.get("since") or 0,
            frame.get("start") == "snapshot",
            room,
            None if about is None else present({n: about.get(n) for n in ("name", "version")}),
        )

    def _asking(self, number: int, command: Any) -> Peer | None:
        """The connection that waits for a decision; None where that came too late."""
        peer = self._peer(number)
        if peer is None:
            self.tell(CommandDropped(command=command, target=number))
        elif peer.state == "opening" or (peer.state == "preparing" and command == "accept"):
            raise MistakeError("a decision that nobody asked for")
        return peer

    def _accept(self, accept: Accept) -> None:
        self.check_expiry(accept)
        peer = self._asking(accept.connection, "accept")
        if peer is None:
            return
        if peer.state == "live":
            self.renew(peer, accept)
            return
        self.note_expiry(peer, accept)
        self.decide(peer, accept)

    def decide(self, peer: Peer, accept: Accept) -> None:
        """What the decision table says of an accepted handshake, as the session stands now."""
        asked, principal = peer.asked, accept.principal
        assert asked is not None
        session = self.sessions.get(asked.session_id)
        if session is not None and session.is_over:
            self.witnessed.add("too late for a closed session")
            session = None
        if session is not None and session.principal != principal:
            self.witnessed.add("another principal's session")
            session = None
        question = Question(
            version=asked.version,
            agent_id=asked.agent_id,
            epochs=asked.epochs,
            since=asked.since,
            wants_snapshot=asked.wants_snapshot,
        )
        known = None if session is None else self.known(session, asked.version)
        decided = decide(question, known)
        if decided.rejected is not None:
            self._reject(peer, decided.rejected)
            return
        if session is None:
            session = self._new_session(peer, asked, principal)
        elif decided.reason is not None:
            floor = session.ledger.oldest(asked.version) - 1
            keeps = decided.reason in {"trimmed", "requested"}
            state = session.state(max(floor, asked.since) if keeps else floor)
            if state is None:
                self._prepare(peer, accept, session)
                return
            decided = evolve(decided, sequence=state[0])
        if session is None:
            return
        joined: SubscriberJoined = self.told(SubscriberJoined)
        peer.client_id = self.issue(joined.client_id)
        self.tell(
            SubscriberJoined(
                connection=peer.number,
                session_id=session.session_id,
                client_id=peer.client_id,
                resumed=decided.resumed,
                sequence=decided.sequence,
                resync_reason=decided.reason,
            )
        )
        self.attach(peer, asked, decided, session)

    def _prepare(self, peer: Peer, accept: Accept, session: Session) -> None:
        """The welcome waits for a state; the session does not expire meanwhile."""
        self.witnessed.add("a welcome waits for its state")
        peer.state, peer.awaits, peer.accepted = "preparing", session, accept
        session.awaiting[peer.number] = None
        if not session.sealed:
            session.expires = None
        self.want(session)

    def _new_session(self, peer: Peer, asked: Asked, principal: str | None) -> Session | None:
        if len(self.sessions) >= self.config.max_sessions:
            self.witnessed.add("too many sessions")
            self._reject(peer, "rate_limited", retry_after=self.config.retry_after)
            return None
        owner = f"address {peer.network}" if peer.network else ""
        owner = owner if principal is None else f"principal {principal}"
        wait = self.allowed("session", owner).take(self.now)
        if wait is not None:
            self.witnessed.add("sessions too often")
            self._reject(peer, "rate_limited", retry_after=wait)
            return None
        opened: SessionOpened = self.told(SessionOpened)
        session_id = self.issue(opened.session_id)
        info = self.look(session_id)
        if info is None or info.epoch == session_id:
            raise Violation("P14", f"the session {session_id} is not there, or is its own epoch")
        epoch = self.issue(info.epoch)
        ledger = Ledger.of(self.config)
        fold = new_fold(self.config)
        session = Session(session_id, epoch, asked.agent_id, principal, ledger, fold)
        session.builds = self.config.application_snapshots
        self.sessions[session_id] = session
        self.tell(
            SessionOpened(session_id=session_id, agent_id=asked.agent_id, principal=principal)
        )
        return session

    def _reject_by_application(self, command: Reject) -> None:
        if command.code.value not in CLOSE_OF:
            raise MistakeError("a rejection that closes nothing")
        peer = self._asking(command.connection, "reject")
        if peer is not None and peer.state == "live":
            self.end_by_application(peer, command.code.value, command.retry_after_seconds)
        elif peer is not None:
            self._reject(peer, command.code.value, retry_after=command.retry_after_seconds)

    def _reject(self, peer: Peer, code: str, *, retry_after: float | None = None) -> None:
        kind, counts_as = "error", 2
        if peer.asked is not None:
            kind = "hello" if peer.asked.kind == "hello" else "error"
            counts_as = peer.asked.counts_as
        self._refuse(peer, code, kind, counts_as, retry_after=retry_after)

    def _refuse(
        self,
        peer: Peer,
        code: str,
        kind: str,
        counts_as: int,
        *,
        next_step: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.witnessed.add(f"rejected {code}, {kind} {counts_as}")
        hello = kind == "hello"
        v1 = _V1_CODES.get(code, "configuration_error") if hello and counts_as == 1 else None
        versions = self.config.versions
        refusal = error(
            "hello_error" if hello else "error",
            code,
            wire_code=v1,
            next_step=next_step,
            retry_after=retry_after,
            versions=(versions.minimum, versions.maximum),
        )
        self.take(peer, refusal, "P4")
        self.close(peer, code)
