"""The letters against a client, with what their details are chosen from.

`any_letter` is for long runs: all letters, with pools for their details. `SMALL` is for exhaustive
ones: few letters without a choice in them, one for each rule.

Spec: the verification page, "Each machine against any peer".
"""

from collections.abc import Sequence
from typing import Any, Final

from attrs import frozen

from gatewayproto.inputs import ClientInput
from gatewayproto.testing._shapes import MAX_INT
from gatewayproto.testing.any_peer import _server as a
from gatewayproto.testing.any_peer import _server_frames as f
from gatewayproto.testing.any_peer._client_known import ATTACHED
from gatewayproto.testing.any_peer._reading import NO_FRAMES
from gatewayproto.testing.any_peer._server import AnyServer, Letter
from gatewayproto.testing.choices import Choices, pick

_REASONS: Final = (
    "trimmed",
    "cursor_ahead",
    "requested",
    "epoch_changed",
    "session_unknown",
    "lagged",
)
_OFF: Final[tuple[Any, ...]] = ("5", 5.0, True, None, [], {}, -1, 0, "", "x" * 129, MAX_INT + 1)
_AHEAD: Final = (0, 0, 1, 2, -1, -2, 5)
_VERSIONS: Final[tuple[dict[str, Any], ...]] = (
    *({},) * 8,
    {"protocol": 2},
    {"protocol": 1},
    {"protocol_version": 3},
    {"protocol_version": 1},
    {"protocol_version": None, "protocol": 2},
    {"protocol_version": "2"},
    {"protocol_version": True},
    {"protocol_version": 2.0},
    {"protocol_version": 0},
)
_MORE_V1: Final[tuple[dict[str, Any], ...]] = (
    *({},) * 6,
    {"head": 3},
    {"sequence": 2},
    {"protocol_version": 1},
    {"policy": 5, "health": 5, "presence": "x", "resync_reason": 5},
    {"resync_reason": "trimmed"},
    {"resumed": False, "epoch": "e7"},
    {"head": "3"},
    {"oldest_cursor": 1.0},
)


@frozen
class Chosen:
    """A letter, and for each of its arguments what it is chosen from."""

    letter: Letter
    pools: tuple[Sequence[Any], ...] = ()

    def write(self, server: AnyServer, choices: Choices) -> ClientInput | None:
        """The input that it makes now; None where it makes none."""
        return self.letter(server, *(pick(choices, pool) for pool in self.pools))


def _any(letter: Letter, *pools: Sequence[Any]) -> Chosen:
    return Chosen(letter, pools)


_USUAL: Final = (
    _any(f.go_on),
    _any(f.go_on),
    _any(f.go_on),
    _any(f.event, (0,), ("event", "replay")),
    _any(a.taken),
    _any(a.send, (0, 1, 2), (True, True, False)),
    _any(f.ack, (0, 0, 1), (False, True)),
)
_WELCOMES: Final = (
    _any(
        f.welcome,
        ("hello_ok", "hello_ok", "joined"),
        ("own", "own", "bare", "with epoch", "new"),
        ("held", "held", "held", "other"),
        (True, True, True, False, None),
        (None, None, None, *_REASONS, ""),
        (0, 0, 0, 0, 1, -1),
        (0, 2, 2, -1),
        (None, *a.POLICIES),
        _VERSIONS,
        (1, 1, 1, 9),
    ),
    _any(
        f.welcome_v1,
        ("hello_ok", "joined", "joined"),
        ("own", "own", "bare", "with epoch", "with other", "new"),
        (None, 0, 2, -1),
        (None, 1, 0, -2, 3),
        (None, False, False, True),
        _MORE_V1,
    ),
    _any(
        f.reject,
        ("hello_error", "error"),
        (
            *("rate_limited", "internal_error", "auth_expired", "agent_not_found", "bogus", ""),
            *("protocol_unsupported", "auth_required", "unknown_type", "going_away", 5),
        ),
        (None, "wait_then_retry", "reauthenticate", "do_not_retry", "upgrade_client"),
        (None, None, 8.0, 0.25, 1e9, -1, "soon"),
    ),
)
_WELCOMES_OFF: Final = (
    _any(
        f.mangled,
        ("welcome",),
        (
            *("session_id", "epoch", "cursor", "sequence", "resumed", "resync_required", "policy"),
            *("resync_reason", "oldest_cursor", "presence", "health", "protocol", "agent_id"),
        ),
        _OFF,
    ),
    _any(
        f.welcome,
        ("hello_ok",),
        ("own",),
        ("other", "held"),
        (True,),
        ("epoch_changed", "trimmed"),
        (0, 1),
        (0,),
        (None,),
        ({},),
    ),
    _any(f.lacking, ("resumed", "epoch")),
    _any(
        f.lacking,
        ("epoch", "cursor", "sequence", "resumed", "oldest_cursor", "policy", "protocol_version"),
    ),
)
_DELIVERY: Final = (
    _any(f.event, (*_AHEAD, MAX_INT), ("event", "replay")),
    _any(f.token_event, (False, True)),
    _any(f.skip, (0, 0, 0, -1, -2, 1, 3), (0, 1, 2, 3)),
    _any(f.caught_up, (0, 0, 0, -1, 1, 4), ("newest", "newest", "none", "stale")),
    _any(f.ping, (None, 0, -1, 1, 3), (None, "", "n1")),
    _any(f.snapshot, (0, 2, -2, 1, -9), ("own",), _REASONS, ("none", "newest")),
    _any(f.snapshot, (0, 2, -2), ("other",), ("epoch_changed",), ("none", "newest")),
    _any(f.part, (0,)),
    _any(f.part, (0, 0, 0, 0, -3)),
)
_DELIVERY_V1: Final = (
    _any(f.event, _AHEAD, ("replay",)),
    _any(f.token_event, (False, True)),
    _any(f.numbered, _AHEAD, ("status", "response", "event", "error")),
    _any(f.numbered, (0, 1), ("ping", "pong", "hello_error")),
    _any(f.ping, (None, 0, -1, 1, 3), (None, "", "n1")),
    _any(f.baseline, (0, 2, -2), (None, None, "own", "with epoch")),
)
_DELIVERY_OFF: Final = (
    _any(f.skip, (0, -1, 2), (-1, -2)),
    _any(f.snapshot, (0, 2, -2), ("held", "other"), _REASONS),
    _any(f.part, (0, 0, 0, 1, -1, None), (3, 3, 2, 1)),
    _any(
        f.part,
        (0, 0, None),
        (3, 3, 1, None, 99),
        (..., ..., "{}", "[1]", "}", '"y"', "", "x" * 14, "x" * 20, "x" * 21, None, 5),
        (
            *({}, {}, {}, {"state": {}}, {"reason": "requested"}, {"nonce": "n"}),
            *({"epoch": "e9"}, {"cursor": 3}),
        ),
    ),
    _any(f.baseline, (0, "3", None), (None, "with other", "new")),
)
_ANSWERS: Final = (
    _any(f.ack, (0, 0, 1, 2), (False, True)),
    _any(f.response, ("accepted", "duplicate", None, "rejected", 5), (False, True), (0, 1)),
    _any(f.nack, ("inbox_full", "request_conflict", "bogus"), (0, 0, 1, 2)),
    _any(
        f.error,
        ("inbox_full", "unknown_type", "rate_limited", "internal_error", "bogus"),
        (None, 0, 0, 1),
        (None, None, 4.0, 1e9, 0.0),
    ),
    _any(f.going_away, (0, 0, 8000, MAX_INT), (0, 0, 4000, MAX_INT)),
    _any(f.news, ("entries", "change", "health", "pong", "unknown", "client's")),
)
_BAD: Final = (
    _any(f.raw, NO_FRAMES),
    _any(f.large, (0, 1)),
    _any(
        f.mangled,
        (
            *("event", "skip", "caught_up", "snapshot", "message_ack", "message_nack", "ping"),
            *("error", "going_away"),
        ),
        (
            *("seq", "event", "first", "last", "reason", "cursor", "nonce", "epoch", "state"),
            *("request_id", "duplicate", "code", "message", "after_ms", "retry_after_seconds"),
            *("part", "chunk"),
        ),
        _OFF,
    ),
)
_TRANSPORT: Final = (
    _any(
        a.closed,
        (
            *(None, 1000, 1001, 1002, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 2000, 3000),
            *(4000, 4003, 4006, 4042, 4499, 4500, 4508, 4999, 5000),
        ),
        (None, None, 16.0),
    ),
    _any(a.closed, (None, 1000, 1001, 4000), (None,)),
    _any(a.closed, (None, 1000, 1001, 4000), (None,)),
    _any(a.http, (200, 301, 400, 401, 403, 404, 429, 499, 500, 503), (None, 3.0, 1e6)),
    _any(a.activity),
    _any(
        a.from_the_past,
        ("event", "ahead", "welcome", "ack", "snapshot", "reject", "bad", "closed", "activity"),
    ),
    _any(a.from_the_past, ("opened", "event")),
)
_TIME: Final = (
    _any(a.due),
    _any(a.due),
    _any(a.due, (0.25, 2.0, 8.0, 32.0, 64.0, 4096.0)),
    _any(a.early),
    _any(a.pause, (0.25, 0.5, 1.0, 3.0, 4.0, 8.0, 40.0, 256.0)),
    _any(a.pause, (0.25, 0.5, 1.0, 3.0)),
    _any(a.activity),
)
_COMMANDS: Final = (
    _any(a.send, (0, 1, 40, 80, 1024), (True, True, False)),
    _any(a.send_more),
    _any(a.send_again, (0, -1, -2)),
    _any(a.abort, (None, "r1")),
    _any(a.taken, (0, 0, -1, -3, 2)),
    _any(a.resync),
    _any(a.set_token, ("t1", "t2", None)),
    _any(
        a.mistake,
        (
            *("unknown", "zero", "negative", "connect", "too early", "opened", "token"),
            *("repeated", "no id", "long id", "no json"),
        ),
    ),
)
_RARE: Final = (_any(a.disconnect), *_BAD, *_TRANSPORT, *_TRANSPORT)

_GO_ON: Final = (_any(f.go_on),)

_GROUPS: Final = (
    *(_USUAL,) * 16,
    *(_DELIVERY,) * 12,
    *(_ANSWERS,) * 4,
    *(_COMMANDS,) * 8,
    *(_TIME,) * 3,
    _DELIVERY_V1,
    _DELIVERY_OFF,
    _BAD,
    _WELCOMES,
    _TRANSPORT,
    _RARE,
)
_GROUPS_V1: Final = (
    *(_USUAL,) * 16,
    *(_DELIVERY_V1,) * 12,
    *(_ANSWERS,) * 4,
    *(_COMMANDS,) * 8,
    *(_TIME,) * 3,
    _DELIVERY,
    _DELIVERY_OFF,
    _BAD,
    _WELCOMES,
    _TRANSPORT,
    _RARE,
)
_GROUPS_OPENING: Final = (
    *(_GO_ON,) * 6,
    *(_WELCOMES,) * 4,
    _WELCOMES_OFF,
    _DELIVERY,
    _DELIVERY_V1,
    _ANSWERS,
    _COMMANDS,
    _BAD,
    _TIME,
    _TRANSPORT,
)
_GROUPS_AWAY: Final = (
    *(_GO_ON,) * 8,
    *(_COMMANDS,) * 2,
    *(_TIME,) * 2,
    _TRANSPORT,
    _RARE,
)


_SILENCE: Final = (*(_USUAL,) * 2, *(_TIME,) * 6, (_any(f.ping, (None, 0)), _any(a.activity)))
_PARTS: Final = (
    *(_USUAL,) * 2,
    *((_any(f.part, (0,)),),) * 4,
    *(_TIME,) * 2,
    (_any(a.resync), _any(f.event, (0, 1))),
    _DELIVERY_OFF,
)
_MESSAGES: Final = (*(_USUAL,) * 4, *(_COMMANDS,) * 4, *(_ANSWERS,) * 4, _TIME, _TRANSPORT)
_ENDS: Final = (*(_USUAL,) * 2, *(_TRANSPORT,) * 2, _TIME, _COMMANDS, _RARE)

_NEWS: Final = (
    *(_any(f.push, ("list", "change", "change", "change", "count", "health")),) * 3,
    _any(f.push, ("old", "older", "old health", "list")),
    _any(f.push, ("unknown", "two forms", "counted list", "no form", "half", "count", "change")),
)
_CREDENTIALS: Final = (
    _any(a.set_token, ("t1", "t2", "t3", None, "x" * 2000)),
    _any(a.closed, (4006,), (None, None, 4.0)),
    _any(a.pause, (1.0, 3.0, 8.0, 16.0)),
    _any(a.abort, (None, "r1", "x" * 2000)),
)

Groups = tuple[tuple[Chosen, ...], ...]
THEMES: Final[tuple[Groups | None, ...]] = (None, None, None, _SILENCE, _PARTS, _MESSAGES, _ENDS)
"""What a run dwells on once it is welcomed; None for everything."""


PUSH_THEMES: Final[tuple[Groups | None, ...]] = (
    (*(_USUAL,) * 4, *(_NEWS,) * 6, _TRANSPORT),
    (*(_USUAL,) * 4, *(_CREDENTIALS,) * 3, _NEWS, _TIME),
)
"""Themes of their own, for runs of their own: presence, health and credentials."""


def any_letter(server: AnyServer, choices: Choices, theme: Groups | None) -> ClientInput | None:
    """One letter of all, or of a theme, those that lead on from here more often."""
    return pick(choices, pick(choices, _groups(server, theme))).write(server, choices)


def _groups(server: AnyServer, theme: Groups | None) -> Groups:
    phase, link = server.book.phase, server.book.link
    if phase in {"handshaking", "rejoining", "rejected"}:
        return _GROUPS_OPENING
    if phase not in ATTACHED:
        return _GROUPS_AWAY
    if theme is not None:
        return theme
    return _GROUPS_V1 if link is not None and link.version == 1 else _GROUPS


# -- exhaustive -------------------------------------------------------------------------------


def _one(letter: Letter, *details: Any) -> Chosen:
    return Chosen(letter, tuple((detail,) for detail in details))


def _resumed(reason: str | None = None, sequence: int = 0, *, resumed: bool = True) -> Chosen:
    session = "own" if resumed else "new"
    head = max(0, sequence)
    return _one(
        f.welcome, "hello_ok", session, "held", resumed, reason, sequence, head, "usual", {}
    )


SMALL: Final[tuple[Chosen, ...]] = (
    _one(f.go_on),
    _one(a.due),
    _one(a.closed, None),
    _one(a.closed, 4006),
    _one(a.closed, 4500),
    _one(a.from_the_past, "event"),
    _one(a.send),
    _one(a.send_again, -1),
    _one(a.resync),
    _one(a.set_token, "t1"),
    _resumed("trimmed"),
    _resumed("epoch_changed"),
    _resumed(sequence=1),
    _resumed(resumed=False),
    _one(f.welcome_v1, "hello_ok", "own", 0, None, False, {}),
    _one(f.welcome_v1, "joined", "own", 0, 0, False, {}),
    _one(f.reject, "error", "bogus", "do_not_retry"),
    _one(f.event, 0, "event"),
    _one(f.event, 1, "event"),
    _one(f.event, -1, "replay"),
    _one(f.skip, 0, 1),
    _one(f.skip, 1, 0),
    _one(f.caught_up, 0, "none"),
    _one(f.caught_up, 0, "newest"),
    _one(f.caught_up, 1, "newest"),
    _one(f.ping, 1),
    _one(f.snapshot, 2, "own", "lagged"),
    _one(f.snapshot, -2, "own", "requested"),
    _one(f.snapshot, 0, "other", "epoch_changed"),
    _one(f.snapshot, 0, "other", "lagged"),
    _one(f.baseline, 1),
    _one(f.ack),
    _one(f.going_away, 8000, 0),
    _one(f.raw, b"{"),
)
"""Letters without a choice in them, one for each rule."""

PREFIXES: Final[dict[str, tuple[Chosen, ...]]] = {
    "idle": (),
    "connecting": (_one(a.connect),),
    "handshaking": (_one(a.connect), _one(a.opened)),
    "rejoining": (
        _one(a.connect),
        _one(a.opened),
        _one(f.welcome_v1, "hello_ok", "own", 0, None, False, {}),
    ),
    "rejected": (_one(a.connect), _one(a.opened), _one(f.reject, "error", "bogus", None)),
    "live": (_one(a.connect), _one(a.opened), _one(a.send), _resumed(), _one(a.taken)),
    "live, version 1": (
        _one(a.connect),
        _one(a.opened),
        _one(a.send),
        _one(f.welcome_v1, "hello_ok", "own", 2, 1, False, {}),
        _one(a.taken),
    ),
    "recovering": (_one(a.connect), _one(a.opened), _resumed(), _one(f.event, 1, "event")),
    "resyncing": (_one(a.connect), _one(a.opened), _one(a.send), _resumed("trimmed")),
    "waiting": (_one(a.connect), _one(a.closed, None)),
    "token needed": (_one(a.connect), _one(a.http, 401, 3.0)),
    "stopped": (_one(a.connect), _one(a.send), _one(a.disconnect)),
}
"""What leads into each state, for a client that comes with a position."""
