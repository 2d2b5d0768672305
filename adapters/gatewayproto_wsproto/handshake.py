"""The HTTP half of both roles: reading a bounded head, and headers in and out."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import h11
from attrs import frozen

DEFAULT_MAX_HANDSHAKE: Final = 16384
_START_SIZE: Final = 32
WEBSOCKET_VERSION: Final = "13"

#: What belongs to the handshake itself, and so to no caller.
_MANAGED: Final = frozenset(
    {"connection", "content-length", "host", "transfer-encoding", "upgrade"}
)
_MANAGED_PREFIX: Final = "sec-websocket-"
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

Head = h11.Request | h11.InformationalResponse | h11.Response
HeaderPairs = tuple[tuple[str, str], ...]


@frozen
class BadHead:
    """Bytes that are no HTTP head, or too many; `status` is the answer a server gives."""

    status: int


class HeadReader:
    """Feeds an HTTP parser no more than `limit` bytes until the heads that matter are read.

    The parser sees the same bytes however they were cut, so its verdict is the same too.
    `plausible` judges the first 32 bytes, or as many as have come, so that a peer that speaks
    another protocol is found out at once and not when a head would have been complete.
    """

    def __init__(
        self, http: h11.Connection, limit: int, plausible: Callable[[bytes], bool]
    ) -> None:
        self._http = http
        self._room = limit
        self._plausible = plausible
        self._start = b""
        self._beyond = bytearray()

    def feed(self, data: bytes) -> None:
        """Take bytes, at least one."""
        head, beyond = data[: self._room], data[self._room :]
        self._room -= len(head)
        self._start += head[: _START_SIZE - len(self._start)]
        self._http.receive_data(head)
        self._beyond += beyond

    def next_head(self) -> Head | BadHead | None:
        """Return the next head, what is wrong with it, or None while it is incomplete."""
        if not self._plausible(self._start):
            return BadHead(400)
        try:
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            return BadHead(error.error_status_hint)
        if isinstance(event, Head):
            return event
        if self._room > 0:
            return None
        # Not even the first line has ended: the request target is what is too long.
        return BadHead(431 if b"\n" in self._http.trailing_data[0] else 414)

    def rest(self) -> bytes:
        """Return what came behind the head."""
        return self._http.trailing_data[0] + bytes(self._beyond)


def decode_headers(headers: Iterable[tuple[bytes, bytes]]) -> HeaderPairs:
    """Return headers as text; names are in lower case already."""
    return tuple((name.decode("ascii"), value.decode("latin-1")) for name, value in headers)


def encode_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Return a caller's headers as bytes.

    Raises:
        ValueError: Not Latin-1, or a header that is the handshake's own.
    """
    encoded: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        lowered = name.lower()
        if lowered in _MANAGED or lowered.startswith(_MANAGED_PREFIX):
            raise ValueError("a header that the handshake itself sets")
        encoded.append((name.encode("latin-1"), value.encode("latin-1")))
    return encoded


def values(headers: HeaderPairs, name: str) -> list[str]:
    """Return every value of a header, in order."""
    return [value for key, value in headers if key == name]


def items(headers: HeaderPairs, name: str) -> list[str]:
    """Return the members of a header that is a comma-separated list."""
    members = (member.strip() for value in values(headers, name) for member in value.split(","))
    return [member for member in members if member]


def is_upgrade(headers: HeaderPairs) -> bool:
    """Whether the headers ask for, or agree to, a switch to WebSocket."""
    return _names(headers, "connection", "upgrade") and _names(headers, "upgrade", "websocket")


def check_subprotocols(offered: Sequence[str]) -> None:
    """Raise ValueError where an offered subprotocol is empty, repeated, or not a token's text."""
    if len(set(offered)) != len(offered):
        raise ValueError("a subprotocol is offered twice")
    for name in offered:
        if _TOKEN.fullmatch(name) is None:
            raise ValueError("a subprotocol must be a token")


def _names(headers: HeaderPairs, name: str, member: str) -> bool:
    return member in (found.lower() for found in items(headers, name))
