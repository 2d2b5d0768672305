"""What a client counts is what its application was told and what it wrote."""

import random

import attrs

from gatewayproto import Client, ClientMetrics
from gatewayproto.inputs import Connect, Disconnect, Resync, Send
from tests.client.clientlab import HELD, Lab, ack, caught_up, event, events, nack, skip, snapshot


def metrics_of(lab: Lab) -> ClientMetrics:
    before = lab.client.to_state(now=lab.now)
    metrics = lab.client.metrics()
    assert lab.client.to_state(now=lab.now) == before
    return metrics


def test_what_is_handed_on_and_dropped_is_counted() -> None:
    lab = Lab()
    lab.live(*events(1, 3), event(2), skip(1, 2), skip(3, 6), event(9))
    metrics = metrics_of(lab)
    assert (metrics.events, metrics.skipped_seqs) == (3, 3)
    assert (metrics.duplicates_dropped, metrics.gaps) == (2, 1)
    assert metrics.connected == 1
    lab.give(Resync())
    lab.server(snapshot(9, "requested"), snapshot(12, "what nobody knows"))
    metrics = metrics_of(lab)
    assert metrics.snapshots == 2
    assert metrics.resyncs == {"requested": 1, "other": 1}


def test_a_new_session_in_place_of_the_one_held_counts_as_a_resync() -> None:
    lab = Lab(resume=HELD)
    fields = {"session_id": "s2", "resumed": False, "sequence": 0, "cursor": 0}
    lab.live(resync_required=True, resync_reason="session_unknown", **fields)
    assert metrics_of(lab).resyncs == {"session_unknown": 1}
    # One that announces a snapshot counts with the snapshot.
    lab = Lab(resume=HELD)
    lab.live(resync_required=True, resync_reason="trimmed")
    assert metrics_of(lab).resyncs == {}
    lab.server(snapshot(7, "trimmed"))
    assert metrics_of(lab).resyncs == {"trimmed": 1}


def test_messages_are_counted_by_their_ends() -> None:
    lab = Lab()
    lab.live(caught_up(0))
    for number in range(5):
        lab.give(Send(content="x", request_id=f"r{number}"))
    lab.server(ack("r0"), ack("r1", duplicate=True), nack("r2"))
    metrics = metrics_of(lab)
    assert (metrics.messages_sent, metrics.messages_accepted, metrics.messages_refused) == (5, 2, 1)
    assert (metrics.messages_waiting, metrics.messages_in_flight) == (2, 2)
    lab.close()
    lab.give(Send(content="x", request_id="new"))
    metrics = metrics_of(lab)
    assert (metrics.messages_waiting, metrics.messages_in_flight) == (3, 0)
    assert metrics.connected == 0
    lab.back(caught_up(0))
    assert metrics_of(lab).messages_sent == 8  # the two that were written before, again
    lab.close()
    lab.give(Send(content="x", request_id="never"))
    lab.give(Disconnect())
    metrics = metrics_of(lab)
    assert (metrics.messages_unknown, metrics.messages_refused) == (3, 2)
    assert metrics.messages_waiting == 0
    ended = metrics.messages_accepted + metrics.messages_refused + metrics.messages_unknown
    assert ended == 7


def test_attempts_and_what_made_them_necessary_are_counted() -> None:
    lab = Lab()
    lab.connect()
    for code in (None, 4000, 4399, 3001, 1012):
        lab.close(code)
        lab.try_again()
    lab.close(http_status=503)
    lab.try_again()
    lab.server({"type": "hello_error", "code": "close_enough", "message": ""})
    lab.close(4001)
    lab.try_again()
    lab.server({"type": "hello_error", "code": "bogus", "message": ""})
    lab.close()
    metrics = metrics_of(lab)
    assert metrics.attempts == 8
    assert metrics.retries == {"unknown": 1, "going_away": 1, "close": 4, "http": 1, "other": 1}


def test_no_server_makes_the_counters_grow() -> None:
    lab = Lab()
    lab.live()
    for number in range(50):
        lab.server(snapshot(number, f"reason {number}"))
        lab.close(3000 + number)
        lab.back()
    metrics = metrics_of(lab)
    assert (len(metrics.resyncs), len(metrics.retries)) == (1, 1)


def test_what_the_application_has_not_taken_is_measured() -> None:
    lab = Lab(slow=True)
    lab.live(*events(1, 4))
    assert metrics_of(lab).seqs_untaken == 4


def test_counters_begin_at_0_in_a_restored_client() -> None:
    lab = Lab()
    lab.live(*events(1, 3))
    state = lab.client.to_state(now=lab.now)
    again = Client.from_state(lab.config, state, rng=random.Random(0), now=lab.now)
    assert (again.metrics().events, again.metrics().attempts) == (0, 0)
    assert again.metrics().connected == 1
    assert metrics_of(lab).events == 3


def test_before_it_begins_everything_is_0() -> None:
    lab = Lab()
    values = attrs.asdict(metrics_of(lab)).values()
    assert all(value in (0, {}) for value in values)
    lab.give(Connect())
    assert metrics_of(lab).attempts == 1
