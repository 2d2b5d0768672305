"""A server's view of the handshake: is a request one for a WebSocket, and how to answer it."""

import base64
import binascii
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl

import h11
from attrs import frozen

from gatewayproto_wsproto.events import UpgradeRequested
from gatewayproto_wsproto.handshake import (
    WEBSOCKET_VERSION,
    HeaderPairs,
    decode_headers,
    is_upgrade,
    items,
    values,
)

# A method, the space behind it included once it has come. None is nearly as long as this.
_START: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,31}(?: |\Z)")
# h11 lets them pass, RFC 9110 (5.5) has no use for them, and they do harm in whatever shows them.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_MAX_TARGET: Final = 8192
_KEY_SIZE: Final = 16  # bytes, before base64


@frozen
class Refusal:
    """An HTTP answer in place of the upgrade; `text` is for people, and its body."""

    status: int
    text: str
    headers: tuple[tuple[str, str], ...] = ()


@frozen
class UpgradeRequest:
    """A request that may be accepted, and the key that the answer has to prove."""

    event: UpgradeRequested
    key: bytes


def starts_request(start: bytes) -> bool:
    """Whether a request's first bytes may be those of an HTTP head."""
    return _START.match(start) is not None


def check_request(request: h11.Request) -> UpgradeRequest | Refusal:
    """Judge a request that is well-formed as HTTP; path, origin and credentials are the driver's.

    h11 has seen to it that an HTTP/1.1 request has one Host header.
    """
    headers = decode_headers(request.headers)
    refusal = _check_http(request) or _check_headers(headers) or _check_websocket(headers)
    if refusal is not None:
        return refusal
    target = _origin_form(request.target.decode("ascii"))
    if target is None:
        return Refusal(400, "the request target is no path")
    path, _, query = target.partition("?")
    event = UpgradeRequested(
        path=path,
        query=query,
        query_params=_first_values(query),
        headers=headers,
        subprotocols=tuple(items(headers, "sec-websocket-protocol")),
    )
    return UpgradeRequest(event, values(headers, "sec-websocket-key")[0].encode("ascii"))


def _check_http(request: h11.Request) -> Refusal | None:
    if request.method != b"GET":
        # Without a text: the answer to HEAD has no body.
        return Refusal(405, "", (("Allow", "GET"),))
    if len(request.target) > _MAX_TARGET:
        return Refusal(414, "the request target is too long")
    if request.http_version != b"1.1":
        return Refusal(400, "HTTP/1.1 is required")
    return None


def _check_headers(headers: HeaderPairs) -> Refusal | None:
    if any(_CONTROL.search(value) for _, value in headers):
        return Refusal(400, "a header has a control character")
    if values(headers, "host") == [""]:
        return Refusal(400, "a Host is required")
    if items(headers, "transfer-encoding") or set(items(headers, "content-length")) - {"0"}:
        return Refusal(400, "an upgrade has no body")
    return None


def _check_websocket(headers: HeaderPairs) -> Refusal | None:
    if not is_upgrade(headers):
        return Refusal(426, "this is a WebSocket endpoint", (("Upgrade", "websocket"),))
    versions = values(headers, "sec-websocket-version")
    if len(versions) != 1:
        return Refusal(400, "one Sec-WebSocket-Version is required")
    if versions != [WEBSOCKET_VERSION]:
        return Refusal(
            426,
            "WebSocket version 13 is required",
            (("Upgrade", "websocket"), ("Sec-WebSocket-Version", WEBSOCKET_VERSION)),
        )
    keys = values(headers, "sec-websocket-key")
    if len(keys) != 1 or not _is_key(keys[0]):
        return Refusal(400, "one valid Sec-WebSocket-Key is required")
    return None


def bad_head(status: int) -> Refusal:
    """Return the answer to bytes that are no HTTP request, or too many for one."""
    return Refusal(status, _phrase(status).lower())


def write_refusal(
    http: h11.Connection, refusal: Refusal, extra: Sequence[tuple[bytes, bytes]] = ()
) -> bytes:
    """Return a refusal as bytes; the connection ends with it.

    Raises:
        h11.LocalProtocolError: A header of `extra` is malformed; nothing has changed then.
    """
    body = refusal.text.encode(errors="replace")
    upgrade = any(name == "Upgrade" for name, _ in refusal.headers)
    response = h11.Response(
        status_code=refusal.status,
        reason=_phrase(refusal.status),
        headers=[
            *((name.encode("ascii"), value.encode("ascii")) for name, value in refusal.headers),
            *extra,
            (b"Content-Type", b"text/plain; charset=utf-8"),
            (b"Content-Length", str(len(body)).encode("ascii")),
            (b"Connection", b"close, Upgrade" if upgrade else b"close"),
        ],
    )
    return http.send(response) + http.send(h11.Data(data=body))


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == _KEY_SIZE
    except (binascii.Error, ValueError):
        return False


def _origin_form(target: str) -> str | None:
    """Return the path and query of a target that is one, or a whole URL (RFC 9112, 3.2)."""
    if "#" in target:
        return None
    if target.startswith("/"):
        return target
    scheme, separator, rest = target.partition("://")
    if not separator or scheme.lower() not in ("http", "https", "ws", "wss"):
        return None
    authority, slash, path = rest.partition("/")
    if not authority or "?" in authority:
        return None
    return slash + path if slash else "/"


def _first_values(query: str) -> dict[str, str]:
    params: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True, errors="replace"):
        params.setdefault(name, value)
    return params
