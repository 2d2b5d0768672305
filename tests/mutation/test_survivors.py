"""The list of mutants that no test can kill speaks of the source as it is."""

import ast

import pytest

from tests.mutation.survivors import CORE, Key, explained


def function_lines(module: str, name: str) -> list[str]:
    """The lines of a function or method, stripped; nothing where there is none."""
    source = (CORE / f"{module}.py").read_text()
    scope: list[ast.stmt] = ast.parse(source).body
    found: ast.stmt | None = None
    for part in name.split("."):
        named = (ast.ClassDef, ast.FunctionDef)
        found = next((n for n in scope if isinstance(n, named) and n.name == part), None)
        if found is None:
            return []
        scope = found.body
    lines = (ast.get_source_segment(source, found) or "").splitlines() if found else []
    return [line.strip() for line in lines]


@pytest.mark.parametrize("key", explained(), ids=lambda key: f"{key[0]}-{key[1]}")
def test_survivor_is_a_change_of_lines_that_are_there_and_has_its_reason(key: Key) -> None:
    module, function, before, after = key
    lines = function_lines(module, function)
    assert lines, f"{module}.py has no {function}: drop the entry"
    changed = before.split("\n")
    starts = range(len(lines) - len(changed) + 1)
    assert any(lines[start : start + len(changed)] == changed for start in starts), before
    assert after != before
    assert len(explained()[key]) > 20


def test_survivors_are_few() -> None:
    assert 1 <= len(explained()) < 250
