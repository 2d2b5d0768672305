"""Clients' drivers that fail in one part of their duty each."""

# ruff: noqa: SLF001 -- they break what is private to the drivers that they are made of
# pyright: reportPrivateUsage=false

from typing import Any

from attrs import evolve

from gatewayproto.actions import (
    ClientAction,
    ClientEvent,
    CloseTransport,
    EventReceived,
    SendFrame,
)
from gatewayproto.inputs import (
    Activity,
    ClientInput,
    Disconnect,
    FrameReceived,
    Taken,
    TransportClosed,
)
from gatewayproto.testing.memory import Endpoint, MemoryClient
from gatewayproto.testing.memory.client import ClientTransport, Item
from gatewayproto.testing.memory.link import Record
from tests.testing.broken_drivers import (
    ArmingForInputs,
    Broken,
    Changing,
    NeverArming,
    PiecewiseReader,
    entering,
)

CLIENTS: list[Broken] = []
caught_by = entering(CLIENTS)


class ClientWith(Changing, MemoryClient):
    pass


@caught_by("hands_on_in_order")
class HandsOnTheNewestFirst(MemoryClient):
    def tell(self, event: ClientEvent) -> None:
        super().tell(event)
        if isinstance(event, EventReceived) and len(self.items) > 2:
            self.items[-1], self.items[-2] = self.items[-2], self.items[-1]


@caught_by("hands_on_in_order")
class HandsOnTwice(MemoryClient):
    def tell(self, event: ClientEvent) -> None:
        super().tell(event)
        if isinstance(event, EventReceived) and event.seq == 7:
            super().tell(event)


class ClientReadingPieces(ClientTransport):
    def __init__(self, client: MemoryClient, number: int, endpoint: Endpoint) -> None:
        super().__init__(client, number, endpoint)
        self._reader = PiecewiseReader(client.max_payload)


@caught_by("reads_bytes_cut_anywhere")
class ClientReadsPieces(MemoryClient):
    transport_type = ClientReadingPieces


@caught_by("bounds_what_it_reads")
class ClientReadsAnySize(MemoryClient):
    def __init__(self, *arguments: Any, max_payload: int) -> None:
        super().__init__(*arguments, max_payload=2**30 + max_payload)


@caught_by("sends_in_order")
class SendsTheNewestFirst(MemoryClient):
    def give(self, input_: ClientInput) -> None:
        before = len(self._actions)
        applying, self._applying = self._applying, True
        super().give(input_)
        self._applying = applying
        given = [self._actions.pop() for _ in range(len(self._actions) - before)][::-1]
        frames = [each for each in given if isinstance(each, SendFrame)]
        self._actions.extend(frames.pop() if isinstance(each, SendFrame) else each
                             for each in given)  # fmt: skip
        if not applying:
            while self._actions:
                self.apply(self._actions.popleft())
            self.arm()


@caught_by("tells_what_was_taken")
class ForgetsTaken(ClientWith):
    def change(self, input_: ClientInput) -> tuple[ClientInput, ...]:
        return () if isinstance(input_, Taken) else (input_,)


@caught_by("tells_what_was_taken")
class CallsTakenWhatIsBeingWorkedOn(MemoryClient):
    def take(self) -> Item:
        item = super().take()
        self.finish()
        return item


@caught_by("reads_no_more_than_is_taken")
class ReadsOn(MemoryClient):
    @property
    def may_read(self) -> bool:
        return True


@caught_by("gives_up_who_never_welcomes", "comes_back_when_nobody_answers")
class ClientNeverArms(NeverArming, MemoryClient):
    pass


@caught_by("gives_up_the_silent")
class ClientArmsForInputsAlone(ArmingForInputs, MemoryClient):
    pass


@caught_by("counts_any_byte_as_life")
class ClientTellsNoActivity(ClientWith):
    def change(self, input_: ClientInput) -> tuple[ClientInput, ...]:
        return () if isinstance(input_, Activity) else (input_,)


@caught_by("comes_back_when_nobody_answers")
class WaitsForNobody(MemoryClient):
    def open(self, number: int) -> None:
        dial, self._dial = self._dial, lambda: endpoint
        endpoint = dial()
        if endpoint is None:
            self._opening = 0
        else:
            super().open(number)
        self._dial = dial


class ClientLosing(ClientWith):
    """Changes what the machine is told of a transport's end."""

    def change(self, input_: ClientInput) -> tuple[ClientInput, ...]:
        return (self.why(input_) if isinstance(input_, TransportClosed) else input_,)

    def why(self, closed: TransportClosed) -> TransportClosed:
        return closed


@caught_by("goes_by_the_answer_to_the_upgrade")
class DropsTheStatus(ClientLosing):
    def why(self, closed: TransportClosed) -> TransportClosed:
        return evolve(closed, http_status=None)


@caught_by("goes_by_the_answer_to_the_upgrade")
class DropsRetryAfter(ClientLosing):
    def why(self, closed: TransportClosed) -> TransportClosed:
        return evolve(closed, retry_after_seconds=None)


@caught_by("goes_by_the_close_that_came")
class DropsTheCode(ClientLosing):
    def why(self, closed: TransportClosed) -> TransportClosed:
        return evolve(closed, code=None)


@caught_by("goes_by_the_close_that_came")
class DropsTheReason(ClientLosing):
    def why(self, closed: TransportClosed) -> TransportClosed:
        return evolve(closed, reason="")


@caught_by("goes_by_the_close_that_came")
class InventsACode(ClientLosing):
    def why(self, closed: TransportClosed) -> TransportClosed:
        return evolve(closed, code=1001 if closed.code is None else closed.code)


class Mixed(ClientTransport):
    """Believes that whatever comes belongs to the present connection."""

    def _take_record(self, kind: Record, content: bytes) -> None:
        current = self._client._transport
        if self._told and current is not None and kind is Record.TEXT:
            self._client.receive(FrameReceived(current._number, content))
        else:
            super()._take_record(kind, content)


@caught_by("keeps_connections_apart")
class MixesConnections(MemoryClient):
    transport_type = Mixed


@caught_by("disconnects_in_every_state")
class DisconnectsOnlyOnce(MemoryClient):
    def give(self, input_: ClientInput) -> None:
        if isinstance(input_, Disconnect) and self._timer is None:
            raise RuntimeError("there is nothing to disconnect")
        super().give(input_)


@caught_by("disconnects_in_every_state")
class DialsOnAfterDisconnect(MemoryClient):
    def apply(self, action: ClientAction) -> None:
        opening = self._opening
        super().apply(action)
        if isinstance(action, CloseTransport):
            self._opening = opening


@caught_by("disconnects_in_every_state")
class TellsAfterTheEnd(MemoryClient):
    def tell(self, event: ClientEvent) -> None:
        super().tell(event)
        if type(event).__name__ == "Stopped":
            self.loop.call_at(self.loop.now() + 0.01, lambda: self._on_event(event))


@caught_by("cancelled_leaves_nothing")
class LeavesItsTransport(MemoryClient):
    def cancel(self) -> None:
        self.give(Disconnect())


class CuttingOff(ClientTransport):
    def close(self, code: int, reason: str) -> None:
        del code, reason
        self.abort()


@caught_by("says_goodbye")
class CutsOff(MemoryClient):
    transport_type = CuttingOff


@caught_by("contains_what_callbacks_raise")
class SwallowsWhatCallbacksRaise(MemoryClient):
    def tell(self, event: ClientEvent) -> None:
        super().tell(event)
        self.failure = None


@caught_by("contains_what_callbacks_raise")
class GoesOnAfterCallbacksRaise(MemoryClient):
    def give(self, input_: ClientInput) -> None:
        if isinstance(input_, Disconnect) and self.failure is not None:
            self.failure = None
            return
        super().give(input_)
