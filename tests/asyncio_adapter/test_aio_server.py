"""The server on real sockets, against a raw peer."""

import asyncio
import logging
from contextlib import suppress
from typing import Any

import pytest
from gatewayproto_asyncio import Application, Rejected, SessionHandle, serve

from gatewayproto.actions import (
    JoinRequested,
    MessageReceived,
    SessionOpened,
    SubscriberJoined,
    SubscriberLeft,
)
from gatewayproto.config import GatewayConfig
from gatewayproto.errors import ErrorCode, LocalProtocolError
from tests.asyncio_adapter.aio_support import (
    Peer,
    Recorder,
    run,
    serving,
    until,
    within,
)


def message(content: str, request_id: str | None = None) -> dict[str, Any]:
    return {"type": "message", "content": content, "request_id": request_id}


async def echo(session: SessionHandle, received: MessageReceived) -> None:
    session.publish("response", {"text": received.content}, request_id=received.request_id)


# -- one client -------------------------------------------------------------------------------


def test_a_message_is_acknowledged_and_its_answer_delivered() -> None:
    async def main() -> None:
        async with serving(Recorder(echo)) as server, Peer.open(server.url) as peer:
            welcome = await peer.hello()
            assert (welcome["type"], welcome["resumed"]) == ("hello_ok", False)
            assert (await peer.next())["type"] == "caught_up"
            peer.send(message("hi", "r1"))
            assert await peer.next() == {
                "type": "message_ack",
                "request_id": "r1",
                "duplicate": False,
            }
            frame = await peer.next("event")
            assert frame["seq"] == 1
            assert frame["event"]["data"] == {"text": "hi"}
            assert frame["event"]["request_id"] == "r1"

    run(main)


def test_publishing_gives_seqs_and_none_where_the_session_is_gone() -> None:
    async def main() -> None:
        async with serving() as server, Peer.open(server.url) as peer:
            session = server.session((await peer.hello())["session_id"])
            assert session.publish("note", {"n": 1}) == 1
            assert session.publish("note", {"n": 2}, transient=True, run_id="r") == 2
            assert server.session("nobody").publish("note", {}) is None
            assert (await peer.next("event"))["seq"] == 1
            assert (await peer.next("event"))["event"]["transient"] is True
            with pytest.raises(LocalProtocolError):
                session.publish("note", {"n": float("nan")})

    run(main)


def test_health_is_in_every_welcome_from_then_on() -> None:
    async def main() -> None:
        async with serving() as server:
            server.set_health({"load": 0.5})
            async with Peer.open(server.url) as peer:
                assert (await peer.hello())["health"] == {"load": 0.5}

    run(main)


def test_a_client_that_leaves_is_closed_with_1000() -> None:
    async def main() -> None:
        application = Recorder()
        async with serving(application) as server, Peer.open(server.url) as peer:
            await peer.hello()
            peer.send({"type": "leave"})
            closed = await peer.ended()
            assert (closed.code, closed.clean) == (1000, True)
            assert len(application.of(SubscriberLeft)) == 1
            await until(lambda: server.connections == 0)

    run(main)


@pytest.mark.parametrize("how", ["close", "abort", "eof"])
def test_the_machine_hears_of_every_end(how: str) -> None:
    async def main() -> None:
        application = Recorder()
        async with serving(application) as server:
            async with Peer.open(server.url) as peer:
                await peer.hello()
                if how == "close":
                    peer.close()
                    await peer.ended()
                elif how == "abort":
                    peer.abort()
                else:
                    peer.write_eof()
                    await peer.ended()
            await until(lambda: application.of(SubscriberLeft))
            await until(lambda: server.connections == 0)

    run(main)


# -- what a peer may do wrong -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "origin", "status"),
    [
        ("/", None, 404),
        ("/ws/", None, 404),
        ("/ws?x=1", None, 0),
        ("/ws", "https://evil.example", 403),
        ("/ws", "null", 403),
        ("/ws", "http://", 403),
        ("/ws", "https://app.example", 0),
        ("/ws", "https://APP.example:443", 0),
        ("/ws", "http://app.example", 403),
        ("/ws", "http://{host}", 0),
        ("/ws", "https://{host}", 403),
        ("/ws", "http://{host}.evil.example", 403),
        ("/ws", "file://{host}", 403),
    ],
)
def test_who_may_upgrade(path: str, origin: str | None, status: int) -> None:
    async def main() -> None:
        async with serving(allow_origins=["https://app.example/"]) as server:
            host = f"127.0.0.1:{server.port}"
            headers = () if origin is None else (("Origin", origin.format(host=host)),)
            async with Peer.open(f"ws://{host}{path}", headers=headers) as peer:
                if status:
                    assert peer.refused is not None
                    assert peer.refused.status == status
                else:
                    assert (await peer.hello())["type"] == "hello_ok"

    run(main)


def test_too_many_upgrades_at_once_are_told_to_come_again() -> None:
    async def main() -> None:
        config = GatewayConfig(retry_after=7.0)
        async with serving(config=config, max_upgrades=2) as server:
            idle = [await asyncio.open_connection(server.host, server.port) for _ in range(2)]
            await until(lambda: server.connections == 2)
            async with Peer.open(server.url) as peer:
                assert peer.refused is not None
                assert (peer.refused.status, peer.refused.retry_after_seconds) == (503, 7.0)
            for _, writer in idle:
                writer.close()
                await writer.wait_closed()
            await until(lambda: server.connections == 0)
            async with Peer.open(server.url) as peer:
                assert (await peer.hello())["type"] == "hello_ok"

    run(main)


def test_beyond_twice_as_many_upgrades_a_connection_is_dropped() -> None:
    async def main() -> None:
        async with serving(max_upgrades=1) as server:
            idle = [await asyncio.open_connection(server.host, server.port) for _ in range(2)]
            await until(lambda: server.connections == 2)
            reader, writer = await asyncio.open_connection(server.host, server.port)
            with suppress(ConnectionResetError):
                assert await within(reader.read()) == b""
            for each in (writer, *(writer for _, writer in idle)):
                each.transport.abort()
                with suppress(OSError):
                    await each.wait_closed()

    run(main)


def test_an_upgrade_that_does_not_come_is_not_waited_for() -> None:
    async def main() -> None:
        async with serving(config=GatewayConfig(handshake_timeout=0.05)) as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(b"GET /ws HTTP/1.1\r\n")
            with suppress(ConnectionResetError):
                assert await within(reader.read()) == b""
            await until(lambda: server.connections == 0)
            writer.close()

    run(main)


def test_a_handshake_frame_that_does_not_come_is_4005() -> None:
    async def main() -> None:
        config = GatewayConfig(handshake_timeout=0.05)
        async with serving(config=config) as server, Peer.open(server.url) as peer:
            assert (await peer.ended()).code == 4005

    run(main)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x82\x80\x00\x00\x00\x00", 1003),
        (b"\x81\x81\x00\x00\x00\x00\xff", 1007),
        (b"\x83\x80\x00\x00\x00\x00", 1002),
        (b"\x81\x80", None),
    ],
)
def test_what_websocket_forbids_has_websockets_code(data: bytes, code: int | None) -> None:
    async def main() -> None:
        async with serving() as server:
            async with Peer.open(server.url) as peer:
                await peer.hello()
                peer.write(data)
                if code is None:
                    peer.write_eof()
                assert (await peer.ended()).received_code == code
            await until(lambda: server.connections == 0)

    run(main)


def test_a_message_over_the_limit_is_1009_even_while_more_of_it_is_on_its_way() -> None:
    async def main() -> None:
        config = GatewayConfig(max_payload=4096)
        async with serving(config=config) as server, Peer.open(server.url) as peer:
            await peer.hello()
            size = 20_000_000
            peer.write(b"\x81\xff" + size.to_bytes(8) + bytes(4) + b"x" * size)
            await peer.drain()  # the server reads it all, so that its answer is not lost
            assert (await peer.ended()).received_code == 1009

    run(main)


def test_a_flood_of_pings_gets_in_nobodys_way() -> None:
    async def main() -> None:
        async with serving() as server, Peer.open(server.url) as peer:
            await peer.hello()
            ping = b"\x89\xfd" + bytes(4) + bytes(125)
            peer.write(ping * 20_000)
            peer.send(message("after", "r1"))
            frame = await peer.next("message_ack")
            assert frame["request_id"] == "r1"

    run(main)


# -- credit -----------------------------------------------------------------------------------


def test_a_stalled_subscriber_holds_nobody_up_and_gets_all_of_it_later() -> None:
    async def main() -> None:
        config = GatewayConfig(retain=5000, retain_bytes=64 * 2**20)
        count = 1500
        async with (
            serving(config=config) as server,
            Peer.open(server.url, limit=1024) as slow,
            Peer.open(server.url) as fast,
        ):
            welcome = await slow.hello()
            session = server.session(welcome["session_id"])
            await fast.hello(session_id=session.session_id, epoch=welcome["epoch"], since=0)
            for n in range(count):
                session.publish("note", {"n": n, "text": "x" * 10_000})
            for peer in (fast, slow):
                seqs = [(await peer.next("event"))["seq"] for _ in range(count)]
                assert seqs == list(range(1, count + 1))

    run(main)


def test_a_peer_that_takes_nothing_is_closed_as_a_slow_consumer() -> None:
    async def main() -> None:
        application = Recorder()
        config = GatewayConfig(retain=5000, retain_bytes=64 * 2**20, stall_timeout=0.2)
        async with (
            serving(application, config, close_timeout=0.1) as server,
            Peer.open(server.url, limit=1024) as peer,
        ):
            session = server.session((await peer.hello())["session_id"])
            for n in range(2000):
                session.publish("note", {"n": n, "text": "x" * 10_000})
            await until(lambda: application.of(SubscriberLeft))
            # It still reads nothing, so the Close frame never goes out.
            await until(lambda: server.connections == 0)

    run(main)


def test_a_peer_that_takes_slowly_is_not_one_that_takes_nothing() -> None:
    async def main() -> None:
        config = GatewayConfig(send_window=2**26, retain_bytes=2**26, stall_timeout=0.5)
        count = 40
        application = Recorder()
        async with (
            serving(application, config) as server,
            Peer.open(server.url, limit=1024) as peer,
        ):
            session = server.session((await peer.hello())["session_id"])
            for _ in range(count):
                session.publish("note", {"text": "x" * 900_000})
            # All of it is in the transport's buffer, which is not empty for a long time.
            for seq in range(1, count + 1):
                pause = asyncio.Event()
                asyncio.get_running_loop().call_later(0.04, pause.set)
                await pause.wait()
                assert (await peer.next("event"))["seq"] == seq
            assert application.of(SubscriberLeft) == []

    run(main)


def test_a_frame_larger_than_the_credit_arrives() -> None:
    async def main() -> None:
        config = GatewayConfig(send_window=1000)
        async with serving(config=config) as server, Peer.open(server.url) as peer:
            session = server.session((await peer.hello())["session_id"])
            for _ in range(3):
                session.publish("note", {"text": "x" * 900_000})
            assert [(await peer.next("event"))["seq"] for _ in range(3)] == [1, 2, 3]

    run(main)


# -- the application --------------------------------------------------------------------------


class Doorman(Application):
    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked = 0
        self.cancelled = 0

    async def authenticate(self, join: JoinRequested) -> str | None:
        self.asked += 1
        if isinstance(self.answer, BaseException):
            raise self.answer
        if isinstance(self.answer, asyncio.Event):
            try:
                await self.answer.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            return None
        return f"{self.answer}:{join.token}"


def test_a_session_belongs_to_the_principal_that_opened_it() -> None:
    async def main() -> None:
        async with serving(Doorman("p")) as server:
            async with Peer.open(server.url) as peer:
                first = await peer.hello(token="one")
            position = {"session_id": first["session_id"], "epoch": first["epoch"], "since": 0}
            for token, resumed in (("two", False), ("one", True)):
                async with Peer.open(server.url) as peer:
                    assert (await peer.hello(token=token, **position))["resumed"] is resumed

    run(main)


def test_a_rejection_says_what_the_application_said() -> None:
    async def main() -> None:
        rejected = Rejected(ErrorCode.RATE_LIMITED, "later", retry_after_seconds=3.0)
        async with serving(Doorman(rejected)) as server, Peer.open(server.url) as peer:
            error = await peer.hello()
            assert (error["type"], error["code"]) == ("hello_error", "rate_limited")
            assert (error["message"], error["retry_after_seconds"]) == ("later", 3.0)
            assert (await peer.ended()).code == 4003

    run(main)


def test_a_server_without_a_store_does_not_write_ahead() -> None:
    with pytest.raises(ValueError, match="no store"):
        serve(Application(), config=GatewayConfig(write_ahead=True))


def test_a_code_that_closes_nothing_rejects_nobody() -> None:
    with pytest.raises(ValueError, match="does not close"):
        Rejected(ErrorCode.NOT_JOINED)


@pytest.mark.parametrize("error", [RuntimeError("secret"), asyncio.CancelledError()])
def test_a_failing_authenticate_is_logged_and_tells_the_client_nothing(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving(Doorman(error)) as server, Peer.open(server.url) as peer:
            frame = await peer.hello()
            assert frame["code"] == "internal_error"
            assert "secret" not in str(frame)
            assert (await peer.ended()).code == 4004

    with caplog.at_level(logging.ERROR, logger="gatewayproto.asyncio"):
        run(main)
    assert [record.getMessage() for record in caplog.records] == [
        "authenticate failed for connection 1"
    ]


def test_authenticate_is_cancelled_when_the_client_leaves() -> None:
    async def main() -> None:
        application = Doorman(asyncio.Event())
        async with serving(application) as server:
            async with Peer.open(server.url) as peer:
                peer.send({"type": "hello", "agent_id": "a"})
                await until(lambda: application.asked == 1)
                peer.close()
                await peer.ended()
            await until(lambda: application.cancelled == 1)

    run(main)


def test_the_messages_of_a_session_come_one_after_the_other_and_sessions_side_by_side() -> None:
    async def main() -> None:
        gates = {name: asyncio.Event() for name in ("a1", "a2", "b1")}
        log: list[str] = []

        async def work(_: SessionHandle, received: MessageReceived) -> None:
            name = str(received.content)
            log.append(f"begin {name}")
            await gates[name].wait()
            log.append(f"end {name}")

        async with (
            serving(Recorder(work)) as server,
            Peer.open(server.url) as a,
            Peer.open(server.url) as b,
        ):
            await a.hello()
            await b.hello()
            a.send(message("a1"))
            a.send(message("a2"))
            await until(lambda: log == ["begin a1"])
            b.send(message("b1"))
            await until(lambda: log == ["begin a1", "begin b1"])
            gates["a2"].set()
            gates["b1"].set()
            await until(lambda: "end b1" in log)
            assert "begin a2" not in log
            gates["a1"].set()
            await until(lambda: "end a2" in log)
            assert log[-3:] == ["end a1", "begin a2", "end a2"]

    run(main)


def test_work_goes_on_when_nobody_is_connected() -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def work(session: SessionHandle, _: MessageReceived) -> None:
            await gate.wait()
            session.publish("response", {"text": "done"})

        application = Recorder(work)
        async with serving(application) as server:
            async with Peer.open(server.url) as peer:
                welcome = await peer.hello()
                peer.send(message("go"))
                await until(lambda: application.messages)
            await until(lambda: server.connections == 0)
            gate.set()
            async with Peer.open(server.url) as peer:
                position = {"session_id": welcome["session_id"], "epoch": welcome["epoch"]}
                await peer.hello(**position, since=0)
                assert (await peer.next("replay"))["event"]["data"] == {"text": "done"}

    run(main)


def test_what_hooks_raise_is_logged_and_the_next_message_is_worked_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Failing(Recorder):
        def on_event(self, event: Any) -> None:
            super().on_event(event)
            if isinstance(event, SessionOpened):
                raise RuntimeError("from on_event")  # noqa: TRY004 - no wrong type

    async def work(session: SessionHandle, received: MessageReceived) -> None:
        match received.content:
            case "raise":
                raise ValueError("from on_message")
            case "cancel":
                raise asyncio.CancelledError
            case _:
                await echo(session, received)

    async def main() -> None:
        async with serving(Failing(work)) as server, Peer.open(server.url) as peer:
            await peer.hello()
            for content in ("raise", "cancel", "fine"):
                peer.send(message(content))
            assert (await peer.next("event"))["event"]["data"] == {"text": "fine"}

    with caplog.at_level(logging.ERROR, logger="gatewayproto.asyncio"):
        run(main)
    assert [record.getMessage() for record in caplog.records] == [
        "on_event failed",
        "on_message failed for message 1",
        "on_message failed for message 2",
    ]
    assert all(record.exc_info for record in caplog.records)


def test_an_observer_may_publish_and_is_told_of_it_later_and_in_order() -> None:
    class Greeter(Recorder):
        server: Any = None
        inside = False

        def on_event(self, event: Any) -> None:
            assert not self.inside
            self.inside = True
            super().on_event(event)
            if isinstance(event, SubscriberJoined):
                assert self.server.session(event.session_id).publish("note", {"n": 1}) == 1
                assert self.server.session(event.session_id).publish("note", {"n": 2}) == 2
            self.inside = False

    async def main() -> None:
        application = Greeter()
        async with serving(application) as server:
            application.server = server
            async with Peer.open(server.url) as peer:
                assert (await peer.hello())["type"] == "hello_ok"
                assert [(await peer.next("event"))["seq"] for _ in range(2)] == [1, 2]

    run(main)


# -- the end ----------------------------------------------------------------------------------


def test_close_tells_every_client_1012_and_ends_every_task() -> None:
    async def main() -> None:
        started = asyncio.Event()

        async def work(_: SessionHandle, __: MessageReceived) -> None:
            started.set()
            await asyncio.Event().wait()

        async with serving(Recorder(work)) as server, Peer.open(server.url) as peer:
            await peer.hello()
            peer.send(message("work for ever"))
            await within(started.wait())
            closing = asyncio.create_task(server.close())
            closed = await peer.ended()
            assert (closed.code, closed.clean) == (1012, True)
            await within(closing)
            await within(server.wait_closed())
            assert server.connections == 0
            with pytest.raises(OSError, match="Connect call failed"):
                await asyncio.open_connection(server.host, server.port)
            await server.close()

    run(main)


def test_close_does_not_wait_for_a_peer_that_does_not_answer() -> None:
    async def main() -> None:
        async with serving(close_timeout=0.05) as server, Peer.open(server.url) as silent:
            await silent.hello()
            reader, writer = await asyncio.open_connection(server.host, server.port)
            await until(lambda: server.connections == 2)
            await within(server.close())
            assert server.connections == 0
            writer.close()
            del reader

    run(main)


def test_a_cancelled_close_aborts_what_is_left() -> None:
    async def main() -> None:
        async with serving(close_timeout=1000.0) as server, Peer.open(server.url) as silent:
            await silent.hello()
            closing = asyncio.create_task(server.close())
            await asyncio.sleep(0)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await within(closing)
            assert server.connections == 0

    run(main)


def test_close_from_a_hook_does_not_wait_for_the_hook() -> None:
    class Late(Recorder):
        work: Any = None

        async def on_message(self, session: SessionHandle, message: MessageReceived) -> None:
            await self.work(session, message)

    application = Late()

    async def main() -> None:
        async with serve(application, port=0) as server:

            async def work(_: SessionHandle, __: MessageReceived) -> None:
                await server.close(code=1001)

            application.work = work
            async with Peer.open(server.url) as peer:
                await peer.hello()
                peer.send(message("stop"))
                assert (await peer.ended()).code == 1001
            await within(server.wait_closed())

    run(main)


def test_a_code_that_no_close_frame_may_carry_changes_nothing() -> None:
    async def main() -> None:
        async with serving() as server, Peer.open(server.url) as peer:
            with pytest.raises(RuntimeError):
                await server.close(code=1006)
            assert (await peer.hello())["type"] == "hello_ok"

    run(main)


def test_an_exception_in_the_body_comes_out_as_it_is() -> None:
    async def main() -> None:
        async with serving() as server, Peer.open(server.url) as peer:
            await peer.hello()
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run(main)


def test_an_address_in_use_is_an_os_error() -> None:
    async def main() -> None:
        async with serving() as server:
            with pytest.raises(OSError, match="in use"):
                async with serve(Recorder(), port=server.port):
                    pass

    run(main)


def test_ipv6_has_brackets_in_its_url() -> None:
    async def main() -> None:
        try:
            async with serving(host="::1") as server:
                assert server.url == f"ws://[::1]:{server.port}/ws"
                async with Peer.open(server.url) as peer:
                    assert (await peer.hello())["type"] == "hello_ok"
        except OSError:
            pytest.skip("no IPv6 here")

    run(main)


def test_a_server_is_entered_once_and_used_inside() -> None:
    async def main() -> None:
        server = serving()
        with pytest.raises(RuntimeError):
            server.set_health({})
        await server.close()
        async with server:
            pass
        with pytest.raises(RuntimeError):
            await server.__aenter__()

    run(main)


def test_a_peer_that_reads_may_ask_much_at_once() -> None:
    async def main() -> None:
        config = GatewayConfig(frame_rate=None)
        async with serving(config=config) as server, Peer.open(server.url) as peer:
            await peer.hello()
            for _ in range(20_000):
                peer.send({"type": "x"})
            for _ in range(20_000):
                assert (await peer.next("error"))["code"] == "unknown_type"

    run(main)
