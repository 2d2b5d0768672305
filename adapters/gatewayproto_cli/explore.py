"""`gatewayproto explore`: every interleaving of bounded worlds, told apart by their states."""

import json
import re
import time
from typing import Any, Final

import click

from gatewayproto.testing.explorer.bounds import BOUNDS, SUITE, Bound
from gatewayproto.testing.explorer.search import Exploration, Failure, Walk, explore, walk
from gatewayproto.testing.transcript import render
from gatewayproto_cli.options import SETTINGS
from gatewayproto_cli.text import escape

_ALL: Final = "all"


@click.command("explore", context_settings=SETTINGS)
@click.option("--bound", "name", type=click.Choice((_ALL, *BOUNDS)), default=_ALL,
              help="Which bounded world; all but those that take very long.")  # fmt: skip
@click.option("--states", type=click.IntRange(min=1, max=10**9), show_default="unlimited",
              help="Stop a bound at so many distinct states.")  # fmt: skip
@click.option("--trace", "steps", show_default="none", metavar="N,N,…",
              help="Walk one way through the bound, deed by deed, and show it.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, show_default="off",
              help="One JSON object instead of text.")  # fmt: skip
@click.pass_context
def explore_command(
    context: click.Context, name: str, states: int | None, steps: str | None, *, as_json: bool
) -> None:
    """Explore bounded worlds of a gateway and its clients, and judge every step.

    Each bound has a few events, messages and faults. They are tried in every order, the real
    machines doing what comes of each, and no state of a world is looked at twice. From every state,
    when faults stop, everybody must come to rest. What is found first is a shortest way to it.

    Ends with 1 if a property was broken, or if a bound that was explored in full did not
    witness all that it must.
    """
    if steps is not None:
        context.exit(_walk(name, steps, as_json=as_json))
    names = SUITE if name == _ALL else (name,)
    results = [_explore(BOUNDS[each], states, quiet=as_json) for each in names]
    if as_json:
        click.echo(json.dumps(_fields(results), separators=(",", ":")))
    elif len(results) > 1:
        _print_sum(results)
    context.exit(0 if all(result.passed for result in results) else 1)


def _explore(bound: Bound, states: int | None, *, quiet: bool) -> Exploration:
    """Explore one bound; unless `quiet`, say what became of it."""

    def progress(depth: int, so_far: int) -> None:
        click.echo(f"{bound.name}: {so_far} states, {depth} deeds deep", err=True)

    began = time.monotonic()
    result = explore(bound, states=states, progress=progress)
    took = time.monotonic() - began
    rate = result.states / took if took else 0.0
    click.echo(
        f"{bound.name}: {result.states} states in {took:.1f} s, {rate:.0f} a second", err=True
    )
    if not quiet:
        _print(bound, result)
    return result


# -- for programs -----------------------------------------------------------------------------


def _fields(results: list[Exploration]) -> dict[str, Any]:
    return {
        "states": sum(result.states for result in results),
        "transitions": sum(result.transitions for result in results),
        "deadlocks": sum(result.deadlocks for result in results),
        "non_converging": sum(result.non_converging for result in results),
        "bounds": [_bound_fields(result) for result in results],
    }


def _bound_fields(result: Exploration) -> dict[str, Any]:
    names = (
        "bound",
        "states",
        "transitions",
        "depth",
        "complete",
        "settled",
        "healed",
        "deadlocks",
        "non_converging",
        "rest_within",
        "live",
        "machine_states",
        "asked",
        "run",
    )
    return {
        **{name: getattr(result, name) for name in names},
        "witnessed": dict(sorted(result.witnessed.items())),
        "missing": list(result.missing),
        "broken": result.failure and _broken(result.failure),
    }


def _broken(failure: Failure) -> dict[str, Any]:
    violation = failure.violation
    return {
        "property": violation.prop,
        "text": violation.text,
        "trace": list(failure.walk.trace),
    }


# -- for people -------------------------------------------------------------------------------


def _print(bound: Bound, result: Exploration) -> None:
    how = "in full" if result.complete else "in part"
    click.echo(f"{bound.name}: {bound.about}")
    click.echo(
        f"  {result.states} states, {result.transitions} transitions,"
        f" {result.depth} deeds deep, {how}"
    )
    click.echo(
        f"  {result.settled} where nothing is left but to wait, {result.healed} more until all"
        f" rest, within {result.rest_within:g} s;"
        f" {result.deadlocks} deadlocks, {result.non_converging} without rest"
    )
    looked_up = 1 - result.run / max(result.asked, 1)
    click.echo(
        f"  {result.machine_states} states of machines; of {result.asked} inputs"
        f" {looked_up:.1%} looked up; {result.live} ways walked by live machines"
    )
    seen = ", ".join(f"{count} {what}" for what, count in sorted(result.witnessed.items()))
    click.echo(f"  witnessed: {seen}")
    if result.complete and result.missing:
        click.echo(f"  not witnessed: {', '.join(result.missing)}")
    if result.failure is None:
        click.echo("  no property was broken\n")
    else:
        _print_failure(bound, result.failure)


def _print_failure(bound: Bound, failure: Failure) -> None:
    click.echo(f"\n{render(failure.walk.steps)}\n\n{escape(str(failure.violation))}")
    if failure.walk.violation is None:
        click.echo("(not by live machines: only by those that go through their saved state)")
    click.echo(f"\n{_line(bound.name, failure.walk)}\n")


def _line(name: str, walked: Walk) -> str:
    trace = ",".join(map(str, walked.trace))
    return f"to repeat: gatewayproto explore --bound {name} --trace '{trace}'"


def _print_sum(results: list[Exploration]) -> None:
    states = sum(result.states for result in results)
    transitions = sum(result.transitions for result in results)
    failed = [result.bound for result in results if not result.passed]
    click.echo(f"{len(results)} bounds: {states} states, {transitions} transitions")
    click.echo(f"failed: {', '.join(failed)}" if failed else "no property was broken")


# -- one way ----------------------------------------------------------------------------------


def _walk(name: str, steps: str, *, as_json: bool) -> int:
    """Walk one way; gives the exit status."""
    if name == _ALL:
        raise click.UsageError("--trace is a way through one bound: name it with --bound.")
    if re.fullmatch(r"(\d{1,9}(,\d{1,9})*)?", steps, re.ASCII) is None:
        raise click.BadParameter("numbers with commas between them.", param_hint="--trace")
    try:
        walked = walk(BOUNDS[name], [int(step) for step in steps.split(",") if step])
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint="--trace") from None
    violation = walked.violation
    if as_json:
        fields = {
            "bound": name,
            "trace": list(walked.trace),
            "steps": len(walked.steps),
            "broken": violation and {"property": violation.prop, "text": violation.text},
        }
        click.echo(json.dumps(fields, separators=(",", ":")))
    else:
        click.echo(render(walked.steps))
        click.echo(f"\n{escape(str(violation))}" if violation else "\nno property was broken")
    return 0 if violation is None else 1
