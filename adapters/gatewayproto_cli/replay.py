"""`gatewayproto replay`: what a recording says, given to a fresh machine."""

import json
from pathlib import Path
from typing import Any, Final

import click

from gatewayproto.testing.replaying import (
    Breach,
    Difference,
    Replay,
    UnreadableError,
    replay,
)
from gatewayproto.testing.transcript import render
from gatewayproto_cli.options import SETTINGS
from gatewayproto_cli.text import escape

_SHOWN: Final = 2000
"""Characters of an action that are shown where it differs."""


@click.command("replay", context_settings=SETTINGS)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE")
@click.option("--json", "as_json", is_flag=True, show_default="off",
              help="One JSON object instead of text.")  # fmt: skip
@click.pass_context
def replay_command(ctx: click.Context, file: Path, *, as_json: bool) -> None:
    """Replay what `serve --record` or `tail --record` wrote into FILE.

    A fresh machine is given the same inputs at the same times. Tells whether the same actions came
    of them or what the first other one is, and what the monitors of the protocol's properties saw.

    Ends with 1 if an action differs, a property was broken, or FILE is no recording.
    """
    name = escape(str(file))
    try:
        with file.open("rb") as opened:
            result = replay(opened)
    except OSError as error:
        raise click.ClickException(f"cannot read {name}: {error.strerror}") from None
    except UnreadableError as error:
        raise click.ClickException(f"{name}, {escape(str(error))}") from None
    if as_json:
        click.echo(json.dumps(_fields(result), separators=(",", ":")))
    else:
        _print(result)
    ctx.exit(0 if result.same and result.breach is None else 1)


def _fields(result: Replay) -> dict[str, Any]:
    difference, breach = result.difference, result.breach
    return {
        "machine": result.machine,
        "release": result.release,
        "inputs": result.inputs,
        "left_out": result.left_out,
        "seconds": result.seconds,
        "cut_off": result.cut_off,
        "same": result.same,
        "difference": difference and _difference_fields(difference),
        "broken": breach and _breach_fields(breach),
        "witnessed": dict(sorted(result.witnessed.items())),
    }


def _difference_fields(difference: Difference) -> dict[str, Any]:
    names = ("line", "input", "aspect", "at", "expected", "got")
    return {name: getattr(difference, name) for name in names}


def _breach_fields(breach: Breach) -> dict[str, Any]:
    violation = breach.violation
    return {"line": breach.line, "property": violation.prop, "text": violation.text}


# -- for people -------------------------------------------------------------------------------


def _print(result: Replay) -> None:
    click.echo(f"a {result.machine}, recorded with release {escape(result.release)}")
    same = "the same actions" if result.same else "not the same actions"
    click.echo(f"{result.inputs} inputs in {result.seconds:.3f} s: {same}")
    if result.left_out:
        click.echo(f"{result.left_out} inputs left out: they were refused, and are no data")
    if result.cut_off:
        click.echo("the last line is cut off, and left out")
    if result.witnessed:
        click.echo("\nwitnessed")
        for name, number in sorted(result.witnessed.items()):
            click.echo(f"  {number:>9}  {name}")
    if result.difference is not None:
        _print_difference(result.difference)
    if result.breach is None:
        click.echo("\nno property was broken")
    else:
        _print_breach(result.breach)


def _print_difference(difference: Difference) -> None:
    click.echo(f"\n{render(difference.steps)}")
    where = f"line {difference.line}, {difference.input}"
    expected, got = difference.expected, difference.got
    if difference.at is None:
        click.echo(f"\n{where}: what differs is {_ASPECTS[difference.aspect]}")
    else:
        click.echo(f"\n{where}: action {difference.at + 1} differs")
        expected, got = _item(expected, difference.at), _item(got, difference.at)
    click.echo(f"  expected  {_shown(expected)}")
    click.echo(f"  got       {_shown(got)}")


_ASPECTS: Final = {
    "raised": "what was raised",
    "deadline": "the deadline",
    "ids": "how many ids were drawn",
    "random": "how many random numbers were drawn",
}


def _item(items: list[Any], at: int) -> Any:
    return items[at] if at < len(items) else None


def _shown(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text) - _SHOWN} more)"


def _print_breach(breach: Breach) -> None:
    where = "at the end" if breach.line is None else f"line {breach.line}"
    click.echo(f"\n{render(breach.steps)}\n\n{where}: {escape(str(breach.violation))}")
