"""Help, usage errors and versions: nothing is run."""

import re
import subprocess
import sys

import pytest

from gatewayproto import __version__
from tests.cli.cli_support import invoke, run

DEFAULTS = {
    "serve": {
        "--host": "127.0.0.1",
        "--port": "8765",
        "--unix": "(none)",
        "--adapter": "asyncio",
        "--agent-id": "demo",
        "--token": "(none)",
        "--allow-origin": "(none)",
        "--certfile": "(none)",
        "--keyfile": "(none)",
        "--trusted-proxy": "(none)",
        "--retain": "1000",
        "--retain-transient": "1000",
        "--retain-bytes": "8388608",
        "--heartbeat": "30.0",
        "--resume-window": "300.0",
        "--request-ttl": "300.0",
        "--max-payload": "1048576",
        "--strict": "(off)",
        "--frame-rate": "1000/10000",
        "--recovery-rate": "10/100",
        "--connection-rate": "200/2000",
        "--handshake-rate": "200/2000",
        "--session-rate": "100/2000",
        "--metrics-port": "(none)",
        "--metrics-host": "127.0.0.1",
        "--log-level": "warning",
        "--record": "(none)",
    },
    "tail": {
        "--adapter": "asyncio",
        "--agent-id": "demo",
        "--token": "(none)",
        "--unix": "(none)",
        "--cafile": "(none)",
        "--session": "(none)",
        "--epoch": "(none)",
        "--since": "(none)",
        "--send": "(none)",
        "--until": "(none)",
        "--for": "(none)",
        "--json": "(off)",
        "--protocol-min": "1",
        "--protocol-max": "2",
        "--backoff-initial": "1.0",
        "--backoff-max": "30.0",
        "--max-attempts": "(none)",
        "--handshake-timeout": "10.0",
        "--recovery-timeout": "10.0",
        "--record": "(none)",
    },
    "replay": {"--json": "(off)"},
    "explore": {
        "--bound": "all",
        "--states": "(unlimited)",
        "--trace": "(none)",
        "--json": "(off)",
    },
    "demo": {"--events": "5000", "--seed": "1", "--adapter": "asyncio", "--json": "(off)"},
}


@pytest.mark.parametrize("command", DEFAULTS)
def test_help_shows_every_option_with_its_default(command: str) -> None:
    result = invoke(command, "--help")
    assert result.exit_code == 0
    shown = {
        found[1]: found[2]
        for part in re.split(r"\n(?=  -)", result.output)
        if (found := re.match(r"\s*(--[a-z-]+)\s.*\[default: (\S+?)[;\]]", " ".join(part.split())))
    }
    assert shown == DEFAULTS[command]


@pytest.mark.parametrize(
    "arguments",
    [
        "serve --no-such-option",
        "serve extra",
        "serve --port 65536",
        "serve --port -1",
        "serve --port x",
        "serve --adapter threads",
        "serve --heartbeat 0",
        "serve --heartbeat -1",
        "serve --heartbeat nan",
        "serve --heartbeat inf",
        "serve --heartbeat 1e10",
        "serve --heartbeat soon",
        "serve --resume-window 0",
        "serve --request-ttl 0",
        "serve --retain -1",
        "serve --retain 1.5",
        "serve --max-payload 1023",
        "serve --token=",
        "serve --frame-rate 5",
        "serve --frame-rate 5/",
        "serve --frame-rate 0/5",
        "serve --frame-rate 5/0",
        "serve --frame-rate nan/5",
        "serve --frame-rate x/5",
        "serve --session-rate 5/1.5",
        "serve --metrics-port 65536",
        "serve --metrics-host 127.0.0.1",
        "serve --log-level loud",
        "serve --unix /",
        "serve --unix s --port 8765",
        "serve --unix s --host 127.0.0.1",
        "serve --keyfile key.pem",
        "serve --certfile /",
        "serve --trusted-proxy proxy.example",
        "serve --trusted-proxy 10.0.0.1/8",
        "serve --trusted-proxy=",
        "serve --agent-id=",
        "tail",
        "tail ws://h/ extra",
        "tail ws://h/ --unix /",
        "tail ws://h/ --cafile ca.pem",
        "tail http://h/",
        "tail ws://",
        "tail ws://user@h/",
        "tail ws://h/ --since 5",
        "tail ws://h/ --epoch e",
        "tail ws://h/ --session s --since -1",
        "tail ws://h/ --session=",
        "tail ws://h/ --session s --epoch=",
        f"tail ws://h/ --session s --epoch {'e' * 65}",
        "tail ws://h/ --session \udcff",
        "tail ws://h/ --session s --epoch \udcff",
        "tail ws://h/ --token \udcff",
        "tail ws://h/ --agent-id \udcff",
        "tail ws://h/ --send \udcff",
        "tail ws://h/\udcff",
        "tail ws://h/ --until x",
        "tail ws://h/ --for 0",
        "tail ws://h/ --protocol-min 2 --protocol-max 1",
        "tail ws://h/ --protocol-min 0",
        "tail ws://h/ --backoff-initial 2 --backoff-max 1",
        "tail ws://h/ --max-attempts 0",
        "demo --events 0",
        "demo --events many",
        "demo --seed x",
        "demo extra",
        "serve --record /",
        "tail ws://h/ --record /",
        "replay",
        "replay one two",
        "replay /",
        "no-such-command",
    ],
)
def test_wrong_usage_is_2_and_said_on_stderr(arguments: str) -> None:
    result = invoke(*arguments.split())
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Error: " in result.stderr


def test_the_version_is_the_packages() -> None:
    assert invoke("--version").output.split()[-1] == __version__


def test_the_module_is_the_command() -> None:
    status, out, err = run("--help")
    assert (status, err) == (0, "")
    assert out.startswith("Usage: gatewayproto ")
    for command in DEFAULTS:
        assert f"\n  {command} " in out


@pytest.mark.parametrize(
    ("missing", "command"), [("click", "serve"), ("anyio", "serve"), ("rich", "tail")]
)
def test_without_its_libraries_the_command_says_what_it_lacks(missing: str, command: str) -> None:
    code = (
        f"import sys; sys.modules['{missing}'] = None; "
        f"sys.argv[1:] = ['{command}', '--help']; "
        "import gatewayproto_cli; gatewayproto_cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "gatewayproto[cli]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["serve"], ["tail", "ws://h/"], ["demo"]])
def test_an_adapter_whose_framework_is_missing_is_1_and_says_so(
    monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setattr("gatewayproto_cli.adapters.find_spec", lambda _: None)
    result = invoke(*command, "--adapter", "trio")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "Error: the adapter needs trio: pip install 'gatewayproto[cli,trio]'\n"
    )


def test_metrics_without_their_library_are_2_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatewayproto_cli.serve.find_spec", lambda _: None)
    result = invoke("serve", "--metrics-port", "0")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "gatewayproto[cli,metrics]" in result.stderr


def test_no_adapter_is_imported_but_the_one_that_is_wanted() -> None:
    code = (
        "import sys, gatewayproto_cli.serve, gatewayproto_cli.tail, gatewayproto_cli.demo\n"
        "from gatewayproto_cli.adapters import load\n"
        "load('asyncio')\n"
        "late = {'trio', 'gatewayproto_trio', 'gatewayproto_asyncio', 'prometheus_client'}\n"
        "print(*sorted(late & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["gatewayproto_asyncio"]
