"""The client on real sockets, against the server of the same adapter."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import uvloop
from gatewayproto_asyncio import (
    Application,
    ClientSession,
    ClientStoppedError,
    MessageRefusedError,
    OutcomeUnknownError,
    Rejected,
    Server,
    SessionHandle,
    connect,
    serve,
)

from gatewayproto.actions import (
    ClientEvent,
    EventReceived,
    Joined,
    JoinRequested,
    MessageReceived,
    ResumeToken,
    RetryScheduled,
    SnapshotReceived,
    StateChanged,
    Stopped,
    SubscriberLeft,
)
from gatewayproto.backoff import Backoff
from gatewayproto.config import ClientConfig, GatewayConfig
from gatewayproto.errors import ErrorCode
from tests.adapter.account import Account, Publisher
from tests.asyncio_adapter.aio_support import FaultProxy, Recorder, run, serving, until, within

FAST = ClientConfig(agent_id="a", backoff=Backoff(initial=0.01, maximum=0.05))


async def echo(session: SessionHandle, received: MessageReceived) -> None:
    session.publish("response", {"text": received.content}, request_id=received.request_id)


async def take(client: ClientSession) -> Any:
    return await within(anext(client))


async def join(client: ClientSession, server: Server) -> SessionHandle:
    joined = await take(client)
    assert isinstance(joined, Joined)
    return server.session(joined.session_id)


# -- following --------------------------------------------------------------------------------


def test_a_new_session_is_told_and_events_follow_each_with_its_token() -> None:
    async def main() -> None:
        seen: list[ClientEvent] = []
        states: list[str] = []
        async with serving(Recorder(echo)) as server:
            async with connect(
                server.url, agent_id="a", on_event=seen.append, on_state=states.append
            ) as client:
                tokens = [client.resume_token]
                joined = await take(client)
                assert isinstance(joined, Joined)
                accepted = await within(client.send("hi"))
                assert accepted.duplicate is False
                item = await take(client)
                assert isinstance(item, EventReceived)
                assert (item.seq, item.event.data) == (1, {"text": "hi"})
                assert item.event.request_id == accepted.request_id
                tokens.append(client.resume_token)
                assert tokens == [None, item.token]
                assert item.token == ResumeToken(
                    session_id=joined.session_id, epoch=joined.epoch, cursor=1
                )
            assert states == ["connecting", "connected", "disconnected"]
            assert [each.state for each in seen if isinstance(each, StateChanged)] == states
            assert isinstance(seen[-1], Stopped)
            assert seen[-1].code == "disconnected"
            with pytest.raises(StopAsyncIteration):
                await take(client)
            with pytest.raises(ClientStoppedError):
                await client.send("late")

    run(main)


def test_a_stored_token_goes_on_where_it_was_stored() -> None:
    async def main() -> None:
        async with serving() as server:
            async with connect(server.url, agent_id="a") as client:
                session = await join(client, server)
                for n in range(4):
                    session.publish("note", {"n": n})
                assert [(await take(client)).seq for _ in range(2)] == [1, 2]
                token = client.resume_token
            async with connect(server.url, agent_id="a", resume=token) as client:
                assert client.resume_token == token
                assert [(await take(client)).seq for _ in range(2)] == [3, 4]

    run(main)


def test_a_lost_session_is_told_before_anything_of_the_new_one() -> None:
    async def main() -> None:
        async with serving() as server:
            token = ResumeToken(session_id="gone", epoch="e", cursor=7)
            async with connect(server.url, agent_id="a", resume=token) as client:
                joined = await take(client)
                assert isinstance(joined, Joined)
                assert (joined.resumed, joined.token.cursor) == (False, 0)
                assert client.resume_token == joined.token

    run(main)


def test_resync_gives_a_snapshot() -> None:
    async def main() -> None:
        async with serving() as server, connect(server.url, agent_id="a") as client:
            session = await join(client, server)
            session.publish("note", {})
            await take(client)
            await client.resync()
            snapshot = await take(client)
            assert isinstance(snapshot, SnapshotReceived)
            assert (snapshot.cursor, snapshot.reason) == (1, "requested")

    run(main)


def test_iteration_ends_once_what_was_buffered_is_taken() -> None:
    async def main() -> None:
        arrived: list[ClientEvent] = []
        async with (
            serving() as server,
            connect(server.url, agent_id="a", on_event=arrived.append) as client,
        ):
            session = await join(client, server)
            for n in range(3):
                session.publish("note", {"n": n})
            await until(lambda: sum(isinstance(e, EventReceived) for e in arrived) == 3)
            await client.aclose()
            await client.aclose()
            assert [item.token.cursor async for item in client] == [1, 2, 3]

    run(main)


def test_only_one_task_iterates() -> None:
    async def main() -> None:
        async with serving() as server, connect(server.url, agent_id="a") as client:
            await join(client, server)
            first = asyncio.ensure_future(anext(client))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another task"):
                await anext(client)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first

    run(main)


# -- sending ----------------------------------------------------------------------------------


def test_a_refusal_is_raised() -> None:
    async def main() -> None:
        async with serving() as server, connect(server.url, agent_id="a") as client:
            with pytest.raises(MessageRefusedError) as refused:
                await within(client.send("hm", reply_to="no such event"))
            assert refused.value.code == "invalid_request"
            assert refused.value.event.code == "invalid_request"

    run(main)


def test_a_message_is_taken_once_over_a_cut_before_its_acknowledgement() -> None:
    async def main() -> None:
        application = Recorder(echo)

        def taken(count: int) -> bool:
            return len(application.messages) == count

        async with (
            serving(application) as server,
            FaultProxy(server.port) as proxy,
            connect(proxy.url, config=FAST) as client,
        ):
            await join(client, server)
            for n in range(10):
                proxy.stall_down()
                sending = asyncio.create_task(client.send(f"m{n}"))
                await until(partial(taken, n + 1))
                proxy.cut()
                proxy.resume()
                assert (await within(sending)).duplicate is True
            assert [each.content for each in application.messages] == [f"m{n}" for n in range(10)]
            assert [(await take(client)).event.data["text"] for _ in range(10)] == [
                f"m{n}" for n in range(10)
            ]

    run(main)


def test_messages_sent_while_away_go_out_in_order_once_there_is_a_session() -> None:
    async def main() -> None:
        application = Recorder()
        async with serving(application) as server, FaultProxy(server.port) as proxy:
            proxy.stall()
            async with connect(proxy.url, config=FAST) as client:
                sending = [asyncio.create_task(client.send(f"m{n}")) for n in range(5)]
                await until(lambda: proxy.opened)
                proxy.resume()
                for each in sending:
                    assert (await within(each)).duplicate is False
            assert [each.content for each in application.messages] == [f"m{n}" for n in range(5)]

    run(main)


def test_a_message_that_may_have_reached_a_lost_session_is_outcome_unknown() -> None:
    async def main() -> None:
        application = Recorder()
        async with (
            serving(application) as first,
            serving() as second,
            FaultProxy(first.port) as proxy,
            connect(proxy.url, config=FAST) as client,
        ):
            await join(client, first)
            proxy.stall_down()
            sending = asyncio.create_task(client.send("m"))
            await until(lambda: application.messages)
            proxy.point_to(second.port)
            proxy.cut()
            proxy.resume()
            with pytest.raises(OutcomeUnknownError) as unknown:
                await within(sending)
            assert unknown.value.event.request_id

    run(main)


def test_cancelling_a_send_gives_up_the_wait_alone() -> None:
    async def main() -> None:
        application = Recorder()
        async with serving(application) as server, FaultProxy(server.port) as proxy:
            proxy.stall()
            async with connect(proxy.url, config=FAST) as client:
                sending = asyncio.create_task(client.send("m"))
                await asyncio.sleep(0)
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending
                proxy.resume()
                await until(lambda: application.messages)

    run(main)


def test_a_send_that_waits_ends_when_the_client_does() -> None:
    async def main() -> None:
        async with serving() as server, FaultProxy(server.port) as proxy:
            proxy.stall()
            async with connect(proxy.url, config=FAST) as client:
                sending = asyncio.create_task(client.send("m"))
                await until(lambda: proxy.opened)
            with pytest.raises((ClientStoppedError, OutcomeUnknownError, MessageRefusedError)):
                await within(sending)

    run(main)


def test_sending_while_working_on_an_item_does_not_wait_for_what_lies_behind_it() -> None:
    async def main() -> None:
        async with (
            serving(Recorder(), GatewayConfig(max_pending_requests=1000)) as server,
            connect(server.url, agent_id="a", buffer=2) as client,
        ):
            session = await join(client, server)
            for n in range(200):
                session.publish("note", {"n": n})
            seqs = []
            for _ in range(200):
                item = await take(client)
                seqs.append(item.seq)
                await within(client.send(f"done with {item.seq}"))
            assert seqs == list(range(1, 201))

    run(main)


# -- a slow application -----------------------------------------------------------------------


def test_a_slow_application_slows_the_socket_and_loses_nothing() -> None:
    count, size = 6000, 10_000

    async def main() -> None:
        application = Recorder()
        config = GatewayConfig(
            retain=count, retain_bytes=128 * 2**20, stall_timeout=0.3, max_lags=1
        )
        async with (
            serving(application, config, close_timeout=0.1) as server,
            FaultProxy(server.port) as proxy,
            connect(proxy.url, config=FAST, buffer=16) as client,
        ):
            publisher = Publisher((await join(client, server)).session_id)
            account = Account(publisher.published)
            for _ in range(count):
                publisher.note(server, size)
            # For so long nothing moved that the server gave the client up. The rest of what had
            # left the server is in the buffers of the sockets, which the system bounds.
            await until(lambda: application.of(SubscriberLeft))
            assert proxy.passed < count * size / 3
            while account.cursor < count:
                account.take(await take(client))
            assert account.delivered == count
            assert account.snapshots == []

    run(main, timeout=60)


def test_a_slow_application_is_no_silent_server() -> None:
    async def main() -> None:
        seen: list[ClientEvent] = []
        pings: list[None] = []
        async with (
            serving(config=GatewayConfig(heartbeat=0.05)) as server,
            connect(server.url, config=FAST, buffer=1, on_event=seen.append) as client,
        ):
            session = await join(client, server)
            session.publish("note", {"n": 0})
            session.publish("note", {"n": 1})
            await until(lambda: any(isinstance(each, EventReceived) for each in seen))
            # A good many heartbeats go by while nothing is read.
            loop = asyncio.get_running_loop()
            for n in range(10):
                loop.call_later(0.05 * (n + 1), pings.append, None)
            await until(lambda: len(pings) == 10)
            assert [(await take(client)).seq for _ in range(2)] == [1, 2]
            assert not [each for each in seen if isinstance(each, RetryScheduled)]

    run(main)


# -- ends -------------------------------------------------------------------------------------


class Doorman(Application):
    def __init__(self, *good: str) -> None:
        self.good = good

    async def authenticate(self, join: JoinRequested) -> str | None:
        if join.token not in self.good:
            raise Rejected(ErrorCode.AUTH_EXPIRED, "too old")
        return join.token


def test_what_may_not_be_retried_ends_the_iteration_with_its_code() -> None:
    class Nobody(Application):
        async def authenticate(self, join: JoinRequested) -> str | None:
            raise Rejected(ErrorCode.AGENT_NOT_FOUND, f"no {join.agent_id}")

    async def main() -> None:
        async with serving(Nobody()) as server, connect(server.url, agent_id="x") as client:
            sending = asyncio.create_task(client.send("m"))
            for _ in range(2):
                with pytest.raises(ClientStoppedError) as stopped:
                    await take(client)
                assert (stopped.value.code, stopped.value.message) == ("agent_not_found", "no x")
            with pytest.raises((ClientStoppedError, MessageRefusedError)):
                await within(sending)
            with pytest.raises(ClientStoppedError):
                await client.send("m")

    run(main)


def test_without_a_source_of_tokens_the_client_stops_with_the_code() -> None:
    async def main() -> None:
        seen: list[ClientEvent] = []
        async with (
            serving(Doorman("good")) as server,
            connect(server.url, agent_id="a", on_event=seen.append) as client,
        ):
            with pytest.raises(ClientStoppedError) as stopped:
                await take(client)
            assert stopped.value.code == "auth_expired"
            assert [each.code for each in seen if isinstance(each, Stopped)] == ["auth_expired"]

    run(main)


def test_a_source_of_tokens_is_asked_until_one_is_good() -> None:
    async def main() -> None:
        tokens = ["older", "good"]

        async def get_token() -> str:
            return tokens.pop(0)

        async with (
            serving(Doorman("good")) as server,
            connect(
                server.url,
                config=FAST,
                token="old",
                get_token=get_token,
            ) as client,
        ):
            assert isinstance(await take(client), Joined)
            assert tokens == []

    run(main)


@pytest.mark.parametrize("status", [404, 403])
def test_an_http_refusal_ends_the_client(status: int) -> None:
    async def main() -> None:
        async with serving() as server:
            path = "/other" if status == 404 else "/ws"
            headers = (("Origin", "https://evil.example"),)
            url = f"ws://127.0.0.1:{server.port}{path}"
            async with connect(url, agent_id="a", headers=headers) as client:
                with pytest.raises(ClientStoppedError):
                    await take(client)

    run(main)


def test_a_server_that_is_not_there_is_tried_again() -> None:
    async def main() -> None:
        retries: list[RetryScheduled] = []

        def note(event: ClientEvent) -> None:
            if isinstance(event, RetryScheduled):
                retries.append(event)

        async with serving() as server:
            port = server.port
        async with connect(f"ws://127.0.0.1:{port}/ws", config=FAST, on_event=note) as client:
            await until(lambda: len(retries) >= 2)
            async with serve(Recorder(), port=port):
                assert isinstance(await take(client), Joined)

    run(main)


@pytest.mark.parametrize("hook", ["on_event", "on_state", "get_token"])
def test_what_a_callback_raises_comes_out_of_the_iteration(hook: str) -> None:
    async def main() -> None:
        failed = asyncio.Event()

        def fail(*_: object) -> Any:
            failed.set()
            raise KeyError("mine")

        async def fail_to_get() -> str:
            fail()
            return ""

        options: dict[str, Any] = {hook: fail_to_get if hook == "get_token" else fail}
        async with serving(Doorman("good")) as server:
            with pytest.raises(KeyError, match="mine"):
                async with connect(server.url, agent_id="a", **options) as client:
                    await take(client)
            failed.clear()
            with pytest.raises(KeyError, match="mine"):
                async with connect(server.url, agent_id="a", **options):
                    await within(failed.wait())

    run(main)


@pytest.mark.parametrize(
    "options",
    [
        {"url": "http://127.0.0.1/"},
        {"headers": [("Host", "x")]},
        {"agent_id": None},
        {"agent_id": ""},
        {"buffer": 0},
        {"buffer_bytes": 0},
    ],
)
def test_mistakes_are_told_at_once(options: dict[str, Any]) -> None:
    everything: dict[str, Any] = {"url": "ws://127.0.0.1:1/", "agent_id": "a", **options}
    with pytest.raises(ValueError, match=r"."):
        connect(**everything)


# -- cancellation -----------------------------------------------------------------------------


async def _iterate(client: ClientSession, _: Server) -> None:
    async for _item in client:
        pass


async def _send(client: ClientSession, _: Server) -> None:
    for n in range(5):
        await client.send(f"m{n}")


async def _leave(client: ClientSession, _: Server) -> None:
    await anext(client)
    await client.aclose()


async def _resync(client: ClientSession, _: Server) -> None:
    await anext(client)
    await client.resync()
    await anext(client)


@pytest.mark.parametrize(
    "new_loop",
    [None, pytest.param(uvloop.new_event_loop, marks=pytest.mark.deep)],
    ids=["asyncio", "uvloop"],
)
@pytest.mark.parametrize("body", [_iterate, _send, _leave, _resync])
def test_cancelling_anywhere_leaves_nothing_behind(
    body: Callable[[ClientSession, Server], Awaitable[None]],
    new_loop: Callable[[], asyncio.AbstractEventLoop] | None,
) -> None:
    async def main() -> None:
        async with serving(Recorder(echo)) as server:

            async def whole() -> None:
                async with connect(server.url, agent_id="a", close_timeout=0.2) as client:
                    await body(client, server)

            for turns in range(120):
                task = asyncio.create_task(whole())
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled() or task.exception() is None
                names = {each.get_name() for each in asyncio.all_tasks() if each is not task}
                assert not [name for name in names if name.startswith("gatewayproto connect")]
            await until(lambda: server.connections == 0)

    run(main, new_loop=new_loop)


def test_a_cancelled_wait_for_an_item_loses_none() -> None:
    async def main() -> None:
        rng = random.Random(1)
        async with serving() as server, connect(server.url, agent_id="a") as client:
            session = await join(client, server)
            seqs: list[int] = []
            for n in range(300):
                session.publish("note", {"n": n})
                task = asyncio.ensure_future(anext(client))
                for _ in range(rng.randrange(12)):
                    await asyncio.sleep(0)
                task.cancel()
                try:
                    item = await task
                except asyncio.CancelledError:
                    continue
                assert isinstance(item, EventReceived)
                seqs.append(item.seq)
            while len(seqs) < 300:
                seqs.append((await take(client)).seq)
            assert seqs == list(range(1, 301))

    run(main)
