"""The server's process of a soak: `python -m tests.soak.server SETTING LOG`.

Prints `ready PORT`, and at SIGTERM its counts as a line of JSON.
"""

import importlib
import json
import signal
import sys
from pathlib import Path

import anyio

from tests.soak.agent import Agent
from tests.soak.memory import collect_regularly
from tests.soak.record import Log
from tests.soak.setting import Setting, gateway_config


async def _serve(setting: Setting, log: Log) -> None:
    adapter = importlib.import_module(f"gatewayproto_{setting.adapter}")
    agent = Agent(log)
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with anyio.create_task_group() as group:
            group.start_soon(collect_regularly)
            async with adapter.serve(agent, port=0, config=gateway_config(setting)) as server:
                _say(f"ready {server.port}")
                async for _ in signals:
                    break
            group.cancel_scope.cancel()
    _say(json.dumps({**agent.counts, "sessions left": agent.sessions}))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Serve until a signal comes."""
    setting = Setting.of(json.loads(sys.argv[1]))
    with Log(Path(sys.argv[2])) as log:
        anyio.run(_serve, setting, log, backend=setting.adapter)


if __name__ == "__main__":
    main()
