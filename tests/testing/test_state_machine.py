"""Both machines as one rule-based machine of Hypothesis: what breaks is made short."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from gatewayproto.testing.choices import Recorded
from gatewayproto.testing.deeds import Kind, options
from gatewayproto.testing.monitors import Monitors
from gatewayproto.testing.profiles import FAULTS, WORK, Profile, draw
from gatewayproto.testing.simulator import heal
from gatewayproto.testing.steps import Setup
from gatewayproto.testing.world import World

_PICKS = st.integers(0, 40)
_FAULTY = sorted({kind for fault in FAULTS.values() for kind in fault} - WORK.keys())
_CONNECTING = (Kind.OPEN, Kind.FLOW, Kind.WORK, Kind.FLOW)


class Worlds(RuleBasedStateMachine):
    """Work and faults in any order; at the end faults stop, and everybody must come to rest."""

    profile: Profile
    world: World

    @initialize(trace=st.lists(st.integers(0, 5), max_size=16))
    def begin(self, trace: list[int]) -> None:
        self.profile = draw("everything", Recorded(trace))
        self.monitors = Monitors(Setup(gateway=self.profile.gateway))
        self.world = World(self.profile.gateway, observe=self.monitors.observe)
        for config in self.profile.clients:
            self.world.add_client(config)
        for kind in _CONNECTING:
            self.do(kind, 0)

    def do(self, kind: Kind, pick: int) -> None:
        """Do a deed of this kind, if one is possible."""
        deeds = options(self.world, kind, self.profile.limits)
        if deeds:
            deeds[pick % len(deeds)]()

    @rule(kind=st.sampled_from([*WORK]), pick=_PICKS)
    def work(self, kind: Kind, pick: int) -> None:
        self.do(kind, pick)

    @rule(pick=_PICKS)
    def reconnect(self, pick: int) -> None:
        """What a client does after a fault, so that faults fall on living connections."""
        for kind in _CONNECTING:
            self.do(kind, pick)

    @rule(kind=st.sampled_from(_FAULTY), pick=_PICKS)
    def fault(self, kind: Kind, pick: int) -> None:
        self.do(kind, pick)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            heal(self.world)
            self.monitors.finish()


TestWorlds = Worlds.TestCase
TestWorlds.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
