"""Peers that do what they may, but too often: frames, recoveries, connections, sessions."""

import time
from typing import Final

from gatewayproto import Rate
from tests.attacks.attack import attack
from tests.attacks.field import Field, hello, pour, text
from tests.attacks.limits import RATED
from tests.attacks.target import TOKENS
from tests.blackbox.bbwire import Frame, Peer

ALICE, BOB = TOKENS
_NO_ADDRESS: Final = "the adapter tells the machine no address, so that nothing is counted by it"


def _limit(name: str) -> int:
    rate = getattr(RATED.config, name)
    assert isinstance(rate, Rate)
    return rate.burst


def _refused(frame: Frame, kind: str) -> None:
    assert (frame["type"], frame.get("code")) == (kind, "rate_limited"), frame
    assert frame["retry_after_seconds"] > 0, frame


@attack("rates", answer="`error` `rate_limited`, 4003, beyond `frame_rate`", profile="rated")
def frames_too_often(field: Field) -> None:
    """Floods of `ping`, `pong` and of unknown types, before the welcome and after it."""
    for data in (text({"type": "ping"}), text({"type": "nobody's"}), text({"type": "pong"})):
        for welcomed in (True, False):
            peer = field.joined() if welcomed else field.upgraded()
            started = time.monotonic()
            poured = pour(peer, data * 1_000)
            lasted = time.monotonic() - started
            assert poured.code == 4003, poured.code
            _refused(poured.frames[-1], "error")
            assert len(poured.frames) <= _limit("frame_rate") + lasted + 2


@attack("rates", answer="`error` `rate_limited`, and the connection lives", profile="rated")
def recoveries_too_often(field: Field) -> None:
    """`resync` and `resume` one after the other, each once the one before it is answered."""
    peer = field.joined()
    epoch = peer.log[0]["epoch"]
    started, answered, refused = time.monotonic(), 0, 0
    for number in range(_limit("recovery_rate") + 20):
        how = {"type": "resync"} if number % 2 else {"type": "resume", "since": 0, "epoch": epoch}
        peer.send({**how, "nonce": str(number)})
        frame = peer.recv_but("ping", "snapshot", "presence", "health")
        if frame["type"] == "caught_up":
            answered += 1
        else:
            _refused(frame, "error")
            refused += 1
    assert answered <= _limit("recovery_rate") + (time.monotonic() - started) + 1, answered
    assert refused > 0
    peer.send({"type": "message", "content": "still here"})
    peer.expect("event")


@attack(
    "rates",
    answer="`rate_limited`, 4003; another address is served",
    profile="rated",
    open=_NO_ADDRESS,
)
def connections_too_often(field: Field) -> None:
    """Connections from one address, each naming another in `X-Forwarded-For`."""
    count = _limit("connection_rate") + 30
    started, refused = time.monotonic(), 0
    for number in range(count):
        headers = [("X-Forwarded-For", f"192.0.2.{number}"), ("X-Real-IP", f"192.0.2.{number}")]
        peer = field.upgraded_from("127.0.0.2", headers)
        peer.send({"type": "leave"})
        if peer.drain() == 4003:
            _refused(peer.log[-1], "error")
            refused += 1
        peer.sock.close()
    assert count - refused <= _limit("connection_rate") + (time.monotonic() - started) + 1, refused
    _served(field.upgraded_from("127.0.0.3"))


@attack(
    "rates",
    answer="`rate_limited`, 4003; another address is served",
    profile="rated",
    open=_NO_ADDRESS,
)
def handshakes_too_often(field: Field) -> None:
    """Handshakes of version 1 over and over on one connection, and on others of its address."""
    peer = field.upgraded_from("127.0.0.4")
    peer.send({"type": "join", "agent_id": "demo"})
    session = {"session_id": peer.recv()["session_id"], "since": 0}
    frame: Frame = {"type": "joined"}
    for _ in range(_limit("handshake_rate") + 5):
        if frame["type"] == "joined":
            peer.send({"type": "join", "agent_id": "demo", **session})
            frame = peer.recv_but("ping")
    _refused(frame, "error")
    peer.expect_closed(4003)
    other = field.upgraded_from("127.0.0.4")
    other.send(hello())
    _refused(other.recv(), "hello_error")
    other.expect_closed(4003)
    _served(field.upgraded_from("127.0.0.5"))


@attack(
    "rates",
    answer="`rate_limited`, 4003; other principals and addresses are served",
    profile="rated",
    open=_NO_ADDRESS,
)
def sessions_too_often(field: Field) -> None:
    """New sessions: of nobody from one address, and of one principal from many."""
    for fields, addresses in (
        ({}, ["127.0.0.6"]),
        ({"token": ALICE}, [f"127.0.1.{n}" for n in range(1, 9)]),
    ):
        started, opened = time.monotonic(), 0
        refused: Frame | None = None
        for number in range(_limit("session_rate") + 5):
            peer = field.upgraded_from(addresses[number % len(addresses)])
            peer.send(hello(**fields))
            frame = peer.recv()
            if frame["type"] == "hello_ok":
                opened += 1
            else:
                refused = frame
        assert refused is not None, "as many sessions as anybody likes"
        _refused(refused, "hello_error")
        assert opened <= _limit("session_rate") + (time.monotonic() - started) + 1, opened
    _served(field.upgraded_from("127.0.0.7"))
    _served(field.upgraded_from("127.0.1.1"), token=BOB)


def _served(peer: Peer, **fields: str) -> None:
    peer.send(hello(**fields))
    peer.expect("hello_ok")
