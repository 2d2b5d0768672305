"""The letters against a gateway, with what their details are chosen from.

`any_letter` is for long runs: all letters, with pools for their details. `SMALL` is for exhaustive
ones: few letters without a choice in them, one for each rule.

Spec: the verification page, "Each machine against any peer".
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import field, frozen

from gatewayproto.errors import ErrorCode
from gatewayproto.inputs import GatewayInput
from gatewayproto.rates import Rate
from gatewayproto.testing._shapes import MAX_INT
from gatewayproto.testing.any_peer import _peers as a
from gatewayproto.testing.any_peer._peers import AnyPeers, Letter
from gatewayproto.testing.any_peer._reading import NO_FRAMES
from gatewayproto.testing.choices import Choices, pick
from gatewayproto.versions import VersionRange

_SINCES: Final = (
    *("none", "oldest - 2", "oldest - 1", "oldest - 1", "oldest", "v1 oldest - 2"),
    *("v1 oldest - 1", "cursor", "cursor - 1", "cursor + 1", 0, 1),
)
_BAD_SINCES: Final[tuple[Any, ...]] = (
    "text",
    "float",
    "x",
    True,
    None,
    MAX_INT,
    MAX_INT + 1,
    -1,
    [],
    {},
)
_OFF: Final[tuple[Any, ...]] = ("5", 5.0, True, None, [], {}, -1, 0, "", "x" * 300, MAX_INT + 1)
_NONCES: Final = (..., "n1", "n2", "n3", "n" * 128, "", None)


@frozen
class Chosen:
    """A letter, and for each of its arguments what it is chosen from."""

    letter: Letter
    pools: tuple[Sequence[Any], ...] = ()

    def write(self, peers: AnyPeers, choices: Choices) -> GatewayInput | None:
        """The input that it makes now; None where it makes none."""
        return self.letter(peers, *(pick(choices, pool) for pool in self.pools))


def _any(letter: Letter, *pools: Sequence[Any]) -> Chosen:
    return Chosen(letter, pools)


_USUAL: Final = (
    _any(a.go_on, (2, 2, 2, 1)),
    _any(a.go_on, (2, 2, 2, 1)),
    _any(a.drained, (1.0,)),
    _any(a.drained, (1.0, 0.5, 0.0)),
    _any(a.publish, ("durable",)),
    _any(a.publish, ("transient",), ("A", "B")),
    _any(
        a.good_handshake,
        (2, 2, 1),
        (False, False, True),
        ("hello", "join"),
        (..., ..., 1024),
    ),
    _any(a.accept),
)
_HANDSHAKES: Final = (
    _any(a.opened, (None, "query", "bearer", "both", "basic", "empty")),
    _any(a.opened),
    _any(
        a.handshake,
        ("hello", "join"),
        ("2", "2", "2", "1", "1", "1 to 2", "none", "max 2"),
        ("own", "own", "own", "with epoch", "with old", "gone", "none"),
        ("own", "own", "own", "own", "none", "old"),
        _SINCES,
        (..., ..., ..., "snapshot", "replay"),
        (..., ..., 1024, 1500, 4096),
        ("demo", "demo", "demo", "demo", "other"),
        ({}, {}, {"token": "t1"}, {"client": {"name": "x"}, "capabilities": ["a"], "later": 1}),
    ),
    _any(
        a.handshake,
        ("hello", "join"),
        ("2", "2", "2", "1", "none"),
        ("own",),
        ("own", "own", "none"),
        _SINCES,
        (...,),
        (...,),
        ("demo",),
        ({},),
    ),
    _any(
        a.handshake,
        ("hello", "join"),
        ("2", "2", "1"),
        ("own",),
        ("own",),
        ("cursor", "oldest - 1"),
        ("snapshot",),
        (...,),
        ("demo",),
        ({},),
    ),
    _any(a.accept, (None, "p1", "p2"), (True, True, False)),
    _any(a.accept),
)
_BAD_HANDSHAKES: Final = (
    _any(
        a.handshake,
        ("hello", "join"),
        tuple(a.RANGES),
        ("none", "own"),
        ("none", "own"),
        ("none", "cursor", *_BAD_SINCES),
        (..., ..., ..., "all", None, 5),
        (..., ..., ..., 1023, "1024", 1024.0, None),
        ("demo", "demo", "demo", "demo", "", 5, "x" * 129, "x" * 128, ...),
        (
            *({}, {}, {}, {"token": 5}, {"token": ""}, {"client": 5}, {"client": {"name": 5}}),
            *({"client": {"name": "x" * 257}}, {"capabilities": "x"}, {"capabilities": [5]}),
            *({"later": MAX_INT + 1}, {"client": {}}, {"token": None}),
        ),
    ),
    _any(
        a.handshake,
        ("hello", "join"),
        ("2", "1", "none"),
        ("own", "dot", "empty", "number"),
        ("own", "null", "long", "empty", "number", "none"),
        ("cursor", "none", *_BAD_SINCES),
        (...,),
        (..., 1024),
        ("demo", "x" * 128, "é" * 127, "é" * 128),
        ({},),
    ),
    _any(
        a.reject,
        (
            *(ErrorCode.AUTH_REQUIRED, ErrorCode.AUTH_UNAUTHORIZED, ErrorCode.AGENT_NOT_FOUND),
            *(ErrorCode.RATE_LIMITED, ErrorCode.INTERNAL_ERROR, ErrorCode.AUTH_EXPIRED),
        ),
        (None, 4.5),
    ),
)
_MESSAGES: Final = (
    _any(a.message, ("new", "new", ...), ("hi", {"a": 1, "b": [2]}, ""), ({}, {"metadata": {}})),
    _any(a.message_again, ({}, {}, {"metadata": {"other": 1}}, {"content": "else"})),
    _any(a.message_again, ({}, {"reply_to": "x"}, {"content": {"b": [2], "a": 1}}, {"content": 5})),
    _any(a.message, ("m1", "x" * 128, "x" * 129, "", 5, None), ("hi", {}, 5, None, [])),
    _any(a.reply, (0, 1, -1), ("new", "m1")),
    _any(a.complete, (False, True)),
    _any(a.complete),
)
_RECOVERY: Final = (
    _any(a.resume, ("own", "own", "own", "old", "none"), _SINCES, _NONCES),
    _any(a.resume, ("own", "own", "own"), _SINCES, _NONCES),
    _any(a.resume, ("own", "number", "empty"), _BAD_SINCES, (*_NONCES, 5, "x" * 129)),
    _any(a.resync, _NONCES),
    _any(a.resync, (*_NONCES, 5, "x" * 128, "x" * 129)),
    _any(a.change_epoch),
)
_PUBLISH: Final = (
    _any(a.publish, ("durable", "full"), (None,), (0, 0, 40, 300)),
    _any(a.publish, ("durable",), (None,), (0, 300, 900, 2600)),
    _any(a.publish, ("transient",), ("A", "A", "B", None), (0, 0, 40, 300)),
    _any(a.publish, ("transient",), ("A",)),
    _any(a.publish, ("final",), ("A", "A", "B")),
    _any(a.publish, ("loose", "durable in a run", "question", "answer"), ("A",)),
    _any(a.set_health, (0, 40, 2040)),
)
_STREAM: Final = (
    _any(a.publish, ("transient",), ("A",)),
    _any(a.publish, ("transient", "transient", "final"), ("A", "A", "B")),
    _any(a.drained, (1.0, 0.5)),
)
_FRAMES: Final = (
    _any(a.other, ("ping",), ({}, {"nonce": "p1"}, {"nonce": None, "cursor": 3}, {"nonce": 5})),
    _any(a.other, ("pong",), ({}, {"cursor": 1}, {"cursor": "1"})),
    _any(a.other, ("abort",), ({}, {"run_id": "A"}, {"request_id": "m1"}, {"run_id": 5})),
    _any(a.other, ("auth",), ({"token": "t2"}, {}, {"token": 5})),
    _any(a.other, ("leave",), ({}, {"reason": "x"}, {"reason": 5})),
    _any(
        a.other,
        ("dance", "", "event", "hello_ok", "snapshot"),
        ({}, {"seq": "x", "request_id": 5}, {"n": MAX_INT + 1}),
    ),
    _any(
        a.other,
        ("message", "ping", "pong", "resync", "leave", "abort"),
        tuple(
            {"content": "x", name: value}
            for name in ("request_id", "reply_to", "metadata", "nonce", "cursor", "run_id", "more")
            for value in _OFF
        ),
    ),
    _any(a.raw, NO_FRAMES),
    _any(a.large, (0, 1)),
)
_TRANSPORT: Final = (
    _any(a.gone),
    _any(a.gone),
    _any(a.activity),
    _any(a.activity),
    _any(
        a.too_late,
        ("frame", "bad", "hello", "activity", "drained", "gone", "accept", "reject"),
    ),
    _any(
        a.mistake,
        (
            *("nan", "large", "final without run", "transient final", "transient question"),
            *("opened", "unknown", "zero", "undecided", "unrejected", "soft", "drained"),
            *("nothing", "done", "health", "large health"),
        ),
    ),
)
_TIME: Final = (
    _any(a.due),
    _any(a.due, (0.0, 0.25, 8.0, 64.0, 4096.0)),
    _any(a.early),
    _any(a.pause, (0.25, 1.0, 3.0, 8.0, 16.0, 40.0)),
)
_RESUMING: Final = (
    _any(a.opened),
    _any(a.good_handshake, (1, 2), (False,), ("hello", "join"), (..., 1024)),
    _any(a.good_handshake, (1, 1, 2), (False,), ("hello", "join")),
    _any(a.accept),
    _any(a.accept),
    _any(
        a.handshake,
        ("hello", "join"),
        ("2", "1"),
        ("own", "with epoch"),
        ("own", "none"),
        ("cursor", "oldest - 1", "v1 oldest - 1", 0),
        (..., "snapshot"),
        (...,),
        ("demo",),
        ({},),
    ),
    _any(a.drained, (1.0, 0.5)),
    _any(a.gone),
)
_PARTS: Final = (
    _any(a.opened),
    _any(a.good_handshake, (2, 2, 2, 1), (False, False, True), ("hello",), (1024, 1024, 1500)),
    _any(a.accept),
    _any(a.publish, ("durable",), (None,), (300, 600, 900, 1200)),
    _any(a.publish, ("durable", "transient"), ("A",), (0, 300, 600)),
    _any(a.drained),
    _any(a.drained, (1.0, 0.5, 0.0)),
    _any(a.resync, _NONCES),
    _any(a.resume, ("own", "own", "old"), _SINCES, _NONCES),
    _any(a.change_epoch),
)

EVERYTHING: Final = (
    *(_USUAL,) * 16,
    *(_STREAM,) * 8,
    *(_HANDSHAKES,) * 8,
    *(_PUBLISH,) * 6,
    *(_MESSAGES,) * 6,
    *(_RECOVERY,) * 6,
    *(_FRAMES,) * 2,
    *(_TRANSPORT,) * 2,
    *(_TIME,) * 3,
    _BAD_HANDSHAKES,
)
STREAMS: Final = (
    *(_USUAL,) * 4,
    *(_STREAM,) * 6,
    *(_RESUMING,) * 6,
    *(_RECOVERY,) * 2,
    _PUBLISH,
    _TIME,
)
PARTS: Final = (*(_USUAL,) * 4, *(_PARTS,) * 12, _MESSAGES, _TIME, _TRANSPORT)
REQUESTS: Final = (
    *(_USUAL,) * 6,
    *(_MESSAGES,) * 12,
    *((_any(a.publish, ("question", "question", "answer")),),) * 2,
    *(_TIME,) * 2,
    _TRANSPORT,
)
HANDSHAKES: Final = (*(_USUAL,) * 4, *(_HANDSHAKES,) * 6, *(_BAD_HANDSHAKES,) * 4, _PUBLISH, _TIME)

LAGS: Final = (
    *(_USUAL,) * 4,
    *(_STREAM,) * 4,
    *((_any(a.publish, ("durable", "transient"), ("A",), (0, 300)), _any(a.drained)),) * 6,
    (_any(a.pause, (0.5, 1.0, 3.0, 40.0)),),
)
SILENCE: Final = (
    *(_USUAL,) * 4,
    *(_TIME,) * 4,
    *((_any(a.activity), _any(a.activity), _any(a.due), _any(a.pause, (1.0, 2.0, 3.0))),) * 4,
    *(_FRAMES,) * 2,
    _TRANSPORT,
)


_CLOSING: Final = (
    _any(a.close_session),
    _any(a.drained, (1.0, 0.5)),
    _any(a.message, ("new", "new", ...)),
    _any(a.message_again, ({}, {"content": "else"})),
    _any(a.publish, ("durable",)),
    _any(a.complete),
    _any(a.resync, _NONCES),
    _any(a.resume, ("own",), _SINCES, _NONCES),
    _any(a.due),
    _any(a.change_epoch),
)
_DRAINING: Final = (
    _any(a.drain, (8.0, 2.0, 64.0)),
    _any(a.drain, (8.0, 64.0, -1.0, 0.0), ("restart", "restart", "x" * 1000)),
    _any(a.opened),
    _any(a.gone),
    _any(a.message, ("new",)),
    _any(a.due),
    _any(a.due, (0.0, 0.25, 8.0)),
)
CLOSINGS: Final = (
    *(_USUAL,) * 6,
    *(_STREAM,) * 3,
    *(_RESUMING,) * 4,
    *(_CLOSING,) * 6,
    _RECOVERY,
    _TRANSPORT,
    _TIME,
)
DRAININGS: Final = (
    *(_USUAL,) * 12,
    *(_RESUMING,) * 3,
    *(_PARTS,) * 3,
    *(_DRAINING,) * 2,
    _CLOSING,
    _TIME,
)


@frozen
class Theme:
    """What a run dwells on: its letters, and the limits that it is about."""

    groups: tuple[tuple[Chosen, ...], ...]
    limits: Mapping[str, tuple[Any, ...]] = field(factory=dict)


_NARROW: Final = {"send_window": (600, 1, 3000)}
THEMES: Final = (
    Theme(EVERYTHING),
    Theme(EVERYTHING),
    Theme(STREAMS, {"send_window": (600, 300, 262_144), "versions": (VersionRange(1, 2),)}),
    Theme(STREAMS, {"send_window": (600, 300), "retain": (1000,), "retain_transient": (1000, 2)}),
    Theme(PARTS, _NARROW),
    Theme(PARTS, {**_NARROW, "versions": (VersionRange(1, 2),)}),
    Theme(REQUESTS),
    Theme(HANDSHAKES, {"max_connections": (1000,), "versions": (VersionRange(1, 2),)}),
    Theme(
        LAGS,
        {
            **_NARROW,
            "retain": (1, 0),
            "retain_transient": (0, 2),
            "max_lags": (1, 2),
            "lag_period": (1.0, 4.0, 64.0),
        },
    ),
    Theme(SILENCE, {"heartbeat": (2.0,), "stall_timeout": (64.0, 4.0)}),
)
"""A run in which everything may happen seldom gets deep into anything."""
ENDINGS: Final = (
    Theme(CLOSINGS),
    Theme(CLOSINGS, {**_NARROW, "resume_window": (16.0, 256.0), "stall_timeout": (64.0,)}),
    Theme(CLOSINGS, {**_NARROW, "retain": (1, 3), "resume_window": (4.0, 16.0)}),
    Theme(DRAININGS, _NARROW),
    Theme(DRAININGS, {"answer_window": (65_536, 300), **_NARROW}),
)
"""The ends of sessions, and of the gateway."""


_COMPANY: Final = (
    _any(a.opened),
    _any(a.good_handshake, (2, 2, 2, 1), (False, False, False, True), ("hello",), (..., ..., 1024)),
    _any(a.good_handshake, (2,), (False,), ("hello", "join")),
    _any(
        a.handshake,
        ("hello",),
        ("2",),
        ("own",),
        ("own",),
        ("cursor",),
        (..., ..., "snapshot"),
        (..., 1024),
        ("demo",),
        ({"client": {"name": "x" * 200}}, {"client": {"name": "x" * 250, "version": "y" * 250}}),
    ),
    _any(a.accept),
    _any(a.accept_for, (None, 4.0, 32.0)),
    _any(a.gone),
    _any(a.drained, (1.0, 0.5, 0.0)),
    _any(a.drained),
    _any(a.due),
    _any(a.due, (0.0, 0.0, 0.25, 2.0)),
    _any(a.early),
    _any(a.pause, (0.25, 0.5, 1.0, 3.0)),
    _any(a.set_health, (0, 40, 900, 2040)),
    _any(a.other, ("leave",), ({},)),
)
_CREDENTIALS: Final = (
    _any(a.accept_for, (None, 1.0, 4.0, 32.0, 0.0, -1.0)),
    _any(a.other, ("auth",), ({"token": "t2"}, {"token": "t3"}, {"token": ""}, {}, {"token": 5})),
    _any(a.other, ("auth",), ({"token": "t4"}, {"token": "t5"})),
    _any(a.renew, (None, 1.0, 8.0, 64.0)),
    _any(a.renew, (None, 8.0, 8.0, 0.0), (None, None, "p1", "p2")),
    _any(a.end, (ErrorCode.AUTH_EXPIRED, ErrorCode.RATE_LIMITED, ErrorCode.SESSION_CLOSED)),
    _any(a.other, ("abort",), ({}, {"run_id": "A"}, {"request_id": "m1"})),
    _any(a.due),
    _any(a.pause, (0.5, 1.0, 3.0)),
    _any(a.accept),
)
_PUSH_LIMITS: Final[dict[str, tuple[Any, ...]]] = {
    "push_interval": (1.0, 1.0, 0.25, 8.0),
    "versions": (VersionRange(1, 2), VersionRange(1, 2), VersionRange(2, 2)),
    "max_connections": (1000,),
    "max_sessions": (1000, 2),
}
PUSH_THEMES: Final = (
    Theme((*(_USUAL,) * 4, *(_COMPANY,) * 12, _STREAM, _TIME, _RECOVERY), _PUSH_LIMITS),
    Theme(
        (*(_USUAL,) * 4, *(_COMPANY,) * 8, *(_STREAM,) * 2, *(_PARTS,) * 2),
        {**_PUSH_LIMITS, "send_window": (300, 600, 1200, 1), "presence_max": (100, 2, 3)},
    ),
    Theme((*(_USUAL,) * 4, *(_COMPANY,) * 2, *(_CREDENTIALS,) * 8, _TIME, _FRAMES), _PUSH_LIMITS),
    Theme((*EVERYTHING, *(_COMPANY,) * 24, *(_CREDENTIALS,) * 12), _PUSH_LIMITS),
)
"""Themes of their own, for runs of their own: presence, health and credentials."""


_BUILDING: Final = (
    _any(a.built, ("head",)),
    _any(a.built, ("head", "before", "floor", "middle", "none")),
    _any(a.built, ("head", "floor", "beyond"), ("own", "own", "own", "old"), (False, False, True)),
    _any(a.good_handshake, (2, 2, 1), (False,), ("hello", "join"), (..., ..., 1024)),
    _any(a.accept),
    _any(a.opened),
    _any(a.drained),
    _any(a.drained, (1.0, 0.5)),
    _any(a.resync, _NONCES),
    _any(a.gone),
    _any(a.due),
    _any(
        a.handshake,
        ("hello", "join"),
        ("2", "2", "1"),
        ("own",),
        ("own", "own", "none", "old"),
        _SINCES,
        (..., "snapshot"),
        (...,),
        ("demo",),
        ({},),
    ),
)
_BUILDING_LIMITS: Final[dict[str, tuple[Any, ...]]] = {
    "application_snapshots": (True,),
    # Never at the very time of something else: what comes first then is the gateway's choice.
    "snapshot_timeout": (2.0 + 1 / 512, 16.0 + 1 / 512),
    "max_snapshot_tries": (5, 2, 1),
    "max_snapshot": (16 * 1024 * 1024, 200_000),
    "versions": (VersionRange(1, 2), VersionRange(1, 2), VersionRange(2, 2)),
    "max_connections": (1000,),
    "retain": (1000, 3, 1, 0),
}
BUILDING_THEMES: Final = (
    Theme((*(_USUAL,) * 4, *(_BUILDING,) * 8, *(_STREAM,) * 2, _TIME), _BUILDING_LIMITS),
    Theme((*(_USUAL,) * 2, *(_BUILDING,) * 8, *(_RECOVERY,) * 4, *(_PARTS,) * 2), _BUILDING_LIMITS),
    Theme(
        (*(_USUAL,) * 4, *(_BUILDING,) * 8, *(_PARTS,) * 4, _TIME),
        {**_BUILDING_LIMITS, "send_window": (600, 3000)},
    ),
    Theme((*EVERYTHING, *(_BUILDING,) * 32), _BUILDING_LIMITS),
)
"""States that the application builds, in runs of their own."""
_COMING: Final = (
    _any(a.opened, (None,), ("here", "here", "there", "")),
    _any(a.opened, (None,), ("here",)),
    _any(a.good_handshake, (2, 2, 1), (False, True, True), ("hello", "join")),
    _any(a.accept, (None, "p1", "p1")),
    _any(a.accept, (None, "p1", "p1")),
    _any(a.gone),
    _any(a.drained),
    _any(a.pause, (0.25, 0.5, 1.0, 3.0)),
)
_ASKING: Final = (
    _any(a.resync, _NONCES),
    _any(a.resume, ("own", "own", "old"), _SINCES, _NONCES),
    _any(a.other, ("ping", "pong", "dance"), ({}, {"nonce": "p1"})),
    _any(a.message, ("new", ...)),
    _any(a.drained),
    _any(a.drained),
    _any(a.pause, (0.25, 0.5, 1.0, 3.0, 16.0)),
)
_RATE_LIMITS: Final[dict[str, tuple[Any, ...]]] = {
    "frame_rate": (Rate(1.0, 6), Rate(0.25, 3), Rate(4.0, 2), None),
    "recovery_rate": (Rate(0.25, 1), Rate(0.0625, 2), None),
    "connection_rate": (Rate(0.5, 2), Rate(0.125, 1), None),
    "handshake_rate": (Rate(0.5, 2), Rate(0.125, 1), None),
    "session_rate": (Rate(0.25, 1), Rate(0.0625, 2), None),
    "max_connections": (1000, 3),
}
RATE_THEMES: Final = (
    Theme((*(_USUAL,) * 2, *(_COMING,) * 8, _TIME, _FRAMES), _RATE_LIMITS),
    Theme((*(_USUAL,) * 4, *(_ASKING,) * 6, *(_RECOVERY,) * 2), _RATE_LIMITS),
    Theme(
        (*(_USUAL,) * 2, *(_COMING,) * 8),
        {"session_rate": (Rate(0.25, 1), Rate(0.0625, 2)), "max_connections": (1000,)},
    ),
    Theme((*EVERYTHING, *(_COMING,) * 12, *(_ASKING,) * 8), _RATE_LIMITS),
)
"""Rates that are reached, in runs of their own."""


def any_letter(peers: AnyPeers, theme: Theme) -> GatewayInput | None:
    """One letter of a theme, the usual ones more often."""
    choices = peers.choices
    return pick(choices, pick(choices, theme.groups)).write(peers, choices)


# -- exhaustive -------------------------------------------------------------------------------


def _one(letter: Letter, *details: Any) -> Chosen:
    return Chosen(letter, tuple((detail,) for detail in details))


def _hello(
    kind: str, version: str, since: str, epoch: str = "own", max_payload: Any = ...
) -> Chosen:
    start = "replay"
    return _one(a.handshake, kind, version, "own", epoch, since, start, max_payload, "demo", {})


_OPENED: Final = _one(a.opened)
_FRESH: Final = _one(a.good_handshake, 2, True)
_ACCEPTED: Final = _one(a.accept)
_TAKEN: Final = _one(a.drained)
_LIVE: Final = (_OPENED, _FRESH, _ACCEPTED, _TAKEN)
_DURABLE: Final = _one(a.publish, "durable")
_TOKEN: Final = _one(a.publish, "transient", "A")
_LARGE: Final = _one(a.publish, "durable", None, 400)

SMALL: Final[tuple[Chosen, ...]] = (
    _one(a.due),
    _one(a.gone),
    _TAKEN,
    _one(a.drained, 0.5),
    _hello("hello", "2", "oldest - 2"),
    _hello("join", "2", "oldest - 1"),
    _hello("hello", "2", "cursor + 1"),
    _hello("hello", "2", "cursor", "old"),
    _hello("hello", "1", "v1 oldest - 1", "none"),
    _hello("join", "1", "v1 oldest - 2"),
    _hello("hello", "2", "text"),
    _ACCEPTED,
    _one(a.accept, "p2", False),
    _one(a.reject, ErrorCode.RATE_LIMITED, 4.5),
    _DURABLE,
    _TOKEN,
    _LARGE,
    _one(a.publish, "final", "A"),
    _one(a.message, "new"),
    _one(a.message_again, {}),
    _one(a.message_again, {"content": "else"}),
    _one(a.complete),
    _one(a.resume, "own", "oldest - 1", "n1"),
    _one(a.resume, "own", "cursor + 1", "n2"),
    _one(a.resync, "n3"),
    _one(a.change_epoch),
    _one(a.other, "ping", {"nonce": "p"}),
    _one(a.other, "leave", {}),
    _one(a.raw, b"{"),
)
"""Letters without a choice in them but of whom, one for each rule."""

PREFIXES: Final[dict[str, tuple[Chosen, ...]]] = {
    "opening": (_OPENED,),
    "joining": (_OPENED, _FRESH),
    "live": (*_LIVE, _DURABLE, _one(a.message, "new"), _TAKEN),
    "live, version 1": (_OPENED, _one(a.good_handshake, 1, True), _ACCEPTED, _TAKEN, _DURABLE),
    "asking again": (*_LIVE, *(_DURABLE,) * 5, _OPENED),
    "behind": (*_LIVE, _LARGE, _TOKEN, _TOKEN),
    "behind what is gone": (*_LIVE, *(_LARGE,) * 2, *(_DURABLE,) * 3),
    "with a snapshot due": (*_LIVE, _LARGE, _one(a.resync, "n0")),
    "in a snapshot's parts": (
        _OPENED,
        _one(a.good_handshake, 2, True, "hello", 1024),
        _ACCEPTED,
        *(_LARGE,) * 3,
        _TAKEN,
        _TAKEN,
        _one(a.resync, "n0"),
    ),
    "in a run": (*_LIVE, _TOKEN, _TAKEN),
}
"""What leads into each situation."""

SMALL_ENDINGS: Final = (*SMALL, _one(a.close_session), _one(a.drain, 2.0), _one(a.drain, 0.0))
"""The same letters, and those that end a session or the gateway."""
_CLOSED: Final = _one(a.close_session)
ENDING_PREFIXES: Final[dict[str, tuple[Chosen, ...]]] = {
    "live, closed": PREFIXES["live"],
    "behind, in a closed session": (*PREFIXES["behind"], _CLOSED),
    "behind what is gone, in a closed session": (*PREFIXES["behind what is gone"], _CLOSED),
    "in a snapshot's parts, in a closed session": (
        *PREFIXES["in a snapshot's parts"],
        _TAKEN,
        _CLOSED,
    ),
    "joining a closed session": (
        *_LIVE,
        _DURABLE,
        _CLOSED,
        _OPENED,
        _hello("hello", "2", "oldest - 1"),
    ),
    "behind, while it drains": (*PREFIXES["behind"], _OPENED, _one(a.drain, 2.0)),
}
"""What leads into each situation in which something ends."""
