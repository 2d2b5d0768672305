"""`connect` on trio: what its users await, cancel and are told, in virtual time."""

import random
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from gatewayproto_trio import (
    ClientSession,
    ClientStoppedError,
    MessageRefusedError,
    Rejected,
    Server,
    SessionHandle,
    connect,
    serve,
)

from gatewayproto import ClientConfig, GatewayConfig, LocalProtocolError
from gatewayproto.actions import (
    ClientEvent,
    EventReceived,
    Joined,
    JoinRequested,
    MessageReceived,
    RetryScheduled,
    SnapshotReceived,
)
from gatewayproto.backoff import Backoff
from gatewayproto.errors import ErrorCode
from gatewayproto.frames import Event
from tests.trio_adapter.trio_support import Recorder, run, until, within


async def echo(session: SessionHandle, message: MessageReceived) -> None:
    session.publish("answer", {"content": message.content})


class Retries(list[RetryScheduled]):
    """What the client said it would try again, and the times."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def __call__(self, event: ClientEvent) -> None:
        if isinstance(event, RetryScheduled):
            self.append(event)
            self.times.append(trio.current_time())


def test_it_comes_back_as_late_as_it_said() -> None:
    """Nobody listens for an hour; then somebody does."""

    async def main() -> None:
        async with serve(Recorder(), port=0) as former:
            port = former.port
        retries = Retries()
        config = ClientConfig(agent_id="a", backoff=Backoff(initial=1, maximum=60))
        async with connect(
            f"ws://127.0.0.1:{port}/ws", config=config, on_event=retries, rng=random.Random(1)
        ) as client:
            await trio.sleep(3600)
            assert client.state == "reconnecting"
            assert len(retries) > 60
            for retry, at, after in zip(retries, retries.times, retries.times[1:], strict=False):
                assert after - at == pytest.approx(retry.delay, abs=0.01)
            async with serve(Recorder(), port=port):
                with trio.fail_after(61):
                    assert isinstance(await anext(client), Joined)

    run(main)


def test_a_cancelled_wait_for_an_item_loses_none() -> None:
    async def main() -> None:
        async with (
            serve(Recorder(), port=0) as server,
            connect(server.url, agent_id="a") as client,
        ):
            joined = await within(anext(client))
            session = server.session(joined.token.session_id)
            seqs: list[int] = []
            for n in range(30):
                session.publish("note", {"n": n})
                for turns in range(6):
                    with trio.CancelScope() as scope:
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(_cancel_after, scope, turns)
                            item = await anext(client)
                            assert isinstance(item, EventReceived)
                            seqs.append(item.seq)
                            nursery.cancel_scope.cancel()
            while len(seqs) < 30:
                item = await within(anext(client))
                assert isinstance(item, EventReceived)
                seqs.append(item.seq)
            assert seqs == list(range(1, 31))

    run(main)


async def _cancel_after(scope: trio.CancelScope, turns: int) -> None:
    for _ in range(turns):
        await trio.lowlevel.checkpoint()
    scope.cancel()


def test_only_one_task_iterates() -> None:
    async def main() -> None:
        async with (
            serve(Recorder(), port=0) as server,
            connect(server.url, agent_id="a") as client,
            trio.open_nursery() as nursery,
        ):
            await within(anext(client))
            nursery.start_soon(anext, client)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(RuntimeError, match="another task"):
                await anext(client)
            nursery.cancel_scope.cancel()

    run(main)


def test_iteration_ends_once_what_was_buffered_is_taken() -> None:
    async def main() -> None:
        async with (
            serve(Recorder(), port=0) as server,
            connect(server.url, agent_id="a") as client,
        ):
            joined = await within(anext(client))
            for n in range(5):
                server.publish(joined.token.session_id, _note(n))
            await trio.sleep(1)
            await client.aclose()
            assert len([item async for item in client]) == 5
            with pytest.raises(ClientStoppedError) as caught:
                await client.send("too late")
            assert caught.value.code == "disconnected"

    run(main)


def _note(n: int) -> Event:
    return Event(type="note", data={"n": n}, event_id=f"e{n}", timestamp=0.0)


def test_sending_while_working_on_an_item_does_not_wait_for_what_lies_behind_it() -> None:
    async def main() -> None:
        async with (
            serve(Recorder(echo), port=0) as server,
            connect(server.url, agent_id="a", buffer=1) as client,
        ):
            joined = await within(anext(client))
            for n in range(100):
                server.publish(joined.token.session_id, _note(n))
            await within(anext(client))
            accepted = await within(client.send("now", request_id="r"))
            assert (accepted.request_id, accepted.duplicate) == ("r", False)
            seqs = [(await within(anext(client))).token.cursor for _ in range(100)]
            assert seqs == list(range(2, 102))

    run(main)


def test_cancelling_a_send_gives_up_the_wait_alone() -> None:
    async def main() -> None:
        application = Recorder(echo)
        async with (
            serve(application, port=0) as server,
            connect(server.url, agent_id="a") as client,
        ):
            await within(anext(client))
            with trio.CancelScope() as scope:
                scope.cancel()
                await client.send("all the same", request_id="r")
            assert scope.cancelled_caught
            await until(lambda: application.messages)
            item = await within(anext(client))
            assert isinstance(item, EventReceived)
            assert item.event.data == {"content": "all the same"}
            with pytest.raises(MessageRefusedError) as caught:
                await within(client.send("something else", request_id="r"))
            assert caught.value.code == "request_conflict"

    run(main)


def test_a_mistake_in_a_message_changes_nothing() -> None:
    async def main() -> None:
        async with (
            serve(Recorder(echo), port=0) as server,
            connect(server.url, agent_id="a") as client,
        ):
            with pytest.raises(LocalProtocolError):
                await client.send({"no": {1, 2}})
            assert not (await within(client.send("fine"))).duplicate

    run(main)


def test_resync_gives_a_snapshot_and_abort_and_tokens_are_taken() -> None:
    async def main() -> None:
        async with (
            serve(Recorder(), port=0) as server,
            connect(server.url, agent_id="a") as client,
        ):
            await within(anext(client))
            await client.abort(run_id="none")
            await client.set_token("another")
            await client.resync()
            assert isinstance(await within(anext(client)), SnapshotReceived)

    run(main)


class Strict(Recorder):
    """Wants a token, in time."""

    async def authenticate(self, join: JoinRequested) -> str | None:
        if join.token != "good":
            raise Rejected(ErrorCode.AUTH_EXPIRED)
        return join.token


def test_a_source_of_tokens_is_asked_until_one_is_good() -> None:
    async def main() -> None:
        tokens = iter(("bad", "good"))

        async def get_token() -> str:
            await trio.sleep(5)
            return next(tokens)

        async with (
            serve(Strict(), port=0) as server,
            connect(server.url, agent_id="a", get_token=get_token) as client,
        ):
            assert isinstance(await within(anext(client)), Joined)
            assert trio.current_time() >= 10

    run(main)


async def _a_while(_: ClientSession) -> None:
    await trio.sleep(10)


@pytest.mark.parametrize("wait", [anext, _a_while], ids=["iterating", "leaving"])
def test_what_a_source_of_tokens_raises_comes_out(
    wait: Callable[[ClientSession], Awaitable[object]],
) -> None:
    async def get_token() -> str:
        await trio.sleep(1)
        raise LookupError("no token")

    async def main() -> None:
        async with (
            serve(Strict(), port=0) as server,
            connect(server.url, agent_id="a", get_token=get_token) as client,
        ):
            await within(wait(client))

    with pytest.raises(LookupError, match="no token"):
        run(main)


def test_a_source_of_tokens_is_not_waited_for_at_the_end() -> None:
    async def main() -> None:
        async with serve(Strict(), port=0) as server:
            async with connect(server.url, agent_id="a", get_token=trio.sleep_forever) as client:
                await until(lambda: client.state == "reconnecting")
                await trio.sleep(1)
            assert client.state == "disconnected"

    run(main)


def test_without_a_source_of_tokens_the_client_stops_with_the_code() -> None:
    async def main() -> None:
        async with (
            serve(Strict(), port=0) as server,
            connect(server.url, agent_id="a", token="bad") as client,
        ):
            with pytest.raises(ClientStoppedError) as caught:
                await within(anext(client))
            assert caught.value.code == "auth_expired"

    run(main)


async def _iterate(client: ClientSession, server: Server) -> None:
    joined = await anext(client)
    server.session(joined.token.session_id).publish("note", {})
    await anext(client)
    await anext(client)


async def _send(client: ClientSession, _: Server) -> None:
    await client.send("hi")
    await client.send("again")


async def _leave(client: ClientSession, _: Server) -> None:
    await anext(client)
    await client.aclose()


async def _resync(client: ClientSession, _: Server) -> None:
    await anext(client)
    await client.resync()
    await anext(client)


@pytest.mark.parametrize("body", [_iterate, _send, _leave, _resync])
def test_cancelling_anywhere_leaves_nothing_behind(
    body: Callable[[ClientSession, Server], Awaitable[None]],
) -> None:
    async def main() -> None:
        async with serve(Recorder(echo), port=0) as server:

            async def whole(scope: trio.CancelScope) -> None:
                with scope:
                    async with connect(server.url, agent_id="a", close_timeout=0.2) as client:
                        await body(client, server)

            for turns in range(100):
                async with trio.open_nursery() as nursery:
                    scope = trio.CancelScope()
                    nursery.start_soon(whole, scope)
                    nursery.start_soon(_cancel_after, scope, turns)
                # The nursery is left, so every task has ended.
            await until(lambda: server.connections == 0)

    run(main)


def test_a_stalled_application_slows_the_server_and_loses_nothing() -> None:
    async def main() -> None:
        count = 400
        config = GatewayConfig(retain_bytes=64 * 2**20)
        async with (
            serve(Recorder(), port=0, config=config) as server,
            connect(server.url, agent_id="a", buffer=4, buffer_bytes=100_000) as client,
        ):
            joined = await within(anext(client))
            for n in range(count):
                server.session(joined.token.session_id).publish(
                    "note", {"n": n, "text": "x" * 20_000}
                )
            for seq in range(1, count + 1):
                if seq % 100 == 0:
                    await trio.sleep(20)  # pings are answered meanwhile, whatever waits
                item = await within(anext(client))
                assert isinstance(item, EventReceived)
                assert item.seq == seq

    run(main)
