"""A healthy client in a process of its own: it follows a stream, and keeps an account of it.

`python -m tests.attacks.witness URL [AUTHORITY]` answers every line on stdin with one on stdout:
the account since the line before, as JSON.
"""

import asyncio
import json
import ssl
import sys
import time
from typing import Any

from attrs import asdict, define
from gatewayproto_asyncio import Item, connect

from gatewayproto import ClientConfig
from gatewayproto.actions import EventReceived, Skipped, SnapshotReceived
from gatewayproto.backoff import Backoff


@define
class Account:
    """What came since the last report.

    `events` were handed on, `wrong` of them not as the next one that was published; `covered` by
    snapshots or named as skipped were others. `connections` is how often it had to connect.
    `worst` is the longest time, in seconds, from an event's publishing to its handing on, or to
    now for what has not come.
    """

    events: int = 0
    wrong: int = 0
    covered: int = 0
    connections: int = 0
    worst: float = 0.0


class Witness:
    """Follows one stream."""

    def __init__(self) -> None:
        self._account = Account()
        self._cursor = 0
        self._last = time.monotonic()

    def connected(self, state: str) -> None:
        """Count the connections that were needed."""
        if state == "connected":
            self._account.connections += 1

    def take(self, item: Item) -> None:
        """Hold what was handed on to the numbering of the application that published it."""
        now = time.monotonic()
        match item:
            case EventReceived(seq=seq, event=event):
                if seq != self._cursor + 1 or event.data["n"] != seq - 1:
                    self._account.wrong += 1
                self._account.events += 1
                self._account.worst = max(self._account.worst, now - event.data["at"])
                self._cursor, self._last = seq, now
            case SnapshotReceived(cursor=cursor) | Skipped(last=cursor):
                self._account.covered += cursor - self._cursor
                self._cursor = cursor
            case _:
                pass

    def report(self) -> dict[str, Any]:
        """Give the account, and begin a new one."""
        account, self._account = self._account, Account()
        account.worst = max(account.worst, time.monotonic() - self._last)
        return asdict(account)


async def main(url: str, authority: str = "") -> None:
    """Follow the stream until stdin ends."""
    witness = Witness()
    config = ClientConfig(agent_id="demo", backoff=Backoff(initial=0.05, maximum=0.5))
    ended = asyncio.Event()

    def asked() -> None:
        if not sys.stdin.readline():
            ended.set()
            return
        sys.stdout.write(json.dumps(witness.report()) + "\n")
        sys.stdout.flush()

    asyncio.get_running_loop().add_reader(sys.stdin, asked)
    context = ssl.create_default_context(cafile=authority) if authority else None
    async with connect(url, config=config, ssl=context, on_state=witness.connected) as client:
        await client.send("stream")
        following = asyncio.create_task(_follow(client, witness))
        over = asyncio.create_task(ended.wait())
        await asyncio.wait({following, over}, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        following.cancel()


async def _follow(client: Any, witness: Witness) -> None:
    async for item in client:
        witness.take(item)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
