"""The figures of a soak, as a table for people and as plain data."""

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import asdict, field, frozen

from tests.soak.judge import Verdict
from tests.soak.memory import MIB, Growth
from tests.soak.setting import Setting

_FAULTS = ("fin", "rst", "silent", "swallow", "stall", "throttle", "split", "coalesce")
_WRONG = ("lost", "duplicates", "invented", "changed", "diverged", "gaps", "stuck", "violation")


@frozen(kw_only=True)
class Report:
    """All that came of a soak."""

    setting: Setting
    seconds: float
    verdict: Verdict
    server: Mapping[str, int]
    clients: Mapping[str, int]
    witnessed: Mapping[str, int]
    proxy: Mapping[str, int]
    memory: Mapping[str, Growth | None]
    failures: list[str] = field(factory=list)

    @property
    def wrong(self) -> list[str]:
        """All that is wrong."""
        grown = [
            f"memory: the {name}'s process grew by {each.grown / MIB:.1f} MiB"
            for name, each in self.memory.items()
            if each is not None and not each.flat
        ]
        return [*self.failures, *self.verdict.problems, *grown]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "setting": self.setting.as_dict(),
            "seconds": self.seconds,
            "figures": {**dict.fromkeys(_WRONG, 0), **self.verdict.figures},
            "snapshots": self.verdict.snapshots,
            "requests": self.verdict.requests,
            "server": self.server,
            "clients": self.clients,
            "proxy": self.proxy,
            "memory": {
                name: None if each is None else {**asdict(each), "flat": each.flat}
                for name, each in self.memory.items()
            },
            "witnessed": self.witnessed,
            "wrong": self.wrong,
        }

    def table(self) -> str:
        """The same for people."""
        figures, clients, proxy = self.verdict.figures, self.clients, self.proxy
        events = ("published", "delivered", "skipped", "covered", "states compared")
        sections: list[tuple[str, Iterable[tuple[str, object]]]] = [
            ("load", self._load()),
            ("events", [(name, figures[name]) for name in events]),
            ("snapshots", sorted(self.verdict.snapshots.items())),
            ("requests", sorted(self.verdict.requests.items())),
            ("faults", [(name, proxy.get(name, 0)) for name in _FAULTS]),
            ("attaches", _starting(clients, "opened ", "resumed ")),
            ("reconnects", _starting(clients, "retry ")),
            ("memory, MiB", self._memory()),
            ("wrong", self._wrong()),
        ]
        return "\n\n".join(_section(title, list(rows)) for title, rows in sections)

    def _load(self) -> Iterable[tuple[str, object]]:
        setting, figures = self.setting, self.verdict.figures
        yield "adapter", setting.adapter
        yield "sessions at once", setting.clients
        yield "tabs each", setting.tabs
        yield "seconds", round(self.seconds)
        yield "sessions", figures["sessions"]
        yield "tabs", figures["tabs"]
        yield "reloads", self.clients.get("reloads", 0)
        yield "connections", self.proxy.get("connections", 0)
        yield "steps judged by monitors", sum(self.witnessed.values())

    def _memory(self) -> Iterable[tuple[str, object]]:
        for name, each in self.memory.items():
            if each is None:
                yield name, "too short a run to say"
                continue
            judged = "" if each.judged else ", too short a run to judge"
            shown = (
                f"warm {each.warm / MIB:.1f}, end {each.end / MIB:.1f},"
                f" slope {each.slope / MIB:+.2f} a minute, grown {each.grown / MIB:+.1f}"
                f" of {each.limit / MIB:.1f}{judged}"
            )
            yield name, shown

    def _wrong(self) -> Iterable[tuple[str, object]]:
        figures = self.verdict.figures
        yield from ((name, figures[name]) for name in _WRONG)
        yield "all", len(self.wrong)


def _starting(counts: Mapping[str, int], *prefixes: str) -> list[tuple[str, object]]:
    return sorted((name, count) for name, count in counts.items() if name.startswith(prefixes))


def _section(title: str, rows: list[tuple[str, object]]) -> str:
    width = max((len(name) for name, _ in rows), default=0)
    lines = [f"  {name:<{width}}  {_shown(value)}" for name, value in rows]
    return "\n".join([title, *(lines or ["  none"])])


def _shown(value: object) -> str:
    return f"{value:>10,}" if isinstance(value, int) else str(value)
