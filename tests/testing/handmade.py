"""Runs made by hand: steps with a label each, so that a test can break one and see who notices.

No machine has a part in them. What is right here is right by the specification's words.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from attrs import define, evolve, field

from gatewayproto import Event
from gatewayproto.actions import Emit, ResumeToken, SendFrame, SendFrames
from gatewayproto.testing.monitors import Monitors
from gatewayproto.testing.reference import compact, event_object
from gatewayproto.testing.steps import GATEWAY, Setup, Step, Violation

Frame = dict[str, Any]
Change = Callable[[Step], Step | None]
"""What breaks a step: another one in its place, or none at all."""

START = 1024.0
SOON = 0.5
"""Seconds to the deadline of every machine, where nothing else is said."""


def frame(type_: str, **fields: Any) -> bytes:
    """A frame as it goes over the wire; a field that is None is left out."""
    present = {name: value for name, value in fields.items() if value is not None}
    return compact({"type": type_, **present})


def event(number: int, **fields: Any) -> Event:
    """An event of the application."""
    fields.setdefault("data", {"n": number})
    return Event(type="note", event_id=f"e{number}", timestamp=float(number), **fields)


def event_frame(kind: str, seq: int, what: Event) -> bytes:
    """An event on its way to version 2."""
    return frame(kind, seq=seq, event=event_object(what))


def welcome(kind: str = "hello_ok", **fields: Any) -> bytes:
    """The welcome to a new session `s` in its epoch `E`, of version 2."""
    usual: Frame = {
        "session_id": "s",
        "agent_id": "agent",
        "protocol": 2 if kind == "hello_ok" else None,
        "protocol_version": 2,
        "server_min_version": 1,
        "server_max_version": 2,
        "resumed": False,
        "epoch": "E",
        "cursor": 0,
        "oldest_cursor": 1,
        "resync_required": False,
        "sequence": 0,
        "presence_count": 1,
        "presence_version": 1,
        "health": {},
        "health_version": 0,
        "policy": POLICY,
    }
    return frame(kind, **{**usual, **fields})


POLICY = {
    "max_payload": 4096,
    "heartbeat_ms": 32_000,
    "resume_window_ms": 64_000,
    "request_ttl_ms": 16_000,
    "max_pending_requests": 2,
}


def token(cursor: int, epoch: str | None = "E", session_id: str = "s") -> ResumeToken:
    """Where a client stands."""
    return ResumeToken(session_id=session_id, epoch=epoch, cursor=cursor)


@define(eq=False)
class Script:
    """Steps in order. `now` moves only by `wait`."""

    setup: Setup
    now: float = START
    steps: list[Step] = field(factory=list)
    labels: dict[str, int] = field(factory=dict)

    def add(
        self,
        label: str,
        who: str,
        input_: Any,
        *actions: Any,
        deadline: float | None = -1.0,
        raised: Exception | None = None,
    ) -> None:
        """Add a step; what is no action is something that the application is told."""
        if label:
            assert label not in self.labels
            self.labels[label] = len(self.steps)
        due = self.now + SOON if deadline == -1.0 else deadline
        made = tuple(each if _is_action(each) else Emit(each) for each in actions)
        self.steps.append(
            Step(now=self.now, who=who, input=input_, actions=made, deadline=due, raised=raised)
        )

    def gateway(self, label: str, input_: Any, *actions: Any, **how: Any) -> None:
        """A step of the gateway's."""
        self.add(label, GATEWAY, input_, *actions, **how)

    def client(self, label: str, input_: Any, *actions: Any, **how: Any) -> None:
        """A step of the client's, whose name is `c`."""
        self.add(label, "c", input_, *actions, **how)

    def wait(self, seconds: float) -> None:
        """Let time pass, up to the deadline of whoever did something at this moment."""
        before, self.now = self.now, self.now + seconds
        for number, step in enumerate(self.steps):
            if step.now == before and step.deadline is not None:
                self.steps[number] = evolve(step, deadline=self.now)

    def play(self, label: str = "", change: Change | None = None) -> Mapping[str, int]:
        """Give the steps to monitors, the one of this label changed; what they witnessed."""
        monitors = Monitors(self.setup)
        broken = self.labels[label] if label else -1
        for number, step in enumerate(self.steps):
            changed: Step | None = step
            if number == broken and change is not None:
                changed = change(step)
            if changed is not None:
                monitors.observe(changed)
        monitors.finish()
        return monitors.witnessed

    def finding(self, label: str, change: Change) -> str | None:
        """The property that is broken once this step is changed; None if nobody noticed."""
        try:
            self.play(label, change)
        except Violation as violation:
            return violation.prop
        return None


def _is_action(value: object) -> bool:
    kinds = {"SendFrames", "CloseConnection", "Persist"}
    kinds |= {"SendFrame", "OpenTransport", "CloseTransport"}
    return type(value).__name__ in kinds


# -- ways to break a step ---------------------------------------------------------------------


def gone(_: Step) -> None:
    """It never happened."""


def silent(step: Step) -> Step:
    """The machine did nothing."""
    return evolve(step, actions=())


def also(*actions: Any) -> Change:
    """The machine did this as well, after the rest."""
    more = tuple(each if _is_action(each) else Emit(each) for each in actions)
    return lambda step: evolve(step, actions=(*step.actions, *more))


def first(*actions: Any) -> Change:
    """The machine did this as well, before the rest."""
    more = tuple(each if _is_action(each) else Emit(each) for each in actions)
    return lambda step: evolve(step, actions=(*more, *step.actions))


def instead(*actions: Any) -> Change:
    """The machine did this in place of everything."""
    more = tuple(each if _is_action(each) else Emit(each) for each in actions)
    return lambda step: evolve(step, actions=more)


def waits(seconds: float | None) -> Change:
    """The machine waits for another deadline, so many seconds from now."""
    return lambda step: evolve(step, deadline=None if seconds is None else step.now + seconds)


def at(seconds: float) -> Change:
    """It happened so many seconds later."""
    return lambda step: evolve(step, now=step.now + seconds, deadline=step.now + seconds + SOON)


def both(*changes: Change) -> Change:
    """One change after the other."""

    def change(step: Step) -> Step | None:
        changed: Step | None = step
        for each in changes:
            changed = None if changed is None else each(changed)
        return changed

    return change


def given(input_: Any) -> Change:
    """Something else happened."""
    return lambda step: evolve(step, input=input_)


def raising(error: Exception) -> Change:
    """An exception came out."""
    return lambda step: evolve(step, raised=error, actions=())


def told(kind: type, **changes: Any) -> Change:
    """The application is told something else."""

    def change(step: Step) -> Step:
        actions: list[Any] = [
            Emit(evolve(each.event, **changes))
            if isinstance(each, Emit) and isinstance(each.event, kind)
            else each
            for each in step.actions
        ]
        assert actions != list(step.actions)
        return evolve(step, actions=tuple(actions))

    return change


def untold(*kinds: type) -> Change:
    """The application is not told."""

    def change(step: Step) -> Step:
        actions = [
            each
            for each in step.actions
            if not (isinstance(each, Emit) and isinstance(each.event, kinds))
        ]
        assert len(actions) < len(step.actions)
        return evolve(step, actions=tuple(actions))

    return change


def sent(kind: str, **changes: Any) -> Change:
    """Frames of this type go out with other fields; one that is None is left out."""

    def alter(data: bytes) -> bytes:
        fields = json.loads(data)
        return frame(fields.pop("type"), **{**fields, **changes})

    return _frames(kind, alter)


def unsent(kind: str) -> Change:
    """Frames of this type do not go out."""
    return _frames(kind, lambda _: None)


def replaced(kind: str, data: bytes) -> Change:
    """Another frame goes out in place of each of this type."""
    return _frames(kind, lambda _: data)


def _frames(kind: str, alter: Callable[[bytes], bytes | None]) -> Change:
    def each(data: bytes) -> bytes | None:
        return alter(data) if json.loads(data)["type"] == kind else data

    def change(step: Step) -> Step:
        actions: list[Any] = []
        for action in step.actions:
            if isinstance(action, SendFrames):
                frames = _present(map(each, action.frames))
                actions += [SendFrames(action.connections, frames)] if frames else []
            elif isinstance(action, SendFrame):
                frames = _present([each(action.frame)])
                actions += [SendFrame(action.connection, frames[0])] if frames else []
            else:
                actions.append(action)
        assert actions != list(step.actions), f"no {kind} to change"
        return evolve(step, actions=tuple(actions))

    return change


def _present(frames: Iterable[bytes | None]) -> tuple[bytes, ...]:
    return tuple(data for data in frames if data is not None)
