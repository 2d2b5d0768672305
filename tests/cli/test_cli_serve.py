"""`gatewayproto serve` as a process: its ready line, its options, its end."""

import signal
import socket

import pytest

from tests.cli.cli_support import Process, of_kind, run, tail

SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@pytest.mark.usefixtures("adapter")
def test_a_signal_sends_its_clients_away_and_ends_it_with_0() -> None:
    with Process("serve", "--port", "0") as server:
        url = server.ready()
        sends = ("--send", "sleep 60 never", "--send", "tokens 100000 1")
        limits = ("--max-attempts", "1", "--backoff-initial", "0.01", "--backoff-max", "0.01")
        with Process("tail", url, "--json", *limits, *sends) as client:
            client.until("accepted")
            server.signal(signal.SIGTERM)
            assert client.until("state") == {"emit": "state", "state": "reconnecting"}
            retry = client.until("retry")
            assert retry["code"] == "going_away"
            assert 0.5 <= retry["delay"] <= 1.5
            assert server.end() == (0, "", "")
            client.signal(signal.SIGTERM)
            assert client.end()[0] == 0


@pytest.mark.usefixtures("adapter")
@SIGNALS
def test_an_idle_one_ends_with_0_and_leaves_its_port(number: signal.Signals) -> None:
    with Process("serve", "--port", "0") as server:
        port = server.ready().split(":")[2].removesuffix("/ws")
        server.signal(number)
        assert server.end() == (0, "", "")
    with Process("serve", "--port", port) as server:
        assert server.ready() == f"ws://127.0.0.1:{port}/ws"


@pytest.mark.on_trio
@pytest.mark.usefixtures("adapter")
def test_an_address_that_cannot_be_had_is_1_with_its_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, out, err = run("serve", "--port", port)
        assert (status, out) == (1, "")
        assert err == f"Error: cannot serve on 127.0.0.1, port {port}: Address already in use\n"
    for host in ("no.such.host.invalid", "x" * 70 + ".example"):
        status, out, err = run("serve", "--host", host)
        assert (status, out) == (1, "")
        assert err.startswith(f"Error: cannot serve on {host}, port 8765: ")
        assert len(err.splitlines()) == 1


@pytest.mark.usefixtures("adapter")
def test_options_reach_the_gateway() -> None:
    options = (
        *("--agent-id", "ann", "--agent-id", "bob"),
        *("--token", "red", "--token", "blue"),
        *("--retain", "2", "--strict"),
    )
    with Process("serve", "--port", "0", *options) as server:
        url = server.ready()
        bob = ("--agent-id", "bob")
        lines = tail(url, *bob, "--token", "red", "--send", "burst 5", "--until", "5")
        (joined,) = of_kind(lines, "joined")
        back = ("--session", joined["session_id"], "--epoch", joined["epoch"], "--since", "1")
        (again,) = of_kind(tail(url, *bob, "--token", "red", *back, "--until", "5"), "joined")
        assert (again["resync_reason"], again["oldest_cursor"]) == ("trimmed", 4)
        (other,) = of_kind(tail(url, *bob, "--token", "blue", *back, "--until", "0"), "joined")
        assert other["session_id"] != joined["session_id"]
        assert of_kind(tail(url, status=1), "stopped")[0]["code"] == "auth_required"


@pytest.mark.usefixtures("adapter")
def test_nothing_that_a_peer_sends_can_break_a_line_of_the_log() -> None:
    # Whatever is logged of it, or nothing: no control character of the peer's reaches stderr.
    with Process("serve", "--port", "0") as server:
        url = server.ready()
        host, port = url.removeprefix("ws://").removesuffix("/ws").split(":")
        with socket.create_connection((host, int(port))) as peer:
            peer.sendall(b"GET /\x1b[31m\r\nX: \x07\x9b\r\n\r\n")
            while peer.recv(4096):
                pass
        server.signal(signal.SIGTERM)
        status, out, err = server.end()
        assert (status, out) == (0, "")
        assert all(line.isprintable() for line in err.splitlines())
