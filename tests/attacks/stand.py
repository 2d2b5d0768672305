"""A server to attack and its witness: two processes, and what can be measured of them."""

import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import trustme
from attrs import frozen

from tests.attacks.limits import PROFILES
from tests.blackbox.bbcommand import START, Lines
from tests.blackbox.bbwire import WAIT

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_END: Final = 60.0
MOST_LINES: Final = 50
_ROOT: Final = Path(__file__).parents[2]


@frozen(kw_only=True)
class Account:
    """What a witness says of the time since it was last asked; see `witness.Account`."""

    events: int
    wrong: int
    covered: int
    connections: int
    worst: float

    def and_then(self, later: "Account") -> "Account":
        """This time and the time after it."""
        return Account(
            events=self.events + later.events,
            wrong=self.wrong + later.wrong,
            covered=self.covered + later.covered,
            connections=self.connections + later.connections,
            worst=max(self.worst, later.worst),
        )


class Process:
    """A process of ours, its lines, and its figures in /proc."""

    def __init__(self, module: str, *arguments: str) -> None:
        """Start `python -m module`."""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self._popen = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=_ROOT,
        )
        assert self._popen.stdout is not None
        self.lines = Lines(self._popen.stdout)
        self._proc = Path(f"/proc/{self._popen.pid}")

    def ask(self) -> str:
        """Have it answer a line with a line."""
        assert self._popen.stdin is not None
        self._popen.stdin.write("\n")
        self._popen.stdin.flush()
        line = self.lines.next()
        assert line is not None, f"it ended: {self.errors().decode()}"
        return line

    def alive(self) -> bool:
        """Whether it runs."""
        return self._popen.poll() is None

    def errors(self) -> bytes:
        """All that it wrote to stderr."""
        return os.pread(self._errors.fileno(), 1 << 30, 0)

    def rss(self) -> int:
        """Resident bytes."""
        return self._status("VmRSS")

    def forget_peak(self) -> None:
        """Have `peak` begin anew."""
        (self._proc / "clear_refs").write_text("5")

    def peak(self) -> int:
        """The most resident bytes that there were since `forget_peak`."""
        return self._status("VmHWM")

    def descriptors(self) -> int:
        """Open files and sockets."""
        return len(os.listdir(self._proc / "fd"))  # noqa: PTH208 - names alone, and fast

    def seconds(self) -> float:
        """Processor time that it took, in seconds."""
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def terminate(self) -> int:
        """Tell it to end, and return its status; it is killed where it does not."""
        self._popen.terminate()
        try:
            return self._popen.wait(_END)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """End it, whatever its state."""
        self._popen.kill()
        return self._popen.wait(WAIT)

    def end(self) -> None:
        """Kill it where it still runs, and let go of its files."""
        self.kill()
        self.lines.rest()
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        self._errors.close()

    def _status(self, name: str) -> int:
        match = re.search(rf"{name}:\s+(\d+) kB", (self._proc / "status").read_text())
        assert match is not None
        return int(match[1]) * 1024


class Stand:
    """One server under attack, and the healthy client that follows a stream on it meanwhile."""

    def __init__(self, adapter: str, profile: str = "standard") -> None:
        """Start both."""
        self.adapter = adapter
        self.profile = PROFILES[profile]
        self.mark = f"log-{secrets.token_hex(8)}"
        self._files = tempfile.TemporaryDirectory()
        certificate: list[str] = []
        authority: list[str] = []
        if self.profile.tls:
            certificate, authority = _certified(Path(self._files.name))
        self.server = Process("tests.attacks.target", adapter, profile, self.mark, *certificate)
        try:
            ready = re.fullmatch(r"ready ([0-9]+)", self.server.lines.next(START) or "")
            assert ready is not None, self.server.errors().decode(errors="replace")
            self.port = int(ready[1])
            url = f"{'wss' if self.profile.tls else 'ws'}://127.0.0.1:{self.port}/ws"
            self.witness = Process("tests.attacks.witness", url, *authority)
        except BaseException:
            self.server.end()
            raise
        self._read = 0
        deadline = time.monotonic() + START
        while self.account().events == 0:
            assert time.monotonic() < deadline, self.witness.errors().decode(errors="replace")
            time.sleep(0.05)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill both processes."""
        self.witness.end()
        self.server.end()
        self._files.cleanup()

    def account(self) -> Account:
        """What the witness was given since the last time."""
        said: dict[str, Any] = json.loads(self.witness.ask())
        return Account(**said)

    def followed(self, timeout: float) -> Account:
        """The same, but not before there is an event, or the time is up."""
        account, deadline = self.account(), time.monotonic() + timeout
        while account.events == 0 and time.monotonic() < deadline:
            time.sleep(0.02)
            account = account.and_then(self.account())
        return account

    def new_log(self) -> bytes:
        """What the server logged since the last time."""
        log = self.server.errors()
        new, self._read = log[self._read :], len(log)
        return new

    def stop(self) -> list[str]:
        """End the server in order; what was wrong with that."""
        status = self.server.terminate()
        wrong = [] if status == 0 else [f"the server ended with status {status}"]
        return wrong + faults_of(self.new_log(), self.mark)


def _certified(folder: Path) -> tuple[list[str], list[str]]:
    """A certificate for the loopback, and its authority's, as files."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    own, ca = folder / "own.pem", folder / "ca.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(own)
    authority.cert_pem.write_to_path(ca)
    return [str(own)], [str(ca)]


def faults_of(
    log: bytes,
    mark: str,
    *,
    allowed: str = "",
    secrets_: tuple[str, ...] = (),
    most: int = MOST_LINES,
) -> list[str]:
    """What is wrong with a log: each line must be one whole record, printable, without secrets.

    Nothing that a peer does is worth a warning; `allowed` is a pattern for records that are. And
    nothing that it does fills a disk: `most` bounds the lines of all but `DEBUG`.
    """
    faults: list[str] = []
    if log.count(b"\n") - log.count(f"{mark} DEBUG ".encode()) > most:
        faults.append(f"over {most} lines in the log")
    try:
        text = log.decode()
    except UnicodeDecodeError:
        return ["the log is no UTF-8"]
    for line in text.split("\n")[:-1]:
        record = re.fullmatch(rf"{mark} (DEBUG|INFO|WARNING|ERROR|CRITICAL|TRACE) (.*)", line)
        if record is None or not line.isprintable():
            faults.append(f"no record of its own in the log: {line[:300]!a}")
        elif any(secret in line for secret in secrets_):
            faults.append(f"a secret in the log: {line[:300]!a}")
        elif record[1] not in ("DEBUG", "INFO") and not (allowed and re.match(allowed, record[2])):
            faults.append(f"a record that was not called for: {line[:300]!a}")
    if text and not text.endswith("\n"):
        faults.append("the log ends within a record")
    return faults
