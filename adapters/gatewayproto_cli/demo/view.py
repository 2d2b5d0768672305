"""The account as people see it: live on stderr, and in the end on stdout."""

from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gatewayproto_cli.demo.play import Outcome
from gatewayproto_cli.demo.stage import Stage

_WIDTH: Final = 60
_NAMES: Final = {
    "published": "published",
    "delivered": "delivered",
    "skipped": "skipped, named",
    "snapshot_covered": "covered by snapshots",
    "duplicates": "duplicated",
    "lost": "lost",
    "disconnects": "disconnects",
    "restarts": "gateway restarts",
    "resyncs": "snapshots",
}


class LiveAccount:
    """Shows the account while it is kept: a table on a terminal, else a line for each fault."""

    def __init__(self, events: int) -> None:
        self._events = events
        self._console = Console(stderr=True, highlight=False)
        self._stage: Stage | None = None
        self._last = ""
        self._live: Live | None = None
        if self._console.is_terminal:
            self._live = Live(
                console=self._console,
                get_renderable=self._render,
                refresh_per_second=10,
                transient=True,
            )

    def __enter__(self) -> Self:
        """Begin to show it."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take it away."""
        if self._live is not None:
            self._live.stop()

    def watch(self, stage: Stage) -> None:
        """Show this stage's account."""
        self._stage = stage

    def note(self, fault: str) -> None:
        """A fault has happened."""
        self._last = fault
        if self._live is None and self._stage is not None:
            totals = self._stage.account.totals()
            numbers = ", ".join(f"{totals[name]} {_NAMES[name]}" for name in list(totals)[:4])
            self._console.print(f"{fault:<28} {numbers}", soft_wrap=True)

    def _render(self) -> RenderableType:
        if self._stage is None:
            return Text("starting")
        stage, account = self._stage, self._stage.account
        bar = ProgressBar(total=self._events, completed=account.published, width=_WIDTH)
        # What is published and under way is not lost: that is for the end to tell.
        totals = {name: value for name, value in account.totals().items() if name != "lost"}
        totals |= {
            "disconnects": stage.proxy.disconnects,
            "restarts": stage.restarts,
            "resyncs": account.resyncs.total(),
        }
        grid = Table.grid()
        grid.add_row(bar)
        return Group(grid, _table(totals), Text(f"latest fault: {self._last or 'none yet'}"))


def print_outcome(outcome: Outcome) -> None:
    """Print the whole account on stdout."""
    console = Console(highlight=False)
    console.print(_table(outcome.totals))
    for title, counts in (("faults", outcome.faults), ("snapshots", outcome.resyncs)):
        console.print(_counts(title, counts), soft_wrap=True)
    totals = outcome.totals
    console.print(
        f"{totals['delivered']} + {totals['skipped']} + {totals['snapshot_covered']} accounted for,"
        f" of {totals['published']} published: {_verdict(totals)}",
        soft_wrap=True,
    )


def _verdict(totals: Mapping[str, int]) -> str:
    lost, duplicates = totals["lost"], totals["duplicates"]
    if not lost and not duplicates:
        return "nothing lost, nothing twice"
    return f"{lost} lost, {duplicates} twice"


def _table(totals: Mapping[str, int]) -> Table:
    table = Table(show_header=False, box=None)
    for name, value in totals.items():
        bad = name in {"lost", "duplicates"} and value
        table.add_row(_NAMES[name], str(value), style="bold red" if bad else "")
    table.columns[1].justify = "right"
    return table


def _counts(title: str, counts: Mapping[str, int]) -> Text:
    each = "; ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"
    return Text(f"{title}: {each}")
