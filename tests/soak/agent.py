"""The application behind the gateway of a soak, and the observer who writes down what it does."""

import uuid
from collections import Counter

import anyio
import anyio.lowlevel
from attrs import define, field
from gatewayproto_adapter.application import Application, SessionHandle

from gatewayproto.actions import (
    GatewayEvent,
    MessageReceived,
    SessionExpired,
    SessionOpened,
    SubscriberJoined,
    SubscriberLagged,
    SubscriberLeft,
)
from gatewayproto.frames import Event, Object
from gatewayproto.projection import Projection
from tests.soak.record import Log, event_digest, state_digests
from tests.soak.setting import PROJECTION

_SLICE = 50
"""Events published before everybody else gets a turn."""


@define(eq=False)
class _Session:
    """What the observer knows of a session: the fold of what was published in it, and who is in."""

    number: int
    projection: Projection = field(factory=PROJECTION)
    base: int = 0
    subscribers: int = 0


class Agent(Application):
    """Does what a message says, which is an object with the word for it in `do`.

    - `run`: `tokens` transient events, `pause` seconds apart, with a durable note after every
      `notes` of them (0: none), then the final.
    - `burst`: `count` durable events at once, with `size` characters of text in each.
    - `ask`: a question that expects a reply.
    - anything else, and any reply: one durable event.
    """

    def __init__(self, log: Log) -> None:
        self.counts: Counter[str] = Counter()
        self._log = log
        self._sessions: dict[str, _Session] = {}
        self._last = 0

    @property
    def sessions(self) -> int:
        """How many there are."""
        return len(self._sessions)

    # -- observing ----------------------------------------------------------------------------

    def on_event(self, event: GatewayEvent) -> None:
        """Write down what the gateway tells."""
        match event:
            case SessionOpened(session_id=session_id):
                self._last += 1
                self._sessions[session_id] = _Session(self._last)
                self._log.write("opened", self._last, session_id)
            case SessionExpired(session_id=session_id):
                session = self._sessions.pop(session_id)
                self.counts["expired"] += 1
                self._log.write("expired", session.number, session.subscribers)
            case MessageReceived(session_id=session_id):
                number = self._sessions[session_id].number
                self._log.write("message", number, event.request_id, event.reply_to)
            case SubscriberJoined(session_id=session_id):
                self._sessions[session_id].subscribers += 1
                self.counts[f"joined {event.resync_reason or 'without a resync'}"] += 1
            case SubscriberLeft(session_id=session_id):
                self._sessions[session_id].subscribers -= 1
            case SubscriberLagged():
                self.counts["lagged"] += 1
            case _:
                pass

    def _publish(self, handle: SessionHandle, event: Event) -> bool:
        """Publish an event and write it down; False where the session is gone."""
        seq = handle.publish_event(event)
        session = self._sessions.get(handle.session_id)
        if seq is None or session is None:
            return False
        self.counts["published"] += 1
        session.projection.apply(seq, event)
        base, runs = state_digests(session.projection.state())
        self._log.write(
            "event",
            session.number,
            seq,
            event_digest(event),
            event.run_id,
            bool(event.final),
            base,
            runs,
        )
        return True

    # -- working ------------------------------------------------------------------------------

    async def on_message(self, session: SessionHandle, message: MessageReceived) -> None:
        """Do what the message says."""
        content = message.content
        wish: Object = content if isinstance(content, dict) else {}
        match wish.get("do"):
            case "run":
                await self._run(session, message, wish)
            case "burst":
                await self._burst(session, message, wish)
            case "ask":
                question = _event("question", message, {"text": "?"}, expects_reply=True)
                self._publish(session, question)
            case _:
                data: Object = {"text": str(wish.get("text", ""))}
                if message.reply_to is not None:
                    data["reply_to"] = message.reply_to
                self._publish(session, _event("response", message, data))

    async def _burst(self, session: SessionHandle, message: MessageReceived, wish: Object) -> None:
        text = "n" * int(wish["size"])
        for number in range(1, int(wish["count"]) + 1):
            if not self._publish(session, _event("note", message, {"n": number, "text": text})):
                return
            if number % _SLICE == 0:
                await anyio.lowlevel.checkpoint()

    async def _run(self, session: SessionHandle, message: MessageReceived, wish: Object) -> None:
        run_id, words = str(uuid.uuid4()), [f"t{n} " for n in range(int(wish["tokens"]))]
        for number, word in enumerate(words, 1):
            token = _event("token", message, {"text": word}, run_id=run_id, transient=True)
            if not self._publish(session, token):
                return
            if wish["notes"] and number % wish["notes"] == 0:
                self._publish(session, _event("note", message, {"n": number}))
            if wish["pause"] or number % _SLICE == 0:
                await anyio.sleep(wish["pause"])
        text = "".join(words)
        self._publish(
            session, _event("response", message, {"text": text}, run_id=run_id, final=True)
        )


def _event(
    type_: str,
    message: MessageReceived,
    data: Object,
    *,
    run_id: str | None = None,
    transient: bool = False,
    final: bool = False,
    expects_reply: bool = False,
) -> Event:
    return Event(
        type=type_,
        data=data,
        event_id=str(uuid.uuid4()),
        timestamp=anyio.current_time(),
        run_id=run_id,
        request_id=message.request_id,
        transient=transient or None,
        final=final or None,
        expects_reply=expects_reply or None,
    )
