"""The application that builds its snapshots itself, from a record of its own of what it published.

Spec: Snapshots; the verification page, "One world".
"""

from collections.abc import Iterable

from attrs import define, evolve, field

from gatewayproto.actions import Emit, Published, SessionExpired, SnapshotNeeded
from gatewayproto.frames import Event
from gatewayproto.inputs import GatewayInput, Publish, SnapshotReady
from gatewayproto.testing.reference import fold


@define(eq=False)
class Builder:
    """What was published in each session, and which states the gateway waits for.

    - `logs`: the events by session, the first with seq 1.
    - `needs`: the newest question of each session that has no answer yet, be it too late for one.
    - `known`: the newest question of each session, answered or not; `former`: the newest of an
      epoch before that.
    """

    logs: dict[str, list[Event]] = field(factory=dict)
    needs: dict[str, SnapshotNeeded] = field(factory=dict)
    known: dict[str, SnapshotNeeded] = field(factory=dict)
    former: dict[str, SnapshotNeeded] = field(factory=dict)
    _saved: dict[str, list[Event]] = field(factory=dict)

    def copy(self) -> "Builder":
        """The same application in another world."""
        return Builder(
            {session_id: list(log) for session_id, log in self.logs.items()},
            dict(self.needs),
            dict(self.known),
            dict(self.former),
            self._saved,
        )

    def note(self, input_: GatewayInput, actions: Iterable[object]) -> None:
        """Learn from what the gateway was given and what it gave."""
        if isinstance(input_, SnapshotReady):
            need = self.needs.get(input_.session_id)
            if need is not None and need.epoch == input_.epoch:
                del self.needs[input_.session_id]
        for action in actions:
            match action:
                case Emit(event=Published(session_id=session_id)):
                    if isinstance(input_, Publish):
                        self.logs.setdefault(session_id, []).append(input_.event)
                case Emit(event=SnapshotNeeded() as need):
                    self._ask(need)
                case Emit(event=SessionExpired(session_id=session_id)):
                    for each in (self.logs, self.needs, self.known, self.former):
                        each.pop(session_id, None)
                case _:
                    pass

    def _ask(self, need: SnapshotNeeded) -> None:
        before = self.known.get(need.session_id)
        if before is not None and before.epoch != need.epoch:
            self.former[need.session_id] = before
        self.known[need.session_id] = self.needs[need.session_id] = need

    def save(self) -> None:
        """The gateway's state was copied to a store, and the record with it."""
        self._saved = {session_id: list(log) for session_id, log in self.logs.items()}

    def restart(self, kind: str) -> None:
        """The gateway's process died, and every question with it."""
        if kind == "nothing":
            self.logs = {}
        elif kind == "copy":
            self.logs = {session_id: list(log) for session_id, log in self._saved.items()}
        self.needs.clear()
        for each in (self.known, self.former):
            for session_id in set(each) - set(self.logs):
                del each[session_id]

    def answer(self, need: SnapshotNeeded, cursor: int | None = None) -> SnapshotReady:
        """The state as of a cursor, the newest event's unless said otherwise."""
        log = self.logs.get(need.session_id, [])
        at = len(log) if cursor is None else cursor
        return SnapshotReady(
            session_id=need.session_id, epoch=need.epoch, cursor=at, state=fold(log[:at])
        )

    def answers(self) -> list[SnapshotNeeded]:
        """What may be answered: each need as of several cursors, and what nobody waits for.

        The cursors are the newest event's, the head that was asked for, and older ones; a state
        that nobody waits for is of the newest event, or of a former epoch.
        """
        found: list[SnapshotNeeded] = []
        for session_id, need in self.needs.items():
            head = len(self.logs.get(session_id, []))
            cursors = (head, need.cursor, max(0, need.cursor - 1), need.cursor // 2)
            found += [evolve(need, cursor=at) for at in dict.fromkeys(cursors) if at <= head]
        for session_id, need in self.known.items():
            if session_id not in self.needs:
                found.append(evolve(need, cursor=len(self.logs.get(session_id, []))))
        for session_id, need in self.former.items():
            if need.cursor <= len(self.logs.get(session_id, [])):
                found.append(need)
        return found
