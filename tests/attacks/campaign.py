"""Many attacks one after the other, on one server of each kind."""

from collections.abc import Iterable, Iterator

from attrs import evolve

from tests.attacks.attack import Attack, Report, carry_out
from tests.attacks.field import Scale
from tests.attacks.stand import Stand


def campaign(attacks: Iterable[Attack], adapter: str, scale: Scale) -> Iterator[Report]:
    """Carry out attacks and give their reports, then one for the end of each server.

    A server that failed to stand one is given up: the next attack meets a new one.
    """
    by_profile: dict[str, list[Attack]] = {}
    for each in attacks:
        by_profile.setdefault(each.profile, []).append(each)
    for profile, those in by_profile.items():
        left = iter(those)
        going = True
        while going:
            going = False
            with Stand(adapter, profile) as stand:
                for each in left:
                    report = carry_out(each, stand, scale)
                    yield report
                    if report.faults:
                        going = True
                        break
                else:
                    faults = stand.stop()
                    yield evolve(_end(adapter, profile, scale), faults=faults)


def _end(adapter: str, profile: str, scale: Scale) -> Report:
    return Report(attack=f"the end of {profile}", adapter=adapter, scale=scale.value)
