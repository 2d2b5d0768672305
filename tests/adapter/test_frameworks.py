"""Both adapters, called alike, do alike: TLS, Unix sockets, proxies, and what their users see."""

import socket
import ssl
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from attrs import frozen

from gatewayproto import ClientConfig, Gateway, GatewayConfig
from gatewayproto.actions import EventReceived, Joined, RetryScheduled
from gatewayproto.backoff import Backoff
from tests.adapter.frameworks import FRAMEWORKS, Echo, Framework, patience, until

FAST = ClientConfig(agent_id="demo", backoff=Backoff(initial=0.01, maximum=0.02))
pytestmark = pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)


@frozen
class Tls:
    """A server's context, a client's that trusts it, and a client's that trusts somebody else."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    stranger: ssl.SSLContext


@pytest.fixture(scope="module")
def tls() -> Tls:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(server)
    client, stranger = ssl.create_default_context(), ssl.create_default_context()
    authority.configure_trust(client)
    trustme.CA().configure_trust(stranger)
    return Tls(server, client, stranger)


async def converse(server: Any, client: Any, *, events: int = 50) -> None:
    """A message, its answer, and events of many sizes, all of them in order."""
    with patience():
        joined = await anext(client)
        assert isinstance(joined, Joined)
        session = server.session(joined.token.session_id)
        await client.send("hello")
        answer = await anext(client)
        assert isinstance(answer, EventReceived)
        assert answer.event.data == {"content": "hello"}
        for n in range(events):
            session.publish("note", {"text": "x" * (997 * n)})
        for n in range(events):
            item = await anext(client)
            assert isinstance(item, EventReceived)
            assert (item.seq, len(item.event.data["text"])) == (n + 2, 997 * n)


# -- TLS --------------------------------------------------------------------------------------


def test_everything_works_over_tls(framework: Framework, tls: Tls) -> None:
    async def main() -> None:
        adapter = framework.adapter
        async with adapter.serve(Echo(), port=0, ssl=tls.server) as server:
            assert server.url.startswith("wss://")
            async with adapter.connect(server.url, config=FAST, ssl=tls.client) as client:
                await converse(server, client, events=100)
            await until(lambda: server.connections == 0)

    framework.run(main)


def test_a_server_whose_certificate_is_not_trusted_gets_no_handshake(
    framework: Framework, tls: Tls
) -> None:
    async def main() -> None:
        adapter, application, retries = framework.adapter, Echo(), []

        def on_event(event: object) -> None:
            if isinstance(event, RetryScheduled):
                retries.append(event)

        async with (
            adapter.serve(application, port=0, ssl=tls.server) as server,
            adapter.connect(server.url, config=FAST, ssl=tls.stranger, on_event=on_event),
        ):
            await until(lambda: len(retries) >= 2)
            assert application.joins == []

    framework.run(main)


def test_closing_says_so_over_tls_as_well(framework: Framework, tls: Tls) -> None:
    async def main() -> None:
        adapter, retries = framework.adapter, []

        def on_event(event: object) -> None:
            if isinstance(event, RetryScheduled):
                retries.append(event.code)

        async with (
            adapter.serve(Echo(), port=0, ssl=tls.server) as server,
            adapter.connect(server.url, config=FAST, ssl=tls.client, on_event=on_event) as client,
        ):
            with patience():
                await anext(client)
                await server.close()
            await until(lambda: retries)
            assert retries[0] == "close_1012"

    framework.run(main)


def test_who_does_not_begin_tls_is_not_waited_for(framework: Framework, tls: Tls) -> None:
    async def main() -> None:
        adapter = framework.adapter
        config = GatewayConfig(handshake_timeout=0.1)
        async with (
            adapter.serve(Echo(), port=0, config=config, ssl=tls.server) as server,
            await anyio.connect_tcp(server.host, server.port) as stream,
        ):
            with patience(), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await stream.receive()
            await until(lambda: server.connections == 0)

    framework.run(main)


# -- Unix sockets -----------------------------------------------------------------------------


def socket_at(path: str) -> bool:
    return Path(path).is_socket()


def test_everything_works_over_a_unix_socket(framework: Framework, tmp_path: Path) -> None:
    async def main() -> None:
        adapter, application = framework.adapter, Echo()
        path = str(tmp_path / "gateway")
        async with adapter.serve(application, unix_path=path) as server:
            assert socket_at(path)
            async with adapter.connect(server.url, config=FAST, unix_path=path) as client:
                await converse(server, client)
            assert [join.peer for join in application.joins] == ["unix"]
        assert not socket_at(path)

    framework.run(main)


def test_tls_works_over_a_unix_socket(framework: Framework, tls: Tls, tmp_path: Path) -> None:
    async def main() -> None:
        adapter = framework.adapter
        path = str(tmp_path / "gateway")
        async with (
            adapter.serve(Echo(), unix_path=path, ssl=tls.server) as server,
            adapter.connect(
                "wss://localhost/ws", config=FAST, unix_path=path, ssl=tls.client
            ) as client,
        ):
            await converse(server, client, events=5)

    framework.run(main)


def test_a_socket_that_nobody_listens_on_is_replaced(framework: Framework, tmp_path: Path) -> None:
    path = str(tmp_path / "gateway")
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(path)

    async def main() -> None:
        adapter = framework.adapter
        async with (
            adapter.serve(Echo(), unix_path=path) as server,
            adapter.connect(server.url, config=FAST, unix_path=path) as client,
        ):
            await converse(server, client, events=1)

    framework.run(main)


def test_a_socket_that_somebody_listens_on_stays(framework: Framework, tmp_path: Path) -> None:
    async def main() -> None:
        adapter = framework.adapter
        path = str(tmp_path / "gateway")
        async with adapter.serve(Echo(), unix_path=path) as server:
            with pytest.raises(OSError, match="in use"):
                await adapter.serve(Echo(), unix_path=path).__aenter__()
            async with adapter.connect(server.url, config=FAST, unix_path=path) as client:
                await converse(server, client, events=1)

    framework.run(main)


def test_a_file_that_is_no_socket_stays(framework: Framework, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("something")

    async def main() -> None:
        with pytest.raises(OSError, match="in use"):
            await framework.adapter.serve(Echo(), unix_path=str(path)).__aenter__()

    framework.run(main)
    assert path.read_text() == "something"


def test_the_socket_of_a_successor_stays(framework: Framework, tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "gateway"
        async with framework.adapter.serve(Echo(), unix_path=str(path)):
            path.unlink()
            with socket.socket(socket.AF_UNIX) as successor:
                successor.bind(str(path))
        assert path.exists()

    framework.run(main)


# -- proxies ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trusted", "peer"),
    [
        ((), "127.0.0.1:"),
        (("10.0.0.0/8",), "127.0.0.1:"),
        (("127.0.0.1",), "192.0.2.7"),
        (("127.0.0.0/8", "192.0.2.7"), "198.51.100.1"),
    ],
    ids=str,
)
def test_whom_a_trusted_proxy_names_is_the_peer(
    framework: Framework, trusted: tuple[str, ...], peer: str
) -> None:
    async def main() -> None:
        adapter, application = framework.adapter, Echo()
        headers = [("X-Forwarded-For", "198.51.100.1"), ("X-Forwarded-For", "192.0.2.7")]
        async with (
            adapter.serve(application, port=0, trusted_proxies=trusted) as server,
            adapter.connect(server.url, config=FAST, headers=headers) as client,
        ):
            with patience():
                await anext(client)
        assert application.joins[0].peer.startswith(peer)

    framework.run(main)


def test_the_peer_of_a_unix_socket_may_be_trusted(framework: Framework, tmp_path: Path) -> None:
    async def main() -> None:
        adapter, application = framework.adapter, Echo()
        path = str(tmp_path / "gateway")
        headers = [("X-Forwarded-For", "192.0.2.7")]
        async with (
            adapter.serve(application, unix_path=path, trusted_proxies=["unix"]) as server,
            adapter.connect(server.url, config=FAST, unix_path=path, headers=headers) as client,
        ):
            with patience():
                await anext(client)
        assert application.joins[0].peer == "192.0.2.7"

    framework.run(main)


def test_a_proxy_that_is_no_address_is_a_mistake(framework: Framework) -> None:
    with pytest.raises(ValueError, match="no address"):
        framework.adapter.serve(Echo(), trusted_proxies=["proxy.example"])


def test_a_server_without_a_store_does_not_write_ahead(framework: Framework) -> None:
    with pytest.raises(ValueError, match="no store"):
        framework.adapter.serve(Echo(), config=GatewayConfig(write_ahead=True))


# -- what users see ---------------------------------------------------------------------------


def test_both_adapters_export_the_same(framework: Framework) -> None:
    names = [set(each.adapter.__all__) for each in FRAMEWORKS]
    assert all(each == names[0] for each in names)
    shared = names[0] - {"ClientSession", "Server", "connect", "monotonic", "serve"}
    for name in shared:
        assert getattr(framework.adapter, name) is getattr(FRAMEWORKS[0].adapter, name)


def test_an_error_in_the_body_comes_out_as_it_is(framework: Framework) -> None:
    async def main() -> None:
        adapter = framework.adapter
        async with (
            adapter.serve(Echo(), port=0) as server,
            adapter.connect(server.url, config=FAST) as client,
        ):
            with patience():
                await anext(client)
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        framework.run(main)


def test_what_a_callback_raises_comes_out_as_it_is(framework: Framework) -> None:
    def on_event(event: object) -> None:
        assert not isinstance(event, EventReceived), "mine"

    async def main() -> None:
        adapter = framework.adapter
        async with (
            adapter.serve(Echo(), port=0) as server,
            adapter.connect(server.url, config=FAST, on_event=on_event) as client,
        ):
            with patience():
                await anext(client)
                await client.send("hello")
                await anext(client)

    with pytest.raises(AssertionError, match="mine"):
        framework.run(main)


def test_an_address_in_use_is_an_os_error(framework: Framework) -> None:
    async def main() -> None:
        adapter = framework.adapter
        async with adapter.serve(Echo(), port=0) as server:
            with pytest.raises(OSError, match="in use"):
                await adapter.serve(Echo(), port=server.port).__aenter__()

    framework.run(main)


def test_they_are_entered_once(framework: Framework) -> None:
    async def main() -> None:
        adapter = framework.adapter
        async with adapter.serve(Echo(), port=0) as server:
            with pytest.raises(RuntimeError, match="once"):
                await server.__aenter__()
            async with adapter.connect(server.url, config=FAST) as client:
                with pytest.raises(RuntimeError, match="once"):
                    await client.__aenter__()

    framework.run(main)


def test_a_machine_goes_on_under_another_adapter(framework: Framework) -> None:
    """What was saved under one framework is restored under the next, and the time goes on."""
    other = FRAMEWORKS[FRAMEWORKS.index(framework) - 1]
    saved: list[Any] = []

    async def before() -> None:
        adapter = framework.adapter
        async with adapter.serve(Echo(), port=0) as server:
            async with adapter.connect(server.url, config=FAST) as client:
                with patience():
                    await anext(client)
                    await client.send("hello")
                    item = await anext(client)
            await server.close()
            saved.extend((server.save(), item.token))

    async def after() -> None:
        state, token = saved
        adapter = other.adapter
        gateway = Gateway.from_state(GatewayConfig(), state, now=adapter.monotonic())
        async with (
            adapter.serve(Echo(), port=0, gateway=gateway) as server,
            adapter.connect(server.url, config=FAST, resume=token) as client,
        ):
            with patience():
                await client.send("again")
                item = await anext(client)
            assert item.event.data == {"content": "again"}

    framework.run(before)
    other.run(after)
