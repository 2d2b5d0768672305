"""Attack a server of each adapter, and say what came of it.

`python -m tests.attacks [--adapter asyncio|trio] [--small] [--json] [NAME…]`; status 1 where an
attack was not answered as it should be, 2 for a name that is none.
"""

import argparse
import importlib.util
import json
import sys
from typing import Final

from tests.attacks.attack import ADAPTERS, Report
from tests.attacks.campaign import campaign
from tests.attacks.catalog import attacks
from tests.attacks.field import Scale
from tests.attacks.limits import KIB, MIB

_HEAD: Final = (
    f"{'attack':34} {'s':>6} {'cpu':>6} {'grew':>9} {'bound':>9} {'kept':>9} "
    f"{'events':>7} {'worst':>8}"
)


def available() -> list[str]:
    """The adapters that there are."""
    return [name for name in ADAPTERS if importlib.util.find_spec(f"gatewayproto_{name}")]


def line_of(report: Report) -> str:
    """A report for people."""
    witness = report.witness
    followed = f"{witness.events:7} {1000 * witness.worst:5.0f} ms" if witness else ""
    return (
        f"{report.attack:34} {report.lasted:6.2f} {report.cpu:6.2f} {report.growth / KIB:5.0f} KiB "
        f"{report.bound / MIB:5.0f} MiB {report.kept / KIB:5.0f} KiB {followed}"
    )


def main(arguments: list[str]) -> int:
    """Run the attacks that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks")
    parser.add_argument("names", nargs="*", metavar="NAME", help="attacks; all where none is named")
    parser.add_argument("--adapter", choices=ADAPTERS, help="this adapter alone")
    parser.add_argument("--small", action="store_true", help="as in the suite of tests")
    parser.add_argument("--json", action="store_true", help="one object a line")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    options = parser.parse_args(arguments)
    try:
        chosen = attacks(options.names)
    except KeyError as error:
        parser.error(f"there is no attack {error}")
    if options.list:
        for each in chosen:
            sys.stdout.write(f"{each.name:34} {each.subject}\n{'':34} {each.answer}\n")
        return 0
    failed = 0
    for adapter in [options.adapter] if options.adapter else available():
        if not options.json:
            sys.stdout.write(f"{adapter}\n{_HEAD}\n")
        for report in campaign(chosen, adapter, Scale.SMALL if options.small else Scale.FULL):
            failed += bool(report.faults)
            _say(report, as_json=options.json)
    return 1 if failed else 0


def _say(report: Report, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(report.to_json()) + "\n")
    else:
        sys.stdout.write(f"{line_of(report)}\n")
        for fault in report.faults[:5]:
            sys.stdout.write(f"    FAILED {fault[:2000]}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
