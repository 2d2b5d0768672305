"""What the calls of a connection return: facts for the driver, in the order they happened."""

from collections.abc import Mapping

from attrs import field, frozen


@frozen(kw_only=True)
class UpgradeRequested:
    """A client asks to open a WebSocket; the driver answers with `accept` or `reject`.

    `path` and `query` are as they were sent, percent-encoding and all; `query_params` is the query
    decoded as a form, of a repeated name the first value. `headers` are (name in lower case, value)
    pairs in their order, values read as Latin-1. `subprotocols` are the offered ones, in the
    client's order of preference. Headers and query may carry credentials and stay out of the repr.
    """

    path: str
    query: str = field(default="", repr=False)
    query_params: Mapping[str, str] = field(factory=dict, repr=False, hash=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    subprotocols: tuple[str, ...] = ()


@frozen(kw_only=True)
class Upgraded:
    """The server accepted the upgrade: the client's connection is open."""

    subprotocol: str | None = None
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@frozen(kw_only=True)
class UpgradeRefused:
    """The server answered with an HTTP status instead of the upgrade; `Closed` follows.

    `retry_after_seconds` is the answer's `Retry-After`, from 0 to 10^9; a date counts from the
    answer's own `Date`. None where the answer has none that can be read so.

    Spec: Errors.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    retry_after_seconds: float | None = None


@frozen
class TextReceived:
    """A whole text message, checked to be UTF-8 and within the size limit."""

    data: bytes


@frozen(kw_only=True)
class Closed:
    """The end, once per connection; no event follows. Write what is left, close the transport.

    `by_peer` tells who ended it, by a Close frame or the end of the stream. `code` and `reason`
    are then the peer's, and otherwise those that this side decided; `code` is None where there is
    none: before the connection was open, or the stream ended without a Close frame. `clean` says
    that Close frames went both ways.

    Only a code that was received counts as one for a client that decides whether to come back:
    `received_code` is the one of the peer's Close frame whoever closed first, 1005 if that frame
    carried none, and None if no valid Close frame came. Reasons from a peer are its own words: they
    are to be escaped before they are logged.

    Spec: Errors.
    """

    code: int | None = None
    reason: str = ""
    clean: bool = False
    by_peer: bool = False
    received_code: int | None = None
    received_reason: str = ""


WsEvent = UpgradeRequested | Upgraded | UpgradeRefused | TextReceived | Closed
