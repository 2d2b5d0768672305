"""What tells one world from another: a digest of everything that may make a difference later.

Clients that are interchangeable may change places: of a world and all that differ from it only by
who is called what, the least digest counts, so that all of them are one.

Spec: the verification page, "Explorer".
"""

import re
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from itertools import permutations
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from gatewayproto.testing.deeds import Kind
from gatewayproto.testing.explorer.bounds import Bound
from gatewayproto.testing.explorer.folded import State, digest
from gatewayproto.testing.explorer.judge import Judge
from gatewayproto.testing.network import Close, Link
from gatewayproto.testing.peer import Peer
from gatewayproto.testing.world import World

if TYPE_CHECKING:
    from gatewayproto.testing.explorer.rebased import Rebased, Stored

SIZE: Final = 16
"""Bytes of a fingerprint: among ten million worlds, two that share one are not to be expected."""

_IDS: Final = r"\bc\d+(?=[-.])"
"""Where a client's name is found in what machines hold: ids begin with it."""


class Naming:
    """One way to call the clients, and what everything is then called; `names` by the new order."""

    def __init__(self, new: Sequence[str], old: Sequence[str]) -> None:
        self._called = dict(zip(old, new, strict=True))
        self.names = sorted(old, key=self._called.__getitem__)
        self._bytes = {name.encode(): called.encode() for name, called in self._called.items()}
        self._changes = list(new) != list(old)
        self._frames: dict[bytes, bytes] = {}
        self._states: dict[bytes, bytes] = {}

    def text(self, text: str) -> str:
        """A text with its ids renamed."""
        if not self._changes:
            return text
        return re.sub(_IDS, lambda found: self._called.get(found[0], found[0]), text)

    def frame(self, item: bytes | Close) -> bytes:
        """The digest of a frame in flight."""
        if isinstance(item, Close):
            return b"close %d" % (item.code or 0)
        found = self._frames.get(item)
        if found is None:
            found = blake2b(self._renamed(item), digest_size=SIZE).digest()
            self._frames[item] = found
        return found

    def state(self, state: State[Any]) -> bytes:
        """The digest of a machine's state."""
        if not self._changes:
            return state.digest
        renamed = self._states.get(state.digest)
        if renamed is None:
            renamed = digest(self._renamed(state.body), state.ids, state.tag)
            self._states[state.digest] = renamed
        return renamed

    def _renamed(self, data: bytes) -> bytes:
        if not self._changes:
            return data
        return re.sub(_IDS.encode(), lambda found: self._bytes.get(found[0], found[0]), data)


class Fingerprints:
    """Digests of the worlds of one exploration.

    `alike` is whether clients may change places. `remembers_ended` is whether messages that have
    come to their end make a difference later.
    """

    def __init__(self, *, alike: bool = False, remembers_ended: bool = False) -> None:
        self._alike = alike
        self._remembers_ended = remembers_ended
        self._namings: dict[tuple[str, ...], list[Naming]] = {}

    @classmethod
    def of_bound(cls, bound: Bound, *, symmetry: bool = True) -> "Fingerprints":
        """Those for the worlds of a bound."""
        repeats = any(Kind.REPEAT in kinds for kinds in bound.counted)
        return cls(alike=symmetry and bound.alike, remembers_ended=repeats)

    def of(self, world: World, judge: Judge, left: bytes) -> bytes:
        """The fingerprint of a world; `left` is what else tells it from others."""
        names = tuple(world.peers)
        namings = self._namings.get(names)
        if namings is None:
            namings = self._namings[names] = list(self._make(names))
        if len(namings) == 1:
            return self._digest(world, judge, left, namings[0])
        return min(self._digest(world, judge, left, naming) for naming in namings)

    def _make(self, names: Sequence[str]) -> Iterable[Naming]:
        for order in permutations(names) if self._alike else (names,):
            yield Naming(order, names)

    def _digest(self, world: World, judge: Judge, left: bytes, naming: Naming) -> bytes:
        gateway = cast("Stored", world.gateway)
        parts = [
            left,
            naming.state(gateway.state),
            b"" if gateway.store is None else naming.state(gateway.store),
            b"%d %d" % (world.published, world.opened),
            naming.text(_application(world)).encode(),
            judge.text(naming.names, naming.text).encode(),
        ]
        for name in naming.names:
            self._add_peer(parts, world.peers[name], naming)
        return blake2b(b"\0".join(parts), digest_size=SIZE).digest()

    def _add_peer(self, parts: list[bytes], peer: Peer, naming: Naming) -> None:
        parts.append(naming.state(cast("Rebased", peer.slot).state))
        text = (
            f"{peer.token and peer.token.cursor} {peer.untaken} {peer.sent} {peer.question}"
            f" {peer.state} {peer.caught_up} {peer.needs_token} {peer.stopped} {peer.dead}"
        )
        if peer.open_requests or self._remembers_ended:
            ended = peer.ended_requests if self._remembers_ended else ""
            text += naming.text(f" {peer.open_requests} {ended}")
        parts.append(text.encode())
        for link in peer.links.values():
            _add_link(parts, link, naming.frame)


def _add_link(parts: list[bytes], link: Link, frame: Callable[[bytes | Close], bytes]) -> None:
    parts.append(
        b"%d %d %d%d%d%d %d %d %d"
        % (
            link.transport,
            link.connection or 0,
            link.client_open,
            link.gateway_open,
            link.dead,
            link.stalled,
            len(link.up),
            len(link.owed),
            len(link.down),
        )
    )
    for queue in (link.up, link.owed, link.down):
        parts.extend([frame(item) for item in queue])


def _application(world: World) -> str:
    """An application's state: it is plain data."""
    return msgspec.json.encode(world.application).decode()
