"""What a session has given to be stored, and what waits until it is.

Every record of a session has a number, 1, 2, 3 … The machine holds back what depends on a record
until its number is confirmed; this module counts the numbers and keeps what is held back, in
order.

Spec: the architecture page, "Write ahead".
"""

from collections import deque
from collections.abc import Iterable
from typing import assert_never

from attrs import define, field, frozen

from gatewayproto import codec
from gatewayproto.config import GatewayConfig
from gatewayproto.frames import Event, Object


@frozen
class Opening:
    """The session itself: the application is told of it."""


@frozen
class EventGiven:
    """An event with its seq and its bytes: it goes into the journal and to the subscribers."""

    seq: int
    body: bytes = field(repr=False)
    event: Event = field(repr=False)


@frozen
class MessageGiven:
    """A message that is in the inbox: the application is told of it."""

    message_id: int


@frozen
class EpochGiven:
    """A new epoch: it takes the place of the session's, and subscribers get a snapshot."""

    epoch: str


@frozen
class Sealing:
    """The end of the session: whoever has had all of it is closed."""


Effect = Opening | EventGiven | MessageGiven | EpochGiven | Sealing


@define(eq=False)
class Ledger:
    """The records of one session: which were given, which are stored, and what waits for them.

    - `given`, `stored`: the number of the newest record given, and confirmed.
    - `base`: the record that must be stored before anybody is welcomed; None while that has yet
      to be given, after a recovery. `unwritten` tells that it has to hold the whole session.
    - `whole`: the newest record from which the session can be rebuilt alone, or with those after.
    - `epoch`, `cursor`, `open_runs`, `sealed`: the session's as of `given`.
    - `opened`: whether the application was told of the session; `received`: of which of its
      messages it was, by the highest `message_id`.
    - `joining`: the connections that are accepted and wait for `base`; `answering`: those that
      wait for answers to messages. Both in the order in which they came.
    """

    max_records: int
    max_bytes: int
    epoch: str
    given: int = 0
    stored: int = 0
    base: int | None = 1
    unwritten: bool = False
    whole: int = 0
    cursor: int = 0
    open_runs: set[str] = field(factory=set)
    sealed: bool = False
    opened: bool = False
    received: int = 0
    waiting: deque[tuple[int, Effect]] = field(factory=deque, repr=False)
    size: int = 0
    joining: dict[int, None] = field(factory=dict)
    answering: dict[int, None] = field(factory=dict)

    @classmethod
    def create(cls, config: GatewayConfig, epoch: str) -> "Ledger | None":
        """The ledger of a session without a past; None where nothing is written ahead."""
        if not config.write_ahead:
            return None
        return cls(config.max_unstored, config.max_unstored_bytes, epoch)

    @property
    def unstored(self) -> int:
        """How many records were given and are not confirmed."""
        return self.given - self.stored

    @property
    def based(self) -> bool:
        """Tell whether what is stored holds the session, so that clients may be welcomed."""
        return self.base is not None and self.stored >= self.base

    def full(self, size: int = 0) -> bool:
        """Tell whether another record, with `size` bytes to be held, is one too many.

        However large it is, one may wait alone.
        """
        too_large = self.size > 0 and self.size + size > self.max_bytes
        return self.unstored >= self.max_records or too_large

    def give(self, effect: Effect | None = None) -> int:
        """Count one more record; `effect` waits until it is stored."""
        self.given += 1
        if effect is not None:
            self._wait(self.given, effect)
        return self.given

    def take(self) -> tuple[int, Effect] | None:
        """The next effect that waits no longer, with its record's number."""
        if not self.waiting or self.waiting[0][0] > self.stored:
            return None
        number, effect = self.waiting.popleft()
        self.size -= _size(effect)
        return number, effect

    def unstored_events(self) -> list[str]:
        """The events that are not yet in the journal, each as its JSON."""
        return [each.body.decode() for _, each in self.waiting if isinstance(each, EventGiven)]

    def _wait(self, number: int, effect: Effect) -> None:
        self.waiting.append((number, effect))
        self.size += _size(effect)
        match effect:
            case EventGiven():
                self.cursor = effect.seq
                run_id = effect.event.run_id
                if run_id is not None and effect.event.transient:
                    self.open_runs.add(run_id)
                elif run_id is not None and effect.event.final:
                    self.open_runs.discard(run_id)
            case EpochGiven():
                self.epoch = effect.epoch
            case Sealing():
                self.sealed = True
            case _:
                pass

    # -- plain data ---------------------------------------------------------------------------

    def to_state(self) -> Object:
        """Plain JSON data from which `load` goes on exactly as this ledger would."""
        return {
            "given": self.given,
            "stored": self.stored,
            "base": self.base,
            "unwritten": self.unwritten,
            "whole": self.whole,
            "opened": self.opened,
            "received": self.received,
            "waiting": [[number, *_plain(effect)] for number, effect in self.waiting],
            "joining": list(self.joining),
            "answering": list(self.answering),
        }

    def load(self, state: Object, *, cursor: int, open_runs: Iterable[str]) -> None:
        """Go on from what `to_state` gave, with a session that holds what is stored."""
        self.given = state["given"]
        self.stored = state["stored"]
        self.base = state["base"]
        self.unwritten = state["unwritten"]
        self.whole = state["whole"]
        self.cursor, self.open_runs = cursor, set(open_runs)
        self.opened = state["opened"]
        self.received = state["received"]
        for number, kind, value in state["waiting"]:
            self._wait(number, self._effect(kind, value))
        self.joining = dict.fromkeys(state["joining"])
        self.answering = dict.fromkeys(state["answering"])

    def _effect(self, kind: str, value: str | int | None) -> Effect:
        match kind, value:
            case "event", str():
                body = value.encode()
                return EventGiven(self.cursor + 1, body, codec.decode_event(body))
            case "message", int():
                return MessageGiven(value)
            case "epoch", str():
                return EpochGiven(value)
            case "sealed", None:
                return Sealing()
            case _:
                return Opening()


def _size(effect: Effect) -> int:
    """Bytes that are held for it alone; a message is in its inbox anyway."""
    return len(effect.body) if isinstance(effect, EventGiven) else 0


def _plain(effect: Effect) -> tuple[str, str | int | None]:
    match effect:
        case EventGiven():
            return "event", effect.body.decode()
        case MessageGiven():
            return "message", effect.message_id
        case EpochGiven():
            return "epoch", effect.epoch
        case Sealing():
            return "sealed", None
        case Opening():
            return "opened", None
        case _:
            assert_never(effect)
