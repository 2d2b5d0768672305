"""Deadlines by name, against the plainest model of them."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayproto._timers import Timers

KEYS = st.sampled_from("abcd")
TIMES = st.integers(0, 5).map(float)
CALLS = st.one_of(
    st.tuples(st.just("set"), KEYS, TIMES),
    st.tuples(st.just("cancel"), KEYS),
    st.tuples(st.just("pop"), TIMES),
    st.just(("copy",)),
)


class Model:
    """A list in order of setting; what is due comes by deadline, then by age."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, float]] = []

    def set(self, key: str, deadline: float) -> None:
        if (key, deadline) not in self.entries:
            self.cancel(key)
            self.entries.append((key, deadline))

    def cancel(self, key: str) -> None:
        self.entries = [entry for entry in self.entries if entry[0] != key]

    def in_order(self) -> list[tuple[str, float]]:
        return sorted(self.entries, key=lambda entry: entry[1])

    def pop_due(self, now: float) -> list[str]:
        due = [key for key, deadline in self.in_order() if deadline <= now]
        for key in due:
            self.cancel(key)
        return due


@given(calls=st.lists(CALLS, max_size=200))
def test_deadlines_fall_due_in_order_and_ties_by_age(calls: list[tuple[object, ...]]) -> None:
    timers: Timers[str] = Timers()
    model = Model()
    for call in calls:
        match call:
            case ("set", str(key), float(time)):
                timers.set(key, time)
                model.set(key, time)
            case ("cancel", str(key)):
                timers.cancel(key)
                model.cancel(key)
            case ("pop", float(time)):
                assert list(timers.pop_due(time)) == model.pop_due(time)
            case _:
                copy: Timers[str] = Timers()
                for key, deadline in timers.in_order():
                    copy.set(key, deadline)
                timers = copy
        assert timers.in_order() == model.in_order()
        first = model.in_order()[:1]
        assert timers.next_deadline == (first[0][1] if first else None)
        for key in "abcd":
            assert timers.get(key) == dict(model.entries).get(key)


def test_what_is_set_while_what_is_due_is_taken_is_due_as_well() -> None:
    timers: Timers[str] = Timers()
    timers.set("a", 1.0)
    seen: list[str] = []
    for key in timers.pop_due(5.0):
        seen.append(key)
        if key == "a":
            timers.set("b", 2.0)
            timers.set("c", 6.0)
    assert seen == ["a", "b"]
    assert timers.next_deadline == 6.0


@pytest.mark.parametrize("keys", [1, 50])
def test_moving_deadlines_for_ever_takes_no_more_room(keys: int) -> None:
    timers: Timers[int] = Timers()
    tracemalloc.start()
    try:
        for time in range(20_000):
            timers.set(time % keys, float(time))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 100_000
    assert timers.next_deadline == float(20_000 - keys)
