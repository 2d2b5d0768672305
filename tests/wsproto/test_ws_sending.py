"""Messages on their way out: framing, sharing, and who may send when."""

from __future__ import annotations

import pytest
from gatewayproto_wsproto import (
    ClientConnection,
    ServerConnection,
    TextReceived,
    WsUsageError,
    frame_text,
)
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from tests.wsproto.ws_wire import (
    ROLES,
    TEXT,
    Frame,
    Role,
    decode_frames,
    open_client,
    open_server,
    request,
)

both_roles = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)

BORDERS = [0, 1, 125, 126, 127, 65535, 65536, 70_000]


@pytest.mark.parametrize("size", BORDERS)
def test_a_framed_message_is_what_any_server_would_send(size: int) -> None:
    message = b"x" * size
    framed = frame_text(message)
    assert framed == Frame(TEXT, message).encode()
    assert framed == Connection(ConnectionType.SERVER).send(TextMessage(message.decode()))
    server = open_server()
    assert server.send_text(message) is True
    assert server.bytes_to_send() == framed


@given(st.text())
def test_any_text_is_framed_and_read_back(text: str) -> None:
    client, server = open_client(10_000), open_server(10_000)
    server.send_text(text.encode())
    assert client.receive(server.bytes_to_send()) == (TextReceived(text.encode()),)
    assert client.send_text(text.encode()) is True
    assert server.receive(client.bytes_to_send()) == (TextReceived(text.encode()),)


@pytest.mark.parametrize("size", BORDERS)
def test_a_client_masks_what_it_sends(size: int) -> None:
    client = open_client()
    message = bytes(ord("a") + i % 26 for i in range(size))
    client.send_text(message)
    assert decode_frames(client.bytes_to_send(), masked=True) == [Frame(TEXT, message)]


def test_a_message_is_framed_once_for_any_number_of_connections() -> None:
    framed = frame_text(b'{"type":"event"}')
    servers = [open_server() for _ in range(3)]
    for server in servers:
        assert server.send_framed(framed) is True
        # The very bytes, and no copy of them.
        assert server.bytes_to_send() is framed


@both_roles
def test_what_was_queued_leaves_in_order_and_once(role: Role) -> None:
    connection = role.open()
    messages = [str(n).encode() for n in range(200)]
    for message in messages:
        connection.send_text(message)
    assert role.sent(connection) == [Frame(TEXT, message) for message in messages]
    assert connection.bytes_to_send() == b""


@both_roles
@pytest.mark.parametrize("message", [b"\xff", b"caf\xe9", b"\xed\xa0\x80"])
def test_a_message_that_is_no_utf8_is_the_callers_mistake(role: Role, message: bytes) -> None:
    connection = role.open()
    with pytest.raises(WsUsageError):
        connection.send_text(message)
    assert connection.bytes_to_send() == b""
    with pytest.raises(WsUsageError):
        frame_text(message)


def test_sending_before_the_handshake_is_the_callers_mistake() -> None:
    server = ServerConnection(max_message=1)
    client = ClientConnection("ws://h/", max_message=1)
    for _ in range(2):
        with pytest.raises(WsUsageError):
            server.send_text(b"x")
        with pytest.raises(WsUsageError):
            server.send_framed(b"\x81\x00")
        with pytest.raises(WsUsageError):
            client.send_text(b"x")
        server.receive(request())  # asked for is not yet accepted
    assert server.bytes_to_send() == b""


@pytest.mark.parametrize(("message", "handshake"), [(0, 1), (-1, 1), (1, 0)])
def test_limits_must_be_positive(message: int, handshake: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        ServerConnection(max_message=message, max_handshake=handshake)
    with pytest.raises(ValueError, match="positive"):
        ClientConnection("ws://h/", max_message=message, max_handshake=handshake)
