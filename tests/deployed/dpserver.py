"""A version 1 server as it is deployed: a journal in memory, and no guard against anything.

It takes any `since` at its word, numbers anew when it is restarted, loses an event now and then,
and differs from the next one in all that version 1 never said. What it published, and what every
client was in a position to know, is kept for the judge.
"""

import select
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from tests.blackbox.bbwire import WAIT, Frame, Listener, PeerClosedError, parse_frame
from tests.deployed.dpwire import CutError, Fault, FaultyPeer

Restart = Literal["same", "other", "renumbered"]
"""Under the same session id with nothing; under another; under the same with a part, from 1."""
Floor = Literal["none", "joined", "both"]
Hello = Literal["same", "baseline", "deaf", "all"]
Live = Literal["replay", "named", "bare", "nested"]
Behind = Literal["hole", "snapshot", "announced"]
_MOMENT: Final = 0.05
_PATIENCE: Final = 1.0


@dataclass(frozen=True)
class Kind:
    """In what deployed servers differ."""

    floor: Floor = "none"
    """Which of its welcomes tell an `oldest_cursor`."""
    head: bool = False
    sequence: bool = False
    version: Literal["none", "protocol", "both"] = "both"
    resumed: Literal["true", "false", "absent", "honest"] = "honest"
    hello: Hello = "same"
    """What comes after `hello`: as after `join`, a snapshot, nothing, all that it holds."""
    live: Live = "replay"
    behind: Behind = "hole"
    """What a `since` below the journal gets."""
    numbered: bool = False
    """A `response` with a number is acknowledgement and event in one."""
    remembers: bool = True
    """It knows a request that comes again."""
    journal: int = 1000
    heartbeat_ms: int | None = None


@dataclass(frozen=True)
class Visit:
    """What happens before and during one connection."""

    restart: Restart | None = None
    away: int = 0
    live: int = 0
    lost: frozenset[int] = frozenset()
    """Which of the live events it fails to send."""
    twice: frozenset[int] = frozenset()
    anew_at: int | None = None
    """Before which live event it numbers anew, with nothing, while the connection goes on."""
    fault: Fault | None = None


@dataclass
class Life:
    """The server's memory from one restart to the next."""

    number: int
    session_id: str
    published: list[Frame] = field(default_factory=list)
    requests: set[str] = field(default_factory=set)

    @property
    def head(self) -> int:
        """The newest number."""
        return len(self.published)


@dataclass(frozen=True)
class Attach:
    """A handshake as the server took it."""

    life: int
    known: bool
    since: int
    head: int
    floor: int


class DeployedServer:
    """The server in a thread; one connection at a time, each as its visit says.

    After the last visit it goes on without faults, calls `on_final`, and once `finish` is set it
    publishes the event that ends the play.
    """

    def __init__(
        self,
        kind: Kind,
        visits: tuple[Visit, ...],
        history: int = 0,
        *,
        last_live: int | None = 3,
    ) -> None:
        """Begin with `history` events.

        `last_live` are published once all visits are over, and then the one that ends the play;
        where it is None, nothing more ever is.
        """
        self.kind = kind
        self.visits = visits
        self.last_live = last_live
        self.listener = Listener()
        self.lives = [Life(0, "s0")]
        self.attaches: list[Attach] = []
        self.runs: Counter[str] = Counter()
        self.connections = 0
        self.on_final = _nothing
        self.finish = threading.Event()
        self._stop = threading.Event()
        self._ended = False
        self.end_at = 0
        """The number of the event that ends the play."""
        self.nudges = 0
        """How often something more had to happen before a client that was there went on."""
        self._failure: BaseException | None = None
        self._publish(history)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; raises what went wrong in it."""
        self._stop.set()
        self._thread.join(WAIT)
        if self._failure is not None:
            raise self._failure
        assert not self._thread.is_alive()

    @property
    def life(self) -> Life:
        """The present one."""
        return self.lives[-1]

    @property
    def floor(self) -> int:
        """The lowest number that the journal holds."""
        return max(1, self.life.head - self.kind.journal + 1)

    # -- what happens to it -------------------------------------------------------------------

    def _publish(self, count: int, **data: Any) -> None:
        life = self.life
        for _ in range(count):
            seq = life.head + 1
            inner: Frame = {
                "type": "note",
                "data": {"mark": [life.number, seq], "cursor": seq, **data},
                "event_id": f"event-{life.number}-{seq}",
                "timestamp": 1_750_000_000.5,
                "sequence": seq,
            }
            life.published.append(inner)

    def _restart(self, how: Restart) -> None:
        old = self.life
        number = old.number + 1
        name = f"s{number}" if how == "other" else old.session_id
        self.lives.append(Life(number, name))
        if how == "renumbered":
            self._publish(min(self.kind.journal, (old.head + 1) // 2))

    # -- connections --------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            for visit in self.visits:
                if visit.restart is not None:
                    self._restart(visit.restart)
                self._publish(visit.away)
                if not self._visit(visit):
                    return
            self.on_final()
            self._ended = self.last_live is None
            while self._visit(Visit(live=0 if self._ended else self.last_live or 0), final=True):
                pass
        except BaseException as error:  # noqa: BLE001 - raised again by `stop`
            self._failure = error

    def _accept(self, fault: Fault | None) -> FaultyPeer | None:
        while not self._stop.is_set():
            if not select.select([self.listener.sock], [], [], _MOMENT)[0]:
                continue
            try:
                return FaultyPeer(self.listener.accept(), fault)
            except (PeerClosedError, OSError):
                continue  # it left before it was answered
        return None

    def _visit(self, visit: Visit, *, final: bool = False) -> bool:
        """Serve one connection to its end; False once there are to be no more."""
        peer = self._accept(visit.fault)
        if peer is None:
            return False
        self.connections += 1
        try:
            self._take(peer, peer.recv())
            for index in range(visit.live):
                while _readable(peer, 0.0):
                    self._take(peer, peer.recv())
                if index == visit.anew_at:
                    self._restart("same")
                self._publish(1)
                if index not in visit.lost:
                    peer.send(self._frame(self.life.head))
                if index in visit.twice:
                    peer.send(self._frame((self.life.head + 1) // 2))
            if final:
                self._attend(peer)
            else:
                self._settle(peer)
                peer.end("reset" if visit.fault is None else visit.fault.way)
        except CutError:
            pass
        except (PeerClosedError, OSError):
            peer.sock.close()
        return True

    def _settle(self, peer: FaultyPeer) -> None:
        """Wait until the client has taken all that it was sent, and asks for nothing more."""
        busy = True
        while busy:
            busy = False
            peer.send({"type": "ping", "nonce": "settle"})
            while (frame := peer.recv())["type"] != "pong" or frame.get("nonce") != "settle":
                self._take(peer, frame)
                busy = True

    def _attend(self, peer: FaultyPeer) -> None:
        """Serve until the client leaves. One that does not, though all is said, is told more."""
        since = time.monotonic()
        while not self._stop.is_set():
            if self.finish.is_set() and not self._ended:
                self._ended = True
                self._publish(1, end=True)
                self.end_at = self.life.head
                peer.send(self._frame(self.life.head))
            elif self.end_at and time.monotonic() > since + _PATIENCE:
                since = time.monotonic()
                self.nudges += 1
                self._publish(1)
                peer.send(self._frame(self.life.head))
            if _readable(peer, _MOMENT):
                self._take(peer, peer.recv())

    def _take(self, peer: FaultyPeer, frame: Frame) -> None:
        match frame["type"]:
            case "hello" | "join":
                peer.send(*self._answer(frame))
            case "message":
                peer.send(*self._answer_message(frame))
            case "ping":
                peer.send({"type": "pong", "nonce": frame.get("nonce")})
            case "leave":
                peer.send_close(1000)
            case _:
                pass

    # -- what it says -------------------------------------------------------------------------

    def _answer(self, opening: Frame) -> list[Frame]:
        kind, life, joins = self.kind, self.life, opening["type"] == "join"
        presented, since = opening.get("session_id"), opening.get("since") or 0
        known = presented == life.session_id
        self.attaches.append(Attach(life.number, known, since, life.head, self.floor))
        welcome: Frame = {
            "type": "joined" if joins else "hello_ok",
            "session_id": life.session_id,
            "agent_id": opening["agent_id"],
            "cursor": life.head,
        }
        if kind.version != "none":
            welcome["protocol_version"] = 1
        if kind.version == "both" and not joins:
            welcome["protocol"] = 1
        if kind.resumed != "absent":
            welcome["resumed"] = known if kind.resumed == "honest" else kind.resumed == "true"
        if kind.head:
            welcome["head"] = life.head
        if kind.sequence:
            welcome["sequence"] = since
        if kind.heartbeat_ms is not None:
            welcome["policy"] = {
                "max_payload": 2**20,
                "heartbeat_ms": kind.heartbeat_ms,
                "resume_window_ms": 300_000,
                "request_ttl_ms": 300_000,
                "max_pending_requests": 64,
            }
        if kind.floor == "both" or (kind.floor == "joined" and joins):
            welcome["oldest_cursor"] = self.floor
        how = "same" if joins else kind.hello
        if how == "same":
            return self._from(welcome, since)
        if how == "all":
            return [welcome, *self._replays(self.floor)]
        return [welcome, self._snapshot()] if how == "baseline" else [welcome]

    def _from(self, welcome: Frame, since: int) -> list[Frame]:
        if since + 1 >= self.floor:
            return [welcome, *self._replays(since + 1)]
        if self.kind.behind == "hole":
            return [welcome, *self._replays(self.floor)]
        if self.kind.behind == "announced":
            welcome |= {"resync_required": True, "resync_reason": "trimmed"}
        return [welcome, self._snapshot()]

    def _replays(self, first: int) -> list[Frame]:
        return [self._replay(seq) for seq in range(first, self.life.head + 1)]

    def _replay(self, seq: int) -> Frame:
        return {"type": "replay", "seq": seq, "event": self.life.published[seq - 1]}

    def _frame(self, seq: int) -> Frame:
        """An event as it goes out while it happens."""
        inner = self.life.published[seq - 1]
        match self.kind.live:
            case "replay":
                return self._replay(seq)
            case "named":
                return {**inner, "seq": seq}
            case "bare":
                return {"type": inner["type"], "seq": seq, **inner["data"]}
            case "nested":
                return {"type": "event", "seq": seq, "event": inner}

    def _snapshot(self) -> Frame:
        life = self.life
        state = {"event_cursor": life.head, "session_id": life.session_id, "agent_id": "demo"}
        return {"type": "snapshot", "state": {**state, "life": life.number, "end": self._ended}}

    def _answer_message(self, frame: Frame) -> list[Frame]:
        request_id, life = frame["request_id"], self.life
        answer: Frame = {"type": "response", "status": "accepted", "request_id": request_id}
        if request_id in life.requests and self.kind.remembers:
            return [{**answer, "status": "duplicate"}]
        life.requests.add(request_id)
        self.runs[request_id] += 1
        self._publish(1, text=frame["content"])
        if self.kind.numbered:
            return [{**answer, "seq": life.head, "data": life.published[-1]["data"]}]
        return [answer, self._frame(life.head)]


def _nothing() -> None:
    """Nobody waits for the last visit."""


def _readable(peer: FaultyPeer, timeout: float) -> bool:
    """Tell whether there is something to take within so many seconds."""
    if parse_frame(peer.buffer, peer.at, masked=True) is not None:
        return True
    return bool(select.select([peer.sock], [], [], timeout)[0])
