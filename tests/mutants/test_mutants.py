"""The known bugs are all there; each can be put into the machines, and leaves no trace in them."""

import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from gatewayproto import LocalProtocolError
from gatewayproto._table import Table
from gatewayproto.client import CLIENT_TABLE, ClientState, Trigger
from gatewayproto.inputs import Disconnect
from tests.client.clientlab import Lab
from tests.mutants.catalog import BUGS, MUTANTS, NOT_YET
from tests.mutants.patching import Edit, Mutant, Patcher, PatchError, applied, cells_of, edits

KNOWN_BUGS = {
    f"M{number:02}" for number in (*range(1, 58), *range(60, 68), *range(80, 88), *range(90, 93))
}
EVERY_MUTANT = pytest.mark.parametrize("mutant", BUGS, ids=lambda mutant: mutant.id)
Place = tuple[object, ...]


def _holders() -> Iterator[tuple[Place, Mapping[Any, object]]]:
    """Modules, classes and tables of the project: whatever holds its code."""
    for name, module in tuple(sys.modules.items()):
        if name.partition(".")[0] != "gatewayproto":
            continue
        yield (name,), vars(module)
        for held in tuple(vars(module).values()):
            if isinstance(held, Table):
                yield (name, held.name), {key: cell.handler for key, cell in cells_of(held).items()}
            elif isinstance(held, type) and held.__module__ == name:
                yield (name, held.__qualname__), vars(held)


def code() -> dict[Place, object]:
    """What each of them holds under each name."""
    return {(*place, name): value for place, held in _holders() for name, value in held.items()}


def verdicts() -> list[object]:
    """The cells of the table in which a mutant changes one."""
    return list(cells_of(CLIENT_TABLE).values())


def test_every_known_bug_has_a_mutant_or_a_reason_why_not_yet() -> None:
    names = [re.fullmatch(r"(M\d\d)[a-z]?", mutant.id) for mutant in BUGS]
    covered = {name[1] for name in names if name}
    assert None not in names
    assert covered | NOT_YET.keys() >= KNOWN_BUGS
    assert not covered & NOT_YET.keys()


def test_ids_are_unique() -> None:
    assert len(MUTANTS) == len(BUGS)


@EVERY_MUTANT
def test_a_mutant_changes_something_and_everything_is_restored(mutant: Mutant) -> None:
    with applied(mutant):
        pass  # whatever is imported for it is imported from here on
    before, cells = code(), verdicts()
    with applied(mutant):
        during = code()
        old = [value for place, value in before.items() if during[place] is not value]
        assert old or verdicts() != cells
        # An old function that is left anywhere would be called from there.
        assert not {id(value) for value in old} & {id(value) for value in during.values()}
    after = code()
    assert after.keys() == before.keys()
    assert all(after[place] is value for place, value in before.items())
    assert verdicts() == cells


def test_a_mutant_is_undone_when_its_run_fails() -> None:
    before = code()
    with pytest.raises(ZeroDivisionError), applied(MUTANTS["M13"]):
        raise ZeroDivisionError
    assert code() == before


def test_a_bug_is_there_while_it_is_applied_and_then_gone() -> None:
    for _ in range(2):
        with applied(MUTANTS["M32"]), pytest.raises(LocalProtocolError):
            Lab().give(Disconnect(), Disconnect())
        assert Lab().give(Disconnect(), Disconnect()).events


@pytest.mark.parametrize(
    "change",
    [
        Edit("journal:Journal.floor", "return self._flour", "return 0"),
        Edit("journal:Journal._let_go", "self._", "self."),
        Edit("journal:Journal.ceiling", "return", "raise"),
        Edit("journal:Diary.floor", "return", "raise"),
        Edit("diary:Journal.floor", "return", "raise"),
        Edit("journal:Journal.floor", "return self._floor", "return self._floor"),
        Edit("journal:Journal.floor", "return self._floor\nreturn 0", "return 0"),
        Edit("client:CLIENT_TABLE", "live", "live"),
    ],
)
def test_a_patch_that_does_not_find_its_place_fails_and_leaves_nothing(change: Edit) -> None:
    sound = Edit("journal:Journal.floor_v1", "return self._gone", "return 0")
    before = code()
    with pytest.raises(PatchError), applied(Mutant("M99", "", "gateway", edits(sound, change))):
        pytest.fail("it was applied")
    assert code() == before


def test_a_cell_that_is_so_already_is_no_patch() -> None:
    key = ClientState.STOPPED, Trigger.DISCONNECT
    with Patcher() as patcher, pytest.raises(PatchError):
        patcher.set_cell(CLIENT_TABLE, key, CLIENT_TABLE[key])


def test_edits_of_one_function_build_on_each_other() -> None:
    first = Edit("journal:Journal.floor_v1", "return self._gone", "gone = self._gone\nreturn gone")
    second = Edit("journal:Journal.floor_v1", "gone = self._gone", "gone = self._floor")
    with applied(Mutant("M99", "", "gateway", edits(first, second))):
        pass
    with pytest.raises(PatchError), applied(Mutant("M99", "", "gateway", edits(second))):
        pytest.fail("it was applied")
