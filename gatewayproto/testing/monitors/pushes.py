"""P14 of what is pushed: who is connected is told truly, to its own session, and never in the way.

Spec: Presence; Health.
"""

from collections import Counter
from typing import Any

from attrs import define

from gatewayproto.actions import GatewayEvent, SubscriberJoined, SubscriberLeft
from gatewayproto.inputs import SetHealth, TimerExpired
from gatewayproto.testing.monitors.base import EPSILON
from gatewayproto.testing.monitors.book import Book, Connection
from gatewayproto.testing.monitors.gateway import GatewayMonitor
from gatewayproto.testing.monitors.wire import PUSHES, WELCOMES, Frame
from gatewayproto.testing.steps import Restarted, Rested, Step


@define
class _Told:
    """What a connection was told last: versions, and the list where it was told one."""

    presence: int
    listed: set[str] | None
    health: int


class Pushes(GatewayMonitor):
    """P14, at the gateway: pushes applied to the welcome's list give the true list, no sooner."""

    prop = "P14"
    about = "a push tells the truth of its own session, in order, and no more often than it may"

    def __init__(self, witnessed: Counter[str], book: Book) -> None:
        super().__init__(witnessed, book)
        self._told: dict[int, _Told] = {}
        self._versions: dict[str, int] = {}
        self._pushed: dict[str, float] = {}
        self._changed_at: dict[str, float] = {}
        self._health: dict[str, Any] | None = None

    def begin(self, step: Step) -> None:
        """What the application set, and what a restart forgets."""
        match step.input:
            case SetHealth(health=health) if step.raised is None:
                self._health = dict(health)
            case Rested():
                self._rest(step.now)
            case Restarted():
                self._told.clear()
                self._changed_at.clear()
                self._versions.clear()
                self._pushed.clear()
                self._health = None
            case _:
                pass

    def told(self, step: Step, event: GatewayEvent) -> None:
        """A list has changed by one."""
        if isinstance(event, SubscriberJoined | SubscriberLeft):
            self._changed_at[event.session_id] = step.now
            version = self._versions.get(event.session_id)
            if version is not None:
                self._versions[event.session_id] = version + 1

    def _rest(self, now: float) -> None:
        """Whoever knows a list knows the true one, once there was time and room to tell it."""
        interval = self.config.push_interval or 0.0
        for connection in self.book.connections.values():
            if connection.version == 1:
                continue
            told, session = self._told.get(connection.number), connection.session
            if told is None or told.listed is None or session is None or connection.outstanding:
                continue
            ours = {each.client_id for each in self.book.followers(session.session_id)}
            quiet = now > self._changed_at.get(session.session_id, now) + interval + EPSILON
            if quiet and told.listed != ours:
                self.fail(f"{connection} knows {sorted(told.listed)}, not {sorted(ours)}", "P15")
            self.saw("knows the list at rest")

    def sent(self, step: Step, connection: Connection, frame: Frame, data: bytes) -> None:
        """Judge a push by what this connection was told before."""
        if frame["type"] in WELCOMES:
            self._welcome(connection, frame)
            return
        if frame["type"] not in PUSHES:
            return
        told = self._told.get(connection.number)
        if self.config.push_interval is None or connection.version == 1:
            self.fail(f"{connection}, of version {connection.version}, is pushed {frame}")
        if connection.stage != "live" or told is None:
            self.fail(f"{connection}, {connection.stage}, is pushed {frame}")
        if frame["type"] == "health":
            self._tell_health(connection, frame, told)
        else:
            self._tell_presence(connection, frame, told)
            if isinstance(step.input, TimerExpired):
                self._space(step, connection)

    def _welcome(self, connection: Connection, frame: Frame) -> None:
        session = connection.session
        if session is None or self.config.push_interval is None:
            return
        version = frame["presence_version"]
        expected = self._versions.setdefault(session.session_id, version)
        if version != expected:
            self.fail(f"{connection} is told of version {version}, it is {expected}")
        listed = frame.get("presence")
        known = None if listed is None else {entry["client_id"] for entry in listed}
        self._told[connection.number] = _Told(version, known, frame["health_version"])

    def _tell_presence(self, connection: Connection, frame: Frame, told: _Told) -> None:
        assert connection.session is not None
        session_id, version = connection.session.session_id, frame["version"]
        ours = {each.client_id for each in self.book.followers(session_id)}
        if version <= told.presence:
            self.fail(f"{connection} is pushed version {version} after {told.presence}")
        if version != self._versions.get(session_id, version):
            self.fail(f"{connection} is pushed version {version}, not {self._versions[session_id]}")
        if "from_version" in frame:
            told.listed = self._changed(connection, frame, told)
            self.saw("change pushed")
        elif "entries" in frame:
            told.listed = {entry["client_id"] for entry in frame["entries"]}
            self.saw("list pushed")
        else:
            told.listed = None
            self.saw("count pushed")
        if told.listed is not None and told.listed != ours:
            self.fail(f"{connection} knows {sorted(told.listed)}; there are {sorted(ours)}")
        if told.listed is None and frame.get("presence_count") != len(ours):
            self.fail(f"{connection} is told of {frame}, there are {len(ours)}")
        told.presence = version

    def _changed(self, connection: Connection, frame: Frame, told: _Told) -> set[str]:
        if told.listed is None or frame["from_version"] != told.presence:
            self.fail(f"{connection} knows no list of {frame['from_version']}: {frame}")
        joined, left = {entry["client_id"] for entry in frame["joined"]}, {*frame["left"]}
        if joined & told.listed or not left <= told.listed:
            self.fail(f"{connection} knows {sorted(told.listed)} and is pushed {frame}")
        if connection.client_id in joined:
            self.fail(f"{connection} is told that it has come itself")
        return (told.listed | joined) - left

    def _space(self, step: Step, connection: Connection) -> None:
        """One push of a session for each interval, to whoever is ready."""
        assert connection.session is not None
        session_id, interval = connection.session.session_id, self.config.push_interval or 0.0
        last = self._pushed.get(session_id)
        if last is not None and last < step.now < last + interval - EPSILON:
            self.fail(f"session {session_id} is pushed at {last} and at {step.now}")
        self._pushed[session_id] = step.now

    def _tell_health(self, connection: Connection, frame: Frame, told: _Told) -> None:
        if frame["version"] <= told.health:
            self.fail(f"{connection} is pushed health {frame['version']} after {told.health}")
        if self._health is not None and frame["health"] != self._health:
            self.fail(f"{connection} is pushed {frame}; the health is {self._health}")
        told.health = frame["version"]
        self.saw("health pushed")
