"""How connections end: by either side, by both at once, and without a word."""

from __future__ import annotations

import pytest
from gatewayproto_wsproto import (
    ClientConnection,
    Closed,
    ConnectionState,
    ServerConnection,
    TextReceived,
    WsUsageError,
)

from tests.wsproto.ws_wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    ROLES,
    TEXT,
    Frame,
    Role,
    close_frame,
    open_client,
    open_server,
    request,
)

both_roles = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)

VALID = [
    *(1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014),
    *(3000, 3999, 4000, 4499, 4500, 4508, 4999),
]
INVALID = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]


@both_roles
@pytest.mark.parametrize("code", VALID)
def test_the_peers_close_is_echoed_with_its_code(role: Role, code: int) -> None:
    connection = role.open()
    (closed,) = connection.receive(role.peer(close_frame(code, b"spa")))
    assert closed == Closed(
        code=code,
        reason="spa",
        clean=True,
        by_peer=True,
        received_code=code,
        received_reason="spa",
    )
    assert connection.state is ConnectionState.CLOSED
    assert role.sent(connection) == [close_frame(code)]


@both_roles
def test_a_close_without_a_code_is_1005_and_echoed_without_one(role: Role) -> None:
    connection = role.open()
    (closed,) = connection.receive(role.peer(close_frame(None)))
    assert closed == Closed(code=1005, clean=True, by_peer=True, received_code=1005)
    assert role.sent(connection) == [close_frame(None)]


@both_roles
@pytest.mark.parametrize("code", INVALID)
def test_codes_that_may_not_be_written_are_1002_and_count_as_not_received(
    role: Role, code: int
) -> None:
    connection = role.open()
    (closed,) = connection.receive(role.peer(close_frame(code)))
    assert isinstance(closed, Closed)
    assert (closed.code, closed.by_peer, closed.received_code) == (1002, False, None)
    (sent,) = role.sent(connection)
    assert sent.payload[:2] == (1002).to_bytes(2)


@both_roles
@pytest.mark.parametrize("code", INVALID)
def test_codes_that_may_not_be_written_are_the_callers_mistake(role: Role, code: int) -> None:
    connection = role.open()
    with pytest.raises(WsUsageError):
        connection.close(code)
    assert connection.state is ConnectionState.OPEN
    assert connection.bytes_to_send() == b""


@both_roles
@pytest.mark.parametrize("code", VALID)
def test_own_close_ends_with_the_peers_answer(role: Role, code: int) -> None:
    connection = role.open()
    assert connection.close(code, "bye") == ()
    states = [connection.state]
    assert role.sent(connection) == [close_frame(code, b"bye")]
    (closed,) = connection.receive(role.peer(close_frame(code)))
    assert closed == Closed(code=code, reason="bye", clean=True, received_code=code)
    assert [*states, connection.state] == [ConnectionState.CLOSING, ConnectionState.CLOSED]
    assert connection.bytes_to_send() == b""


@both_roles
def test_closes_that_cross_keep_both_codes_apart(role: Role) -> None:
    connection = role.open()
    connection.close(1000, "mine")
    connection.bytes_to_send()
    (closed,) = connection.receive(role.peer(close_frame(4504, b"theirs")))
    assert closed == Closed(
        code=1000, reason="mine", clean=True, received_code=4504, received_reason="theirs"
    )
    assert connection.bytes_to_send() == b""


@both_roles
def test_own_close_without_an_answer_ends_with_the_stream(role: Role) -> None:
    connection = role.open()
    connection.close(1001, "away")
    assert connection.receive_eof() == (Closed(code=1001, reason="away"),)
    assert connection.receive_eof() == ()
    assert role.sent(connection) == [close_frame(1001, b"away")]


@both_roles
@pytest.mark.parametrize("begun", [0, 1, 2, 4, 8])
def test_a_stream_that_just_ends_has_no_code(role: Role, begun: int) -> None:
    connection = role.open()
    assert connection.receive(role.peer(Frame(TEXT, b"xxxxxxx"))[:begun]) == ()
    assert connection.receive_eof() == (Closed(by_peer=True),)
    assert connection.state is ConnectionState.CLOSED
    assert connection.bytes_to_send() == b""


@both_roles
def test_what_loses_a_race_with_a_close_is_a_value(role: Role) -> None:
    connection = role.open()
    connection.close()
    assert connection.send_text(b"x") is False
    assert connection.close(1001) == ()
    assert [frame.opcode for frame in role.sent(connection)] == [CLOSE]
    connection.receive(role.peer(close_frame(1000)))
    assert connection.send_text(b"x") is False
    assert connection.close(1001) == ()
    assert connection.bytes_to_send() == b""


def test_framed_bytes_that_lose_a_race_with_a_close_are_not_sent() -> None:
    server = open_server()
    server.close()
    assert server.send_framed(b"\x81\x00") is False
    server.receive_eof()
    assert server.send_framed(b"\x81\x00") is False
    assert server.bytes_to_send() == close_frame(1000).encode()


@both_roles
def test_after_own_close_messages_and_pings_are_dropped(role: Role) -> None:
    connection = role.open()
    connection.receive(role.peer(Frame(TEXT, b"half", fin=False)))
    connection.close()
    connection.bytes_to_send()
    flood = role.peer(Frame(PING, b"p"), Frame(TEXT, b"late"), Frame(PONG))
    assert connection.receive(role.peer(Frame(CONTINUATION, b"rest")) + flood) == ()
    assert connection.bytes_to_send() == b""
    (closed,) = connection.receive(flood + role.peer(close_frame(1000)))
    assert isinstance(closed, Closed)
    assert closed.clean


@both_roles
def test_a_fault_after_own_close_ends_without_a_second_close_frame(role: Role) -> None:
    for fault in (Frame(TEXT, b"\xff"), Frame(BINARY), Frame(TEXT, b"x", rsv=4), close_frame(1006)):
        connection = role.open()
        connection.close(4000, "done")
        connection.bytes_to_send()
        assert connection.receive(role.peer(fault)) == (Closed(code=4000, reason="done"),)
        assert connection.bytes_to_send() == b""


@both_roles
def test_a_ping_that_was_read_before_a_close_is_answered_before_it(role: Role) -> None:
    connection = role.open()
    connection.receive(role.peer(Frame(PING, b"p")))
    connection.close()
    assert [frame.opcode for frame in role.sent(connection)] == [PONG, CLOSE]


@both_roles
def test_a_ping_right_before_the_peers_close_or_end_needs_no_answer(role: Role) -> None:
    connection = role.open()
    connection.receive(role.peer(Frame(PING, b"p"), close_frame(1000)))
    assert role.sent(connection) == [close_frame(1000)]
    connection = role.open()
    connection.receive(role.peer(Frame(PING, b"p")))
    connection.receive_eof()
    assert connection.bytes_to_send() == b""


@both_roles
def test_nothing_after_the_peers_close_matters(role: Role) -> None:
    connection = role.open()
    data = role.peer(Frame(TEXT, b"last"), close_frame(1000), Frame(TEXT, b"x"), Frame(PING))
    text, closed = connection.receive(data)
    assert text == TextReceived(b"last")
    assert isinstance(closed, Closed)
    assert connection.receive(role.peer(close_frame(4000))) == ()
    assert connection.receive_eof() == ()
    assert role.sent(connection) == [close_frame(1000)]


@both_roles
def test_messages_queued_before_a_close_leave_before_it(role: Role) -> None:
    connection = role.open()
    connection.send_text(b"one")
    connection.close(1000)
    assert role.sent(connection) == [Frame(TEXT, b"one"), close_frame(1000)]


@both_roles
@pytest.mark.parametrize("lead", ["", "x", "xx", "xxx"])
def test_a_long_reason_is_cut_between_two_characters(role: Role, lead: str) -> None:
    connection = role.open()
    reason = lead + "\N{GRINNING FACE}" * 100
    connection.close(4000, reason)
    (sent,) = role.sent(connection)
    cut = sent.payload[2:].decode()
    assert reason.startswith(cut)
    assert 119 < len(cut.encode()) <= 123
    (closed,) = connection.receive_eof()
    assert isinstance(closed, Closed)
    assert closed.reason == cut


@both_roles
def test_a_reason_that_utf8_cannot_say_is_sent_as_far_as_it_can(role: Role) -> None:
    connection = role.open()
    connection.close(4000, "a\ud800b")
    assert role.sent(connection) == [close_frame(4000, b"a?b")]


def test_close_in_the_handshake_just_ends_it() -> None:
    server = ServerConnection(max_message=1)
    assert server.close(1001, "x") == (Closed(),)
    assert server.receive(request()) == ()
    asked = ServerConnection(max_message=1)
    asked.receive(request())
    assert asked.close() == (Closed(),)
    client = ClientConnection("ws://h/", max_message=1)
    assert client.close(4000) == (Closed(),)
    for connection in (server, asked, client):
        assert connection.state is ConnectionState.CLOSED
        assert connection.receive_eof() == ()
        assert connection.close() == ()
        assert connection.send_text(b"x") is False
    assert server.bytes_to_send() == asked.bytes_to_send() == b""


def test_the_end_of_the_stream_in_the_handshake_is_the_peers() -> None:
    server = ServerConnection(max_message=1)
    server.receive(b"GET / HTTP/1.1\r\n")
    assert server.receive_eof() == (Closed(by_peer=True),)
    client = ClientConnection("ws://h/", max_message=1)
    client.receive(b"HTTP/1.1 101")
    assert client.receive_eof() == (Closed(by_peer=True),)


def test_both_ends_close_each_other_cleanly() -> None:
    server, client = open_server(), open_client()
    server.close(4000, "drain")
    (at_client,) = client.receive(server.bytes_to_send())
    (at_server,) = server.receive(client.bytes_to_send())
    assert at_client == Closed(
        code=4000,
        reason="drain",
        clean=True,
        by_peer=True,
        received_code=4000,
        received_reason="drain",
    )
    assert at_server == Closed(code=4000, reason="drain", clean=True, received_code=4000)
