"""All attacks."""

from collections.abc import Iterable
from typing import Final

from tests.attacks import (
    flood_attacks,
    frame_attacks,
    http_attacks,
    json_attacks,
    log_attacks,
    peer_attacks,
    rate_attacks,
    transport_attacks,
)
from tests.attacks.attack import ATTACKS, Attack

MODULES: Final = (
    http_attacks,
    frame_attacks,
    json_attacks,
    flood_attacks,
    rate_attacks,
    peer_attacks,
    transport_attacks,
    log_attacks,
)
"""Importing them makes their attacks known."""


def attacks(names: Iterable[str] = ()) -> list[Attack]:
    """The attacks of these names, in the order of their modules; all where none is named.

    Raises:
        KeyError: There is none of that name.
    """
    order = [module.__name__ for module in MODULES]
    everything = sorted(ATTACKS.values(), key=lambda each: order.index(each.act.__module__))
    return [ATTACKS[name] for name in names] or everything
