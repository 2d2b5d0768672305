"""The gateway and the client of the other examples in one program, on trio: on_trio.py."""

import trio
from gatewayproto_trio import Application, SessionHandle, connect, serve

from gatewayproto.actions import EventReceived, MessageReceived


class Parrot(Application):
    """Streams every message back as tokens, then as one response."""

    async def on_message(self, session: SessionHandle, message: MessageReceived) -> None:
        """Answer one message; the messages of a session come one after the other."""
        run_id = f"run-{message.message_id}"
        for word in str(message.content).split():
            session.publish("token", {"text": word}, run_id=run_id, transient=True)
            await trio.sleep(0.1)
        session.publish("response", {"text": message.content}, run_id=run_id, final=True)


async def main() -> None:
    """Serve on a free port, say something, and print what comes back."""
    async with serve(Parrot(), port=0) as server, connect(server.url, agent_id="parrot") as client:
        await client.send("all the world")
        async for item in client:
            if isinstance(item, EventReceived):
                print(item.seq, item.event.type, item.event.data["text"])
                if item.event.final:
                    break


trio.run(main)
