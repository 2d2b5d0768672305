"""What a gateway must do with messages: each once, each answered.

Spec: Requests.
"""

import json

from gatewayproto.actions import (
    MessageReceived,
)
from gatewayproto.testing.any_peer._client_known import ANY
from gatewayproto.testing.any_peer._gateway_book import (
    Peer,
    Session,
    present,
)
from gatewayproto.testing.any_peer._gateway_delivery import DeliveryBook
from gatewayproto.testing.reference import Plain


class RequestBook(DeliveryBook):
    """What messages must come to."""

    def _take_message(self, peer: Peer, frame: Plain) -> None:
        session = peer.session
        assert session is not None
        request_id, reply_to = frame.get("request_id"), frame.get("reply_to")
        print_ = json.dumps([frame["content"], reply_to], sort_keys=True).encode()
        if request_id is not None:
            self._forget_requests(session)
            known = session.remembered.pop(request_id, None)
            if known is not None:
                session.remembered[request_id] = known[0], self.now
                if known[0] != print_:
                    self._nack(peer, "request_conflict", request_id)
                else:
                    self._ack(peer, request_id, duplicate=True)
                return
        refused = self._refusal(session, request_id, reply_to)
        if refused is not None:
            self._nack(peer, refused, request_id)
            return
        if request_id is not None:
            session.remembered[request_id] = print_, self.now
        if reply_to is not None:
            session.questions[reply_to] = True
        message = MessageReceived(
            session_id=session.session_id,
            message_id=session.next_id,
            content=frame["content"],
            request_id=request_id,
            reply_to=reply_to,
            metadata=frame.get("metadata"),
        )
        session.pending[session.next_id] = frame
        session.next_id += 1
        self.tell(message)
        if request_id is not None:
            self._ack(peer, request_id, duplicate=False)

    def _forget_requests(self, session: Session) -> None:
        memory = 2 * self.config.request_ttl
        for request_id, (_, seen) in list(session.remembered.items()):
            if seen + memory <= self.now:
                self.witnessed.add("a request forgotten")
                del session.remembered[request_id]

    def _refusal(
        self, session: Session, request_id: str | None, reply_to: str | None
    ) -> str | None:
        if session.sealed:
            return "session_closed"
        if reply_to is not None:
            answered = session.questions.get(reply_to)
            if answered is None:
                return "invalid_request"
            if answered:
                return "already_answered"
        limit = self.config.max_pending_requests
        full = len(session.pending) >= limit
        if request_id is not None and len(session.remembered) >= 10 * limit:
            self.witnessed.add("too many ids remembered")
            full = True
        return "inbox_full" if full else None

    def _ack(self, peer: Peer, request_id: str, *, duplicate: bool) -> None:
        self.witnessed.add("acknowledged again" if duplicate else "acknowledged")
        if peer.version == 1:
            status = "duplicate" if duplicate else "accepted"
            frame: Plain = {"type": "response", "status": status, "request_id": request_id}
        else:
            frame = {"type": "message_ack", "request_id": request_id, "duplicate": duplicate}
        self.answer(peer, frame, "P8")

    def _nack(self, peer: Peer, code: str, request_id: str | None) -> None:
        self.witnessed.add(f"refused {code}")
        if peer.version == 1:
            self.answer_error(peer, code, request_id)
            return
        frame = {"type": "message_nack", "code": code, "message": ANY, "request_id": request_id}
        self.answer(peer, present(frame), "P8")
