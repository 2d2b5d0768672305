"""What a gateway must push of presence and health, and to whom; and whose credentials have ended.

Spec: Presence; Health; Credentials.
"""

import json
import math

from attrs import evolve

from gatewayproto.actions import AuthRequested
from gatewayproto.config import GatewayConfig
from gatewayproto.inputs import Accept
from gatewayproto.testing.any_peer._gateway_book import (
    GatewayBook,
    MistakeError,
    Peer,
    Session,
    error,
)
from gatewayproto.testing.reference import Plain, compact

_LONGEST = 1e9


class PushBook(GatewayBook):
    """What subscribers must be told beside events, and what the application of them."""

    def __init__(self, config: GatewayConfig) -> None:
        super().__init__(config)
        self.health_after = -math.inf
        self.health_pushed = 0

    # -- presence -----------------------------------------------------------------------------

    def detach(self, peer: Peer) -> None:
        """It no longer follows its session, and others are to be told."""
        session = peer.session
        super().detach(peer)
        peer.told_version = None
        if session is not None:
            self.plan(session)

    def plan(self, session: Session) -> None:
        """The list of a session has changed: when it must be pushed, if there is whom to tell."""
        told = [peer for peer in self._followers(session) if peer.told_version is not None]
        if not told:
            self._settle(session)
            session.push_at = None
        elif session.push_at is None:
            session.push_at = max(self.now, session.push_after)

    def begin_pushes(self, peer: Peer, *, listed: bool) -> None:
        """What a welcome said is where the pushes begin."""
        session = peer.session
        if self.config.push_interval is None or peer.version == 1 or session is None:
            return
        peer.told_version, peer.told_health = session.presence_version, self.health_version
        peer.told_list = list(session.presence.values()) if listed else None

    def push_what_is_due(self) -> None:
        """At the end of a turn of time: whoever is ready and has room must be told."""
        for session in self.sessions.values():
            if session.push_at is not None and session.push_at <= self.now:
                session.push_at = None
                self._push(session)
        if self.health_at is not None and self.health_at <= self.now:
            self.health_at = None
            self.health_after = self.now + (self.config.push_interval or 0.0)
            self.health_pushed = self.health_version
            for peer in self.peers.values():
                self._catch_up_health(peer)

    def _push(self, session: Session) -> None:
        now = {entry["client_id"] for entry in session.presence.values()}
        if now == session.pushed_ids:
            self.witnessed.add("a change and back is not pushed")
            return
        since = session.pushed_version
        for peer in self._followers(session):
            if peer.told_version in {None, session.presence_version}:
                continue
            if not peer.is_ready:
                self.witnessed.add("a push to one who lags waits")
                continue
            exact = peer.told_list is not None and peer.told_version == since
            self._tell_presence(peer, session, self._change(peer, session) if exact else None)
        self._settle(session)
        session.push_after = self.now + (self.config.push_interval or 0.0)

    def _settle(self, session: Session) -> None:
        session.pushed_version = session.presence_version
        session.pushed_ids = {entry["client_id"] for entry in session.presence.values()}

    def _change(self, peer: Peer, session: Session) -> Plain | None:
        """The change of the list that it knows; None where a whole list goes in its place."""
        entries = list(session.presence.values())
        assert peer.told_list is not None
        gone = [e["client_id"] for e in peer.told_list if e not in entries]
        frame = {
            "type": "presence",
            "version": session.presence_version,
            "from_version": peer.told_version,
            "joined": [entry for entry in entries if entry not in peer.told_list],
            "left": gone,
        }
        data = self.next_frame(peer)
        said = None if data is None else json.loads(data).get("left")
        if said is not None and sorted(said) == sorted(gone):
            frame["left"] = said  # in whatever order they left
        fits = len(compact(frame)) <= peer.max_payload
        return frame if len(entries) <= self.config.presence_max and fits else None

    def _tell_presence(self, peer: Peer, session: Session, change: Plain | None) -> None:
        entries = list(session.presence.values())
        known, frame = True, change
        if frame is None:
            head: Plain = {"type": "presence", "version": session.presence_version}
            frame = {**head, "entries": entries}
            known = len(entries) <= self.config.presence_max
            if not known or len(compact(frame)) > peer.max_payload:
                known, frame = False, {**head, "presence_count": len(entries)}
        if not self.has_room(peer, len(compact(frame))):
            self.witnessed.add("a push waits for room")
            return
        self.charge(peer, len(self.take(peer, frame, "P14")))
        form = "change" if change else "list" if known else "count"
        self.witnessed.add(f"pushed a {form}")
        peer.told_version = session.presence_version
        peer.told_list = entries if known else None

    def catch_up(self, peer: Peer) -> None:
        """It is ready: what was pushed when it was not is due, as it is now."""
        session = peer.session
        if peer.told_version is None or session is None:
            return
        if peer.told_version < session.pushed_version:
            self.witnessed.add("a push that waited")
            self._tell_presence(peer, session, None)
        self._catch_up_health(peer)

    def _followers(self, session: Session) -> list[Peer]:
        return [peer for peer in self.peers.values() if peer.session is session]

    # -- health -------------------------------------------------------------------------------

    def plan_health(self) -> None:
        """The health has changed: when it must be pushed."""
        if self.config.push_interval is not None and self.health_at is None:
            self.health_at = max(self.now, self.health_after)

    def _catch_up_health(self, peer: Peer) -> None:
        behind = peer.told_version is not None and peer.told_health < self.health_pushed
        if not behind or not peer.is_ready:
            return
        frame = {"type": "health", "version": self.health_version, "health": self.health}
        size = len(compact(frame))
        if size > peer.max_payload:
            self.witnessed.add("a health too large for its client")
        elif self.has_room(peer, size):
            self.charge(peer, len(self.take(peer, frame, "P14")))
        else:
            return
        peer.told_health = self.health_version

    # -- credentials --------------------------------------------------------------------------

    def check_expiry(self, accept: Accept) -> None:
        """Credentials are good for ever, or for some time. Raises `MistakeError`."""
        good_for = accept.expires_in
        if good_for is not None and not 0 < good_for <= _LONGEST:
            raise MistakeError("credentials that are good for no time")

    def take_auth(self, peer: Peer, token: str) -> None:
        """Fresh credentials: the application judges one after the other."""
        if peer.reviewing:
            self.witnessed.add("a token waits")
            peer.next_token = token
            return
        self._ask(peer, token)

    def _ask(self, peer: Peer, token: str) -> None:
        assert peer.session is not None
        assert peer.join is not None
        peer.reviewing, peer.next_token = True, None
        self.tell(
            AuthRequested(
                connection=peer.number,
                session_id=peer.session.session_id,
                client_id=peer.client_id,
                join=evolve(peer.join, token=token),
            )
        )

    def renew(self, peer: Peer, accept: Accept) -> None:
        """The application accepts, on a living connection."""
        assert peer.session is not None
        if accept.principal != peer.session.principal:
            self.witnessed.add("another principal's credentials")
            self.close(peer, "auth_unauthorized")
            return
        self.witnessed.add("renewed" if peer.reviewing else "renewed unasked")
        self.note_expiry(peer, accept)
        peer.reviewing = False
        if peer.next_token is not None:
            self._ask(peer, peer.next_token)

    def note_expiry(self, peer: Peer, accept: Accept) -> None:
        """Until when the credentials are good."""
        good_for = accept.expires_in
        peer.expires = None if good_for is None else self.now + good_for

    def end_by_application(self, peer: Peer, code: str, retry_after: float | None) -> None:
        """The application ends a living connection: it is told why, whatever it has not read."""
        self.witnessed.add("ended by the application")
        self.take(peer, error("error", code, retry_after=retry_after), "P17")
        self.close(peer, code)
