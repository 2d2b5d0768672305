"""What one call of the gateway gathers: its actions, in order.

Spec: the architecture page, "From Publish to bytes".
"""

from gatewayproto._counters import GatewayCounters, Sent
from gatewayproto.actions import (
    CloseConnection,
    Emit,
    GatewayAction,
    GatewayEvent,
    Persist,
    SendFrames,
)
from gatewayproto.frames import Object


class Effects:
    """The actions of one `handle`, in order.

    Frames that follow each other on the same connections become one `SendFrames`. What is sent
    and closed is counted, once for however many connections.
    """

    def __init__(self, counters: GatewayCounters) -> None:
        self._counters = counters
        self._actions: list[GatewayAction] = []
        self._connections: tuple[int, ...] = ()
        self._frames: list[bytes] = []

    def send(
        self, connections: tuple[int, ...], frames: list[bytes], kind: Sent = "notice"
    ) -> None:
        """Send the frames, all of one kind, on all of the connections."""
        counters = self._counters
        counters.frames_sent[kind] += len(connections) * len(frames)
        counters.bytes_sent[kind] += len(connections) * sum(map(len, frames))
        if connections != self._connections:
            self._flush()
            self._connections = connections
        self._frames += frames

    def close(self, connection: int, code: int, reason: str) -> None:
        """Close a connection after what was sent on it."""
        self._counters.closes[str(code)] += 1
        self._flush()
        self._actions.append(CloseConnection(connection, code, reason))

    def emit(self, event: GatewayEvent) -> None:
        """Tell the application."""
        self._flush()
        self._actions.append(Emit(event))

    def persist(self, session_id: str, number: int, record: Object) -> None:
        """Have a record stored."""
        self._flush()
        self._actions.append(Persist(session_id=session_id, number=number, record=record))

    def take(self) -> tuple[GatewayAction, ...]:
        """Everything so far; the next call begins anew."""
        self._flush()
        actions, self._actions = tuple(self._actions), []
        return actions

    def _flush(self) -> None:
        if self._frames:
            self._actions.append(SendFrames(self._connections, tuple(self._frames)))
            self._frames = []
        self._connections = ()
