"""The fault proxy on real sockets: what passes is what was sent, and it ends as was planned."""

import asyncio
import json
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from attrs import define

from tests.faults.__main__ import main
from tests.faults.plan import Coalesce, Cut, CutKind, Pass, Plan, Split, Stall, Throttle
from tests.faults.proxy import CHUNK, Proxy

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 20.0
TEXT = random.Random(1).randbytes(30_000)


@define(eq=False)
class Ends:
    """Both ends of one connection through a proxy, and the proxy."""

    proxy: Proxy
    client: socket.socket
    server: socket.socket


@asynccontextmanager
async def linked(plan: Plan) -> AsyncGenerator[Ends]:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        listener.setblocking(False)
        client.setblocking(False)
        async with Proxy(to=listener.getsockname(), plan_of=lambda _: plan) as proxy:
            await loop.sock_connect(client, proxy.address)
            server, _ = await loop.sock_accept(listener)
            server.setblocking(False)
            with server:
                yield Ends(proxy, client, server)


async def send_all(end: socket.socket, data: bytes) -> None:
    with suppress(OSError):
        await asyncio.get_running_loop().sock_sendall(end, data)


async def receive_all(end: socket.socket) -> tuple[bytes, bool]:
    """All that comes, and whether the end was in order."""
    received = bytearray()
    try:
        while data := await asyncio.get_running_loop().sock_recv(end, 65536):
            received += data
    except ConnectionResetError:
        return bytes(received), False
    return bytes(received), True


def run(scene: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await scene()

    asyncio.run(bounded())


PLANS = {
    "calm": Plan(),
    "split": Plan(
        up=(Split(3000, (1, 7, 300)),), down=(Split(900, (3,)), Pass(10), Split(50, (1,)))
    ),
    "coalesce": Plan(up=(Coalesce(20_000, 4000, 0.01),), down=(Coalesce(9999, 100, 0.001),)),
    "throttle": Plan(down=(Pass(1000), Throttle(2000, 50_000.0, 500))),
    "stall": Plan(up=(Stall(0.01), Pass(5), Stall(0.01)), down=(Stall(0.02),)),
}


@pytest.mark.parametrize("name", PLANS)
def test_bytes_arrive_as_they_were_sent_in_both_directions(name: str) -> None:
    async def scene() -> None:
        async with linked(PLANS[name]) as ends:
            sending = asyncio.gather(send_all(ends.client, TEXT), send_all(ends.server, TEXT[::-1]))
            up = asyncio.create_task(receive_all(ends.server))
            down = asyncio.create_task(receive_all(ends.client))
            await sending
            ends.client.shutdown(socket.SHUT_WR)
            ends.server.shutdown(socket.SHUT_WR)

            assert await up == (TEXT, True)
            assert await down == (TEXT[::-1], True)
            counters = ends.proxy.counters
            assert (counters.bytes_up, counters.bytes_down) == (len(TEXT), len(TEXT))
            assert 0 < counters.peak_held <= CHUNK
            assert counters.calm == (name == "calm")
        planned = {"coalesce": 2, "throttle": 1, "stall": 3, "split": 3}
        for kind, count in planned.items():
            assert getattr(counters, kind) == (count if kind == name else 0)
        assert counters.open == 0

    run(scene)


def test_what_comes_when_gathering_ends_is_not_lost() -> None:
    async def scene() -> None:
        async with linked(Plan(down=(Coalesce(100_000, 4000, 0.001),))) as ends:
            receiving = asyncio.create_task(receive_all(ends.client))
            for number in range(300):
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                ends.server.send(TEXT[number : number + 1])
                # The loop is held up, so that it meets these bytes and the end of the time at once.
                time.sleep(0.001)  # noqa: ASYNC251
            ends.server.shutdown(socket.SHUT_WR)

            assert await receiving == (TEXT[:300], True)

    run(scene)


@pytest.mark.parametrize("kind", [CutKind.FIN, CutKind.RST])
@pytest.mark.parametrize("at", [1, 777, 20_000])
def test_a_cut_ends_both_at_its_byte(kind: CutKind, at: int) -> None:
    async def scene() -> None:
        async with linked(Plan(down=(Split(50, (3,)),), cut=Cut(kind, "down", at))) as ends:
            sending = asyncio.create_task(send_all(ends.server, TEXT))
            received, in_order = await receive_all(ends.client)
            ends.client.close()
            _, server_in_order = await receive_all(ends.server)
            await sending

            # A reset may overtake what was sent before it.
            assert TEXT[:at].startswith(received)
            assert received == TEXT[:at] or kind is CutKind.RST
            assert (in_order, server_in_order) == (kind is CutKind.FIN,) * 2
            assert getattr(ends.proxy.counters, kind) == 1

    run(scene)


def test_a_silent_cut_tells_nobody_and_takes_nothing_until_its_time() -> None:
    async def scene() -> None:
        async with linked(Plan(cut=Cut(CutKind.SILENT, "up", 10, hold=3600.0))) as ends:
            await send_all(ends.client, TEXT[:10])
            assert await receive(ends.server, 10) == TEXT[:10]
            endless = asyncio.create_task(send_all(ends.client, bytes(64 * 1024 * 1024)))
            hearing = [asyncio.create_task(receive_all(end)) for end in (ends.client, ends.server)]
            done, _ = await asyncio.wait([endless, *hearing], timeout=0.3)

            assert not done
            assert ends.proxy.counters.silent == 1
            assert ends.proxy.counters.bytes_up == 10
            await cancelled(endless, *hearing)

    run(scene)


def test_a_silent_cut_ends_with_a_reset_when_its_time_is_over() -> None:
    async def scene() -> None:
        async with linked(Plan(cut=Cut(CutKind.SILENT, "down", 5, hold=0.01))) as ends:
            await send_all(ends.server, TEXT)
            received, in_order = await receive_all(ends.client)

            assert TEXT[:5].startswith(received)
            assert not in_order

    run(scene)


def test_a_swallowing_cut_takes_everything_and_lets_go_who_closes() -> None:
    async def scene() -> None:
        async with linked(Plan(cut=Cut(CutKind.SWALLOW, "up", 10, hold=3600.0))) as ends:
            # More than any buffers hold: it is taken, and does not arrive.
            await send_all(ends.client, TEXT[:10] + bytes(16 * 1024 * 1024))
            assert await receive(ends.server, 10) == TEXT[:10]
            ends.client.shutdown(socket.SHUT_WR)

            assert await receive_all(ends.client) == (b"", True)
            ends.server.shutdown(socket.SHUT_WR)
            assert await receive_all(ends.server) == (b"", True)
            assert ends.proxy.counters.bytes_up == 10

    run(scene)


def test_a_receiver_that_does_not_read_is_felt_by_the_sender() -> None:
    async def scene() -> None:
        async with linked(Plan()) as ends:
            sending = asyncio.create_task(send_all(ends.server, bytes(64 * 1024 * 1024)))
            done, _ = await asyncio.wait([sending], timeout=0.5)

            assert not done
            assert ends.proxy.counters.peak_held <= CHUNK
            await cancelled(sending)

    run(scene)


def test_who_cannot_be_reached_is_reset() -> None:
    async def scene() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            address = nobody.getsockname()
        async with Proxy(to=address, plan_of=lambda _: Plan()) as proxy:
            with socket.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, proxy.address)
                assert await receive_all(client) == (b"", False)
            assert proxy.counters.unreachable == 1

    run(scene)


def test_a_healed_proxy_cuts_nobody() -> None:
    async def scene() -> None:
        plan = Plan(down=(Stall(3600.0),), cut=Cut(CutKind.RST, "up", 10))
        async with linked(plan) as ends:
            ends.proxy.heal()
            await asyncio.gather(send_all(ends.client, TEXT), send_all(ends.server, TEXT))

            assert await receive(ends.server, len(TEXT)) == TEXT
            assert await receive(ends.client, len(TEXT)) == TEXT

    run(scene)


async def receive(end: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        data = await asyncio.get_running_loop().sock_recv(end, size - len(received))
        assert data, f"only {len(received)} of {size} bytes came"
        received += data
    return bytes(received)


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# -- the command ------------------------------------------------------------------------------


def test_the_command_forwards_and_says_what_it_did() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        port = listener.getsockname()[1]
        command = [sys.executable, "-m", "tests.faults", "--to", f"127.0.0.1:{port}", "--calm", "1"]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                ready, _, address = process.stdout.readline().partition(" ")
                assert ready == "ready"
                host, _, through = address.strip().rpartition(":")
                with socket.create_connection((host, int(through)), PATIENCE) as client:
                    server, _ = listener.accept()
                    with server:
                        client.sendall(b"hello")
                        assert server.recv(5, socket.MSG_WAITALL) == b"hello"
                process.send_signal(signal.SIGTERM)
                said = json.loads(process.stdout.read())
                assert process.wait(PATIENCE) == 0
            finally:
                process.kill()
    assert (said["connections"], said["calm"], said["bytes_up"]) == (1, 1, 5)
    assert said["open"] == 0


@pytest.mark.parametrize(
    "wrong", [["--to", "nowhere"], ["--to", "h:99999"], [], ["--to", "h:1", "--calm", "2"]]
)
def test_wrong_usage_is_answered(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(wrong)

    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err
