"""Recordings, run once more: the same actions, or the first that differ.

A fresh machine is given the inputs of a recording at their times, with the ids and random numbers
that were drawn, and what it gives is compared with what was recorded. The monitors judge what it
does, as they judge every run. A recording is untrusted: no code is imported by a name in it, and
whatever its bytes are, the answer is a result or an `UnreadableError`.

Spec: the verification page, "Recorded inputs".
"""

import json
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any, Final, Literal

from attrs import define, evolve, frozen

from gatewayproto.client import Client
from gatewayproto.config import ClientConfig, GatewayConfig
from gatewayproto.gateway import Gateway
from gatewayproto.projection import Projection
from gatewayproto.testing._recorded import (
    FormatError,
    Header,
    Kind,
    Line,
    Plain,
    Writer,
    read_header,
    read_line,
)
from gatewayproto.testing._redaction import BLANK, Verbatim
from gatewayproto.testing.monitors import Monitors
from gatewayproto.testing.steps import GATEWAY, WORLD, ClientAdded, Setup, Step, Violation

if TYPE_CHECKING:
    from gatewayproto.actions import ClientAction, GatewayAction

MAX_LINE: Final = 256 * 1024 * 1024
"""Bytes of the longest line that is read."""
CLIENT: Final = "client"
"""How a recorded client is called in steps."""
_KEPT: Final = 20

Aspect = Literal["actions", "deadline", "raised", "ids", "random"]


class UnreadableError(Exception):
    """A line is none of a recording's: `line` counts from 1, `reason` says why."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


@frozen(kw_only=True)
class Difference:
    """The first line whose input now gives something else.

    - `aspect`: in what they differ. For actions, `at` is the index of the first that does.
    - `expected`, `got`: as recorded, and now; for actions, the whole of them as plain data.
    - `steps`: the last ones, the one that differs at their end, for a transcript.
    """

    line: int
    input: str
    aspect: Aspect
    expected: Any
    got: Any
    at: int | None = None
    steps: tuple[Step, ...] = ()


@frozen(kw_only=True)
class Breach:
    """The first property that was broken.

    `line` is the one that showed it, None where the end did; `steps` are the last ones until then.
    """

    line: int | None
    violation: Violation
    steps: tuple[Step, ...]


@frozen(kw_only=True)
class Replay:
    """What came of a replay.

    - `inputs`: how many were given, the one that differs among them; `left_out`: how many could
      not be, mistakes of the caller that the machine had refused.
    - `seconds`: from the first to the last of them.
    - `cut_off`: the last line was not at its end and does not count.
    - `witnessed`: what the monitors saw, by name.
    """

    machine: Kind
    release: str
    inputs: int
    left_out: int
    seconds: float
    cut_off: bool
    difference: Difference | None
    breach: Breach | None
    witnessed: Mapping[str, int]

    @property
    def same(self) -> bool:
        """Whether the same inputs gave the same actions."""
        return self.difference is None


def replay(file: IO[bytes], *, projection: Callable[[], Projection] | None = None) -> Replay:
    """Replay a recording as far as the first difference.

    `projection` makes the gateway's projection where the recording was not made with the default.

    Raises:
        UnreadableError: A line is none of a recording's, or the recording was made with another
            projection and none is given.
        OSError: The file cannot be read.
    """
    lines = _Lines(file)
    header = _header(lines, projection)
    machine = _Machine.of(header)
    watch = _Watch(header)
    run = _Run()
    for number, data in lines:
        try:
            line = read_line(data, header.machine)
        except FormatError as error:
            raise UnreadableError(number, str(error)) from None
        if run.last is not None and line.now < run.last:
            raise UnreadableError(number, "its time is before the one of the line above")
        run.note(line)
        if line.input is None:
            continue
        step, difference = machine.give(line, number)
        watch.observe(step, number)
        if difference is not None:
            run.difference = evolve(difference, steps=watch.last)
            break
    else:
        watch.finish()
    return Replay(
        machine=header.machine,
        release=header.release,
        inputs=run.inputs,
        left_out=run.left_out,
        seconds=run.seconds,
        cut_off=lines.cut_off,
        difference=run.difference,
        breach=watch.breach,
        witnessed=watch.witnessed,
    )


# -- reading ----------------------------------------------------------------------------------


class _Lines:
    """The lines of a file, numbered from 1. Raises `UnreadableError` for one that is too long."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._number = 0
        self.cut_off = False

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        while data := self._file.readline(MAX_LINE + 1):
            self._number += 1
            if len(data) > MAX_LINE:
                raise UnreadableError(self._number, f"more than {MAX_LINE} bytes")
            if not data.endswith(b"\n"):
                self.cut_off = True
                return
            yield self._number, data


def _header(lines: _Lines, projection: Callable[[], Projection] | None) -> Header:
    number, data = next(iter(lines), (1, b""))
    try:
        header = read_header(data)
    except FormatError as error:
        raise UnreadableError(number, str(error)) from None
    if not isinstance(header.config, GatewayConfig):
        return header
    if header.projection is not None and projection is None:
        made_with = ascii(header.projection)
        raise UnreadableError(1, f"made with the projection {made_with}, which is to be given")
    if projection is None:
        return header
    return evolve(header, config=evolve(header.config, projection=projection))


@define
class _Run:
    """How far a replay has come."""

    inputs: int = 0
    left_out: int = 0
    first: float | None = None
    last: float | None = None
    difference: Difference | None = None

    def note(self, line: Line) -> None:
        self.first = line.now if self.first is None else self.first
        self.last = line.now
        if line.input is None:
            self.left_out += 1
        else:
            self.inputs += 1

    @property
    def seconds(self) -> float:
        return 0.0 if self.first is None or self.last is None else self.last - self.first


# -- the machine ------------------------------------------------------------------------------


class _Drawn:
    """What a machine draws: what was recorded, in order. It counts how much more was wanted."""

    def __init__(self) -> None:
        self.fill((), ())

    def fill(self, ids: Iterable[str], numbers: Iterable[float]) -> None:
        """What the next input makes the machine draw."""
        self.ids = deque(ids)
        self.numbers = deque(numbers)
        self.missed_ids = self.missed_numbers = 0

    def id(self) -> str:
        if self.ids:
            return self.ids.popleft()
        self.missed_ids += 1
        return f"not-recorded-{self.missed_ids}"

    def number(self) -> float:
        if self.numbers:
            return self.numbers.popleft()
        self.missed_numbers += 1
        return 0.0


class _Numbers(random.Random):
    def __init__(self, drawn: _Drawn) -> None:
        super().__init__(0)
        self._drawn = drawn

    def random(self) -> float:
        return self._drawn.number()


class _Machine:
    """The machine that is given the inputs, and the comparison of what it gives."""

    def __init__(self, machine: Gateway | Client, who: str, drawn: _Drawn) -> None:
        self._machine = machine
        self._who = who
        self._drawn = drawn
        kind: Kind = "gateway" if isinstance(machine, Gateway) else "client"
        self._writer = Writer(kind, Verbatim())

    @classmethod
    def of(cls, header: Header) -> "_Machine":
        """The machine that a recording was of. Raises `UnreadableError`."""
        drawn = _Drawn()
        match header.config:
            case GatewayConfig() as config:
                return cls(Gateway(config, ids=drawn.id), GATEWAY, drawn)
            case ClientConfig() as config:
                try:
                    client = Client(config, rng=_Numbers(drawn), resume=header.resume, ids=drawn.id)
                except ValueError as error:
                    raise UnreadableError(1, f"its position is none: {error}") from None
                return cls(client, CLIENT, drawn)

    def give(self, line: Line, number: int) -> tuple[Step, Difference | None]:
        """Give it the input of a line: the step, and in what it differs from the line."""
        assert line.input is not None
        self._drawn.fill(line.ids, line.random)
        actions: tuple[GatewayAction, ...] | tuple[ClientAction, ...] = ()
        raised: Exception | None = None
        try:
            # A line's input is one of this machine's: they were read as such.
            actions = self._machine.handle(line.input, now=line.now)  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001 -- compared with what was raised then
            raised = error
        step = Step(
            now=line.now,
            who=self._who,
            input=line.input,
            actions=actions,
            deadline=self._machine.next_deadline,
            raised=raised,
        )
        return step, self._compare(line, step, number)

    def _compare(self, line: Line, step: Step, number: int) -> Difference | None:
        def differ(aspect: Aspect, expected: Any, got: Any, at: int | None = None) -> Difference:
            return Difference(
                line=number, input=line.name, aspect=aspect, expected=expected, got=got, at=at
            )

        raised = None if step.raised is None else type(step.raised).__name__
        if raised != line.raised:
            return differ("raised", line.raised, raised)
        got = [self._writer.action(action) for action in step.actions]
        at = _first_difference(line.actions, got)
        if at is not None:
            return differ("actions", list(line.actions), got, at)
        if step.deadline != line.deadline:
            return differ("deadline", line.deadline, step.deadline)
        drawn = self._drawn
        if drawn.ids or drawn.missed_ids:
            recorded = len(line.ids)
            return differ("ids", recorded, recorded - len(drawn.ids) + drawn.missed_ids)
        if drawn.numbers or drawn.missed_numbers:
            recorded = len(line.random)
            return differ("random", recorded, recorded - len(drawn.numbers) + drawn.missed_numbers)
        return None


# -- comparing --------------------------------------------------------------------------------


def _first_difference(expected: tuple[Plain, ...], got: list[Plain]) -> int | None:
    for at, (one, other) in enumerate(zip(expected, got, strict=False)):
        if not _is_same(one, other):
            return at
    return None if len(expected) == len(got) else min(len(expected), len(got))


def _is_same(expected: Any, got: Any) -> bool:
    """Whether plain data is the same, but for what was blanked."""
    match expected, got:
        case (dict(), dict()) if expected.keys() == got.keys():
            return all(_is_same(expected[name], got[name]) for name in got)
        case (dict(), dict()):  # names may have been blanked, and are in the same order
            pairs = zip(expected.items(), got.items(), strict=False)
            return len(expected) == len(got) and all(
                _is_same(name, other) and _is_same(value, another)
                for (name, value), (other, another) in pairs
            )
        case (list(), list()):
            return len(expected) == len(got) and all(map(_is_same, expected, got))
        case (str(), str()):
            return _is_same_text(expected, got)
        case _:
            # 1, 1.0 and true are equal to each other, and NaN not to itself.
            return type(expected) is type(got) and repr(expected) == repr(got)


def _is_same_text(expected: str, got: str) -> bool:
    if expected == got:
        return True
    if BLANK not in expected and "\\u2588" not in expected:
        return False
    if len(expected) == len(got) and all(
        one in (other, BLANK) for one, other in zip(expected, got, strict=True)
    ):
        return True
    # A frame, in which what was blanked may have been escaped.
    try:
        one, other = json.loads(expected), json.loads(got)
    except (ValueError, RecursionError):
        return False
    return isinstance(one, dict) and one.get("type") == "snapshot" and _is_same(one, other)


# -- monitors ---------------------------------------------------------------------------------


class _Watch:
    """The monitors, and the last steps that there were."""

    def __init__(self, header: Header) -> None:
        self._steps: deque[Step] = deque(maxlen=_KEPT)
        self.breach: Breach | None = None
        match header.config:
            case GatewayConfig() as config:
                self._monitors = Monitors(Setup(gateway=config), tolerant=True)
            case ClientConfig() as config:
                self._monitors = Monitors(Setup(clients={CLIENT: config}), tolerant=True)
                added = ClientAdded(CLIENT, config, header.resume)
                self.observe(Step(now=0.0, who=WORLD, input=added), 1)

    @property
    def last(self) -> tuple[Step, ...]:
        """The last steps."""
        return tuple(self._steps)

    @property
    def witnessed(self) -> Mapping[str, int]:
        """What the monitors saw."""
        return dict(self._monitors.witnessed)

    def observe(self, step: Step, line: int) -> None:
        """Let the monitors judge a step, until one of them has found something."""
        self._steps.append(step)
        self._judge(lambda: self._monitors.observe(step), line)

    def finish(self) -> None:
        """The recording is at its end."""
        self._judge(self._monitors.finish, None)

    def _judge(self, judge: Callable[[], None], line: int | None) -> None:
        if self.breach is not None:
            return
        try:
            judge()
        except Violation as violation:
            self.breach = Breach(line=line, violation=violation, steps=self.last)
