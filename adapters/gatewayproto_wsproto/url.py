"""WebSocket URLs."""

import ipaddress
import re
from typing import Final, Self
from urllib.parse import quote, urlsplit

from attrs import field, frozen

_PORTS: Final = {"ws": 80, "wss": 443}
_MAX_PORT: Final = 65535
_AUTHORITY: Final = re.compile(
    r"(?:\[(?P<address>[^\]%]*)\]|(?P<name>[^:@\[\]]+))(?::(?P<port>[0-9]{0,5}))?"
)
_HOST: Final = re.compile(r"[a-z0-9._~-]{1,255}")
_UNSAFE: Final = re.compile(r"[\x00-\x20\x7f]")
# All that a path or a query may hold as it is (RFC 3986, 3.3 and 3.4); "%" too, for what is encoded
# already.
_SAFE: Final = "/?:@!$&'()*+,;=-._~%"


@frozen
class WsUrl:
    """A parsed `ws://` or `wss://` URL: whom to connect to, and what to ask for there.

    `host` is a name in lower case, in ASCII, or an address without brackets. `target` is path and
    query, percent-encoded; as it may carry a credential, it stays out of the repr.
    """

    host: str
    port: int
    secure: bool
    target: str = field(default="/", repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
        """Parse a URL.

        Raises:
            ValueError: It is no WebSocket URL, or has a fragment, a user, or characters that have
                no place in one. The message does not repeat it.
        """
        if _UNSAFE.search(url):
            raise ValueError("a URL holds no spaces or control characters")
        try:
            parts = urlsplit(url)
        except ValueError:
            raise ValueError("the URL has no valid host") from None
        if parts.scheme not in _PORTS:
            raise ValueError("the URL must begin with ws:// or wss://")
        if "#" in url:
            raise ValueError("a WebSocket URL has no fragment")
        if "@" in parts.netloc:
            raise ValueError("credentials belong in a header, not in the URL")
        authority = _AUTHORITY.fullmatch(parts.netloc)
        if authority is None:
            raise ValueError("the URL has no valid host and port")
        port = int(authority["port"] or _PORTS[parts.scheme])
        if not 0 < port <= _MAX_PORT:
            raise ValueError("the URL has no valid port")
        query = f"?{parts.query}" if parts.query else ""
        return cls(
            host=_parse_host(authority["address"], authority["name"] or ""),
            port=port,
            secure=parts.scheme == "wss",
            target=quote((parts.path or "/") + query, safe=_SAFE, errors="replace"),
        )

    @property
    def host_header(self) -> str:
        """The value of the Host header: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = _PORTS["wss" if self.secure else "ws"]
        return host if self.port == default else f"{host}:{self.port}"


def _parse_host(address: str | None, name: str) -> str:
    try:
        if address is not None:
            return str(ipaddress.IPv6Address(address))
        host = name.lower() if name.isascii() else name.encode("idna").decode("ascii")
    except ValueError:
        host = ""
    if _HOST.fullmatch(host) is None:
        raise ValueError("the URL has no valid host")
    return host
