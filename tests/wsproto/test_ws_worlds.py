"""Worlds whose frames travel as WebSocket bytes, cut anywhere: nothing is lost, or twice (P11)."""

from collections.abc import Iterator, Sequence

from gatewayproto_wsproto import (
    ClientConnection,
    ServerConnection,
    TextReceived,
    Upgraded,
    UpgradeRequested,
    WsUrl,
)
from hypothesis import given, settings

from gatewayproto.testing.choices import Choices, Seeded
from gatewayproto.testing.monitors import Monitors
from gatewayproto.testing.network import Link
from gatewayproto.testing.profiles import draw
from gatewayproto.testing.simulator import heal, scramble
from gatewayproto.testing.steps import Setup
from gatewayproto.testing.strategies import choices
from gatewayproto.testing.world import World

_LIMIT = 4 * 1024 * 1024


class Pair:
    """Both ends of one link, upgraded through pieces of bytes."""

    def __init__(self, source: Choices) -> None:
        self._source = source
        self.client = ClientConnection(WsUrl.parse("ws://host/ws"), max_message=_LIMIT)
        self.server = ServerConnection(max_message=_LIMIT)
        (asked,) = [e for part in self.pieces(self.client) for e in self.server.receive(part)]
        assert isinstance(asked, UpgradeRequested)
        self.server.accept()
        (upgraded,) = [e for part in self.pieces(self.server) for e in self.client.receive(part)]
        assert isinstance(upgraded, Upgraded)

    def pieces(self, sender: ClientConnection | ServerConnection) -> Iterator[bytes]:
        """What the sender has to send, cut where the source chooses."""
        data = sender.bytes_to_send()
        while data:
            size = 1 + self._source.choose(min(len(data), 200))
            yield data[:size]
            data = data[size:]


class CutBytes:
    """Carries every frame as WebSocket bytes, in pieces."""

    def __init__(self, source: Choices) -> None:
        self._source = source
        self._pairs: dict[tuple[str, int], Pair] = {}
        self.pieces = 0
        self.frames = 0

    def carry(self, link: Link, frame: bytes, *, up: bool) -> Iterator[Sequence[bytes]]:
        key = (link.client, link.transport)
        if key not in self._pairs:
            self._pairs[key] = Pair(self._source)
        pair = self._pairs[key]
        sender, receiver = (pair.client, pair.server) if up else (pair.server, pair.client)
        assert sender.send_text(frame)
        self.frames += 1
        for piece in list(pair.pieces(sender)):
            self.pieces += 1
            events = receiver.receive(piece)
            yield [event.data for event in events if isinstance(event, TextReceived)]


def live_through(source: Choices, *, deeds: int) -> CutBytes:
    """A world with all faults, its frames as bytes in pieces, judged by every monitor."""
    profile = draw("everything", source)
    wire, monitors = CutBytes(source), Monitors(Setup(gateway=profile.gateway))
    world = World(profile.gateway, observe=monitors.observe, wire=wire)
    for config in profile.clients:
        world.add_client(config)
    scramble(world, profile, source, deeds=deeds)
    heal(world)
    monitors.finish()
    return wire


def test_bytes_cut_anywhere_bring_every_frame_whole_and_in_order() -> None:
    wires = [live_through(Seeded(seed), deeds=80) for seed in range(20)]
    frames, pieces = sum(wire.frames for wire in wires), sum(wire.pieces for wire in wires)
    assert frames > 300
    assert pieces > 2 * frames


@given(choices())
@settings(max_examples=15)
def test_wherever_hypothesis_cuts_them(source: Choices) -> None:
    live_through(source, deeds=15)
