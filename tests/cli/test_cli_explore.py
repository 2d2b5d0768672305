"""`gatewayproto explore`: figures for people and programs, and a line that walks a way again."""

import json
from typing import Any

import pytest
from attrs import evolve

from gatewayproto.testing.explorer.bounds import BOUNDS, SUITE
from tests.cli.cli_support import invoke, run
from tests.mutants.catalog import MUTANTS
from tests.mutants.patching import applied

pytestmark = pytest.mark.weighs
"""Thousands of machines are made here, and what fails shows its own transcript."""


def figures(*arguments: str, status: int = 0, **environment: str) -> dict[str, Any]:
    code, out, err = run("explore", "--json", *arguments, **environment)
    assert code == status, err
    fields: dict[str, Any] = json.loads(out)
    return fields


def test_the_figures_are_the_same_in_every_process() -> None:
    one = figures("--bound", "long-replays", PYTHONHASHSEED="1")
    assert one == figures("--bound", "long-replays", PYTHONHASHSEED="2")
    (bound,) = one["bounds"]
    assert bound["bound"] == "long-replays"
    assert bound["complete"] is True
    assert one["states"] == bound["states"] > 1000
    assert one["transitions"] == bound["transitions"] > bound["states"]
    assert (one["deadlocks"], one["non_converging"]) == (0, 0)
    assert bound["witnessed"]["snapshot lagged"] > 0
    assert bound["asked"] > bound["run"] > 0
    assert bound["live"] == bound["states"] // 100
    assert (bound["missing"], bound["broken"]) == ([], None)


def test_people_get_the_figures_and_what_was_seen() -> None:
    result = invoke("explore", "--bound", "versions")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "versions: a client and a gateway without a version in common"
    assert lines[1].endswith(" deeds deep, in full")
    assert "0 deadlocks, 0 without rest" in lines[2]
    assert "rejected version_unsupported" in lines[4]
    assert lines[5] == "  no property was broken"
    assert " a second" in result.stderr
    assert "versions: 1 states, 0 deeds deep" in result.stderr


def test_a_limit_stops_every_bound() -> None:
    result = invoke("explore", "--states", "40")
    assert result.exit_code == 0
    assert result.stdout.count(" deeds deep, in part") == len(SUITE)
    assert "large" not in result.stdout
    assert result.stdout.splitlines()[-1] == "no property was broken"


def test_a_bug_is_shown_by_a_transcript_and_a_line_that_walks_there_again() -> None:
    with applied(MUTANTS["M05"]):
        result = invoke("explore", "--bound", "restart")
        assert result.exit_code == 1
        lines = result.stdout.rstrip().splitlines()
        assert any("gateway  < FrameReceived" in line for line in lines)
        (said,) = [line for line in lines if line.startswith("P4: ")]
        repeat = lines[-1].removeprefix("to repeat: gatewayproto ")
        assert repeat.startswith("explore --bound restart --trace '")
        again = invoke(*repeat.replace("'", "").split())
        assert again.exit_code == 1
        assert again.stdout.rstrip().splitlines()[-1] == said
        for line in again.stdout.splitlines():
            assert line in lines
    healthy = invoke(*repeat.replace("'", "").split())
    assert healthy.exit_code == 0
    assert healthy.stdout.splitlines()[-1] == "no property was broken"


def test_a_bug_is_there_for_programs_too() -> None:
    with applied(MUTANTS["M05"]):
        result = invoke("explore", "--bound", "restart", "--json")
        assert result.exit_code == 1
        (bound,) = json.loads(result.stdout)["bounds"]
        broken = bound["broken"]
        assert broken["property"] == "P4"
        trace = ",".join(map(str, broken["trace"]))
        again = invoke("explore", "--bound", "restart", "--json", "--trace", trace)
        assert again.exit_code == 1
        fields = json.loads(again.stdout)
        assert fields["broken"] == {"property": "P4", "text": broken["text"]}
        assert fields["trace"] == broken["trace"]


def test_what_only_restored_machines_do_wrong_is_said() -> None:
    with applied(MUTANTS["M11"]):
        result = invoke("explore", "--bound", "versions")
        broken = invoke("explore", "--bound", "tabs")
    assert result.exit_code == 0  # nobody gets as far as a session there
    assert broken.exit_code == 1
    assert "P12: restored, it is another: " in broken.stdout
    assert "not by live machines" in broken.stdout


def test_a_bound_that_does_not_see_what_it_is_about_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = frozenset({"never seen"})
    changed = evolve(BOUNDS["versions"], needs=needs)
    monkeypatch.setitem(BOUNDS, "versions", changed)
    result = invoke("explore", "--bound", "versions")
    assert result.exit_code == 1
    assert "  not witnessed: never seen\n" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--bound", "wild"],
        ["--states", "0"],
        ["--trace", "0"],
        ["--bound", "versions", "--trace", "0,x"],
        ["--bound", "versions", "--trace", "0,"],
        ["--bound", "versions", "--trace", "0,99"],
        ["more"],
    ],
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    result = invoke("explore", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
