"""A session's inbox and what makes a message safe to repeat.

Spec: Requests.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from attrs import define, frozen
from msgspec import convert

from gatewayproto import codec
from gatewayproto.errors import ErrorCode
from gatewayproto.frames import Message, Object
from gatewayproto.projection import MAX_QUESTIONS

_IDS_PER_PENDING = 10


@frozen
class Admitted:
    """The message is in the inbox: now, under `message_id`, or already (`duplicate`)."""

    duplicate: bool
    message_id: int | None = None


@frozen
class Refused:
    """The message is not in the inbox."""

    code: ErrorCode
    detail: str


_CLOSED: Final = (ErrorCode.SESSION_CLOSED, "the session is closed")


@define
class _Remembered:
    fingerprint: str
    last_seen: float


class Inbox:
    """Messages not yet done, request ids not to be taken twice, questions not to be answered twice.

    `ttl` is `request_ttl` in seconds: an id is remembered for twice that after its last sight.
    At most `max_pending` messages are not yet done, and ten times as many ids are remembered; one
    more is refused, because a remembered id is never pushed out. `recorded` notes which ids were
    forgotten, for the records from which the inbox can be rebuilt without a clock.
    """

    def __init__(self, *, ttl: float, max_pending: int, recorded: bool = False) -> None:
        self._memory = 2 * ttl
        self._max_pending = max_pending
        self._next_id = 1
        self._pending: dict[int, Message] = {}
        self._remembered: dict[str, _Remembered] = {}  # by last sight, oldest first
        self._questions: dict[str, bool] = {}  # event_id: whether it was answered
        self._forgotten: list[str] | None = [] if recorded else None  # no record has said so yet

    @property
    def pending(self) -> dict[int, Message]:
        """The messages that are not yet done, by their `message_id`, oldest first."""
        return self._pending

    @property
    def remembered(self) -> int:
        """How many request ids are remembered, those among them that may be forgotten now."""
        return len(self._remembered)

    def admit(
        self, message: Message, now: float, *, full: bool = False, sealed: bool = False
    ) -> Admitted | Refused:
        """Take a message in, once. The `request_id` is looked at before everything else.

        A `sealed` session takes none, but knows the copies of those that it took; `full` leaves no
        room for one that is new.
        """
        fingerprint = ""
        if message.request_id is not None:
            fingerprint = _fingerprint(message)
            self._forget(now)
            known = self._remembered.pop(message.request_id, None)
            if known is not None:
                known.last_seen = now
                self._remembered[message.request_id] = known
                if known.fingerprint == fingerprint:
                    return Admitted(duplicate=True)
                return Refused(
                    ErrorCode.REQUEST_CONFLICT, "this request_id came with another content"
                )
        refused = Refused(*_CLOSED) if sealed else self._refuse(message, full)
        if refused is not None:
            return refused
        return Admitted(duplicate=False, message_id=self._take(message, fingerprint, now))

    def _take(self, message: Message, fingerprint: str, now: float) -> int:
        if message.request_id is not None:
            self._remembered[message.request_id] = _Remembered(fingerprint, now)
        # In a recovery the question may be gone: it was let go while the answer waited.
        if message.reply_to in self._questions:
            self._questions[message.reply_to] = True
        message_id = self._next_id
        self._next_id += 1
        self._pending[message_id] = message
        return message_id

    def take_forgotten(self) -> list[str]:
        """The ids forgotten since the last call, for the record that comes next."""
        forgotten, self._forgotten = self._forgotten or [], []
        return forgotten

    def take_again(
        self, message_id: int, message: Message, forgotten: Iterable[str], now: float
    ) -> None:
        """Take in what a record says was taken in. Raises `ValueError` for one out of its turn."""
        if message_id != self._next_id:
            raise ValueError(f"a record of message {message_id}, which is not the next one")
        for request_id in forgotten:
            self._remembered.pop(request_id, None)
        fingerprint = "" if message.request_id is None else _fingerprint(message)
        self._take(message, fingerprint, now)

    @property
    def last_id(self) -> int:
        """The newest `message_id`, 0 before any."""
        return self._next_id - 1

    def complete(self, message_id: int) -> bool:
        """A message is done. False if it was not pending."""
        if message_id not in self._pending:
            return False
        del self._pending[message_id]
        return True

    def ask(self, event_id: str) -> None:
        """An event that expects a reply was published."""
        self._questions.setdefault(event_id, False)
        if len(self._questions) > MAX_QUESTIONS:
            answered = (known for known, done in self._questions.items() if done)
            del self._questions[next(answered, next(iter(self._questions)))]

    def _refuse(self, message: Message, full: bool) -> Refused | None:
        if message.reply_to is not None:
            answered = self._questions.get(message.reply_to)
            if answered is None:
                return Refused(ErrorCode.INVALID_REQUEST, "no event of that id expects a reply")
            if answered:
                return Refused(ErrorCode.ALREADY_ANSWERED, "another reply was taken")
        full = full or len(self._pending) >= self._max_pending
        if message.request_id is not None:
            full = full or len(self._remembered) >= _IDS_PER_PENDING * self._max_pending
        return Refused(ErrorCode.INBOX_FULL, "too many messages are not yet done") if full else None

    def _forget(self, now: float) -> None:
        while self._remembered:
            request_id, oldest = next(iter(self._remembered.items()))
            if oldest.last_seen + self._memory > now:
                return
            del self._remembered[request_id]
            if self._forgotten is not None:
                self._forgotten.append(request_id)

    def to_state(self, now: float) -> Object:
        """Plain JSON data; sights as seconds before `now`."""
        return {
            "next_id": self._next_id,
            "pending": [
                [message_id, codec.to_object(message)]
                for message_id, message in self._pending.items()
            ],
            "remembered": [
                [request_id, known.fingerprint, now - known.last_seen]
                for request_id, known in self._remembered.items()
            ],
            "questions": dict(self._questions),
            "forgotten": self._forgotten,
        }

    def load(self, state: Object, now: float) -> None:
        """Go on from what `to_state` gave."""
        self._next_id = state["next_id"]
        self._pending = {
            message_id: convert(fields, Message) for message_id, fields in state["pending"]
        }
        self._remembered = {
            request_id: _Remembered(fingerprint, now - ago)
            for request_id, fingerprint, ago in state["remembered"]
        }
        self._questions = dict(state["questions"])
        if self._forgotten is not None:
            self._forgotten = list(state["forgotten"] or ())


def _fingerprint(message: Message) -> str:
    """What two copies of a request have in common; `metadata` does not count."""
    data = codec.canonical([message.content, message.reply_to])
    return blake2b(data, digest_size=16).hexdigest()
