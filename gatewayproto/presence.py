"""Who is connected to a session: the list's changes, and the frames that tell of them.

Spec: Presence.
"""

import math

from attrs import define, field

from gatewayproto import codec
from gatewayproto.frames import Presence, PresenceEntry


@define
class Told:
    """What one subscriber of version 2 was told last, beside events.

    `presence` and `health` are versions. `listed` tells whether it knows the list of that version,
    so that a change of it is enough.
    """

    presence: int
    listed: bool
    health: int


@define(eq=False)
class PresenceChanges:
    """What has changed in a session's list since version `since`, the last that was pushed.

    Who came and left meanwhile is in neither `joined` nor `left`. No push is before `not_before`,
    in seconds on the clock of `now`.
    """

    since: int = 0
    joined: dict[str, PresenceEntry] = field(factory=dict)
    left: list[str] = field(factory=list)
    not_before: float = -math.inf

    def note_joined(self, entry: PresenceEntry) -> None:
        """A client was welcomed."""
        self.joined[entry.client_id] = entry

    def note_left(self, client_id: str) -> None:
        """A client's connection ended."""
        if self.joined.pop(client_id, None) is None:
            self.left.append(client_id)

    def begin_anew(self, version: int) -> None:
        """Everybody who is to be told of it will know `version`."""
        self.since, self.joined, self.left = version, {}, []


@define(eq=False)
class PresenceFrames:
    """The forms that one version of a session's list is told in, each encoded once.

    `entries` is None where they are too many to be listed.
    """

    version: int
    count: int
    entries: tuple[PresenceEntry, ...] | None
    _as_list: bytes | None = None
    _as_count: bytes | None = None
    _as_change: bytes | None = None

    def whole(self, max_payload: int) -> tuple[bytes, bool]:
        """The list, or the count where that does not do; and whether it is the list."""
        if self.entries is not None:
            if self._as_list is None:
                self._as_list = codec.encode(Presence(version=self.version, entries=self.entries))
            if len(self._as_list) <= max_payload:
                return self._as_list, True
        if self._as_count is None:
            frame = Presence(version=self.version, presence_count=self.count)
            self._as_count = codec.encode(frame)
        return self._as_count, False

    def change(self, changes: PresenceChanges, max_payload: int) -> tuple[bytes, bool]:
        """The change, or what `whole` gives where that does not do."""
        if self.entries is None:
            return self.whole(max_payload)
        if self._as_change is None:
            frame = Presence(
                version=self.version,
                from_version=changes.since,
                joined=tuple(changes.joined.values()),
                left=tuple(changes.left),
            )
            self._as_change = codec.encode(frame)
        if len(self._as_change) > max_payload:
            return self.whole(max_payload)
        return self._as_change, True
