"""Version negotiation: ranges, what a handshake offers, and ids that carry their epoch."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayproto import ErrorCode
from gatewayproto.versions import (
    VersionRange,
    join_session_id,
    read_offer,
    rejection_code_v1,
    split_session_id,
)

MAX_INT = 2**53 - 1
RANGES = st.tuples(st.integers(1, 6), st.integers(1, 6)).map(
    lambda ends: VersionRange(min(ends), max(ends))
)
FIELDS = {"hello": ("protocol_min", "protocol_max"), "join": ("min_version", "max_version")}
KINDS = pytest.mark.parametrize("kind", FIELDS)


@given(RANGES, RANGES)
def test_highest_version_in_both_ranges_is_agreed(a: VersionRange, b: VersionRange) -> None:
    both = set(range(a.minimum, a.maximum + 1)) & set(range(b.minimum, b.maximum + 1))
    assert a.common(b) == b.common(a) == max(both, default=None)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (2, 1), (0, 0)])
def test_range_without_a_version_is_refused(low: int, high: int) -> None:
    with pytest.raises(ValueError, match="no range of versions"):
        VersionRange(low, high)


@KINDS
@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1, 2, (1, 2)),
        (2, 2, (2, 2)),
        (3, 9, (3, 9)),
        (1, MAX_INT, (1, MAX_INT)),
        (2, None, (2, 2)),  # the maximum is the given minimum
        (None, 2, (1, 2)),  # the minimum is 1
        (None, 1, (1, 1)),
    ],
)
def test_offer_is_the_range_of_its_fields(
    kind: str, low: int | None, high: int | None, expected: tuple[int, int]
) -> None:
    offer = read_offer(dict(zip(FIELDS[kind], (low, high), strict=True)), kind)
    assert offer.range == VersionRange(*expected)
    assert offer.stated
    assert offer.counts_as == (1 if expected[1] == 1 else 2)


@KINDS
@pytest.mark.parametrize("fields", [{}, {"protocol_min": None, "min_version": None}])
def test_offer_without_fields_is_version_1(kind: str, fields: dict[str, Any]) -> None:
    offer = read_offer(fields, kind)
    assert (offer.range, offer.stated, offer.counts_as) == (VersionRange(1, 1), False, 1)


@KINDS
@given(bad=st.sampled_from(["1", 1.0, True, False, 0, -1, 2**53, [], {}, ""]), low=st.booleans(),
       other=st.sampled_from([None, 1, 2, "2", 0]))  # fmt: skip
def test_offer_that_cannot_be_read_counts_as_version_2(
    kind: str, bad: object, low: bool, other: object
) -> None:
    pair = (bad, other) if low else (other, bad)
    offer = read_offer(dict(zip(FIELDS[kind], pair, strict=True)), kind)
    assert (offer.range, offer.stated, offer.counts_as) == (None, True, 2)


@KINDS
def test_minimum_above_the_maximum_cannot_be_read(kind: str) -> None:
    assert read_offer(dict(zip(FIELDS[kind], (2, 1), strict=True)), kind).range is None


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a.b", ("a", "b")),
        ("a", ("a", None)),
        ("a.", ("a", "")),
        (".b", ("", "b")),
        ("a.b.c", ("a", "b.c")),
        ("", ("", None)),
    ],
)
def test_session_id_is_split_at_its_dot(text: str, parts: tuple[str, str | None]) -> None:
    assert split_session_id(text) == parts


IDS = st.text(st.characters(exclude_characters="."), min_size=1, max_size=64)


@given(IDS, IDS)
def test_joined_session_id_is_split_again(session_id: str, epoch: str) -> None:
    assert split_session_id(join_session_id(session_id, epoch)) == (session_id, epoch)


def test_codes_that_deployed_clients_do_not_know_are_one() -> None:
    known = {code: rejection_code_v1(code) for code in ErrorCode}
    changed = {code.value: said for code, said in known.items() if said != "configuration_error"}
    assert changed == {
        "version_unsupported": "protocol_unsupported",
        "agent_not_found": "agent_not_found",
        "auth_required": "auth_required",
        "auth_unauthorized": "auth_unauthorized",
        "rate_limited": "rate_limited",
    }
