"""P11: bytes cut anywhere give the same events, and the same answers."""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from gatewayproto_wsproto import (
    ClientConnection,
    ServerConnection,
    TextReceived,
    Upgraded,
    UpgradeRequested,
    WsEvent,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.wsproto.ws_wire import (
    BINARY,
    CONTINUATION,
    MASK,
    PING,
    PONG,
    ROLES,
    TEXT,
    Connection,
    Frame,
    Role,
    close_frame,
    key_of,
    request,
    response,
)

if TYPE_CHECKING:
    from types import FrameType

both_roles = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)

text_payloads = st.text(max_size=40).map(str.encode)


@st.composite
def fragmented(draw: st.DrawFn) -> list[Frame]:
    """A lawful message in fragments, cut through its characters, control frames between them."""
    payload = draw(text_payloads)
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
    pieces = [payload[a:b] for a, b in pairwise([0, *cuts, len(payload)])]
    frames: list[Frame] = []
    for i, piece in enumerate(pieces):
        opcode = TEXT if i == 0 else CONTINUATION
        frames.append(Frame(opcode, piece, fin=i == len(pieces) - 1))
        if i < len(pieces) - 1 and draw(st.booleans()):
            frames.append(Frame(draw(st.sampled_from([PING, PONG])), draw(st.binary(max_size=9))))
    return frames


one_frame = st.one_of(
    text_payloads.map(lambda data: Frame(TEXT, data)),
    st.binary(max_size=125).map(lambda data: Frame(PING, data)),
    st.binary(max_size=125).map(lambda data: Frame(PONG, data)),
)
# What ends a connection; of these one may stand last.
ends = st.one_of(
    st.sampled_from([1000, 1005, 1006, 1014, 1016, 3000, 4999, 5000]).map(close_frame),
    st.just(close_frame(None)),
    st.binary(max_size=10).map(lambda reason: close_frame(1000, reason)),
    st.sampled_from(
        [
            Frame(BINARY, b"x"),
            Frame(TEXT, b"ok\xff"),
            Frame(TEXT, b"\xff" * 300),
            Frame(TEXT, b"x" * 300),
            Frame(TEXT, b"x", rsv=4),
            Frame(CONTINUATION, b"x"),
            Frame(0xB, b"x"),
            Frame(PING, b"x", fin=False),
        ]
    ),
    st.builds(
        Frame,
        st.integers(0, 15),
        st.binary(max_size=300),
        st.booleans(),
        st.sampled_from([0, 0, 0, 1, 4]),
    ),
)


@st.composite
def scripts(draw: st.DrawFn) -> list[Frame]:
    groups = draw(st.lists(st.one_of(one_frame.map(lambda frame: [frame]), fragmented())))
    script = [frame for group in groups for frame in group]
    if draw(st.booleans()):
        script.append(draw(ends))
        script += draw(st.lists(one_frame, max_size=2))
    return script


def feed(connection: Connection, data: bytes, cuts: list[int]) -> list[WsEvent]:
    """Feed data cut at the given places; a server accepts as soon as it is asked."""
    events: list[WsEvent] = []
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    for a, b in pairwise(places):
        fresh = list(connection.receive(data[a:b]))
        if isinstance(connection, ServerConnection) and any(
            isinstance(event, UpgradeRequested) for event in fresh
        ):
            fresh += connection.accept()
        events += fresh
    return events


cut_places = st.lists(st.integers(0, 3000), max_size=30)


@given(scripts(), cut_places, st.booleans())
def test_a_server_reads_the_same_however_the_bytes_are_cut(
    script: list[Frame], cuts: list[int], bytewise: bool
) -> None:
    data = request() + b"".join(frame.encode(MASK) for frame in script)
    whole, cut = ServerConnection(max_message=200), ServerConnection(max_message=200)
    expected = feed(whole, data, [])
    assert feed(cut, data, list(range(len(data))) if bytewise else cuts) == expected
    assert cut.state is whole.state
    assert cut.bytes_to_send() == whole.bytes_to_send()
    assert cut.receive_eof() == whole.receive_eof()


@given(scripts(), cut_places, st.booleans())
def test_a_client_reads_the_same_however_the_bytes_are_cut(
    script: list[Frame], cuts: list[int], bytewise: bool
) -> None:
    results: list[tuple[object, ...]] = []
    for places in ([], cuts):
        client = ClientConnection("ws://h/", max_message=200)
        key = key_of(client.bytes_to_send())
        data = response(key) + b"".join(frame.encode() for frame in script)
        if places and bytewise:
            places = list(range(len(data)))  # noqa: PLW2901 - every place there is
        events = feed(client, data, places)
        # Each proves a key of its own; the rest is the same.
        assert isinstance(events[0], Upgraded)
        # Masks are random: of what goes out, the lengths can be compared.
        results.append((events[1:], client.state, len(client.bytes_to_send())))
        results[-1] += (client.receive_eof(),)
    assert results[0] == results[1]


@given(scripts())
def test_lawful_scripts_arrive_as_they_were_written(script: list[Frame]) -> None:
    """A reader of its own, to see that both ways of cutting are not wrong alike."""
    lawful: list[bytes] = []
    message = b""
    for frame in script:
        if frame.opcode in (TEXT, CONTINUATION):
            message += frame.payload
            if frame.fin:
                lawful.append(message)
                message = b""
    for role in ROLES:
        connection = role.open(200)
        events = connection.receive(role.peer(*script))
        texts = [event.data for event in events if isinstance(event, TextReceived)]
        assert texts == lawful[: len(texts)]
        if connection.state.value == "open":
            assert texts == lawful


garbled_requests = st.one_of(
    st.binary(max_size=400),
    st.binary(max_size=50).map(lambda data: b"GET /" + data + b" HTTP/1.1\r\nHost: h\r\n\r\n"),
    st.tuples(st.integers(0, 200), st.binary(min_size=1, max_size=3)).map(
        lambda change: request()[: change[0]] + change[1] + request()[change[0] + 1 :]
    ),
    st.integers(0, 800).map(lambda size: request("X: " + "y" * size)),
    st.integers(0, 800).map(lambda size: request(start=f"GET /{'z' * size} HTTP/1.1")),
)


@given(garbled_requests, cut_places, st.booleans())
def test_a_server_judges_a_request_the_same_however_it_is_cut(
    data: bytes, cuts: list[int], bytewise: bool
) -> None:
    results: list[tuple[object, ...]] = []
    for places in ([], list(range(len(data))) if bytewise else cuts):
        server = ServerConnection(max_message=100, max_handshake=500)
        results.append((feed(server, data, places), server.state, server.bytes_to_send()))
    assert results[0] == results[1]


garbled_responses = st.one_of(
    st.binary(max_size=400),
    st.binary(max_size=50).map(lambda data: b"HTTP/1.1 " + data + b"\r\n\r\n"),
    st.tuples(st.integers(0, 150), st.binary(min_size=1, max_size=3)).map(
        lambda change: response("x")[: change[0]] + change[1] + response("x")[change[0] + 1 :]
    ),
    st.integers(0, 30).map(
        lambda n: b"HTTP/1.1 100 Go on\r\n\r\n" * n + b"HTTP/1.1 404 No\r\n\r\n"
    ),
    st.integers(0, 800).map(lambda size: response("x", "X: " + "y" * size)),
)


@given(garbled_responses, cut_places, st.booleans())
def test_a_client_judges_an_answer_the_same_however_it_is_cut(
    data: bytes, cuts: list[int], bytewise: bool
) -> None:
    results: list[tuple[object, ...]] = []
    for places in ([], list(range(len(data))) if bytewise else cuts):
        client = ClientConnection("ws://h/", max_message=100, max_handshake=500)
        client.bytes_to_send()
        results.append((feed(client, data, places), client.state, client.bytes_to_send()))
    assert results[0] == results[1]


@both_roles
@pytest.mark.parametrize("sizes", [(4096,), (1, 4096, 17), (65536,), (3, 1021)])
def test_a_large_message_arrives_from_pieces_of_any_size(
    role: Role, sizes: tuple[int, ...]
) -> None:
    message = ("0123456789\N{SNOWMAN}" * 90_000).encode()[: 2**20 - 1].decode(errors="ignore")
    connection = role.open(2**20)
    data = role.peer(Frame(TEXT, message.encode()))
    events: list[WsEvent] = []
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        events += connection.receive(data[at : at + size])
        at, turn = at + size, turn + 1
    assert events == [TextReceived(message.encode())]


def calls_while_receiving(connection: Connection, data: bytes, step: int) -> int:
    """How many calls of functions, Python's and C's, it takes to receive data in pieces."""
    count = 0

    def profile(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal count
        count += event.endswith("call")

    previous = sys.getprofile()
    sys.setprofile(profile)
    try:
        for at in range(0, len(data), step):
            connection.receive(data[at : at + step])
    finally:
        sys.setprofile(previous)
    return count


@both_roles
def test_the_work_per_byte_does_not_grow_with_the_message(role: Role) -> None:
    costs = [
        calls_while_receiving(role.open(2**20), role.peer(Frame(TEXT, b"x" * size)), 1) / size
        for size in (2_000, 8_000)
    ]
    assert costs[1] < costs[0] * 1.1


@both_roles
def test_the_work_per_frame_does_not_grow_with_their_number(role: Role) -> None:
    costs = [
        calls_while_receiving(role.open(), role.peer(*[Frame(TEXT, b"x")] * number), 2**20) / number
        for number in (500, 4_000)
    ]
    assert costs[1] < costs[0] * 1.1
