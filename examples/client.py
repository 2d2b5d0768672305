"""A client that says something and prints what comes back: client.py [URL]."""

import asyncio
import contextlib
import sys

from gatewayproto_asyncio import connect

from gatewayproto.actions import EventReceived, Joined, Skipped, SnapshotReceived


async def main(url: str) -> None:
    """Say something in each new session; follow the answer over as many connections as it takes."""
    async with connect(url, agent_id="parrot") as client:
        async for item in client:
            match item:
                case Joined():
                    print("a new session")
                    await client.send("to be or not to be")
                case EventReceived(seq=seq, event=event):
                    print(seq, event.type, event.data["text"])
                    if event.final:
                        break
                case Skipped(first=first, last=last):
                    print(f"{first} to {last}: superseded")
                case SnapshotReceived(cursor=cursor, state=state):
                    print(f"1 to {cursor}: {state}")


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main(sys.argv[1] if sys.argv[1:] else "ws://127.0.0.1:8765/ws"))
