"""The command itself: its end by a signal, its usage, its output."""

import re
import signal
import subprocess

import pytest

from tests.blackbox.bbcommand import COMMAND, START, Command
from tests.blackbox.bbserve import Gateway, v1
from tests.blackbox.bbwire import Frame, open_socket


def check_sent_away(frame: Frame) -> None:
    assert set(frame) == {"type", "reason", "after_ms", "spread_ms"}
    assert isinstance(frame["reason"], str)
    assert 0 < frame["after_ms"] <= 5000
    assert 0 < frame["spread_ms"] <= 5000


SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@pytest.mark.on_trio
@SIGNALS
def test_a_signal_ends_it_with_0_whoever_is_connected(adapter: str, number: signal.Signals) -> None:
    running = Gateway(adapter=adapter)
    two = running.attach()
    one = running.attach(v1("hello"))
    three = running.attach(v1("join"))
    two.until_type("caught_up")
    busy = running.attach()
    busy.ask("sleep 60 never")
    busy.until_type("message_ack")
    streaming = running.attach()
    streaming.ask("tokens 100000 50")
    streaming.until_seq(2)
    stalled = running.attach(rcvbuf=4096)
    stalled.ask("tokens 100000 1")
    stalled.until_seq(5)
    silent = running.connect()
    half = open_socket(running.host, running.port)
    with half:
        half.sendall(b"GET /ws HTTP/1.1\r\n")
        running.stop(number)
    assert one.peer.drain() == 1012
    assert three.peer.drain() == 1012
    for told in (two, busy):
        check_sent_away(told.until_type("going_away"))
        assert told.peer.drain() == 4000
    check_sent_away(streaming.until_type("going_away"))
    assert streaming.until_type("event")["seq"]  # all goes on until they leave
    assert streaming.peer.drain() == 4000
    assert silent.recv()["code"] == "going_away"
    assert silent.drain() == 4000
    stalled.peer.drain()


def test_it_ends_as_soon_as_the_last_client_has_left(adapter: str) -> None:
    running = Gateway(adapter=adapter)
    one, two = running.attach(), running.attach()
    running.process.send_signal(signal.SIGTERM)
    one.until_type("going_away")
    two.until_type("going_away")
    # What is sent before the leave is taken, and told of.
    request = one.ask("hello")
    one.until_type("message_ack", request_id=request)
    for follower in (one, two):
        follower.peer.send({"type": "leave"})
        assert follower.peer.drain() == 1000
    assert running.process.wait(1.5) == 0  # the time that they had is longer
    running.kill()


@pytest.mark.on_trio
def test_a_second_signal_ends_it_at_once(adapter: str) -> None:
    running = Gateway(adapter=adapter)
    follower = running.attach()
    follower.ask("sleep 60 never")
    running.process.send_signal(signal.SIGTERM)
    follower.until_type("going_away")
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(1.5) == 0
    assert running.errors() == ""
    running.kill()


@SIGNALS
def test_a_signal_ends_an_idle_one_with_0(adapter: str, number: signal.Signals) -> None:
    Gateway(adapter=adapter).stop(number)


def test_the_port_is_free_again_after_the_end(adapter: str) -> None:
    running = Gateway(adapter=adapter)
    running.attach(v1())
    port = running.port
    running.stop()
    again = Gateway("--port", str(port), adapter=adapter)
    assert again.port == port
    again.stop()


def test_a_port_that_is_taken_is_a_failure_with_its_reason(gateway: Gateway) -> None:
    command = Command("serve", "--port", str(gateway.port))
    assert command.ended(1) == []
    assert str(gateway.port) in command.errors() or "in use" in command.errors()


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--no-such-option"],
        ["serve", "--port", "x"],
        ["serve", "--port", "70000"],
        ["serve", "--port", "-1"],
        ["serve", "--adapter", "threads"],
        ["serve", "--heartbeat", "soon"],
        ["serve", "--heartbeat", "0"],
        ["serve", "--heartbeat", "nan"],
        ["serve", "--max-payload", "-5"],
        ["serve", "extra"],
        ["tail"],
        ["tail", "ws://127.0.0.1:1/ws", "--since", "x"],
        ["tail", "ws://127.0.0.1:1/ws", "--since", "-1"],
        ["tail", "ws://127.0.0.1:1/ws", "--adapter", "threads"],
        ["tail", "http://127.0.0.1:1/ws"],
        ["tail", "no url at all"],
        ["no-such-command"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2(arguments: list[str]) -> None:
    command = Command(*arguments)
    assert command.ended(2) == []
    assert command.errors().strip()


SERVE_DEFAULTS = {
    "--host": "127.0.0.1",
    "--port": "8765",
    "--adapter": "asyncio",
    "--agent-id": "demo",
    "--token": "",
    "--allow-origin": "",
    "--retain": "1000",
    "--retain-transient": "1000",
    "--retain-bytes": "8",
    "--heartbeat": "30",
    "--resume-window": "300",
    "--request-ttl": "300",
    "--max-payload": "1048576",
    "--strict": "",
}
TAIL_DEFAULTS = {
    "--adapter": "asyncio",
    "--agent-id": "demo",
    "--token": "",
    "--session": "",
    "--epoch": "",
    "--since": "",
    "--send": "",
    "--until": "",
    "--for": "",
    "--json": "",
    "--protocol-min": "1",
    "--protocol-max": "2",
    "--backoff-initial": "1",
    "--backoff-max": "30",
    "--max-attempts": "",
    "--handshake-timeout": "10",
    "--recovery-timeout": "10",
}


@pytest.mark.parametrize(
    ("command", "options"), [("serve", SERVE_DEFAULTS), ("tail", TAIL_DEFAULTS)]
)
def test_help_shows_every_option_with_its_default(command: str, options: dict[str, str]) -> None:
    result = subprocess.run(
        [*COMMAND, command, "--help"], capture_output=True, text=True, timeout=START, check=True
    )
    parts = re.split(r"(?=^\s{0,4}--)", result.stdout, flags=re.MULTILINE)
    for option, default in options.items():
        mine = [part for part in parts if re.match(rf"\s*(-\w, )?{option}\b(?!-)", part)]
        assert mine, f"{option} is not shown:\n{result.stdout}"
        assert default in mine[0], f"{option} without its default {default}:\n{mine[0]}"


def test_the_command_is_installed_by_its_name() -> None:
    result = subprocess.run(
        [*COMMAND, "--help"], capture_output=True, text=True, timeout=START, check=True
    )
    assert "serve" in result.stdout
    assert "tail" in result.stdout
