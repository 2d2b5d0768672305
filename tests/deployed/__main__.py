"""Plays many seeds: `python -m tests.deployed --seeds A:B`."""

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager

from tests.blackbox.bbserve import Gateway
from tests.deployed import dpplay_client, dpplay_server

PARTS = ("serve", "restarts", "connect", "tail")
Play = Callable[[int], object]


def main() -> int:
    """Play the seeds of every part; status 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.deployed", description=__doc__)
    parser.add_argument("--seeds", default="0:100", metavar="A:B", help="from A to before B")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this; repeatable")
    options = parser.parse_args()
    first, _, last = options.seeds.partition(":")
    failed = [_play_part(part, range(int(first), int(last))) for part in options.part or PARTS]
    return 1 if any(failed) else 0


def _play_part(part: str, seeds: range) -> int:
    started, sums, failed = time.monotonic(), dict[str, int](), list[int]()
    with _part(part) as play:
        for seed in seeds:
            try:
                figures: dict[str, int] = vars(play(seed))
            except Exception:  # noqa: BLE001 - told, and the next seed is played
                sys.stderr.write(f"{part} {seed} failed:\n{traceback.format_exc()}\n")
                failed.append(seed)
                continue
            for name, count in figures.items():
                sums[name] = sums.get(name, 0) + count
    shown = ", ".join(f"{count} {name}" for name, count in sums.items())
    took = time.monotonic() - started
    sys.stdout.write(f"{part}: {len(seeds)} plays in {took:.0f} s: {shown}; ")
    sys.stdout.write(f"{len(failed)} failed {failed or ''}\n")
    sys.stdout.flush()
    return len(failed)


@contextmanager
def _part(part: str) -> Generator[Play]:
    match part:
        case "serve":
            with _running() as gateway:
                yield lambda seed: dpplay_client.against_serve(seed, gateway)
        case "restarts":
            yield dpplay_client.against_restarts
        case "connect":
            yield dpplay_server.in_process
        case _:
            yield dpplay_server.by_command


@contextmanager
def _running() -> Generator[Gateway]:
    gateway = dpplay_client.small_gateway()
    try:
        yield gateway
    finally:
        gateway.stop()


if __name__ == "__main__":
    sys.exit(main())
