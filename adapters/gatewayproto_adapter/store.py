"""What a gateway writes ahead, on its way to the store and back. No I/O here."""

from collections.abc import Callable, Sequence
from typing import Protocol

from gatewayproto.actions import Persist
from gatewayproto.inputs import GatewayInput, Persisted
from gatewayproto_adapter.hooks import Job, Runner


class Store(Protocol):
    """Keeps the records of sessions, for `Gateway.recover_stored` in a later process.

    Spec: the how-to "Store sessions".
    """

    async def persist(self, batch: Sequence[Persist]) -> None:
        """Store the records, in this order; return once all of them would outlive a crash.

        One batch at a time; what comes meanwhile is the next one. To try again is the store's own
        affair: what it raises ends the server, and nothing of the batch is confirmed. Not cancelled
        when the server closes in an orderly way, which waits for it.
        """
        ...


class StoreWriter:
    """Gives records to a store, one batch after the other, and confirms what it has stored.

    What comes while a batch is under way is gathered; the machine bounds it by `max_unstored`.
    `failed` is called once, with what the store raised; after that nothing is stored any more.
    """

    def __init__(
        self,
        store: Store,
        runner: Runner,
        give: Callable[[GatewayInput], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._store = store
        self._runner = runner
        self._give = give
        self._failed = failed
        self._waiting: list[Persist] = []
        self._job: Job | None = None
        self.stopped = False
        """Whether nothing is stored any more."""

    def add(self, record: Persist) -> None:
        """Have a record stored, after all before it."""
        if self.stopped:
            return
        self._waiting.append(record)
        if self._job is None:
            self._job = self._runner.start(self._write, name="gatewayproto store", lasting=True)

    def cancel(self) -> None:
        """Store nothing any more, and do not wait for what is under way."""
        self.stopped = True
        self._waiting.clear()
        if self._job is not None:
            self._job.cancel()

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = tuple(self._waiting), []
                await self._runner.call(self._store.persist(batch), lambda: self.stopped)
                self._confirm(batch)
        except Exception as error:  # noqa: BLE001 - raised again where the server is closed
            self._stop()
            self._failed(error)
        except BaseException:
            self._stop()
            raise
        finally:
            self._job = None

    def _confirm(self, batch: Sequence[Persist]) -> None:
        newest = {each.session_id: each.number for each in batch}
        for session_id, number in newest.items():
            self._give(Persisted(session_id=session_id, number=number))

    def _stop(self) -> None:
        self.stopped = True
        self._waiting.clear()
