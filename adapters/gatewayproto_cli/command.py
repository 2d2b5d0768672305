"""The command line of `gatewayproto`, with its subcommands."""

from collections.abc import Mapping
from importlib import import_module
from typing import Final

import click

from gatewayproto import __version__

_COMMANDS: Final[Mapping[str, str]] = {
    "serve": "gatewayproto_cli.serve",
    "demo": "gatewayproto_cli.demo",
    "tail": "gatewayproto_cli.tail",
    "replay": "gatewayproto_cli.replay",
    "simulate": "gatewayproto_cli.simulate",
    "explore": "gatewayproto_cli.explore",
}
"""Where each command is: the function `<name>_command` of that module."""


class _Commands(click.Group):
    """Imports a command when it is asked for: none waits for what another one needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = getattr(import_module(module), f"{cmd_name}_command")
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gatewayproto")
def main() -> None:
    """The protocol between AI-agent gateways and their clients, at work."""
