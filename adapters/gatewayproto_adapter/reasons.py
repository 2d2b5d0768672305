"""Why a transport could not be opened, in words that are the same on every framework."""

import os
import re
import socket
import ssl
from typing import Final

_NUMBER: Final = re.compile(r"\[Errno ([0-9]+)\]")
_MAX_DEPTH: Final = 8


def reason(error: BaseException) -> str:
    """The reason for people, without an address, and without anything that a peer chose.

    Frameworks wrap what the system said, or say it of every address that a name has: what the
    system said is looked for, and each reason told once.
    """
    found = dict.fromkeys(_reasons(error, _MAX_DEPTH))
    return ", ".join(found) or "the connection broke off"


def _reasons(error: BaseException, depth: int) -> list[str]:
    if own := _own_reason(error):
        return [own]
    if depth == 0:
        return []
    within = list(error.exceptions) if isinstance(error, BaseExceptionGroup) else []
    if error.__cause__ is not None:
        within.append(error.__cause__)
    reasons = [each for inner in within for each in _reasons(inner, depth - 1)]
    # What asyncio makes of the errors of several addresses has nothing left of them but this.
    return reasons or [os.strerror(int(number)) for number in _NUMBER.findall(str(error))]


def _own_reason(error: BaseException) -> str | None:
    match error:
        case ssl.SSLCertVerificationError():
            return f"TLS: the certificate is not trusted: {error.verify_message}"
        case ssl.SSLError():
            # Only those of the TLS library itself have a reason.
            words = str(getattr(error, "reason", None) or "the handshake failed")
            return f"TLS: {words.replace('_', ' ').lower()}"
        case socket.gaierror():
            return error.strerror
        case UnicodeError():
            return "this is no name of a host"
        case OSError() if error.errno:
            return os.strerror(error.errno)
        case _:
            return None
