"""What a gateway must do where something ends: a session that is closed, a gateway that drains.

Spec: Sessions; Draining.
"""

import math

from gatewayproto.actions import CommandDropped, DrainFinished, SessionClosed
from gatewayproto.inputs import Drain
from gatewayproto.testing.any_peer._gateway_book import MistakeError, Peer, error
from gatewayproto.testing.any_peer._gateway_handshakes import HandshakeBook
from gatewayproto.testing.reference import Plain, compact

_LARGEST = 1024
_LONGEST = 1e9


class EndingBook(HandshakeBook):
    """What the ends of sessions and of the gateway must come to."""

    def close_session(self, session_id: str) -> None:
        """Everybody gets what is left, and is closed when the last of it was sent."""
        session = self.sessions.get(session_id)
        if session is None:
            self.tell(CommandDropped(command="close_session", target=session_id))
            return
        if session.sealed:
            self.witnessed.add("closed again")
            return
        session.sealed = True
        session.expires = self.now + self.config.resume_window
        self.tell(SessionClosed(session_id=session_id, cursor=session.cursor))
        for number in list(session.presence):
            peer = self.peers[number]
            if not peer.is_ready:
                self.witnessed.add("closed before one who lags")
            self.pump(peer)

    # -- draining -----------------------------------------------------------------------------

    def drain(self, command: Drain) -> None:
        """Everybody is sent away; told again, their time can only become shorter."""
        going_away = _going_away(command)
        ends = self.now + command.grace
        if self.retry_after is None:
            self.retry_after = command.after
            self.drain_ends = ends
            for peer in list(self.peers.values()):
                self._send_away(peer, going_away)
        elif self.drain_ends is not None:
            self.witnessed.add("drained again")
            self.drain_ends = min(self.drain_ends, ends)
        if command.grace == 0:
            self.end_drain()

    def turn_away(self, peer: Peer) -> None:
        """A new connection, which is taken no more."""
        self.witnessed.add("a newcomer while it drains")
        self.take(peer, error("error", "going_away", retry_after=self.retry_after), "P9")
        self.close(peer, "going_away")

    def _send_away(self, peer: Peer, going_away: Plain) -> None:
        self.witnessed.add(f"sent away {peer.state} {peer.version}")
        if peer.state != "live":
            self._reject(peer, "going_away", retry_after=self.retry_after)
        elif peer.version == 1:
            self.close_with(peer, 1012)
        else:
            if peer.whole is not None:
                self.witnessed.add("sent away between parts")
            self.answer(peer, going_away, "P17", else_close="going_away")

    def sees_sent_away(self, peer: Peer) -> bool:
        """Whether a connection was closed because its time to leave is over.

        Where something else was due as well, either may come first.
        """
        is_over = self.drain_ends is not None and self.drain_ends <= self.now
        sent_away = self.sees_close(peer, "going_away")
        return is_over and sent_away and self.next_frame(peer) is None

    def end_drain(self) -> None:
        """Who has not left in time is closed."""
        if self.drain_ends is None or self.drain_ends > self.now:
            return
        self.drain_ends = None
        for peer in list(self.peers.values()):
            self.witnessed.add("closed for not leaving")
            self.close(peer, "going_away")

    def finish_drain(self) -> None:
        """Once nobody is left, that is told."""
        if self.retry_after is not None and not self.peers and not self.is_drained:
            self.is_drained = True
            self.drain_ends = None
            self.tell(DrainFinished())


def _going_away(command: Drain) -> Plain:
    for seconds in (command.after, command.spread, command.grace):
        if not (math.isfinite(seconds) and 0 <= seconds <= _LONGEST):
            raise MistakeError("a drain whose times are none")
    frame: Plain = {
        "type": "going_away",
        "reason": command.reason,
        "after_ms": round(command.after * 1000),
        "spread_ms": round(command.spread * 1000),
    }
    if len(compact(frame)) > _LARGEST:
        raise MistakeError("a drain with too much of a reason")
    return frame
