"""What the explorer knows of a gateway: its past, folded to what the future is judged by.

What was published, where each connection's stream stands, which ids are in the inbox.

Spec: The welcome; Delivery; Requests.
"""

from collections.abc import Callable

from attrs import define, field

from gatewayproto.testing.explorer.history import Log
from gatewayproto.testing.monitors.handshakes import Handshake
from gatewayproto.testing.steps import Restart


@define(eq=False)
class Session:
    """A session: its `epoch` ("" until it is named), those before it, its log, its inbox's ids.

    `closed` is whether the application has closed it; the machine's state says so as well.
    """

    session_id: str
    agent_id: str
    principal: str | None
    log: Log
    epoch: str = ""
    past: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()
    closed: bool = False

    def copy(self) -> "Session":
        """The same in another world."""
        return Session(
            self.session_id,
            self.agent_id,
            self.principal,
            self.log,
            self.epoch,
            self.past,
            self.ids,
            self.closed,
        )

    def break_epoch(self) -> None:
        """Its numbering is broken: the next epoch that is named is another."""
        if self.epoch:
            self.past |= {self.epoch}
        self.epoch = ""

    def text(self, rename: Callable[[str], str]) -> str:
        """What tells it from others."""
        return (
            f"{self.session_id} {self.principal} {self.epoch} {self.log.digest}"
            f" {sorted(self.past)} {sorted(map(rename, self.ids))}"
        )


@define(eq=False)
class Connection:
    """One open connection.

    - `stage`: `opening`, `joining` while the application decides, `live`.
    - `position`: everything up to here is accounted for on it; None where a snapshot is due.
    - `back`: a `resume` asked for what comes after this. `until`: the head as of the attach or the
      newest `resume`: up to there events go as `replay`.
    - `halt`: it lagged here, and gets nothing but a snapshot after it.
    - `reason`: of the snapshot that is due; `more`: parts of one are still to come.
    """

    number: int
    stage: str = "opening"
    hello: Handshake | None = None
    version: int = 0
    session_id: str = ""
    position: int | None = None
    back: int | None = None
    until: int = 0
    halt: int | None = None
    reason: str | None = None
    more: bool = False

    def __str__(self) -> str:
        return f"connection {self.number}"

    def copy(self) -> "Connection":
        """The same in another world."""
        return Connection(
            self.number,
            self.stage,
            self.hello,
            self.version,
            self.session_id,
            self.position,
            self.back,
            self.until,
            self.halt,
            self.reason,
            self.more,
        )

    def text(self) -> str:
        """What tells it from others; the handshake is in the gateway's state as well."""
        return (
            f"{self.number} {self.stage} {self.session_id} {self.position} {self.back} {self.until}"
            f" {self.halt} {self.reason} {self.more}"
        )


@define(eq=False)
class Book:
    """What is known of a gateway: sessions, open connections, the log of each epoch ever named.

    `entered` are the ids that ever entered an inbox; `saved` are the sessions as of the last copy.
    """

    sessions: dict[str, Session] = field(factory=dict)
    connections: dict[int, Connection] = field(factory=dict)
    lives: dict[str, Log] = field(factory=dict)
    entered: frozenset[str] = frozenset()
    saved: dict[str, Session] | None = None

    def copy(self) -> "Book":
        """The same in another world; what was saved never changes."""
        return Book(
            {key: session.copy() for key, session in self.sessions.items()},
            {number: connection.copy() for number, connection in self.connections.items()},
            self.lives.copy(),
            self.entered,
            self.saved,
        )

    def text(self, rename: Callable[[str], str]) -> str:
        """What tells it from others."""
        parts = [session.text(rename) for session in self.sessions.values()]
        parts += [connection.text() for connection in self.connections.values()]
        parts += [f"{epoch} {log.digest}" for epoch, log in self.lives.items()]
        if self.saved is not None:
            parts += ["saved", *(session.text(rename) for session in self.saved.values())]
        return "\n".join([*parts, *sorted(map(rename, self.entered))])

    def save(self) -> None:
        """The gateway's state was copied to the store."""
        self.saved = {key: session.copy() for key, session in self.sessions.items()}

    def restart(self, kind: Restart) -> None:
        """The gateway's process died and came back."""
        self.connections.clear()
        before = self.sessions
        if kind == "nothing":
            self.sessions = {}
        elif kind == "copy":
            saved = self.saved or {}
            self.sessions = {key: session.copy() for key, session in saved.items()}
            for key, session in self.sessions.items():
                if key in before:
                    session.past |= before[key].past | {before[key].epoch}
        if kind != "whole":
            for session in self.sessions.values():
                session.break_epoch()
