"""The machines of a world behind one face: give an input, get actions, a deadline or an exception.

`LiveGateway` and `LiveClient` hold the real machines. The explorer puts its own behind the same
face, which keep a machine as the bytes of its saved state.

Spec: the verification page, "One world".
"""

import json
import random
import zlib
from collections.abc import Callable
from typing import Any, Protocol, Self

from attrs import frozen

from gatewayproto.actions import ClientAction, GatewayAction, MessageReceived, ResumeToken
from gatewayproto.client import Client
from gatewayproto.config import ClientConfig, GatewayConfig
from gatewayproto.gateway import Gateway
from gatewayproto.inputs import ClientInput, GatewayInput
from gatewayproto.records import Stored
from gatewayproto.testing.steps import Restart, Violation


@frozen
class Outcome:
    """What one call of `handle` came to; see `gatewayproto.testing.steps.Step`."""

    actions: tuple[GatewayAction, ...] | tuple[ClientAction, ...]
    deadline: float | None
    raised: Exception | None = None


class GatewaySlot(Protocol):
    """A gateway of the world."""

    def handle(self, input_: GatewayInput, now: float) -> Outcome:
        """Give it an input; whatever it raises is in the outcome."""
        ...

    def save(self, now: float) -> None:
        """Put a copy of its state into the store; one that was there is replaced."""
        ...

    def swap(self, now: float) -> float | None:
        """Go on with a machine restored from its state; gives that one's deadline."""
        ...

    def restart(self, kind: Restart, now: float) -> float | None:
        """Let the process die and come back; gives the new machine's deadline."""
        ...

    def recover(self, stored: Stored, now: float, *, unbroken: bool) -> float | None:
        """Let the process die and come back from a store; gives the new machine's deadline."""
        ...

    def pending(self, session_id: str) -> tuple[MessageReceived, ...]:
        """The messages of a session that are not done."""
        ...

    def session_ids(self) -> tuple[str, ...]:
        """The sessions that it has; what an application asks after a restart."""
        ...

    def copy(self, now: float) -> Self:
        """The same machine in another world; its store, too, but not its twin."""
        ...


class ClientSlot(Protocol):
    """A client of the world."""

    def handle(self, input_: ClientInput, now: float) -> Outcome:
        """Give it an input; whatever it raises is in the outcome."""
        ...

    def swap(self, now: float) -> float | None:
        """Go on with a machine restored from its state; gives that one's deadline."""
        ...

    def copy(self, now: float) -> Self:
        """The same machine in another world."""
        ...


class Machines(Protocol):
    """Makes the machines of a world."""

    def gateway(self, config: GatewayConfig) -> GatewaySlot:
        """The gateway."""
        ...

    def client(self, name: str, config: ClientConfig, resume: ResumeToken | None) -> ClientSlot:
        """A client, by a name of its own."""
        ...


class LiveMachines:
    """The real machines, each with ids and jitter of its own that depend on nothing else."""

    def gateway(self, config: GatewayConfig) -> GatewaySlot:
        """The gateway."""
        return LiveGateway(config)

    def client(self, name: str, config: ClientConfig, resume: ResumeToken | None) -> ClientSlot:
        """A client, by a name of its own."""
        return LiveClient(name, config, resume)


class Numbered:
    """Ids that count: a prefix and a number. A copy goes on where the original stands."""

    def __init__(self, prefix: str, first: int = 0) -> None:
        self.prefix = prefix
        self.next = first

    def __call__(self) -> str:
        """The next id."""
        self.next += 1
        return f"{self.prefix}{self.next}"

    def copy(self) -> "Numbered":
        """Another that gives the same ids from here on."""
        return Numbered(self.prefix, self.next)


class Coarse(random.Random):
    """Draws multiples of 1/256.

    With configured times that are multiples of it, too, every sum of times is exact: a deadline
    that is saved as the seconds that remain comes back as the very same number.
    """

    def random(self) -> float:
        """0 to 255/256."""
        return int(super().random() * 256) / 256


def through_json(state: dict[str, Any]) -> dict[str, Any]:
    """What a store would give back."""
    plain: dict[str, Any] = json.loads(json.dumps(state))
    return plain


class LiveGateway:
    """A real gateway. After `swap` its original goes on as a twin that must do the same (P12)."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._ids = Numbered("g")
        self._machine = Gateway(config, ids=self._ids)
        self._twin: Gateway | None = None
        self._store: dict[str, Any] | None = None

    def handle(self, input_: GatewayInput, now: float) -> Outcome:
        """Give it an input; whatever it raises is in the outcome."""
        outcome = _handle(self._machine.handle, input_, now)
        deadline = self._machine.next_deadline
        if self._twin is not None:
            twin = _handle(self._twin.handle, input_, now)
            _compare("the gateway", outcome, deadline, twin, self._twin.next_deadline)
        return Outcome(outcome.actions, deadline, outcome.raised)

    def save(self, now: float) -> None:
        """Put a copy of its state into the store; one that was there is replaced."""
        self._store = through_json(self._machine.to_state(now=now))

    def swap(self, now: float) -> float | None:
        """Go on with a machine restored from its state; gives that one's deadline."""
        state = through_json(self._machine.to_state(now=now))
        self._twin, ids = self._machine, self._ids.copy()
        self._machine = Gateway.from_state(self._config, state, now=now, ids=ids)
        self._ids = ids
        return self._machine.next_deadline

    def restart(self, kind: Restart, now: float) -> float | None:
        """Let the process die and come back; gives the new machine's deadline."""
        self._twin = None
        if kind == "nothing":
            self._machine = Gateway(self._config, ids=self._ids)
            return None
        if kind == "copy":
            if self._store is None:
                raise ValueError("nothing was saved")
            state = self._store
        else:
            state = through_json(self._machine.to_state(now=now))
        self._machine = Gateway.recover(
            self._config, state, now=now, unbroken=kind == "whole", ids=self._ids
        )
        return self._machine.next_deadline

    def recover(self, stored: Stored, now: float, *, unbroken: bool) -> float | None:
        """Let the process die and come back from a store; gives the new machine's deadline."""
        self._twin = None
        plain = [(session_id, number, through_json(each)) for session_id, number, each in stored]
        try:
            self._machine = Gateway.recover_stored(
                self._config, plain, now=now, unbroken=unbroken, ids=self._ids
            )
        except ValueError as error:
            raise Violation("P12", f"what is stored cannot be recovered: {error}") from None
        return self._machine.next_deadline

    def pending(self, session_id: str) -> tuple[MessageReceived, ...]:
        """The messages of a session that are not done."""
        return self._machine.pending(session_id)

    def session_ids(self) -> tuple[str, ...]:
        """The sessions that it has."""
        return self._machine.session_ids

    def copy(self, now: float) -> "LiveGateway":
        """The same machine in another world; its store, too, but not its twin."""
        slot = LiveGateway(self._config)
        slot._machine, slot._ids, slot._store = self._machine, self._ids, self._store
        slot.swap(now)
        slot._twin = None
        return slot


class LiveClient:
    """A real client. After `swap` its original goes on as a twin that must do the same (P12)."""

    def __init__(
        self,
        name: str,
        config: ClientConfig,
        resume: ResumeToken | None,
        rng: random.Random | None = None,
    ) -> None:
        self._name = name
        self._config = config
        self._ids = Numbered(f"{name}-")
        self._rng = Coarse(zlib.crc32(name.encode())) if rng is None else rng
        self._machine = Client(config, rng=self._rng, resume=resume, ids=self._ids)
        self._twin: Client | None = None

    def handle(self, input_: ClientInput, now: float) -> Outcome:
        """Give it an input; whatever it raises is in the outcome."""
        outcome = _handle(self._machine.handle, input_, now)
        deadline = self._machine.next_deadline
        if self._twin is not None:
            twin = _handle(self._twin.handle, input_, now)
            _compare(self._name, outcome, deadline, twin, self._twin.next_deadline)
        return Outcome(outcome.actions, deadline, outcome.raised)

    def swap(self, now: float) -> float | None:
        """Go on with a machine restored from its state; gives that one's deadline."""
        state = through_json(self._machine.to_state(now=now))
        self._twin, ids, rng = self._machine, self._ids.copy(), type(self._rng)()
        rng.setstate(self._rng.getstate())
        self._machine = Client.from_state(self._config, state, rng=rng, now=now, ids=ids)
        self._ids, self._rng = ids, rng
        return self._machine.next_deadline

    def copy(self, now: float) -> "LiveClient":
        """The same machine in another world, without its twin."""
        slot = LiveClient(self._name, self._config, None, self._rng)
        slot._machine, slot._ids, slot._rng = self._machine, self._ids, self._rng
        slot.swap(now)
        slot._twin = None
        return slot


def _handle(handle: Callable[..., Any], input_: object, now: float) -> Outcome:
    try:
        return Outcome(handle(input_, now=now), None)
    except Exception as error:  # noqa: BLE001 -- whatever comes out is for the monitors to judge
        return Outcome((), None, error)


def _compare(
    who: str,
    outcome: Outcome,
    deadline: float | None,
    twin: Outcome,
    twin_deadline: float | None,
) -> None:
    if outcome.actions != twin.actions or type(outcome.raised) is not type(twin.raised):
        raise Violation(
            "P12", f"{who}, restored, gives {outcome.actions}; the original {twin.actions}"
        )
    if deadline != twin_deadline:
        raise Violation(
            "P12", f"{who}, restored, waits for {deadline}; the original for {twin_deadline}"
        )
