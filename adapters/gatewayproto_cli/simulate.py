"""`gatewayproto simulate`: worlds with faults, seed by seed, judged by every monitor."""

import json
import os
import time
from typing import Any, Final

import click
from attrs import asdict

from gatewayproto.frames import MAX_INT
from gatewayproto.testing.campaign import Broken, Campaign, campaign
from gatewayproto.testing.monitors import missing_witnesses
from gatewayproto.testing.profiles import NAMES
from gatewayproto.testing.simulator import Failure, shrink, simulate
from gatewayproto_cli.options import SETTINGS
from gatewayproto_cli.signals import interruptible

_ENOUGH: Final = 1_000
"""Seeds of a mixed profile in which everything must have been witnessed."""
_MIXED: Final = frozenset({"swarm", "everything"})
_INTERRUPTED: Final = 130
"""The exit status that a shell gives to what SIGINT ended."""


@click.command("simulate", context_settings=SETTINGS)
@click.option("--seeds", type=click.IntRange(min=1, max=10**9), show_default="1000; 1 with --seed",
              help="How many worlds to simulate.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0, max=MAX_INT - 10**9), show_default="0",
              help="The seed of the first; each that follows is one more.")  # fmt: skip
@click.option("--profile", type=click.Choice(NAMES), default="swarm",
              help="Which faults; a swarm draws a mix of its own for each seed.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(min=1, max=256), show_default="as many as cores",
              help="Processes that share the work; the result is the same.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, show_default="off",
              help="One JSON object instead of text.")  # fmt: skip
@click.pass_context
def simulate_command(
    context: click.Context,
    seeds: int | None,
    seed: int | None,
    profile: str,
    jobs: int | None,
    *,
    as_json: bool,
) -> None:
    """Simulate gateways and clients under faults, and judge every step.

    Each seed is a world of one gateway and some clients in virtual time. Links are cut, stalled and
    garbled, processes restart, journals are trimmed, clocks jump; then faults stop and everything
    must come to rest. The same seed gives the same run, on every machine.

    Ends with 1 if a property was broken, or if 1000 worlds or more of the profile swarm or
    everything did not witness all that they must. SIGINT ends it with 130 and the figures so far.
    """
    first = seed or 0
    count = seeds or (_ENOUGH if seed is None else 1)
    worlds = range(first, first + count)
    began = time.monotonic()
    with interruptible() as interrupted:
        click.echo(f"simulating {count} worlds", err=True)
        result = campaign(profile, worlds, jobs=jobs or os.cpu_count() or 1, enough=interrupted)
    took = time.monotonic() - began
    click.echo(f"{result.worlds} worlds in {took:.1f} s", err=True)
    if result.worlds < count:
        click.echo("Error: interrupted", err=True)
    demanded = result.worlds >= _ENOUGH and profile in _MIXED
    missing = missing_witnesses(result.witnessed) if demanded else []
    if as_json:
        click.echo(json.dumps(_fields(result, profile, first, missing), separators=(",", ":")))
    else:
        _print(result, profile, first, missing)
    if result.broken or missing:
        context.exit(1)
    context.exit(_INTERRUPTED if result.worlds < count else 0)


def _fields(result: Campaign, profile: str, first: int, missing: list[str]) -> dict[str, Any]:
    return {
        "profile": profile,
        "first": first,
        **asdict(result, recurse=False),
        "witnessed": dict(sorted(result.witnessed.items())),
        "happened": dict(sorted(result.happened.items())),
        "broken": [asdict(each) for each in result.broken],
        "missing": missing,
    }


def _print(result: Campaign, profile: str, first: int, missing: list[str]) -> None:
    last = first + result.worlds - 1
    seeds = f"seed {first}" if last == first else f"seeds {first} to {last}"
    worlds = "1 world" if result.worlds == 1 else f"{result.worlds} worlds"
    click.echo(f"profile {profile}, {seeds}: {worlds}, {result.steps} steps")
    click.echo(f"digest {result.digest}")
    for title, counts in (("deeds", result.happened), ("witnessed", result.witnessed)):
        click.echo(f"\n{title}")
        for name, number in sorted(counts.items(), key=_by_number):
            click.echo(f"  {number:>9}  {name}")
    if missing:
        click.echo(f"\nnot witnessed: {', '.join(missing)}")
    if result.broken:
        click.echo(f"\n{len(result.broken)} of {result.worlds} worlds broke a property")
        _explain(result.broken[0], profile)
    else:
        click.echo("\nno property was broken")


def _by_number(item: tuple[str, int]) -> tuple[int, str]:
    """A witness goes by the number of its property."""
    number = item[0].partition(" ")[0].removeprefix("P")
    return (int(number) if number.isdigit() else 0), item[0]


def _explain(broken: Broken, profile: str) -> None:
    """Show the first that broke, with all that is not needed for it left out."""
    try:
        simulate(profile, broken.seed)
    except Failure as failure:
        click.echo(f"\n{shrink(failure)}")
    click.echo(f"\nto repeat: gatewayproto simulate --profile {profile} --seed {broken.seed}")
