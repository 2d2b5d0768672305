"""What a peer cannot make grow, and whom it cannot hold up, on every framework."""

import asyncio
import base64
import errno
import json
import logging
import os
import select
import socket
import ssl
from itertools import pairwise
from typing import Any, Final

import anyio
import anyio.lowlevel
import pytest
import trustme
from gatewayproto_adapter.application import SessionHandle
from gatewayproto_adapter.sockets import hold_little

from gatewayproto import ClientConfig, GatewayConfig, Rate
from gatewayproto.actions import GatewayEvent, MessageReceived, SessionExpired, SubscriberLeft
from gatewayproto.backoff import Backoff
from gatewayproto.frames import Event
from tests.adapter.frameworks import FRAMEWORKS, WAIT, Echo, Framework, patience, until
from tests.blackbox.bbwire import (
    CONTINUATION,
    PING,
    TEXT,
    Peer,
    encode_frame,
    read_answer,
    upgrade_request,
)

FAST: Final = ClientConfig(agent_id="demo", backoff=Backoff(initial=0.01, maximum=0.02))
every_framework = pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)
in_asyncio = pytest.mark.parametrize(
    "framework", [each for each in FRAMEWORKS if each.backend == "asyncio"], ids=str
)
KIB: Final = 1024


def text(frame: dict[str, Any]) -> bytes:
    return encode_frame(TEXT, json.dumps(frame).encode())


async def in_thread(work: Any, *args: Any) -> Any:
    """Do what blocks beside the loop that serves."""
    with patience():
        return await anyio.to_thread.run_sync(work, *args)


def connect(server: Any, *, rcvbuf: int | None = None) -> socket.socket:
    sock = socket.socket()
    sock.settimeout(WAIT)
    if rcvbuf is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    sock.connect((server.host, server.port))
    return sock


def upgrade(server: Any, sock: socket.socket) -> Peer:
    key = base64.b64encode(os.urandom(16)).decode()
    sock.sendall(upgrade_request(f"{server.host}:{server.port}", "/ws", key, ()))
    status, _, rest = read_answer(sock)
    assert status == 101, status
    return Peer(sock, client=True, received=rest)


def hello(peer: Peer) -> dict[str, Any]:
    frame = {"type": "hello", "agent_id": "demo", "protocol_min": 2, "protocol_max": 2}
    peer.send(frame)
    welcome = peer.expect("hello_ok")
    peer.expect("caught_up")
    return welcome


# -- messages of sessions that are gone -------------------------------------------------------


class Hanging(Echo):
    """Works on messages until it is cancelled or told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[Any] = []
        self.cancelled: list[Any] = []
        self.done: list[Any] = []
        self.gate = anyio.Event()

    async def on_message(
        self,
        session: SessionHandle,  # noqa: ARG002 - nothing is published
        message: MessageReceived,
    ) -> None:
        self.begun.append(message.content)
        try:
            await self.gate.wait()
        except anyio.get_cancelled_exc_class():
            self.cancelled.append(message.content)
            raise
        self.done.append(message.content)

    def expired(self) -> int:
        return sum(isinstance(event, SessionExpired) for event in self.events)


async def _leave_behind(framework: Framework, server: Any, *contents: str) -> None:
    async with framework.adapter.connect(server.url, config=FAST) as client:
        for content in contents:
            await client.send(content)


@every_framework
def test_messages_that_were_not_begun_go_with_their_session(framework: Framework) -> None:
    async def main() -> None:
        application = Hanging()
        config = GatewayConfig(resume_window=0.05)
        async with framework.adapter.serve(application, port=0, config=config) as server:
            with patience():
                await _leave_behind(framework, server, "one", "two", "three")
            await until(lambda: application.expired() == 1)
            application.gate.set()
            await until(lambda: application.done)
            # Another session's message, begun and done after whatever is left of the first.
            with patience():
                await _leave_behind(framework, server, "other")
            await until(lambda: "other" in application.done)
            assert application.begun == ["one", "other"]
            assert application.cancelled == []

    framework.run(main)


@every_framework
def test_no_more_messages_are_worked_on_for_nobody_than_there_may_be_sessions(
    framework: Framework, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        application = Hanging()
        config = GatewayConfig(resume_window=0.05, max_sessions=2)
        async with framework.adapter.serve(application, port=0, config=config) as server:
            for number in range(4):
                with patience():
                    await _leave_behind(framework, server, str(number))
                await until(lambda n=number: application.expired() == n + 1)  # type: ignore[misc]  # a default that mypy cannot infer
            await until(lambda: len(application.cancelled) == 2)
            assert application.cancelled == ["0", "1"]
            application.gate.set()
            await until(lambda: sorted(application.done) == ["2", "3"])

    with caplog.at_level(logging.WARNING):
        framework.run(main)
    assert caplog.records == []


# -- what the kernel holds --------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


@every_framework
@pytest.mark.skipif(not hasattr(select, "POLLRDHUP"), reason="the end cannot be seen from outside")
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_who_never_reads_is_reset_so_that_the_kernel_keeps_nothing(
    framework: Framework, tls: tuple[ssl.SSLContext, ssl.SSLContext], *, secure: bool
) -> None:
    async def main() -> None:
        application = Echo()
        config = GatewayConfig(stall_timeout=0.2, heartbeat=0.2)
        async with framework.adapter.serve(
            application,
            port=0,
            config=config,
            close_timeout=0.1,
            ssl=tls[0] if secure else None,
        ) as server:

            def join() -> tuple[socket.socket, str]:
                sock = connect(server, rcvbuf=4 * KIB)
                if secure:
                    sock = tls[1].wrap_socket(sock, server_hostname="127.0.0.1")
                return sock, hello(upgrade(server, sock))["session_id"]

            sock, session_id = await in_thread(join)
            with sock:
                for _ in range(40):
                    server.publish(session_id, _event({"text": "x" * 50_000}))
                await until(lambda: server.connections == 0)
                # An end that is seen without a byte having been read is a reset.
                poll = select.poll()
                poll.register(sock, select.POLLRDHUP)
                assert await in_thread(poll.poll, 1000 * WAIT)

    framework.run(main)


def _event(data: dict[str, Any]) -> Any:
    return Event(type="note", data=data, event_id=os.urandom(8).hex(), timestamp=0.0)


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="the kernel cannot")
def test_the_kernel_takes_little_for_who_does_not_read() -> None:
    def taken(*, little: bool) -> int:
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KIB)
            reader.connect(listener.getsockname())
            sock, _ = listener.accept()
            with sock:
                sock.setblocking(False)
                if little:
                    hold_little(sock)
                total = 0
                while select.select([], [sock], [], 0)[1]:
                    total += sock.send(bytes(64 * KIB))
                return total

    assert taken(little=True) < 128 * KIB < taken(little=False)


# -- connections that are not done with TLS ---------------------------------------------------


@every_framework
def test_unfinished_tls_handshakes_are_unfinished_upgrades(
    framework: Framework, tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    async def main() -> None:
        async with framework.adapter.serve(Echo(), port=0, ssl=tls[0], max_upgrades=2) as server:
            silent = [await in_thread(connect, server) for _ in range(4)]
            await until(lambda: server.connections == 4)
            with await in_thread(connect, server) as surplus:
                assert await in_thread(surplus.recv, 1) == b""
            await until(lambda: server.connections == 4)
            for sock in silent[:3]:
                sock.close()
            await until(lambda: server.connections == 1)
            async with framework.adapter.connect(server.url, config=FAST, ssl=tls[1]) as client:
                with patience():
                    await anext(client)
            silent[3].close()

    framework.run(main)


# -- accepting --------------------------------------------------------------------------------


@in_asyncio
def test_without_descriptors_there_is_one_record_for_each_try(
    framework: Framework, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gatewayproto_asyncio._listener._PAUSE", 0.01)
    accept, tries = socket.socket.accept, [3]

    def starved(sock: socket.socket) -> Any:
        if tries[0] > 0:
            tries[0] -= 1
            raise OSError(errno.EMFILE, "too many open files")
        return accept(sock)

    async def main() -> None:
        async with framework.adapter.serve(Echo(), port=0) as server:
            monkeypatch.setattr(socket.socket, "accept", starved)
            async with framework.adapter.connect(server.url, config=FAST) as client:
                with patience():
                    await anext(client)

    with caplog.at_level(logging.WARNING):
        framework.run(main)
    assert tries == [0]
    assert [record.exc_info for record in caplog.records] == [None] * 3


@in_asyncio
def test_what_waits_on_one_connection_holds_up_no_other(
    framework: Framework, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    accept, broken = socket.socket.accept, [errno.ECONNABORTED, errno.EPERM, errno.ENETDOWN]

    def failing(sock: socket.socket) -> Any:
        if broken:
            raise OSError(broken.pop(), "it is gone")
        return accept(sock)

    async def main() -> None:
        async with framework.adapter.serve(Echo(), port=0) as server:
            monkeypatch.setattr(socket.socket, "accept", failing)
            async with framework.adapter.connect(server.url, config=FAST) as client:
                with patience():
                    await anext(client)

    with caplog.at_level(logging.INFO, logger="asyncio"):
        framework.run(main)
    assert not broken
    assert [each for each in caplog.records if each.levelno > logging.INFO] == []


def test_a_loop_that_cannot_watch_descriptors_serves_as_well() -> None:
    framework = FRAMEWORKS[0]

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()

        def add_reader(*_: object) -> None:
            raise NotImplementedError

        loop.add_reader = add_reader
        async with framework.adapter.serve(Echo(), port=0) as server:
            for _ in range(3):
                async with framework.adapter.connect(server.url, config=FAST) as client:
                    with patience():
                        await anext(client)

    framework.run(main)


# -- turns ------------------------------------------------------------------------------------


class Counting(Echo):
    """Counts the messages that came."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def on_event(self, event: GatewayEvent) -> None:
        self.count += isinstance(event, MessageReceived)

    async def on_message(self, session: SessionHandle, message: MessageReceived) -> None:
        """Nothing is done."""


@every_framework
def test_a_read_full_of_small_frames_is_taken_in_turns(framework: Framework) -> None:
    """Others get their turn while one connection has much to be taken; nothing of it is lost."""
    frame = text({"type": "message", "content": ""})
    count = 128 * KIB // len(frame)

    async def main() -> None:
        application = Counting()
        taken = [0]
        config = GatewayConfig(max_pending_requests=count, frame_rate=None)

        async def tick() -> None:
            while taken[-1] < count:
                taken.append(application.count)
                await anyio.lowlevel.checkpoint()

        async with framework.adapter.serve(application, port=0, config=config) as server:

            def join() -> Peer:
                peer = upgrade(server, connect(server))
                hello(peer)
                return peer

            peer = await in_thread(join)
            # All of it lies there before the server reads any.
            peer.sock.sendall(frame * count)
            with patience():
                await tick()
            peer.sock.close()
        most = max(after - before for before, after in pairwise(taken))
        assert most <= 2 * (16 * KIB // len(frame) + 1)

    framework.run(main)


@every_framework
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_what_was_sent_before_the_end_is_taken_before_the_end(
    framework: Framework, tls: tuple[ssl.SSLContext, ssl.SSLContext], *, secure: bool
) -> None:
    frame = text({"type": "message", "content": "x" * 1000})
    count = 100

    async def main() -> None:
        application = Echo()
        config = GatewayConfig(max_pending_requests=count)
        async with framework.adapter.serve(
            application, port=0, config=config, ssl=tls[0] if secure else None
        ) as server:

            def act() -> None:
                sock = connect(server)
                if secure:
                    sock = tls[1].wrap_socket(sock, server_hostname="127.0.0.1")
                with sock:
                    peer = upgrade(server, sock)
                    hello(peer)
                    sock.sendall(frame * count)
                    sock.shutdown(socket.SHUT_WR)
                    while sock.recv(1 << 16):
                        pass

            await in_thread(act)
            await until(lambda: server.connections == 0)
            events = [
                e for e in application.events if isinstance(e, MessageReceived | SubscriberLeft)
            ]
            assert [type(each) for each in events] == [MessageReceived] * count + [SubscriberLeft]

    framework.run(main)


# -- frames of WebSocket's own ----------------------------------------------------------------


@every_framework
@pytest.mark.parametrize("kind", ["pings", "fragments"])
@pytest.mark.parametrize("welcomed", [True, False], ids=["welcomed", "early"])
def test_frames_of_websocket_itself_have_a_rate_too(
    framework: Framework, kind: str, *, welcomed: bool
) -> None:
    flood = (
        encode_frame(PING, b"") * 2000
        if kind == "pings"
        else encode_frame(TEXT, b"", fin=False) + encode_frame(CONTINUATION, b"", fin=False) * 2000
    )

    async def main() -> None:
        config = GatewayConfig(frame_rate=Rate(1.0, 100))
        async with framework.adapter.serve(Echo(), port=0, config=config) as server:

            def act() -> tuple[int, list[Any]]:
                with connect(server) as sock:
                    peer = upgrade(server, sock)
                    if welcomed:
                        hello(peer)
                    peer.sock.sendall(flood)
                    return peer.drain(), peer.log

            code, log = await in_thread(act)
            assert code == 4003
            if welcomed:
                assert (log[-1]["type"], log[-1]["code"]) == ("error", "rate_limited")
                assert log[-1]["retry_after_seconds"] > 0
            await until(lambda: server.connections == 0)

    framework.run(main)


@every_framework
def test_fewer_of_them_than_the_rate_are_served(framework: Framework) -> None:
    async def main() -> None:
        config = GatewayConfig(frame_rate=Rate(1.0, 100))
        async with framework.adapter.serve(Echo(), port=0, config=config) as server:

            def act() -> None:
                with connect(server) as sock:
                    peer = upgrade(server, sock)
                    hello(peer)
                    peer.sock.sendall(encode_frame(PING, b"") * 90)
                    peer.send({"type": "ping", "nonce": "alive"})
                    peer.expect("pong", nonce="alive")

            await in_thread(act)

    framework.run(main)
