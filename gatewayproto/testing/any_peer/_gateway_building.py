"""What a gateway must do with the states that its application builds.

Spec: Snapshots.
"""

import json

from gatewayproto.actions import CommandDropped
from gatewayproto.inputs import SnapshotReady
from gatewayproto.testing.any_peer._gateway_book import MistakeError, Peer, Session
from gatewayproto.testing.any_peer._gateway_endings import EndingBook
from gatewayproto.testing.reference import compact


class BuildingBook(EndingBook):
    """What comes of a state, and of none."""

    def take_state(self, command: SnapshotReady) -> None:
        """A state comes: whoever waits looks at it."""
        if not self.config.application_snapshots:
            raise MistakeError("a state for a gateway that makes its own")
        session = self.sessions.get(command.session_id)
        if session is None:
            self.tell(CommandDropped(command="snapshot_ready", target=command.session_id))
            return
        state = dict(command.state)
        try:
            size = len(json.dumps(state, allow_nan=False)) and len(compact(state))
        except (TypeError, ValueError):
            raise MistakeError("a state that is no JSON") from None
        if size > self.config.max_snapshot:
            raise MistakeError("a state that is too large")
        if command.epoch != session.epoch:
            self.witnessed.add("a state of a former epoch")
            return
        if not 0 <= command.cursor <= session.cursor:
            raise MistakeError("a state of a cursor that is not reached")
        if session.built is None or session.built[0] <= command.cursor:
            session.built = command.cursor, json.loads(compact(state))
            session.state_size = size
        session.gives_up = None
        if session.wanted is not None:
            session.wanted.asked = False
        self.wake(session)

    def wake(self, session: Session) -> None:
        """Everybody who waits looks at what there is, and asks again where it is no use."""
        for peer in self._waiting(session):
            if peer.state == "preparing" and peer.accepted is not None:
                self.stop_awaiting(peer)
                peer.state = "joining"
                self.decide(peer, peer.accepted)
            elif peer.version > 1:
                self.pump(peer)
        wanted = session.wanted
        if wanted is None or wanted.asked:
            return
        if wanted.exhausted:
            self.witnessed.add("asked often enough")
            self.give_up(session)
        session.wanted = None

    def give_up(self, session: Session) -> None:
        """Whoever waits for a state, and for nothing else, is closed."""
        session.wanted = None
        for peer in self._waiting(session):
            if peer.state == "preparing":
                self.witnessed.add("a welcome waited in vain")
                self._reject(peer, "internal_error")
            elif peer.version > 1 and self.waits(peer, session) and not self._is_over(peer):
                self.witnessed.add("a snapshot waited in vain")
                self.close(peer, "internal_error")

    def _is_over(self, peer: Peer) -> bool:
        """Whether its time was over as well: either may come first, and so may a ping."""
        due = self.due_at(peer)
        if due is None or due > self.now:
            return False
        data = self.next_frame(peer)
        if data is not None and json.loads(data)["type"] == "ping":
            self.send_ping(peer)
        return not self.sees_close(peer, "internal_error")

    def _waiting(self, session: Session) -> list[Peer]:
        numbers = [*session.awaiting, *session.presence]
        peers = [self.peers[number] for number in numbers]
        return [peer for peer in peers if peer.state == "preparing" or peer.due is not None]

    def send_ping(self, peer: Peer) -> None:
        data = self.next_frame(peer)
        nonce = None if data is None else json.loads(data).get("nonce")
        if data is not None:
            self.issue(nonce or "")
        cursor = {} if peer.version == 1 else {"cursor": peer.position}
        size = len(self.take(peer, {"type": "ping", "nonce": nonce, **cursor}, "P17"))
        self.charge(peer, size)
        peer.pings += size
