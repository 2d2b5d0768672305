"""Our server in this process, saved and restored under its clients, and all that it published."""

import asyncio
import itertools
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from gatewayproto_asyncio import Application, Server, SessionHandle, monotonic, serve

from gatewayproto import Gateway, GatewayConfig
from gatewayproto.actions import MessageReceived
from tests.blackbox.bbwire import WAIT
from tests.deployed.dpaccount import Said

T = TypeVar("T")
Restart = Literal["saved", "unbroken", "older", "lost"]
"""All is kept and the epoch is new; the epoch is kept as well; an older copy; nothing is kept."""


@dataclass
class Life:
    """What was published in each session, as far as the server's state knows it."""

    said: dict[str, list[Said]] = field(default_factory=dict)
    finished: dict[str, list[str]] = field(default_factory=dict)
    """By session, the request of every final answer."""

    def copy(self) -> "Life":
        """As it is now."""
        said = {name: list(each) for name, each in self.said.items()}
        return Life(said, {name: list(each) for name, each in self.finished.items()})


class Agent(Application):
    """Does what the demo agent does with `tokens`, `burst` and an echo, and writes it down."""

    def __init__(self, life: Life) -> None:
        """Begin with what was published so far."""
        self.life = life

    async def on_message(self, session: SessionHandle, message: MessageReceived) -> None:
        """Publish what the text says."""
        assert isinstance(message.content, str)
        word, _, rest = message.content.partition(" ")
        request_id, run = message.request_id, message.message_id
        if word == "tokens":
            words = [f"t{index} " for index in range(int(rest))]
            run_id = f"run-{id(self)}-{run}"
            for index, each in enumerate(words):
                if index % 8 == 7:
                    await asyncio.sleep(0)
                self.say(session, "token", {"text": each}, run_id=run_id, transient=True)
            data = {"text": "".join(words)}
            self.say(session, "response", data, request_id=request_id, run_id=run_id, final=True)
        elif word == "burst":
            for number in range(1, int(rest) + 1):
                last = request_id if number == int(rest) else None
                self.say(session, "note", {"n": number}, request_id=last)
        else:
            self.say(session, "response", {"text": message.content}, request_id=request_id)

    def say(
        self,
        session: SessionHandle,
        type_: str,
        data: dict[str, Any],
        *,
        request_id: str | None = None,
        run_id: str | None = None,
        transient: bool = False,
        final: bool = False,
    ) -> None:
        """Publish an event and write it down; `request_id` marks the last one of an answer."""
        seq = session.publish(
            type_, data, request_id=request_id, run_id=run_id, transient=transient, final=final
        )
        if seq is None:
            return
        said = self.life.said.setdefault(session.session_id, [])
        said.append(Said(type_, data, run_id, transient))
        assert seq == len(said)
        if request_id is not None:
            self.life.finished.setdefault(session.session_id, []).append(request_id)


class Host:
    """`gatewayproto_asyncio.serve` on a loop of its own thread."""

    def __init__(self, config: GatewayConfig) -> None:
        """Start a new server."""
        self.config = config
        self.agent = Agent(Life())
        self._kept: tuple[dict[str, Any], Life] | None = None
        self._marks = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._call(self._start(None))

    def __enter__(self) -> Self:
        """Nothing to do; it serves."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """End the server, the loop and the thread."""
        with suppress(TimeoutError):
            self._call(self._server.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT)
        self._loop.close()

    @property
    def life(self) -> Life:
        """All that the server's state knows."""
        return self.agent.life

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens now."""
        return self._server.host, self._server.port

    def keep(self) -> None:
        """Keep a copy of its state, for a restart that is `older`."""
        self._kept = self._call(self._copy())

    def restart(self, how: Restart) -> Restart:
        """Stop it, and start another one with what there is of its state; tells how it did."""
        self._call(self._server.close())
        state, life = self._server.save(), self.life
        if how == "older" and self._kept is not None:
            state, life = self._kept[0], self._kept[1].copy()
        elif how == "older":
            how = "saved"
        gateway = None
        if how == "lost":
            life = Life()
        else:
            unbroken = how == "unbroken"
            gateway = Gateway.recover(self.config, state, now=monotonic(), unbroken=unbroken)
        self.agent = Agent(life)
        self._server = self._call(self._start(gateway))
        return how

    def publish(self, session_id: str, count: int) -> None:
        """Publish notes that answer nobody, each unlike any other."""
        self._call(self._publish(session_id, count))

    async def _publish(self, session_id: str, count: int) -> None:
        session = self._server.session(session_id)
        for _ in range(count):
            self.agent.say(session, "note", {"mark": next(self._marks)})

    async def _start(self, gateway: Gateway | None) -> Server:
        server = serve(self.agent, port=0, config=self.config, gateway=gateway, close_timeout=0.05)
        return await server.__aenter__()

    async def _copy(self) -> tuple[dict[str, Any], Life]:
        return self._server.save(), self.life.copy()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT)
