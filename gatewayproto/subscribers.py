"""Who follows a session: fan-out of what is published, and the presence list.

Spec: the architecture page, "From Publish to bytes"; The welcome (presence).
"""

from attrs import define, field

from gatewayproto import codec, versions
from gatewayproto._gateway_effects import Effects
from gatewayproto.delivery import Delivery
from gatewayproto.frames import Event, PresenceEntry
from gatewayproto.journal import Entry


@define(eq=False)
class Subscribers:
    """The deliveries of one session.

    `ready` are those at the head with nothing else owed: they get the next event all at once, by
    one action and from the same bytes. The others are woken by their own credit, not by events.
    `awaiting` are connections whose welcome waits for a snapshot.
    """

    deliveries: dict[int, Delivery] = field(factory=dict)
    ready: dict[int, Delivery] = field(factory=dict)
    presence: dict[int, PresenceEntry] = field(factory=dict)
    presence_version: int = 0
    awaiting: dict[int, None] = field(factory=dict)

    @property
    def is_followed(self) -> bool:
        """Whether somebody is connected, or is about to be."""
        return bool(self.deliveries or self.awaiting)

    def add(self, delivery: Delivery, entry: PresenceEntry) -> None:
        """A client was welcomed."""
        self.deliveries[delivery.connection] = delivery
        self.presence[delivery.connection] = entry
        self.presence_version += 1

    def remove(self, connection: int) -> None:
        """A client's connection ended."""
        del self.deliveries[connection]
        del self.presence[connection]
        self.ready.pop(connection, None)
        self.presence_version += 1

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
