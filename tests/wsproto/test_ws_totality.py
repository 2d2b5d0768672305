"""P13: whatever bytes come, in any state and order of calls: events, never an exception."""

from __future__ import annotations

from gatewayproto_wsproto import (
    ClientConnection,
    Closed,
    ConnectionState,
    ServerConnection,
    WsEvent,
    WsUsageError,
)
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.wsproto.ws_wire import (
    ROLES,
    Connection,
    Frame,
    key_of,
    open_client,
    open_server,
    request,
    response,
)

LIMIT = 300

# Bytes that look enough like frames to get anywhere.
frames = st.builds(
    Frame,
    st.integers(0, 15),
    st.binary(max_size=140) | st.text(max_size=30).map(str.encode),
    st.booleans(),
    st.sampled_from([0, 0, 0, 0, 1, 2, 4]),
)
masks = st.none() | st.binary(min_size=4, max_size=4)
wire = st.one_of(
    st.binary(max_size=60),
    st.builds(lambda frame, mask: frame.encode(mask), frames, masks),
    st.builds(lambda frame, mask, end: frame.encode(mask)[:end], frames, masks, st.integers(0, 20)),
)
heads = st.one_of(
    wire,
    st.just(request()),
    st.just(response("x")),
    st.sampled_from([b"GET ", b"/ws", b" HTTP/1.1\r\n", b"Host: h\r\n", b"\r\n", b"\n", b"\xff"]),
    st.sampled_from([b"HTTP/1.1 ", b"101 ", b"200 OK\r\n", b"100 \r\n\r\n", b"Retry-After: "]),
    st.sampled_from([b"Upgrade: websocket\r\n", b"Connection: upgrade\r\n", b"Content-Length: "]),
    st.binary(max_size=30).map(lambda value: b"X: " + value + b"\r\n"),
)


@given(st.lists(heads, max_size=12))
def test_any_bytes_before_the_handshake(pieces: list[bytes]) -> None:
    server = ServerConnection(max_message=LIMIT)
    client = ClientConnection("ws://h/", max_message=LIMIT)
    for connection in (server, client):
        check_run(connection, pieces)


@given(st.lists(wire, max_size=12))
def test_any_bytes_after_the_handshake(pieces: list[bytes]) -> None:
    for role in ROLES:
        check_run(role.open(LIMIT), pieces)


@given(st.binary(max_size=200), st.integers(0, 400))
def test_any_byte_of_the_handshake_may_be_garbled(noise: bytes, at: int) -> None:
    server = ServerConnection(max_message=LIMIT)
    data = request()
    check_run(server, [data[:at] + noise + data[at:]])
    client = ClientConnection("ws://h/", max_message=LIMIT)
    data = response(key_of(client.bytes_to_send()))
    check_run(client, [data[:at] + noise + data[at:]])


def check_run(connection: Connection, pieces: list[bytes]) -> None:
    events: list[WsEvent] = []
    for piece in pieces:
        events += connection.receive(piece)
    events += connection.receive_eof()
    assert [isinstance(event, Closed) for event in events] == [False] * (len(events) - 1) + [True]
    assert connection.state is ConnectionState.CLOSED


class AnyOrder(RuleBasedStateMachine):
    """Every call in any order, on a connection of either role, from any state."""

    connection: Connection

    def __init__(self) -> None:
        super().__init__()
        self.closed = 0

    @initialize(start=st.sampled_from(["server", "client", "open server", "open client"]))
    def begin(self, start: str) -> None:
        match start:
            case "server":
                self.connection = ServerConnection(max_message=LIMIT)
            case "client":
                self.connection = ClientConnection("ws://h/", max_message=LIMIT)
            case "open server":
                self.connection = open_server(LIMIT)
            case _:
                self.connection = open_client(LIMIT)

    def take(self, events: tuple[WsEvent, ...]) -> None:
        for event in events:
            assert self.closed == 0  # nothing follows the end
            self.closed += isinstance(event, Closed)

    @rule(data=wire)
    def receive(self, data: bytes) -> None:
        self.take(self.connection.receive(data))

    @rule(frame=frames)
    def receive_frame(self, frame: Frame) -> None:
        mask = b"mask" if isinstance(self.connection, ServerConnection) else None
        self.take(self.connection.receive(frame.encode(mask)))

    @rule(data=heads)
    def receive_head(self, data: bytes) -> None:
        self.take(self.connection.receive(data))

    @rule()
    def receive_eof(self) -> None:
        self.take(self.connection.receive_eof())
        assert self.connection.state is ConnectionState.CLOSED

    @rule(message=st.text(max_size=20).map(str.encode) | st.binary(max_size=5))
    def send(self, message: bytes) -> None:
        state = self.connection.state
        try:
            sent = self.connection.send_text(message)
        except WsUsageError:
            assert state in (ConnectionState.HANDSHAKE, ConnectionState.OPEN)
        else:
            assert sent is (state is ConnectionState.OPEN)
        assert self.connection.state is state

    @rule(code=st.sampled_from([1000, 1005, 4000, 5000]), reason=st.text(max_size=200))
    def close(self, code: int, reason: str) -> None:
        try:
            self.take(self.connection.close(code, reason))
        except WsUsageError:
            assert code in (1005, 5000)
        else:
            assert self.connection.state in (ConnectionState.CLOSING, ConnectionState.CLOSED)

    @rule(status=st.sampled_from([101, 404]), accept=st.booleans())
    def answer(self, status: int, accept: bool) -> None:
        if not isinstance(self.connection, ServerConnection):
            return
        try:
            self.take(self.connection.accept() if accept else self.connection.reject(status))
        except WsUsageError:
            pass
        else:
            assert self.connection.state is not ConnectionState.HANDSHAKE

    @rule()
    def drain(self) -> None:
        self.connection.bytes_to_send()
        assert self.connection.bytes_to_send() == b""

    @invariant()
    def the_end_is_told_once_and_in_time(self) -> None:
        connection = getattr(self, "connection", None)
        if connection is not None:
            assert (self.closed == 1) is (connection.state is ConnectionState.CLOSED)


TestAnyOrder = AnyOrder.TestCase
