"""The command as a process, and in this one."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, redirect_stdout
from typing import Any, Final, Self

from click.testing import CliRunner, Result
from gatewayproto_cli.command import main

from tests.adapter.both import on_adapter

WAIT: Final = 20.0
"""Seconds that any wait may take before the test fails."""

Line = dict[str, Any]


class Process:
    """A running `gatewayproto`; whatever becomes of the test, it ends."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gatewayproto_cli", *on_adapter(*arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
            encoding="utf-8",
        )
        # A test that waits for what never comes is ended by its process's end.
        self._watchdog = threading.Timer(WAIT, self._process.kill)
        self._watchdog.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._watchdog.cancel()
        self._process.kill()
        self._process.wait(WAIT)
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()

    def line(self) -> str:
        """The next line of stdout, empty at its end."""
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def ready(self) -> str:
        """The URL that `serve` says it is ready on; from then on it may run as long as it likes."""
        word, url = self.line().split()
        assert word == "ready"
        self._watchdog.cancel()
        return url

    def until(self, emit: str) -> Line:
        """Read `tail`'s JSON lines on to one of this kind."""
        while text := self.line():
            line: Line = json.loads(text)
            if line["emit"] == emit:
                return line
        raise AssertionError(f"ended without {emit!r}: {self.end()}")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def close_stdout(self) -> None:
        """Stop reading what it writes."""
        assert self._process.stdout is not None
        self._process.stdout.close()

    def wait(self) -> tuple[int, str]:
        """Wait for its end without reading stdout: the status, and what was left of stderr."""
        assert self._process.stderr is not None
        err = self._process.stderr.read()
        return self._process.wait(WAIT), err

    def end(self) -> tuple[int, str, str]:
        """Wait for its end: the status, and what was left of stdout and stderr."""
        out, err = self._process.communicate(timeout=WAIT)
        return self._process.returncode, out, err


def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """Run the command to its end: status, stdout and stderr."""
    with Process(*arguments, **environment) as process:
        return process.end()


def tail(*arguments: str, status: int = 0, unreachable: bool = False) -> list[Line]:
    """Run `tail --json` to its end with this status: its lines.

    Nothing is on stderr but, where nobody can be reached, why that is.
    """
    code, out, err = run("tail", "--json", *arguments)
    assert (code, without_reasons(err)) == (status, []), (code, out, err)
    assert bool(err) is unreachable, err
    return [json.loads(line) for line in out.splitlines()]


def without_reasons(err: str) -> list[str]:
    """The lines of stderr that do not say why a connection could not be made."""
    return [line for line in err.splitlines() if ": could not connect: " not in line]


def of_kind(lines: Iterable[Line], *emits: str) -> list[Line]:
    """The lines of these kinds."""
    return [line for line in lines if line["emit"] in emits]


def invoke(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, on_adapter(*arguments), prog_name="gatewayproto")


@contextmanager
def capture() -> Generator[Callable[[], str], None, None]:
    """Capture stdout; what it gives tells what was written so far."""
    written = io.StringIO()
    with redirect_stdout(written):
        yield written.getvalue
