"""What is granted of a rate, said a second time, is what a token bucket grants."""

from hypothesis import given
from hypothesis import strategies as st

from gatewayproto.rates import Bucket, Rate
from gatewayproto.testing.monitors.allowance import Allowance

RATES = st.builds(Rate, st.sampled_from([0.125, 0.5, 1.0, 4.0]), st.integers(1, 5))
PAUSES = st.lists(st.integers(0, 1024).map(lambda n: n / 64), max_size=60)


@given(rate=RATES, pauses=PAUSES)
def test_an_allowance_grants_what_a_bucket_grants(rate: Rate, pauses: list[float]) -> None:
    now, allowance, bucket = 1024.0, Allowance(rate), Bucket.full(rate, 1024.0)
    assert bucket is not None
    for pause in pauses:
        now += pause
        assert allowance.take(now) == bucket.take(now)


@given(rate=RATES, pauses=PAUSES)
def test_no_stretch_of_time_has_more_than_the_rate_grants(rate: Rate, pauses: list[float]) -> None:
    now, granted, allowance = 1024.0, [], Allowance(rate)
    for pause in pauses:
        now += pause
        if allowance.take(now) is None:
            granted.append(now)
    for first, since in enumerate(granted):
        for last, until in enumerate(granted[first:], start=first):
            assert last - first + 1 <= rate.burst + rate.per_second * (until - since)


def test_without_a_rate_everything_is_granted() -> None:
    assert all(Allowance(None).take(1024.0) is None for _ in range(3))
