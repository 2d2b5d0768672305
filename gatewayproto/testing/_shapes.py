"""What a frame's fields may hold, said a second time: predicates over plain JSON data.

Spec: Client to server; Server to client; The welcome; Errors.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

Shape = Callable[[Any], bool]

MAX_INT: Final = 2**53 - 1


def integer(least: int, most: int = MAX_INT) -> Shape:
    """An integer; neither `5.0` nor `true` is one."""
    return lambda value: type(value) is int and least <= value <= most


def text(least: int = 0, most: int = MAX_INT) -> Shape:
    """A string of so many characters."""
    return lambda value: isinstance(value, str) and least <= len(value) <= most


def number(value: Any) -> bool:
    """A number, with or without a fraction."""
    return type(value) in {int, float}


def boolean(value: Any) -> bool:
    """True or false."""
    return isinstance(value, bool)


def thing(value: Any) -> bool:
    """An object, whatever is in it."""
    return isinstance(value, dict)


def one_of(*words: str) -> Shape:
    """One of these strings."""
    return lambda value: isinstance(value, str) and value in words


def items(shape: Shape) -> Shape:
    """A list of such."""
    return lambda value: isinstance(value, list) and all(map(shape, value))


def maybe(shape: Shape) -> Shape:
    """Such, or null, which is the same as absent."""
    return lambda value: value is None or shape(value)


def record(**fields: Shape) -> Shape:
    """An object with these fields; it may have others."""
    return lambda value: (
        isinstance(value, dict) and all(shape(value.get(name)) for name, shape in fields.items())
    )


CURSOR: Final = integer(0)
SEQ: Final = integer(1)
COUNT: Final = integer(0)
VERSION: Final = integer(1)
EPOCH: Final = text(1, 64)
NAME: Final = text(1)
NONCE: Final = text(0, 128)
REQUEST_ID: Final = text(1, 128)
ABOUT: Final = record(name=maybe(text(0, 256)), version=maybe(text(0, 256)))
ENTRY: Final = record(client_id=text(), agent_id=text(), connected_at=number, client=maybe(ABOUT))
POLICY: Final = record(
    max_payload=integer(1),
    heartbeat_ms=COUNT,
    resume_window_ms=COUNT,
    request_ttl_ms=COUNT,
    max_pending_requests=COUNT,
)
EVENT: Final = record(
    type=NAME,
    data=thing,
    event_id=NAME,
    timestamp=number,
    source=maybe(text()),
    target=maybe(text()),
    run_id=maybe(NAME),
    request_id=maybe(text()),
    transient=maybe(boolean),
    final=maybe(boolean),
    expects_reply=maybe(boolean),
)
WELCOME: Final = record(
    session_id=NAME,
    agent_id=maybe(text()),
    protocol=maybe(VERSION),
    protocol_version=maybe(VERSION),
    server_min_version=maybe(VERSION),
    server_max_version=maybe(VERSION),
    resumed=maybe(boolean),
    epoch=maybe(EPOCH),
    cursor=maybe(CURSOR),
    head=maybe(CURSOR),
    oldest_cursor=maybe(CURSOR),
    resync_required=maybe(boolean),
    resync_reason=maybe(text()),
    sequence=maybe(CURSOR),
    presence=maybe(items(ENTRY)),
    presence_count=maybe(COUNT),
    presence_version=maybe(COUNT),
    health=maybe(thing),
    health_version=maybe(COUNT),
    features=maybe(record(methods=maybe(items(text())), events=maybe(items(text())))),
    policy=maybe(POLICY),
)
ERROR: Final = record(
    code=text(),
    message=maybe(text()),
    next_step=maybe(text()),
    retry_after_seconds=maybe(lambda value: number(value) and value >= 0),
    request_id=maybe(text()),
    server_min_version=maybe(VERSION),
    server_max_version=maybe(VERSION),
)

SERVER: Final[Mapping[str, Shape]] = {
    "hello_ok": WELCOME,
    "joined": WELCOME,
    "hello_error": ERROR,
    "error": ERROR,
    "event": record(seq=SEQ, event=EVENT),
    "replay": record(seq=SEQ, event=EVENT),
    "skip": record(first=SEQ, last=SEQ, reason=text()),
    "caught_up": record(cursor=CURSOR, nonce=maybe(NONCE)),
    "snapshot": record(
        cursor=CURSOR,
        epoch=EPOCH,
        reason=text(),
        state=maybe(thing),
        nonce=maybe(NONCE),
        part=maybe(SEQ),
        parts=maybe(SEQ),
        chunk=maybe(text()),
    ),
    "message_ack": record(request_id=REQUEST_ID, duplicate=boolean),
    "message_nack": record(code=text(), message=maybe(text()), request_id=maybe(text())),
    "ping": record(nonce=maybe(NONCE), cursor=maybe(CURSOR)),
    "pong": record(nonce=maybe(NONCE), cursor=maybe(CURSOR)),
    "presence": record(
        version=COUNT,
        from_version=maybe(COUNT),
        joined=maybe(items(ENTRY)),
        left=maybe(items(text())),
        entries=maybe(items(ENTRY)),
        presence_count=maybe(COUNT),
    ),
    "health": record(version=COUNT, health=thing),
    "going_away": record(reason=text(), after_ms=COUNT, spread_ms=COUNT),
}
"""What a version 2 server's frames hold, by their type."""

_HANDSHAKE: Final[dict[str, Shape]] = {
    "agent_id": text(1, 128),
    "capabilities": maybe(items(text())),
    "session_id": maybe(text()),
    "epoch": maybe(EPOCH),
    "since": maybe(CURSOR),
    "start": maybe(one_of("replay", "snapshot")),
    "token": maybe(text()),
    "max_payload": maybe(integer(1024)),
    "client": maybe(ABOUT),
}
CLIENT: Final[Mapping[str, Shape]] = {
    "hello": record(**_HANDSHAKE, protocol_min=maybe(VERSION), protocol_max=maybe(VERSION)),
    "join": record(**_HANDSHAKE, min_version=maybe(VERSION), max_version=maybe(VERSION)),
    "message": record(
        content=lambda value: isinstance(value, str | dict),
        request_id=maybe(REQUEST_ID),
        reply_to=maybe(text()),
        metadata=maybe(thing),
    ),
    "abort": record(run_id=maybe(text()), request_id=maybe(text())),
    "resume": record(since=CURSOR, epoch=maybe(EPOCH), nonce=maybe(NONCE)),
    "resync": record(nonce=maybe(NONCE)),
    "auth": record(token=text()),
    "ping": record(nonce=maybe(NONCE), cursor=maybe(CURSOR)),
    "pong": record(nonce=maybe(NONCE), cursor=maybe(CURSOR)),
    "leave": record(reason=maybe(text())),
}
"""What a client's frames hold, by their type."""
