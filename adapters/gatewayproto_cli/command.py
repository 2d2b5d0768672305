"""The command line of `gatewayproto`, with its subcommands."""

import click

from gatewayproto import __version__
from gatewayproto_cli.demo import demo_command
from gatewayproto_cli.serve import serve_command
from gatewayproto_cli.tail import tail_command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gatewayproto")
def main() -> None:
    """The protocol between AI-agent gateways and their clients, at work."""


main.add_command(serve_command)
main.add_command(demo_command)
main.add_command(tail_command)
