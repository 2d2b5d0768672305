"""Servers' drivers that fail in one part of their duty each."""


# pyright: reportPrivateUsage=false

from collections.abc import Callable, Sequence
from typing import Any

from attrs import evolve

from gatewayproto.actions import (
    AbortRequested,
    AuthRequested,
    CloseConnection,
    Emit,
    GatewayAction,
    GatewayEvent,
    JoinRequested,
    Persist,
    Published,
    SendFrames,
    SnapshotNeeded,
)
from gatewayproto.errors import CLOSE_SERVICE_RESTART, ErrorCode
from gatewayproto.inputs import (
    Accept,
    Activity,
    ConnectionClosed,
    ConnectionOpened,
    Drained,
    GatewayInput,
    Persisted,
    Publish,
    Reject,
    SnapshotReady,
)
from gatewayproto.testing.memory import Endpoint, MemoryServer
from gatewayproto.testing.memory.server import ServerConnection
from tests.testing.broken_drivers import (
    ArmingForInputs,
    Broken,
    Changing,
    NeverArming,
    PiecewiseReader,
    entering,
)

SERVERS: list[Broken] = []
caught_by = entering(SERVERS)


class ServerWith(Changing, MemoryServer):
    pass


@caught_by("delivers_in_order")
class SwapsFrames(MemoryServer):
    def apply(self, action: GatewayAction) -> None:
        if isinstance(action, SendFrames):
            action = evolve(action, frames=action.frames[::-1])
        super().apply(action)


@caught_by("delivers_in_order")
class SendsToTheFirstOnly(MemoryServer):
    def apply(self, action: GatewayAction) -> None:
        if isinstance(action, SendFrames):
            action = evolve(action, connections=action.connections[:1])
        super().apply(action)


@caught_by("publishes_from_inside_keep_their_order", "tells_everything_in_order")
class AppliesInnerActionsFirst(MemoryServer):
    def give(self, input_: GatewayInput) -> None:
        for action in self._machine.handle(input_, now=self.loop.now()):
            self.apply(action)
        self.arm()


@caught_by("tells_everything_in_order")
class ForgetsToTell(MemoryServer):
    def apply(self, action: GatewayAction) -> None:
        if not (isinstance(action, Emit) and isinstance(action.event, Published)):
            super().apply(action)


@caught_by("tells_everything_in_order")
class TellsTwice(MemoryServer):
    def tell(self, event: GatewayEvent) -> None:
        super().tell(event)
        if isinstance(event, Published):
            super().tell(event)


class ServerReadingPieces(ServerConnection):
    def __init__(self, server: MemoryServer, endpoint: Endpoint) -> None:
        super().__init__(server, endpoint)
        self._reader = PiecewiseReader(server.max_payload)


@caught_by("reads_bytes_cut_anywhere")
class ReadsPieces(MemoryServer):
    connection_type = ServerReadingPieces


@caught_by("bounds_what_it_reads")
class ReadsAnySize(MemoryServer):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.max_payload = 2**30


@caught_by("closes_who_never_joins", "pings_the_quiet_and_gives_up_the_silent")
class NeverArms(NeverArming, MemoryServer):
    pass


@caught_by("pings_the_quiet_and_gives_up_the_silent")
class ArmsForInputsAlone(ArmingForInputs, MemoryServer):
    pass


@caught_by("closes_who_never_joins", "closes_when_credentials_expire")
class NeverMovesTheTimer(MemoryServer):
    def arm(self) -> None:
        if self._timer is None or self._stopping:
            super().arm()

    def expire(self) -> None:
        self._timer = None
        super().expire()


@caught_by("closes_who_never_joins")
class LooksAtTheTimeNowAndThen(MemoryServer):
    def arm(self) -> None:
        if self._timer is not None and not self._stopping:
            return
        super().arm()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self.loop.call_at(self.loop.now() + 1.0, self.expire)

    def expire(self) -> None:
        self._timer = None
        super().expire()


@caught_by("leaves_the_machine_in_peace")
class LooksAtTheTimeAllTheTime(MemoryServer):
    def arm(self) -> None:
        super().arm()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self.loop.call_at(self.loop.now() + 0.001, self.expire)


@caught_by("counts_any_byte_as_life")
class TellsNoActivity(ServerWith):
    def change(self, input_: GatewayInput) -> tuple[GatewayInput, ...]:
        return () if isinstance(input_, Activity) else (input_,)


@caught_by("gives_back_what_was_taken", "waits_for_who_does_not_read")
class ForgetsDrained(ServerWith):
    def change(self, input_: GatewayInput) -> tuple[GatewayInput, ...]:
        return () if isinstance(input_, Drained) else (input_,)


@caught_by("gives_back_what_was_taken")
class GivesBackLess(ServerWith):
    def change(self, input_: GatewayInput) -> tuple[GatewayInput, ...]:
        if isinstance(input_, Drained) and input_.size > 1000:
            return (evolve(input_, size=input_.size - 1),)
        return (input_,)


@caught_by("delivers_in_order")
class GivesBackTwice(ServerWith):
    def change(self, input_: GatewayInput) -> tuple[GatewayInput, ...]:
        return (input_, input_) if isinstance(input_, Drained) else (input_,)


class GivingBackAtOnce(ServerConnection):
    def send(self, frame: bytes) -> None:
        super().send(frame)
        if self.known:
            self._server.give(Drained(self.number, len(frame)))

    def flush(self) -> None:
        self._writer.write()


@caught_by("waits_for_who_does_not_read")
class GivesBackAtOnce(MemoryServer):
    connection_type = GivingBackAtOnce


class ClosingAtOnce(ServerConnection):
    def close(self, code: int, reason: str) -> None:
        super().close(code, reason)
        self.endpoint.close()
        self.let_go()


@caught_by("sends_what_is_owed_before_it_closes")
class ClosesAtOnce(MemoryServer):
    connection_type = ClosingAtOnce


@caught_by("closes_who_never_joins", "rejects_as_the_application_says")
class DropsCloseCodes(MemoryServer):
    def apply(self, action: GatewayAction) -> None:
        if isinstance(action, CloseConnection):
            action = evolve(action, code=1000)
        super().apply(action)


@caught_by("sends_what_is_owed_before_it_closes")
class DropsCloseReasons(MemoryServer):
    def apply(self, action: GatewayAction) -> None:
        if isinstance(action, CloseConnection):
            action = evolve(action, reason="")
        super().apply(action)


@caught_by("tells_every_end", "stops_in_good_order")
class ForgetsEnds(ServerWith):
    def change(self, input_: GatewayInput) -> tuple[GatewayInput, ...]:
        return () if isinstance(input_, ConnectionClosed) else (input_,)


@caught_by("tells_every_end")
class TellsEndsTwice(ServerWith):
    def change(self, input_: GatewayInput) -> tuple[GatewayInput, ...]:
        return (input_, input_) if isinstance(input_, ConnectionClosed) else (input_,)


class Patient(ServerConnection):
    def close(self, code: int, reason: str) -> None:
        super().close(code, reason)
        if self._timer is not None:
            self._timer.cancel()


@caught_by("lets_go_of_who_never_answers")
class WaitsForEveryAnswer(MemoryServer):
    connection_type = Patient


@caught_by("stops_in_good_order")
class StopsDead(MemoryServer):
    def stop(self, code: int = CLOSE_SERVICE_RESTART) -> None:  # noqa: ARG002 -- as its base
        self.cancel()


@caught_by("cancelled_leaves_nothing")
class LeavesItsTimer(MemoryServer):
    def arm(self) -> None:
        stopping, self._stopping = self._stopping, False
        super().arm()
        self._stopping = stopping


@caught_by("cancelled_leaves_nothing")
class LeavesItsTransports(MemoryServer):
    def cancel(self) -> None:
        self._stopping = True
        self.arm()


@caught_by("passes_on_what_the_upgrade_said")
class LosesHeaders(ServerWith):
    def change(self, input_: GatewayInput) -> tuple[GatewayInput, ...]:
        return (evolve(input_, headers={}) if isinstance(input_, ConnectionOpened) else input_,)


@caught_by("passes_on_what_the_upgrade_said")
class LosesTheQuery(ServerWith):
    def change(self, input_: GatewayInput) -> tuple[GatewayInput, ...]:
        return (evolve(input_, query={}) if isinstance(input_, ConnectionOpened) else input_,)


@caught_by("passes_on_what_the_upgrade_said")
class LosesAddresses(ServerWith):
    def change(self, input_: GatewayInput) -> tuple[GatewayInput, ...]:
        return (evolve(input_, peer="") if isinstance(input_, ConnectionOpened) else input_,)


@caught_by("rejects_as_the_application_says")
class RejectsInItsOwnWords(MemoryServer):
    def decide(self, join: JoinRequested) -> Accept | Reject:
        answer = super().decide(join)
        if isinstance(answer, Reject):
            return Reject(connection=join.connection, code=ErrorCode.RATE_LIMITED)
        return answer


@caught_by("contains_what_hooks_raise")
class LetsHooksRaise(MemoryServer):
    def publish(self, hook: Callable[[], tuple[Publish, ...]]) -> None:
        for command in hook():
            self.give(command)


@caught_by("contains_what_hooks_raise")
class TellsWhatHooksRaise(MemoryServer):
    def decide(self, join: JoinRequested) -> Accept | Reject:
        answer = super().decide(join)
        if self.raised and isinstance(answer, Reject):
            return evolve(answer, message=str(self.raised[-1]))
        return answer


# -- the hooks that have no answer at once ----------------------------------------------------


@caught_by("closes_when_credentials_expire", "judges_fresh_credentials")
class ForgetsWhenCredentialsExpire(ServerWith):
    def change(self, input_: GatewayInput) -> tuple[GatewayInput, ...]:
        return (evolve(input_, expires_in=None) if isinstance(input_, Accept) else input_,)


@caught_by("judges_fresh_credentials")
class AcceptsWhateverIsFresh(MemoryServer):
    def renew(self, join: JoinRequested) -> Accept | Reject:
        return Accept(connection=join.connection)


@caught_by("judges_fresh_credentials")
class JudgesTheOldToken(MemoryServer):
    def renew(self, join: JoinRequested) -> Accept | Reject:
        return super().renew(evolve(join, token=None))


class Deaf(MemoryServer):
    """Does not do what it is told of one kind of event."""

    to: type[AuthRequested | AbortRequested | SnapshotNeeded]

    def tell(self, event: GatewayEvent) -> None:
        if isinstance(event, self.to):
            self.publish(lambda: self._hooks.event(event))
        else:
            super().tell(event)


@caught_by("judges_fresh_credentials")
class ForgetsFreshCredentials(Deaf):
    to = AuthRequested


@caught_by("passes_on_aborts")
class ForgetsAborts(Deaf):
    to = AbortRequested


@caught_by("has_snapshots_built")
class ForgetsSnapshots(Deaf):
    to = SnapshotNeeded


@caught_by("passes_on_aborts")
class LosesWhatIsToStop(MemoryServer):
    def tell(self, event: GatewayEvent) -> None:
        if isinstance(event, AbortRequested):
            event = evolve(event, run_id=None, request_id=None)
        super().tell(event)


@caught_by("has_snapshots_built")
class TakesTheSessionForTheEpoch(ServerWith):
    def change(self, input_: GatewayInput) -> tuple[GatewayInput, ...]:
        if isinstance(input_, SnapshotReady):
            return (evolve(input_, epoch=input_.session_id),)
        return (input_,)


# -- the store --------------------------------------------------------------------------------


@caught_by("confirms_what_is_stored", "ends_when_the_store_fails")
class ConfirmsAtOnce(MemoryServer):
    def keep(self, record: Persist) -> None:
        super().keep(record)
        self.give(Persisted(session_id=record.session_id, number=record.number))


@caught_by("confirms_what_is_stored")
class ConfirmsNothing(ServerWith):
    def change(self, input_: GatewayInput) -> tuple[GatewayInput, ...]:
        return () if isinstance(input_, Persisted) else (input_,)


@caught_by("confirms_what_is_stored", "stores_in_order")
class ConfirmsTheFirstOfABatch(MemoryServer):
    def confirm(self, batch: Sequence[Persist]) -> None:
        super().confirm(batch[:1])


@caught_by("stores_in_order")
class StoresBackwards(MemoryServer):
    def store(self) -> None:
        self._unstored.reverse()
        super().store()


@caught_by("stores_in_order")
class StoresTwice(MemoryServer):
    def store(self) -> None:
        self._unstored += self._unstored[-1:]
        super().store()


@caught_by("stores_in_order")
class DoesNotWaitForItsStore(MemoryServer):
    def keep(self, record: Persist) -> None:
        super().keep(record)
        self._storing = False


@caught_by("stores_in_order")
class ForgetsWhatComesMeanwhile(MemoryServer):
    def keep(self, record: Persist) -> None:
        if not self._storing or self._unstored:
            super().keep(record)


@caught_by("waits_for_the_store")
class StopsWithoutItsStore(MemoryServer):
    def stop(self, code: int = CLOSE_SERVICE_RESTART) -> None:
        self.store_no_more()
        super().stop(code)


@caught_by("ends_when_the_store_fails")
class GoesOnWithoutItsStore(MemoryServer):
    def stop(self, code: int = CLOSE_SERVICE_RESTART) -> None:
        if not self.raised:
            super().stop(code)


@caught_by("ends_when_the_store_fails")
class StoresOnWhateverHappens(MemoryServer):
    def store(self) -> None:
        batch = tuple(self._unstored)
        super().store()
        if self.raised:
            self._stores = True
            self.confirm(batch)
