"""Live machines in worlds whose clock is set back to `BASE` after every deed, as the explorer does.

So a way that the explorer found is walked again by machines that are never saved and restored, and
everything on it is the same, byte for byte.

Spec: the verification page, "Explorer".
"""

from typing import Any, Protocol, cast

import msgspec

from gatewayproto.actions import MessageReceived, ResumeToken
from gatewayproto.client import Client
from gatewayproto.config import ClientConfig, GatewayConfig
from gatewayproto.gateway import Gateway
from gatewayproto.records import Stored as Records
from gatewayproto.testing.explorer.folded import BASE, Constant, Machine, State, look, tag_of
from gatewayproto.testing.machines import ClientSlot, GatewaySlot, Numbered, Outcome
from gatewayproto.testing.steps import Restart
from gatewayproto.testing.world import World


class Rebased(Protocol):
    """A machine of a world whose clock can be set back."""

    @property
    def state(self) -> State[Any]:
        """The state that it is in, while the world's clock is at `BASE`."""
        ...

    def rebase(self, now: float) -> None:
        """From here on `BASE` is what was `now`."""
        ...


class Stored(Rebased, Protocol):
    """A gateway of such a world; `store` is the copy in the store."""

    @property
    def store(self) -> State[Any] | None:
        """The copy."""
        ...


def rebase(world: World) -> float:
    """Set a world's clock back to `BASE`; gives the seconds that passed."""
    seconds = world.now - BASE
    if seconds:
        for slot in (world.gateway, *(peer.slot for peer in world.peers.values())):
            cast("Rebased", slot).rebase(world.now)
        world.now = BASE
        if world.deadline is not None:
            world.deadline -= seconds
        for peer in world.peers.values():
            if peer.deadline is not None:
                peer.deadline -= seconds
    return seconds


class _Live:
    """A live machine whose clock is `ahead` of its world's."""

    def __init__(self, machine: Machine, ids: Numbered, tag: bytes) -> None:
        self._machine, self._ids, self._tag = machine, ids, tag
        self._ahead = 0.0

    @property
    def state(self) -> State[Any]:
        """The state that it is in, while the world's clock is at `BASE`."""
        return look(self._machine, self._ids, self._tag, BASE + self._ahead)

    @property
    def deadline(self) -> float | None:
        """When its timer is due, by the world's clock."""
        deadline = self._machine.next_deadline
        return None if deadline is None else deadline - self._ahead

    def handle(self, input_: Any, now: float) -> Outcome:
        """Give it an input; whatever it raises is in the outcome."""
        try:
            actions = self._machine.handle(input_, now=now + self._ahead)
        except Exception as error:  # noqa: BLE001 -- it is for the observer to judge
            return Outcome((), self.deadline, error)
        return Outcome(actions, self.deadline)

    def swap(self, now: float) -> float | None:  # noqa: ARG002 -- as others need it
        """Nothing: it is there to be compared with those that are restored at every step."""
        return self.deadline

    def rebase(self, now: float) -> None:
        """From here on `BASE` is what was `now`."""
        self._ahead += now - BASE


class LiveClient(_Live):
    """A live client."""

    def copy(self, now: float) -> "LiveClient":
        """There is one world only."""
        raise NotImplementedError

    def __init__(self, name: str, config: ClientConfig, resume: ResumeToken | None) -> None:
        ids = Numbered(f"{name}-")
        machine = Client(config, rng=Constant(), resume=resume, ids=ids)
        super().__init__(machine, ids, tag_of(config))


class LiveGateway(_Live):
    """A live gateway."""

    def __init__(self, config: GatewayConfig) -> None:
        ids = Numbered("g")
        self._config = config
        self._gateway = Gateway(config, ids=ids)
        self.store: State[Any] | None = None
        super().__init__(self._gateway, ids, b"")

    def copy(self, now: float) -> "LiveGateway":
        """There is one world only."""
        raise NotImplementedError

    def save(self, now: float) -> None:
        """Put a copy of its state into the store; one that was there is replaced."""
        self.store = look(self._gateway, self._ids, self._tag, now + self._ahead)

    def restart(self, kind: Restart, now: float) -> float | None:
        """Let the process die and come back; gives the new machine's deadline."""
        stored = (
            self.store
            if kind == "copy"
            else look(self._gateway, self._ids, self._tag, now + self._ahead)
        )
        if stored is None:
            raise ValueError("nothing was saved")
        if kind == "nothing":
            self._gateway = Gateway(self._config, ids=self._ids)
        else:
            self._gateway = Gateway.recover(
                self._config,
                msgspec.json.decode(stored.body),
                now=now + self._ahead,
                unbroken=kind == "whole",
                ids=self._ids,
            )
        self._machine = self._gateway
        return self.deadline

    def recover(self, stored: Records, now: float, *, unbroken: bool) -> float | None:
        """Let the process die and come back from a store; gives the new machine's deadline."""
        self._gateway = Gateway.recover_stored(
            self._config, stored, now=now + self._ahead, unbroken=unbroken, ids=self._ids
        )
        self._machine = self._gateway
        return self.deadline

    def pending(self, session_id: str) -> tuple[MessageReceived, ...]:
        """The messages of a session that are not done."""
        return self._gateway.pending(session_id)

    def session_ids(self) -> tuple[str, ...]:
        """The sessions that it has."""
        return self._gateway.session_ids


class RebasedMachines:
    """Live machines with the explorer's ids and jitter."""

    def gateway(self, config: GatewayConfig) -> GatewaySlot:
        """The gateway."""
        return LiveGateway(config)

    def client(self, name: str, config: ClientConfig, resume: ResumeToken | None) -> ClientSlot:
        """A client, by a name of its own."""
        return LiveClient(name, config, resume)
