"""The account of what a transport took, against a model that keeps every byte."""

from gatewayproto_adapter.drain import DrainLedger
from hypothesis import given
from hypothesis import strategies as st

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("queue"), st.integers(0, 14), st.integers(1, 300)),
        st.tuples(st.just("write"), st.integers(0, 40), st.just(0)),
        st.tuples(st.just("take"), st.integers(0, 2000), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS)
def test_payload_counts_exactly_when_it_has_left_the_buffer(
    steps: list[tuple[str, int, int]],
) -> None:
    ledger = DrainLedger()
    queued: list[bool] = []  # one entry for each byte: whether it is payload
    buffer: list[bool] = []
    owed = 0
    for step, size, payload in [*steps, ("write", 0, 0), ("take", 10**9, 0)]:
        if step == "queue":
            queued += [False] * size + [True] * payload
            ledger.queue(wire=size + payload, payload=payload)
            owed += payload
        elif step == "write":
            ledger.wrote(size + len(queued))
            buffer += [False] * size + queued
            queued = []
        else:
            taken, buffer = buffer[:size], buffer[size:]
            assert ledger.taken(len(buffer)) == sum(taken)
            owed -= sum(taken)
        assert ledger.owed == owed
    assert owed == 0
