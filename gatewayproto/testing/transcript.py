"""A run as text for people: who was given what at which time, and what came of it.

Every byte that a peer chose is escaped: a transcript may go to a terminal or a log.

Spec: the verification page, "Transcripts".
"""

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, Final

import attrs

from gatewayproto.actions import Emit, SendFrame, SendFrames
from gatewayproto.testing.steps import WORLD, Step

_SHOWN: Final = 160
"""Characters of one value that are shown; what is left out is counted."""


def render(steps: Sequence[Step], *, last: int | None = None) -> str:
    """Show the steps, or only the last so many, one line for each input and one for each action."""
    left_out = 0 if last is None else max(0, len(steps) - last)
    lines = [f"… {left_out} steps before"] if left_out else []
    for step in steps[left_out:]:
        lines += render_step(step)
    return "\n".join(lines)


def render_step(step: Step) -> Iterable[str]:
    """Show one step."""
    mark = "*" if step.who == WORLD else "<"
    yield f"{step.now:10.3f}  {step.who:<8} {mark} {show(step.input)}"
    for action in step.actions:
        for line in _lines(action):
            yield f"{'':10}  {'':<8} > {line}"
    if step.raised is not None:
        error = step.raised
        yield f"{'':10}  {'':<8} ! {type(error).__name__}: {_cut(str(error))}"


def _lines(action: object) -> Iterable[str]:
    match action:
        case SendFrames():
            to = ",".join(f"#{number}" for number in action.connections)
            return [f"SendFrames {to} {_frame(frame)}" for frame in action.frames]
        case SendFrame():
            return [f"SendFrame #{action.connection} {_frame(action.frame)}"]
        case Emit():
            return [f"Emit {show(action.event)}"]
        case _:
            return [show(action)]


def show(value: object) -> str:
    """Show one input, action or event: its name and the fields that differ from their defaults."""
    kind: Any = type(value)
    if not attrs.has(kind):
        return _cut(repr(value))
    shown = [
        f"{attribute.name}={_value(getattr(value, attribute.name))}"
        for attribute in attrs.fields(kind)
        if attribute.repr and getattr(value, attribute.name) != attribute.default
    ]
    return " ".join([kind.__name__, *shown])


def _value(value: Any) -> str:
    if isinstance(value, bytes):
        return _frame(value)
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, type):
        return value.__name__
    if attrs.has(type(value)):
        return _cut(f"({show(value)})")
    return _cut(repr(value))


def _frame(data: bytes) -> str:
    return _cut(ascii(data.decode("utf-8", "backslashreplace"))[1:-1])


def _cut(text: str) -> str:
    text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
    if len(text) <= _SHOWN:
        return text
    return f"{text[:_SHOWN]}… ({len(text) - _SHOWN} more)"
