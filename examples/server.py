"""A gateway whose agent repeats what it is told, word by word: server.py [PORT]."""

import asyncio
import contextlib
import sys

from gatewayproto_asyncio import Application, SessionHandle, serve

from gatewayproto.actions import MessageReceived


class Parrot(Application):
    """Streams every message back as tokens, then as one response."""

    async def on_message(self, session: SessionHandle, message: MessageReceived) -> None:
        """Answer one message; the messages of a session come one after the other."""
        run_id = f"run-{message.message_id}"
        for word in str(message.content).split():
            session.publish("token", {"text": word}, run_id=run_id, transient=True)
            await asyncio.sleep(0.1)
        session.publish("response", {"text": message.content}, run_id=run_id, final=True)


async def main(port: int) -> None:
    """Serve until interrupted."""
    async with serve(Parrot(), port=port) as server:
        print("ready", server.url, flush=True)
        await server.wait_closed()


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main(int(sys.argv[1]) if sys.argv[1:] else 8765))
