"""What can be done to a world, by kind: each deed is a call that is ready to be made.

A driver of a world chooses a kind, asks which deeds of it are possible now, chooses one and does
it. The order of the deeds given is fixed, so that a trace of choices means the same on every run.

Spec: the verification page, "One world".
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from typing import Any, Final

import attrs
from attrs import frozen

from gatewayproto.actions import ResumeToken, SnapshotNeeded
from gatewayproto.errors import ErrorCode
from gatewayproto.frames import Event
from gatewayproto.inputs import (
    Abort,
    Accept,
    ChangeEpoch,
    CloseSession,
    Disconnect,
    Drain,
    Reject,
    Resync,
    SetHealth,
    TimerExpired,
)
from gatewayproto.testing.network import Close, Link
from gatewayproto.testing.peer import Peer
from gatewayproto.testing.steps import GATEWAY, Garble, Restart, Side
from gatewayproto.testing.world import World

MAX_CLIENTS: Final = 8
"""How many clients a world has in all, the dead among them."""

_BEYOND: Final = 100
"""So far beyond its position a client may believe to be."""

Deed = Callable[[], None]


class Kind(StrEnum):
    """The kinds of deeds. What each gives a choice of is said in `options`."""

    OPEN = "open"
    REFUSE = "refuse"
    UP = "up"
    DRAIN = "drain"
    DOWN = "down"
    FLOW = "flow"
    CUT = "cut"
    STALL = "stall"
    GARBLE = "garble"
    WORK = "work"
    REJECT = "reject"
    TOKENS = "tokens"
    FINAL = "final"
    DURABLE = "durable"
    LARGE = "large"
    QUESTION = "question"
    SEND = "send"
    ANSWER = "answer"
    REPEAT = "repeat"
    TAKE = "take"
    RESYNC = "resync"
    DISCONNECT = "disconnect"
    TOKEN = "token"  # noqa: S105 -- the name of a deed
    TAB = "tab"
    REBORN = "reborn"
    THIEF = "thief"
    STRAY = "stray"
    WAIT = "wait"
    TICK = "tick"
    JUMP = "jump"
    EARLY = "early"
    SWAP = "swap"
    SAVE = "save"
    RESTART = "restart"
    EPOCH = "epoch"
    HEALTH = "health"
    ABORT = "abort"
    REVIEW = "review"
    RENEW = "renew"
    END = "end"
    CLOSE = "close"
    SEND_AWAY = "send away"
    SUCCEED = "succeed"
    PERSIST = "persist"
    BUILD = "build"


@frozen(kw_only=True)
class Limits:
    """What bounds the deeds: choices of seconds to wait and to jump, of sizes, of restarts.

    `events` is how many of the ways to publish of one kind there are; None for all of them.
    `good_for` are seconds until credentials expire.
    """

    waits: tuple[float, ...] = (0.25, 0.25, 2.0, 2.0, 5.0, 11.0, 35.0, 130.0)
    jumps: tuple[float, ...] = (15.0, 200.0)
    burst: int = 6
    large: int = 3000
    told: tuple[Side, ...] = ("both", "client", "gateway")
    garbles: tuple[Garble, ...] = ("lost", "repeated", "swapped")
    restarts: tuple[Restart, ...] = ("whole", "store", "copy", "nothing")
    statuses: tuple[int | None, ...] = (None, 503, 401)
    runs: tuple[str, ...] = ("a", "b")
    graces: tuple[float, ...] = (0.0, 2.0, 20.0)
    events: int | None = None
    good_for: tuple[float | None, ...] = (None, 4.0, 40.0)
    max_clients: int = MAX_CLIENTS


def options(world: World, kind: Kind, limits: Limits) -> Sequence[Deed]:
    """The deeds of a kind that are possible now."""
    return _OPTIONS[kind](world, limits)


# -- links ------------------------------------------------------------------------------------


def _open(world: World, _: Limits) -> list[Deed]:
    return [partial(world.open, link) for link in world.links if link.pending]


def _refuse(world: World, limits: Limits) -> list[Deed]:
    return [
        partial(world.refuse, link, status, None if status != 503 else 1.0)  # noqa: PLR2004
        for link in world.links
        if link.pending
        for status in limits.statuses
    ]


def _up(world: World, _: Limits) -> list[Deed]:
    return [partial(world.go_up, link) for link in world.links if link.can_go_up]


def _drain(world: World, _: Limits) -> list[Deed]:
    return [partial(world.drain, link) for link in world.links if link.can_drain]


def _down(world: World, _: Limits) -> list[Deed]:
    return [partial(world.go_down, link) for link in world.links if link.can_go_down]


def _flow(world: World, _: Limits) -> list[Deed]:
    return [partial(world.flow, link) for link in world.links if link.can_go_up or link.can_go_down]


def _cut(world: World, limits: Limits) -> list[Deed]:
    return [
        partial(world.cut, link, told)
        for link in world.links
        if link.connection is not None
        for told in limits.told
        if not link.dead or _learns(link, told)
    ]


def _learns(link: Link, told: Side) -> bool:
    """Whether a side that still holds a dead link would be told."""
    return (told != "client" and link.gateway_open) or (told != "gateway" and link.client_open)


def _stall(world: World, _: Limits) -> list[Deed]:
    return [
        partial(world.stall, link, stalled=not link.stalled)
        for link in world.links
        if link.connection is not None and not link.dead
    ]


def _garble(world: World, limits: Limits) -> list[Deed]:
    return [
        partial(world.garble, link, how, up=up)
        for link in world.links
        if link.flows
        for up in (False, True)
        for queue in [[*link.up] if up else [*link.down, *link.owed]]
        if queue and not isinstance(queue[0], Close)
        for how in limits.garbles
        if how != "swapped" or (len(queue) > 1 and not isinstance(queue[1], Close))
    ]


# -- the application --------------------------------------------------------------------------


def _work(world: World, _: Limits) -> list[Deed]:
    return [partial(world.work, job) for job in world.application.jobs()]


def _reject(world: World, _: Limits) -> list[Deed]:
    return [partial(world.work, job) for job in world.application.refusals()]


def _publish(*makes: Callable[[World, Limits, str], list[Event]]) -> "_Options":
    """Deeds that publish what each of `makes` gives, in each session."""

    def deeds(world: World, limits: Limits) -> list[Deed]:
        def publish(session_id: str, make: Callable[..., list[Event]], run: str) -> None:
            for event in make(world, limits, run):
                world.publish(session_id, event)

        return [
            partial(publish, session_id, make, run)
            for session_id in world.sessions
            for make in makes[: limits.events]
            for run in limits.runs
        ]

    return deeds


def _event(world: World, number: int, **fields: Any) -> Event:
    number += world.published + 1
    return Event(type="note", event_id=f"e{number}", timestamp=world.now, **fields)


def _tokens(world: World, limits: Limits, run: str) -> list[Event]:
    return [
        _event(world, n, data={"text": f"t{n} "}, run_id=run, transient=True)
        for n in range(limits.burst)
    ]


def _token(world: World, _: Limits, run: str) -> list[Event]:
    return [_event(world, 0, data={"text": "t "}, run_id=run, transient=True)]


def _loose_token(world: World, _: Limits, __: str) -> list[Event]:
    return [_event(world, 0, data={"text": "?"}, transient=True)]


def _final(world: World, _: Limits, run: str) -> list[Event]:
    return [_event(world, 0, data={"text": "whole"}, run_id=run, final=True)]


def _durable(world: World, _: Limits, __: str) -> list[Event]:
    return [_event(world, 0, data={"n": world.published})]


def _durables(world: World, limits: Limits, __: str) -> list[Event]:
    return [_event(world, n, data={"n": n}) for n in range(limits.burst)]


def _large(world: World, limits: Limits, __: str) -> list[Event]:
    return [_event(world, 0, data={"text": "x" * limits.large})]


def _question(world: World, _: Limits, __: str) -> list[Event]:
    return [_event(world, 0, data={"text": "?"}, expects_reply=True)]


# -- clients ----------------------------------------------------------------------------------


def _send(world: World, _: Limits) -> list[Deed]:
    return [partial(world.send, peer, f"hello {peer.sent}") for peer in world.living]


def _answer(world: World, _: Limits) -> list[Deed]:
    return [
        partial(world.send, peer, "yes", reply_to=peer.question)
        for peer in world.living
        if peer.question is not None
    ]


def _repeat(world: World, _: Limits) -> list[Deed]:
    """Send an id again that another client, or this one before, has used; or with other words."""
    deeds: list[Deed] = []
    for peer in world.living:
        for other in world.peers.values():
            ids = {**other.ended_requests, **(other.open_requests if other is not peer else {})}
            if ids:
                request_id, content = list(ids.items())[-1]
                if request_id not in peer.open_requests:
                    deeds += [
                        partial(world.send, peer, words, request_id=request_id)
                        for words in (content, f"not {content}")
                    ]
    return deeds


def _take(world: World, _: Limits) -> list[Deed]:
    return [partial(world.take, peer) for peer in world.living if peer.untaken is not None]


def _resync(world: World, _: Limits) -> list[Deed]:
    return [partial(world.tell, peer, Resync()) for peer in world.living]


def _disconnect(world: World, _: Limits) -> list[Deed]:
    """Also once more: it succeeds in every state."""
    peers = [peer for peer in world.peers.values() if not peer.dead]
    return [partial(world.tell, peer, Disconnect()) for peer in peers]


def _give_token(world: World, _: Limits) -> list[Deed]:
    return [partial(world.give_token, peer) for peer in world.living]


def _tab(world: World, limits: Limits) -> list[Deed]:
    """Another client of the same principal follows the session.

    It begins where that one stands, where it stood when it had half of that, or, by somebody's
    mistake, beyond the end.
    """

    def open_tab(peer: Peer, token: ResumeToken) -> None:
        world.add_client(peer.config, token)

    return [
        partial(open_tab, peer, token)
        for peer in world.living
        if peer.token is not None and len(world.peers) < limits.max_clients
        for cursor in (peer.token.cursor, peer.token.cursor // 2, peer.token.cursor + _BEYOND)
        for token in [attrs.evolve(peer.token, cursor=cursor)]
    ]


def _reborn(world: World, limits: Limits) -> list[Deed]:
    """A client's process dies; a new one starts from what the application stored."""

    def reborn(peer: Peer) -> None:
        world.kill_client(peer)
        world.add_client(peer.config, peer.token)

    return [
        partial(reborn, peer)
        for peer in world.peers.values()
        if not peer.dead and len(world.peers) < limits.max_clients
    ]


def _thief(world: World, limits: Limits) -> list[Deed]:
    """Somebody of another principal presents a stolen position, or makes one up beyond the end."""

    def steal(peer: Peer, token: ResumeToken) -> None:
        stranger = attrs.evolve(peer.config, token=f"{peer.config.token}-thief")
        world.add_client(stranger, token)

    return [
        partial(steal, peer, peer.token)
        for peer in world.living
        if peer.token is not None and len(world.peers) < limits.max_clients
    ]


def _stray(world: World, limits: Limits) -> list[Deed]:
    """A client begins from a position that never was: beyond the end, or of another agent."""

    def beyond(peer: Peer, token: ResumeToken) -> None:
        world.add_client(peer.config, attrs.evolve(token, cursor=world.published + 1))

    def elsewhere(peer: Peer, token: ResumeToken) -> None:
        config = attrs.evolve(peer.config, agent_id=f"{peer.config.agent_id}-other")
        world.add_client(config, token)

    return [
        partial(begin, peer, peer.token)
        for peer in world.living
        if peer.token is not None and len(world.peers) < limits.max_clients
        for begin in (beyond, elsewhere)
    ]


# -- time and processes -----------------------------------------------------------------------


def _wait(world: World, limits: Limits) -> list[Deed]:
    return [partial(world.advance, seconds) for seconds in limits.waits]


def _tick(world: World, _: Limits) -> list[Deed]:
    """Wait for whatever is due next."""
    deadline = world.next_deadline
    return [] if deadline is None else [partial(world.advance, max(0.0, deadline - world.now))]


def _jump(world: World, limits: Limits) -> list[Deed]:
    return [partial(world.jump, seconds) for seconds in limits.jumps]


def _early(world: World, _: Limits) -> list[Deed]:
    """A timer fires before its time."""
    deeds: list[Deed] = []
    if world.deadline is not None:
        deeds.append(partial(world.serve, TimerExpired()))
    deeds += [
        partial(world.tell, peer, TimerExpired())
        for peer in world.living
        if peer.deadline is not None
    ]
    return deeds


def _swap(world: World, _: Limits) -> list[Deed]:
    names = [GATEWAY, *(peer.name for peer in world.living)]
    return [partial(world.swap, name) for name in names]


def _save(world: World, _: Limits) -> list[Deed]:
    return [world.save]


def _restart(world: World, limits: Limits) -> list[Deed]:
    return [
        partial(world.restart, kind) for kind in limits.restarts if kind != "copy" or world.saved
    ]


def _epoch(world: World, _: Limits) -> list[Deed]:
    return [partial(world.serve, ChangeEpoch(session_id=each)) for each in world.sessions]


# -- credentials, health and aborts -----------------------------------------------------------


def _health(world: World, _: Limits) -> list[Deed]:
    return [partial(world.serve, SetHealth(health={"at": world.now}))]


def _abort(world: World, limits: Limits) -> list[Deed]:
    return [
        partial(world.tell, peer, Abort(run_id=run)) for peer in world.living for run in limits.runs
    ]


def _review(world: World, limits: Limits) -> list[Deed]:
    """The application judges fresh credentials."""
    return [
        partial(world.review, number, good_for)
        for number in world.reviews
        for good_for in limits.good_for
    ]


def _renew(world: World, limits: Limits) -> list[Deed]:
    """The application says unasked for how long credentials are good."""
    return [
        partial(
            world.serve,
            Accept(connection=number, principal=principal, expires_in=good_for),
        )
        for number, principal in world.members.items()
        for good_for in limits.good_for
    ]


def _end(world: World, _: Limits) -> list[Deed]:
    """The application ends a living connection."""
    return [
        partial(world.serve, Reject(connection=number, code=code))
        for number in world.members
        for code in (ErrorCode.AUTH_EXPIRED, ErrorCode.RATE_LIMITED)
    ]


# -- endings ----------------------------------------------------------------------------------


def _close(world: World, _: Limits) -> list[Deed]:
    """The application ends a session; also once more."""
    return [partial(world.serve, CloseSession(session_id=each)) for each in world.sessions]


def _send_away(world: World, limits: Limits) -> list[Deed]:
    """The gateway is about to stop while somebody follows a session; also once more."""
    if not any(peer.state == "connected" for peer in world.living):
        return []
    return [
        partial(world.send_away, Drain(after=1.5, spread=0.5, grace=grace))
        for grace in limits.graces
    ]


def _succeed(world: World, _: Limits) -> list[Deed]:
    """The successor of a gateway that is about to stop takes its place."""
    return [partial(world.restart, "whole")] if world.draining else []


def _persist(world: World, _: Limits) -> list[Deed]:
    """The store confirms the oldest record of a session, or all that it was given."""
    sessions = list(world.store.waiting)
    deeds: list[Deed] = [partial(world.persist, each) for each in sessions]
    return [*deeds, world.persist_all] if deeds else []


def _build(world: World, _: Limits) -> list[Deed]:
    """The application builds a snapshot that was asked for, newer or older, or one unasked."""
    builder = world.builder
    if builder is None:
        return []

    def build(need: SnapshotNeeded) -> None:
        world.serve(builder.answer(need, need.cursor))

    return [partial(build, need) for need in builder.answers()]


_Options = Callable[[World, Limits], list[Deed]]

_OPTIONS: Final[Mapping[Kind, _Options]] = {
    Kind.OPEN: _open,
    Kind.REFUSE: _refuse,
    Kind.UP: _up,
    Kind.DRAIN: _drain,
    Kind.DOWN: _down,
    Kind.FLOW: _flow,
    Kind.CUT: _cut,
    Kind.STALL: _stall,
    Kind.GARBLE: _garble,
    Kind.WORK: _work,
    Kind.REJECT: _reject,
    Kind.TOKENS: _publish(_tokens, _token),
    Kind.FINAL: _publish(_final),
    Kind.DURABLE: _publish(_durable, _durables, _loose_token),
    Kind.LARGE: _publish(_large),
    Kind.QUESTION: _publish(_question),
    Kind.SEND: _send,
    Kind.ANSWER: _answer,
    Kind.REPEAT: _repeat,
    Kind.TAKE: _take,
    Kind.RESYNC: _resync,
    Kind.DISCONNECT: _disconnect,
    Kind.TOKEN: _give_token,
    Kind.TAB: _tab,
    Kind.REBORN: _reborn,
    Kind.THIEF: _thief,
    Kind.STRAY: _stray,
    Kind.WAIT: _wait,
    Kind.TICK: _tick,
    Kind.JUMP: _jump,
    Kind.EARLY: _early,
    Kind.SWAP: _swap,
    Kind.SAVE: _save,
    Kind.RESTART: _restart,
    Kind.EPOCH: _epoch,
    Kind.HEALTH: _health,
    Kind.ABORT: _abort,
    Kind.REVIEW: _review,
    Kind.RENEW: _renew,
    Kind.END: _end,
    Kind.CLOSE: _close,
    Kind.SEND_AWAY: _send_away,
    Kind.SUCCEED: _succeed,
    Kind.PERSIST: _persist,
    Kind.BUILD: _build,
}
