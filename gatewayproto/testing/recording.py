"""Recordings: every input of one machine with its time and what came of it, as lines of JSON.

`Recording.create(path)` makes the file; `gateway` or `client` makes the machine whose inputs it
takes. Whoever drives that machine need not know. `gatewayproto.testing.replaying` reads it.

Each line is written before `handle` returns, without a buffer: a process that dies loses no line,
or the one that was being written. (A machine that stops on its way to the disk may lose more.)

Tokens, session ids, principals, and the values of an upgrade's headers and query are not in it, but
texts of the same length in their place, the same one for the same secret. Such a secret of 16
characters or more, and any other that is named in `secrets`, is replaced in messages and events as
well, from when it is known. What else messages and events say is in it: keep it as private as them.

Spec: the verification page, "Recorded inputs".
"""

import errno
import logging
import os
import random
import secrets as secrets_module
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from attrs import define, field

from gatewayproto import __version__
from gatewayproto._ids import random_id
from gatewayproto.actions import (
    ClientAction,
    Emit,
    GatewayAction,
    Persist,
    ResumeToken,
    SessionOpened,
)
from gatewayproto.client import Client
from gatewayproto.config import ClientConfig, GatewayConfig
from gatewayproto.errors import LocalProtocolError
from gatewayproto.gateway import Gateway
from gatewayproto.inputs import ClientInput, GatewayInput, SetToken
from gatewayproto.projection import Transcript
from gatewayproto.testing._recorded import FORMAT, VERSION, Kind, Plain, Writer, line_of
from gatewayproto.testing._redaction import Redactor

_logger = logging.getLogger("gatewayproto.recording")
_KEY_BYTES: Final = 32


class Sink(Protocol):
    """Where lines go: a file without a buffer. Raises `OSError` or `ValueError`."""

    def write(self, data: bytes | memoryview, /) -> int | None:
        """Write what it can, at least a byte; gives how much that was."""
        ...

    def close(self) -> None:
        """No more comes."""
        ...


class Recording:
    """The recording of one machine, under way.

    What cannot be written (the disk is full) ends the recording, not the machine: that is logged
    as an error, and `failure` says why. The file stays as it is; a last line that is cut off does
    not count to those who read it.

    - `secrets`: what is to be in no message or event either, if it has at least 16 characters and
      is not made of small letters alone: the tokens that a server admits.
    """

    def __init__(self, sink: Sink, *, secrets: Iterable[str] = ()) -> None:
        self._sink: Sink | None = sink
        self._redactor = Redactor(secrets_module.token_bytes(_KEY_BYTES))
        for secret in secrets:
            self._redactor.learn(secret)
        self._begun = False
        self._inputs = 0
        self._failure: str | None = None

    @classmethod
    def create(cls, path: str | Path, *, secrets: Iterable[str] = ()) -> Self:
        """Record into a new file that only its owner may read.

        Raises `OSError` where it cannot be made; `FileExistsError` where there is one already: a
        recording that somebody may still need is never overwritten.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        opened = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o600)
        return cls(os.fdopen(opened, "wb", buffering=0), secrets=secrets)

    @property
    def inputs(self) -> int:
        """How many inputs are recorded."""
        return self._inputs

    @property
    def failure(self) -> str | None:
        """Why the recording ended before its time; None if it did not."""
        return self._failure

    def __enter__(self) -> Self:
        """Record until the end of the block."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Record no more. The machine can be driven on."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.close()

    # -- machines -----------------------------------------------------------------------------

    def gateway(self, config: GatewayConfig, *, ids: Callable[[], str] = random_id) -> Gateway:
        """A new gateway whose inputs are recorded.

        Raises `RuntimeError` if a machine is recorded already, or the recording is closed.
        """
        self._begin("gateway", config)
        return _RecordedGateway(config, _Log(self, Writer("gateway", self._redactor), ids))

    def client(
        self,
        config: ClientConfig,
        *,
        rng: random.Random,
        resume: ResumeToken | None = None,
        ids: Callable[[], str] = random_id,
    ) -> Client:
        """A new client whose inputs are recorded. Raises `RuntimeError` as `gateway` does."""
        if config.token is not None:
            self._redactor.learn(config.token)
        if resume is not None:
            self.learn_session(resume.session_id)
        self._begin("client", config, resume)
        log = _Log(self, Writer("client", self._redactor), ids)
        return _RecordedClient(config, log, rng=rng, resume=resume)

    def _begin(
        self, machine: Kind, config: GatewayConfig | ClientConfig, resume: ResumeToken | None = None
    ) -> None:
        if self._begun or self._sink is None:
            raise RuntimeError("a recording is of one machine, from its beginning")
        self._begun = True
        writer = Writer(machine, self._redactor)
        header: Plain = {
            "format": FORMAT,
            "version": VERSION,
            "release": __version__,
            "machine": machine,
            "config": writer.fields(config),
        }
        if isinstance(config, GatewayConfig) and config.projection is not Transcript:
            header["projection"] = _name_of(config.projection)
        if resume is not None:
            header["resume"] = writer.fields(resume)
        self._write(lambda: header)

    # -- for the machines ---------------------------------------------------------------------

    def note(self, make: Callable[[], Plain]) -> None:
        """Write the line of an input, which `make` makes."""
        if self._write(make):
            self._inputs += 1

    def learn_session(self, session_id: str) -> None:
        """A session id, in either form, is a secret wherever it occurs."""
        self._redactor.learn(session_id.partition(".")[0])

    def learn_token(self, token: object) -> None:
        """Fresh credentials are a secret wherever they occur."""
        if isinstance(token, str):
            self._redactor.learn(token)

    def id_of(self, drawn: str, *, is_session: bool) -> str:
        """What stands in the recording for an id that was drawn."""
        return (self._redactor.pseudonym if is_session else self._redactor.text)(drawn)

    def _write(self, make: Callable[[], Plain]) -> bool:
        """Write a line; whatever goes wrong ends the recording alone."""
        sink = self._sink
        if sink is None:
            return False
        try:
            rest = memoryview(line_of(make()))
            while rest:
                written = sink.write(rest)
                if not written:
                    raise BlockingIOError(errno.EAGAIN, "nothing was written")
                rest = rest[written:]
        except Exception as error:  # noqa: BLE001 -- nothing of a recording may end a server
            self._fail(sink, error)
            return False
        return True

    def _fail(self, sink: Sink, error: Exception) -> None:
        self._sink = None
        self._failure = _why(error)
        _logger.error("the recording ends here: %s", self._failure)
        try:
            sink.close()
        except OSError as problem:
            _logger.debug("could not close: %s", problem)


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return f"{type(error).__name__}: {error}"


def _name_of(projection: Callable[[], Any]) -> str:
    """Where a projection is, for people: a replay is given it, and imports nothing by name."""
    module = getattr(projection, "__module__", None)
    name = getattr(projection, "__qualname__", type(projection).__qualname__)
    return f"{module}:{name}"


# -- machines that are recorded ---------------------------------------------------------------


@define(eq=False)
class _Log:
    """What one machine draws, and the lines about it."""

    recording: Recording
    writer: Writer
    source: Callable[[], str]
    ids: list[str] = field(factory=list)
    random: list[float] = field(factory=list)

    def draw_id(self) -> str:
        drawn = self.source()
        self.ids.append(drawn)
        return drawn

    def note(
        self,
        now: float,
        input_: GatewayInput | ClientInput,
        actions: Iterable[GatewayAction | ClientAction],
        deadline: float | None,
        raised: Exception | None = None,
    ) -> None:
        """Write what came of an input."""
        ids, self.ids = self.ids, []
        numbers, self.random = self.random, []

        def make() -> Plain:
            opened = self._learn(input_, actions)
            line: Plain = {"now": now, "input": self._input(input_, raised)}
            if ids:
                line["ids"] = [self._id(each, opened) for each in ids]
            if numbers:
                line["random"] = numbers
            line["actions"] = [self.writer.action(action) for action in actions]
            line["deadline"] = deadline
            if raised is not None:
                line["raised"] = type(raised).__name__
            return line

        self.recording.note(make)

    def _learn(
        self,
        input_: GatewayInput | ClientInput,
        actions: Iterable[GatewayAction | ClientAction],
    ) -> set[str]:
        """Learn the secrets of a step; gives the sessions that began."""
        if isinstance(input_, SetToken):
            self.recording.learn_token(input_.token)
        opened: set[str] = set()
        for action in actions:
            session_id: str | None = None
            match action:
                case Emit(event=SessionOpened(session_id=session_id)):
                    pass
                case Persist(session_id=session_id, record={"kind": "opened"}):
                    pass  # the application is told of it later
                case _:
                    continue
            opened.add(session_id)
            self.recording.learn_session(session_id)
        return opened

    def _id(self, drawn: str, opened: set[str]) -> str:
        return self.recording.id_of(drawn, is_session=drawn in opened)

    def _input(self, input_: GatewayInput | ClientInput, raised: Exception | None) -> Plain:
        try:
            plain = self.writer.input(input_)
            line_of(plain)
        except (TypeError, ValueError, RecursionError, AttributeError):
            if not isinstance(raised, LocalProtocolError):
                raise
            # The caller's mistake, and nothing has changed: there is nothing to be given again.
            return {type(input_).__name__: None}
        return plain


class _RecordedGateway(Gateway):
    def __init__(self, config: GatewayConfig, log: _Log) -> None:
        super().__init__(config, ids=log.draw_id)
        self._log = log

    def handle(self, input_: GatewayInput, *, now: float) -> tuple[GatewayAction, ...]:
        try:
            actions = super().handle(input_, now=now)
        except Exception as error:
            self._log.note(now, input_, (), self.next_deadline, error)
            raise
        self._log.note(now, input_, actions, self.next_deadline)
        return actions


class _RecordedClient(Client):
    def __init__(
        self, config: ClientConfig, log: _Log, *, rng: random.Random, resume: ResumeToken | None
    ) -> None:
        super().__init__(config, rng=_Noted(rng, log), resume=resume, ids=log.draw_id)
        self._log = log

    def handle(self, input_: ClientInput, *, now: float) -> tuple[ClientAction, ...]:
        try:
            actions = super().handle(input_, now=now)
        except Exception as error:
            self._log.note(now, input_, (), self.next_deadline, error)
            raise
        self._log.note(now, input_, actions, self.next_deadline)
        return actions


class _Noted(random.Random):
    """A source of random numbers that notes what it gives."""

    def __init__(self, source: random.Random, log: _Log) -> None:
        super().__init__(0)
        self._source = source
        self._log = log

    def random(self) -> float:
        number = self._source.random()
        self._log.random.append(number)
        return number
