"""The core does no I/O, knows no time and draws no randomness: what it may import, and call."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gatewayproto

CORE = Path(gatewayproto.__file__).parent

# All that a pure machine has needed so far. A module is added here on purpose, or not at all.
PURE = frozenset({
    "__future__", "abc", "attrs", "base64", "bisect", "collections", "contextlib", "copy", "enum",
    "functools", "gatewayproto", "hashlib", "heapq", "itertools", "json", "math", "msgspec",
    "operator", "re", "string", "types", "typing", "unicodedata",
})  # fmt: skip
# Ids, epochs and nonces come from here where the caller injects no source of them.
PURE_BUT_FOR = {"_ids.py": frozenset({"secrets"})}
IMPURE_CALLS = frozenset({
    "__import__", "breakpoint", "eval", "exec", "hash", "id", "input", "open", "print",
})  # fmt: skip
# What importing the core must not bring in, whatever its dependencies do later.
HEAVY = frozenset({
    "asyncio", "click", "logging", "rich", "selectors", "socket", "ssl", "subprocess", "trio",
    "wsproto",
})  # fmt: skip


def core_files() -> list[Path]:
    """The modules of the core; the toolkit in `testing` stands outside of the machines."""
    return sorted(
        path for path in CORE.rglob("*.py") if path.relative_to(CORE).parts[0] != "testing"
    )


def is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def executed(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below `node`, but for what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and is_type_checking(child.test):
            for otherwise in child.orelse:
                yield otherwise
                yield from executed(otherwise)
            continue
        yield child
        yield from executed(child)


def impurities(source: str, allowed: frozenset[str]) -> list[str]:
    found: list[str] = []
    for node in executed(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                modules = [alias.name.partition(".")[0] for alias in names]
                found += [f"import {name}" for name in modules if name not in allowed]
            case ast.ImportFrom(module=module, level=0) if module is not None:
                name = module.partition(".")[0]
                found += [f"import {name}"] if name not in allowed else []
            case ast.ImportFrom():
                found.append("relative import")
            case ast.Call(func=ast.Name(id=name)) if name in IMPURE_CALLS:
                found.append(f"call {name}")
            case _:
                pass
    return found


@pytest.mark.parametrize("path", core_files(), ids=lambda path: str(path.relative_to(CORE)))
def test_core_module_imports_and_calls_nothing_impure(path: Path) -> None:
    allowed = PURE | PURE_BUT_FOR.get(str(path.relative_to(CORE)), frozenset())
    assert impurities(path.read_text(encoding="utf-8"), allowed) == []


def test_core_files_are_found() -> None:
    assert {"__init__.py", "codec.py", "frames.py"} <= {path.name for path in core_files()}


@pytest.mark.parametrize(
    ("source", "finding"),
    [
        ("import asyncio", "import asyncio"),
        ("import attrs, os.path", "import os"),
        ("from time import monotonic", "import time"),
        ("def f():\n    import socket", "import socket"),
        ("try:\n    import ssl\nexcept ImportError:\n    pass", "import ssl"),
        ("if TYPE_CHECKING:\n    pass\nelse:\n    import random", "import random"),
        ("from . import frames", "relative import"),
        ("__import__('os')", "call __import__"),
        ("x = lambda: open('y')", "call open"),
    ],
)
def test_every_way_to_impurity_is_seen(source: str, finding: str) -> None:
    assert impurities(source, PURE) == [finding]


def test_annotations_may_name_what_the_caller_injects() -> None:
    assert impurities("if TYPE_CHECKING:\n    import random", PURE) == []


def test_importing_the_core_brings_in_no_transport_and_no_logging() -> None:
    # The core's dependencies are imported first: what they bring in is their own affair.
    script = (
        "import sys, attrs, msgspec, msgspec.json, secrets\n"
        "before = set(sys.modules)\n"
        "import gatewayproto\n"
        "print(*sorted(set(sys.modules) - before))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True, cwd=CORE.parent
    )
    brought = set(done.stdout.split())
    assert "gatewayproto" in brought
    assert brought & HEAVY == set()
