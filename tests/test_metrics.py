"""Every metric says what it is, in one place that the documentation is made from."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import attrs
import pytest

from gatewayproto import ClientMetrics, GatewayMetrics, metrics

BOTH = pytest.mark.parametrize("kind", [GatewayMetrics, ClientMetrics])
OPERATE = Path(__file__).parent.parent / "docs" / "how-to" / "operate.md"


@BOTH
def test_every_metric_is_described(kind: Any) -> None:
    described = metrics.describe(kind)
    assert [each.name for each in described] == [each.name for each in attrs.fields(kind)]
    types = get_type_hints(kind)
    for each in described:
        assert each.kind in {"counter", "gauge"}
        assert each.help[0].isupper() or each.help[0] == "1"
        assert each.help.endswith(".")
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", each.name)
        # A label where there is a mapping, and nowhere else.
        assert types[each.name] == (int if each.label is None else Mapping[str, int])


def test_what_the_guide_names_is_there() -> None:
    known = {
        each.name for kind in (GatewayMetrics, ClientMetrics) for each in metrics.describe(kind)
    }
    table = OPERATE.read_text().split("| what you see")[1].split("## ")[0]
    named = {row.split("|")[1] for row in table.splitlines()[2:] if row.startswith("|")}
    found = {re.findall(r"`(\w+)`", cell)[0] for cell in named}
    assert len(found) > 5
    assert found <= known
