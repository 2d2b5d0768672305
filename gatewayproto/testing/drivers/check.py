"""What a check is, and how it talks to the driver."""

import json
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from attrs import field, frozen

from gatewayproto.testing.drivers.harness import End, Harness, Peer
from gatewayproto.testing.steps import Violation

H = TypeVar("H", bound=Harness)
Frame = dict[str, Any]


@frozen
class Check(Generic[H]):
    """One part of a driver's duty, and how it is shown. Call it with a harness.

    `name` is for tables and test ids, `duty` says what a driver owes; it is the text of the
    `Violation` that is raised where the driver does not do it.
    """

    name: str
    duty: str
    _body: Callable[[H], Awaitable[None]] = field(repr=False)

    def __str__(self) -> str:
        return self.name

    def __call__(self, harness: H) -> None:
        """Run it.

        Raises:
            Violation: The driver does not do its duty.
        """
        ended: list[bool] = []

        async def main() -> None:
            try:
                await self._body(harness)
                ended.append(True)
            except TimeoutError as error:
                raise Violation(self.name, f"{self.duty}: waited in vain") from error
            except Violation as violation:
                raise Violation(self.name, f"{self.duty}: {violation.text}") from violation

        harness.run(main)
        if not ended:
            raise Violation(self.name, f"{self.duty}: the harness did not run it to its end")


def run_all(checks: Sequence[Check[H]], harness: H) -> None:
    """Run every check, and report all that fail.

    Raises:
        Violation: The driver failed one check.
        ExceptionGroup: It failed several.
    """
    failed: list[Exception] = []
    for check in checks:
        try:
            check(harness)
        except Exception as error:  # noqa: BLE001 -- reported below, all of them
            failed.append(error)
    if len(failed) == 1:
        raise failed[0]
    if failed:
        raise ExceptionGroup(f"the driver failed {len(failed)} of {len(checks)} checks", failed)


@contextmanager
def awaiting(what: str) -> Generator[None]:
    """Name what is waited for, in case that it does not come."""
    try:
        yield
    except TimeoutError as error:
        raise Violation("driver", f"{what} did not come") from error


def demand(condition: object, text: str) -> None:
    """Raise a `Violation` unless the condition holds."""
    if not condition:
        raise Violation("driver", text)


def shown(end: End) -> str:
    """An end, for people."""
    return "the end without a close" if end.code is None else f"close {end.code} {end.reason!r}"


class Talker:
    """A peer that speaks in frames, and keeps what it was sent."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.received: list[bytes] = []
        self._nonces = 0

    def encode(self, kind: str, **fields: Any) -> bytes:
        """A frame as bytes of the transport."""
        return self.peer.encode(json.dumps({"type": kind, **fields}).encode())

    async def send(self, kind: str, **fields: Any) -> None:
        """Send one frame."""
        await self.peer.write(self.encode(kind, **fields))

    async def next(self, what: str) -> Frame | End:
        """The next frame, or the end."""
        with awaiting(what):
            received = await self.peer.receive()
        if isinstance(received, End):
            return received
        self.received.append(received)
        frame: Frame = json.loads(received)
        return frame

    async def frame(self, kind: str) -> Frame:
        """The next frame of that type; others before it are let pass."""
        while True:
            frame = await self.next(f"a frame `{kind}`")
            if isinstance(frame, End):
                raise Violation("driver", f"{shown(frame)} in place of a frame `{kind}`")
            if frame["type"] == kind:
                return frame

    async def only(self, kind: str) -> Frame:
        """The next frame, which is to be of that type."""
        frame = await self.next(f"a frame `{kind}`")
        if isinstance(frame, End):
            raise Violation("driver", f"{shown(frame)} in place of a frame `{kind}`")
        demand(frame["type"] == kind, f"a frame `{frame['type']}` in place of `{kind}`")
        return frame

    async def end(self, *, passing: Sequence[str] = ()) -> End:
        """The end; only frames of the types `passing` may come before it."""
        while True:
            frame = await self.next("the end of the connection")
            if isinstance(frame, End):
                return frame
            kind = frame["type"]
            demand(kind in passing, f"a frame `{kind}` in place of the end")

    async def drain(self) -> None:
        """Read on to the end, whatever comes."""
        while not isinstance(await self.next("the end of the connection"), End):
            pass

    async def fence(self) -> None:
        """Wait until the other side has answered a ping: it has dealt with all that came before."""
        self._nonces += 1
        nonce = f"fence {self._nonces}"
        await self.send("ping", nonce=nonce)
        while (await self.frame("pong")).get("nonce") != nonce:
            pass


def numbered(seq: int, **fields: Any) -> Mapping[str, Any]:
    """The fields of an event's frame."""
    event = {"type": "note", "data": {}, "event_id": f"e{seq}", "timestamp": 0, **fields}
    return {"seq": seq, "event": event}
