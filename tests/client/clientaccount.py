"""The account that judges what became of a script.

It knows only what the client's application was told and what went over the wire, never what the
machine believes of itself.
"""

import json
from collections.abc import Callable

from gatewayproto.actions import (
    CaughtUp,
    ClientAction,
    ClientEvent,
    CloseTransport,
    Emit,
    EventReceived,
    Gap,
    Joined,
    MessageAccepted,
    MessageRefused,
    OpenTransport,
    OutcomeUnknown,
    RetryScheduled,
    SendFrame,
    Skipped,
    SnapshotReceived,
    StateChanged,
    Stopped,
)
from gatewayproto.client import Client, ClientState
from tests.client.clientlab import Frame

# States in which something must happen in the end, whoever says nothing.
NEVER_FOR_EVER = frozenset(
    {
        ClientState.CONNECTING,
        ClientState.HANDSHAKING,
        ClientState.REJOINING,
        ClientState.REJECTED,
        ClientState.RECOVERING,
        ClientState.RESYNCING,
        ClientState.WAITING,
    }
)


class Account:
    """What the application was given and what was written, held to the properties."""

    def __init__(self, client: Client, ttl: float) -> None:
        self._client = client
        self._ttl = ttl
        self.cursor = 0
        self.witness: set[str] = set()
        self._name: str | None = None
        self._stopped = False
        self._opened = 0
        self._open: int | None = None
        self._greeted = False
        self._joined = False
        self._sent: list[str] = []
        self._first_written: dict[str, float] = {}
        self._on_connection: list[str] = []
        self._ended: set[str] = set()
        self._epoch: str | None = None
        self._version = 0
        self._nonce: str | None = None
        self._asked: tuple[str | None, int] | None = None
        self._attempt = 0
        self._may_count_anew = False
        self._awaits_snapshot = False

    def send(self, request_id: str) -> None:
        """The application gave a message, and it was no mistake."""
        self._sent.append(request_id)

    def expect(self, frame: Frame) -> Callable[[tuple[ClientAction, ...]], None]:
        """What a frame must lead to, by what is known before it: a check of the actions."""
        live = self._client.state is ClientState.LIVE
        awaited, cursor, epoch, version = self._nonce, self.cursor, self._epoch, self._version
        asked = self._asked

        def judge(actions: tuple[ClientAction, ...]) -> None:
            told = [action.event for action in actions if isinstance(action, Emit)]
            kinds = {type(each) for each in told}
            match frame:
                case {"type": "ping" | "caught_up", "cursor": int(said)} if (
                    live and said > cursor and (version == 2 or frame["type"] == "ping")
                ):
                    # Once: where it was asked for before, the server cannot give it.
                    assert (Gap in kinds) != (asked == (epoch, cursor)), "a missing tail is told"
                case {"type": "caught_up"} if version == 2 and CaughtUp in kinds:
                    assert frame.get("nonce") == awaited, "only the answer is an answer"
                case {"type": "snapshot", "state": _, "epoch": str(said)} if live:
                    believed = version == 2 and (
                        said == epoch or frame["reason"] == "epoch_changed"
                    )
                    assert (SnapshotReceived in kinds) == believed
                case _:
                    pass

        return judge

    def check(self, actions: tuple[ClientAction, ...], now: float) -> None:
        """Judge what one input made the client do."""
        assert not (self._stopped and any(not _is_refusal(each) for each in actions))
        lost: list[str] | None = None
        for action in actions:
            match action:
                case OpenTransport(connection=number):
                    assert number == self._opened + 1
                    self._opened = self._open = number
                    self._greeted = self._joined = False
                    self._on_connection, self._asked = [], None
                case CloseTransport(connection=number):
                    assert number == self._open
                    self._open = None
                case SendFrame(connection=number, frame=data):
                    assert number == self._open
                    self._written(json.loads(data), now)
                case Emit(event=told):
                    if self._loses_messages(told):
                        self.witness.add("messages lost")
                        lost = [each for each in self._first_written if each not in self._ended]
                    self._tell(told)
        if lost is not None:
            assert self._ended.issuperset(lost), "what was written ends with its session or epoch"
        token = self._client.resume_token
        assert self.cursor == (0 if token is None else token.cursor)
        if self._client.state in NEVER_FOR_EVER:
            assert self._client.next_deadline is not None

    def finish(self) -> None:
        """After the end: every message came to one."""
        assert self._stopped
        assert self._ended == set(self._sent)
        assert self._client.next_deadline is None

    # -- what went over the wire --------------------------------------------------------------

    def _written(self, frame: Frame, now: float) -> None:
        match frame["type"]:
            case "hello":
                assert not self._greeted
                self._greeted = True
                assert frame.get("since", 0) == self.cursor
                assert ("since" in frame) == ("session_id" in frame)
            case "join":
                # A version 1 server behind the client is asked for everything.
                assert frame["since"] in {0, self.cursor}
                self._joined = False
                self._on_connection = []
                self.witness.add("join")
            case "resume":
                assert frame["since"] == self.cursor
                self.witness.add("resume")
                self._nonce, self._asked = frame["nonce"], (self._epoch, self.cursor)
            case "resync":
                self._nonce = frame["nonce"]
            case "message":
                assert self._joined
                self._message(frame["request_id"], now)
            case "pong":
                assert frame.get("cursor", 0) <= self.cursor
            case _:
                assert self._greeted

    def _message(self, request_id: str, now: float) -> None:
        assert request_id not in self._ended, "an ended message is never written again"
        assert request_id not in self._on_connection, "once on one connection"
        order = [self._sent.index(each) for each in [*self._on_connection, request_id]]
        assert order == sorted(order), "in order"
        if request_id not in self._first_written:
            older = [each for each in self._first_written if each not in self._ended]
            assert set(older) <= set(self._on_connection), "what is unacknowledged goes first"
        else:
            self.witness.add("written again")
        assert now - self._first_written.setdefault(request_id, now) < self._ttl
        self._on_connection.append(request_id)

    # -- what the application was told --------------------------------------------------------

    def _loses_messages(self, told: ClientEvent) -> bool:
        match told:
            case Joined():
                return not told.resumed or told.resync_reason == "epoch_changed"
            case SnapshotReceived():
                return told.epoch != self._epoch
            case _:
                return False

    def _tell(self, told: ClientEvent) -> None:
        match told:
            case Joined():
                self._joined = True
                self._epoch, self._nonce, self._version = told.epoch, None, told.protocol_version
                # Version 1 has no word for it: the account does not know.
                self._may_count_anew |= told.protocol_version == 1
                if not told.resumed:
                    assert told.token.cursor == 0
                    self.cursor = 0
                self._awaits_snapshot = told.resumed and told.resync_required
                self.witness.add("resumed" if told.resumed else "joined")
            case EventReceived():
                assert not self._awaits_snapshot
                assert told.seq == self.cursor + 1, "in order, exactly once"
                assert told.event.data["n"] == told.seq, "no invention"
                self.cursor = told.seq
                self.witness.add("event")
            case Skipped():
                assert not self._awaits_snapshot
                assert told.first == self.cursor + 1
                assert told.last >= told.first
                self.cursor = told.last
                self.witness.add(f"skipped, {told.reason}")
            case SnapshotReceived():
                self.cursor = told.cursor
                self._epoch = told.epoch
                self._awaits_snapshot = False
                self.witness.add("snapshot")
            case Gap():
                assert told.expected == self.cursor + 1 < told.received + 1
                self.witness.add("gap")
            case _:
                self._tell_of_itself(told)
        token = getattr(told, "token", None)
        assert token is None or token.cursor == self.cursor

    def _tell_of_itself(self, told: ClientEvent) -> None:
        """What is not of the session's events: messages, attempts, states."""
        match told:
            case CaughtUp():
                if self._version != 1:
                    self._attempt = 0
                self.witness.add("caught up")
            case RetryScheduled():
                counted = {self._attempt + 1, 1} if self._may_count_anew else {self._attempt + 1}
                assert told.attempt in counted
                self._attempt, self._may_count_anew = told.attempt, False
            case MessageAccepted() | MessageRefused() | OutcomeUnknown():
                assert told.request_id not in self._ended, "one end"
                self._ended.add(told.request_id)
                self.witness.add(type(told).__name__)
            case StateChanged(state=name):
                assert name != self._name
                self._name = name
            case Stopped():
                assert self._name == "disconnected"
                self._stopped = True
                self.witness.add(told.code)
            case _:
                pass


def _is_refusal(action: ClientAction) -> bool:
    return isinstance(action, Emit) and isinstance(action.event, MessageRefused)
