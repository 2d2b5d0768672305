"""Many seeds, one account: how much was done, what was witnessed, which seeds broke a property.

Spec: the verification page, "Simulator".
"""

import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from hashlib import blake2b
from typing import Final

from attrs import field, frozen

from gatewayproto.testing.simulator import Failure, Result, simulate

_BATCH: Final = 5
"""Seeds that a worker takes at a time: few, as it finishes them when it is enough."""
_IGNORE_INTERRUPTS: Final = (signal.SIGINT, signal.SIG_IGN)


@frozen(kw_only=True)
class Broken:
    """A seed that broke a property."""

    seed: int
    prop: str
    text: str


@frozen(kw_only=True)
class Campaign:
    """What the worlds of some seeds came to, in the order of the seeds.

    `digest` is equal for equal runs only. `witnessed` counts by property what its monitor saw,
    `happened` the deeds by kind.
    """

    worlds: int = 0
    steps: int = 0
    digest: str = ""
    witnessed: Counter[str] = field(factory=Counter)
    happened: Counter[str] = field(factory=Counter)
    broken: tuple[Broken, ...] = ()


def campaign(
    profile: str,
    seeds: Sequence[int],
    *,
    jobs: int = 1,
    enough: Callable[[], bool] = lambda: False,
) -> Campaign:
    """Simulate the world of every seed, in so many processes.

    `enough` is asked every few worlds; once it says so there are no more of them, and the account
    is that of the seeds up to there.
    """
    batches = [seeds[at : at + _BATCH] for at in range(0, len(seeds), _BATCH)]
    names = [profile] * len(batches)
    if jobs == 1 or len(batches) == 1:
        return _sum(_until(enough, map(_batch, names, batches)))
    # Whether an interrupt ends the campaign is for this process to decide, not for its workers.
    pool = ProcessPoolExecutor(jobs, initializer=signal.signal, initargs=_IGNORE_INTERRUPTS)
    try:
        return _sum(_until(enough, pool.map(_batch, names, batches)))
    finally:
        pool.shutdown(cancel_futures=True)


def _until(
    enough: Callable[[], bool], batches: Iterable[list[Result | Broken]]
) -> Iterator[list[Result | Broken]]:
    for batch in batches:
        yield batch
        if enough():
            return


def _batch(profile: str, seeds: Sequence[int]) -> list[Result | Broken]:
    results: list[Result | Broken] = []
    for seed in seeds:
        try:
            results.append(simulate(profile, seed))
        except Failure as failure:
            broken = failure.violation
            results.append(Broken(seed=seed, prop=broken.prop, text=broken.text))
    return results


def _sum(batches: Iterable[list[Result | Broken]]) -> Campaign:
    hashed = blake2b(digest_size=16)
    worlds = steps = 0
    witnessed: Counter[str] = Counter()
    happened: Counter[str] = Counter()
    broken: list[Broken] = []
    for batch in batches:
        for result in batch:
            worlds += 1
            if isinstance(result, Broken):
                broken.append(result)
                continue
            steps += result.steps
            hashed.update(result.digest.encode())
            witnessed.update(result.witnessed)
            happened.update(result.happened)
    return Campaign(
        worlds=worlds,
        steps=steps,
        digest=hashed.hexdigest(),
        witnessed=witnessed,
        happened=happened,
        broken=tuple(broken),
    )
