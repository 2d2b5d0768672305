"""The checks of a client's driver.

Spec: the architecture page, "Machines"; The client's side.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from gatewayproto.actions import (
    EventReceived,
    Joined,
    MessageAccepted,
    RetryScheduled,
    Stopped,
    TokenNeeded,
)
from gatewayproto.testing.drivers.backend import HookError
from gatewayproto.testing.drivers.check import Check, awaiting, demand, numbered, shown
from gatewayproto.testing.drivers.client_scene import SESSION, WELCOME, ClientScene
from gatewayproto.testing.drivers.harness import ClientHarness

ClientCheck = Check[ClientHarness]


# -- order and bytes --------------------------------------------------------------------------


async def _hands_on_in_order(harness: ClientHarness) -> None:
    scene = ClientScene(harness)
    await scene.start()
    talker = await scene.attach()
    frames = [talker.encode("event", **numbered(seq)) for seq in range(1, 41)]
    await talker.peer.write(b"".join(frames))
    demand(isinstance(await scene.take("`Joined`"), Joined), "`Joined` is not handed on first")
    for seq in range(1, 41):
        await scene.take_event(seq)
    seqs = [event.seq for event in scene.events if isinstance(event, EventReceived)]
    demand(seqs == list(range(1, 41)), f"the callback was told of {seqs}")
    await scene.finish()


async def _reads_bytes_cut_anywhere(harness: ClientHarness) -> None:
    scene = ClientScene(harness)
    await scene.start()
    talker = await scene.attach()
    await scene.take("`Joined`")
    seq = 0
    for size in (1, 7, 64, 10**6):
        frames = (
            talker.encode("event", **numbered(seq + 1, data={"text": "\u00e9" * 40})),
            talker.encode("ping", nonce=str(size)),
            talker.encode("event", **numbered(seq + 2)),
        )
        data = b"".join(frames)
        for at in range(0, len(data), size):
            await talker.peer.write(data[at : at + size])
            await harness.sleep(0)
        pong = await talker.frame("pong")
        demand(pong.get("nonce") == str(size), f"{pong} in answer to the ping {size}")
        await scene.take_event(seq + 1)
        await scene.take_event(seq + 2)
        seq += 2
    await scene.finish()


async def _bounds_what_it_reads(harness: ClientHarness) -> None:
    scene = ClientScene(harness, max_payload=2048)
    await scene.start()
    talker = await scene.attach()
    data = talker.encode("event", **numbered(1, data={"text": "x" * 20_000}))
    await talker.peer.write(data[:-1])  # it may not wait for the last byte
    await scene.told(RetryScheduled)
    await talker.end(passing=("leave",))
    hello = await scene.welcome(await scene.accept(), resumed=True)
    demand(hello.get("since") == 0, f"{hello} does not name where the client stands")
    await scene.finish()


async def _sends_in_order(harness: ClientHarness) -> None:
    scene = ClientScene(harness)
    await scene.start()
    ids = [f"r{n}" for n in range(6)]
    for request_id in ids[:3]:  # these wait for the welcome
        await scene.client.send("early", request_id)
    talker = await scene.attach()
    for request_id in ids[3:]:
        await scene.client.send("late", request_id)
    came = [(await talker.frame("message"))["request_id"] for _ in ids]
    demand(came == ids, f"{came} came in place of {ids}")
    for request_id in ids:
        await talker.send("message_ack", request_id=request_id, duplicate=False)
    for request_id in ids:
        accepted = await scene.told(MessageAccepted)
        demand(accepted.request_id == request_id, f"{accepted} in place of {request_id}")
    await scene.finish()


async def _tells_what_was_taken(harness: ClientHarness) -> None:
    scene = ClientScene(harness)
    await scene.start()
    talker = await scene.attach()
    await scene.take("`Joined`")
    for seq in (1, 2, 3):
        await talker.send("event", **numbered(seq))
    for seq in (1, 2, 3):
        await scene.take_event(seq)
        await talker.send("ping", nonce=f"n{seq}", cursor=3)
        pong = await talker.frame("pong")
        # The application is at work on `seq`: it has taken all before that, and not that.
        demand(pong.get("cursor") == seq - 1, f"{pong} while {seq} is being worked on")
    await scene.finish()


async def _reads_no_more_than_is_taken(harness: ClientHarness) -> None:
    scene = ClientScene(harness)
    await scene.start()
    talker = await scene.attach()
    await scene.take("`Joined`")
    bound = harness.capacity + harness.buffer
    head = size = full = 0
    while full < 10:  # noqa: PLR2004 -- turns, to be sure
        head += 1
        data = talker.encode("event", **numbered(head, data={"text": "x" * 4000}))
        size += len(data)
        waiting = await talker.peer.write(data)
        demand(size - waiting <= bound, f"{size - waiting} bytes were read that nobody takes")
        full = full + 1 if waiting else 0
        await harness.sleep(0.01 if waiting else 0)
    for seq in range(1, head + 1):
        await scene.take_event(seq)
    await scene.finish()


# -- time -------------------------------------------------------------------------------------


async def _gives_up_who_never_welcomes(harness: ClientHarness) -> None:
    scene = ClientScene(harness, handshake_timeout=0.1)
    await scene.start()
    await scene.attempt()  # and never answered
    retry = await scene.told(RetryScheduled)
    demand(retry.code == "handshake_timeout", f"{retry} in place of a handshake's timeout")
    talker = await scene.accept()
    retry = await scene.told(RetryScheduled)
    demand(retry.code == "handshake_timeout", f"{retry} in place of a handshake's timeout")
    await talker.end(passing=("hello",))
    await scene.attach()
    await scene.told(Joined)
    await scene.finish()


async def _gives_up_the_silent(harness: ClientHarness) -> None:
    # A timer that was armed for the handshake fires early and finds nothing to do.
    scene = ClientScene(harness, handshake_timeout=0.1, heartbeat=0.3)
    await scene.start()
    talker = await scene.attach()
    await scene.take("`Joined`")
    await talker.only("ping")
    retry = await scene.told(RetryScheduled)
    demand(retry.code == "liveness_timeout", f"{retry} in place of a liveness timeout")
    await talker.end(passing=("ping",))
    await scene.attach(resumed=True)
    await scene.finish()


async def _counts_any_byte_as_life(harness: ClientHarness) -> None:
    heartbeat = 0.4
    scene = ClientScene(harness, heartbeat=heartbeat)
    await scene.start()
    talker = await scene.attach()
    await scene.take("`Joined`")
    data = talker.encode("event", **numbered(1))
    pieces = 14
    for at in range(pieces):
        await talker.peer.write(data[at : at + 1])
        await harness.sleep(heartbeat / 4)
    await talker.peer.write(data[pieces:])
    await scene.take_event(1)
    retries = [event for event in scene.events if isinstance(event, RetryScheduled)]
    demand(not retries, f"{retries} while bytes came in")
    await scene.finish()


# -- transports -------------------------------------------------------------------------------


async def _comes_back_when_nobody_answers(harness: ClientHarness) -> None:
    scene = ClientScene(harness)
    await harness.listen(on=False)
    await scene.start()
    for _ in range(2):
        retry = await scene.told(RetryScheduled)
        demand(retry.code is None, f"{retry} where nobody listens")
    await harness.listen(on=True)
    await (await scene.attempt()).drop()
    retry = await scene.told(RetryScheduled)
    demand(retry.code is None, f"{retry} where the transport broke")
    await scene.attach()
    await scene.told(Joined)
    await scene.finish()


async def _goes_by_the_answer_to_the_upgrade(harness: ClientHarness) -> None:
    scene = ClientScene(harness, token="old")  # noqa: S106 -- a name
    await scene.start()
    await (await scene.attempt()).refuse(503, retry_after=1)
    retry = await scene.told(RetryScheduled)
    demand(retry.code == "http_503" and retry.delay >= 1, f"{retry} after 503 and Retry-After 1")
    await (await scene.attempt()).refuse(401)
    needed = await scene.told(TokenNeeded)
    demand(needed.code == "auth_required", f"{needed} after 401")
    await scene.client.set_token("new")
    talker = await scene.accept()
    hello = await scene.welcome(talker)
    demand(hello.get("token") == "new", "the fresh token is not presented")
    await talker.peer.abort()
    await (await scene.attempt()).refuse(404)
    stopped = await scene.told(Stopped)
    demand(stopped.code == "http_404", f"{stopped} after 404")
    await scene.finish()


async def _goes_by_the_close_that_came(harness: ClientHarness) -> None:
    scene = ClientScene(harness)
    await scene.start()
    for code, name in ((1012, "close_1012"), (4000, "going_away"), (1013, "close_1013")):
        talker = await scene.attach(resumed=code != 1012)  # noqa: PLR2004 -- the first
        await talker.peer.close(code, "why")
        retry = await scene.told(RetryScheduled)
        demand(retry.code == name, f"{retry} after close {code}")
        end = await talker.end(passing=("pong",))
        demand(end.code is not None, f"{shown(end)} in answer to a close")
    for how in ("finish", "abort"):
        talker = await scene.attach(resumed=True)
        await (talker.peer.finish() if how == "finish" else talker.peer.abort())
        retry = await scene.told(RetryScheduled)
        demand(retry.code is None, f"{retry} after the end without a close")
    talker = await scene.attach(resumed=True)
    await talker.send("event", **numbered(1))
    await talker.peer.close(4505, "no such agent")
    stopped = await scene.told(Stopped)
    said = (stopped.code, stopped.message)
    demand(said == ("agent_not_found", "no such agent"), f"{said} after close 4505")
    await scene.take("`Joined`")
    await scene.take_event(1)
    await scene.finish()


async def _keeps_connections_apart(harness: ClientHarness) -> None:
    scene = ClientScene(harness, handshake_timeout=0.1)
    await scene.start()
    old = await scene.accept()
    await scene.told(RetryScheduled)
    late = (
        old.encode("hello_ok", **{**WELCOME, "session_id": "another"}),
        old.encode("event", **numbered(1, event_id="late")),
    )
    new = await scene.attach()
    await old.peer.write(b"".join(late))
    await harness.sleep(0.02)  # the old connection has nothing to wait for: it may say nothing
    await new.fence()
    await new.send("event", **numbered(1))
    await old.peer.abort()
    await new.send("event", **numbered(2))
    joined = await scene.take("`Joined`")
    demand(joined.token.session_id == SESSION, "an earlier connection's welcome was taken")
    for seq in (1, 2):
        item = await scene.take(f"event {seq}")
        mine = isinstance(item, EventReceived) and item.event.event_id == f"e{seq}"
        demand(mine, f"{item} in place of the living connection's event {seq}")
    await scene.finish()


# -- the end ----------------------------------------------------------------------------------


async def _connecting(scene: ClientScene) -> None:
    await scene.attempt()


async def _handshaking(scene: ClientScene) -> None:
    talker = await scene.accept()
    await talker.only("hello")


async def _live(scene: ClientScene) -> None:
    talker = await scene.attach()
    for seq in (1, 2, 3):
        await talker.send("event", **numbered(seq))
    await scene.take("`Joined`")


async def _waiting(scene: ClientScene) -> None:
    await (await scene.attempt()).refuse(503, retry_after=60)
    await scene.told(RetryScheduled)


async def _token_needed(scene: ClientScene) -> None:
    await (await scene.attempt()).refuse(401)
    await scene.told(TokenNeeded)


async def _stopped(scene: ClientScene) -> None:
    await (await scene.attempt()).refuse(404)
    await scene.told(Stopped)


async def _at_once(_: ClientScene) -> None:
    pass


_STATES: Final[tuple[Callable[[ClientScene], Awaitable[None]], ...]] = (
    _at_once,
    _connecting,
    _handshaking,
    _live,
    _waiting,
    _token_needed,
    _stopped,
)


async def _disconnects_in_every_state(harness: ClientHarness) -> None:
    for reach in _STATES:
        scene = ClientScene(harness)
        await scene.start()
        await reach(scene)
        await scene.finish()
        await scene.client.disconnect()
        await scene.client.ended()
        scene.judge()
        await _stays_ended(scene)


async def _cancelled_leaves_nothing(harness: ClientHarness) -> None:
    for reach in _STATES:
        scene = ClientScene(harness)
        await scene.start()
        await reach(scene)
        with awaiting("the end of a cancelled driver"):
            await scene.client.cancel()
        left = harness.left()
        demand(left == 0, f"{left} tasks, timers or transports are left behind")
        await _stays_ended(scene)


async def _stays_ended(scene: ClientScene) -> None:
    """No event comes after the end."""
    count = len(scene.events)
    await scene.harness.sleep(0.05)
    demand(len(scene.events) == count, f"{scene.events[count:]} after the end")


async def _says_goodbye(harness: ClientHarness) -> None:
    scene = ClientScene(harness)
    await scene.start()
    talker = await scene.attach()
    await scene.told(Joined)
    await scene.client.send("the last", "r")
    await scene.client.disconnect()
    await talker.only("message")
    await talker.only("leave")
    end = await talker.end()
    demand(end.code == 1000, f"{shown(end)} in place of close 1000")  # noqa: PLR2004 -- its code
    with awaiting("the end of the client"):
        await scene.client.ended()
    scene.judge()


async def _contains_what_callbacks_raise(harness: ClientHarness) -> None:
    scene = ClientScene(harness)
    scene.raises = lambda event: isinstance(event, EventReceived) and event.seq == 2  # noqa: PLR2004
    await scene.start()
    talker = await scene.attach()
    for seq in (1, 2, 3):
        await talker.send("event", **numbered(seq))
    await talker.end(passing=("leave",))
    raised = False
    try:
        for _ in range(4):
            await scene.take("what the callback raised")
    except HookError:
        raised = True
    demand(raised, "what the callback raised does not come out")
    await scene.finish()


CLIENT_CHECKS: Final[tuple[ClientCheck, ...]] = tuple(
    Check(body.__name__.removeprefix("_"), duty, body)
    for body, duty in (
        (_hands_on_in_order, "events are handed on in order, each once"),
        (_reads_bytes_cut_anywhere, "bytes cut anywhere, or in one piece, mean the same"),
        (_bounds_what_it_reads, "a message over `max_payload` ends the connection, not the client"),
        (_sends_in_order, "frames go out in the order of the actions, each once"),
        (_tells_what_was_taken, "`Taken` is given for what the application is done with"),
        (_reads_no_more_than_is_taken, "what nobody takes is left in the transport"),
        (_gives_up_who_never_welcomes, "the timer is armed for the handshake"),
        (_gives_up_the_silent, "a timer that found nothing to do is armed again"),
        (_counts_any_byte_as_life, "`Activity` is given for bytes that are no whole frame"),
        (
            _comes_back_when_nobody_answers,
            "a transport that cannot be opened is told, without a code",
        ),
        (
            _goes_by_the_answer_to_the_upgrade,
            "an HTTP status in place of the upgrade is told, with `Retry-After`",
        ),
        (
            _goes_by_the_close_that_came,
            "the code and the reason that were received are told, and no others",
        ),
        (_keeps_connections_apart, "what comes is given under its own connection's number"),
        (_disconnects_in_every_state, "`Disconnect` ends everything, in every state"),
        (_cancelled_leaves_nothing, "a cancelled driver leaves nothing running and nothing open"),
        (_says_goodbye, "`CloseTransport` sends what is owed, then closes with its code"),
        (_contains_what_callbacks_raise, "what a callback raises ends the client and comes out"),
    )
)
"""Every duty of a client's driver. Call each with a harness, or `check_client_driver` with it."""
