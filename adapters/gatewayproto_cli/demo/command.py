"""The command line of `gatewayproto demo`."""

import json
from functools import partial

import anyio
import click

from gatewayproto_cli.adapters import load
from gatewayproto_cli.demo.play import FULL, play
from gatewayproto_cli.demo.view import LiveAccount, print_outcome
from gatewayproto_cli.logs import log_to_stderr
from gatewayproto_cli.options import SETTINGS, adapter_option


@click.command("demo", context_settings=SETTINGS)
@click.option("--events", type=click.IntRange(min=1, max=1_000_000), default=5000,
              help=f"How many events to publish; from {FULL} on all faults are sure.")  # fmt: skip
@click.option("--seed", type=int, default=1, help="Which faults happen, when and in which order.")
@adapter_option
@click.option("--json", "as_json", is_flag=True, show_default="off",
              help="Write the account as JSON; the last line is its sums.")  # fmt: skip
@click.pass_context
def demo_command(
    ctx: click.Context,
    *,
    events: int,
    seed: int,
    adapter: str,
    as_json: bool,
) -> None:
    """Show that nothing is lost and nothing comes twice, whatever goes wrong.

    A gateway and a client on real sockets, and a proxy between them that cuts and stalls; the
    gateway's journal is trimmed past the client, and the gateway restarts. An observer of both
    ends accounts for every event: delivered, named as skipped, or covered by a snapshot. The
    status is 1 if one was lost or came twice, or if a fault did not happen.
    """
    log_to_stderr()
    with LiveAccount(events) as live:
        playing = partial(play, load(adapter), events, seed, watch=live.watch, note=live.note)
        outcome = anyio.run(playing, backend=adapter)
    if as_json:
        click.echo(json.dumps({"faults": outcome.faults, "resyncs_by_reason": outcome.resyncs}))
        click.echo(json.dumps(outcome.totals))
    else:
        print_outcome(outcome)
    for failure in outcome.failures:
        click.echo(f"Error: {failure}", err=True)
    ctx.exit(1 if outcome.failures else 0)
