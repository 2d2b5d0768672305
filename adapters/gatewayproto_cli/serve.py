"""`gatewayproto serve`: a gateway with the demo agent."""

import logging
import ssl
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import quote

import anyio
import click
from attrs import field, frozen
from click.core import ParameterSource
from gatewayproto_adapter.proxies import TrustedProxies
from gatewayproto_adapter.reasons import reason

from gatewayproto import GatewayConfig
from gatewayproto.frames import MAX_INT, MIN_MAX_PAYLOAD
from gatewayproto.metrics import GatewayMetrics
from gatewayproto.rates import Rate
from gatewayproto_cli.adapters import Adapter, Server, load
from gatewayproto_cli.agent import DemoAgent
from gatewayproto_cli.endpoint import Endpoint, listen
from gatewayproto_cli.logs import LEVELS, KeyValueFormatter, log_to_stderr
from gatewayproto_cli.options import (
    COUNT,
    PORT,
    SETTINGS,
    adapter_option,
    rate,
    record_option,
    seconds,
    text,
)
from gatewayproto_cli.record import recording_into
from gatewayproto_cli.signals import until_told
from gatewayproto_cli.text import escape
from gatewayproto_cli.tls import FILE, server_context

_AFTER: Final = 0.5
_SPREAD: Final = 1.0
"""Seconds, and at random up to so many more, until clients that are sent away come back."""
_GRACE: Final = 2.0
"""Seconds for clients to leave when they are told to."""
_LAST: Final = 1.0
"""Seconds then for the others to be closed: the whole end must come within five."""
_CLOSE_TIMEOUT: Final = 2.0
"""Seconds for any one peer to take its leave."""
_PATH: Final = "/ws"
_DEFAULTS: Final = GatewayConfig()


@frozen(kw_only=True)
class ServeOptions:
    """What was asked for on the command line."""

    host: str
    port: int
    unix: Path | None
    agent_ids: tuple[str, ...]
    tokens: tuple[str, ...] = field(repr=False)
    allow_origins: tuple[str, ...]
    trusted_proxies: tuple[str, ...]
    config: GatewayConfig
    ssl: ssl.SSLContext | None
    record: Path | None
    metrics: tuple[str, int] | None

    @property
    def place(self) -> str:
        """Where to listen, for people."""
        if self.unix is not None:
            return escape(str(self.unix))
        return f"{self.host}, port {self.port}"

    def url(self, server: Server) -> str:
        """What clients connect to; for a Unix socket in the form `ws+unix:SOCKET:PATH`."""
        if self.unix is None:
            return server.url
        scheme = "ws" if self.ssl is None else "wss"
        return f"{scheme}+unix:{quote(str(self.unix.absolute()), errors='replace')}:{_PATH}"


def _proxy(value: str) -> str:
    """Check who is to be trusted; it stays as it is."""
    try:
        TrustedProxies([value])
    except ValueError as error:
        raise click.BadParameter(f"{escape(str(error))}.") from None
    return value


@click.command("serve", context_settings=SETTINGS)
@click.option("--host", type=text, default="127.0.0.1", help="Where to listen.")
@click.option("--port", type=PORT, default=8765, help="Where to listen; 0 picks a free port.")
@click.option("--unix", type=FILE, metavar="PATH", show_default="none",
              help="Listen on a Unix socket at this path instead.")  # fmt: skip
@adapter_option
@click.option("--agent-id", "agent_ids", type=text, multiple=True, default=("demo",),
              help="An agent's name; may be given several times.")  # fmt: skip
@click.option("--token", "tokens", type=text, multiple=True, show_default="none",
              help="Admit clients that present this token, as a principal of its own; may be given "
              "several times.")  # fmt: skip
@click.option("--allow-origin", "allow_origins", type=text, multiple=True, show_default="none",
              help="Admit browsers from this origin beside the server's own; may be given several "
              "times.")  # fmt: skip
@click.option("--certfile", type=FILE, metavar="FILE", show_default="none",
              help="Speak TLS, with the certificates in this PEM file.")  # fmt: skip
@click.option("--keyfile", type=FILE, metavar="FILE", show_default="none",
              help="The key to it, if not in --certfile; without a passphrase.")  # fmt: skip
@click.option("--trusted-proxy", "trusted_proxies", type=_proxy, multiple=True, metavar="ADDRESS",
              show_default="none",
              help="Believe X-Forwarded-For from this address or network (10.0.0.0/8), or from "
              "whoever uses the Unix socket (unix); may be given several times.")  # fmt: skip
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
@click.option("--frame-rate", type=rate, metavar="RATE", default="1000/10000",
              help="Frames a second that one connection may send, and how many at once; "
              "none for no limit.")  # fmt: skip
@click.option("--recovery-rate", type=rate, metavar="RATE", default="10/100",
              help="Recoveries on one connection.")  # fmt: skip
@click.option("--connection-rate", type=rate, metavar="RATE", default="200/2000",
              help="Connections from one address.")  # fmt: skip
@click.option("--handshake-rate", type=rate, metavar="RATE", default="200/2000",
              help="Handshakes from one address.")  # fmt: skip
@click.option("--session-rate", type=rate, metavar="RATE", default="100/2000",
              help="New sessions with one token; without --token, from one address.")  # fmt: skip
@click.option("--metrics-port", type=PORT, show_default="none",
              help="Tell metrics at http://HOST:PORT/metrics, as OpenMetrics text; 0 picks a free "
              "port. Where that is, stderr tells.")  # fmt: skip
@click.option("--metrics-host", type=text, default="127.0.0.1",
              help="Where to tell them.")  # fmt: skip
@click.option("--log-level", type=click.Choice(LEVELS), default="warning",
              help="What to log, on stderr.")  # fmt: skip
@record_option
@click.pass_context
def serve_command(
    ctx: click.Context,
    *,
    adapter: str,
    host: str,
    port: int,
    unix: Path | None,
    agent_ids: tuple[str, ...],
    tokens: tuple[str, ...],
    allow_origins: tuple[str, ...],
    certfile: Path | None,
    keyfile: Path | None,
    trusted_proxies: tuple[str, ...],
    retain: int,
    retain_transient: int,
    retain_bytes: int,
    heartbeat: float,
    resume_window: float,
    request_ttl: float,
    max_payload: int,
    strict: bool,
    frame_rate: Rate | None,
    recovery_rate: Rate | None,
    connection_rate: Rate | None,
    handshake_rate: Rate | None,
    session_rate: Rate | None,
    metrics_port: int | None,
    metrics_host: str,
    log_level: str,
    record: Path | None,
) -> None:
    """Run a gateway with the demo agent, on the WebSocket path /ws.

    Prints "ready ws://HOST:PORT/ws" once it accepts connections; "ready wss://HOST:PORT/ws" with
    --certfile, "ready ws+unix:PATH:/ws" with --unix. SIGTERM and SIGINT end it within 5 seconds,
    with its clients sent away to come back later; a second one ends it at once.

    A RATE is so many a second, and after a slash so many at once, or "none". The defaults are for
    scripts on one machine, which all come from one address: bound a public gateway lower.

    The agent does what a message says: "tokens N [MS]", "burst N", "sleep S TEXT", "ask TEXT";
    anything else it echoes.
    """
    log_to_stderr(getattr(logging, log_level.upper()), KeyValueFormatter())
    if unix is not None and _given(ctx, "host", "port"):
        raise click.UsageError("--unix is in place of --host and --port.")
    if keyfile is not None and certfile is None:
        raise click.UsageError("--keyfile is the key to a certificate: give --certfile.")
    if metrics_port is None and _given(ctx, "metrics_host"):
        raise click.UsageError("--metrics-host is where --metrics-port is: give that.")
    if metrics_port is not None and find_spec("prometheus_client") is None:
        raise click.UsageError(
            "--metrics-port needs prometheus-client: pip install 'gatewayproto[cli,metrics]'"
        )
    config = GatewayConfig(
        retain=retain,
        retain_transient=retain_transient,
        retain_bytes=retain_bytes,
        heartbeat=heartbeat,
        resume_window=resume_window,
        request_ttl=request_ttl,
        max_payload=max_payload,
        protocol_strict=strict,
        frame_rate=frame_rate,
        recovery_rate=recovery_rate,
        connection_rate=connection_rate,
        handshake_rate=handshake_rate,
        session_rate=session_rate,
    )
    options = ServeOptions(
        host=host,
        port=port,
        unix=unix,
        agent_ids=agent_ids,
        tokens=tokens,
        allow_origins=allow_origins,
        trusted_proxies=trusted_proxies,
        config=config,
        ssl=None if certfile is None else server_context(certfile, keyfile),
        record=record,
        metrics=None if metrics_port is None else (metrics_host, metrics_port),
    )
    serving = partial(_serve, load(adapter), options)
    try:
        anyio.run(until_told, serving, backend=adapter)
    except (OSError, UnicodeError) as error:
        raise click.ClickException(f"cannot serve on {options.place}: {_why(error)}") from None


def _given(ctx: click.Context, *names: str) -> bool:
    """Whether one of these options was given, whatever its value."""
    return any(ctx.get_parameter_source(name) is not ParameterSource.DEFAULT for name in names)


async def _serve(adapter: Adapter, options: ServeOptions, told: anyio.Event) -> int:
    """Serve until it is told to end, then send everybody away; the exit status."""
    agent = DemoAgent(agent_ids=options.agent_ids, tokens=options.tokens, config=options.config)
    with recording_into(options.record, secrets=options.tokens) as recording:
        server = adapter.serve(
            agent,
            host=options.host,
            port=options.port,
            unix_path=None if options.unix is None else str(options.unix),
            config=options.config,
            allow_origins=options.allow_origins,
            trusted_proxies=options.trusted_proxies,
            gateway=None if recording is None else recording.gateway(options.config),
            ssl=options.ssl,
            close_timeout=_CLOSE_TIMEOUT,
        )
        async with server as running:
            endpoint = await _endpoint(options.metrics, running.metrics)
            if endpoint is not None:
                click.echo(f"metrics {endpoint.url}", err=True)
            click.echo(f"ready {options.url(running)}")
            async with anyio.create_task_group() as telling:
                if endpoint is not None:
                    endpoint.start(telling)
                await told.wait()
                await running.drain(after=_AFTER, spread=_SPREAD, grace=_GRACE)
                with anyio.move_on_after(_LAST):
                    await running.close()
                telling.cancel_scope.cancel()
    return 0


async def _endpoint(
    place: tuple[str, int] | None, take: Callable[[], GatewayMetrics]
) -> Endpoint | None:
    """What tells the metrics, where that is wanted.

    Raises:
        click.ClickException: The address cannot be had.
    """
    if place is None:
        return None
    from gatewayproto_cli.openmetrics import CONTENT_TYPE, exposition  # noqa: PLC0415 - an extra

    try:
        return await listen(*place, exposition(take), CONTENT_TYPE)
    except (OSError, UnicodeError) as error:
        host, port = place
        raise click.ClickException(
            f"cannot tell metrics on {escape(host)}, port {port}: {_why(error)}"
        ) from None


def _why(error: OSError | UnicodeError) -> str:
    if isinstance(error, OSError) and error.errno is None:
        return escape(str(error))
    return reason(error)
