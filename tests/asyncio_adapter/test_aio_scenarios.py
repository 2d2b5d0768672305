"""The promise on real sockets, through a proxy with faults."""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from attrs import evolve
from gatewayproto_asyncio import ClientSession, SessionHandle, connect, monotonic, serve

from gatewayproto.actions import Joined, MessageReceived, ResumeToken, SubscriberLagged
from gatewayproto.backoff import Backoff
from gatewayproto.config import ClientConfig, GatewayConfig
from gatewayproto.gateway import Gateway
from tests.adapter.account import Account, Publisher
from tests.asyncio_adapter.aio_support import FaultProxy, Recorder, run, serving, until, within

FAST = ClientConfig(agent_id="a", backoff=Backoff(initial=0.01, maximum=0.05))
ROOMY = GatewayConfig(retain=100_000, retain_transient=100_000, retain_bytes=2**28)


async def follow(client: ClientSession, account: Account, head: int) -> None:
    """Take items until everything up to `head` is accounted for."""
    while account.cursor < head:
        account.take(await within(anext(client)))


def beginning(client: ClientSession) -> ResumeToken:
    """Where to follow a client's session from its first event."""
    assert client.resume_token is not None
    return evolve(client.resume_token, cursor=0)


@asynccontextmanager
async def following(
    proxy: FaultProxy,
) -> AsyncGenerator[tuple[ClientSession, Publisher, Account]]:
    async with connect(proxy.url, config=FAST) as client:
        joined = await within(anext(client))
        assert isinstance(joined, Joined)
        publisher = Publisher(joined.session_id)
        yield client, publisher, Account(publisher.published)


@pytest.mark.parametrize("seed", range(6))
def test_cuts_at_any_byte_lose_and_repeat_nothing(seed: int) -> None:
    rng = random.Random(seed)

    async def main() -> None:
        async with (
            serving(config=ROOMY) as server,
            FaultProxy(server.port) as proxy,
            following(proxy) as (client, publisher, account),
        ):
            for _ in range(25):
                proxy.cut_after(rng.randrange(1, 6000))
                for _ in range(rng.randrange(4)):
                    publisher.note(server, rng.randrange(1, 800))
                    publisher.run(server, rng.randrange(30))
                await follow(client, account, rng.randrange(account.cursor, publisher.head + 1))
            await follow(client, account, publisher.head)
            assert proxy.opened > 5
            assert account.snapshots == []
            assert account.delivered + account.skipped == publisher.head

    run(main)


def test_a_stall_holds_nobody_else_up_and_ends_in_skips() -> None:
    async def main() -> None:
        config = GatewayConfig(send_window=4096, retain=5000, retain_transient=10)
        async with (
            serving(config=config) as server,
            FaultProxy(server.port) as proxy,
            following(proxy) as (client, publisher, account),
        ):
            token = beginning(client)
            other_account = Account(publisher.published)
            async with connect(server.url, config=FAST, resume=token) as other:
                proxy.stall()
                for _ in range(200):
                    publisher.run(server, 20)
                    publisher.note(server, 40_000)
                    await follow(other, other_account, publisher.head)
                proxy.resume()
                await follow(client, account, publisher.head)
            assert other_account.delivered + other_account.skipped == publisher.head
            assert account.skipped > 0
            assert account.snapshots == []
            assert account.delivered + account.skipped == publisher.head

    run(main)


def test_a_journal_trimmed_past_a_stalled_subscriber_ends_in_one_snapshot() -> None:
    async def main() -> None:
        application = Recorder()
        config = GatewayConfig(send_window=4096, retain=5)
        async with (
            serving(application, config) as server,
            FaultProxy(server.port) as proxy,
            following(proxy) as (client, publisher, account),
        ):
            proxy.stall()
            while not application.of(SubscriberLagged):
                for _ in range(50):
                    publisher.note(server, 40_000)
                await asyncio.sleep(0)
                if publisher.head > 1000:
                    break
            proxy.resume()
            await follow(client, account, publisher.head)
            assert account.covered > 0
            assert set(account.snapshots) == {"lagged"}
            assert account.delivered + account.covered == publisher.head

    run(main)


def test_many_subscribers_each_at_its_own_pace() -> None:
    rng = random.Random(7)

    async def main() -> None:
        async with (
            serving(config=ROOMY) as server,
            FaultProxy(server.port) as proxy,
            following(proxy) as (first, publisher, account),
        ):
            for _ in range(50):
                publisher.note(server)

            async def one(url: str) -> None:
                own = Account(publisher.published)
                token = beginning(first)
                async with connect(url, config=FAST, resume=token, buffer=3) as client:
                    await follow(client, own, 300)
                assert own.delivered + own.skipped == 300

            async with asyncio.TaskGroup() as group:
                for n in range(12):
                    group.create_task(one(proxy.url if n % 2 else server.url))
                while publisher.head < 300:
                    publisher.note(server, rng.randrange(500))
                    if rng.randrange(40) == 0:
                        proxy.cut()
                    await asyncio.sleep(0)
            await follow(first, account, 300)

    run(main)


@pytest.mark.parametrize("unbroken", [True, False])
def test_a_restart_with_its_state_loses_and_repeats_nothing(unbroken: bool) -> None:
    async def main() -> None:
        async with (
            serving(config=ROOMY) as first,
            FaultProxy(first.port) as proxy,
            following(proxy) as (client, publisher, account),
        ):
            for _ in range(10):
                publisher.run(first, 10)
            await follow(client, account, 40)
            await first.close()
            publisher.note(first)  # the journal lives until it is saved
            gateway = Gateway.recover(ROOMY, first.save(), now=monotonic(), unbroken=unbroken)
            async with serve(Recorder(), port=0, config=ROOMY, gateway=gateway) as second:
                proxy.point_to(second.port)
                for _ in range(10):
                    publisher.run(second, 10)
                await follow(client, account, publisher.head)
                assert account.snapshots == ([] if unbroken else ["epoch_changed"])
                assert publisher.head == account.delivered + account.skipped + account.covered

    run(main)


def test_a_machine_restored_whole_goes_on_without_its_connections() -> None:
    async def main() -> None:
        async with (
            serving(config=ROOMY) as first,
            FaultProxy(first.port) as proxy,
            following(proxy) as (client, publisher, account),
        ):
            publisher.note(first)
            await follow(client, account, 1)
            state = first.save()  # while the client is connected
            gateway = Gateway.from_state(ROOMY, state, now=monotonic())
            async with serve(Recorder(), port=0, config=ROOMY, gateway=gateway) as second:
                proxy.point_to(second.port)
                publisher.note(second)
                proxy.cut()
                await follow(client, account, 2)
                assert account.snapshots == []

    run(main)


def test_a_server_that_forgot_everything_is_told_as_a_new_session() -> None:
    async def main() -> None:
        async with (
            serving() as first,
            serving() as second,
            FaultProxy(first.port) as proxy,
            following(proxy) as (client, publisher, account),
        ):
            publisher.note(first)
            await follow(client, account, 1)
            proxy.point_to(second.port)
            proxy.cut()
            account.take(await within(anext(client)))
            assert (account.joins, account.cursor) == (1, 0)

    run(main)


def test_clients_come_back_when_the_server_restarts_on_its_port() -> None:
    async def main() -> None:
        async with serving() as first:
            port = first.port
            clients = [connect(first.url, config=FAST) for _ in range(10)]
            tokens = []
            for client in clients:
                await client.__aenter__()
                tokens.append((await within(anext(client))).token)
            state = None
            await first.close()
            state = first.save()
        gateway = Gateway.recover(GatewayConfig(), state, now=monotonic(), unbroken=True)
        async with serve(Recorder(), port=port, gateway=gateway) as second:
            for client, token in zip(clients, tokens, strict=True):
                second.session(token.session_id).publish("note", {})
                assert (await within(anext(client))).token.cursor == 1
            for client in clients:
                await client.aclose()
            await until(lambda: second.connections == 0)

    run(main)


def test_a_message_that_was_not_done_comes_again_after_a_restart() -> None:
    async def main() -> None:
        async def never(_: SessionHandle, __: MessageReceived) -> None:
            await asyncio.Event().wait()

        application = Recorder(never)
        async with serving(application) as first:
            async with connect(first.url, config=FAST) as client:
                for text in ("one", "two"):
                    await within(client.send(text))
            await first.close()
            state = first.save()
        assert [each.content for each in application.messages] == ["one"]
        gateway = Gateway.recover(GatewayConfig(), state, now=monotonic(), unbroken=True)
        again = Recorder()
        async with serving(again, gateway=gateway):
            await until(lambda: len(again.messages) == 2)
            assert [each.content for each in again.messages] == ["one", "two"]
            await until(lambda: not gateway.pending(again.messages[0].session_id))

    run(main)
