"""`gatewayproto simulate`: repeatable on every machine, and a broken guard is explained."""

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from gatewayproto.testing.campaign import campaign
from gatewayproto.testing.monitors import missing_witnesses
from tests.cli.cli_support import WAIT, invoke, run
from tests.testing.broken import resume_below_the_floor


def figures(*arguments: str, status: int = 0, **environment: str) -> dict[str, Any]:
    code, out, err = run("simulate", "--json", *arguments, **environment)
    assert code == status, err
    fields: dict[str, Any] = json.loads(out)
    return fields


def test_the_same_seeds_give_the_same_digest_in_every_process_and_with_any_jobs() -> None:
    one = figures("--seeds", "30", "--jobs", "1", PYTHONHASHSEED="1")
    assert one == figures("--seeds", "30", "--jobs", "2", PYTHONHASHSEED="2")
    assert (one["profile"], one["first"], one["worlds"]) == ("swarm", 0, 30)
    assert one["steps"] > 3000
    assert one["witnessed"]
    assert (one["broken"], one["missing"]) == ([], [])


def test_a_seed_alone_is_one_world_and_each_gives_another() -> None:
    first, second = figures("--seed", "3"), figures("--seed", "4")
    assert (first["worlds"], second["worlds"]) == (1, 1)
    assert first["digest"] != second["digest"]


def test_a_profile_has_only_its_faults() -> None:
    calm = figures("--seeds", "5", "--profile", "calm")
    assert "cut" not in calm["happened"]
    assert "cut" in figures("--seeds", "5", "--profile", "cuts")["happened"]


def test_people_get_a_summary() -> None:
    result = invoke("simulate", "--seed", "1")
    assert result.exit_code == 0
    assert result.stdout.startswith("profile swarm, seed 1: 1 world, ")
    assert "\nno property was broken\n" in result.stdout


def test_a_broken_guard_is_shown_by_a_transcript_and_a_line_that_repeats_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resume_below_the_floor(monkeypatch)
    result = invoke("simulate", "--seeds", "25", "--jobs", "1")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert any("gateway  < FrameReceived" in line for line in lines)
    assert any(line.startswith("P4: ") for line in lines)
    repeat = lines[-1].removeprefix("to repeat: gatewayproto ")
    assert repeat.startswith("simulate --profile swarm --seed ")
    again = invoke(*repeat.split())
    assert again.exit_code == 1
    assert again.stdout.splitlines()[-40:] == lines[-40:]
    assert os.linesep not in repeat


def test_an_interrupt_ends_it_with_130_and_the_figures_so_far() -> None:
    arguments = [sys.executable, "-m", "gatewayproto_cli", "simulate", "--json", "--jobs", "2"]
    with subprocess.Popen(
        [*arguments, "--profile", "calm", "--seeds", "10000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "simulating 10000 worlds\n"
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, its workers included
        out, err = process.communicate(timeout=WAIT)
    assert process.returncode == 130
    worlds = json.loads(out)["worlds"]
    assert 0 < worlds < 10_000
    assert err.splitlines()[-1] == "Error: interrupted"
    assert "Traceback" not in err


def test_what_was_enough_is_the_account_of_the_seeds_up_to_there() -> None:
    asked: list[int] = []

    def enough() -> bool:
        asked.append(len(asked))
        return len(asked) == 2

    part = campaign("calm", range(200), enough=enough)
    assert 0 < part.worlds < 200
    assert part == campaign("calm", range(part.worlds))


def test_a_campaign_that_misses_a_witness_fails() -> None:
    """The smallest that must show everything is 1000 worlds, which is a test of its own."""
    assert missing_witnesses({}) != []


@pytest.mark.parametrize(
    "arguments",
    [["--seeds", "0"], ["--seed", "-1"], ["--profile", "wild"], ["--jobs", "0"], ["more"]],
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    assert invoke("simulate", *arguments).exit_code == 2
