"""A version 1 client as it is deployed: it believes what it is told and guards nothing.

It adopts the cursor of every welcome, moves it with `replay` frames alone, takes a `snapshot` for
a new state, repeats what is not acknowledged, and knows no frame, field or code of version 2.
"""

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from tests.blackbox.bbwire import Frame, Peer, PeerClosedError, open_client
from tests.deployed.dpwire import CutError, Fault, FaultyPeer

KNOWN_CODES: Final = {
    "protocol_unsupported",
    "agent_not_found",
    "auth_required",
    "auth_unauthorized",
    "rate_limited",
    "configuration_error",
}
_ANSWERS: Final = {"hello": ("hello_ok", "hello_error"), "join": ("joined", "error")}
_RANGES: Final = {"hello": ("protocol_min", "protocol_max"), "join": ("min_version", "max_version")}


@dataclass(frozen=True)
class Habits:
    """In what deployed clients differ."""

    spelling: str = "hello"
    stated: bool = False
    """It offers version 1 to 1, where others offer nothing."""
    counts: str = "seq"
    """Where it reads an event's number: `seq`, `sequence` or `cursor`."""
    token: str | None = None
    token_in_query: bool = False


def draw_habits(rng: Random, token: str | None) -> Habits:
    """Draw a client."""
    return Habits(
        spelling=rng.choice(["hello", "join"]),
        stated=rng.random() < 0.3,
        counts=rng.choice(["seq", "sequence", "cursor"]),
        token=token,
        token_in_query=rng.random() < 0.5,
    )


class RejectedError(Exception):
    """The server would not have it."""

    def __init__(self, frame: Frame) -> None:
        super().__init__(frame)
        self.code: str = frame["code"]


@dataclass
class View:
    """What the client shows: a state as of `start`, and what came after."""

    state: Frame | None = None
    start: int = 0
    events: list[Frame] = field(default_factory=list)


@dataclass
class DeployedClient:
    """The client, over all its connections. `log` is what it was told, in order."""

    habits: Habits
    address: Callable[[], tuple[str, int]]
    rcvbuf: int | None = None
    """Bytes that the system takes in while it does not read."""
    session_id: str | None = None
    cursor: int = 0
    view: View = field(default_factory=View)
    written: dict[str, str] = field(default_factory=dict)
    """Every message by its request id, in the order in which they were to be sent."""
    acknowledged: dict[str, str] = field(default_factory=dict)
    """By request id, the session id under which it was acknowledged."""
    log: list[Frame] = field(default_factory=list)
    closed_with: int | None = None
    """The close code that ended the newest connection, 1006 where nobody said one."""

    def visit(
        self,
        fault: Fault | None = None,
        texts: Iterable[str] = (),
        *,
        done: Callable[[], bool],
        late_texts: int = 0,
    ) -> bool:
        """Connect and follow until it breaks, or until it is done; tells whether it is done.

        The last `late_texts` texts are sent one by one, while frames come.
        """
        self.closed_with = None
        habits = self.habits
        in_query = habits.token is not None and habits.token_in_query
        path = f"/ws?token={habits.token}" if in_query else "/ws"
        waiting = list(texts)
        while len(waiting) > late_texts:
            self.written[new_id()] = waiting.pop(0)
        try:
            peer = FaultyPeer(open_client(*self.address(), path, rcvbuf=self.rcvbuf), fault)
            self.greet(peer)
            for request_id in self.unacknowledged():
                peer.send(self.message(request_id))
            while not done() or waiting:
                if waiting and (done() or len(self.log) % 3 == 0):
                    self.written[(request_id := new_id())] = waiting.pop(0)
                    peer.send(self.message(request_id))
                self.take(peer.recv(), peer)
            peer.end("reset" if fault is None else fault.way)
        except CutError:
            return not waiting and done()
        except PeerClosedError as closed:
            self.closed_with = closed.code
            return False
        finally:
            # What it could not send any more is sent with the next connection.
            self.written |= {new_id(): text for text in waiting}

    def unacknowledged(self) -> list[str]:
        """What is to be sent again, in order."""
        return [request_id for request_id in self.written if request_id not in self.acknowledged]

    def message(self, request_id: str) -> Frame:
        """Write a message out, each time the same."""
        return {"type": "message", "content": self.written[request_id], "request_id": request_id}

    def greet(self, peer: Peer) -> None:
        """Say who comes, and adopt what the welcome says."""
        habits = self.habits
        opening: Frame = {"type": habits.spelling, "agent_id": "demo"}
        if habits.stated:
            opening |= dict.fromkeys(_RANGES[habits.spelling], 1)
        if habits.token is not None and not habits.token_in_query:
            opening["token"] = habits.token
        if self.session_id is not None:
            opening |= {"session_id": self.session_id, "since": self.cursor}
        peer.send(opening)
        frame = peer.recv()
        welcome, rejection = _ANSWERS[habits.spelling]
        if frame["type"] == rejection:
            raise RejectedError(frame)
        assert frame["type"] == welcome, frame
        self.log.append(frame)
        if frame["session_id"] != self.session_id or frame["cursor"] < self.cursor:
            self.view = View(start=frame["cursor"])
        self.session_id = frame["session_id"]
        self.cursor = frame["cursor"]

    def take(self, frame: Frame, peer: Peer) -> None:
        """Do what a deployed client does with a frame."""
        self.log.append(frame)
        match frame["type"]:
            case "replay":
                event = frame["event"]
                self.cursor = self._number(frame)
                self.view.events.append(event)
            case "snapshot":
                state = frame["state"]
                self.cursor = state["event_cursor"]
                self.view = View(state, self.cursor)
            case "response":
                assert self.session_id is not None
                self.acknowledged[frame["request_id"]] = self.session_id
            case "ping":
                peer.send({"type": "pong", "nonce": frame.get("nonce")})
            case _:
                pass  # it has never heard of this

    def _number(self, frame: Frame) -> int:
        event = frame["event"]
        found: Any = frame["seq"]
        if self.habits.counts == "sequence":
            found = event["sequence"]
        elif self.habits.counts == "cursor":
            found = event["data"]["cursor"]
        assert isinstance(found, int)
        return found


def new_id() -> str:
    """Make a request id."""
    return uuid.uuid4().hex
