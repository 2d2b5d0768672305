"""Whether a deployed client holds every event once and in order, by all that it was told."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.blackbox.bbwire import Frame, brief
from tests.deployed.dpclient import View

VOCABULARY: Final = {"hello_ok", "joined", "replay", "snapshot", "response", "ping", "pong"}
"""All that a deployed client is told where nothing is refused."""
_EVENT: Final = {"type", "data", "event_id", "timestamp", "source", "target", "sequence"}


@dataclass(frozen=True)
class Said:
    """One event as the agent published it; `run` names a run, and is no part of the wire."""

    type: str
    data: Frame
    run: object = None
    transient: bool = False


def follow(log: Iterable[Frame]) -> None:
    """Hold all that a client was told to the promise, over all its connections.

    The cursor that it adopts is never ahead of what it was given, what is replayed follows it
    without a hole and without repetition, and the number is the same wherever it stands.
    """
    session_id: object = None
    position = 0
    awaiting = False
    for frame in log:
        assert frame["type"] in VOCABULARY, f"no version 1 client knows this: {brief(frame)}"
        match frame["type"]:
            case "hello_ok" | "joined":
                anew = frame["session_id"] != session_id or frame["cursor"] < position
                if anew:
                    assert frame["cursor"] == 0, f"a state that nobody sent: {brief(frame)}"
                assert frame["cursor"] <= position, f"holds {position}: {brief(frame)}"
                session_id, position = frame["session_id"], frame["cursor"]
                awaiting = bool(frame["resync_required"]) and bool(frame["resumed"])
            case "replay":
                assert not awaiting, f"before the snapshot: {brief(frame)}"
                event = frame["event"]
                assert set(event) == _EVENT, brief(frame)
                assert frame["seq"] == position + 1, f"holds {position}: {brief(frame)}"
                assert event["sequence"] == event["data"]["cursor"] == frame["seq"], brief(frame)
                position = frame["seq"]
            case "snapshot":
                assert set(frame) == {"type", "state"}, brief(frame)
                state = frame["state"]
                assert state["session_id"] == session_id, brief(frame)
                assert state["event_cursor"] >= position, f"holds {position}: {brief(frame)}"
                position, awaiting = state["event_cursor"], False
            case _:
                pass


def holds(view: View, said: Sequence[Said]) -> None:
    """Compare what a client shows with all that was published."""
    if view.state is None:
        assert view.start == 0, "it shows nothing of what lies before"
    else:
        _state_is(view.state, said[: view.start])
    shown = [(event["type"], _without_cursor(event["data"])) for event in view.events]
    expected = [(each.type, each.data) for each in said[view.start :]]
    assert shown == expected, f"shows {brief(shown)}, published {brief(expected)}"


def _state_is(state: Frame, said: Sequence[Said]) -> None:
    """Hold a snapshot's state to what was published up to its cursor."""
    messages = [(each["seq"], each["type"], each["data"]) for each in state["messages"]]
    durable = [
        (seq, each.type, each.data) for seq, each in enumerate(said, 1) if not each.transient
    ]
    if state.get("truncated") is True:
        assert messages, "nothing is left of it"
        durable = durable[-len(messages) :]
    assert messages == durable, f"a state of {brief(messages)}, published {brief(durable)}"
    runs: dict[object, str] = {}
    for each in said:
        if each.transient:
            runs[each.run] = runs.get(each.run, "") + each.data["text"]
        elif each.run is not None:
            runs.pop(each.run, None)
    texts = [run["text"] for run in state["runs"].values()]
    assert sorted(texts) == sorted(runs.values()), f"open: {brief(texts)}, not {brief(runs)}"


def _without_cursor(data: Frame) -> Frame:
    return {name: value for name, value in data.items() if name != "cursor"}


def said_to(texts: Iterable[str]) -> list[Said]:
    """Write out what the agent of `gatewayproto serve` publishes for these messages, in order."""
    said: list[Said] = []
    for number, text in enumerate(texts):
        word, _, rest = text.partition(" ")
        if word == "tokens":
            words = [f"t{index} " for index in range(int(rest.split()[0]))]
            said += [Said("token", {"text": each}, number, transient=True) for each in words]
            said.append(Said("response", {"text": "".join(words)}, number))
        elif word == "burst":
            said += [Said("note", {"n": n}) for n in range(1, int(rest) + 1)]
        else:
            said.append(Said("response", {"text": text}))
    return said
