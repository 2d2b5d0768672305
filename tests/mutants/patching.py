"""A known bug, put into the machines while they run and taken out again without a trace.

A bug is written as what it changes in the source: so it reads like the commit that shipped it, and
a patch whose place has changed fails instead of changing nothing.
"""

import importlib
import inspect
import pkgutil
import sys
import textwrap
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from types import FunctionType, ModuleType
from typing import Any, Literal, Self

from attrs import evolve, frozen

import gatewayproto
from gatewayproto._table import Cell, Table

Owner = ModuleType | type


class PatchError(Exception):
    """A patch that would change nothing, or not what it means to."""


class Patcher:
    """What a mutant changes; as a context manager it changes everything back, however that ends.

    A place is `module:function` or `module:Class.method`, the module within `gatewayproto`.
    """

    def __init__(self) -> None:
        self._undo = ExitStack()
        self._texts: dict[FunctionType, str] = {}
        _load_core()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def edit(self, place: str, old: str, new: str) -> None:
        """Replace `old`, which occurs just once, by `new` in the source of a function.

        Lines after the first are indented like the line in which `old` begins. Raises `PatchError`
        for a place that is none, for an `old` that is not there, or there more than once, and for a
        `new` that is the same.
        """
        owner, name = _find(place)
        held = vars(owner)[name]
        function = _function(held)
        if old == new:
            raise PatchError(f"{place} would stay as it is")
        text = _replace_once(place, self._text(function), old, new)
        namespace: dict[str, Any] = {}
        code = compile(text, f"<{place}, with a bug>", "exec", dont_inherit=True)
        exec(code, function.__globals__, namespace)  # noqa: S102 -- the text is our own
        edited = namespace[name]
        _function(edited).__qualname__ = function.__qualname__
        self._texts[_function(edited)] = text
        if isinstance(owner, type):
            self._set(owner, name, edited)
        else:
            self._replace_everywhere(held, edited)

    def set_cell(self, table: Table[Any, Any], key: tuple[object, object], cell: Cell[Any]) -> None:
        """Put another cell into a transition table."""
        cells = cells_of(table)
        if cells[key] == cell:
            raise PatchError(f"{table.name}: the cell {key} is so already")
        self._set_item(cells, key, cell)

    def _text(self, function: FunctionType) -> str:
        """The source, as the edits so far have left it."""
        return self._texts.get(function) or textwrap.dedent(inspect.getsource(function))

    def _replace_everywhere(self, held: FunctionType, edited: FunctionType) -> None:
        """Modules import functions from each other, and tables hold them as handlers."""
        for module in _modules():
            for name, value in tuple(vars(module).items()):
                if value is held:
                    self._set(module, name, edited)
                elif isinstance(value, Table):
                    cells = cells_of(value)
                    for key, cell in tuple(cells.items()):
                        if cell.handler is held:
                            self._set_item(cells, key, evolve(cell, handler=edited))

    def _set(self, owner: Owner, name: str, value: object) -> None:
        self._undo.callback(setattr, owner, name, vars(owner)[name])
        setattr(owner, name, value)

    def _set_item(self, cells: dict[Any, Cell[Any]], key: object, cell: Cell[Any]) -> None:
        self._undo.callback(cells.__setitem__, key, cells[key])
        cells[key] = cell


@frozen
class Mutant:
    """A bug that real gateways or clients have shipped.

    `alone` is the reason why fewer than two layers can see it, where that is so.
    """

    id: str
    bug: str
    at: Literal["gateway", "client"]
    apply: Callable[[Patcher], None]
    alone: str = ""


@frozen
class Edit:
    """One change in the source of one function; `Patcher.edit` says how it is made."""

    place: str
    old: str
    new: str


def edits(*changes: Edit) -> Callable[[Patcher], None]:
    """A patch of so many changes."""

    def apply(patcher: Patcher) -> None:
        for change in changes:
            patcher.edit(change.place, change.old, change.new)

    return apply


@contextmanager
def applied(mutant: Mutant) -> Generator[None]:
    """Run the body with this bug in the machines of this process."""
    with Patcher() as patcher:
        mutant.apply(patcher)
        yield


def _load_core() -> None:
    """Import every module that may hold what is patched: one imported later would keep it."""
    for module in pkgutil.iter_modules(gatewayproto.__path__):
        if not module.ispkg:
            importlib.import_module(f"gatewayproto.{module.name}")


def _modules() -> list[ModuleType]:
    return [
        module
        for name, module in tuple(sys.modules.items())
        if name.partition(".")[0] == "gatewayproto"
    ]


def cells_of(table: Table[Any, Any]) -> dict[Any, Cell[Any]]:
    """The cells of a transition table, by state and input; a table itself gives no way in."""
    cells: dict[Any, Cell[Any]] = vars(table)["_cells"]
    return cells


def _find(place: str) -> tuple[Owner, str]:
    """Who holds the function, and under which name."""
    module_name, _, path = place.partition(":")
    class_name, dot, name = path.rpartition(".")
    try:
        owner: Owner = importlib.import_module(f"gatewayproto.{module_name}")
        if dot:
            owner = vars(owner)[class_name]
        return owner, {name: name for name in vars(owner)}[name]
    except (ImportError, KeyError) as error:
        raise PatchError(f"there is no {place}") from error


def _function(held: object) -> FunctionType:
    """The function behind what a module or a class holds."""
    match held:
        case FunctionType() if not hasattr(held, "__wrapped__"):
            return held
        case classmethod() | staticmethod():
            return _function(held.__func__)
        case property():
            return _function(held.fget)
        case _:
            raise PatchError(f"{held!r} is no function of the core's own")


def _replace_once(place: str, text: str, old: str, new: str) -> str:
    found = []
    for start in _occurrences(text, old.split("\n", 1)[0]):
        line = text[text.rfind("\n", 0, start) + 1 :]
        indentation = "\n" + line[: len(line) - len(line.lstrip(" "))]
        indented = old.replace("\n", indentation)
        if text.startswith(indented, start):
            found.append((start, indented, new.replace("\n", indentation)))
    if len(found) != 1:
        raise PatchError(f"{place} has {len(found)} times, not once:\n{old}")
    start, was, becomes = found[0]
    return text[:start] + becomes + text[start + len(was) :]


def _occurrences(text: str, part: str) -> Iterator[int]:
    start = text.find(part)
    while start != -1:
        yield start
        start = text.find(part, start + 1)
