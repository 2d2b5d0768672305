"""The clients' process of a soak: `python -m tests.soak.clients SETTING HOST:PORT LOG`.

Prints `resting` when no session begins any more, and its counts as a line of JSON once all have
come to their end. Each session is followed by several tabs, sends messages for a while, and ends
when every tab has seen the answer to its last message.
"""

import importlib
import json
import random
import sys
from pathlib import Path

import anyio
from anyio.abc import TaskGroup
from attrs import define, evolve, field

from gatewayproto.frames import Object
from tests.soak.memory import collect_regularly
from tests.soak.record import Log
from tests.soak.setting import Setting
from tests.soak.tab import Surroundings, Tab
from tests.soak.watched import forget_frames

PATIENCE = 60.0
"""Seconds that anything may take to come about, faults or not."""
_MAX_OUTSTANDING = 8
_PAUSE = 0.05


@define(eq=False)
class Life:
    """One session from its beginning to its end."""

    number: int
    setting: Setting
    around: Surroundings
    group: TaskGroup
    deadline: float
    rng: random.Random = field(init=False)
    tabs: list[Tab] = field(factory=list)
    outstanding: int = 0
    answered: anyio.Event = field(factory=anyio.Event)
    ending: bool = False

    def __attrs_post_init__(self) -> None:
        self.rng = random.Random(f"{self.setting.seed}/{self.number}")

    async def live(self) -> None:
        """Live it."""
        first = self._open_tab()
        with anyio.move_on_after(PATIENCE) as patience:
            await first.joined.wait()
        if patience.cancelled_caught or first.token is None:
            first.stuck("the session never began")
        else:
            for _ in range(self.setting.tabs - 1):
                since = self.rng.choice((0, first.token.cursor))
                self._open_tab().token = evolve(first.token, cursor=since)
            await self._talk()
            await self._rest()
        for tab in self.tabs:
            tab.leave()

    def _open_tab(self) -> Tab:
        number = (self.number - 1) * self.setting.tabs + len(self.tabs) + 1
        rng = random.Random(f"{self.setting.seed}/tab/{number}")
        tab = Tab(number, self.around, rng, self._reply)
        self.tabs.append(tab)
        self.group.start_soon(tab.follow)
        return tab

    @property
    def _over(self) -> bool:
        return any(tab.over for tab in self.tabs)

    async def _talk(self) -> None:
        """Send messages, reload tabs, ask for snapshots, until the session's time is up."""
        while True:
            pause = min(self.rng.expovariate(1 / self.setting.think), 3 * self.setting.think)
            now = anyio.current_time()
            await anyio.sleep(min(pause, max(0.0, self.deadline - now)))
            if self._over or anyio.current_time() >= self.deadline:
                return
            tab = self.rng.choice(self.tabs)
            match self.rng.choices(("send", "reload", "resync"), (10, 2, 1))[0]:
                case "send":
                    self._send(tab, self._wish())
                case "reload":
                    tab.reload()
                case _:
                    await tab.resync()

    def _wish(self) -> Object:
        rng = self.rng
        match rng.choices(("run", "burst", "ask", "echo"), (5, 2, 2, 2))[0]:
            case "run":
                pause = rng.choice((0, 0.005, 0.02))
                return {
                    "do": "run",
                    "tokens": rng.randint(0, 100),
                    "pause": pause,
                    "notes": rng.choice((0, 0, 7)),
                }
            case "burst":
                return {
                    "do": "burst",
                    "count": rng.choice((3, 20, 150)),
                    "size": rng.choice((0, 100, 2000)),
                }
            case "ask":
                return {"do": "ask"}
            case _:
                return {"do": "echo", "text": "x" * rng.choice((5, 50, 2000))}

    def _reply(self, tab: Tab, event_id: str) -> None:
        if not self.ending and tab.rng.random() < 0.7:
            self._send(tab, {"do": "echo", "text": "!"}, reply_to=event_id)

    def _send(self, tab: Tab, content: Object, *, reply_to: str | None = None) -> None:
        if self.outstanding < _MAX_OUTSTANDING:
            self.outstanding += 1
            self.group.start_soon(self._send_one, tab, content, reply_to)

    async def _send_one(self, tab: Tab, content: Object, reply_to: str | None) -> None:
        try:
            await tab.send(content, reply_to=reply_to)
        finally:
            self.outstanding -= 1
            self.answered.set()

    # -- the end ------------------------------------------------------------------------------

    async def _rest(self) -> None:
        """Wait until every tab has seen the answer to the last message."""
        self.ending = True
        with anyio.move_on_after(PATIENCE) as patience:
            while self.outstanding:
                self.answered = anyio.Event()
                await self.answered.wait()
            last = None
            while last is None and not self._over:
                last = await self.rng.choice(self.tabs).send({"do": "echo", "text": "last"})
                await anyio.sleep(_PAUSE)
            for tab in self.tabs:
                if last is not None and not tab.over:
                    await tab.until(last)
        if patience.cancelled_caught:
            what = f"the ends of {self.outstanding} messages" if self.outstanding else "the last"
            for tab in [tab for tab in self.tabs if not tab.reached.is_set()] or self.tabs:
                tab.stuck(what)


@define(eq=False)
class Load:
    """All sessions of the process."""

    setting: Setting
    around: Surroundings
    lives: int = 0

    async def run(self) -> None:
        """Follow so many sessions at once until the time is up, then come to rest."""
        until = anyio.current_time() + self.setting.seconds
        async with anyio.create_task_group() as group:
            for slot in range(self.setting.clients):
                group.start_soon(self._slot, slot, until)
            await anyio.sleep(self.setting.seconds)
            _say("resting")

    async def _slot(self, slot: int, until: float) -> None:
        """One session after the other; the first begin one after the other, too."""
        rng = random.Random(f"{self.setting.seed}/slot/{slot}")
        ramp = min(self.setting.life, self.setting.seconds / 4)
        await anyio.sleep(ramp * slot / self.setting.clients)
        while anyio.current_time() < until:
            self.lives += 1
            lasts = self.setting.life * rng.uniform(0.5, 1.5)
            deadline = min(until, anyio.current_time() + lasts)
            async with anyio.create_task_group() as group:
                await Life(self.lives, self.setting, self.around, group, deadline).live()


async def _run(setting: Setting, address: str, log: Log) -> None:
    adapter = importlib.import_module(f"gatewayproto_{setting.adapter}")
    around = Surroundings(adapter, f"ws://{address}/ws", log, setting.watched)
    load = Load(setting, around)
    async with anyio.create_task_group() as group:
        group.start_soon(collect_regularly, forget_frames)
        await load.run()
        group.cancel_scope.cancel()
    counts = {"sessions": load.lives, **around.counts}
    _say(json.dumps({"counts": counts, "witnessed": around.witnessed}))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run, and end by itself."""
    setting = Setting.of(json.loads(sys.argv[1]))
    with Log(Path(sys.argv[3])) as log:
        anyio.run(_run, setting, sys.argv[2], log, backend=setting.adapter)


if __name__ == "__main__":
    main()
