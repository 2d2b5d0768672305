"""The server's handshake: what is asked for, what is accepted, and every answer that is none."""

from __future__ import annotations

import pytest
from gatewayproto_wsproto import (
    Closed,
    ConnectionState,
    ServerConnection,
    TextReceived,
    UpgradeRequested,
    WsUsageError,
)

from tests.wsproto.ws_wire import (
    KEY,
    MASK,
    PING,
    PONG,
    TEXT,
    Answer,
    Frame,
    accept_token,
    close_frame,
    decode_frames,
    read_answer,
    request,
)


def ask(data: bytes) -> tuple[ServerConnection, UpgradeRequested]:
    server = ServerConnection(max_message=100)
    (asked,) = server.receive(data)
    assert isinstance(asked, UpgradeRequested)
    assert server.state is ConnectionState.HANDSHAKE
    assert server.bytes_to_send() == b""
    return server, asked


def refused(data: bytes, *, max_handshake: int = 16384) -> Answer:
    """The answer to a request that is refused without the driver, however it is cut."""
    answers: list[bytes] = []
    for step in (len(data), 1):
        server = ServerConnection(max_message=100, max_handshake=max_handshake)
        events = [
            event
            for at in range(0, len(data), step)
            for event in server.receive(data[at : at + step])
        ]
        answers.append(server.bytes_to_send())
        assert events == [Closed(reason=f"HTTP {read_answer(answers[-1]).status}")]
        assert server.state is ConnectionState.CLOSED
        assert server.receive(request()) == ()
        assert server.receive_eof() == ()
        assert server.bytes_to_send() == b""
    assert answers[0] == answers[1]
    answer = read_answer(answers[0])
    assert "close" in answer.headers["connection"]
    assert int(answer.headers["content-length"]) == len(answer.body)
    return answer


def test_an_upgrade_is_asked_for_with_all_that_decides_on_it() -> None:
    _, asked = ask(
        request(
            "Origin: https://app.example",
            "X-Twice: 1",
            "X-Twice: caf\u00e9",
            "Sec-WebSocket-Protocol: a, b",
            "Sec-WebSocket-Protocol: c",
            "Sec-WebSocket-Extensions: permessage-deflate",
            start="GET /w%2Fs?token=a%20b&token=c&empty=&plus=1+2&bare HTTP/1.1",
        )
    )
    assert asked.path == "/w%2Fs"
    assert asked.query == "token=a%20b&token=c&empty=&plus=1+2&bare"
    assert asked.query_params == {"token": "a b", "empty": "", "plus": "1 2", "bare": ""}
    assert ("origin", "https://app.example") in asked.headers
    assert ("host", "gateway.example") in asked.headers
    assert [value for name, value in asked.headers if name == "x-twice"] == ["1", "caf\u00e9"]
    assert asked.subprotocols == ("a", "b", "c")


def test_credentials_stay_out_of_the_repr() -> None:
    _, asked = ask(request("Authorization: Bearer secret", start="GET /ws?token=secret HTTP/1.1"))
    assert "secret" not in repr(asked)


def test_acceptance_proves_the_key_and_agrees_to_no_extension() -> None:
    server, _ = ask(request("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"))
    assert server.accept(headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]) == ()
    assert server.state is ConnectionState.OPEN
    raw = server.bytes_to_send()
    answer = read_answer(raw)
    assert raw.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert answer.headers["sec-websocket-accept"] == accept_token(KEY)
    assert answer.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert answer.headers["upgrade"].lower() == "websocket"
    assert answer.headers["connection"].lower() == "upgrade"
    assert raw.count(b"Set-Cookie") == 2
    assert "sec-websocket-extensions" not in answer.headers
    assert "sec-websocket-protocol" not in answer.headers
    assert answer.body == b""


def test_a_subprotocol_is_one_that_was_offered() -> None:
    server, _ = ask(request("Sec-WebSocket-Protocol: a, b"))
    with pytest.raises(WsUsageError):
        server.accept(subprotocol="c")
    server.accept(subprotocol="b")
    assert read_answer(server.bytes_to_send()).headers["sec-websocket-protocol"] == "b"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ""),
        ("/?", "/", ""),
        ("//double", "//double", ""),
        ("/ws?a=?b", "/ws", "a=?b"),
        ("http://gateway.example/ws?a=1", "/ws", "a=1"),
        ("WSS://gateway.example:1", "/", ""),
        ("/%zz?%ff=%zz", "/%zz", "%ff=%zz"),
    ],
)
def test_targets_give_path_and_query(target: str, path: str, query: str) -> None:
    _, asked = ask(request(start=f"GET {target} HTTP/1.1"))
    assert (asked.path, asked.query) == (path, query)


@pytest.mark.parametrize(
    "target",
    ["*", "ws", "gateway.example:80", "ftp://h/ws", "http:///ws", "http://?x/", "/ws#part"],
)
def test_targets_that_are_no_path_are_400(target: str) -> None:
    assert refused(request(start=f"GET {target} HTTP/1.1")).status == 400


@pytest.mark.parametrize(
    "data",
    [
        request("Content-Length: 0"),
        request("Connection: UPGRADE", drop=("Connection",)),
        request("Upgrade: h2c, WebSocket", drop=("Upgrade",)),
        request("Connection: keep-alive", "Connection: upgrade", drop=("Connection",)),
        request("Expect: 100-continue"),
        request().replace(b"\r\n", b"\n"),
    ],
)
def test_lawful_varieties_of_the_request_are_taken(data: bytes) -> None:
    server, _ = ask(data)
    server.accept()
    assert read_answer(server.bytes_to_send()).status == 101


BAD_REQUESTS = {
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a method that is none": b"ABCDEFGHIJ" * 4 + b" /ws HTTP/1.1\r\n\r\n",
    "a frame": Frame(TEXT, b"x").encode(MASK),
    "blank line first": b"\r\n" + request(),
    "no version": request(start="GET /ws"),
    "two spaces": request(start="GET  /ws HTTP/1.1"),
    "HTTP/1.0": request(start="GET /ws HTTP/1.0"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".replace(b"PRI", b"GET"),
    "no Host": request(drop=("Host",)),
    "two Hosts": request("Host: other.example"),
    "empty Host": request("Host:", drop=("Host",)),
    "header without a colon": request("nonsense"),
    "space before the colon": request("X : y"),
    "NUL in a header": request("X: a\0b"),
    "escape in a header": request("Authorization: Bearer \x1b[2J"),
    "backspace in a header": request("X: a\x08b"),
    "delete in a header": request("X: \x7f"),
    "no key": request(drop=("Sec-WebSocket-Key",)),
    "two keys": request(f"Sec-WebSocket-Key: {KEY}"),
    "short key": request("Sec-WebSocket-Key: YWJj", drop=("Sec-WebSocket-Key",)),
    "key that is no base64": request("Sec-WebSocket-Key: " + "*" * 24, drop=("Sec-WebSocket-Key",)),
    "key that is no ASCII": request("Sec-WebSocket-Key: \u00e9", drop=("Sec-WebSocket-Key",)),
    "no WebSocket version": request(drop=("Sec-WebSocket-Version",)),
    "two WebSocket versions": request("Sec-WebSocket-Version: 8"),
    "a body": request("Content-Length: 5"),
    "a chunked body": request("Transfer-Encoding: chunked"),
    "conflicting lengths": request("Content-Length: 0", "Content-Length: 1"),
    "a length that is no number": request("Content-Length: -1"),
}


@pytest.mark.parametrize("data", BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_bad_requests_are_400(data: bytes) -> None:
    assert refused(data).status == 400


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "CONNECT", "PUT", "BREW"])
def test_other_methods_are_405_without_a_body(method: str) -> None:
    answer = refused(request(start=f"{method} /ws HTTP/1.1"))
    assert (answer.status, answer.headers["allow"], answer.body) == (405, "GET", b"")


@pytest.mark.parametrize(
    "data",
    [
        b"GET /health HTTP/1.1\r\nHost: h\r\nUser-Agent: a browser\r\n\r\n",
        request(drop=("Upgrade",)),
        request(drop=("Connection",)),
        request("Upgrade: h2c", drop=("Upgrade",)),
        request("Upgrade: websocket-not", drop=("Upgrade",)),
    ],
)
def test_what_is_no_upgrade_is_426_and_says_to_what(data: bytes) -> None:
    answer = refused(data)
    assert (answer.status, answer.headers["upgrade"]) == (426, "websocket")
    assert "upgrade" in answer.headers["connection"].lower()


@pytest.mark.parametrize("version", ["8", "14", "013", "x", "13, 8"])
def test_other_websocket_versions_are_426_and_told_13(version: str) -> None:
    lines = f"Sec-WebSocket-Version: {version}"
    answer = refused(request(lines, drop=("Sec-WebSocket-Version",)))
    assert (answer.status, answer.headers["sec-websocket-version"]) == (426, "13")


def test_an_unknown_transfer_encoding_is_501() -> None:
    assert refused(request("Transfer-Encoding: gzip")).status == 501


def test_a_target_that_is_absurdly_long_is_414() -> None:
    assert refused(request(start=f"GET /{'x' * 8192} HTTP/1.1")).status == 414
    assert refused(request(start=f"GET /{'x' * 20_000} HTTP/1.1")).status == 414


def test_the_request_head_is_bounded_to_the_byte() -> None:
    data = request()
    server = ServerConnection(max_message=1, max_handshake=len(data))
    (asked,) = server.receive(data + b"trailing")
    assert isinstance(asked, UpgradeRequested)
    assert refused(data, max_handshake=len(data) - 1).status == 431
    assert refused(request("X: " + "y" * 20_000)).status == 431


def test_a_head_that_trickles_in_is_cut_off_at_the_bound() -> None:
    server = ServerConnection(max_message=1, max_handshake=300)
    server.receive(b"GET /ws HTTP/1.1\r\n")
    for fed in range(18, 300):
        assert server.state is ConnectionState.HANDSHAKE, fed
        server.receive(b"x")
    assert read_answer(server.bytes_to_send()).status == 431


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 499, 500, 503, 599])
def test_the_driver_rejects_with_a_plain_answer(status: int) -> None:
    server, _ = ask(request())
    closed = server.reject(status, reason_text="not h\u00e9re", headers=[("Retry-After", "7")])
    assert closed == (Closed(reason=f"HTTP {status}"),)
    assert server.state is ConnectionState.CLOSED
    answer = read_answer(server.bytes_to_send())
    assert answer.status == status
    assert answer.headers["connection"] == "close"
    assert answer.headers["retry-after"] == "7"
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.body == "not h\u00e9re".encode()
    assert answer.headers["content-length"] == str(len(answer.body))
    assert server.receive(b"more") == ()
    assert server.receive_eof() == ()


def test_a_rejection_needs_no_text() -> None:
    server, _ = ask(request())
    server.reject(404)
    assert read_answer(server.bytes_to_send()).body == b""


@pytest.mark.parametrize("status", [-1, 0, 99, 100, 101, 200, 204, 304, 399, 600, 1000])
def test_a_rejection_has_an_error_status(status: int) -> None:
    server, _ = ask(request())
    with pytest.raises(WsUsageError):
        server.reject(status)
    assert server.accept() == ()


BAD_HEADERS = [
    ("X", "a\r\nInjected: b"),
    ("X", "a\0"),
    ("X\r\nInjected", "b"),
    ("X Y", "a"),
    ("", "a"),
    ("X", "\N{SNOWMAN}"),
    ("Connection", "keep-alive"),
    ("upgrade", "h2c"),
    ("Host", "h"),
    ("Content-Length", "5"),
    ("Transfer-Encoding", "chunked"),
    ("Sec-WebSocket-Accept", "x"),
    ("sec-websocket-extensions", "permessage-deflate"),
]


@pytest.mark.parametrize("header", BAD_HEADERS)
def test_malformed_headers_and_the_handshakes_own_are_the_callers_mistake(
    header: tuple[str, str],
) -> None:
    server, _ = ask(request())
    with pytest.raises(WsUsageError):
        server.accept(headers=[header])
    with pytest.raises(WsUsageError):
        server.reject(404, headers=[header])
    # Nothing was changed by it.
    assert server.bytes_to_send() == b""
    assert server.state is ConnectionState.HANDSHAKE
    server.accept()
    assert read_answer(server.bytes_to_send()).status == 101


def test_an_answer_is_due_once_and_only_when_asked_for() -> None:
    server = ServerConnection(max_message=1)
    with pytest.raises(WsUsageError):
        server.accept()
    with pytest.raises(WsUsageError):
        server.reject(404)
    server.receive(request())
    server.accept()
    server.bytes_to_send()
    with pytest.raises(WsUsageError):
        server.accept()
    with pytest.raises(WsUsageError):
        server.reject(404)
    assert server.bytes_to_send() == b""
    server.close()
    with pytest.raises(WsUsageError):
        server.accept()
    rejected, _ = ask(request())
    rejected.reject(403)
    with pytest.raises(WsUsageError):
        rejected.accept()
    with pytest.raises(WsUsageError):
        rejected.reject(403)


def test_an_answer_to_a_client_that_is_gone_changes_nothing() -> None:
    for answer in ("accept", "reject"):
        server, _ = ask(request())
        server.receive_eof()
        assert (server.accept() if answer == "accept" else server.reject(404)) == ()
        assert server.state is ConnectionState.CLOSED
        assert server.bytes_to_send() == b""
        with pytest.raises(WsUsageError):
            server.accept()


def test_frames_right_behind_the_request_are_read_once_it_is_accepted() -> None:
    frames = Frame(TEXT, b"early").encode(MASK) + Frame(PING, b"p").encode(MASK)
    server, _ = ask(request() + frames[:9])
    assert server.receive(frames[9:]) == ()
    assert server.accept() == (TextReceived(b"early"),)
    answer = read_answer(server.bytes_to_send())
    assert answer.status == 101
    assert decode_frames(answer.body, masked=False) == [Frame(PONG, b"p")]


def test_a_close_right_behind_the_request_ends_it() -> None:
    server, _ = ask(request() + close_frame(1001).encode(MASK))
    (closed,) = server.accept()
    assert isinstance(closed, Closed)
    assert (closed.received_code, closed.clean) == (1001, True)


def test_a_second_request_right_behind_the_first_is_no_frame() -> None:
    server, _ = ask(request() + request())
    (closed,) = server.accept()
    assert isinstance(closed, Closed)
    assert closed.code == 1002


def test_what_came_behind_a_request_that_is_rejected_is_dropped() -> None:
    server, _ = ask(request() + b"garbage")
    (closed,) = server.reject(404)
    assert isinstance(closed, Closed)
    assert read_answer(server.bytes_to_send()).body == b""


def test_a_client_that_does_not_wait_for_its_answer_is_bounded() -> None:
    server = ServerConnection(max_message=10_000, max_handshake=1000)
    server.receive(request())
    for _ in range(10):
        assert server.receive(bytes(100)) == ()
    assert server.receive(b"x") == (Closed(reason="HTTP 400"),)
    assert read_answer(server.bytes_to_send()).status == 400
    assert server.accept() == ()


def test_what_comes_in_one_read_with_the_request_is_not_what_is_bounded() -> None:
    text = Frame(TEXT, b"x" * 5000).encode(MASK)
    server = ServerConnection(max_message=10_000, max_handshake=1000)
    server.receive(request() + text)
    assert server.accept() == (TextReceived(b"x" * 5000),)
