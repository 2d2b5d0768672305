"""The process that is attacked: an adapter's `serve` with a small application.

`python -m tests.attacks.target ADAPTER PROFILE MARK [CERTIFICATE]` says `ready PORT` on stdout. Its
log goes to stderr as plain records, each begun by MARK, which nobody outside can guess: whatever a
peer could put on a line of its own lacks it.
"""

import importlib
import logging
import resource
import signal
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from gatewayproto_asyncio import Application, Rejected, SessionHandle
from gatewayproto_cli.logs import EscapingFormatter

from gatewayproto import ErrorCode
from gatewayproto.actions import JoinRequested, MessageReceived
from tests.attacks.limits import PROFILES, Profile

TOKENS: Final = {"token-of-alice-6c1f": "alice", "token-of-bob-9d27": "bob"}
"""Whose token is whose. Without one everybody is the same nobody."""
TICK: Final = 0.02
"""Seconds between two events of a stream."""

Sleep = Callable[[float], Awaitable[None]]


class Target(Application):
    """Does what a message says.

    - `stream`: a `tick` each fiftieth of a second, numbered, with the moment of its publishing.
    - `fill N SIZE`: N durable events of SIZE bytes; `drip N SIZE`: the same, fifty a second.
    - `work`: never comes to its end.
    - `ignore TEXT`: nothing.
    - `fail TEXT`: raises an error with this text.
    - Anything else is echoed.

    The agent `slow` never decides whom to admit, and `failing` fails at it.
    """

    def __init__(self, sleep: Sleep) -> None:
        self._sleep = sleep

    async def authenticate(self, join: JoinRequested) -> str | None:
        """Admit everybody without a token, or with a known one."""
        match join.agent_id:
            case "demo":
                pass
            case "slow":
                await self._sleep(86_400)
            case "failing":
                raise RuntimeError(join.client.name if join.client and join.client.name else "")
            case _:
                raise Rejected(ErrorCode.AGENT_NOT_FOUND, "there is no such agent here")
        if join.token is None:
            return None
        if join.token not in TOKENS:
            raise Rejected(ErrorCode.AUTH_UNAUTHORIZED, "this token is not known here")
        return TOKENS[join.token]

    async def on_message(self, session: SessionHandle, message: MessageReceived) -> None:
        """See above."""
        text = str(message.content)
        match text.split(" "):
            case ["stream"]:
                await self._stream(session)
            case ["fill" | "drip" as how, count, size]:
                for number in range(int(count)):
                    session.publish("filler", {"n": number, "text": "x" * int(size)})
                    await self._sleep(0 if how == "fill" else TICK)
            case ["work"]:
                await self._sleep(86_400)
            case ["ignore", *_]:
                pass
            case ["fail", *_]:
                raise RuntimeError(text)
            case _:
                session.publish("response", {"text": text}, request_id=message.request_id)

    async def _stream(self, session: SessionHandle) -> None:
        number = 0
        while session.publish("tick", {"n": number, "at": time.monotonic()}) is not None:
            number += 1
            await self._sleep(TICK)


async def _serve(
    module: Any, sleep: Sleep, profile: Profile, context: ssl.SSLContext | None
) -> None:
    """Serve until SIGTERM."""
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    server = module.serve(
        Target(sleep),
        port=0,
        config=profile.config,
        ssl=context,
        close_timeout=profile.close_timeout,
        max_upgrades=profile.max_upgrades,
    )
    async with server:
        sys.stdout.write(f"ready {server.port}\n")
        sys.stdout.flush()
        while not told:
            await sleep(0.05)


def _log(mark: str) -> None:
    """Everything that anybody logs, just as it was logged; tracebacks as the command writes them.

    What the exceptions of an application say is the application's own, and may be what a peer
    sent: only a formatter can escape that.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(f"{mark} %(levelname)s %(name)s: %(message)s", mark))
    logging.basicConfig(handlers=[handler], level=logging.DEBUG)


class _Formatter(EscapingFormatter):
    def __init__(self, form: str, mark: str) -> None:
        super().__init__(form)
        self._mark = mark

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        text = logging.Formatter.formatMessage(self, record)
        # asyncio's own reports of errors are of several lines.
        return text.replace("\n", f"\n{self._mark} TRACE ") if record.name == "asyncio" else text

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the same
        lines = super().formatException(ei).split("\n")
        return "\n".join(f"{self._mark} TRACE {line}" for line in lines)


def main(adapter: str, profile: str, mark: str, certificate: str = "") -> None:
    """Serve until SIGTERM, on this adapter."""
    _log(mark)
    setup, context = PROFILES[profile], None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    if setup.descriptors is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (setup.descriptors, setup.descriptors))
    module = importlib.import_module(f"gatewayproto_{adapter}")
    library = importlib.import_module(adapter)
    if adapter == "asyncio":
        library.run(_serve(module, library.sleep, setup, context))
    else:
        library.run(_serve, module, library.sleep, setup, context)


if __name__ == "__main__":
    main(*sys.argv[1:])
