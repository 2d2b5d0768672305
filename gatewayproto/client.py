"""The client machine: one client of one session, over as many connections as it takes.

It opens no sockets and knows no time. A driver gives it inputs, carries out the actions that come
back, in order, and arms one timer for `next_deadline`.

What every input means in every state is in the table at the end. Its handlers are in
`gatewayproto._client_commands`, `_client_opening` (up to the welcome) and `_client_live` (after
it); what they act on is in `_client_core`.

Spec: The client's side; Version 1; Requests.
"""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, Self, assert_never

from gatewayproto import _client_commands as commands
from gatewayproto import _client_live as live
from gatewayproto import _client_opening as opening
from gatewayproto import _client_saved, _server_v1, codec
from gatewayproto import frames as f
from gatewayproto._client_core import ATTACHED, ClientCore, malformed
from gatewayproto._client_states import (
    DEADLINES,
    FRAMES,
    FRAMES_BY_TYPE,
    ClientState,
    Link,
    Trigger,
)
from gatewayproto._ids import random_id
from gatewayproto._table import Cell, Table, Verdict, fault, handled, ignored, late, mistake, race
from gatewayproto.actions import ClientAction, ResumeToken
from gatewayproto.codec import Parsed
from gatewayproto.config import ClientConfig
from gatewayproto.errors import FrameError, LocalProtocolError
from gatewayproto.inputs import (
    Abort,
    Activity,
    ClientInput,
    Connect,
    Disconnect,
    FrameReceived,
    Resync,
    Send,
    SetToken,
    Taken,
    TimerExpired,
    TransportClosed,
    TransportOpened,
)
from gatewayproto.metrics import ClientMetrics

if TYPE_CHECKING:
    import random

__all__ = ["CLIENT_TABLE", "Client", "ClientState", "Trigger"]

_TRIGGERS: Final[dict[type, Trigger]] = {
    Connect: Trigger.CONNECT,
    Send: Trigger.SEND,
    Abort: Trigger.ABORT,
    Taken: Trigger.TAKEN,
    Resync: Trigger.RESYNC,
    SetToken: Trigger.SET_TOKEN,
    Disconnect: Trigger.DISCONNECT,
    TransportOpened: Trigger.OPENED,
    Activity: Trigger.ACTIVITY,
    TransportClosed: Trigger.CLOSED,
    f.Error: Trigger.ERROR,
    f.EventFrame: Trigger.EVENT,
    f.Skip: Trigger.SKIP,
    f.CaughtUp: Trigger.CAUGHT_UP,
    f.Snapshot: Trigger.SNAPSHOT,
    f.MessageAck: Trigger.ACK,
    f.MessageNack: Trigger.NACK,
    f.Ping: Trigger.PING,
    f.Pong: Trigger.PONG,
    f.Presence: Trigger.PRESENCE,
    f.Health: Trigger.HEALTH,
    f.GoingAway: Trigger.GOING_AWAY,
    f.UnknownFrame: Trigger.UNKNOWN,
}
_EARLY_TRIGGERS: Final = {
    "hello_ok": Trigger.WELCOME,
    "joined": Trigger.WELCOME,
    "replay": Trigger.EVENT,
    **{trigger.value: trigger for trigger in FRAMES_BY_TYPE},
}
"""How frames before a welcome are sorted: by their type alone, since no version is agreed."""

_Found = tuple[Trigger, Any]


class Client:
    """One client. `handle` is the only thing that changes it.

    `rng` spreads the delays between attempts and the return after `going_away`; it needs no
    cryptographic source. `resume` is where a new process goes on. `ids` makes request ids and
    nonces. Raises `ValueError` for a `resume` that no client ever gave.

    Spec: The client's side.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        rng: "random.Random",
        resume: ResumeToken | None = None,
        ids: Callable[[], str] = random_id,
    ) -> None:
        if resume is not None:
            _client_saved.check_position(resume)
        self._core = ClientCore(config, rng=rng, resume=resume, ids=ids)

    @property
    def state(self) -> ClientState:
        """Where the client stands."""
        return self._core.state

    @property
    def resume_token(self) -> ResumeToken | None:
        """Where it stands in its session: everything up to the cursor is accounted for."""
        return self._core.position

    @property
    def protocol_version(self) -> int | None:
        """The version agreed on the present connection; None before its welcome."""
        link = self._core.link
        return None if link is None else link.version

    @property
    def next_deadline(self) -> float | None:
        """When `TimerExpired` is due next, by the clock of `now`; None for never."""
        return self._core.timers.next_deadline

    def metrics(self) -> ClientMetrics:
        """What it has counted since it was made, and how it stands now. Changes nothing."""
        return self._core.metrics()

    def handle(self, input_: ClientInput, *, now: float) -> tuple[ClientAction, ...]:
        """Take one input; give what is to be done, in order.

        `now` is in seconds, by a clock that never goes back. An input that names a connection
        which was given up changes nothing. Raises `LocalProtocolError`, and changes nothing, for
        the caller's mistakes: `Connect` twice, a connection that was never opened, a token that is
        no text, a message that is no JSON or repeats the id of one that has not come to its end, a
        `now` that is not finite.

        Spec: The client's side.
        """
        if not isfinite(now):
            raise LocalProtocolError(f"{now} is no time")
        match input_:
            case FrameReceived():
                link = self._current(input_.connection)
                if link is not None:
                    self._receive(link, input_.data, now)
            case TransportOpened() | Activity() | TransportClosed():
                if self._current(input_.connection) is not None:
                    self._run(_TRIGGERS[type(input_)], input_, now)
            case TimerExpired():
                for trigger in self._core.timers.pop_due(now):
                    self._run(trigger, None, now)
            case Connect() | Send() | Abort() | Taken() | Resync() | SetToken() | Disconnect():
                self._run(_TRIGGERS[type(input_)], input_, now)
            case _:
                assert_never(input_)
        return self._core.take_actions()

    def to_state(self, *, now: float) -> dict[str, Any]:
        """The whole machine as plain JSON data, deadlines as seconds that remain.

        The token is not in it. The session id is, which proves ownership where there is no
        authentication: keep it as safe as a `ResumeToken`.
        """
        return _client_saved.save(self._core, now)

    @classmethod
    def from_state(
        cls,
        config: ClientConfig,
        state: Mapping[str, Any],
        *,
        rng: "random.Random",
        now: float,
        ids: Callable[[], str] = random_id,
    ) -> Self:
        """The machine that `to_state` saved, going on exactly as the original would.

        `config` is the original's, with the token that is good now. Raises `ValueError` for data
        that is none of `to_state`, or of another schema.
        """
        client = cls(config, rng=rng, ids=ids)
        _client_saved.load(client._core, state, now)
        return client

    def _current(self, connection: int) -> Link | None:
        """The present connection if it is this one; None if this one was given up."""
        if not 1 <= connection <= self._core.opened:
            raise LocalProtocolError(f"connection {connection} was never opened")
        link = self._core.link
        return link if link is not None and link.connection == connection else None

    def _receive(self, link: Link, data: bytes, now: float) -> None:
        try:
            parsed = codec.parse(data, max_bytes=self._core.config.max_payload)
            found = self._sort(parsed, link.version)
        except FrameError as error:
            found = [(Trigger.BAD_FRAME, error)]
        if self._core.state in ATTACHED:
            self._core.hear(now)
        for trigger, frame in found:
            self._run(trigger, frame, now)

    def _sort(self, parsed: Parsed, version: int | None) -> list[_Found]:
        """Sort a frame into the table's inputs, by the rules of the version agreed."""
        if version is None:
            return [self._sort_early(parsed)]
        if version == 1:
            return _server_v1.read(parsed)
        frame = codec.server_frame(parsed)
        if isinstance(frame, f.Welcome):
            return [(Trigger.WELCOME, parsed)]
        return [(_TRIGGERS[type(frame)], frame)]

    def _sort_early(self, parsed: Parsed) -> _Found:
        if parsed.out_of_range:
            raise malformed("a number that is out of range")
        if _server_v1.is_numbered(parsed) and self._core.config.versions.minimum == 1:
            return Trigger.EVENT, None
        match parsed.type:
            case "ping":
                return Trigger.PING, _server_v1.read_ping(parsed.fields)
            case "error" | "hello_error":
                return Trigger.ERROR, _server_v1.read_error(parsed.fields)
            case _:
                return _EARLY_TRIGGERS.get(parsed.type, Trigger.UNKNOWN), parsed

    def _run(self, trigger: Trigger, argument: Any, now: float) -> None:
        cell = CLIENT_TABLE[self._core.state, trigger]
        if cell.verdict is Verdict.CALLER_MISTAKE:
            raise LocalProtocolError(f"the client is {self._core.state}: {trigger}")
        if cell.handler is not None:
            cell.handler(self._core, argument, now)
        assert self._core.state in cell.ends, f"{trigger} left the client {self._core.state}"


# -- the table --------------------------------------------------------------------------------

_S = ClientState
_T = Trigger
_Row = dict[Trigger, Cell[ClientState]]
_AWAY: Final = (_S.WAITING, _S.STOPPED)
"""Where a connection that this side gives up leads: too many attempts in a row are the end."""
_ENDED: Final = (_S.WAITING, _S.TOKEN_NEEDED, _S.STOPPED)
"""Where a connection that the server ends leads, as its close code says."""
_WELCOMED: Final = (_S.LIVE, _S.RECOVERING, _S.RESYNCING, _S.REJOINING, *_AWAY)


def _row_any(state: ClientState) -> _Row:
    """What is the same in every state before the end: commands, and messages that grow old."""
    return {
        _T.CONNECT: mistake(state),
        _T.SEND: handled(commands.send, state),
        _T.ABORT: late(state),
        _T.TAKEN: handled(commands.note_taken, state),
        _T.RESYNC: handled(commands.wish_snapshot, state),
        _T.SET_TOKEN: handled(commands.keep_token, state),
        _T.DISCONNECT: handled(commands.disconnect, _S.STOPPED),
        **dict.fromkeys(DEADLINES, ignored(state)),
        _T.REQUEST_LATE: handled(live.expire_requests, state),
    }


def _row_away(state: ClientState) -> _Row:
    """Without a connection: whatever comes is of one that was given up."""
    return {
        **_row_any(state),
        **dict.fromkeys((_T.OPENED, _T.ACTIVITY, _T.CLOSED), ignored(state)),
        **dict.fromkeys(FRAMES, ignored(state)),
    }


def _row_opening(state: ClientState) -> _Row:
    """From the wish for a transport to the welcome: nothing precedes that, or counts."""
    return {
        **_row_any(state),
        _T.SET_TOKEN: handled(commands.keep_new_token, state),
        _T.OPENED: mistake(state),
        _T.ACTIVITY: ignored(state),
        _T.CLOSED: handled(opening.lose, *_ENDED),
        **dict.fromkeys(FRAMES, ignored(state)),
        _T.ERROR: handled(opening.take_rejection, _S.REJECTED, *_ENDED),
        _T.BAD_FRAME: fault(opening.refuse_bad_frame, *_AWAY),
        _T.HANDSHAKE_LATE: fault(opening.give_up_handshake, *_AWAY),
    }


def _row_attached(state: ClientState) -> _Row:
    """After the welcome."""
    return {
        **_row_any(state),
        _T.ABORT: handled(commands.abort, state),
        _T.RESYNC: handled(commands.ask_snapshot, _S.RECOVERING),
        _T.SET_TOKEN: handled(commands.present_token, state),
        _T.OPENED: mistake(state),
        _T.ACTIVITY: handled(live.note_activity, state),
        _T.CLOSED: handled(opening.lose, *_ENDED),
        _T.WELCOME: fault(live.refuse_welcome, *_AWAY),
        _T.ERROR: handled(live.take_error, state),
        _T.EVENT: handled(live.take_event, state),
        _T.SKIP: handled(live.take_skip, state, *_AWAY),
        _T.CAUGHT_UP: ignored(state),
        _T.SNAPSHOT: handled(live.take_snapshot, state, _S.LIVE, *_AWAY),
        _T.ACK: handled(live.take_ack, state),
        _T.NACK: handled(live.take_nack, state),
        _T.PING: handled(live.answer_ping, state),
        _T.PONG: handled(live.note_pong, state),
        _T.PRESENCE: handled(live.tell_presence, state, *_AWAY),
        _T.HEALTH: handled(live.tell_health, state),
        _T.GOING_AWAY: handled(live.prepare_to_leave, state),
        _T.UNKNOWN: ignored(state),
        _T.BAD_FRAME: fault(opening.refuse_bad_frame, *_AWAY),
        _T.SILENCE: handled(live.ask_for_life, state),
        _T.LIVENESS_LATE: fault(live.give_up_silent, state, *_AWAY),
        _T.LEAVE_DUE: handled(live.leave, *_AWAY),
    }


CLIENT_TABLE: Final[Table[ClientState, Trigger]] = Table(
    "client",
    ClientState,
    Trigger,
    {
        _S.IDLE: {
            **_row_any(_S.IDLE),
            _T.CONNECT: handled(commands.connect, _S.CONNECTING),
            **dict.fromkeys((_T.OPENED, _T.ACTIVITY, _T.CLOSED), mistake(_S.IDLE)),
            **dict.fromkeys(FRAMES, mistake(_S.IDLE)),
            _T.REQUEST_LATE: ignored(_S.IDLE),
        },
        _S.CONNECTING: {
            **_row_opening(_S.CONNECTING),
            _T.SET_TOKEN: handled(commands.keep_token, _S.CONNECTING),
            _T.OPENED: handled(opening.say_hello, _S.HANDSHAKING),
            **dict.fromkeys(FRAMES, mistake(_S.CONNECTING)),
        },
        _S.HANDSHAKING: {
            **_row_opening(_S.HANDSHAKING),
            _T.WELCOME: handled(opening.take_welcome, *_WELCOMED),
        },
        _S.REJOINING: {
            **_row_opening(_S.REJOINING),
            _T.WELCOME: handled(opening.take_answer, *_WELCOMED),
            _T.PING: handled(opening.answer_ping, _S.REJOINING),
        },
        _S.REJECTED: {
            **_row_opening(_S.REJECTED),
            _T.ERROR: ignored(_S.REJECTED),
            _T.BAD_FRAME: ignored(_S.REJECTED),
            _T.HANDSHAKE_LATE: fault(opening.give_up_rejected, *_ENDED),
        },
        _S.LIVE: {
            **_row_attached(_S.LIVE),
            _T.RESYNC: handled(commands.ask_snapshot, _S.RECOVERING, _S.REJOINING),
            _T.EVENT: handled(live.take_event, _S.LIVE, _S.RECOVERING, *_AWAY),
            _T.SKIP: handled(live.take_skip, _S.LIVE, _S.RECOVERING, *_AWAY),
            _T.CAUGHT_UP: handled(live.take_caught_up, _S.LIVE, _S.RECOVERING, *_AWAY),
            _T.PING: handled(live.answer_ping, _S.LIVE, _S.RECOVERING, *_AWAY),
            _T.PONG: handled(live.note_pong, _S.LIVE, *_AWAY),
        },
        _S.RECOVERING: {
            **_row_attached(_S.RECOVERING),
            _T.CAUGHT_UP: handled(live.take_recovery_end, _S.RECOVERING, _S.LIVE, *_AWAY),
            _T.RECOVERY_LATE: fault(live.give_up_recovery, *_AWAY),
        },
        _S.RESYNCING: {
            **_row_attached(_S.RESYNCING),
            _T.RESYNC: ignored(_S.RESYNCING),
            _T.EVENT: fault(live.take_early_event, _S.RESYNCING, *_AWAY),
            _T.SKIP: fault(live.take_early_event, _S.RESYNCING, *_AWAY),
            _T.RECOVERY_LATE: fault(live.give_up_recovery, *_AWAY),
        },
        _S.WAITING: {
            **_row_away(_S.WAITING),
            _T.RETRY_DUE: handled(opening.try_again, _S.CONNECTING),
        },
        _S.TOKEN_NEEDED: {
            **_row_away(_S.TOKEN_NEEDED),
            _T.SET_TOKEN: handled(commands.come_back, _S.TOKEN_NEEDED, _S.CONNECTING, _S.WAITING),
        },
        _S.STOPPED: {
            **dict.fromkeys(Trigger, late(_S.STOPPED)),
            _T.CONNECT: mistake(_S.STOPPED),
            _T.SEND: race(commands.refuse_late, _S.STOPPED),
            **dict.fromkeys(DEADLINES, ignored(_S.STOPPED)),
        },
    },
)
