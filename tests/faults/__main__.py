"""The fault proxy as a command: `python -m tests.faults --to HOST:PORT --seed N`.

Prints `ready HOST:PORT` on stdout once it listens, and what it did as one line of JSON when
SIGINT or SIGTERM ends it. SIGUSR1 heals it: from then on nothing is done to anybody.
"""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from functools import partial

from tests.faults.plan import Profile, plan
from tests.faults.proxy import Proxy


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal comes."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--listen", type=_address, default=("127.0.0.1", 0), metavar="HOST:PORT")
    parser.add_argument("--to", type=_address, required=True, metavar="HOST:PORT")
    parser.add_argument("--seed", type=int, default=1)
    for name, default in _SHARES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    given = parser.parse_args(arguments)
    try:
        profile = Profile(**{name: getattr(given, name) for name in _SHARES})
    except ValueError as error:
        parser.error(str(error))
    return asyncio.run(_run(given.listen, given.to, given.seed, profile))


_SHARES: dict[str, float | int] = {
    name: getattr(Profile(), name)
    for name in ("calm", "cut", "cut_within", "stretches", "stall", "hold")
}


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


async def _run(listen: tuple[str, int], to: tuple[str, int], seed: int, profile: Profile) -> int:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, over.set)
    try:
        proxy = Proxy(listen=listen, to=to, plan_of=partial(plan, seed, profile=profile))
    except OSError as error:
        sys.stderr.write(f"cannot listen on {listen[0]}:{listen[1]}: {error}\n")
        return 1
    loop.add_signal_handler(signal.SIGUSR1, proxy.heal)
    async with proxy:
        host, port = proxy.address
        sys.stdout.write(f"ready {host}:{port}\n")
        sys.stdout.flush()
        await over.wait()
    sys.stdout.write(json.dumps(proxy.counters.as_dict()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
