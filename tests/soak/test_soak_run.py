"""The soak, small in every run of the suite; with `--deep` as large as it is meant to be."""

import asyncio
import json
from pathlib import Path

import pytest
from attrs import evolve

from tests.soak.__main__ import main
from tests.soak.setting import Adapter, Setting
from tests.soak.stage import soak

SMALL = Setting(clients=4, seconds=1.5, life=1.5, think=0.2, resume_window=10.0, watched=1.0)
HARD = ("--calm", "0", "--cut-within", "8000", "--stall", "0.2", "--hold", "1.5")


@pytest.mark.parametrize("adapter", ["asyncio", pytest.param("trio", marks=pytest.mark.deep)])
def test_a_few_clients_lose_nothing_through_faults(adapter: Adapter, tmp_path: Path) -> None:
    report = asyncio.run(soak(evolve(SMALL, adapter=adapter), tmp_path, faults=HARD))

    assert report.wrong == []
    figures = report.verdict.figures
    accounted = figures["delivered"] + figures["skipped"] + figures["covered"]
    assert accounted > figures["published"] > 0
    assert figures["states compared"] > 0
    assert report.verdict.requests["accepted"] >= SMALL.clients
    assert report.proxy["connections"] > 2 * SMALL.clients
    assert sum(report.proxy[kind] for kind in ("fin", "rst", "silent", "swallow")) > 0
    assert report.witnessed["P1 handed on"] > 0
    assert json.loads(json.dumps(report.as_dict()))["wrong"] == []
    assert "duplicates" in report.table()


@pytest.mark.deep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("adapter", ["asyncio", "trio"])
def test_many_clients_lose_nothing_for_ten_minutes(adapter: Adapter, tmp_path: Path) -> None:
    report = asyncio.run(soak(Setting(adapter=adapter, seconds=600.0), tmp_path))

    assert report.wrong == []
    assert all(each is not None and each.judged for each in report.memory.values())


@pytest.mark.parametrize(
    "wrong", [["--clients", "0"], ["--minutes", "nan"], ["--adapter", "curio"], ["--watched", "2"]]
)
def test_wrong_usage_is_answered(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(wrong)

    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err
