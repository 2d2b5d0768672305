"""What was published, and what an application makes of what it is given, as values that are shared.

An exploration meets the same log and the same state in very many worlds. Each is made once, knows
what follows it, and is told from others by its digest.

Spec: Terms; Snapshots.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

import msgspec
from attrs import define, field

from gatewayproto.config import GatewayConfig
from gatewayproto.frames import Event
from gatewayproto.projection import Projection, Transcript
from gatewayproto.testing.reference import Fold, Ledger, Plain, event_object

_DIGEST: Final = 12
"""Bytes of a digest: enough for a billion logs to be told apart."""


def canonical(value: object) -> bytes:
    """JSON that is the same for the same value."""
    return msgspec.json.encode(value, order="deterministic")


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=_DIGEST).hexdigest()


@define(eq=False)
class Log:
    """The events of a session from its first on, up to and including `event`.

    - `path`: the log as of each seq, from the empty one to this. `wire`: the event as v2 sends it.
    - `state`: the canonical fold of it all. `oldest`: the `oldest_cursor` by version.
    """

    digest: str
    event: Event | None
    wire: Plain | None
    ledger: Ledger
    state: bytes
    path: "tuple[Log, ...]" = ()
    oldest: dict[int, int] = field(factory=dict)
    following: "dict[bytes, Log]" = field(factory=dict)

    @classmethod
    def empty(cls, config: GatewayConfig) -> "Log":
        """The log of a session that has just begun."""
        return cls._of(config, "", None, Ledger.of(config), ())

    @classmethod
    def _of(
        cls,
        config: GatewayConfig,
        digest: str,
        event: Event | None,
        ledger: Ledger,
        path: "tuple[Log, ...]",
    ) -> "Log":
        fold = _reducer(config)
        for seq, each in enumerate(ledger.log, start=1):
            fold.apply(seq, each)
        wire = None if event is None else event_object(event)
        log = cls(digest, event, wire, ledger, canonical(fold.state()))
        log.path = (*path, log)
        log.oldest = {version: ledger.oldest(version) for version in (1, 2)}
        return log

    def append(self, config: GatewayConfig, event: Event) -> "Log":
        """This log and one more event."""
        key = msgspec.json.encode(event, order="deterministic")
        found = self.following.get(key)
        if found is None:
            ledger = self.ledger.copy()
            ledger.append(event)
            ledger.trim()
            digest = _digest(self.digest.encode() + key)
            found = self.following[key] = Log._of(config, digest, event, ledger, self.path)
        return found

    @property
    def cursor(self) -> int:
        """The newest seq, 0 before any."""
        return len(self.path) - 1

    def is_superseded(self, first: int, last: int) -> bool:
        """Whether every event of this range is superseded."""
        return all(seq in self.ledger.ends for seq in range(first, last + 1))


@define(eq=False)
class View:
    """What a client's application has made of what it was given: a state."""

    digest: str
    state: Plain
    following: "dict[tuple[int, bytes], View]" = field(factory=dict)


class Views:
    """Every view that an exploration meets, each once."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._views: dict[bytes, View] = {}
        self.empty = self.of(_reducer(config).state())

    def of(self, state: Mapping[str, Any]) -> View:
        """The view that a snapshot gives."""
        key = canonical(state)
        found = self._views.get(key)
        if found is None:
            found = self._views[key] = View(_digest(key), dict(state))
        return found

    def of_log(self, log: Log) -> View:
        """The view of a client that never left."""
        found = self._views.get(log.state)
        return self.of(msgspec.json.decode(log.state)) if found is None else found

    def fold(self, view: View, seq: int, event: Event) -> View:
        """The view after one more event."""
        key = seq, msgspec.json.encode(event, order="deterministic")
        found = view.following.get(key)
        if found is None:
            fold = _reducer(self._config)
            fold.load(view.state)
            fold.apply(seq, event)
            found = view.following[key] = self.of(fold.state())
        return found


def _reducer(config: GatewayConfig) -> Fold | Projection:
    """The reference's where the gateway folds a transcript, else another of the gateway's own."""
    return Fold() if config.projection is Transcript else config.projection()
