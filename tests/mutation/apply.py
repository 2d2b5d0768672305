"""Put a mutant in the place of what this process has loaded."""

import gc
import sys
from collections import defaultdict
from pathlib import Path
from types import FunctionType
from typing import Any, Final

from gatewayproto._table import Table
from tests.mutation.mutants import Mutant
from tests.mutation.survivors import CORE

Functions = dict[tuple[str, str], list[FunctionType]]

MADE_AT_IMPORT: Final = {
    "_table": ("connection", "client"),
    "client": ("client",),
    "codec": ("codec",),
    "connection": ("connection",),
}
"""The modules that hold what a module's functions make when the package is imported."""


def exchange(mutant: Mutant, functions: Functions) -> None:
    """Let every function of the mutant's name be the mutant."""
    for function in functions.get((mutant.module, mutant.function), []):
        function.__code__ = mutant.code
        _set_defaults(function, dict(mutant.defaults))


def make_again(mutant: Mutant) -> None:
    """Make what was made at import once more, by the mutant, and put it wherever it was."""
    for name in MADE_AT_IMPORT[mutant.module]:
        module = sys.modules[f"{CORE.name}.{name}"]
        source = mutant.source if name == mutant.module else (CORE / f"{name}.py").read_text()
        fresh = dict(vars(module))
        exec(compile(source, f"{name}.py", "exec"), fresh)  # noqa: S102 -- a module's own source
        made = {
            id(old): fresh[key]
            for key, old in vars(module).items()
            if isinstance(old, dict | Table) and not key.startswith("__")
        }
        for holder in list(sys.modules.values()):
            for key, value in list(vars(holder).items()):
                if id(value) in made:
                    setattr(holder, key, made[id(value)])


def _set_defaults(function: FunctionType, changed: dict[str, Any]) -> None:
    if not changed:
        return
    code = function.__code__
    positional = code.co_varnames[: code.co_argcount]
    given = list(function.__defaults__ or ())
    for name, value in changed.items():
        if name in positional:
            given[positional.index(name) - len(positional)] = value
        else:
            function.__kwdefaults__ = {**(function.__kwdefaults__ or {}), name: value}
    function.__defaults__ = tuple(given) or None


def functions_of_the_core() -> Functions:
    """Every function of the core that lives in this process, by module and qualified name."""
    found: defaultdict[tuple[str, str], list[FunctionType]] = defaultdict(list)
    for each in gc.get_objects():
        if isinstance(each, FunctionType):
            path = Path(each.__code__.co_filename)
            if path.parent == CORE:
                found[path.stem, each.__code__.co_qualname].append(each)
    return dict(found)
