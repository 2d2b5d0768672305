"""Drivers of both machines over transports in memory: the smallest that do their whole duty.

They are what `gatewayproto.testing.drivers` is shown on, and something to read before one writes
a driver. With a virtual clock they run in no time, and always in the same way.

Spec: the architecture page, "Machines".
"""

from gatewayproto.testing.memory.client import MemoryClient
from gatewayproto.testing.memory.harness import MemoryClientHarness, MemoryServerHarness
from gatewayproto.testing.memory.link import Endpoint
from gatewayproto.testing.memory.loop import Clock, Loop, RealClock, VirtualClock
from gatewayproto.testing.memory.server import MemoryServer

__all__ = [
    "Clock",
    "Endpoint",
    "Loop",
    "MemoryClient",
    "MemoryClientHarness",
    "MemoryServer",
    "MemoryServerHarness",
    "RealClock",
    "VirtualClock",
]
