"""The client against servers that do odd things, and over TLS."""

import asyncio
import socket
import ssl

import pytest
from gatewayproto_asyncio import ClientSession, ClientStoppedError, Item, connect

from gatewayproto.actions import (
    ClientEvent,
    EventReceived,
    Joined,
    RetryScheduled,
    SnapshotReceived,
)
from gatewayproto.backoff import Backoff
from gatewayproto.config import ClientConfig
from tests.asyncio_adapter.aio_support import (
    FakeConnection,
    FakeServer,
    Frame,
    Recorder,
    run,
    serving,
    until,
    within,
)

BACKOFF = Backoff(initial=0.01, maximum=0.05)
FAST = ClientConfig(agent_id="a", backoff=BACKOFF)

POLICY = {
    "max_payload": 2**20,
    "heartbeat_ms": 200,
    "resume_window_ms": 1000,
    "request_ttl_ms": 1000,
    "max_pending_requests": 10,
}


class Retries(list[RetryScheduled]):
    """Remembers the retries among a client's events."""

    def __call__(self, event: ClientEvent) -> None:
        if isinstance(event, RetryScheduled):
            self.append(event)


async def take(client: ClientSession) -> Item:
    return await within(anext(client))


def test_a_pong_names_what_the_application_has_finished_and_no_more() -> None:
    async def main() -> None:
        pongs: list[Frame] = []
        answered = asyncio.Queue[Frame]()
        go = asyncio.Event()

        async def script(connection: FakeConnection) -> None:
            await connection.welcome()
            for seq in (1, 2, 3):
                connection.event(seq)
            for _ in range(3):
                await go.wait()
                go.clear()
                connection.send({"type": "ping", "nonce": "n", "cursor": 3})
                answered.put_nowait(await connection.next())
            await connection.ended()

        async with FakeServer(script) as server, connect(server.url, agent_id="a") as client:
            assert isinstance(await take(client), Joined)
            for _ in range(3):
                assert isinstance(await take(client), EventReceived)
                go.set()
                pongs.append(await within(answered.get()))
        # The one that it is at work on is not taken yet.
        assert [pong.get("cursor", 0) for pong in pongs] == [0, 1, 2]

    run(main)


def test_what_came_before_a_final_close_is_handed_on_before_the_error() -> None:
    async def main() -> None:
        async def script(connection: FakeConnection) -> None:
            await connection.welcome()
            for seq in range(1, 51):
                connection.event(seq)
            await connection.close(4508)

        async with (
            FakeServer(script) as server,
            connect(server.url, config=FAST, buffer=4) as client,
        ):
            assert isinstance(await take(client), Joined)
            assert [(await take(client)).token.cursor for _ in range(50)] == list(range(1, 51))
            with pytest.raises(ClientStoppedError) as stopped:
                await take(client)
            assert stopped.value.code == "session_closed"

    run(main)


def test_what_is_taken_of_an_earlier_session_is_not_taken_of_the_present_one() -> None:
    async def main() -> None:
        pongs = asyncio.Queue[Frame]()
        go = asyncio.Event()

        async def script(connection: FakeConnection) -> None:
            session_id = f"s{server.opened}"
            await connection.welcome(session_id=session_id, epoch=f"e{server.opened}")
            for seq in range(1, 6):
                connection.event(seq)
            if server.opened == 1:
                await connection.close(1012)
                return
            await go.wait()
            connection.send({"type": "ping", "nonce": "n", "cursor": 5})
            pongs.put_nowait(await connection.next())
            await connection.ended()

        seen: list[ClientEvent] = []
        async with (
            FakeServer(script) as server,
            connect(server.url, config=FAST, on_event=seen.append) as client,
        ):
            await until(lambda: sum(isinstance(each, EventReceived) for each in seen) == 10)
            for _ in range(5):
                assert (await take(client)).token.session_id == "s1"
            go.set()
            assert (await within(pongs.get())).get("cursor", 0) == 0

    run(main)


def test_what_one_read_brought_is_handed_on_only_as_far_as_there_is_room() -> None:
    async def main() -> None:
        handed_on: list[int] = []

        def note(event: ClientEvent) -> None:
            if isinstance(event, EventReceived):
                handed_on.append(event.seq)

        async def script(connection: FakeConnection) -> None:
            await connection.welcome()
            for seq in range(1, 201):
                connection.event(seq)
            await connection.ended()

        async with (
            FakeServer(script) as server,
            connect(server.url, agent_id="a", buffer=10, on_event=note) as client,
        ):
            assert isinstance(await take(client), Joined)
            for taken in range(1, 201):
                assert (await take(client)).token.cursor == taken
                assert len(handed_on) <= taken + 10

    run(main)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x81\x02{]",
        b"\xff\xff\xff\xff",
        b"\x82\x00",
        b"\x81\x7f\x00\x00\x00\x00\x7f\xff\xff\xff",
        b"\x89\x7e\x00\xff",
    ],
)
def test_after_garbage_the_client_comes_back_where_it_was(garbage: bytes) -> None:
    async def main() -> None:
        hellos: list[Frame] = []

        async def script(connection: FakeConnection) -> None:
            if not hellos:
                hellos.append(await connection.welcome())
                connection.event(1)
                connection.write(garbage)
            else:
                hellos.append(await connection.welcome(resumed=True, cursor=2, sequence=1))
                connection.event(2)
            await connection.ended()

        async with FakeServer(script) as server, connect(server.url, config=FAST) as client:
            assert isinstance(await take(client), Joined)
            assert [(await take(client)).token.cursor for _ in range(2)] == [1, 2]
            assert (hellos[1]["session_id"], hellos[1]["since"]) == ("s", 1)

    run(main)


def test_a_server_that_never_answers_the_close_is_not_waited_for() -> None:
    async def main() -> None:
        async def script(connection: FakeConnection) -> None:
            await connection.welcome()
            await connection.ended()

        async with FakeServer(script, answers_close=False) as server:
            async with connect(server.url, agent_id="a", close_timeout=0.05) as client:
                await take(client)
            assert client.state == "disconnected"

    run(main)


def test_leaving_while_nothing_is_read_closes_in_good_order() -> None:
    async def main() -> None:
        ends: list[bool] = []

        async def script(connection: FakeConnection) -> None:
            await connection.welcome()
            for seq in range(1, 101):
                connection.event(seq, text="x" * 100_000)
            await connection.ended()
            assert connection.closed is not None
            ends.append(connection.closed.clean)

        seen: list[ClientEvent] = []
        async with FakeServer(script) as server:
            client = connect(
                server.url, agent_id="a", buffer=2, close_timeout=1000.0, on_event=seen.append
            )
            async with client:
                await until(lambda: any(isinstance(each, EventReceived) for each in seen))
                await within(client.aclose())
            await until(lambda: ends == [True])

    run(main)


def test_a_connection_ended_for_garbage_while_nothing_is_read_goes_away() -> None:
    async def main() -> None:
        async def script(connection: FakeConnection) -> None:
            if server.opened == 1:
                await connection.welcome()
                for seq in range(1, 11):
                    connection.event(seq)
                connection.write(b"\xff\xff")
            else:
                await connection.welcome(resumed=True, cursor=10, sequence=10)
            await connection.ended()

        async with FakeServer(script) as server:
            client = connect(server.url, config=FAST, buffer=1, close_timeout=1000.0)
            async with client:
                assert isinstance(await take(client), Joined)
                for _ in range(10):
                    await take(client)
                await until(lambda: server.opened == 2 and client.state == "connected")
                await within(client.aclose())

    run(main)


def test_leaving_does_not_wait_for_a_connection_that_does_not_come_about() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as deaf:  # it never accepts
            url = f"ws://127.0.0.1:{deaf.getsockname()[1]}/ws"
            async with connect(url, agent_id="a", close_timeout=1000.0) as client:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await anext(client)

    run(main)


def test_a_server_that_says_nothing_is_given_up_in_time() -> None:
    async def main() -> None:
        retries = Retries()

        async def script(connection: FakeConnection) -> None:
            if server.opened == 1:
                await connection.ended()
            else:
                await connection.welcome()
                await connection.ended()

        config = ClientConfig(agent_id="a", backoff=BACKOFF, handshake_timeout=0.1)
        async with (
            FakeServer(script) as server,
            connect(server.url, config=config, on_event=retries) as client,
        ):
            assert isinstance(await take(client), Joined)
            assert [each.code for each in retries] == ["handshake_timeout"]

    run(main)


def test_retry_after_is_a_floor() -> None:
    async def main() -> None:
        retries = Retries()

        async def script(connection: FakeConnection) -> None:
            await connection.welcome()
            await connection.ended()

        refusals = ((503, (("Retry-After", "1"),)), (502, ()))
        async with (
            FakeServer(script, refusals=refusals) as server,
            connect(server.url, config=FAST, on_event=retries) as client,
        ):
            assert isinstance(await take(client), Joined)
            assert [each.delay >= 1 for each in retries] == [True, False]

    run(main)


def test_a_large_snapshot_reaches_an_application_whose_buffer_is_full() -> None:
    async def main() -> None:
        opened = 0

        async def script(connection: FakeConnection) -> None:
            nonlocal opened
            opened += 1
            if opened == 1:
                await connection.welcome()
                for seq in range(1, 6):
                    connection.event(seq)
                await connection.close(1012)
                return
            await connection.welcome(
                resumed=True,
                epoch="e2",
                cursor=9,
                sequence=9,
                resync_required=True,
                resync_reason="epoch_changed",
            )
            state = {"text": "x" * 500_000}
            connection.send(
                {
                    "type": "snapshot",
                    "cursor": 9,
                    "epoch": "e2",
                    "reason": "epoch_changed",
                    "state": state,
                }
            )
            await connection.ended()

        retries = Retries()
        config = ClientConfig(
            agent_id="a", backoff=BACKOFF, handshake_timeout=0.3, recovery_timeout=0.3
        )
        async with (
            FakeServer(script) as server,
            connect(
                server.url, config=config, buffer=6, buffer_bytes=10_000, on_event=retries
            ) as client,
        ):
            # Nothing is taken; the buffer fills, and the client comes back all the same.
            await until(lambda: client.state == "connected" and opened == 2)
            gone_by = asyncio.Event()
            asyncio.get_running_loop().call_later(0.7, gone_by.set)
            await gone_by.wait()
            assert isinstance(await take(client), Joined)
            for seq in range(1, 6):
                assert (await take(client)).token.cursor == seq
            assert isinstance(await take(client), SnapshotReceived)
            assert (opened, len(retries)) == (2, 1)

    run(main)


# -- TLS --------------------------------------------------------------------------------------


def anonymous(purpose: int) -> ssl.SSLContext:
    """TLS between two ends that trust each other without certificates."""
    context = ssl.SSLContext(purpose)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aNULL:@SECLEVEL=0")
    return context


def test_everything_works_over_tls() -> None:
    async def main() -> None:
        application = Recorder()
        tls = anonymous(ssl.PROTOCOL_TLS_SERVER)
        async with serving(application, ssl=tls) as server:
            assert server.url.startswith("wss://")
            async with connect(
                server.url, config=FAST, ssl=anonymous(ssl.PROTOCOL_TLS_CLIENT)
            ) as client:
                session = server.session((await take(client)).token.session_id)
                await within(client.send("hi"))
                for n in range(300):
                    session.publish("note", {"n": n, "text": "x" * 10_000})
                assert [(await take(client)).token.cursor for _ in range(300)] == list(
                    range(1, 301)
                )
            await until(lambda: server.connections == 0)

    run(main)


def test_a_server_that_cannot_prove_who_it_is_gets_no_handshake() -> None:
    async def main() -> None:
        retries = Retries()
        application = Recorder()
        # asyncio reports a failed TLS handshake of an incoming connection as a problem.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        async with (
            serving(application, ssl=anonymous(ssl.PROTOCOL_TLS_SERVER)) as server,
            connect(server.url, config=FAST, on_event=retries),
        ):
            await until(lambda: len(retries) >= 2)
            assert application.events == []

    run(main)


def test_a_server_that_asks_for_ever_and_reads_nothing_is_given_up() -> None:
    """What nobody reads is not answered without an end: the client stops reading as well."""

    async def main() -> None:
        retries = Retries()

        async def script(connection: FakeConnection) -> None:
            await connection.welcome(policy=POLICY, session_id=f"s{server.opened}")
            if server.opened == 1:
                await connection.flood({"type": "ping", "nonce": "n" * 128, "cursor": 0})
            await connection.ended()

        async with (
            FakeServer(script) as server,
            connect(server.url, config=FAST, on_event=retries, close_timeout=0.1) as client,
        ):
            assert isinstance(await take(client), Joined)
            assert isinstance(await take(client), Joined)
            assert [each.code for each in retries] == ["liveness_timeout"]

    run(main)


def test_a_send_to_a_client_that_is_turned_away_says_why() -> None:
    async def main() -> None:
        async def script(connection: FakeConnection) -> None:
            await connection.ended()

        async with (
            FakeServer(script, refusals=((404, ()),)) as server,
            connect(server.url, config=FAST) as client,
        ):
            with pytest.raises(ClientStoppedError, match="http_404"):
                await within(client.send("hello"))

    run(main)
