"""Worlds whose machines are recorded, and what is to be known of what they recorded."""

import io
import json
import random
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Self

from attrs import define, field

from gatewayproto.actions import ClientAction, GatewayAction, MessageReceived, ResumeToken
from gatewayproto.client import Client
from gatewayproto.config import ClientConfig, GatewayConfig
from gatewayproto.gateway import Gateway
from gatewayproto.inputs import ClientInput, GatewayInput
from gatewayproto.records import Stored
from gatewayproto.testing.machines import Outcome
from gatewayproto.testing.recording import Recording
from gatewayproto.testing.replaying import Replay, replay
from gatewayproto.testing.steps import Restart

ALPHABET = string.ascii_letters + string.digits + "-_"


class Ids:
    """Ids as they are made for real, and the same ones every time."""

    def __init__(self, seed: str) -> None:
        self._rng = random.Random(seed)
        self.drawn: list[str] = []

    def __call__(self) -> str:
        self.drawn.append("".join(self._rng.choices(ALPHABET, k=24)))
        return self.drawn[-1]


@define(eq=False)
class Recorded:
    """A machine that is recorded, as a world drives it."""

    machine: Gateway | Client
    file: io.BytesIO
    recording: Recording

    def handle(self, input_: Any, now: float) -> Outcome:
        actions: tuple[GatewayAction, ...] | tuple[ClientAction, ...] = ()
        raised: Exception | None = None
        try:
            actions = self.machine.handle(input_, now=now)
        except Exception as error:  # noqa: BLE001 -- recorded, too
            raised = error
        return Outcome(actions, self.machine.next_deadline, raised)

    @property
    def log(self) -> bytes:
        assert self.recording.failure is None
        return self.file.getvalue()

    # A recording is of one machine: these worlds restore none.

    def save(self, now: float) -> None:
        raise NotImplementedError(now)

    def swap(self, now: float) -> float | None:
        raise NotImplementedError(now)

    def restart(self, kind: Restart, now: float) -> float | None:
        raise NotImplementedError(kind, now)

    def recover(self, stored: Stored, now: float, *, unbroken: bool) -> float | None:
        raise NotImplementedError(stored, now, unbroken)

    def pending(self, session_id: str) -> tuple[MessageReceived, ...]:
        raise NotImplementedError(session_id)

    def session_ids(self) -> tuple[str, ...]:
        raise NotImplementedError

    def copy(self, now: float) -> Self:
        raise NotImplementedError(now)


@define(eq=False)
class RecordedMachines:
    """The machines of a world, all recorded; `secrets` are the gateway's to know from the start."""

    secrets: Sequence[str] = ()
    ids: Callable[[str], Callable[[], str]] = Ids
    all: dict[str, Recorded] = field(factory=dict)

    def gateway(self, config: GatewayConfig) -> Recorded:
        file = io.BytesIO()
        recording = Recording(file, secrets=self.secrets)
        machine = recording.gateway(config, ids=self.ids("gateway"))
        self.all["gateway"] = Recorded(machine, file, recording)
        return self.all["gateway"]

    def client(self, name: str, config: ClientConfig, resume: ResumeToken | None) -> Recorded:
        file = io.BytesIO()
        recording = Recording(file)
        rng, ids = random.Random(name), self.ids(name)
        machine = recording.client(config, rng=rng, resume=resume, ids=ids)
        self.all[name] = Recorded(machine, file, recording)
        return self.all[name]


def record_gateway(
    config: GatewayConfig, steps: Iterable[tuple[float, GatewayInput]], **options: Any
) -> bytes:
    """The recording of a gateway that is given these inputs at their times."""
    slot = RecordedMachines(**options).gateway(config)
    for now, input_ in steps:
        slot.handle(input_, now)
    return slot.log


def record_client(
    config: ClientConfig,
    steps: Iterable[tuple[float, ClientInput]],
    *,
    resume: ResumeToken | None = None,
) -> bytes:
    """The recording of a client that is given these inputs at their times."""
    slot = RecordedMachines().client("client", config, resume)
    for now, input_ in steps:
        slot.handle(input_, now)
    return slot.log


def replayed(log: bytes, **options: Any) -> Replay:
    """What comes of a recording."""
    return replay(io.BytesIO(log), **options)


def texts(log: bytes) -> Iterator[str]:
    """Every text in a recording: all strings of its lines, and of the JSON that is in strings."""
    for line in log.splitlines():
        yield from _texts(json.loads(line))


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
            try:
                inner = json.loads(value)
            except ValueError:
                return
            if isinstance(inner, dict):
                yield from _texts(inner)
        case dict():
            yield from value
            for item in value.values():
                yield from _texts(item)
        case list():
            for item in value:
                yield from _texts(item)
        case _:
            pass


def holds(log: bytes, secret: str) -> bool:
    """Whether a secret is anywhere in a recording."""
    return any(secret in text for text in texts(log))
