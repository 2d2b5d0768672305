"""The little of RFC 6455's framing that is not left to wsproto, and the rules for close codes."""

from typing import Final

from gatewayproto_wsproto.errors import WsUsageError

_FIN_TEXT: Final = 0x81
_MAX_SHORT: Final = 125
_MAX_TWO_BYTES: Final = 0xFFFF
_TWO_BYTES: Final = 126
_EIGHT_BYTES: Final = 127
# A control frame holds 125 bytes; the code takes two.
_MAX_REASON: Final = 123
# 1004 to 1006 and 1015 are never written on the wire; 1016 to 2999 are reserved.
_PROTOCOL_CODES: Final = frozenset({*range(1000, 1004), *range(1007, 1015)})
_OWN_CODES: Final = range(3000, 5000)


def frame_text(message: bytes) -> bytes:
    """Return a text message as a server writes it: one final, unmasked frame.

    The bytes depend on the message alone, so a server frames a message once and gives the same
    bytes to every connection's `send_framed`. wsproto cannot do this without decoding the message
    and encoding it again.

    Raises:
        WsUsageError: The message is no UTF-8.
    """
    check_utf8(message)
    size = len(message)
    if size <= _MAX_SHORT:
        return bytes((_FIN_TEXT, size)) + message
    if size <= _MAX_TWO_BYTES:
        return bytes((_FIN_TEXT, _TWO_BYTES)) + size.to_bytes(2) + message
    return bytes((_FIN_TEXT, _EIGHT_BYTES)) + size.to_bytes(8) + message


def check_utf8(message: bytes) -> None:
    """Raise WsUsageError where a message to send is no UTF-8: its receiver would end with 1007."""
    if message.isascii():
        return
    try:
        message.decode()
    except UnicodeDecodeError:
        raise WsUsageError("a text message must be UTF-8") from None


def check_close_code(code: int) -> None:
    """Raise WsUsageError for a code that may not be written in a Close frame."""
    if code not in _PROTOCOL_CODES and code not in _OWN_CODES:
        raise WsUsageError(f"{code} is no code for a Close frame")


def fit_reason(reason: str) -> str:
    """Cut a reason to what a Close frame holds, 123 bytes of UTF-8, between two characters."""
    encoded = reason.encode(errors="replace")
    return encoded[:_MAX_REASON].decode(errors="ignore")
