"""Which layer catches which known bug: `python -m tests.mutants.matrix [MUTANT ...]`.

Every mutant is run against every layer, each in a process of its own, and the result is written to
`docs/mutants.md`, for people, and `tests/mutants/caught.json`, for tests. With mutants named, or
layers (`--layer`), only these are run, and the rest stays as it is. `--jobs` bounds the processes.

A layer must find nothing where there is no bug: that is looked at first.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Final

from attrs import asdict

from tests.mutants.catalog import MUTANTS
from tests.mutants.layers import LAYERS, ROOT, Catch, Layer
from tests.mutants.patching import Mutant, applied

CAUGHT: Final = Path(__file__).parent / "caught.json"
TABLE: Final = ROOT / "docs" / "mutants.md"
SOUND: Final = "none"
"""In place of a mutant: the machines as they are."""

_TIMEOUT: Final = 600.0
"""Seconds for one mutant in one layer: a bug that makes it hang is caught by that."""
_HEAD: Final = """\
# Known bugs

<!-- Written by `python -m tests.mutants.matrix`: change the mutants, not this file. -->

Each of these bugs has been shipped by real gateways or their clients. Each is a small patch that
the tests put into the machines while they run, and each column is a layer of tests, and
says what noticed: a P stands for the property that was seen to fall, another word for the file of
tests. Where a cell is empty, that layer notices nothing.
"""

Caught = dict[str, dict[str, Catch]]
"""By mutant, by layer."""


# -- one cell ---------------------------------------------------------------------------------


def search(mutant: str, layer: Layer) -> Catch | None:
    """Look for a mutant, or for anything where there is none, in this process."""
    if mutant == SOUND:
        return layer.search(min(layer.sides))
    with applied(MUTANTS[mutant]):
        return layer.search(MUTANTS[mutant].at)


def repeat(mutant: str, layer: Layer, how: str) -> Catch | None:
    """Look for a mutant where it was caught, in this process."""
    with applied(MUTANTS[mutant]):
        return layer.repeat(how)


def search_apart(mutant: str, layer: Layer) -> Catch | None:
    """Look for a mutant in a process of its own. Raises `RuntimeError` where that fails."""
    command = [sys.executable, "-m", "tests.mutants.matrix", "--cell", layer.name, mutant]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        start_new_session=True,
    ) as process:
        try:
            out, _ = process.communicate(timeout=_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return Catch("timeout", "")
    if process.returncode:
        raise RuntimeError(f"{mutant} in {layer.name}: exit code {process.returncode}")
    found = json.loads(out)
    return None if found is None else Catch(**found)


# -- all cells --------------------------------------------------------------------------------


def survey(mutants: Iterable[str], layers: Iterable[str] = LAYERS, *, jobs: int = 2) -> Caught:
    """Run mutants against every layer of these that runs their machine."""
    cells = [
        (mutant, LAYERS[layer])
        for layer, mutant in product(layers, mutants)
        if MUTANTS[mutant].at in LAYERS[layer].sides
    ]
    with ThreadPoolExecutor(jobs) as pool:
        found = pool.map(lambda cell: search_apart(*cell), cells)
        caught: Caught = {mutant: {} for mutant, _ in cells}
        for (mutant, layer), catch in zip(cells, found, strict=True):
            _say(f"{mutant} {layer.name}: {catch.by if catch else 'nothing'}")
            if catch is not None:
                caught[mutant][layer.name] = catch
    return caught


def false_alarms(layers: Sequence[str], *, jobs: int = 2) -> dict[str, Catch]:
    """What the layers find in the machines as they are."""
    with ThreadPoolExecutor(jobs) as pool:
        found = pool.map(lambda layer: search_apart(SOUND, LAYERS[layer]), layers)
        return {name: catch for name, catch in zip(layers, found, strict=True) if catch is not None}


def load() -> Caught:
    """What was caught when the matrix was last written."""
    if not CAUGHT.exists():
        return {}
    plain = json.loads(CAUGHT.read_text(encoding="utf-8"))
    return {
        mutant: {layer: Catch(**catch) for layer, catch in catches.items()}
        for mutant, catches in plain.items()
    }


def _merge(old: Caught, new: Caught, mutants: Sequence[str], layers: Sequence[str]) -> Caught:
    """The cells that were run now, and those of before that were not."""
    merged: Caught = {}
    for mutant in MUTANTS:
        kept = {
            layer: catch
            for layer, catch in old.get(mutant, {}).items()
            if layer in LAYERS and not (mutant in mutants and layer in layers)
        }
        both = {**kept, **new.get(mutant, {})}
        merged[mutant] = {layer: both[layer] for layer in LAYERS if layer in both}
    return merged


def dump(caught: Mapping[str, Mapping[str, Catch]]) -> str:
    """The same as JSON."""
    plain = {
        mutant: {layer: asdict(catch) for layer, catch in caught[mutant].items()}
        for mutant in sorted(caught)
    }
    return json.dumps(plain, indent=2) + "\n"


def table(caught: Mapping[str, Mapping[str, Catch]]) -> str:
    """The same as a page of the documentation."""
    columns = ["id", "at", "the bug", *LAYERS, "why one layer alone"]
    rows = [columns, ["---"] * len(columns)]
    rows += [_row(mutant, caught[mutant.id]) for mutant in MUTANTS.values()]
    return "\n".join([_HEAD, *("| " + " | ".join(row) + " |" for row in rows), ""])


def _row(mutant: Mutant, catches: Mapping[str, Catch]) -> list[str]:
    cells = [_mark(mutant, layer, catches.get(layer.name)) for layer in LAYERS.values()]
    return [mutant.id, mutant.at, mutant.bug, *cells, mutant.alone]


def _mark(mutant: Mutant, layer: Layer, catch: Catch | None) -> str:
    if mutant.at not in layer.sides:
        return "–"
    return "" if catch is None else catch.by


# -- the command ------------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> int:
    """Write the matrix; exit code 1 where a mutant survives or a layer finds what is not there."""
    parser = argparse.ArgumentParser(prog="tests.mutants.matrix", description=__doc__)
    parser.add_argument("mutants", nargs="*", metavar="MUTANT", help="only these")
    parser.add_argument("--layer", action="append", choices=LAYERS, help="only this; repeatable")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--cell", choices=LAYERS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.cell is not None:
        found = search(options.mutants[0], LAYERS[options.cell])
        _say(json.dumps(None if found is None else asdict(found)))
        return 0
    layers = options.layer or list(LAYERS)
    alarms = false_alarms(layers, jobs=options.jobs)
    for layer, catch in alarms.items():
        _say(f"{layer} finds {catch.by} where there is no bug: {catch.how}")
    if alarms:
        return 1
    chosen = options.mutants or list(MUTANTS)
    caught = _merge(load(), survey(chosen, layers, jobs=options.jobs), chosen, layers)
    CAUGHT.write_text(dump(caught), encoding="utf-8")
    TABLE.write_text(table(caught), encoding="utf-8")
    survivors = [mutant for mutant, catches in caught.items() if not catches]
    _say(f"{len(caught) - len(survivors)} of {len(caught)} mutants are caught")
    for survivor in survivors:
        _say(f"{survivor} survives")
    return 1 if survivors else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
