"""The frames of a server that may send any of them, true or not, for the alphabet of `_server`.

Spec: Server to client; The welcome; Version 1.
"""

import json
from typing import Any, Final

from gatewayproto.inputs import ClientInput
from gatewayproto.testing._shapes import MAX_INT
from gatewayproto.testing.any_peer._client_known import ATTACHED, Frame
from gatewayproto.testing.any_peer._server import (
    ENTRY,
    POLICIES,
    POLICY,
    AnyServer,
    Letter,
    closed,
    connect,
    due,
    early,
    epoch_of,
    good_welcome,
    nonce_of,
    opened,
    session_of,
    set_token,
    taken,
    unanswered,
)

# -- welcomes and rejections ------------------------------------------------------------------


def honest_welcome(server: AnyServer) -> ClientInput | None:
    """What a good server of the client's newest version answers."""
    book = server.book
    held = book.position
    if book.config.versions.maximum == 1 or book.phase == "rejoining":
        return server.raw(json.dumps(_honest_v1(server)).encode())
    unproved = held is not None and held.epoch is None and "." not in held.session_id
    reason = {"resync_required": True, "resync_reason": "epoch_changed"} if unproved else {}
    # There is more than the client has had, which the welcome must not make it believe.
    return server.raw(json.dumps(good_welcome(server, cursor=book.cursor + 2, **reason)).encode())


def _honest_v1(server: AnyServer) -> Frame:
    book = server.book
    kind = "joined" if book.phase == "rejoining" else "hello_ok"
    session_id = session_of(server, "own" if book.position else "new")
    return {"type": kind, "session_id": session_id, "cursor": book.cursor, "oldest_cursor": 1}


def welcome(  # noqa: PLR0917 -- as many details as a welcome has
    server: AnyServer,
    type_: str,
    session: str,
    epoch: str,
    resumed: Any,
    reason: str | None,
    sequence: int,
    head: int,
    policy: str | None,
    versions: Frame,
    oldest: int = 1,
) -> ClientInput | None:
    """A version 2 welcome that may contradict everything."""
    cursor = server.book.cursor
    frame = good_welcome(
        server,
        type=type_,
        oldest_cursor=oldest,
        session_id=session_of(server, session),
        epoch=epoch_of(server, epoch),
        resumed=resumed,
        resync_required=reason is not None,
        resync_reason=reason or ...,
        sequence=max(0, (cursor if resumed else 0) + sequence),
        cursor=max(0, cursor + head),
        policy=None if policy is None else {**POLICY, **POLICIES[policy]},
        **versions,
    )
    return server.raw(json.dumps(frame).encode())


def lacking(server: AnyServer, name: str) -> ClientInput | None:
    """A version 2 welcome in which a field is missing."""
    frame = good_welcome(server, **{name: ...})
    return server.raw(json.dumps(frame).encode())


def welcome_v1(  # noqa: PLR0917 -- as many details as a welcome has
    server: AnyServer,
    type_: str,
    session: str,
    head: int | None,
    oldest: int | None,
    resync: bool | None,
    more: Frame,
) -> ClientInput | None:
    """A version 1 welcome; such servers leave out much, and guard nothing."""
    cursor = server.book.cursor
    frame = {
        "type": type_,
        "session_id": session_of(server, session),
        "cursor": None if head is None else max(0, cursor + head),
        "oldest_cursor": None if oldest is None else max(0, cursor + oldest),
        "resync_required": resync,
        **more,
    }
    return server.raw(json.dumps(frame).encode())


def reject(
    server: AnyServer, type_: str, code: Any, step: str | None, retry_after: Any = None
) -> ClientInput | None:
    """A rejection, with any code."""
    frame: Frame = {"type": type_, "code": code, "message": "no"}
    if step is not None:
        frame["next_step"] = step
    if retry_after is not None:
        frame["retry_after_seconds"] = retry_after
    return server.raw(json.dumps(frame).encode())


# -- delivery ---------------------------------------------------------------------------------


def event(server: AnyServer, ahead: int = 0, kind: str = "event") -> ClientInput | None:
    """An event, so far beyond what is expected."""
    seq = min(MAX_INT, max(1, server.book.cursor + 1 + ahead))
    return server.frame(kind, seq=seq, event=server.event())


def token_event(server: AnyServer, final: bool) -> ClientInput | None:
    """An event of a run, with all that an event may have."""
    kind: Frame = {"final": True} if final else {"transient": True}
    more = {"run_id": "r1", "source": "a", "target": "b", "request_id": "m1", "more": [1]}
    return server.frame("event", seq=server.book.cursor + 1, event=server.event(**kind, **more))


def numbered(server: AnyServer, ahead: int = 0, type_: str = "status") -> ClientInput | None:
    """A version 1 frame that counts as an event by its seq alone."""
    server.count += 1
    seq = server.book.cursor + 1 + ahead
    return server.frame(type_, seq=seq, data={"n": server.count}, source="s", timestamp="late")


def skip(server: AnyServer, ahead: int, more: int) -> ClientInput | None:
    """A skip around what is expected, or beside it, or the wrong way."""
    first = max(1, server.book.cursor + 1 + ahead)
    return server.frame("skip", first=first, last=max(1, first + more), reason="superseded")


def caught_up(server: AnyServer, ahead: int = 0, nonce: str = "newest") -> ClientInput | None:
    """The end of an attach or a recovery, true or not."""
    fields: Frame = {"cursor": max(0, server.book.cursor + ahead)}
    said = nonce_of(server, nonce)
    if said is not None:
        fields["nonce"] = said
    return server.frame("caught_up", **fields)


def ping(server: AnyServer, ahead: int | None, nonce: str | None = "n1") -> ClientInput | None:
    """A ping, whose cursor may be ahead."""
    fields: Frame = {} if nonce is None else {"nonce": nonce}
    if ahead is not None:
        fields["cursor"] = max(0, server.book.cursor + ahead)
    return server.frame("ping", **fields)


def snapshot(
    server: AnyServer, ahead: int, epoch: str, reason: str, nonce: str = "none"
) -> ClientInput | None:
    """A whole snapshot, of any cursor and epoch."""
    server.count += 1
    return server.frame(
        "snapshot",
        cursor=max(0, server.book.cursor + ahead),
        epoch=epoch_of(server, epoch),
        reason=reason,
        nonce=nonce_of(server, nonce),
        state={"n": server.count},
    )


_CHUNKS: Final = ('{"n":', '"x"', "}")


def part(
    server: AnyServer,
    ahead: int | None,
    parts: int | None = 3,
    chunk: Any = ...,
    more: Frame | None = None,
) -> ClientInput | None:
    """A part of a snapshot: so far beyond the one that comes next, or the first; or none at all."""
    link = server.book.link
    taken = 0 if link is None else link.parts.taken
    number = None if ahead is None else max(1, taken + 1 + ahead)
    if chunk is ...:
        chunk = _CHUNKS[((number or 1) - 1) % len(_CHUNKS)]
    fields = {"cursor": 4, "epoch": epoch_of(server, "own"), "reason": "lagged"}
    return server.frame(
        "snapshot", **{**fields, "part": number, "parts": parts, "chunk": chunk, **(more or {})}
    )


def baseline(server: AnyServer, ahead: Any, session: str | None = None) -> ClientInput | None:
    """A version 1 snapshot, its cursor and session in its state."""
    server.count += 1
    state: Frame = {"n": server.count}
    state["event_cursor"] = max(0, server.book.cursor + ahead) if isinstance(ahead, int) else ahead
    if session is not None:
        state["session_id"] = session_of(server, session)
    return server.frame("snapshot", state=state)


def honest_snapshot(server: AnyServer) -> ClientInput | None:
    """The snapshot that the last welcome announced."""
    link = server.book.link
    if link is not None and link.version == 1:
        return baseline(server, 2)
    return snapshot(server, 2, "own", "trimmed")


# -- answers and the rest ---------------------------------------------------------------------


def ack(server: AnyServer, which: int = 0, duplicate: Any = False) -> ClientInput | None:
    """A message was taken, whether or not it was written."""
    return server.frame("message_ack", request_id=unanswered(server, which), duplicate=duplicate)


def response(server: AnyServer, status: Any, numbered: bool, which: int = 0) -> ClientInput | None:
    """The acknowledgement of version 1, which may be an event as well."""
    fields: Frame = {"request_id": unanswered(server, which), "status": status}
    if numbered:
        fields["seq"] = server.book.cursor + 1
    return server.frame("response", **fields)


def nack(server: AnyServer, code: str, which: int = 0) -> ClientInput | None:
    """A message was not taken."""
    request_id = unanswered(server, which)
    return server.frame("message_nack", code=code, message="no", request_id=request_id)


def error(
    server: AnyServer, code: str, which: int | None, retry_after: float | None = None
) -> ClientInput | None:
    """An error, which may name a message."""
    fields: Frame = {"code": code, "message": "no"}
    if which is not None:
        fields["request_id"] = unanswered(server, which)
    if retry_after is not None:
        fields["retry_after_seconds"] = retry_after
    return server.frame("error", **fields)


def going_away(server: AnyServer, after_ms: int, spread_ms: int) -> ClientInput | None:
    """The server wants to be left."""
    return server.frame("going_away", reason="x", after_ms=after_ms, spread_ms=spread_ms)


def news(server: AnyServer, type_: str) -> ClientInput | None:
    """Presence and health, as they follow what was told last; and what means nothing here."""
    link = server.book.link
    listed = link is not None and link.presence_listed
    forms = {"entries": "list", "change": "change" if listed else "list", "health": "health"}
    if type_ in forms:
        return push(server, forms[type_])
    frames: dict[str, Frame] = {
        "pong": {"type": "pong", "nonce": "n"},
        "unknown": {"type": "bogus", "seq": "x"},
        "client's": {"type": "message", "content": ""},
    }
    return server.raw(json.dumps(frames[type_]).encode())


def push(server: AnyServer, form: str) -> ClientInput | None:
    """Presence or health in every form, right or wrong, by what was told last."""
    return server.raw(json.dumps(_push(server, form)).encode())


def _push(server: AnyServer, form: str) -> Frame:
    link = server.book.link
    known = (link.presence_version if link else None) or 0
    health = (link.health_version if link else None) or 0
    next_: Frame = {"type": "presence", "version": known + 2}
    change: Frame = {
        "from_version": known,
        "joined": [{**ENTRY, "client": {"name": "x"}}],
        "left": ["c9"],
    }
    forms: dict[str, Frame] = {
        "list": {**next_, "entries": [ENTRY]},
        "change": {**next_, **change},
        "count": {**next_, "presence_count": 3},
        "old": {**next_, "version": known, "entries": []},
        "older": {**next_, **change, "version": max(0, known - 1)},
        "unknown": {**next_, **change, "from_version": known + 1},
        "two forms": {**next_, **change, "entries": []},
        "counted list": {**next_, "entries": [], "presence_count": 0},
        "no form": next_,
        "half": {**next_, "from_version": known, "joined": []},
        "health": {"type": "health", "version": health + 1, "health": {"ok": False}},
        "old health": {"type": "health", "version": health, "health": {"ok": True}},
    }
    return forms[form]


def raw(server: AnyServer, data: bytes) -> ClientInput | None:
    """Any bytes."""
    return server.raw(data)


def mangled(server: AnyServer, base: str, name: str, value: Any) -> ClientInput | None:
    """A good frame with one field that may be off."""
    book = server.book
    frames: dict[str, Frame] = {
        "welcome": good_welcome(server),
        "event": {"type": "event", "seq": book.cursor + 1, "event": server.event()},
        "skip": {"type": "skip", "first": book.cursor + 1, "last": book.cursor + 1, "reason": "x"},
        "caught_up": {"type": "caught_up", "cursor": book.cursor},
        "snapshot": {
            "type": "snapshot",
            "cursor": book.cursor,
            "epoch": epoch_of(server, "own"),
            "reason": "lagged",
            "state": {},
        },
        "message_ack": {
            "type": "message_ack",
            "request_id": unanswered(server, 0),
            "duplicate": False,
        },
        "message_nack": {"type": "message_nack", "code": "x", "message": "x"},
        "ping": {"type": "ping", "cursor": book.cursor},
        "error": {"type": "error", "code": "x", "message": "x"},
        "going_away": {"type": "going_away", "reason": "x", "after_ms": 0, "spread_ms": 0},
    }
    return server.raw(json.dumps({**frames[base], name: value}).encode())


# -- what a good server, driver and application would do --------------------------------------


def go_on(server: AnyServer) -> ClientInput | None:
    """What a good server, a good driver and a good application would do next."""
    book = server.book
    if book.phase in ATTACHED and book.is_behind:
        return taken(server)
    if book.link is not None and book.link.parts.taken:
        return part(server, 0)
    if book.phase == "live":
        return _go_on_live(server)
    letters: dict[str, Letter] = {
        "idle": connect,
        "connecting": opened,
        "handshaking": honest_welcome,
        "rejoining": honest_welcome,
        "rejected": lambda server: closed(server, 1012),
        "recovering": lambda server: caught_up(server, 0, "newest"),
        "resyncing": honest_snapshot,
        "waiting": due,
        "token needed": lambda server: set_token(server, "t1"),
        "stopped": early,
    }
    return letters[book.phase](server)


def _go_on_live(server: AnyServer) -> ClientInput | None:
    link = server.book.link
    assert link is not None
    if link.leaving is not None:
        return due(server)
    written = [each for each in server.book.outbox if each.in_flight]
    if written:
        return ack(server) if link.version != 1 else response(server, "accepted", numbered=False)
    if link.version != 1 and link.due and server.book.cursor >= (link.head or 0):
        return caught_up(server, 0, "newest")
    return event(server)


def large(server: AnyServer, beyond: int) -> ClientInput | None:
    """A frame as large as the client takes, or larger."""
    size = server.book.config.max_payload + beyond
    return server.raw(b'{"type":"pong"}'.ljust(size))
