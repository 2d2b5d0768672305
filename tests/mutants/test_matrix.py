"""The matrix of known bugs is current: every mutant is caught, and where it says."""

import pytest

from tests.mutants.catalog import MUTANTS
from tests.mutants.layers import LAYERS, ROOT, Catch
from tests.mutants.matrix import CAUGHT, TABLE, dump, load, repeat, survey, table

CAUGHT_BEFORE = load()
QUICK = [
    pytest.param(mutant, layer, catch, id=f"{mutant}-{layer}")
    for mutant, catches in CAUGHT_BEFORE.items()
    for layer, catch in catches.items()
    if layer in LAYERS and LAYERS[layer].is_quick and mutant in MUTANTS
]


def test_the_matrix_has_a_row_for_every_mutant_and_a_column_for_every_layer() -> None:
    assert list(CAUGHT_BEFORE) == list(MUTANTS)
    assert {layer for catches in CAUGHT_BEFORE.values() for layer in catches} == LAYERS.keys()
    assert CAUGHT.read_text(encoding="utf-8") == dump(CAUGHT_BEFORE)
    assert TABLE.read_text(encoding="utf-8") == table(CAUGHT_BEFORE)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_falls_to_two_layers_or_tells_why_one_alone_can_see_it(mutant: str) -> None:
    caught = CAUGHT_BEFORE[mutant]
    assert caught, "it survives"
    assert bool(MUTANTS[mutant].alone) == (len(caught) == 1)


@pytest.mark.parametrize(("mutant", "layer", "catch"), QUICK)
def test_a_mutant_is_caught_again_where_it_was_caught(
    mutant: str, layer: str, catch: Catch
) -> None:
    assert repeat(mutant, LAYERS[layer], catch.how) == catch


def test_a_catch_by_tests_names_one_that_is_there() -> None:
    """To run them all again is for `--deep`; that they exist is seen at once."""
    named = {
        catch.how
        for catches in CAUGHT_BEFORE.values()
        for layer, catch in catches.items()
        if not LAYERS[layer].is_quick
    }
    assert len(named) > 20
    for node in named:
        path, _, name = node.partition("::")
        name = name.partition("::")[0].partition("[")[0]
        assert name in (ROOT / path).read_text(encoding="utf-8"), node


@pytest.mark.deep
@pytest.mark.timeout(4 * 3600)
def test_the_whole_matrix_comes_out_the_same() -> None:
    assert survey(MUTANTS) == CAUGHT_BEFORE
