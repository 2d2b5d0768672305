"""WebSocket URLs, as the client reads them."""

from __future__ import annotations

import pytest
from gatewayproto_wsproto import ClientConnection, WsUrl
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("url", "parsed", "host_header"),
    [
        ("ws://h", WsUrl("h", 80, False, "/"), "h"),
        ("WS://Gateway.Example/ws", WsUrl("gateway.example", 80, False, "/ws"), "gateway.example"),
        ("wss://h/ws?token=a%20b", WsUrl("h", 443, True, "/ws?token=a%20b"), "h"),
        ("ws://h:8765/ws", WsUrl("h", 8765, False, "/ws"), "h:8765"),
        ("ws://h:443/", WsUrl("h", 443, False, "/"), "h:443"),
        ("wss://h:443/", WsUrl("h", 443, True, "/"), "h"),
        ("ws://h?x=1", WsUrl("h", 80, False, "/?x=1"), "h"),
        ("ws://127.0.0.1:1/", WsUrl("127.0.0.1", 1, False, "/"), "127.0.0.1:1"),
        ("ws://[::1]:8765/ws", WsUrl("::1", 8765, False, "/ws"), "[::1]:8765"),
        ("wss://[2001:DB8::1]", WsUrl("2001:db8::1", 443, True, "/"), "[2001:db8::1]"),
        ("ws://b\u00fccher.example/", WsUrl("xn--bcher-kva.example", 80, False, "/"), None),
        ("ws://h/caf\u00e9?q=\u00e9", WsUrl("h", 80, False, "/caf%C3%A9?q=%C3%A9"), "h"),
        ('ws://h/a"b', WsUrl("h", 80, False, "/a%22b"), "h"),
    ],
)
def test_urls_are_read(url: str, parsed: WsUrl, host_header: str | None) -> None:
    assert WsUrl.parse(url) == parsed
    assert parsed.host_header == (host_header or parsed.host)


@pytest.mark.parametrize(
    "url",
    [
        *("", "h", "//h/", "http://h/", "https://h/", "ws:/h", "ws:h", "ws://", "ws:///ws"),
        *("ws://:80/", "ws://h:0/", "ws://h:65536/", "ws://h:x/", "ws://[::1/", "ws://[v1.x]/"),
        *("ws://[h]/", "ws://[fe80::1%25eth0]extra/", "ws://h/#part", "ws://h/#"),
        *("ws://user@h/", "ws://user:secret@h/", "ws://h\\x/", "ws://h%0d/", "ws://a..b\u00fc/"),
        *("ws://h/a b", "ws://h/\r\nX: y", "ws://h/\n", " ws://h/", "ws://h/\x00", "ws://h\t/"),
        "ws://" + "h" * 256 + "/",
    ],
)
def test_what_is_no_websocket_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|credentials"):
        WsUrl.parse(url)
    with pytest.raises(ValueError, match=r"URL|credentials"):
        ClientConnection(url, max_message=1)


def test_a_secret_in_the_url_is_not_repeated() -> None:
    assert "secret" not in repr(WsUrl.parse("ws://h/ws?token=secret"))
    for url in ("ws://u:secret@h/", "ws://h:secret/", "ws://h/secret secret", "http://secret/"):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - what it says is what is tested
            WsUrl.parse(url)
        assert "secret" not in str(caught.value)


@given(st.text() | st.text().map("ws://".__add__) | st.text().map("wss://h/".__add__))
def test_any_string_is_a_url_or_a_value_error(url: str) -> None:
    try:
        parsed = WsUrl.parse(url)
    except ValueError:
        return
    # What was accepted makes one request line, whatever the string was.
    request = ClientConnection(parsed, max_message=1).bytes_to_send()
    assert request.startswith(f"GET {parsed.target} HTTP/1.1\r\nHost: ".encode("ascii"))
    assert request.count(b"\r\n") == 7
