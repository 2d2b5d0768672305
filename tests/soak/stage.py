"""Runs a soak: the processes of server, fault proxy and clients, and a look at their memory."""

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from attrs import define, field

from tests.soak.judge import Judge
from tests.soak.memory import growth, rss
from tests.soak.record import lines
from tests.soak.report import Report
from tests.soak.setting import Setting

ROOT: Final = Path(__file__).parent.parent.parent
_EXTRA: Final = 150.0
"""Seconds that coming to rest and to an end may take, beside the time of the run."""
_START: Final = 30.0


class SoakFailedError(Exception):
    """A process of the soak did not do its part."""


@define(eq=False)
class _Process:
    name: str
    process: asyncio.subprocess.Process

    @property
    def pid(self) -> int:
        return self.process.pid

    async def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            raise SoakFailedError(f"the {self.name}'s process ended before its time")
        return line.decode().strip()

    async def end(self, *, signalled: bool) -> dict[str, Any]:
        """Let it end; gives what it prints last."""
        if signalled:
            self.process.send_signal(signal.SIGTERM)
        said: dict[str, Any] = json.loads(await self.line())
        if await self.process.wait():
            raise SoakFailedError(f"the {self.name}'s process ended with a failure")
        return said


@asynccontextmanager
async def _running(name: str, module: str, *arguments: str) -> AsyncGenerator[_Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield _Process(name, process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@define(eq=False)
class _Watch:
    """Looks at the memory of processes every second."""

    processes: dict[str, int]
    on_look: Callable[[float, dict[str, int]], object]
    samples: dict[str, list[tuple[float, int]]] = field(factory=dict)

    async def run(self) -> None:
        begun = time.monotonic()
        while True:
            at = time.monotonic() - begun
            sizes = {name: rss(pid) for name, pid in self.processes.items()}
            present = {name: size for name, size in sizes.items() if size is not None}
            for name, size in present.items():
                self.samples.setdefault(name, []).append((at, size))
            self.on_look(at, present)
            await asyncio.sleep(1.0)


async def soak(
    setting: Setting,
    folder: Path,
    *,
    faults: tuple[str, ...] = (),
    on_look: Callable[[float, dict[str, int]], object] = lambda *_: None,
) -> Report:
    """Run it, with logs in `folder`, and judge it.

    - `faults`: further options of the fault proxy.
    - `on_look`: is told every second what memory server and clients take.

    Raises:
        SoakFailedError: A process did not do its part.
    """
    said = json.dumps(setting.as_dict())
    published, given = folder / "server.log", folder / "clients.log"
    begun = time.monotonic()
    async with _running("server", "tests.soak.server", said, str(published)) as server:
        port = await _ready(server)
        to = ("--to", f"127.0.0.1:{port}", "--seed", str(setting.seed))
        async with _running("proxy", "tests.faults", *to, *faults) as proxy:
            address = await _ready(proxy)
            async with _running(
                "clients", "tests.soak.clients", said, address, str(given)
            ) as clients:
                watch = _Watch({"server": server.pid, "clients": clients.pid}, on_look)
                watching = asyncio.create_task(watch.run())
                try:
                    async with asyncio.timeout(setting.seconds + _EXTRA):
                        if await clients.line() != "resting":
                            raise SoakFailedError("the clients say something else than `resting`")
                        watching.cancel()
                        proxy.process.send_signal(signal.SIGUSR1)
                        ended = await clients.end(signalled=False)
                        passed = await proxy.end(signalled=True)
                        served = await server.end(signalled=True)
                except TimeoutError:
                    raise SoakFailedError("the soak does not come to its end") from None
                finally:
                    watching.cancel()
    seconds = time.monotonic() - begun
    judge = Judge()
    judge.published(lines(published))
    judge.given(lines(given))
    return Report(
        setting=setting,
        seconds=seconds,
        verdict=judge.finish(),
        server=served,
        clients=ended["counts"],
        witnessed=ended["witnessed"],
        proxy=passed,
        memory={name: growth(each, setting.warm_up) for name, each in watch.samples.items()},
    )


async def _ready(process: _Process) -> str:
    async with asyncio.timeout(_START):
        word, _, where = (await process.line()).partition(" ")
    if word != "ready":
        raise SoakFailedError(f"the {process.name}'s process says {word!r} first")
    return where
