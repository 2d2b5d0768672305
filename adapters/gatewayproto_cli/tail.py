"""`gatewayproto tail`: follow one session and tell what happens."""

import logging
import ssl
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import click
from anyio.abc import TaskStatus
from attrs import field, frozen
from gatewayproto_adapter.errors import (
    ClientStoppedError,
    MessageRefusedError,
    OutcomeUnknownError,
)
from gatewayproto_wsproto import WsUrl

from gatewayproto import Client, ClientConfig, LocalProtocolError, __version__
from gatewayproto.actions import (
    ClientEvent,
    EventReceived,
    Joined,
    ResumeToken,
    Skipped,
    SnapshotReceived,
    Stopped,
)
from gatewayproto.backoff import Backoff
from gatewayproto.frames import ClientInfo
from gatewayproto.versions import VersionRange
from gatewayproto_cli.adapters import Adapter, ClientSession, load
from gatewayproto_cli.logs import log_to_stderr
from gatewayproto_cli.options import (
    COUNT,
    SETTINGS,
    VERSION,
    adapter_option,
    epoch_text,
    record_option,
    seconds,
    text,
    utf8,
)
from gatewayproto_cli.output import JsonWriter, PeopleWriter, Writer
from gatewayproto_cli.record import recording_into
from gatewayproto_cli.signals import until_told
from gatewayproto_cli.text import escape
from gatewayproto_cli.tls import FILE, client_context

_CLOSE_TIMEOUT: Final = 2.0
"""Seconds for the server to take its leave."""


def _url(value: str) -> str:
    """Check a WebSocket URL; it stays as it is."""
    try:
        WsUrl.parse(utf8(value))
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None
    return value


@frozen(kw_only=True)
class TailOptions:
    """What was asked for on the command line."""

    url: str = field(repr=False)
    unix: Path | None
    ssl: ssl.SSLContext | None
    config: ClientConfig
    resume: ResumeToken | None
    texts: tuple[str, ...]
    until: int | None
    duration: float | None
    record: Path | None


@click.command("tail", context_settings=SETTINGS)
@click.argument("url", metavar="URL", type=_url)
@adapter_option
@click.option("--agent-id", type=text, default="demo", help="The agent whose session to follow.")
@click.option("--token", type=text, show_default="none", help="Credentials for it.")
@click.option("--unix", type=FILE, metavar="PATH", show_default="none",
              help="Connect through this Unix socket; URL still names host and path.")  # fmt: skip
@click.option("--cafile", type=FILE, metavar="FILE", show_default="none",
              help="For wss: the authorities to trust, in place of the system's.")  # fmt: skip
@click.option("--session", type=text, show_default="none",
              help="Come back to this session instead of beginning a new one.")  # fmt: skip
@click.option("--epoch", type=epoch_text, metavar="TEXT", show_default="none",
              help="The epoch of --since.")  # fmt: skip
@click.option("--since", type=COUNT, show_default="none",
              help="The seq in --session up to which everything is accounted for.")  # fmt: skip
@click.option("--send", "texts", type=utf8, metavar="TEXT", multiple=True, show_default="none",
              help="Send this message; may be given several times, sent in order.")  # fmt: skip
@click.option("--until", type=COUNT, show_default="none",
              help="End once this seq is accounted for.")  # fmt: skip
@click.option("--for", "duration", type=seconds, show_default="none",
              help="End after so many seconds.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, show_default="off",
              help="Write one JSON object a line.")  # fmt: skip
@click.option("--protocol-min", type=VERSION, default=1, help="The lowest version to offer.")
@click.option(
    "--protocol-max",
    type=VERSION,
    default=2,
    help="The highest version to offer; 2 is the newest that it speaks.",
)
@click.option("--backoff-initial", type=seconds, default=1.0,
              help="Seconds before the second attempt to connect.")  # fmt: skip
@click.option("--backoff-max", type=seconds, default=30.0,
              help="The most seconds between two attempts.")  # fmt: skip
@click.option("--max-attempts", type=click.IntRange(min=1), show_default="none",
              help="Give up after so many attempts in a row, beyond the first.")  # fmt: skip
@click.option("--handshake-timeout", type=seconds, default=10.0,
              help="Seconds from the wish to connect to the welcome.")  # fmt: skip
@click.option("--recovery-timeout", type=seconds, default=10.0,
              help="Seconds that a gap may stay unanswered.")  # fmt: skip
@record_option
@click.pass_context
def tail_command(
    ctx: click.Context,
    *,
    adapter: str,
    url: str,
    agent_id: str,
    token: str | None,
    unix: Path | None,
    cafile: Path | None,
    session: str | None,
    epoch: str | None,
    since: int | None,
    texts: tuple[str, ...],
    until: int | None,
    duration: float | None,
    as_json: bool,
    protocol_min: int,
    protocol_max: int,
    backoff_initial: float,
    backoff_max: float,
    max_attempts: int | None,
    handshake_timeout: float,
    recovery_timeout: float,
    record: Path | None,
) -> None:
    """Follow one session at URL, over as many connections as it takes.

    Without --session a new one begins. SIGINT ends it in order, with status 0. Why a connection
    could not be made is said on stderr.
    """
    log_to_stderr(logging.INFO)
    if session is None and (epoch is not None or since is not None):
        raise click.UsageError("--epoch and --since are a position in a session: give --session.")
    if cafile is not None and not WsUrl.parse(url).secure:
        raise click.UsageError("--cafile is for TLS: the URL must begin with wss://.")
    try:
        config = ClientConfig(
            agent_id=agent_id,
            token=token,
            versions=VersionRange(protocol_min, protocol_max),
            client=ClientInfo(name="gatewayproto tail", version=__version__),
            handshake_timeout=handshake_timeout,
            recovery_timeout=recovery_timeout,
            backoff=Backoff(initial=backoff_initial, maximum=backoff_max),
            max_attempts=max_attempts,
        )
    except ValueError as error:
        raise click.UsageError(f"{error}.") from None
    options = TailOptions(
        url=url,
        unix=unix,
        ssl=client_context(cafile),
        config=config,
        resume=_position(session, epoch, since),
        texts=texts,
        until=until,
        duration=duration,
        record=record,
    )
    writer: Writer = JsonWriter() if as_json else PeopleWriter()
    visit = partial(_visit, load(adapter), options, writer)
    ctx.exit(anyio.run(until_told, visit, backend=adapter))


def _position(session: str | None, epoch: str | None, since: int | None) -> ResumeToken | None:
    if session is None:
        return None
    return ResumeToken(session_id=session, epoch=epoch, cursor=since or 0)


async def _visit(
    adapter: Adapter, options: TailOptions, writer: Writer, enough: anyio.Event
) -> int:
    return await _Visit(options, writer, enough).run(adapter)


class _Visit:
    """One visit: writes what the client emits until there is a reason to end."""

    def __init__(self, options: TailOptions, writer: Writer, enough: anyio.Event) -> None:
        self._options = options
        self._writer = writer
        self._enough = enough
        self._failed = False
        self._unwritten: OSError | None = None

    async def run(self, adapter: Adapter) -> int:
        """Follow the session until it is enough; the exit status.

        Raises:
            OSError: The output cannot be written.
        """
        options = self._options
        with recording_into(options.record) as recording:
            client = adapter.connect(
                options.url,
                config=options.config,
                resume=options.resume,
                on_event=self._take,
                ssl=options.ssl,
                close_timeout=_CLOSE_TIMEOUT,
                make_client=recording.client if recording else Client,
                unix_path=None if options.unix is None else str(options.unix),
            )
            async with client as session, anyio.create_task_group() as tasks:
                tasks.start_soon(self._follow, session)
                tasks.start_soon(self._send_all, session)
                with anyio.move_on_after(options.duration):
                    await self._enough.wait()
                self._enough.set()
                await session.aclose()
        if self._unwritten is not None:
            raise self._unwritten
        return 1 if self._failed else 0

    def _take(self, event: ClientEvent) -> None:
        """Write an event in its turn, and see whether it is the last that was asked for."""
        if self._unwritten is not None:
            return
        try:
            self._writer.write(event)
        except OSError as error:
            self._unwritten = error
            self._enough.set()
        match event:
            case Joined(resumed=True, resync_required=True):
                pass
            case Joined() | EventReceived() | Skipped() | SnapshotReceived():
                if self._options.until is not None and event.token.cursor >= self._options.until:
                    self._enough.set()
            case Stopped() if event.code != "disconnected" and not self._enough.is_set():
                self._failed = True
            case _:
                pass

    async def _follow(self, session: ClientSession) -> None:
        """Take what is handed on: it was written when the machine emitted it."""
        try:
            async for _ in session:
                pass
        except ClientStoppedError:
            pass
        self._enough.set()

    async def _send_all(self, session: ClientSession) -> None:
        """Give every message to the client, in order, without waiting for answers in between."""
        async with anyio.create_task_group() as sending:
            for content in self._options.texts:
                await sending.start(self._send, session, content)

    async def _send(
        self,
        session: ClientSession,
        content: str,
        *,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        task_status.started()
        try:
            await session.send(content)
        except LocalProtocolError as error:
            click.echo(f"Error: a message cannot be sent: {escape(str(error))}", err=True)
            self._failed = True
            self._enough.set()
        except (MessageRefusedError, OutcomeUnknownError, ClientStoppedError):
            pass  # it has its line
