"""A server with a store: nothing leaves it that is not stored, and a successor goes on with it."""

import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from gatewayproto_adapter.application import SessionHandle

from gatewayproto import ClientConfig, Gateway, GatewayConfig
from gatewayproto.actions import (
    ClientEvent,
    EventReceived,
    GatewayEvent,
    Joined,
    MessageReceived,
    Persist,
    RetryScheduled,
    SubscriberLeft,
)
from gatewayproto.backoff import Backoff
from tests.adapter.frameworks import FRAMEWORKS, Echo, Framework, patience, until

CONFIG = GatewayConfig(write_ahead=True)
FAST = ClientConfig(agent_id="demo", backoff=Backoff(initial=0.01, maximum=0.02))
pytestmark = pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)


class Disk:
    """A store. It stores when it may, and fails when it is told to."""

    def __init__(self) -> None:
        self.records: list[str] = []
        self.batches: list[tuple[Persist, ...]] = []
        self.may: anyio.Event | None = None
        self.fails: Exception | None = None
        self.cancelled = False
        self.at_work = False

    async def persist(self, batch: Sequence[Persist]) -> None:
        assert not self.at_work, "one batch at a time"
        self.batches.append(tuple(batch))
        self.at_work = True
        try:
            await anyio.lowlevel.checkpoint()
            if self.may is not None:
                await self.may.wait()
        except BaseException:
            self.cancelled = True
            raise
        finally:
            self.at_work = False
        if self.fails is not None:
            raise self.fails
        self.records += [json.dumps([each.session_id, each.number, each.record]) for each in batch]

    def __iter__(self) -> Iterator[tuple[str, int, Any]]:
        for record in self.records:
            session_id, number, kept = json.loads(record)
            yield session_id, number, kept

    @property
    def kinds(self) -> list[str]:
        return [record["kind"] for _, _, record in self]


def recovered(framework: Framework, disk: Disk) -> Gateway:
    return Gateway.recover_stored(CONFIG, disk, now=framework.adapter.monotonic(), unbroken=True)


async def welcome(client: Any) -> Joined:
    with patience():
        joined = await anext(client)
    assert isinstance(joined, Joined)
    return joined


def test_a_successor_goes_on_with_what_is_stored(framework: Framework) -> None:
    async def main() -> None:
        adapter, disk = framework.adapter, Disk()
        contents: list[str] = []

        async def take(client: Any, count: int) -> None:
            with patience():
                while len(contents) < count:
                    item = await anext(client)
                    if isinstance(item, EventReceived):
                        assert item.seq == len(contents) + 1
                        contents.append(item.event.data["content"])

        async with adapter.serve(Echo(), port=0, config=CONFIG, store=disk) as server:
            client = adapter.connect(server.url, config=FAST)
            async with client:
                await welcome(client)
                with patience():
                    for n in range(20):
                        await client.send(f"before {n}")
                await take(client, 20)
                await server.close()
                # The machine is forgotten, as in a crash; the configuration is the gateway's.
                gateway = recovered(framework, disk)
                async with adapter.serve(Echo(), port=server.port, gateway=gateway, store=disk):
                    with patience():
                        await client.send("after")
                    await take(client, 21)
                    await client.aclose()
        assert contents == [*(f"before {n}" for n in range(20)), "after"]
        assert disk.kinds.count("opened") == 1

    framework.run(main)


def test_what_comes_meanwhile_is_one_batch(framework: Framework) -> None:
    async def main() -> None:
        adapter, disk = framework.adapter, Disk()
        async with (
            adapter.serve(Echo(), port=0, config=CONFIG, store=disk) as server,
            adapter.connect(server.url, config=FAST) as client,
        ):
            session = server.session((await welcome(client)).token.session_id)
            disk.may = anyio.Event()
            before = len(disk.batches)
            session.publish("note", {"n": 0})
            await until(lambda: len(disk.batches) > before)
            for n in range(1, 50):
                session.publish("note", {"n": n})
            held, disk.may = disk.may, None
            held.set()
            with patience():
                for n in range(50):
                    item = await anext(client)
                    assert (item.seq, item.event.data) == (n + 1, {"n": n})
            assert list(map(len, disk.batches[before:])) == [1, 49]

    framework.run(main)


def test_a_message_that_was_not_done_comes_again_after_a_crash(framework: Framework) -> None:
    class Slow(Echo):
        async def on_message(self, session: SessionHandle, message: MessageReceived) -> None:
            assert (message.content, bool(session.session_id)) == ("think", True)
            await anyio.sleep_forever()

    async def main() -> None:
        adapter, disk, again = framework.adapter, Disk(), Echo()
        async with adapter.serve(Slow(), port=0, config=CONFIG, store=disk) as server:
            client = adapter.connect(server.url, config=FAST)
            async with client:
                with patience():
                    await client.send("think")
                await server.close()
                gateway = recovered(framework, disk)
                async with adapter.serve(again, port=server.port, gateway=gateway, store=disk):
                    with patience():
                        async for item in client:
                            if isinstance(item, EventReceived):
                                assert item.event.data == {"content": "think"}
                                break
                    await client.aclose()
        assert disk.kinds.count("message") == disk.kinds.count("complete") == 1

    framework.run(main)


def test_to_close_waits_for_the_store(framework: Framework) -> None:
    async def main() -> None:
        adapter, disk = framework.adapter, Disk()
        closed: list[bool] = []

        async def close() -> None:
            await server.close()
            closed.append(True)

        async with adapter.serve(Echo(), port=0, config=CONFIG, store=disk) as server:
            async with adapter.connect(server.url, config=FAST) as client:
                session = server.session((await welcome(client)).token.session_id)
            disk.may = anyio.Event()
            stored = len(disk.records)
            assert session.publish("note", {"n": 1}) == 1
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(close)
                await until(lambda: server.connections == 0)
                assert session.publish("note", {"n": 2}) == 2  # it is not too late yet
                assert not closed
                disk.may.set()
            assert len(disk.records) == stored + 2
            with pytest.raises(RuntimeError, match="stored any more"):
                session.publish("note", {"n": 3})
        assert not disk.cancelled

    framework.run(main)


def test_a_store_that_fails_ends_the_server(
    framework: Framework, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        adapter, disk, codes = framework.adapter, Disk(), []

        def on_event(event: ClientEvent) -> None:
            if isinstance(event, RetryScheduled):
                codes.append(event.code)

        async def serve() -> None:
            async with (
                adapter.serve(Echo(), port=0, config=CONFIG, store=disk) as server,
                adapter.connect(server.url, config=FAST, on_event=on_event) as client,
            ):
                session_id = (await welcome(client)).token.session_id
                stored = list(disk.records)
                disk.fails = OSError("the disk is full")
                server.session(session_id).publish("note", {"n": 1})
                with patience(), pytest.raises(OSError, match="the disk is full"):
                    await server.wait_closed()
                await until(lambda: codes)
                assert codes[0] == "internal_error"
                assert disk.records == stored
                with pytest.raises(RuntimeError, match="stored any more"):
                    server.close_session(session_id)
                with pytest.raises(OSError, match="the disk is full"):
                    await server.close()

        with pytest.raises(OSError, match="the disk is full"):
            await serve()

    with caplog.at_level(logging.ERROR, "gatewayproto"):
        framework.run(main)
    (record,) = (each for each in caplog.records if each.message == "the store failed")
    assert record.exc_info is not None


def test_nothing_is_stored_behind_what_was_not(framework: Framework) -> None:
    """A record behind a missing one would be of no use, and would look as if it were."""
    late: list[BaseException] = []

    class Talkative(Echo):
        server: Any = None

        def on_event(self, event: GatewayEvent) -> None:
            if isinstance(event, SubscriberLeft):
                try:
                    self.server.session(event.session_id).publish("note", {"n": 2})
                except RuntimeError as error:
                    late.append(error)

    async def main() -> None:
        adapter, disk, application = framework.adapter, Disk(), Talkative()
        server = application.server = adapter.serve(application, port=0, config=CONFIG, store=disk)

        async def serve() -> None:
            async with server, adapter.connect(server.url, config=FAST) as client:
                session = server.session((await welcome(client)).token.session_id)
                disk.fails = OSError("the disk is full")
                before = len(disk.batches)
                session.publish("note", {"n": 1})
                await until(lambda: len(disk.batches) > before)
                await until(lambda: late)
                disk.fails = None
                assert len(disk.batches) == before + 1

        with pytest.raises(OSError, match="the disk is full"):
            await serve()
        assert len(disk.kinds) == 1

    framework.run(main)


def test_what_the_body_raises_comes_before_what_the_store_raised(framework: Framework) -> None:
    async def main() -> None:
        adapter, disk = framework.adapter, Disk()
        disk.fails = OSError("the disk is full")
        async with (
            adapter.serve(Echo(), port=0, config=CONFIG, store=disk) as server,
            adapter.connect(server.url, config=FAST),
        ):
            with patience(), pytest.raises(OSError, match="full"):
                await server.wait_closed()
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        framework.run(main)


def test_a_cancelled_server_does_not_wait_for_the_store(framework: Framework) -> None:
    async def main() -> None:
        adapter, disk = framework.adapter, Disk()
        disk.may = anyio.Event()
        with anyio.CancelScope() as scope:
            async with (
                adapter.serve(Echo(), port=0, config=CONFIG, store=disk) as server,
                adapter.connect(server.url, config=FAST),
            ):
                await until(lambda: disk.batches)
                scope.cancel()
                await server.wait_closed()
        assert disk.cancelled
        assert disk.records == []

    framework.run(main)


def test_a_store_and_writing_ahead_go_together(framework: Framework) -> None:
    serve = framework.adapter.serve
    with pytest.raises(ValueError, match="needs a store"):
        serve(Echo(), config=CONFIG)
    with pytest.raises(ValueError, match="needs a store"):
        serve(Echo(), gateway=Gateway(CONFIG))
    with pytest.raises(ValueError, match="only to write ahead"):
        serve(Echo(), store=Disk())
