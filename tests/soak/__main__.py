"""The soak as a command: `python -m tests.soak`, or `make soak`.

Server and clients, a process each, through a proxy that cuts, stalls and garbles nothing but time;
an observer of both ends keeps the account. Ends with 1 if anything was lost, given twice or
changed, if a state diverged, a request had no end or two, or memory grew.
"""

import argparse
import asyncio
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.soak.memory import MIB
from tests.soak.setting import Setting
from tests.soak.stage import SoakFailedError, soak


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a soak and print its figures."""
    default = Setting()
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--adapter", choices=("asyncio", "trio"), default=default.adapter)
    parser.add_argument("--clients", type=int, default=default.clients, help="sessions at once")
    parser.add_argument("--tabs", type=int, default=default.tabs, help="connections of each")
    parser.add_argument("--minutes", type=float, default=default.seconds / 60)
    parser.add_argument("--life", type=float, help="seconds that a session lasts, about")
    parser.add_argument("--think", type=float, default=default.think, help="seconds")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--watched", type=float, default=default.watched, help="share, by monitors")
    parser.add_argument("--logs", type=Path, help="an empty folder to keep the logs in")
    parser.add_argument("--json", action="store_true", help="the figures as one line of JSON")
    given = parser.parse_args(arguments)
    try:
        setting = _setting(given)
    except ValueError as error:
        parser.error(str(error))
    try:
        if given.logs is not None:
            given.logs.mkdir(parents=True, exist_ok=True)
            return _run(setting, given.logs, as_json=given.json)
        with tempfile.TemporaryDirectory(prefix="soak-") as folder:
            return _run(setting, Path(folder), as_json=given.json)
    except SoakFailedError as error:
        sys.stderr.write(f"\nsoak: {error}\n")
        return 1


def _setting(given: argparse.Namespace) -> Setting:
    if not math.isfinite(given.minutes):
        raise ValueError("--minutes must be finite")
    seconds = given.minutes * 60
    life = given.life if given.life is not None else max(1.0, min(60.0, seconds / 6))
    return Setting(
        adapter=given.adapter,
        clients=given.clients,
        tabs=given.tabs,
        seconds=seconds,
        life=life,
        think=given.think,
        resume_window=max(10.0, min(30.0, life)),
        seed=given.seed,
        watched=given.watched,
    )


def _run(setting: Setting, folder: Path, *, as_json: bool) -> int:
    report = asyncio.run(soak(setting, folder, on_look=_progress))
    sys.stderr.write("\n")
    for problem in report.wrong:
        sys.stderr.write(f"wrong: {problem}\n")
    sys.stdout.write((json.dumps(report.as_dict()) if as_json else report.table()) + "\n")
    return 1 if report.wrong else 0


def _progress(at: float, sizes: dict[str, int]) -> None:
    if sys.stderr.isatty():
        shown = ", ".join(f"{name} {size / MIB:.1f} MiB" for name, size in sizes.items())
        sys.stderr.write(f"\r{at:6.0f} s  {shown}  ")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
