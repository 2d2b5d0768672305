"""`gatewayproto tail`: follow one session and tell what happens."""

import asyncio
import contextlib
from pathlib import Path
from typing import Final

import click
from attrs import field, frozen
from gatewayproto_asyncio import (
    ClientSession,
    ClientStoppedError,
    MessageRefusedError,
    OutcomeUnknownError,
    connect,
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
from gatewayproto_cli.signals import on_end
from gatewayproto_cli.text import escape

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
    adapter: str,  # noqa: ARG001 - there is one so far
    url: str,
    agent_id: str,
    token: str | None,
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

    Without --session a new one begins. SIGINT ends it in order, with status 0.
    """
    log_to_stderr()
    if session is None and (epoch is not None or since is not None):
        raise click.UsageError("--epoch and --since are a position in a session: give --session.")
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
        config=config,
        resume=_position(session, epoch, since),
        texts=texts,
        until=until,
        duration=duration,
        record=record,
    )
    writer: Writer = JsonWriter() if as_json else PeopleWriter()
    ctx.exit(asyncio.run(_Tail(options, writer).run()))


def _position(session: str | None, epoch: str | None, since: int | None) -> ResumeToken | None:
    if session is None:
        return None
    return ResumeToken(session_id=session, epoch=epoch, cursor=since or 0)


class _Tail:
    """One visit: writes what the client emits until there is a reason to end."""

    def __init__(self, options: TailOptions, writer: Writer) -> None:
        self._options = options
        self._writer = writer
        self._enough = asyncio.Event()
        self._failed = False

    async def run(self) -> int:
        """Follow the session; the exit status."""
        on_end(self._enough.set)
        options = self._options
        with recording_into(options.record) as recording:
            client = connect(
                options.url,
                config=options.config,
                resume=options.resume,
                on_event=self._take,
                close_timeout=_CLOSE_TIMEOUT,
                make_client=recording.client if recording else Client,
            )
            await self._visit(client)
        return 1 if self._failed else 0

    async def _visit(self, client: ClientSession) -> None:
        options = self._options
        async with client:
            following = asyncio.create_task(self._follow(client))
            # Each gives its message to the client when it first runs, which is in this order.
            sending = [asyncio.create_task(self._send(client, text)) for text in options.texts]
            enough = asyncio.create_task(self._enough.wait())
            await asyncio.wait(
                [following, enough], timeout=options.duration, return_when=asyncio.FIRST_COMPLETED
            )
            enough.cancel()
            await client.aclose()
            await _all(following, *sending)

    def _take(self, event: ClientEvent) -> None:
        """Write an event in its turn, and see whether it is the last that was asked for."""
        self._writer.write(event)
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

    async def _follow(self, client: ClientSession) -> None:
        """Take what is handed on: it was written when the machine emitted it."""
        with contextlib.suppress(ClientStoppedError):
            async for _ in client:
                pass

    async def _send(self, client: ClientSession, text: str) -> None:
        try:
            await client.send(text)
        except LocalProtocolError as error:
            click.echo(f"Error: a message cannot be sent: {escape(str(error))}", err=True)
            self._failed = True
            self._enough.set()
        except (MessageRefusedError, OutcomeUnknownError, ClientStoppedError):
            pass  # it has its line


async def _all(*tasks: "asyncio.Task[None]") -> None:
    """Wait for all tasks; raises what the first of them raised."""
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if result is not None:
            raise result
