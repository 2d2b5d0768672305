"""`--record` of the real commands, under cuts, and `replay` of what they wrote."""

import asyncio
import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from tests.asyncio_adapter.aio_support import WAIT, FaultProxy, until
from tests.cli.cli_support import Process, invoke, of_kind, run

TOKEN = "hunter2-of-the-operator"
CUTS = 4


@frozen
class Visit:
    """What was recorded of one visit under cuts, and what is in none of it."""

    serve: Path
    tail: Path
    session_id: str
    lines: list[dict[str, Any]]


async def _visit(port: int, log: Path) -> list[dict[str, Any]]:
    """A `tail` whose connections are cut in mid-stream: its lines."""
    async with FaultProxy(port) as proxy:
        arguments = (
            *("tail", proxy.url, "--json", "--token", TOKEN, "--record", str(log)),
            *("--send", "tokens 300 2", "--send", f"it is {TOKEN}", "--send", "burst 20"),
            *("--until", "322", "--backoff-initial", "0.02", "--backoff-max", "0.05"),
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gatewayproto_cli", *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        reading = asyncio.create_task(process.communicate())
        for cuts in range(CUTS):
            await _reconnected(proxy, cuts, reading)
            proxy.cut_after(6000)
        async with asyncio.timeout(WAIT):
            out, err = await reading
    assert (process.returncode, err) == (0, b"")
    return [json.loads(line) for line in out.splitlines()]


async def _reconnected(proxy: FaultProxy, cuts: int, reading: "asyncio.Task[Any]") -> None:
    """Wait for the connection after so many cuts, or for the end."""
    await until(lambda: proxy.opened > cuts or reading.done())


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Visit:
    """One gateway and one client, both recorded, and the connections between them cut."""
    folder = tmp_path_factory.mktemp("records")
    serve, tail = folder / "serve.log", folder / "tail.log"
    options = ("--port", "0", "--token", TOKEN, "--retain-transient", "50")
    with Process("serve", *options, "--record", str(serve)) as server:
        port = int(server.ready().split(":")[2].removesuffix("/ws"))
        lines = asyncio.run(_visit(port, tail))
    # The server is killed, not asked to end: what it recorded is there all the same.
    joined = of_kind(lines, "joined")
    return Visit(serve, tail, joined[0]["session_id"], lines)


def replay_json(path: Path, status: int = 0) -> dict[str, Any]:
    result = invoke("replay", str(path), "--json")
    assert (result.exit_code, result.stderr) == (status, ""), result.output
    (line,) = result.stdout.splitlines()
    fields: dict[str, Any] = json.loads(line)
    return fields


def test_both_ends_of_a_visit_under_cuts_replay_to_the_same(visit: Visit) -> None:
    assert len(of_kind(visit.lines, "joined")) == CUTS + 1
    assert len(of_kind(visit.lines, "retry")) >= CUTS
    for path, machine in ((visit.serve, "gateway"), (visit.tail, "client")):
        told = replay_json(path)
        assert (told["machine"], told["same"], told["difference"]) == (machine, True, None)
        assert told["broken"] is None
        assert told["inputs"] == len(path.read_bytes().splitlines()) - 1 > 300
        assert (told["left_out"], told["cut_off"]) == (0, False)
        assert told["seconds"] > 0
    assert replay_json(visit.serve)["witnessed"]


def test_timers_are_recorded_as_well(visit: Visit) -> None:
    assert b'"TimerExpired"' in visit.tail.read_bytes()


def test_no_secret_is_in_a_recording_and_nobody_else_may_read_it(visit: Visit) -> None:
    for path in (visit.serve, visit.tail):
        log = path.read_text(encoding="ascii")
        assert TOKEN not in log
        assert visit.session_id not in log
        assert "it is " in log
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_same_is_told_to_people(visit: Visit) -> None:
    result = invoke("replay", str(visit.serve))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "a gateway, recorded with release " in result.stdout
    assert " s: the same actions\n" in result.stdout
    assert result.stdout.endswith("no property was broken\n")


def test_a_changed_line_is_found_and_named(visit: Visit, tmp_path: Path) -> None:
    lines = visit.tail.read_text(encoding="ascii").splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if '"EventReceived":{"seq":7,' in line)
    lines[at] = lines[at].replace('"EventReceived":{"seq":7,', '"EventReceived":{"seq":8,')
    changed = tmp_path / "changed.log"
    changed.write_text("".join(lines), encoding="ascii")
    told = replay_json(changed, status=1)
    difference = told["difference"]
    assert (told["same"], difference["line"]) == (False, at + 1)
    assert (difference["input"], difference["aspect"]) == ("FrameReceived", "actions")
    where = difference["at"]
    assert difference["expected"][where]["Emit"]["EventReceived"]["seq"] == 8
    assert difference["got"][where]["Emit"]["EventReceived"]["seq"] == 7

    result = invoke("replay", str(changed))
    assert (result.exit_code, result.stderr) == (1, "")
    assert "not the same actions" in result.stdout
    assert f"line {at + 1}, FrameReceived: action {where + 1} differs" in result.stdout
    assert "  expected  " in result.stdout
    assert "< FrameReceived" in result.stdout  # the steps that led there
    assert result.stdout.isascii() or result.stdout.replace("…", "").isascii()


def test_a_line_that_is_none_is_named(visit: Visit, tmp_path: Path) -> None:
    lines = visit.serve.read_bytes().splitlines(keepends=True)
    broken = tmp_path / "broken\x1b.log"
    broken.write_bytes(b"".join([*lines[:4], b'{"now":\xff}\n', *lines[5:]]))
    result = invoke("replay", str(broken))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith("broken\\x1b.log, line 5: it is no JSON\n")
    assert result.stderr.startswith("Error: ")


def test_a_log_that_is_cut_off_is_replayed_as_far_as_it_goes(visit: Visit, tmp_path: Path) -> None:
    cut = tmp_path / "cut.log"
    cut.write_bytes(visit.serve.read_bytes()[:-10])
    told = replay_json(cut)
    assert (told["same"], told["cut_off"]) == (True, True)
    assert "the last line is cut off" in invoke("replay", str(cut)).stdout


def test_a_file_that_cannot_be_read_is_1(tmp_path: Path) -> None:
    path = tmp_path / "none"
    result = invoke("replay", str(path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: cannot read {path}: No such file or directory\n"
    for arguments in ((), (str(tmp_path),), ("a", "b")):
        assert invoke("replay", *arguments).exit_code == 2


@pytest.mark.parametrize("command", [("serve", "--port", "0"), ("tail", "ws://127.0.0.1:1/ws")])
def test_a_recording_is_never_overwritten(command: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("somebody's")
    status, out, err = run(*command, "--record", str(path))
    assert (status, out) == (1, "")
    assert err == f"Error: cannot record into {path}: File exists\n"
    assert path.read_text() == "somebody's"
    status, _, err = run(*command, "--record", str(tmp_path / "no" / "log"))
    assert (status, err.endswith("No such file or directory\n")) == (1, True)


def test_a_server_that_cannot_listen_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert run("serve", "--host", "no.such.host.invalid", "--record", str(path))[0] == 1
    assert not path.exists()


def test_a_full_disk_ends_the_recording_not_the_visit(served: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "import gatewayproto_cli; gatewayproto_cli.main()"
    )
    arguments = ("tail", served, "--json", "--send", "burst 50", "--until", "50")
    done = subprocess.run(
        [sys.executable, "-c", limited, *arguments, "--record", str(path)],
        capture_output=True,
        check=False,
        text=True,
        timeout=WAIT,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["seq"] for line in of_kind(lines, "event")] == list(range(1, 51))
    assert done.returncode == 1
    first, last = done.stderr.splitlines()
    assert first.endswith("ERROR gatewayproto.recording: the recording ends here: File too large")
    assert last == f"Error: the recording in {path} is not whole: File too large"
    assert path.stat().st_size <= 4096
    told = replay_json(path)
    assert (told["same"], told["inputs"] > 0) == (True, True)
