"""`serve` on trio: time, room and ends, over streams in memory and in virtual time."""

import logging
import ssl

import pytest
import trio
import trio.testing
import trustme
from gatewayproto_adapter.clock import monotonic as system_monotonic
from gatewayproto_trio import Application, Rejected, Server, SessionHandle, monotonic, serve
from gatewayproto_wsproto import ClientConnection, UpgradeRefused

from gatewayproto import GatewayConfig
from gatewayproto.actions import (
    JoinRequested,
    MessageReceived,
    SessionExpired,
    SubscriberLeft,
)
from gatewayproto.errors import ErrorCode
from gatewayproto.testing.drivers import End
from gatewayproto.testing.drivers.check import Talker
from tests.trio_adapter.trio_support import (
    Hall,
    Recorder,
    StreamPeer,
    run,
    until,
    within,
)

# -- time -------------------------------------------------------------------------------------


def test_the_machines_clock_is_virtual_where_trios_is() -> None:
    async def main() -> None:
        before = monotonic()
        await trio.sleep(3600)
        assert monotonic() - before == pytest.approx(3600)

    run(main)


def test_the_machines_clock_is_the_systems_where_trios_is_real() -> None:
    async def main() -> None:
        assert abs(monotonic() - system_monotonic()) < 60

    run(main, virtual=False)
    assert abs(monotonic() - system_monotonic()) < 60


def test_a_session_outlives_its_last_connection_by_its_window_to_the_moment() -> None:
    async def main() -> None:
        application = Recorder()
        config = GatewayConfig(resume_window=300.0)
        async with Hall.of(application, config) as hall:
            talker, _ = await hall.talker()
            await talker.peer.abort()
            await until(lambda: application.of(SubscriberLeft))
            await trio.sleep(299.9)
            assert not application.of(SessionExpired)
            await trio.sleep(0.2)
            assert application.of(SessionExpired)

    run(main)


def test_a_peer_that_answers_pings_is_never_given_up() -> None:
    async def main() -> None:
        application = Recorder()
        async with Hall.of(application, GatewayConfig(heartbeat=10.0)) as hall:
            talker, _ = await hall.talker()
            for _ in range(100):
                ping = await talker.only("ping")
                await talker.send("pong", nonce=ping.get("nonce"))
            assert trio.current_time() > 900
            assert not application.of(SubscriberLeft)

    run(main)


def test_an_upgrade_that_does_not_come_is_waited_for_just_so_long() -> None:
    async def main() -> None:
        async with Hall.of(Recorder(), GatewayConfig(handshake_timeout=10.0)) as hall:
            stream = hall.stream()
            await until(lambda: hall.server.connections == 1)
            await trio.sleep(9.9)
            assert hall.server.connections == 1
            assert await within(stream.receive_some()) == b""
            assert 10 <= trio.current_time() < 10.1

    run(main)


# -- upgrades ---------------------------------------------------------------------------------


def test_too_many_upgrades_are_told_to_come_again_and_far_too_many_are_dropped() -> None:
    async def main() -> None:
        config = GatewayConfig(retry_after=2.5)
        async with Hall.of(Recorder(), config, max_upgrades=3) as hall:
            for _ in range(3):
                hall.stream()
            await until(lambda: hall.server.connections == 3)
            refused = (await hall.peer()).events[0]
            assert isinstance(refused, UpgradeRefused)
            assert (refused.status, refused.retry_after_seconds) == (503, 3.0)
            for _ in range(3):
                hall.stream()
            await trio.testing.wait_all_tasks_blocked()
            assert await within(hall.stream().receive_some()) == b""
            # Who was waiting is not harmed, and later there is room again.
            await trio.sleep(11)
            await hall.talker()

    run(main)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/elsewhere", (), 404),
        ("/ws", (("Origin", "https://evil.example"),), 403),
    ],
    ids=str,
)
def test_who_may_not_upgrade(path: str, headers: tuple[tuple[str, str], ...], status: int) -> None:
    async def main() -> None:
        async with Hall.of(Recorder()) as hall:
            url = f"ws://127.0.0.1:{hall.server.port}{path}"
            ws = ClientConnection(url, headers=headers, max_message=2**20)
            peer = StreamPeer(ws, hall.stream())
            hall.nursery.start_soon(peer.live)
            await peer.upgrade()
            refused = peer.events[0]
            assert isinstance(refused, UpgradeRefused)
            assert refused.status == status
            # The answer ended it: nobody has to wait for the other.
            assert await peer.receive() == End()
            await until(lambda: hall.server.connections == 0)
            assert trio.current_time() < 1

    run(main)


# -- room -------------------------------------------------------------------------------------


def test_a_peer_that_takes_nothing_is_closed_in_time_and_holds_nobody_up() -> None:
    async def main() -> None:
        application = Recorder()
        config = GatewayConfig(stall_timeout=60.0, heartbeat=3600.0)
        async with Hall.of(application, config, close_timeout=5.0) as hall:
            _, welcome = await hall.talker()
            session_id = welcome["session_id"]
            fast, _ = await hall.talker(session_id=session_id)
            session = hall.server.session(session_id)
            for n in range(200):
                session.publish("note", {"text": "x" * 10_000})
                assert (await fast.only("event"))["seq"] == n + 1
            started = trio.current_time()
            await trio.sleep(59)
            assert not application.of(SubscriberLeft)
            await trio.sleep(2)
            assert len(application.of(SubscriberLeft)) == 1
            # It still reads nothing, so the Close frame never goes out.
            assert hall.server.connections == 2
            await trio.sleep(5)
            assert hall.server.connections == 1
            assert trio.current_time() - started < 70

    run(main)


def test_a_peer_that_takes_slowly_is_not_one_that_takes_nothing() -> None:
    async def main() -> None:
        application = Recorder()
        config = GatewayConfig(stall_timeout=60.0, heartbeat=3600.0)
        async with Hall.of(application, config) as hall:
            talker, welcome = await hall.talker()
            session = hall.server.session(welcome["session_id"])
            session.publish("note", {"text": "x" * 900_000})
            # A piece now and then; the whole frame takes longer than the timeout many times over.
            left, peer = 900_000, talker.peer
            assert isinstance(peer, StreamPeer)
            while left > 0:
                await trio.sleep(50)
                left -= await peer.read_some(16 * 1024)
            assert (await talker.frame("event"))["seq"] == 1
            assert trio.current_time() > 40 * 60
            assert not application.of(SubscriberLeft)

    run(main)


def test_a_peer_that_reads_may_ask_much_at_once() -> None:
    async def main() -> None:
        count = 10_000
        async with Hall.of(Recorder(), GatewayConfig(frame_rate=None)) as hall:
            # Who always takes everything at once is not counted as one that does not read, however
            # much a single read brings.
            mine, theirs = trio.testing.memory_stream_pair()
            hall.nursery.start_soon(hall.server.serve_stream, theirs)
            peer = StreamPeer(ClientConnection(hall.server.url, max_message=2**20), mine)
            hall.nursery.start_soon(peer.live)
            await peer.upgrade()
            talker = Talker(peer)
            await talker.send("hello", agent_id="a", protocol_min=2, protocol_max=2)
            await talker.frame("caught_up")
            await mine.send_all(b"".join(talker.encode("x") for _ in range(count)))
            for _ in range(count):
                assert (await talker.only("error"))["code"] == "unknown_type"

    run(main)


def test_who_is_closed_for_a_fault_may_send_to_the_end() -> None:
    """Closing while it sends would reset a connection, and the reason would be lost."""

    async def main() -> None:
        config = GatewayConfig(max_payload=65_536)
        async with Hall.of(Recorder(), config) as hall:
            peer = await hall.peer()
            stream = peer.stream
            size = 2_000_000
            await within(stream.send_all(b"\x81\xff" + size.to_bytes(8) + bytes(4)))
            for _ in range(20):
                await within(stream.send_all(bytes(size // 20)))
            assert await peer.receive() == End(1009, "message over the size limit")
            await until(lambda: hall.server.connections == 0)
            assert trio.current_time() < 1

    run(main)


def test_a_peer_that_asks_for_ever_and_reads_nothing_is_closed() -> None:
    async def main() -> None:
        application = Recorder()
        async with Hall.of(application, GatewayConfig(frame_rate=None), close_timeout=1.0) as hall:
            talker, _ = await hall.talker()
            for _ in range(200):
                if application.of(SubscriberLeft):
                    break
                await talker.peer.write(b"".join(talker.encode("x") for _ in range(100)))
                await trio.testing.wait_all_tasks_blocked()
            assert application.of(SubscriberLeft)
            assert trio.current_time() < 5
            await until(lambda: hall.server.connections == 0)

    run(main)


# -- TLS in memory ----------------------------------------------------------------------------


def test_tls_needs_no_socket() -> None:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("gateway.example").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)

    async def main() -> None:
        async with Hall.of(Recorder()) as hall:
            mine, theirs = trio.testing.lockstep_stream_pair()
            tls = trio.SSLStream(theirs, server, server_side=True)
            hall.nursery.start_soon(hall.server.serve_stream, tls)
            stream = trio.SSLStream(mine, client, server_hostname="gateway.example")
            ws = ClientConnection("wss://gateway.example/ws", max_message=2**20)
            await within(stream.send_all(ws.bytes_to_send()))
            assert (await within(stream.receive_some())).startswith(b"HTTP/1.1 101 ")
            assert hall.server.connections == 1
            await trio.aclose_forcefully(stream)
            await until(lambda: hall.server.connections == 0)

    run(main)


# -- the application --------------------------------------------------------------------------


def test_authenticate_is_cancelled_when_the_client_leaves() -> None:
    class Slow(Recorder):
        cancelled = False
        asked = False

        async def authenticate(self, join: JoinRequested) -> str | None:
            del join
            self.asked = True
            try:
                await trio.sleep_forever()
            finally:
                self.cancelled = True

    async def main() -> None:
        application = Slow()
        async with Hall.of(application) as hall:
            talker = Talker(await hall.peer())
            await talker.send("hello", agent_id="a", protocol_min=2, protocol_max=2)
            await until(lambda: application.asked)
            assert not application.cancelled
            await talker.peer.abort()
            await until(lambda: application.cancelled)

    run(main)


def test_a_rejection_says_what_the_application_said() -> None:
    class Strict(Application):
        async def authenticate(self, join: JoinRequested) -> str | None:
            raise Rejected(ErrorCode.AUTH_UNAUTHORIZED, f"not {join.token}")

    async def main() -> None:
        async with Hall.of(Strict()) as hall:
            talker = Talker(await hall.peer())
            await talker.send("hello", agent_id="a", protocol_min=2, protocol_max=2, token="t")
            frame = await talker.only("hello_error")
            assert (frame["code"], frame["message"]) == ("auth_unauthorized", "not t")
            assert (await talker.end()).code == 4504

    run(main)


def test_messages_of_a_session_come_one_after_the_other_and_sessions_side_by_side() -> None:
    order: list[str] = []

    async def work(session: SessionHandle, message: MessageReceived) -> None:
        del session
        order.append(f"begin {message.content}")
        await trio.sleep(10)
        order.append(f"end {message.content}")

    async def main() -> None:
        async with Hall.of(Recorder(work)) as hall:
            one, _ = await hall.talker()
            two, _ = await hall.talker()
            for n in (1, 2):
                await one.send("message", content=f"one {n}")
            await trio.sleep(5)
            await two.send("message", content="two")
            await trio.sleep(30)
            assert order == [
                "begin one 1",
                "begin two",
                "end one 1",
                "begin one 2",
                "end two",
                "end one 2",
            ]

    run(main)


def test_what_a_hook_raises_is_logged_and_the_next_message_is_worked_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def work(session: SessionHandle, message: MessageReceived) -> None:
        if message.content == "bad":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                raise LookupError("from within a nursery")
        session.publish("done", {})

    async def main() -> None:
        async with Hall.of(Recorder(work)) as hall:
            talker, _ = await hall.talker()
            for content in ("bad", "good"):
                await talker.send("message", content=content)
            assert (await talker.frame("event"))["event"]["type"] == "done"

    with caplog.at_level(logging.ERROR, "gatewayproto.trio"):
        run(main)
    assert [record.message for record in caplog.records] == ["on_message failed for message 1"]


# -- ends -------------------------------------------------------------------------------------


def test_close_tells_every_client_1012_and_ends_every_task() -> None:
    async def work(_: SessionHandle, __: MessageReceived) -> None:
        await trio.sleep_forever()

    async def main() -> None:
        application = Recorder(work)
        async with Hall.of(application) as hall:
            talkers = [(await hall.talker())[0] for _ in range(3)]
            await talkers[0].send("message", content="for ever")
            await until(lambda: application.messages)
            hall.nursery.start_soon(hall.server.close)
            assert [await talker.end() for talker in talkers] == 3 * [End(1012, "")]
            await within(hall.server.wait_closed())
            assert hall.server.connections == 0
            with pytest.raises(OSError, match="connect"):
                await trio.open_tcp_stream(hall.server.host, hall.server.port)
            assert len(hall.server.save()["sessions"]) == 3

    run(main)


def test_close_does_not_wait_for_who_does_not_answer_longer_than_it_says() -> None:
    async def main() -> None:
        async with Hall.of(Recorder(), close_timeout=7.0) as hall:
            await hall.talker()
            began = trio.current_time()
            await hall.server.close()
            assert trio.current_time() - began == pytest.approx(7.0)

    run(main)


def test_a_cancelled_close_aborts_what_is_left() -> None:
    async def main() -> None:
        async with Hall.of(Recorder(), close_timeout=1000.0) as hall:
            await hall.talker()
            with trio.move_on_after(3) as scope:
                await hall.server.close()
            assert scope.cancelled_caught
            assert hall.server.connections == 0
            assert trio.current_time() < 4

    run(main)


def test_close_from_a_hook_does_not_wait_for_the_hook() -> None:
    class Suicidal(Application):
        server: Server
        survived = False

        async def on_message(self, session: SessionHandle, message: MessageReceived) -> None:
            del session, message
            await self.server.close()
            self.survived = True

    async def main() -> None:
        application = Suicidal()
        async with Hall.of(application, close_timeout=1.0) as hall:
            application.server = hall.server
            talker, _ = await hall.talker()
            await talker.send("message", content="stop")
            assert (await talker.end()).code == 1012
            await within(hall.server.wait_closed())
            await until(lambda: application.survived)

    run(main)


@pytest.mark.parametrize("turns", range(12))
def test_cancelling_anywhere_leaves_nothing_behind(turns: int) -> None:
    async def main() -> None:
        servers: list[Server] = []
        with trio.CancelScope() as scope:
            async with Hall.of(Recorder()) as hall:
                servers.append(hall.server)
                hall.nursery.start_soon(hall.talker)
                hall.nursery.start_soon(hall.talker)
                for _ in range(3 * turns):
                    await trio.lowlevel.checkpoint()
                scope.cancel()
        assert scope.cancelled_caught
        assert servers[0].connections == 0
        # Nobody listens there, and another one may.
        async with serve(Recorder(), port=servers[0].port):
            pass

    run(main)


def test_an_error_in_the_body_survives_a_cancellation_from_outside(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def stubborn() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise LookupError("a hook's, while it is cancelled")

    async def work(_: SessionHandle, __: MessageReceived) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stubborn)
            await trio.sleep_forever()

    async def main() -> None:
        application = Recorder(work)
        with trio.CancelScope() as scope:
            async with Hall.of(application) as hall:
                talker, _ = await hall.talker()
                await talker.send("message", content="go")
                await until(lambda: application.messages)
                scope.cancel()
                raise ValueError("the body's")

    with (
        caplog.at_level(logging.ERROR, "gatewayproto.trio"),
        pytest.raises(BaseExceptionGroup) as caught,
    ):
        run(main)
    assert caught.group_contains(ValueError, match="the body's", depth=1)
    assert not caught.group_contains(LookupError)
    assert [record.message for record in caplog.records] == ["gatewayproto messages failed"]


def test_a_stream_before_the_server_is_entered_is_a_mistake() -> None:
    async def main() -> None:
        mine, _ = trio.testing.memory_stream_pair()
        with pytest.raises(RuntimeError, match="not entered"):
            await serve(Application()).serve_stream(mine)

    run(main)


def test_a_server_that_cannot_listen_leaves_nothing_behind() -> None:
    async def main() -> None:
        async with serve(Application(), port=0) as server:
            for _ in range(2):
                with pytest.raises(OSError, match="in use"):
                    await serve(Application(), port=server.port).__aenter__()

    run(main)
