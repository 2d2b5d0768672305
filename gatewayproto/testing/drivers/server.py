"""The checks of a server's driver.

Spec: the architecture page, "Machines"; Errors.
"""

from functools import partial
from typing import Final

from gatewayproto.actions import (
    GatewayEvent,
    JoinRequested,
    SessionOpened,
    SubscriberJoined,
    SubscriberLeft,
)
from gatewayproto.errors import ErrorCode, close_may_be_retried
from gatewayproto.inputs import Accept, Publish, Reject
from gatewayproto.testing.drivers.backend import HookError
from gatewayproto.testing.drivers.check import Check, Talker, awaiting, demand, shown
from gatewayproto.testing.drivers.harness import End, ServerHarness
from gatewayproto.testing.drivers.server_hooks import HOOKS
from gatewayproto.testing.drivers.server_scene import (
    HELLO,
    ServerScene,
    demand_as_sent,
    read_events,
    read_frame,
)
from gatewayproto.testing.drivers.server_storing import STORING
from gatewayproto.testing.steps import Violation

ServerCheck = Check[ServerHarness]


# -- order ------------------------------------------------------------------------------------


async def _delivers_in_order(harness: ServerHarness) -> None:
    scene = ServerScene(harness)
    await scene.start()
    one, first, welcome = await scene.join()
    session_id = welcome["session_id"]
    two, second, _ = await scene.join(session_id=session_id)
    await scene.publish(session_id, *(50 * [10]))
    await scene.publish(session_id, *(50 * [300]))
    three, third = await scene.open()
    await scene.hello(three, session_id=session_id, epoch=welcome["epoch"], since=0)
    for talker, number in ((one, first), (two, second), (three, third)):
        await read_events(talker, 1, 100)
        await talker.fence()
        demand_as_sent(scene, talker, number)
    await scene.finish()


async def _publishes_from_inside_keep_their_order(harness: ServerHarness) -> None:
    scene = ServerScene(harness)

    def on_event(event: GatewayEvent) -> tuple[Publish, ...]:
        if not isinstance(event, SubscriberJoined):
            return ()
        return tuple(scene.event(event.session_id) for _ in range(3))

    scene.backend.on_event = on_event
    scene.backend.on_message = lambda message: tuple(
        scene.event(message.session_id) for _ in range(4)
    )
    await scene.start()
    one, first = await scene.open()
    welcome = await scene.hello(one)
    session_id = welcome["session_id"]
    await scene.publish(session_id, 10, 10)
    for n in range(5):
        await one.send("message", content="go", request_id=f"r{n}")
        await scene.publish(session_id, 10)
    with awaiting("all messages in their hook"):
        await harness.until(lambda: len(scene.backend.messages) == 5)  # noqa: PLR2004 -- as sent
    await harness.until(lambda: not scene.gateway.pending(session_id))
    await one.fence()
    demand_as_sent(scene, one, first)
    seqs = [frame["seq"] for frame in map(read_frame, one.received) if "seq" in frame]
    total = 3 + 2 + 5 * (4 + 1)
    demand(seqs == list(range(1, total + 1)), f"{total} events were published, {seqs} came")
    await scene.finish()


async def _tells_everything_in_order(harness: ServerHarness) -> None:
    scene = ServerScene(harness)

    def on_event(event: GatewayEvent) -> tuple[Publish, ...]:
        # Behind this one the machine has emitted another, which is to be told first.
        return (scene.event(event.session_id),) if isinstance(event, SessionOpened) else ()

    scene.backend.on_event = on_event
    await scene.start()
    one, _, welcome = await scene.join()
    await scene.join(session_id=welcome["session_id"])
    await scene.publish(welcome["session_id"], 10, 10, 10)
    await one.send("message", content="hello", request_id="r")
    await one.frame("message_ack")
    await one.send("leave")
    await one.end(passing=("event",))
    with awaiting("everything that the machine emitted"):
        await harness.until(lambda: len(scene.backend.told) >= len(scene.gateway.emitted))
    demand(scene.backend.told == scene.gateway.emitted, "it was told otherwise than emitted")
    await scene.finish()


# -- bytes ------------------------------------------------------------------------------------


async def _reads_bytes_cut_anywhere(harness: ServerHarness) -> None:
    scene = ServerScene(harness)
    await scene.start()
    for size in (1, 7, 64, 10**6):
        talker, _ = await scene.open()
        await _write_cut(scene, talker, talker.encode("hello", **HELLO), size)
        await talker.only("hello_ok")
        await talker.only("caught_up")
        data = b"".join(
            (
                talker.encode("ping", nonce="\u00e9" * 3),
                talker.encode("message", content="hi", request_id="r"),
                talker.encode("resync", nonce="again"),
                talker.encode("ping", nonce="last"),
            )
        )
        await _write_cut(scene, talker, data, size)
        kinds = [(await talker.only(kind))["type"] for kind in ("pong", "message_ack", "snapshot")]
        kinds.append((await talker.only("caught_up"))["type"])
        demand((await talker.only("pong"))["nonce"] == "last", f"{kinds}, and no last pong")
    await scene.finish()


async def _write_cut(scene: ServerScene, talker: Talker, data: bytes, size: int) -> None:
    for at in range(0, len(data), size):
        await talker.peer.write(data[at : at + size])
        await scene.harness.sleep(0)


async def _bounds_what_it_reads(harness: ServerHarness) -> None:
    scene = ServerScene(harness, max_payload=2048)
    await scene.start()
    talker, _, _ = await scene.join()
    empty = len(b'{"type": "message", "content": ""}')
    await talker.send("message", content="x" * (2048 - empty))
    await talker.fence()
    demand(len(scene.backend.messages) == 1, "a message of the largest size was not taken")
    data = talker.encode("message", content="x" * 20_000)
    await talker.peer.write(data[:-1])  # it may not wait for the last byte
    end = await talker.end(passing=("error",))
    demand(end.code in {1009, 4507}, f"{shown(end)} after a message over the limit")
    await scene.finish()


# -- time -------------------------------------------------------------------------------------


async def _closes_who_never_joins(harness: ServerHarness) -> None:
    scene = ServerScene(harness, handshake_timeout=0.1)
    await scene.start()
    joined, _, _ = await scene.join()
    await harness.sleep(0.2)
    # The timer is armed for a heartbeat far away; the deadline that comes now is nearer.
    talker, number = await scene.open()
    await talker.only("error")
    end = await talker.end()
    _closed_as_said(scene, number, end)
    demand(end.code == 4005, f"{shown(end)} in place of close 4005")  # noqa: PLR2004 -- its code
    await joined.fence()
    await scene.finish()


async def _pings_the_quiet_and_gives_up_the_silent(harness: ServerHarness) -> None:
    # A timer that was armed for the handshake fires early and finds nothing to do.
    scene = ServerScene(harness, handshake_timeout=0.1, heartbeat=0.3)
    await scene.start()
    talker, number, _ = await scene.join()
    await talker.only("ping")
    end = await talker.end(passing=("ping",))
    _closed_as_said(scene, number, end)
    demand(end.code == 4001, f"{shown(end)} in place of close 4001")  # noqa: PLR2004 -- its code
    await scene.finish()


async def _counts_any_byte_as_life(harness: ServerHarness) -> None:
    heartbeat = 0.4
    scene = ServerScene(harness, heartbeat=heartbeat)
    await scene.start()
    talker, number, _ = await scene.join()
    data = talker.encode("ping", nonce="x" * 100)
    pieces = 14
    for at in range(pieces):
        await talker.peer.write(data[at : at + 1])
        await harness.sleep(heartbeat / 4)
    demand(number not in scene.gateway.closes, "it was closed while bytes came in")
    await talker.peer.write(data[pieces:])
    await talker.frame("pong")
    await scene.finish()


async def _leaves_the_machine_in_peace(harness: ServerHarness) -> None:
    scene = ServerScene(harness)
    await scene.start()
    await scene.join()
    before = len(scene.gateway.steps)
    await harness.sleep(0.3)
    turns = len(scene.gateway.steps) - before
    demand(turns <= 20, f"{turns} inputs while nothing happened")  # noqa: PLR2004 -- far too many
    await scene.finish()


# -- credit -----------------------------------------------------------------------------------

_WINDOW: Final = 64 * 1024
_EVENT: Final = 16 * 1024
_BURST: Final = 16


async def _waits_for_who_does_not_read(harness: ServerHarness) -> None:
    scene = ServerScene(harness, send_window=_WINDOW, retain_bytes=1024 * 1024)
    await scene.start()
    slow, number, welcome = await scene.join()
    session_id = welcome["session_id"]
    fast, _, _ = await scene.join(session_id=session_id)
    read, head, quiet = sum(map(len, slow.received)), 0, 0
    # Room beside the window: one event, its frame, and a ping or an answer.
    bound = harness.capacity + _WINDOW + 2 * _EVENT
    while quiet < 3:  # noqa: PLR2004 -- bursts, to be sure
        before = _size(scene, number)
        await scene.publish(session_id, *(_BURST * [_EVENT]))
        await read_events(fast, head + 1, head + _BURST)
        head += _BURST
        await fast.fence()
        size = _size(scene, number)
        quiet = quiet + 1 if size == before else 0
        demand(
            size - read <= bound,
            f"{size - read} bytes were sent to a peer that reads nothing, over {bound}",
        )
    with awaiting("what was held back, or a snapshot of it"):
        await _catch_up(slow, head)
    await slow.fence()
    demand_as_sent(scene, slow, number)
    await scene.finish()


def _size(scene: ServerScene, number: int) -> int:
    return sum(map(len, scene.gateway.sent[number]))


async def _catch_up(talker: Talker, head: int) -> None:
    """Read on until the head; every seq comes, or a snapshot covers it."""
    cursor = 0
    while cursor < head:
        frame = await talker.next(f"what follows {cursor}")
        if isinstance(frame, End):
            raise Violation("driver", f"{shown(frame)} in place of what follows {cursor}")
        match frame["type"]:
            case "event" | "replay":
                demand(frame["seq"] == cursor + 1, f"{frame['seq']} came after {cursor}")
                cursor += 1
            case "snapshot":
                demand(frame["cursor"] > cursor, f"a snapshot of {frame['cursor']} at {cursor}")
                cursor = frame["cursor"]
            case _:
                pass


async def _gives_back_what_was_taken(harness: ServerHarness) -> None:
    scene = ServerScene(harness, send_window=_WINDOW)
    await scene.start()
    one, first, welcome = await scene.join()
    two, second, _ = await scene.join(session_id=welcome["session_id"])
    sizes = [0, 100_000, 1, 125, 126, 200, _EVENT, 65_535, 65_536, 7] * 3
    await scene.publish(welcome["session_id"], *sizes)
    for talker in (one, two):
        await read_events(talker, 1, len(sizes))
    with awaiting("`Drained` for everything that was read"):
        await harness.until(
            lambda: not any(scene.gateway.owed(number) for number in (first, second))
        )
    await scene.finish()


# -- ends -------------------------------------------------------------------------------------


def _closed_as_said(scene: ServerScene, number: int, end: End) -> None:
    closed = scene.gateway.closes.get(number)
    demand(closed is not None, f"{shown(end)}, and the machine closed nothing")
    if closed is not None:
        said = End(closed.code, closed.reason)
        demand(end == said, f"{shown(end)} in place of {shown(said)}")


def _more_than_fits(harness: ServerHarness) -> list[int]:
    """Sizes of events that together are more than a transport holds unread."""
    return (harness.capacity // _EVENT + 8) * [_EVENT]


async def _sends_what_is_owed_before_it_closes(harness: ServerHarness) -> None:
    sizes = _more_than_fits(harness)
    scene = ServerScene(harness, send_window=2 * sum(sizes), retain_bytes=4 * sum(sizes))
    await scene.start()
    talker, number, welcome = await scene.join()
    await scene.publish(welcome["session_id"], *sizes)
    await talker.send("leave")
    with awaiting("the answer to `leave`"):
        await harness.until(lambda: number in scene.gateway.closes)
    end = await talker.end(passing=("event", "ping"))
    demand_as_sent(scene, talker, number)
    _closed_as_said(scene, number, end)
    await scene.finish()


def _is_gone(scene: ServerScene, number: int) -> bool:
    return number not in scene.gateway.connections


async def _tells_every_end(harness: ServerHarness) -> None:
    scene = ServerScene(harness)
    await scene.start()
    one, _, welcome = await scene.join()
    for how in ("close", "finish", "abort"):
        talker, number, _ = await scene.join(session_id=welcome["session_id"])
        if how == "close":
            await talker.peer.close(1000)
        elif how == "finish":
            await talker.peer.finish()
        else:
            await talker.peer.abort()
        with awaiting(f"`ConnectionClosed` after `{how}`"):
            await harness.until(partial(_is_gone, scene, number))
        await talker.end()
    left = [event for event in scene.backend.told if isinstance(event, SubscriberLeft)]
    demand(len(left) == 3, f"{len(left)} of 3 ends were told")  # noqa: PLR2004 -- as above
    await one.fence()
    with awaiting("the end of the transports"):
        await harness.until(lambda: harness.transports() == 1)
    await scene.finish()


async def _lets_go_of_who_never_answers(harness: ServerHarness) -> None:
    scene = ServerScene(harness, heartbeat=0.1)
    await scene.start()
    _, number, _ = await scene.join()
    with awaiting("the close of a silent peer"):
        await harness.until(lambda: number in scene.gateway.closes)
    with awaiting("the end of a transport whose peer does not answer the close"):
        await harness.until(lambda: harness.transports() == 0)
    await scene.finish()


async def _stops_in_good_order(harness: ServerHarness) -> None:
    scene = ServerScene(harness)
    await scene.start()
    one, _, welcome = await scene.join()
    two, _, _ = await scene.join(session_id=welcome["session_id"])
    three, _ = await scene.open()
    await scene.publish(welcome["session_id"], 1000)
    await harness.stop()
    for talker in (one, two, three):
        end = await talker.end(passing=("event", "going_away", "error"))
        orderly = end.code is not None and close_may_be_retried(end.code)
        demand(orderly, f"{shown(end)} when the server stops")
    for talker in (one, two):
        seqs = [frame["seq"] for frame in map(read_frame, talker.received) if "seq" in frame]
        demand(seqs == [1], "what was owed was not sent before the close")
    with awaiting("the end of the stop"):
        await harness.stopped()
    demand(not scene.gateway.connections, "the machine was not told of every end")
    scene.judge()


async def _cancelled_leaves_nothing(harness: ServerHarness) -> None:
    sizes = _more_than_fits(harness)
    scene = ServerScene(harness, send_window=2 * sum(sizes), retain_bytes=4 * sum(sizes))
    await scene.start()
    one, _, welcome = await scene.join()
    two, _ = await scene.open()
    await scene.publish(welcome["session_id"], *sizes)
    with awaiting("the end of a cancelled driver"):
        await harness.cancel()
    scene.judge()
    for talker in (one, two):
        await talker.end(passing=("event", "going_away"))


# -- the application --------------------------------------------------------------------------


async def _passes_on_what_the_upgrade_said(harness: ServerHarness) -> None:
    scene = ServerScene(harness)
    await scene.start()
    bearer = {"authorization": "Bearer from-header"}
    query = {"token": "a b&c=\u00e9"}
    for upgrade, fields, token in (
        ({}, {}, None),
        ({"query": query}, {}, query["token"]),
        ({"query": query, "headers": bearer}, {}, "from-header"),
        ({"query": query, "headers": bearer}, {"token": "from-frame"}, "from-frame"),
    ):
        talker, number = await scene.open(**upgrade)
        await scene.hello(talker, **fields)
        join = scene.backend.joins[-1]
        demand(join.connection == number, "the hook was given another connection")
        demand(join.token == token, f"the token is {join.token!r} in place of {token!r}")
        demand(join.peer and join.path, "the peer's address or the path is not told")
    demand(all(each.timestamp > 0 for each in scene.gateway.opened), "no timestamp is told")
    await scene.finish()


async def _rejects_as_the_application_says(harness: ServerHarness) -> None:
    scene = ServerScene(harness)
    scene.backend.on_join = lambda join: Reject(
        connection=join.connection,
        code=ErrorCode.RATE_LIMITED,
        message="come back later",
        retry_after_seconds=7.5,
    )
    await scene.start()
    talker, number = await scene.open()
    await talker.send("hello", **HELLO)
    frame = await talker.only("hello_error")
    said = (frame["code"], frame["message"], frame.get("retry_after_seconds"))
    demand(said == ("rate_limited", "come back later", 7.5), f"{said} is not what was decided")
    _closed_as_said(scene, number, await talker.end())
    await scene.finish()


async def _contains_what_hooks_raise(harness: ServerHarness) -> None:
    scene = ServerScene(harness)
    secret = "what the hook knows"  # noqa: S105 -- a text to look for
    bad_agent = "raises"

    def on_join(join: JoinRequested) -> Accept | Reject:
        if join.agent_id == bad_agent:
            raise HookError(secret)
        return Accept(connection=join.connection)

    def on_event(_: GatewayEvent) -> tuple[Publish, ...]:
        raise HookError(secret)

    scene.backend.on_join, scene.backend.on_event = on_join, on_event
    await scene.start()
    one, _, welcome = await scene.join()
    session_id = welcome["session_id"]
    two, number = await scene.open()
    await two.send("hello", **{**HELLO, "agent_id": bad_agent})
    frame = await two.only("hello_error")
    demand(frame["code"] == "internal_error", f"{frame['code']} in place of internal_error")
    demand(secret not in str(frame), "the client is told what the hook raised")
    _closed_as_said(scene, number, await two.end())

    def on_message(_: object) -> tuple[Publish, ...]:
        if len(scene.backend.messages) == 1:
            raise HookError(secret)
        return (scene.event(session_id),)

    scene.backend.on_message = on_message
    await one.send("message", content="first", request_id="r1")
    await one.send("message", content="second", request_id="r2")
    with awaiting("the event of a message after one whose hook raised"):
        await one.frame("event")
    with awaiting("the end of every message"):
        await harness.until(lambda: not scene.gateway.pending(session_id))
    await one.fence()
    await scene.finish()


SERVER_CHECKS: Final[tuple[ServerCheck, ...]] = tuple(
    Check(body.__name__.removeprefix("_"), duty, body)
    for body, duty in (
        (_delivers_in_order, "frames go out in the order of the actions, each once"),
        (
            _publishes_from_inside_keep_their_order,
            "what a hook publishes comes after the actions that are still to be carried out",
        ),
        (_tells_everything_in_order, "the application is told all that is emitted, in order, once"),
        (_reads_bytes_cut_anywhere, "bytes cut anywhere, or in one piece, mean the same"),
        (_bounds_what_it_reads, "a message over `max_payload` ends the connection"),
        (_closes_who_never_joins, "a nearer deadline moves the timer"),
        (
            _pings_the_quiet_and_gives_up_the_silent,
            "a timer that found nothing to do is armed again",
        ),
        (_counts_any_byte_as_life, "`Activity` is given for bytes that are no whole frame"),
        (_leaves_the_machine_in_peace, "nothing is given while nothing happens"),
        (
            _waits_for_who_does_not_read,
            "`Drained` is given for no more than the transport took, and then all arrives",
        ),
        (_gives_back_what_was_taken, "`Drained` is given for all that the transport took"),
        (
            _sends_what_is_owed_before_it_closes,
            "`CloseConnection` sends what is owed, then closes with its code and reason",
        ),
        (_tells_every_end, "`ConnectionClosed` is given once, however the connection ended"),
        (_lets_go_of_who_never_answers, "a close that is not answered ends all the same"),
        (_stops_in_good_order, "a stop closes every connection with a code that may be retried"),
        (_cancelled_leaves_nothing, "a cancelled driver leaves nothing running and nothing open"),
        (_passes_on_what_the_upgrade_said, "`JoinRequested` has what the upgrade and `hello` say"),
        (_rejects_as_the_application_says, "a rejection says what the application said"),
        (_contains_what_hooks_raise, "what a hook raises ends neither the server nor another hook"),
        *HOOKS,
        *STORING,
    )
)
"""Every duty of a server's driver. Call each with a harness, or `check_server_driver` with it."""
