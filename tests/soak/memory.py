"""The memory of a process over time, and whether it grows."""

import gc
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import anyio
from attrs import frozen

MIB: Final = 1024 * 1024
LEAST: Final = 8 * MIB
SHARE: Final = 0.1
SHORTEST: Final = 120.0
"""Seconds after the warm-up without which nothing is said of growth."""


_COLLECTS_EVERY: Final = 5.0


async def collect_regularly(first: Callable[[], object] = lambda: None) -> None:
    """Free what only refers to itself, every few seconds, until cancelled; before it call `first`.

    Python leaves it there for a minute and longer, which would show as growth. What is measured is
    what is held.
    """
    while True:
        await anyio.sleep(_COLLECTS_EVERY)
        first()
        gc.collect()


def rss(pid: int) -> int | None:
    """The resident memory of a process in bytes; None where there is no such process."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


@frozen
class Growth:
    """What became of a process's memory after its warm-up, in bytes.

    - `warm`, `end`: the mean of the first and of the last tenth of the samples.
    - `slope`: by which it grew in a minute, fitted to all of them; `grown`: in all, by that.
    - `limit`: what `grown` may be, a tenth of `warm` and 8 MiB at the least.
    - `span`: seconds from the first sample to the last.
    """

    warm: float
    end: float
    slope: float
    grown: float
    limit: float
    span: float

    @property
    def judged(self) -> bool:
        """Whether it was looked at for long enough to say anything."""
        return self.span >= SHORTEST

    @property
    def flat(self) -> bool:
        """Whether it stayed within its limit, or was not judged."""
        return not self.judged or self.grown <= self.limit


def growth(samples: Sequence[tuple[float, int]], warm_up: float) -> Growth | None:
    """Judge samples (seconds, bytes); None where there are not two after the warm-up."""
    kept = [(at, size) for at, size in samples if at >= warm_up]
    if len(kept) < 2 or kept[0][0] == kept[-1][0]:
        return None
    times, sizes = [at for at, _ in kept], [size for _, size in kept]
    middle, mean = sum(times) / len(kept), sum(sizes) / len(kept)
    spread = sum((at - middle) ** 2 for at in times)
    slope = sum((at - middle) * (size - mean) for at, size in kept) / spread
    tenth = max(1, len(kept) // 10)
    warm, end = sum(sizes[:tenth]) / tenth, sum(sizes[-tenth:]) / tenth
    span = times[-1] - times[0]
    return Growth(warm, end, slope * 60, slope * span, max(LEAST, SHARE * warm), span)
