"""A real client and a real server on trio, cut at random, and an observer's account of it."""

import random
from contextlib import suppress

import pytest
import trio
from attrs import define, evolve
from gatewayproto_trio import ClientSession, connect, serve

from gatewayproto import ClientConfig, Gateway, GatewayConfig
from gatewayproto.actions import Joined
from gatewayproto.backoff import Backoff
from tests.adapter.account import Account, Publisher
from tests.trio_adapter.trio_support import BROKEN, Recorder, run, within

FAST = ClientConfig(agent_id="a", backoff=Backoff(initial=0.05, maximum=0.1))
ROOMY = GatewayConfig(retain=50_000, retain_transient=50_000)


@define
class Cutter:
    """Stands between, and breaks whatever runs through it once so many bytes have passed."""

    target: int
    port: int = 0
    opened: int = 0
    _left: float = float("inf")

    def cut_after(self, size: int) -> None:
        """Break the living connections once this many bytes more have passed, to either side."""
        self._left = size

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Take connections until it is cancelled."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._stand_between, listeners)

    async def _stand_between(self, client: trio.SocketStream) -> None:
        self.opened += 1
        with suppress(OSError):
            server = await trio.open_tcp_stream("127.0.0.1", self.target)
            async with client, server, trio.open_nursery() as nursery:
                nursery.start_soon(self._pass, client, server, nursery.cancel_scope)
                nursery.start_soon(self._pass, server, client, nursery.cancel_scope)

    async def _pass(
        self, source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope
    ) -> None:
        with suppress(*BROKEN):
            while data := await source.receive_some(4096):
                room = max(0, int(min(self._left, len(data))))
                self._left -= len(data)
                await sink.send_all(data[:room])
                if room < len(data):
                    self._left = float("inf")
                    break
        both.cancel()


async def follow(client: ClientSession, account: Account, until: int) -> None:
    """Take items until the account has reached that seq."""
    while account.cursor < until:
        account.take(await within(anext(client)))


@pytest.mark.parametrize("seed", range(6))
def test_cuts_at_any_byte_lose_and_repeat_nothing(seed: int) -> None:
    rng = random.Random(seed)

    async def main() -> None:
        async with (
            serve(Recorder(), port=0, config=ROOMY) as server,
            trio.open_nursery() as nursery,
        ):
            cutter = Cutter(server.port)
            await nursery.start(cutter.run)
            async with connect(f"ws://127.0.0.1:{cutter.port}/ws", config=FAST) as client:
                joined = await within(anext(client))
                assert isinstance(joined, Joined)
                publisher = Publisher(joined.session_id)
                account = Account(publisher.published)
                for _ in range(25):
                    cutter.cut_after(rng.randrange(1, 6000))
                    for _ in range(rng.randrange(4)):
                        publisher.note(server, rng.randrange(1, 800))
                        publisher.run(server, rng.randrange(30))
                    to = rng.randrange(account.cursor, publisher.head + 1)
                    await follow(client, account, to)
                await follow(client, account, publisher.head)
            nursery.cancel_scope.cancel()
            assert cutter.opened > 5
            assert account.snapshots == []
            assert account.delivered + account.skipped == publisher.head

    run(main)


def test_a_restart_with_its_state_loses_and_repeats_nothing() -> None:
    async def main() -> None:
        async with serve(Recorder(), port=0, config=ROOMY) as server:
            port = server.port
            async with connect(server.url, config=FAST) as first:
                joined = await within(anext(first))
            publisher = Publisher(joined.token.session_id)
            for _ in range(20):
                publisher.note(server)
            await server.close()
            state = server.save()
        token = evolve(joined.token, cursor=0)
        account = Account(publisher.published)
        async with connect(f"ws://127.0.0.1:{port}/ws", config=FAST, resume=token) as client:
            for _ in range(3):
                await trio.sleep(1)
                gateway = Gateway.from_state(ROOMY, state, now=trio.current_time())
                async with serve(
                    Recorder(), port=port, config=ROOMY, gateway=gateway, close_timeout=1
                ) as server:
                    publisher.run(server, 10)
                    await follow(client, account, publisher.head)
                    await server.close()
                    state = server.save()
        assert account.delivered + account.skipped == publisher.head
        assert account.snapshots == []

    run(main)
