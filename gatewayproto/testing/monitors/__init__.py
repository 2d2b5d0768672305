"""Monitors of P1 to P17: they see the steps of a run and nothing else, and judge it.

`Monitors` holds all that apply: those of the gateway, which see its own steps alone, those of each
client, and those that need both sides. Each property has witnesses, so that no run passes for want
of anything to judge; `missing_witnesses` names those that a whole campaign did not have.

Spec: the verification page, "Monitors".
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from gatewayproto.actions import ResumeToken
from gatewayproto.config import ClientConfig
from gatewayproto.testing.monitors.ahead import StoredView, WriteAhead
from gatewayproto.testing.monitors.base import Layer, Monitor
from gatewayproto.testing.monitors.believing import Believing
from gatewayproto.testing.monitors.bounds import Bounds
from gatewayproto.testing.monitors.building import Building
from gatewayproto.testing.monitors.client import ClientMonitor, ClientWatch
from gatewayproto.testing.monitors.clock import GatewayClock, GatewayLiveness
from gatewayproto.testing.monitors.convergence import EndToEnd, Resyncs, WorldMonitor
from gatewayproto.testing.monitors.decision import Decision
from gatewayproto.testing.monitors.delivery import Delivery
from gatewayproto.testing.monitors.draining import Draining
from gatewayproto.testing.monitors.fencing import ClientFence, GatewayFence
from gatewayproto.testing.monitors.gateway import GatewayMonitor, GatewayWatch
from gatewayproto.testing.monitors.handing_on import Cursor, HandingOn
from gatewayproto.testing.monitors.isolation import Isolation
from gatewayproto.testing.monitors.links import Links
from gatewayproto.testing.monitors.pushes import Pushes
from gatewayproto.testing.monitors.rates import Rates
from gatewayproto.testing.monitors.reconnecting import ClientClock, ClientLiveness, Endings
from gatewayproto.testing.monitors.requests import Requests
from gatewayproto.testing.monitors.sameness import Epochs, Swaps, same_actions
from gatewayproto.testing.monitors.sending import Sending
from gatewayproto.testing.monitors.totality import NamedErrors, Totality
from gatewayproto.testing.steps import (
    GATEWAY,
    WORLD,
    ClientAdded,
    Restarted,
    Setup,
    Step,
)

__all__ = [
    "CLIENT_MONITORS",
    "GATEWAY_MONITORS",
    "WORLD_MONITORS",
    "Monitor",
    "Monitors",
    "missing_witnesses",
    "same_actions",
]

GATEWAY_MONITORS: Final[tuple[type[GatewayMonitor], ...]] = (
    GatewayFence,
    NamedErrors,
    Isolation,
    Epochs,
    Decision,
    Delivery,
    Requests,
    Bounds,
    GatewayClock,
    GatewayLiveness,
    Pushes,
    Draining,
    Building,
    Rates,
)
CLIENT_MONITORS: Final[tuple[type[ClientMonitor], ...]] = (
    ClientFence,
    Believing,
    Cursor,
    HandingOn,
    Sending,
    ClientClock,
    ClientLiveness,
    Endings,
)
WORLD_MONITORS: Final[tuple[type[WorldMonitor] | type[Links], ...]] = (Links, EndToEnd, Resyncs)
_LAYERS: Final[Mapping[Layer, tuple[type[Monitor], ...]]] = {
    "gateway": GATEWAY_MONITORS,
    "client": CLIENT_MONITORS,
    "world": (*GATEWAY_MONITORS, *CLIENT_MONITORS, *WORLD_MONITORS),
}


class Monitors:
    """Every monitor that applies to a setup. What one finds is raised as a `Violation`.

    - `tolerant` allows the callers of the machines their mistakes: where `LocalProtocolError` was
      raised, nothing may have changed.
    - `witnessed` counts by property and witness, as in "P4 trimmed".
    """

    def __init__(self, setup: Setup, *, tolerant: bool = False) -> None:
        self.witnessed: Counter[str] = Counter()
        self._tolerant = tolerant
        self._totality: dict[str, Totality] = {}
        self._swaps = Swaps(self.witnessed)
        self._clients: dict[str, ClientWatch] = {}
        self._gateway: GatewayWatch | None = None
        self._world: list[Monitor] = []
        self._view: StoredView | None = None
        self._ahead: WriteAhead | None = None
        if setup.gateway is not None:
            self._gateway = GatewayWatch(setup.gateway, GATEWAY_MONITORS, self.witnessed)
            book = self._gateway.book
            self._world = [
                Links(self.witnessed),
                EndToEnd(self.witnessed, book, self._clients),
                Resyncs(self.witnessed, book, self._clients),
            ]
            if setup.gateway.write_ahead:
                self._view = StoredView(book)
                self._ahead = WriteAhead(self.witnessed)
        for name, config in setup.clients.items():
            self._add(name, config, None)

    def observe(self, step: Step) -> None:
        """Judge the next step.

        Raises `Violation`, and `ValueError` for a step of somebody who was never announced, by the
        setup or by `ClientAdded`: the monitors have to be there from the beginning.
        """
        if step.who == WORLD:
            self._happened(step)
        else:
            self._judge_raised(step)
            self._swaps.end(step)
        if self._ahead is not None:
            self._ahead.judge(step)
        for monitor in self._world:
            monitor.begin(step)
        if step.who in {GATEWAY, WORLD}:
            if self._gateway is not None:
                for shown in (step,) if self._view is None else self._view.see(step):
                    self._gateway.observe(shown)
        elif step.who in self._clients:
            self._clients[step.who].observe(step)
        else:
            raise ValueError(f"nobody announced {step.who!r}")
        for monitor in self._world:
            monitor.end(step)

    def finish(self) -> None:
        """The run is over. Raises `Violation`."""
        for watch in (self._gateway, *self._clients.values()):
            if watch is not None:
                watch.finish()
        for monitor in self._world:
            monitor.finish()

    def _happened(self, step: Step) -> None:
        self._swaps.begin(step)
        match step.input:
            case ClientAdded(client=who):
                self._add(who, step.input.config, step.input.resume)
            case Restarted():
                who = GATEWAY
            case _:
                return
        self._swaps.forget(who)
        self._totality[who] = Totality(
            self.witnessed, tolerant=self._tolerant, deadline=step.deadline
        )

    def _add(self, name: str, config: ClientConfig, resume: ResumeToken | None) -> None:
        self._clients[name] = ClientWatch(name, config, resume, CLIENT_MONITORS, self.witnessed)

    def _judge_raised(self, step: Step) -> None:
        totality = self._totality.get(step.who)
        if totality is None:
            totality = Totality(self.witnessed, tolerant=self._tolerant, deadline=None)
            self._totality[step.who] = totality
        totality.end(step)


def missing_witnesses(witnessed: Mapping[str, int], layer: Layer = "world") -> list[str]:
    """The witnesses that a campaign of runs did not have, of the monitors that saw its steps.

    A machine alone (`gateway`, `client`) is held to what a peer that may send anything shows, too.
    """
    needs = {each for kind in _LAYERS[layer] for each in kind.needs}
    if layer != "world":
        needs |= {each for kind in _LAYERS[layer] for each in kind.alone}
    return sorted(each for each in needs if not witnessed.get(each))
