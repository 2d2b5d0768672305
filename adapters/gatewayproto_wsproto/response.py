"""A client's view of the handshake: did the server agree, and to what was asked."""

import re
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import Final

import h11
from wsproto.utilities import generate_accept_token

from gatewayproto_wsproto.events import Upgraded, UpgradeRefused
from gatewayproto_wsproto.handshake import HeaderPairs, decode_headers, is_upgrade, items, values

_START: Final = b"HTTP/"
_MAX_RETRY_AFTER: Final = 1e9
_SECONDS: Final = re.compile(r"[0-9]+")
# The one form of an HTTP date that is still written (RFC 9110, 5.6.7).
_DATE: Final = re.compile(
    r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [1-9][0-9]{3} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
)


def starts_response(start: bytes) -> bool:
    """Whether an answer's first bytes may be those of an HTTP head."""
    return start.startswith(_START[: len(start)])


def check_switch(
    response: h11.InformationalResponse, key: bytes, offered: Sequence[str]
) -> Upgraded | str:
    """Judge a 101 answer; what is wrong with it, in our words, where it is no agreement."""
    headers = decode_headers(response.headers)
    if response.http_version != b"1.1" or not is_upgrade(headers):
        return "the server switched, but not to WebSocket"
    accepts = values(headers, "sec-websocket-accept")
    if accepts != [generate_accept_token(key).decode("ascii")]:
        return "the server did not prove that it read the request"
    if items(headers, "sec-websocket-extensions"):
        return "the server chose an extension that was not offered"
    chosen = values(headers, "sec-websocket-protocol")
    if len(chosen) > 1 or not set(chosen) <= set(offered):
        return "the server chose a subprotocol that was not offered"
    return Upgraded(subprotocol=chosen[0] if chosen else None, headers=headers)


def read_refusal(response: h11.Response) -> UpgradeRefused:
    """Return what a final answer other than the upgrade says."""
    headers = decode_headers(response.headers)
    return UpgradeRefused(
        status=response.status_code, headers=headers, retry_after_seconds=_retry_after(headers)
    )


def _retry_after(headers: HeaderPairs) -> float | None:
    found = values(headers, "retry-after")
    if not found:
        return None
    if _SECONDS.fullmatch(found[0]):
        return min(float(found[0]), _MAX_RETRY_AFTER)
    dates = values(headers, "date")
    if not dates or not _DATE.fullmatch(found[0]) or not _DATE.fullmatch(dates[0]):
        return None
    try:
        wait = parsedate_to_datetime(found[0]) - parsedate_to_datetime(dates[0])
    except ValueError:
        return None
    return min(max(wait.total_seconds(), 0.0), _MAX_RETRY_AFTER)
