"""The mutants that no test can kill, each with its reason."""

import tomllib
from pathlib import Path
from typing import Final

CORE: Final = Path(__file__).resolve().parents[2] / "gatewayproto"
LIST: Final = Path(__file__).with_name("survivors.toml")

Key = tuple[str, str, str, str]


def explained() -> dict[Key, str]:
    """Each survivor that is explained, as module, function, lines before and after: why."""
    data = tomllib.loads(LIST.read_text())
    return {
        (entry["module"], entry["function"], entry["before"], entry["after"]): entry["reason"]
        for entry in data.get("survivor", [])
    }
