"""`gatewayproto serve`: a gateway with the demo agent."""

import asyncio
import os
from pathlib import Path
from typing import Final

import click
from attrs import frozen
from gatewayproto_asyncio import serve

from gatewayproto import GatewayConfig
from gatewayproto.frames import MAX_INT, MIN_MAX_PAYLOAD
from gatewayproto_cli.agent import DemoAgent
from gatewayproto_cli.logs import log_to_stderr
from gatewayproto_cli.options import (
    COUNT,
    PORT,
    SETTINGS,
    adapter_option,
    record_option,
    seconds,
    text,
)
from gatewayproto_cli.record import recording_into
from gatewayproto_cli.signals import on_end

_CLOSE_TIMEOUT: Final = 2.0
"""Seconds for peers to take their leave: the whole end must come within five."""
_DEFAULTS: Final = GatewayConfig()


@frozen(kw_only=True)
class ServeOptions:
    """What was asked for on the command line."""

    host: str
    port: int
    agent_ids: tuple[str, ...]
    tokens: tuple[str, ...]
    allow_origins: tuple[str, ...]
    config: GatewayConfig
    record: Path | None


@click.command("serve", context_settings=SETTINGS)
@click.option("--host", type=text, default="127.0.0.1", help="Where to listen.")
@click.option("--port", type=PORT, default=8765, help="Where to listen; 0 picks a free port.")
@adapter_option
@click.option("--agent-id", "agent_ids", type=text, multiple=True, default=("demo",),
              help="An agent's name; may be given several times.")  # fmt: skip
@click.option("--token", "tokens", type=text, multiple=True, show_default="none",
              help="Admit clients that present this token, as a principal of its own; may be given "
              "several times.")  # fmt: skip
@click.option("--allow-origin", "allow_origins", type=text, multiple=True, show_default="none",
              help="Admit browsers from this origin beside the server's own; may be given several "
              "times.")  # fmt: skip
@click.option("--retain", type=COUNT, default=_DEFAULTS.retain,
              help="Durable events that a session's journal keeps.")  # fmt: skip
@click.option("--retain-transient", type=COUNT, default=_DEFAULTS.retain_transient,
              help="Transient events that a session's journal keeps.")  # fmt: skip
@click.option("--retain-bytes", type=COUNT, default=_DEFAULTS.retain_bytes,
              help="Bytes of both kinds together.")  # fmt: skip
@click.option("--heartbeat", type=seconds, default=_DEFAULTS.heartbeat,
              help="Seconds between pings on an idle connection.")  # fmt: skip
@click.option("--resume-window", type=seconds, default=_DEFAULTS.resume_window,
              help="Seconds that a session outlives its last connection.")  # fmt: skip
@click.option("--request-ttl", type=seconds, default=_DEFAULTS.request_ttl,
              help="Seconds within which a client may repeat a request.")  # fmt: skip
@click.option("--max-payload", type=click.IntRange(min=MIN_MAX_PAYLOAD, max=MAX_INT),
              default=_DEFAULTS.max_payload, help="Bytes of the largest frame taken.")  # fmt: skip
@click.option("--strict", is_flag=True, show_default="off",
              help="Refuse handshakes without version fields.")  # fmt: skip
@record_option
def serve_command(
    *,
    adapter: str,  # noqa: ARG001 - there is one so far
    host: str,
    port: int,
    agent_ids: tuple[str, ...],
    tokens: tuple[str, ...],
    allow_origins: tuple[str, ...],
    retain: int,
    retain_transient: int,
    retain_bytes: int,
    heartbeat: float,
    resume_window: float,
    request_ttl: float,
    max_payload: int,
    strict: bool,
    record: Path | None,
) -> None:
    """Run a gateway with the demo agent, on the WebSocket path /ws.

    Prints "ready ws://HOST:PORT/ws" once it accepts connections. SIGTERM and SIGINT end it.

    The agent does what a message says: "tokens N [MS]", "burst N", "sleep S TEXT", "ask TEXT";
    anything else it echoes.
    """
    log_to_stderr()
    config = GatewayConfig(
        retain=retain,
        retain_transient=retain_transient,
        retain_bytes=retain_bytes,
        heartbeat=heartbeat,
        resume_window=resume_window,
        request_ttl=request_ttl,
        max_payload=max_payload,
        protocol_strict=strict,
    )
    options = ServeOptions(
        host=host,
        port=port,
        agent_ids=agent_ids,
        tokens=tokens,
        allow_origins=allow_origins,
        config=config,
        record=record,
    )
    try:
        asyncio.run(_run(options))
    except (OSError, UnicodeError) as error:
        raise click.ClickException(f"cannot serve on {host}, port {port}: {_why(error)}") from None


async def _run(options: ServeOptions) -> None:
    """Serve until a signal comes."""
    told = asyncio.Event()
    on_end(told.set)
    agent = DemoAgent(agent_ids=options.agent_ids, tokens=options.tokens, config=options.config)
    with recording_into(options.record, secrets=options.tokens) as recording:
        server = serve(
            agent,
            host=options.host,
            port=options.port,
            config=options.config,
            allow_origins=options.allow_origins,
            gateway=None if recording is None else recording.gateway(options.config),
            close_timeout=_CLOSE_TIMEOUT,
        )
        async with server:
            click.echo(f"ready {server.url}")
            await told.wait()


def _why(error: OSError | UnicodeError) -> str:
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return str(error)
