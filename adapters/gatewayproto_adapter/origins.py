"""Who may open a WebSocket: the path, and where a browser's page comes from. No I/O here."""

from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


class OriginPolicy:
    """Which pages may connect: a browser names the page's origin, other programs name none.

    Without this any page that a user looks at could open a connection in the user's name. The
    server's own origin is what the `Host` header names, by `https` if the server is `secure`.
    Behind a proxy that ends TLS it is another, and has to be listed.
    """

    def __init__(self, allowed: Iterable[str], *, secure: bool) -> None:
        self._allowed = frozenset(_normal(origin) for origin in allowed)
        self._scheme = "https" if secure else "http"

    def permits(self, headers: Mapping[str, str]) -> bool:
        """Whether an upgrade with these headers (names in lower case) may go on."""
        origin = headers.get("origin")
        if origin is None:
            return True
        origin = _normal(origin)
        if origin in self._allowed:
            return True
        scheme, separator, authority = origin.partition("://")
        if not separator or scheme != self._scheme:
            return False
        host = headers.get("host", "").lower().removesuffix(_DEFAULT_PORTS[scheme])
        return authority != "" and authority == host


def _normal(origin: str) -> str:
    """An origin in lower case, without its scheme's own port or a slash at the end."""
    origin = origin.strip().lower().removesuffix("/")
    try:
        scheme = urlsplit(origin).scheme
    except ValueError:
        return origin
    return origin.removesuffix(_DEFAULT_PORTS.get(scheme, "/"))
