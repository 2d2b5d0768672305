"""Whatever a peer does: the answer, bounded memory, others undisturbed, a clean log."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.__main__ import available
from tests.attacks.attack import ATTACKS, Attack, carry_out
from tests.attacks.catalog import attacks
from tests.attacks.field import Scale
from tests.attacks.limits import MIB
from tests.attacks.stand import Stand

ADAPTERS = available()
PAGE = Path(__file__).parents[2] / "docs" / "attacks.md"


class Stands:
    """The server that attacks share, as long as it stands and they are on the same kind."""

    def __init__(self) -> None:
        self._key = ("", "")
        self._stand: Stand | None = None
        self.faults: list[str] = []
        """What was wrong with the ends of servers."""

    def get(self, adapter: str, profile: str) -> Stand:
        """The one that stands, or a new one."""
        if self._stand is None or self._key != (adapter, profile):
            self.end()
            self._key = (adapter, profile)
            self._stand = Stand(adapter, profile)
        return self._stand

    def drop(self) -> None:
        """Give up one that failed: the next attack meets a new one."""
        stand, self._stand = self._stand, None
        if stand is not None:
            stand.close()

    def end(self) -> None:
        """End the one that stands, in order."""
        if self._stand is not None:
            self.faults += self._stand.stop()
        self.drop()


@pytest.fixture(scope="module")
def stands() -> Iterator[Stands]:
    running = Stands()
    yield running
    running.end()
    assert not running.faults, running.faults


def attempt(attack: Attack, adapter: str, stands: Stands, scale: Scale) -> None:
    stand = stands.get(adapter, attack.profile)
    report = carry_out(attack, stand, scale)
    if report.faults:
        stands.drop()
        pytest.fail("\n".join(report.faults))


def _cases(*, deep: bool) -> list[object]:
    """Every attack on every adapter; what is known to be open must fail until it is closed.

    What the machines alone answer comes to one adapter only, unless there is time.
    """
    return [
        pytest.param(
            each,
            adapter,
            id=f"{adapter}-{each.name}",
            marks=[pytest.mark.xfail(reason=each.open[adapter])] if adapter in each.open else [],
        )
        for adapter in ADAPTERS
        for each in attacks()
        if deep or not each.deep
        if deep or adapter == "asyncio" or each.group not in ("json", "rates")
    ]


@pytest.mark.parametrize(("attack", "adapter"), _cases(deep=False))
def test_an_attack_is_answered_and_disturbs_nobody(
    attack: Attack, adapter: str, stands: Stands
) -> None:
    attempt(attack, adapter, stands, Scale.SMALL)


@pytest.mark.deep
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("attack", "adapter"), _cases(deep=True))
def test_the_same_at_full_scale(attack: Attack, adapter: str, stands: Stands) -> None:
    attempt(attack, adapter, stands, Scale.FULL)


def test_every_attack_is_on_the_page_with_its_answer_and_its_bound() -> None:
    page = PAGE.read_text(encoding="utf-8").split("\n")
    listed = {row for row in page if row.startswith("| `") and row.endswith(" MiB |")}
    listed = {row for row in listed if row.count("|") == 5}
    stated = {
        f"| `{each.name}` | {each.subject} | {each.answer} | {each.full // MIB} MiB |"
        for each in ATTACKS.values()
    }
    assert listed == stated
    still_open = {row for each in ATTACKS.values() for row in _open_rows(each)}
    assert still_open <= set(page)


def _open_rows(attack: Attack) -> set[str]:
    """What the page says of an attack that is not answered as it should be."""
    adapters = {
        why: ", ".join(each for each, this in attack.open.items() if this == why)
        for why in attack.open.values()
    }
    return {f"| `{attack.name}` | {names} | {why} |" for why, names in adapters.items()}
