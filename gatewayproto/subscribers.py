"""Who follows a session: fan-out of what is published, and the presence list.

Spec: the architecture page, "From Publish to bytes"; The welcome (presence); Presence.
"""

from attrs import define, field

from gatewayproto import codec, versions
from gatewayproto._gateway_effects import Effects
from gatewayproto.delivery import Delivery
from gatewayproto.frames import Event, PresenceEntry
from gatewayproto.journal import Entry
from gatewayproto.presence import PresenceChanges, PresenceFrames, Told


@define(eq=False)
class Subscribers:
    """The deliveries of one session.

    `ready` are those at the head with nothing else owed: they get the next event all at once, by
    one action and from the same bytes. The others are woken by their own credit, not by events.
    `awaiting` are connections whose welcome waits for a snapshot.
    `told` are those that pushes go to, and what each was told last.
    """

    deliveries: dict[int, Delivery] = field(factory=dict)
    ready: dict[int, Delivery] = field(factory=dict)
    presence: dict[int, PresenceEntry] = field(factory=dict)
    presence_version: int = 0
    awaiting: dict[int, None] = field(factory=dict)
    changes: PresenceChanges = field(factory=PresenceChanges)
    told: dict[int, Told] = field(factory=dict)
    _frames: PresenceFrames | None = None

    @property
    def is_followed(self) -> bool:
        """Whether somebody is connected, or is about to be."""
        return bool(self.deliveries or self.awaiting)

    def add(self, delivery: Delivery, entry: PresenceEntry) -> None:
        """A client was welcomed."""
        self.deliveries[delivery.connection] = delivery
        self.presence[delivery.connection] = entry
        self.changes.note_joined(entry)
        self._move_on()

    def remove(self, connection: int) -> None:
        """A client's connection ended."""
        del self.deliveries[connection]
        self.changes.note_left(self.presence.pop(connection).client_id)
        self.ready.pop(connection, None)
        self.told.pop(connection, None)
        self._move_on()

    def presence_frames(self, maximum: int) -> PresenceFrames:
        """The frames that tell the list as it is; it is listed up to `maximum` clients."""
        if self._frames is None:
            count = len(self.presence)
            self._frames = PresenceFrames(self.presence_version, count, self.listed(maximum))
        return self._frames

    def listed(self, maximum: int) -> tuple[PresenceEntry, ...] | None:
        """Who is connected; None where they are more than `maximum`."""
        return None if len(self.presence) > maximum else tuple(self.presence.values())

    def _move_on(self) -> None:
        self.presence_version += 1
        self._frames = None

    def broadcast(self, entry: Entry, event: Event, effects: Effects, now: float) -> list[int]:
        """Send a new event to all who are ready; give those who are no longer.

        An event is encoded once for each version, whatever the number of its subscribers.
        """
        frames: dict[int, bytes] = {}
        taken: dict[int, list[int]] = {}
        behind: list[int] = []
        for connection, delivery in self.ready.items():
            version = delivery.version
            frame = frames.get(version)
            if frame is None:
                frame = frames[version] = _live_frame(version, entry, event)
                taken[version] = []
            if delivery.take_live(entry.seq, len(frame), now):
                taken[version].append(connection)
            else:
                behind.append(connection)
        for version, connections in taken.items():
            if connections:
                effects.send(tuple(connections), [frames[version]], "event")
        for connection in behind:
            del self.ready[connection]
        return behind


def _live_frame(version: int, entry: Entry, event: Event) -> bytes:
    if version == 1:
        return versions.replay_frame_v1(entry.seq, event)
    return codec.event_frame("event", entry.seq, entry.body)
