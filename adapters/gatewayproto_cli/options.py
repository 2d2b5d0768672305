"""Types of options, and options that several commands have."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from gatewayproto.frames import MAX_INT
from gatewayproto.rates import Rate
from gatewayproto_cli.adapters import NAMES

F = TypeVar("F", bound=Callable[..., Any])

_MIN_SECONDS: Final = 0.001
_MAX_SECONDS: Final = 1e9
_MAX_EPOCH: Final = 64

COUNT: Final = click.IntRange(min=0, max=MAX_INT)
"""How many events or bytes; also a position, which counts events."""
PORT: Final = click.IntRange(min=0, max=65535)
VERSION: Final = click.IntRange(min=1, max=MAX_INT)

SETTINGS: Final[dict[str, Any]] = {"show_default": True, "max_content_width": 100}
"""Context settings of every command: its help shows each option's default."""


def seconds(value: str | float) -> float:
    """Read a time in seconds, fractions allowed: from a millisecond to some thirty years.

    Raises:
        click.BadParameter: It is none.
    """
    try:
        time = float(value)
    except ValueError:
        time = math.nan
    if not _MIN_SECONDS <= time <= _MAX_SECONDS:
        raise click.BadParameter(f"{value!r} is no time from {_MIN_SECONDS} to 1e9 seconds.")
    return time


def rate(value: str) -> Rate | None:
    """Read so many a second, and after a slash so many at once; `none` is no limit.

    Raises:
        click.BadParameter: It is no rate.
    """
    if value == "none":
        return None
    per_second, _, burst = value.partition("/")
    try:
        return Rate(float(per_second), int(burst))
    except ValueError:
        raise click.BadParameter(f"{value!r} is no rate such as 50/500, and not none.") from None


def utf8(value: str) -> str:
    """Read a text, also an empty one: what a terminal sends may be none.

    Raises:
        click.BadParameter: Its bytes are no UTF-8.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        raise click.BadParameter("it is no UTF-8.") from None
    return value


def text(value: str) -> str:
    """Read a text that is not empty.

    Raises:
        click.BadParameter: It is, or its bytes are no UTF-8.
    """
    if not value:
        raise click.BadParameter("it must not be empty.")
    return utf8(value)


def epoch_text(value: str) -> str:
    """Read an epoch.

    Raises:
        click.BadParameter: It is none.
    """
    if len(value) > _MAX_EPOCH:
        raise click.BadParameter(f"it must not be longer than {_MAX_EPOCH} characters.")
    return text(value)


def adapter_option(command: F) -> F:
    """Add `--adapter`: what does the input and output."""
    return click.option(
        "--adapter",
        type=click.Choice(NAMES),
        default=NAMES[0],
        help="What does the input and output.",
    )(command)


def record_option(command: F) -> F:
    """Add `--record`: where to write every input of the machine."""
    return click.option(
        "--record",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        show_default="none",
        help="Write every input and what came of it into this new file, for `gatewayproto replay`; "
        "secrets are replaced (in messages, those of 16 characters or more).",
    )(command)
