"""The application that checks put behind a server's driver."""

from collections import deque
from collections.abc import Callable, Sequence

from attrs import define, field

from gatewayproto.actions import (
    AbortRequested,
    GatewayEvent,
    JoinRequested,
    MessageReceived,
    Persist,
    SnapshotNeeded,
)
from gatewayproto.inputs import Accept, Publish, Reject, SnapshotReady


class HookError(Exception):
    """What a check's application raises on purpose. The driver is to contain it."""


def accept(join: JoinRequested) -> Accept | Reject:
    """Accept everybody."""
    return Accept(connection=join.connection)


@define
class Backend:
    """Call its hooks where the driver calls its application's, and carry out what they give.

    - `join`, for every `JoinRequested`: gives `Accept` or `Reject`, for the machine.
    - `auth`, for every `AuthRequested`, with its `join`: the same.
    - `message`, for every `MessageReceived`: gives what is to be published from inside the hook;
      after that the message is done.
    - `abort`, for every `AbortRequested`: gives what is to be published from inside the hook.
    - `snapshot`, for every `SnapshotNeeded`: gives `SnapshotReady`, for the machine.
    - `event`, for everything that the machine emits, in order: gives what is to be published from
      inside the hook.
    - `persist`, where the driver calls its store, which it has for a machine that writes ahead.

    Any of them may raise `HookError`.
    """

    on_join: Callable[[JoinRequested], Accept | Reject] = accept
    on_auth: Callable[[JoinRequested], Accept | Reject] = accept
    on_message: Callable[[MessageReceived], tuple[Publish, ...]] = lambda _: ()
    on_abort: Callable[[AbortRequested], tuple[Publish, ...]] = lambda _: ()
    on_snapshot: Callable[[SnapshotNeeded], SnapshotReady] | None = None
    on_event: Callable[[GatewayEvent], tuple[Publish, ...]] = lambda _: ()
    on_persist: Callable[[Sequence[Persist]], None] = lambda _: None
    joins: list[JoinRequested] = field(factory=list)
    """What `join` was called with."""
    auths: list[JoinRequested] = field(factory=list)
    """What `auth` was called with."""
    messages: list[MessageReceived] = field(factory=list)
    """What `message` was called with."""
    aborts: list[AbortRequested] = field(factory=list)
    """What `abort` was called with."""
    told: list[GatewayEvent] = field(factory=list)
    """What `event` was called with."""
    batches: list[tuple[Persist, ...]] = field(factory=list)
    """What `persist` was called with."""
    holding: bool = False
    """Whether the store takes its time: until `release`."""
    stored: dict[str, int] = field(factory=dict)
    """The number of the newest record that is stored, for each session."""
    _held: deque[Callable[[], None]] = field(factory=deque)

    def join(self, join: JoinRequested) -> Accept | Reject:
        """Decide on a handshake. A hook that raises rejects it with `internal_error`."""
        self.joins.append(join)
        return self.on_join(join)

    def auth(self, join: JoinRequested) -> Accept | Reject:
        """Decide on fresh credentials. A hook that raises rejects them with `internal_error`."""
        self.auths.append(join)
        return self.on_auth(join)

    def message(self, message: MessageReceived) -> tuple[Publish, ...]:
        """Work on a message. One at which the hook raises is done, too."""
        self.messages.append(message)
        return self.on_message(message)

    def abort(self, abort: AbortRequested) -> tuple[Publish, ...]:
        """Stop a run. A hook that raises changes nothing."""
        self.aborts.append(abort)
        return self.on_abort(abort)

    def snapshot(self, needed: SnapshotNeeded) -> SnapshotReady:
        """Build a snapshot. A hook that raises answers nothing."""
        if self.on_snapshot is None:
            raise HookError("no snapshot is built here")
        return self.on_snapshot(needed)

    def event(self, event: GatewayEvent) -> tuple[Publish, ...]:
        """Take note of an event. A hook that raises changes nothing."""
        self.told.append(event)
        return self.on_event(event)

    def persist(self, batch: Sequence[Persist], done: Callable[[], None]) -> None:
        """Store a batch, and call `done` once it is: at once, or when the check says so.

        A store that raises ends the server, and `done` is not called.
        """
        self.batches.append(tuple(batch))
        self.on_persist(batch)
        self._held.append(lambda: self._store(batch, done))
        if not self.holding:
            self.release()

    def release(self) -> None:
        """Have the store do what it has not done."""
        while self._held:
            self._held.popleft()()

    @property
    def storing(self) -> int:
        """How many batches the store is at work on."""
        return len(self._held)

    def _store(self, batch: Sequence[Persist], done: Callable[[], None]) -> None:
        self.stored.update({each.session_id: each.number for each in batch})
        done()
