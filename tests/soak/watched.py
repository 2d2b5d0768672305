"""A client's machine whose every step is judged by the monitors of `gatewayproto.testing`."""

import random
from collections import Counter
from collections.abc import Callable

from gatewayproto.actions import ClientAction, ResumeToken
from gatewayproto.client import Client
from gatewayproto.config import ClientConfig
from gatewayproto.inputs import ClientInput
from gatewayproto.testing.monitors import Monitors
from gatewayproto.testing.monitors.wire import decode, read, read_loosely
from gatewayproto.testing.steps import WORLD, ClientAdded, Setup, Step, Violation

_NAME = "tab"


def forget_frames() -> None:
    """Let go of the frames that the monitors remember: it is not their memory that is measured."""
    for remembering in (decode, read, read_loosely):
        remembering.cache_clear()


class WatchedClient(Client):
    """Behaves as a `Client`; what the monitors find is reported, and ends their watch."""

    def __init__(
        self,
        config: ClientConfig,
        /,
        *,
        rng: random.Random,
        resume: ResumeToken | None,
        report: Callable[[str], object],
        witnessed: Counter[str],
    ) -> None:
        super().__init__(config, rng=rng, resume=resume)
        self._report = report
        self._monitors: Monitors | None = Monitors(Setup())
        self._monitors.witnessed = witnessed
        self._observe(Step(now=0.0, who=WORLD, input=ClientAdded(_NAME, config, resume)))

    def handle(self, input_: ClientInput, *, now: float) -> tuple[ClientAction, ...]:
        """Handle it, and have it judged."""
        try:
            actions = super().handle(input_, now=now)
        except Exception as error:
            self._observe(Step(now=now, who=_NAME, input=input_, raised=error))
            raise
        self._observe(
            Step(now=now, who=_NAME, input=input_, actions=actions, deadline=self.next_deadline)
        )
        return actions

    def _observe(self, step: Step) -> None:
        if self._monitors is None:
            return
        try:
            self._monitors.observe(step)
        except Violation as violation:
            self._monitors = None
            self._report(str(violation))
