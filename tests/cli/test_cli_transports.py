"""TLS, Unix sockets and proxies of `serve` and `tail`, and why a connection could not be made."""

import re
import signal
import socket
from pathlib import Path

import pytest
import trustme
from attrs import frozen

from tests.cli.cli_support import Process, invoke, of_kind, run, tail

pytestmark = pytest.mark.usefixtures("adapter")

ONCE = ("--max-attempts", "1", "--backoff-initial", "0.01", "--backoff-max", "0.01")


@frozen
class Files:
    """A certificate for 127.0.0.1, the key to it, both in one file, and whose word it is."""

    cert: str
    key: str
    both: str
    authority: str
    stranger: str


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("tls")
    authority, stranger = trustme.CA(), trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    contents = {
        "cert": b"".join(pem.bytes() for pem in issued.cert_chain_pems),
        "key": issued.private_key_pem.bytes(),
        "both": issued.private_key_and_cert_chain_pem.bytes(),
        "authority": authority.cert_pem.bytes(),
        "stranger": stranger.cert_pem.bytes(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return Files(**{name: str(folder / name) for name in contents})


def reasons(*arguments: str) -> list[str]:
    """Why `tail` says that its two attempts failed; it ends with 1."""
    status, out, err = run("tail", "--json", *arguments, *ONCE)
    assert (status, out.count('"retry"')) == (1, 1)
    lines = err.splitlines()
    assert all(line.isprintable() for line in lines)
    return [line.partition(": could not connect: ")[2] for line in lines]


# TLS


@pytest.mark.on_trio
def test_with_a_certificate_it_speaks_tls_and_tail_checks_it(files: Files) -> None:
    with Process(
        "serve", "--port", "0", "--certfile", files.cert, "--keyfile", files.key
    ) as server:
        url = server.ready()
        assert re.fullmatch(r"wss://127\.0\.0\.1:[0-9]+/ws", url)
        texts = ("--send", "tokens 3", "--send", "x" * 100_000, "--until", "5")
        lines = tail(url, "--cafile", files.authority, *texts)
        assert [line["seq"] for line in of_kind(lines, "event")] == [1, 2, 3, 4, 5]
        assert lines[-1]["code"] == "disconnected"
        untrusted = ["TLS: the certificate is not trusted: unable to get local issuer certificate"]
        assert reasons(url, "--cafile", files.stranger) == untrusted * 2
        # The certificate is for the address, not for the name.
        (reason,) = set(reasons(url.replace("127.0.0.1", "localhost"), "--cafile", files.authority))
        assert reason.startswith("TLS: the certificate is not trusted: Hostname mismatch")
        server.signal(signal.SIGTERM)
        assert server.end() == (0, "", "")


def test_certificate_and_key_may_be_in_one_file(files: Files) -> None:
    with Process("serve", "--port", "0", "--certfile", files.both) as server:
        assert tail(server.ready(), "--cafile", files.authority, "--until", "0")


def test_a_server_that_speaks_no_tls_is_said_to(served: str) -> None:
    (reason,) = set(reasons(served.replace("ws://", "wss://")))
    assert reason.startswith("TLS: ")


@pytest.mark.parametrize("option", ["--certfile", "--cafile"])
def test_a_file_that_cannot_be_used_is_1_with_its_reason(
    files: Files, tmp_path: Path, option: str
) -> None:
    command = ("serve",) if option == "--certfile" else ("tail", "wss://127.0.0.1:1/ws")
    junk = tmp_path / "junk\n.pem"
    junk.write_text("no certificate")
    for path in (str(tmp_path / "absent"), str(junk)):
        result = invoke(*command, option, path)
        assert (result.exit_code, result.stdout) == (1, "")
        (line,) = result.stderr.splitlines()
        assert line.startswith("Error: cannot use ")
        assert line.isprintable()
    if option == "--certfile":  # another's key
        result = invoke("serve", option, files.stranger, "--keyfile", files.key)
        assert result.exit_code == 1


# Unix sockets and proxies


@pytest.mark.on_trio
def test_a_unix_socket_in_place_of_an_address(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with Process("serve", "--unix", str(path)) as server:
        assert server.ready() == f"ws+unix:{path}:/ws"
        lines = tail("ws://gateway/ws", "--unix", str(path), "--send", "hello", "--until", "1")
        assert of_kind(lines, "event")[0]["event"]["data"] == {"text": "hello"}
        status, out, err = run("serve", "--unix", str(path))
        taken = f"Error: cannot serve on {path}: Address already in use\n"
        assert (status, out, err) == (1, "", taken)
        server.signal(signal.SIGTERM)
        assert server.end() == (0, "", "")
    assert not path.exists()
    assert reasons("ws://gateway/ws", "--unix", str(path)) == ["No such file or directory"] * 2


def test_what_a_killed_one_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a socket"
    with Process("serve", "--unix", str(path)) as server:
        server.ready()
        server.signal(signal.SIGKILL)
        server.wait()
    assert path.exists()
    assert reasons("ws://gateway/ws", "--unix", str(path)) == ["Connection refused"] * 2
    with Process("serve", "--unix", str(path)) as server:
        assert server.ready() == f"ws+unix:{tmp_path}/a%20socket:/ws"


def test_tls_goes_through_a_unix_socket_too(files: Files, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with Process("serve", "--unix", path, "--certfile", files.both) as server:
        assert server.ready() == f"wss+unix:{path}:/ws"
        through = ("--unix", path, "--cafile", files.authority, "--until", "0")
        assert of_kind(tail("wss://127.0.0.1/ws", *through), "joined")


UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 203.0.113.5, 10.0.0.1\r\n\r\n"
)


@pytest.mark.on_trio
@pytest.mark.parametrize(
    ("trusted", "peer"),
    [
        ((), "unix"),
        (("--trusted-proxy", "unix"), "10.0.0.1"),
        (("--trusted-proxy", "unix", "--trusted-proxy", "10.0.0.0/8"), "203.0.113.5"),
    ],
)
def test_who_is_forwarded_is_believed_as_far_as_proxies_are_trusted(
    tmp_path: Path, trusted: tuple[str, ...], peer: str
) -> None:
    path, log = tmp_path / "socket", tmp_path / "log"
    with Process("serve", "--unix", str(path), "--record", str(log), *trusted) as server:
        server.ready()
        with socket.socket(socket.AF_UNIX) as proxy:
            proxy.connect(str(path))
            proxy.sendall(UPGRADE)
            assert proxy.recv(4096).startswith(b"HTTP/1.1 101 ")
        server.signal(signal.SIGTERM)
        assert server.end()[0] == 0
    assert re.findall(r'"peer": ?"([^"]*)"', log.read_text(encoding="utf-8"))[:1] == [peer]


# Why a connection could not be made


@pytest.mark.on_trio
def test_why_a_connection_could_not_be_made_is_said_of_each_attempt() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    assert reasons(f"ws://127.0.0.1:{port}/ws") == ["Connection refused"] * 2
    (unknown,) = set(reasons("ws://no.such.host.invalid/ws"))
    assert "name" in unknown.lower()
