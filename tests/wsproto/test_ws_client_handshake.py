"""The client's handshake: what it asks, what it believes, and what it makes of refusals."""

from __future__ import annotations

import base64

import pytest
from gatewayproto_wsproto import (
    ClientConnection,
    Closed,
    ConnectionState,
    TextReceived,
    Upgraded,
    UpgradeRefused,
    WsEvent,
    WsUrl,
)

from tests.wsproto.ws_wire import (
    TEXT,
    Frame,
    close_frame,
    key_of,
    read_request,
    response,
)


def ask(**options: object) -> tuple[ClientConnection, str]:
    subprotocols = options.get("subprotocols", ())
    assert isinstance(subprotocols, tuple)
    client = ClientConnection("ws://h/ws", subprotocols=subprotocols, max_message=100)
    return client, key_of(client.bytes_to_send())


def answered(data: bytes, step: int | None = None) -> list[WsEvent]:
    """Answer a request as it is, whole or in pieces; the data's key is put in for `KEY`."""
    client, key = ask()
    data = data.replace(response("KEY").split(b"Accept: ")[1].strip(), b"TOKEN")
    token = response(key).split(b"Accept: ")[1].strip()
    data = data.replace(b"TOKEN", token)
    step = step or len(data)
    events = [
        event for at in range(0, len(data), step) for event in client.receive(data[at : at + step])
    ]
    if isinstance(events[-1] if events else None, Closed):
        assert client.state is ConnectionState.CLOSED
        assert client.receive(b"more") == ()
        assert client.receive_eof() == ()
        assert client.bytes_to_send() == b""
    return events


def test_the_request_asks_for_the_upgrade() -> None:
    client = ClientConnection(
        "wss://[::1]:8765/ws?token=t",
        headers=[("Authorization", "Bearer b"), ("Origin", "https://app.example")],
        subprotocols=["a", "b"],
        max_message=1,
    )
    assert client.url == WsUrl("::1", 8765, secure=True, target="/ws?token=t")
    first, headers = read_request(client.bytes_to_send())
    assert first == "GET /ws?token=t HTTP/1.1"
    assert len(base64.b64decode(headers.pop("sec-websocket-key"), validate=True)) == 16
    assert headers == {
        "host": "[::1]:8765",
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-version": "13",
        "sec-websocket-protocol": "a, b",
        "authorization": "Bearer b",
        "origin": "https://app.example",
    }
    assert client.bytes_to_send() == b""
    assert client.state is ConnectionState.HANDSHAKE


def test_a_parsed_url_will_do_and_keys_differ() -> None:
    url = WsUrl.parse("ws://h/")
    keys = {key_of(ClientConnection(url, max_message=1).bytes_to_send()) for _ in range(20)}
    assert len(keys) == 20


@pytest.mark.parametrize(
    "header",
    [
        ("X", "a\r\nInjected: b"),
        ("X", "a\nb"),
        ("X", "a\0"),
        ("X\r\nInjected", "b"),
        ("X Y", "a"),
        ("", "a"),
        ("X", "\N{SNOWMAN}"),
        ("Host", "other"),
        ("Upgrade", "h2c"),
        ("Connection", "close"),
        ("Content-Length", "5"),
        ("Transfer-Encoding", "chunked"),
        ("Sec-WebSocket-Key", "x"),
        ("sec-websocket-extensions", "permessage-deflate"),
    ],
)
def test_malformed_headers_and_the_handshakes_own_are_refused(header: tuple[str, str]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - two libraries word it
        ClientConnection("ws://h/", headers=[header], max_message=1)


def test_a_secret_in_a_bad_header_is_not_repeated() -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - what it says is what is tested
        ClientConnection("ws://h/", headers=[("Authorization", "secret\n")], max_message=1)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "offered", [("",), ("a b",), ("a,b",), ("a\r\n",), ("\u00e9",), ("a", "a")]
)
def test_malformed_subprotocols_are_refused(offered: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="subprotocol"):
        ClientConnection("ws://h/", subprotocols=offered, max_message=1)


def test_an_agreement_opens_the_connection() -> None:
    client, key = ask(subprotocols=("a", "b"))
    (upgraded,) = client.receive(response(key, "Sec-WebSocket-Protocol: b", "X-Extra: 1"))
    assert isinstance(upgraded, Upgraded)
    assert upgraded.subprotocol == "b"
    assert ("x-extra", "1") in upgraded.headers
    assert client.state is ConnectionState.OPEN


@pytest.mark.parametrize("step", [None, 1, 7])
def test_frames_right_behind_the_agreement_are_read(step: int | None) -> None:
    frames = Frame(TEXT, b"early").encode() + close_frame(4500, b"no").encode()
    client, key = ask()
    data = response(key) + frames
    step = step or len(data)
    upgraded, text, closed = (
        event for at in range(0, len(data), step) for event in client.receive(data[at : at + step])
    )
    assert isinstance(upgraded, Upgraded)
    assert text == TextReceived(b"early")
    assert isinstance(closed, Closed)
    assert (closed.received_code, closed.received_reason) == (4500, "no")


NOT_AGREED = {
    "no Upgrade": response("KEY", drop=("Upgrade",)),
    "another Upgrade": response("KEY", "Upgrade: h2c", drop=("Upgrade",)),
    "no Connection": response("KEY", drop=("Connection",)),
    "no proof": response("KEY", drop=("Sec-WebSocket-Accept",)),
    "another's proof": response("another"),
    "two proofs": response("KEY", "Sec-WebSocket-Accept: x"),
    "an extension": response("KEY", "Sec-WebSocket-Extensions: permessage-deflate"),
    "a subprotocol": response("KEY", "Sec-WebSocket-Protocol: a"),
    "HTTP/1.0": response("KEY", start="HTTP/1.0 101 Switching"),
}


@pytest.mark.parametrize("step", [None, 1])
@pytest.mark.parametrize("data", NOT_AGREED.values(), ids=NOT_AGREED.keys())
def test_a_switch_that_is_no_agreement_is_not_believed(data: bytes, step: int | None) -> None:
    (closed,) = answered(data + Frame(TEXT, b"x").encode(), step)
    assert isinstance(closed, Closed)
    assert (closed.code, closed.received_code, closed.clean, closed.by_peer) == (
        None,
        None,
        False,
        False,
    )
    assert closed.reason


def test_two_subprotocols_are_not_believed() -> None:
    client, key = ask(subprotocols=("a", "b"))
    lines = ("Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: b")
    (closed,) = client.receive(response(key, *lines))
    assert isinstance(closed, Closed)


@pytest.mark.parametrize(
    "data",
    [
        b"\x81\x02{}",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 banana\r\n\r\n",
        b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
    ],
)
@pytest.mark.parametrize("step", [None, 1])
def test_what_is_no_http_has_no_code(data: bytes, step: int | None) -> None:
    assert answered(data, step) == [Closed(reason="the answer is no HTTP")]


@pytest.mark.parametrize("step", [None, 1])
@pytest.mark.parametrize(
    "status", [200, 204, 301, 302, 307, 400, 401, 403, 404, 429, 500, 503, 599]
)
def test_any_other_status_is_a_refusal(status: int, step: int | None) -> None:
    head = f"HTTP/1.1 {status} Whatever\r\nLocation: ws://other/\r\nX: 1\r\n\r\n".encode()
    refused, closed = answered(head + b"<html>" * 1000, step)
    assert refused == UpgradeRefused(
        status=status, headers=(("location", "ws://other/"), ("x", "1")), retry_after_seconds=None
    )
    assert closed == Closed(reason=f"HTTP {status}", by_peer=True)


DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        (["Retry-After: 0"], 0.0),
        (["Retry-After: 120"], 120.0),
        (["Retry-After: 120", "Retry-After: 7"], 120.0),
        (["Retry-After: " + "9" * 5000], 1e9),
        (["Retry-After: Sun, 06 Nov 1994 08:50:37 GMT", f"Date: {DATE}"], 60.0),
        (["Retry-After: Sun, 06 Nov 1994 08:49:00 GMT", f"Date: {DATE}"], 0.0),
        (["Retry-After: Fri, 31 Dec 9999 23:59:59 GMT", f"Date: {DATE}"], 1e9),
        # Without a clock, and without the sender's, a date says nothing.
        ([f"Retry-After: {DATE}"], None),
        ([f"Retry-After: {DATE}", "Date: today"], None),
        (["Retry-After: Sun, 31 Feb 1994 08:49:37 GMT", f"Date: {DATE}"], None),
        (["Retry-After: Sun, 06 Xyz 1994 08:49:37 GMT", f"Date: {DATE}"], None),
        (["Retry-After: Sun, 06 Nov 0000 08:49:37 GMT", f"Date: {DATE}"], None),
        (["Retry-After: Sun, 06 Nov 1994 99:99:99 GMT", f"Date: {DATE}"], None),
        (["Retry-After: soon", f"Date: {DATE}"], None),
        (["Retry-After: -1"], None),
        (["Retry-After: 1.5"], None),
        (["Retry-After: \u00b2"], None),
        (["Retry-After:"], None),
        ([], None),
    ],
)
def test_retry_after_is_read_as_far_as_it_can_be(lines: list[str], seconds: float | None) -> None:
    head = "\r\n".join(["HTTP/1.1 503 Busy", *lines, "", ""]).encode("latin-1")
    refused, _ = answered(head)
    assert isinstance(refused, UpgradeRefused)
    assert refused.retry_after_seconds == seconds


@pytest.mark.parametrize("step", [None, 1])
def test_interim_answers_are_passed_over(step: int | None) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    (upgraded,) = answered(interim + response("KEY"), step)
    assert isinstance(upgraded, Upgraded)
    refused, _ = answered(interim + b"HTTP/1.1 404 None\r\n\r\n", step)
    assert isinstance(refused, UpgradeRefused)
    assert refused.status == 404


@pytest.mark.parametrize("step", [None, 1, 1000])
@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 20_000,
        b"HTTP/1.1 200 " + b"y" * 20_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 2000,
    ],
)
def test_the_head_of_the_answer_is_bounded(data: bytes, step: int | None) -> None:
    assert answered(data, step) == [Closed(reason="the answer is no HTTP")]


def test_the_bound_is_exact() -> None:
    client = ClientConnection("ws://h/", max_message=1)
    data = response(key_of(client.bytes_to_send()))
    for short in (0, 1):
        client = ClientConnection("ws://h/", max_message=1, max_handshake=len(data) - short)
        data = response(key_of(client.bytes_to_send()))
        (event,) = client.receive(data)
        assert isinstance(event, Closed if short else Upgraded)
