"""What comes before WebSocket: the upgrade, its refusals, and who may ask from a browser."""

import contextlib
from collections.abc import Iterator

import pytest

from tests.blackbox.bbserve import Gateway
from tests.blackbox.bbwire import (
    HttpAnswerError,
    PeerClosedError,
    open_socket,
    read_answer,
    upgrade_request,
)

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


@pytest.fixture(scope="module")
def listed(adapter: str) -> Iterator[Gateway]:
    running = Gateway(
        *("--allow-origin", "https://app.example"),
        *("--allow-origin", "http://localhost:3000"),
        adapter=adapter,
    )
    yield running
    running.stop()


def ask(gateway: Gateway, request: bytes) -> tuple[int, dict[str, str]]:
    with open_socket(gateway.host, gateway.port) as sock:
        sock.sendall(request)
        status, headers, _ = read_answer(sock)
        return status, headers


def refusal(gateway: Gateway, path: str = "/ws", **headers: str) -> int:
    with pytest.raises(HttpAnswerError) as refused:
        gateway.connect(path, headers.items())
    return refused.value.status


@pytest.mark.on_trio
@pytest.mark.parametrize("path", ["/", "/wss", "/ws/", "/ws/x", "/WS", "/%77s/..", "//ws"])
def test_any_other_path_is_not_found(gateway: Gateway, path: str) -> None:
    assert refusal(gateway, path) == 404


def test_a_query_does_not_change_the_path(gateway: Gateway) -> None:
    peer = gateway.connect("/ws?a=b&token=%ff&c")
    assert gateway.attach(peer=peer).welcome["resumed"] is False


def test_a_plain_request_is_told_to_upgrade(gateway: Gateway) -> None:
    status, _ = ask(gateway, b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status in {400, 426}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_only_get_opens_a_websocket(gateway: Gateway, method: str) -> None:
    request = upgrade_request("x", "/ws", KEY).replace(b"GET", method.encode(), 1)
    status, _ = ask(gateway, request)
    assert status in {400, 405}


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        (b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 8"),
        (b"Sec-WebSocket-Version: 13", b"X: y"),
        (f"Sec-WebSocket-Key: {KEY}".encode(), b"X: y"),
        (b"Upgrade: websocket", b"Upgrade: h2c"),
        (b"Connection: Upgrade", b"Connection: keep-alive"),
    ],
)
def test_half_an_upgrade_is_refused(gateway: Gateway, line: bytes, instead: bytes) -> None:
    request = upgrade_request("x", "/ws", KEY)
    assert line in request
    status, _ = ask(gateway, request.replace(line, instead))
    assert status in {400, 426}


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"\r\n\r\n\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /ws HTTP/9.9\r\n\r\n",
        b"GET /ws HTTP/1.1\r\n" + b"X: " + b"y" * 300_000,
        b"GET /ws HTTP/1.1\r\n" + b"a: b\r\n" * 60_000,
        b"\xff" * 1000 + b"\r\n\r\n",
    ],
    ids=["tls", "empty", "short", "version", "long-header", "many-headers", "high-bytes"],
)
def test_what_is_no_http_ends_without_an_upgrade(gateway: Gateway, garbage: bytes) -> None:
    with open_socket(gateway.host, gateway.port) as sock:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(garbage)
        try:
            status, _, _ = read_answer(sock)
        except (PeerClosedError, ConnectionResetError):
            pass
        else:
            assert 400 <= status < 500
    assert gateway.attach().welcome["resumed"] is False


def test_a_request_may_come_byte_by_byte(gateway: Gateway) -> None:
    with open_socket(gateway.host, gateway.port) as sock:
        for byte in upgrade_request("x", "/ws", KEY):
            sock.sendall(bytes([byte]))
        status, headers, _ = read_answer(sock)
    assert status == 101
    assert headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://127.0.0.1",
        "http://127.0.0.1:1",
        "http://127.0.0.1.evil.example",
        "https://app.example",
        "*",
        "",
    ],
)
def test_a_foreign_origin_is_forbidden(gateway: Gateway, origin: str) -> None:
    assert refusal(gateway, Origin=origin) == 403


def test_the_own_origin_is_fine(gateway: Gateway) -> None:
    peer = gateway.connect(headers=[("Origin", f"http://{gateway.host}:{gateway.port}")])
    assert gateway.attach(peer=peer).welcome["resumed"] is False


@pytest.mark.parametrize("origin", ["https://app.example", "http://localhost:3000"])
def test_a_listed_origin_is_fine(listed: Gateway, origin: str) -> None:
    peer = listed.connect(headers=[("Origin", origin)])
    assert listed.attach(peer=peer).welcome["resumed"] is False


def test_a_list_adds_to_the_own_origin_and_to_none(listed: Gateway) -> None:
    for headers in ([], [("Origin", f"http://{listed.host}:{listed.port}")]):
        peer = listed.connect(headers=headers)
        assert listed.attach(peer=peer).welcome["resumed"] is False


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.evil.example",
        "http://app.example",
        "https://app.example:444",
        "http://localhost:3001",
        "http://localhost",
        "https://evil.example",
        "null",
    ],
)
def test_what_only_resembles_a_listed_origin_is_forbidden(listed: Gateway, origin: str) -> None:
    assert refusal(listed, Origin=origin) == 403
