"""`gatewayproto tail`: presence, health, and what it does when it is sent away."""

import time

from tests.blackbox.bbplay import caught_up, end, event, events, followed, kinds, seqs, taken
from tests.blackbox.bbwire import Frame, Listener

ANN: Frame = {"client_id": "c1", "agent_id": "demo", "connected_at": 1_750_000_000.5}
BOB: Frame = {**ANN, "client_id": "c2", "client": {"name": "tab", "version": "1"}}


def test_each_push_has_its_line_as_in_the_frame(listener: Listener) -> None:
    pushes: list[Frame] = [
        {"type": "presence", "version": 1, "from_version": 0, "joined": [ANN, BOB], "left": []},
        {"type": "health", "version": 1, "health": {"model": None, "queue": [1, {"n": 2}]}},
        {"type": "presence", "version": 3, "from_version": 1, "joined": [], "left": ["c1"]},
        {"type": "presence", "version": 4, "entries": [BOB]},
        {"type": "health", "version": 7, "health": {}},
        {"type": "presence", "version": 9, "presence_count": 5000},
    ]
    late: list[Frame] = [
        {"type": "presence", "version": 9, "entries": []},
        {"type": "health", "version": 6, "health": {"old": True}},
    ]
    tail, played = followed(listener, caught_up(0), *pushes, *late, event(1))
    tail.until("event", seq=1)
    played.settle(1)
    told = kinds(end(tail, played), "presence", "health")
    assert told == [
        {"emit": push["type"], **{name: push[name] for name in push if name != "type"}}
        for push in pushes
    ]


def test_sent_away_it_leaves_stays_away_and_goes_on_where_it_was(listener: Listener) -> None:
    tail, played = followed(listener, *events(1, 2), caught_up(2))
    tail.until("caught_up")
    told = time.monotonic()
    away = {"type": "going_away", "reason": "restart", "after_ms": 400, "spread_ms": 100}
    played.send(away, event(3))
    assert played.ended() in {1000, 1005}
    retry = tail.until("retry")
    assert retry["code"] == "going_away"
    assert 0.4 <= retry["delay"] <= 0.5
    played = taken(listener)
    assert time.monotonic() - told >= 0.4
    assert played.position == ("s1", "e1", 3)
    played.welcome(event(4), caught_up(4), cursor=4)
    tail.until("event", seq=4)
    played.settle(4)
    lines = end(tail, played)
    assert seqs(lines) == [1, 2, 3, 4]
    states = [line["state"] for line in kinds(lines, "state")]
    assert states == ["connecting", "connected", "reconnecting", "connected", "disconnected"]
