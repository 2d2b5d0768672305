"""The bounded worlds that the explorer knows by name, each aimed at something.

A bound says who takes part, which deeds are free and how often each of the others may happen. What
moves things along (links open, frames arrive, the application does its jobs) is free; what begins
something, and every fault, is counted.

Spec: the verification page, "Explorer".
"""

from collections.abc import Mapping
from typing import Final

from attrs import field, frozen

from gatewayproto.backoff import Backoff
from gatewayproto.config import ClientConfig, GatewayConfig
from gatewayproto.testing.deeds import Kind, Limits
from gatewayproto.testing.steps import Garble, Restart, Side
from gatewayproto.versions import VersionRange

_STRANGERS: Final = (Kind.THIEF, Kind.STRAY)

Counted = tuple[Kind, ...]
"""Kinds of deeds that are counted together."""


@frozen(kw_only=True)
class Bound:
    """A bounded world.

    - `about`: what it is aimed at. `needs`: the witnesses without which it says nothing of that.
    - `gateway`, `clients`: who takes part, from the beginning. Clients of equal configuration may
      change places, where that makes no difference.
    - `prelude`: deeds that are done first, the first of their kind each; before and after each,
      everything happens that may happen by itself. None: not even that.
    - `free`: deeds that may happen at any time; `at_once`: those that happen as soon as they can,
      before any other, because it makes no difference here when.
    - `counted`: how often deeds of these kinds may happen, together.
    - `live`: to every so many-th state live machines walk as well, and must come to the same.
    """

    name: str
    about: str
    needs: frozenset[str]
    gateway: GatewayConfig
    clients: tuple[ClientConfig, ...]
    limits: Limits
    prelude: tuple[Kind, ...] | None = None
    free: tuple[Kind, ...] = (Kind.OPEN, Kind.UP, Kind.DOWN, Kind.WORK)
    at_once: tuple[Kind, ...] = (Kind.DRAIN, Kind.TAKE)
    counted: Mapping[Counted, int] = field(factory=dict)
    live: int = 100

    @property
    def alike(self) -> bool:
        """Whether clients may change places: all of them are of one configuration."""
        differ = any(kind in kinds for kinds in self.counted for kind in _STRANGERS)
        return not differ and all(each == self.clients[0] for each in self.clients)


def gateway(
    *,
    versions: tuple[int, int] = (1, 2),
    retain: int = 20,
    retain_transient: int = 20,
    retain_bytes: int = 8 * 1024 * 1024,
    send_window: int = 256 * 1024,
    max_lags: int = 20,
    max_pending_requests: int = 100,
) -> GatewayConfig:
    """A gateway whose times are multiples of one another, so that few instants differ."""
    return GatewayConfig(
        versions=VersionRange(*versions),
        heartbeat=16.0,
        handshake_timeout=8.0,
        resume_window=512.0,
        request_ttl=256.0,
        stall_timeout=64.0,
        lag_period=512.0,
        retry_after=2.0,
        retain=retain,
        retain_transient=retain_transient,
        retain_bytes=retain_bytes,
        send_window=send_window,
        max_lags=max_lags,
        max_pending_requests=max_pending_requests,
        frame_rate=None,
        recovery_rate=None,
        session_rate=None,
        push_interval=None,
    )


def client(
    *,
    versions: tuple[int, int] = (1, 2),
    start: str | None = None,
    max_attempts: int | None = None,
) -> ClientConfig:
    """A client whose times go with those of `gateway`."""
    return ClientConfig(
        agent_id="agent",
        token="t",  # noqa: S106 -- nobody's secret
        versions=VersionRange(*versions),
        start=start,
        handshake_timeout=8.0,
        recovery_timeout=8.0,
        heartbeat=16.0,
        request_ttl=256.0,
        backoff=Backoff(initial=2.0, maximum=8.0),
        max_attempts=max_attempts,
    )


def _limits(
    *,
    told: tuple[Side, ...] = ("both",),
    garbles: tuple[Garble, ...] = (),
    restarts: tuple[Restart, ...] = (),
    statuses: tuple[int | None, ...] = (None,),
    max_clients: int = 2,
) -> Limits:
    """One event at a time, of one run; at most so many clients; a jump beyond two heartbeats."""
    return Limits(
        jumps=(40.0,),
        burst=1,
        told=told,
        garbles=garbles,
        restarts=restarts,
        statuses=statuses,
        runs=("a",),
        events=1,
        graces=(4.0,),
        max_clients=max_clients,
    )


_BOUNDS: Final = (
    Bound(
        name="delivery",
        about="events, skips and snapshots across a cut, with a journal that forgets",
        gateway=gateway(retain=2, retain_transient=1),
        clients=(client(),),
        prelude=(Kind.DURABLE,),
        counted={
            (Kind.TOKENS,): 2,
            (Kind.FINAL,): 1,
            (Kind.DURABLE,): 1,
            (Kind.CUT,): 1,
            (Kind.TICK,): 1,
        },
        limits=_limits(told=("both", "client")),
        needs=frozenset({"resumed", "skipped", "snapshot trimmed", "replayed", "live"}),
    ),
    Bound(
        name="runs",
        about="runs of one id, one after the other, while the client is away",
        gateway=gateway(),
        clients=(client(),),
        prelude=(Kind.CUT,),
        counted={
            (Kind.TOKENS,): 2,
            (Kind.FINAL,): 2,
            (Kind.DURABLE,): 1,
            (Kind.TICK,): 1,
        },
        limits=_limits(),
        needs=frozenset({"resumed", "replayed", "live", "skipped"}),
        live=10,
    ),
    Bound(
        name="replays",
        about="what is published while a replay waits, and goes out with it in one breath",
        gateway=gateway(retain=3, retain_transient=1, send_window=520),
        clients=(client(),),
        prelude=(Kind.CUT, Kind.DURABLE, Kind.DURABLE),
        free=(Kind.OPEN, Kind.UP, Kind.DRAIN, Kind.DOWN, Kind.WORK),
        at_once=(Kind.TAKE,),
        counted={
            (Kind.TOKENS,): 1,
            (Kind.FINAL,): 1,
            (Kind.DURABLE,): 2,
            (Kind.TICK,): 1,
        },
        limits=_limits(),
        needs=frozenset({"resumed", "replayed", "live", "skipped", "lagged", "snapshot lagged"}),
    ),
    Bound(
        name="long-replays",
        about="a replay that is longer than what the transport takes at a time",
        gateway=gateway(retain=3, retain_transient=1, send_window=200),
        clients=(client(),),
        prelude=(Kind.CUT, Kind.TOKENS, Kind.DURABLE, Kind.DURABLE),
        free=(Kind.OPEN, Kind.UP, Kind.DRAIN, Kind.DOWN, Kind.WORK),
        at_once=(Kind.TAKE,),
        counted={
            (Kind.FINAL,): 1,
            (Kind.DURABLE,): 2,
            (Kind.TICK,): 1,
        },
        limits=_limits(),
        needs=frozenset({"resumed", "replayed", "skipped", "lagged", "snapshot lagged"}),
    ),
    Bound(
        name="lagging",
        about="snapshots that wait for room, and a journal that forgets what is still needed",
        gateway=gateway(
            retain=2, retain_transient=2, retain_bytes=200, send_window=300, max_lags=2
        ),
        clients=(client(),),
        prelude=(),
        free=(Kind.OPEN, Kind.UP, Kind.DRAIN, Kind.DOWN, Kind.WORK),
        at_once=(Kind.TAKE,),
        counted={
            (Kind.TOKENS,): 1,
            (Kind.FINAL,): 1,
            (Kind.DURABLE,): 2,
            (Kind.RESYNC, Kind.EPOCH): 1,
        },
        limits=_limits(),
        needs=frozenset({"lagged", "snapshot lagged", "skip", "snapshot epoch_changed"}),
    ),
    Bound(
        name="snapshots",
        about="snapshots that are asked for, again and again, between tokens and durable events",
        gateway=gateway(retain_bytes=200),
        clients=(client(start="snapshot"),),
        prelude=(),
        counted={
            (Kind.TOKENS,): 1,
            (Kind.FINAL,): 1,
            (Kind.DURABLE,): 2,
            (Kind.RESYNC, Kind.EPOCH): 2,
        },
        limits=_limits(),
        needs=frozenset({"snapshot requested", "snapshot epoch_changed"}),
    ),
    Bound(
        name="recovery",
        about="frames that are lost, repeated or overtaken, in both directions",
        gateway=gateway(retain=1, retain_transient=1),
        clients=(client(),),
        prelude=(),
        counted={
            (Kind.TOKENS,): 1,
            (Kind.DURABLE,): 2,
            (Kind.GARBLE,): 2,
            (Kind.TICK,): 1,
        },
        limits=_limits(garbles=("lost", "repeated", "swapped")),
        needs=frozenset({"gap", "gone back", "snapshot trimmed"}),
    ),
    Bound(
        name="restart",
        about="a gateway that comes back whole, from its store, from an older copy, from nothing",
        gateway=gateway(),
        clients=(client(),),
        prelude=(Kind.DURABLE,),
        counted={
            (Kind.DURABLE,): 1,
            (Kind.SEND,): 1,
            (Kind.SAVE,): 1,
            (Kind.RESTART,): 1,
            (Kind.TICK,): 1,
        },
        limits=_limits(restarts=("whole", "store", "copy", "nothing")),
        needs=frozenset(
            {
                "restarted: whole",
                "restarted: store",
                "restarted: copy",
                "restarted: nothing",
                "snapshot epoch_changed",
                "started over",
                "outcome unknown",
                "written again",
            }
        ),
    ),
    Bound(
        name="requests",
        about="messages, repeated and answered, across a cut or a restart, one at a time",
        gateway=gateway(max_pending_requests=1),
        clients=(client(),),
        prelude=(Kind.QUESTION,),
        counted={
            (Kind.SEND,): 1,
            (Kind.ANSWER, Kind.REPEAT): 1,
            (Kind.CUT, Kind.RESTART): 1,
            (Kind.TICK,): 1,
        },
        limits=_limits(restarts=("whole",)),
        needs=frozenset(
            {
                "accepted",
                "accepted again",
                "written again",
                "ack again",
                "refused request_conflict",
                "refused inbox_full",
            }
        ),
    ),
    Bound(
        name="tabs",
        about="two clients of one session, and a link that is half open",
        gateway=gateway(retain=0, retain_transient=1),
        clients=(client(),),
        prelude=(Kind.DURABLE, Kind.TAB),
        counted={
            (Kind.TOKENS,): 1,
            (Kind.DURABLE,): 1,
            (Kind.CUT,): 1,
            (Kind.TICK,): 1,
        },
        limits=_limits(told=("client", "gateway")),
        needs=frozenset({"resumed", "live", "replayed", "snapshot trimmed"}),
    ),
    Bound(
        name="neighbors",
        about="two clients of one gateway, each with a session of its own",
        gateway=gateway(),
        clients=(client(), client()),
        counted={
            (Kind.DURABLE,): 1,
            (Kind.CUT,): 1,
            (Kind.TICK,): 1,
        },
        limits=_limits(),
        needs=frozenset({"joined anew", "live"}),
    ),
    Bound(
        name="reborn",
        about="a client's process that dies and begins again from what its application stored",
        gateway=gateway(),
        clients=(client(),),
        prelude=(Kind.DURABLE,),
        counted={
            (Kind.DURABLE,): 1,
            (Kind.SEND,): 1,
            (Kind.REBORN,): 1,
            (Kind.TICK,): 1,
        },
        limits=_limits(),
        needs=frozenset({"resumed", "replayed", "accepted"}),
    ),
    Bound(
        name="version-1",
        about="a client of version 1, a journal that forgets, and a cut",
        gateway=gateway(retain=0, retain_transient=1),
        clients=(client(versions=(1, 1)),),
        prelude=(),
        counted={
            (Kind.TOKENS,): 1,
            (Kind.FINAL, Kind.SEND): 1,
            (Kind.DURABLE,): 1,
            (Kind.CUT,): 1,
            (Kind.TICK,): 1,
        },
        limits=_limits(),
        needs=frozenset({"resumed", "resync trimmed", "live", "replayed", "accepted again"}),
    ),
    Bound(
        name="opening",
        about="everything that can go wrong before a client is welcomed, and leaving",
        gateway=gateway(),
        clients=(client(start="snapshot"),),
        counted={
            (Kind.DURABLE,): 1,
            (Kind.REFUSE, Kind.REJECT): 1,
            (Kind.CUT,): 1,
            (Kind.TICK,): 1,
            (Kind.DISCONNECT,): 1,
        },
        limits=_limits(told=("both", "client", "gateway"), statuses=(None, 503, 401)),
        needs=frozenset({"rejected rate_limited", "rejected auth_expired", "stopped"}),
    ),
    Bound(
        name="attempts",
        about="a client that gives up after some attempts",
        gateway=gateway(),
        clients=(client(max_attempts=2),),
        counted={(Kind.REFUSE, Kind.CUT): 3, (Kind.TICK,): 2, (Kind.EARLY,): 1},
        limits=_limits(told=("both",), statuses=(None, 503)),
        needs=frozenset({"retry", "gave up", "caught up"}),
    ),
    Bound(
        name="clock",
        about="a clock that jumps, and timers that fire before their time",
        gateway=gateway(),
        clients=(client(),),
        prelude=(),
        counted={
            (Kind.DURABLE,): 1,
            (Kind.SEND,): 1,
            (Kind.CUT,): 1,
            (Kind.TICK,): 1,
            (Kind.JUMP,): 1,
            (Kind.EARLY,): 1,
        },
        limits=_limits(told=("gateway",)),
        needs=frozenset({"ClockJumped", "resumed", "retry", "accepted again", "closed 4001"}),
    ),
    Bound(
        name="strangers",
        about="positions that were stolen, that never were, or that are of another agent",
        gateway=gateway(),
        clients=(client(),),
        prelude=(Kind.DURABLE,),
        counted={
            (Kind.THIEF, Kind.STRAY): 1,
            (Kind.DURABLE,): 1,
            (Kind.CUT,): 1,
            (Kind.TICK,): 1,
        },
        limits=_limits(),
        needs=frozenset({"started over", "snapshot cursor_ahead", "rejected auth_unauthorized"}),
    ),
    Bound(
        name="closing",
        about="a session that is closed while its client lags, asks for a snapshot, or sends",
        gateway=gateway(send_window=120),
        clients=(client(),),
        prelude=(),
        free=(Kind.OPEN, Kind.UP, Kind.DRAIN, Kind.DOWN, Kind.WORK),
        at_once=(Kind.TAKE,),
        counted={
            (Kind.DURABLE,): 2,
            (Kind.CLOSE,): 1,
            (Kind.SEND,): 1,
            (Kind.RESYNC,): 1,
        },
        limits=_limits(),
        needs=frozenset({"closed 4508", "closed with everything", "refused session_closed"}),
    ),
    Bound(
        name="draining",
        about="a gateway that sends its client away, and the one that takes its place",
        gateway=gateway(),
        clients=(client(),),
        prelude=(Kind.DURABLE,),
        counted={
            (Kind.SEND,): 1,
            (Kind.SEND_AWAY,): 1,
            (Kind.SUCCEED,): 1,
            (Kind.TICK,): 2,
        },
        limits=_limits(),
        needs=frozenset({"sent away", "closed 4000", "written again"}),
    ),
    Bound(
        name="versions",
        about="a client and a gateway without a version in common",
        gateway=gateway(versions=(1, 1)),
        clients=(client(versions=(2, 2)),),
        counted={(Kind.CUT,): 1, (Kind.TICK,): 2, (Kind.DISCONNECT,): 1},
        limits=_limits(),
        needs=frozenset({"rejected version_unsupported", "stopped"}),
    ),
)

_LARGE: Final = Bound(
    name="large",
    about="all of it at once, as far as a million states go",
    gateway=gateway(retain=2, retain_transient=1),
    clients=(client(),),
    prelude=(Kind.DURABLE,),
    counted={
        (Kind.TOKENS,): 2,
        (Kind.FINAL,): 1,
        (Kind.DURABLE,): 1,
        (Kind.SEND,): 1,
        (Kind.CUT,): 1,
        (Kind.RESTART,): 1,
        (Kind.TICK,): 1,
    },
    limits=_limits(restarts=("whole", "store")),
    needs=frozenset({"resumed", "skipped", "snapshot trimmed", "snapshot epoch_changed"}),
)

SUITE: Final = tuple(bound.name for bound in _BOUNDS)
"""The names of the bounds that are explored in full by every run of the tests."""
BOUNDS: Final[Mapping[str, Bound]] = {bound.name: bound for bound in (*_BOUNDS, _LARGE)}
"""The bounds by name; those that are not in `SUITE` take long."""
