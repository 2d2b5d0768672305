"""Attacks on whoever reads the log: lines of an attacker's own, control characters, secrets."""

from typing import Final

from tests.attacks.attack import SECRET, attack
from tests.attacks.field import Field, hello, text
from tests.blackbox.bbwire import CLOSE, encode_frame

_FORGED: Final = "\nERROR gatewayproto: forged\r\x1b[31m\x1b]0;title\x07\x9b2J\u202e\u2028\x00"
"""Ends a line, begins another, colors it, names a window, turns the text around."""
_ASCII: Final = "%0AERROR%20forged%1b[31m"


@attack("log", answer="the answer to each, and nothing in the log")
def log_injection_http(field: Field) -> None:
    """Line ends and escapes in paths, queries, headers and tokens of the upgrade."""
    for path in (
        f"/{_ASCII}",
        f"/ws?token={SECRET}{_ASCII}",
        f"/ws?{_ASCII}=1",
        "/ws?token=%ff%fe",
    ):
        assert field.answer_to(field.request(path))[0] in (101, 404), path
    raw = _FORGED.encode().replace(b"\x00", b"")
    for name in (b"Origin", b"User-Agent", b"Authorization", b"X-Forwarded-For", b"Cookie"):
        for value in (
            raw,
            raw.replace(b"\n", b"").replace(b"\r", b""),
            b"Bearer " + b"\xff\x1b[2J",
        ):
            request = field.request().replace(
                b"Upgrade: websocket", b"Upgrade: websocket\r\n%b: %b" % (name, value)
            )
            assert field.answer_to(request)[0] in (101, 400, 403), (name, value)
    for junk in (
        raw,
        b"GET " + raw,
        b"\x1b[31m" * 1000,
        b"GET /ws HTTP/1.1\r\n" + raw + b"\r\n\r\n",
    ):
        assert field.answer_to(junk + b"\r\n\r\n")[0] in (400, 404), junk[:40]


@attack("log", answer="the answer to each, and nothing in the log")
def log_injection_frames(field: Field) -> None:
    """Line ends and escapes in every field of a handshake and in the reason of a close."""
    evil = _FORGED + SECRET
    for fields, codes in (
        ({"agent_id": evil}, {4505}),
        ({"token": evil}, {4504}),
        ({"client": {"name": evil, "version": evil}, "agent_id": evil}, {4505}),
        ({"session_id": evil, "since": 4, "epoch": "e\x1b"}, {1000}),
        ({"capabilities": [evil] * 100}, {1000}),
        ({_FORGED: evil}, {1000}),
    ):
        peer = field.upgraded()
        peer.send(hello(**fields))
        if 1000 in codes:
            peer.send({"type": "leave", "reason": evil})
        code = peer.drain()
        assert code in codes, (fields, code)
    for data in (
        encode_frame(CLOSE, b"\x03\xe8" + _FORGED.encode()),
        text({"type": evil}) + text({"type": "leave"}),
        text({"type": "message", "content": evil, "request_id": evil}) + text({"type": "leave"}),
        text(b'{"type":"' + _FORGED.encode()) + text({"type": "leave"}),
    ):
        peer = field.joined()
        peer.send_bytes(data)
        assert peer.drain() == 1000


@attack("log", answer="`internal_error`, 4004; the record is escaped", allowed=".*")
def log_injection_by_the_application(field: Field) -> None:
    """An application that fails with an attacker's words in its errors."""
    peer = field.upgraded()
    peer.send(hello(agent_id="failing", client={"name": _FORGED}))
    peer.expect("hello_error", code="internal_error")
    peer.expect_closed(4004)
    peer = field.joined()
    peer.send(
        {"type": "message", "content": f"fail {_FORGED}"}, {"type": "message", "content": "go on"}
    )
    assert peer.expect("event")["event"]["data"]["text"] == "go on"
