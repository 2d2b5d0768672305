"""The command `gatewayproto` as a process: its lines, its end, and a deadline on both."""

import json
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import IO, Any, Final, Self

from tests.adapter.both import on_adapter
from tests.blackbox.bbwire import OPEN, WAIT, Frame, brief, same

COMMAND: Final = [sys.executable, "-m", "gatewayproto_cli"]
START: Final = 40.0
"""Seconds that a process may take to start on a machine with other work."""


class Lines:
    """A process's output, line by line, with a deadline on every wait."""

    def __init__(self, stream: IO[str]) -> None:
        """Read the stream in a thread, so that waiting for it can end."""
        self._queue: queue.Queue[str | None] = queue.Queue()
        self.seen: list[str] = []
        self.ended = False
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def next(self, timeout: float = WAIT) -> str | None:
        """Wait for the next line; `None` once the output has ended."""
        if self.ended:
            return None
        try:
            line = self._queue.get(timeout=max(0.0, timeout))
        except queue.Empty:
            msg = f"no line within {timeout:.1f} s; so far: {brief(self.seen[-8:])}"
            raise AssertionError(msg) from None
        if line is None:
            self.ended = True
            self._thread.join()
        else:
            self.seen.append(line)
        return line

    def rest(self, timeout: float = WAIT) -> list[str]:
        """All that is left, to the end of the output."""
        deadline = time.monotonic() + timeout
        lines: list[str] = []
        while (line := self.next(deadline - time.monotonic())) is not None:
            lines.append(line)
        return lines


class Command:
    """Any other subcommand of `gatewayproto`, and its lines."""

    def __init__(self, *arguments: str) -> None:
        """Start it."""
        self.stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed with the test
        self.process = subprocess.Popen(
            [*COMMAND, *on_adapter(*arguments)],
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        self.lines = Lines(self.process.stdout)
        OPEN.append(self)

    def __enter__(self) -> Self:
        """Nothing to do; it runs."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it, whatever state it is in."""
        self.process.kill()
        self.process.wait(WAIT)
        self.lines.rest()
        self.stderr.close()

    def errors(self) -> str:
        """What it has written to stderr."""
        self.stderr.seek(0)
        return self.stderr.read()

    def ended(self, status: int, timeout: float = START) -> list[str]:
        """Wait for its end with this status and no traceback; all its lines."""
        try:
            got = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            msg = f"it still runs; lines: {brief(self.lines.seen[-8:])}; {self.errors()}"
            raise AssertionError(msg) from None
        self.lines.rest()
        errors = self.errors()
        assert got == status, f"status {got}: {errors}; lines: {brief(self.lines.seen[-8:])}"
        assert "Traceback" not in errors, errors
        return self.lines.seen


class Tail(Command):
    """`gatewayproto tail --json` against a server that the check plays."""

    def __init__(self, url: str, *options: str, backoff: tuple[float, float] = (0.02, 0.1)) -> None:
        """Start it, with short delays between its attempts unless told otherwise."""
        delays = ("--backoff-initial", str(backoff[0]), "--backoff-max", str(backoff[1]))
        super().__init__("tail", url, "--json", *delays, *options)
        self.emitted: list[Frame] = []

    def next_line(self, timeout: float = WAIT) -> Frame:
        """The next line, which must be a JSON object with `emit`."""
        line = self.lines.next(timeout)
        assert line is not None, f"it ended: {self.errors()}; lines: {brief(self.lines.seen[-8:])}"
        value = json.loads(line)
        assert isinstance(value, dict), line
        assert isinstance(value.get("emit"), str), line
        self.emitted.append(value)
        return value

    def until(self, emit: str, timeout: float = WAIT, **fields: Any) -> Frame:
        """Read on to the first line of this kind with these fields."""
        deadline = time.monotonic() + timeout
        while True:
            line = self.next_line(deadline - time.monotonic())
            if line["emit"] == emit and all(
                same(line.get(name), value) for name, value in fields.items()
            ):
                return line

    def finished(self, status: int, timeout: float = START) -> list[Frame]:
        """Wait for its end with this status; all its lines."""
        return [json.loads(line) for line in self.ended(status, timeout)]

    def interrupt(self) -> None:
        """What a person at the terminal does to end it."""
        self.process.send_signal(signal.SIGINT)
