"""Whether a client of a deployed server lost or repeated anything without a word.

It is judged by what the client told, in the form of `gatewayproto tail --json`, and by what the
server had published and could still give.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.blackbox.bbwire import Frame, brief
from tests.deployed.dpserver import DeployedServer, Life

_ENDS = {"accepted", "refused", "outcome_unknown"}


@dataclass
class Told:
    """What the client said, in figures."""

    events: int = 0
    snapshots: int = 0
    skips: int = 0
    gaps: int = 0
    anew: int = 0
    indistinct: int = 0
    """How often another numbering passed for the one before."""
    nudges: int = 0
    """How often the client went on with the next event alone."""


class Judge:
    """Takes a client's lines one by one; fails at the first that breaks the promise."""

    def __init__(self, server: DeployedServer) -> None:
        """Begin with a client that holds nothing."""
        self.server = server
        self.told = Told()
        self.position = 0
        self.life: int | None = None
        """The life of the server that what the client holds is of."""
        self.held = 0
        """The newest number of that life that was handed on, or covered by a snapshot."""

    def take(self, line: Frame) -> None:
        """Account for one line."""
        match line["emit"]:
            case "joined" if not line["resumed"]:
                self.told.anew += 1
                self.position, self.held, self.life = 0, 0, None
            case "event":
                self._take_event(line)
            case "skipped":
                self._take_skip(line)
            case "snapshot":
                self.told.snapshots += 1
                self.position = self.held = line["cursor"]
                self.life = line["state"]["life"]
                assert self.position <= self._published(line["state"]["life"]), brief(line)
            case "gap":
                self.told.gaps += 1
                assert line["expected"] == self.position + 1 < line["received"], brief(line)
            case _:
                pass

    def _take_event(self, line: Frame) -> None:
        life, seq = line["event"]["data"]["mark"]
        assert seq == line["seq"] == self.position + 1, f"at {self.position}: {brief(line)}"
        if self.life not in {None, life}:
            assert self._is_indistinct(life), (
                f"{brief(line)} follows {self.position} of life {self.life} without a word"
            )
            self.told.indistinct += 1
        self.told.events += 1
        self.position, self.held, self.life = seq, seq, life

    def _take_skip(self, line: Frame) -> None:
        self.told.skips += 1
        assert line["reason"] == "trimmed", brief(line)
        assert line["first"] == self.position + 1 <= line["last"], brief(line)
        assert self.told.gaps, f"no gap was told before {brief(line)}"
        assert any(each.floor == line["last"] + 1 for each in self.server.attaches), (
            f"the server held of it: {brief(line)}"
        )
        self.position = line["last"]

    def _is_indistinct(self, after: int) -> bool:
        """Tell whether nothing in version 1 could have told the client of the new numbering.

        The session's name is the same, and the client came with a number that the new one has.
        """
        lives: Sequence[Life] = self.server.lives
        if self.life is None or lives[self.life].session_id != lives[after].session_id:
            return False
        return any(
            each.life == after and each.known and self.held <= each.since <= each.head
            for each in self.server.attaches
            if each.since <= self.position
        )

    def _published(self, life: int) -> int:
        return self.server.lives[life].head

    def is_complete(self) -> bool:
        """Tell whether the client has what the server published last."""
        self.told.nudges = self.server.nudges
        return self.position >= self.server.end_at > 0 and self.life == self.server.life.number


def requests_are_right(lines: Iterable[Frame], server: DeployedServer, count: int) -> None:
    """Every message came to one end, and what was accepted has run.

    A server that remembers runs each once, also over restarts: what was written to one life is
    never written to another that can be told from it.
    """
    ends = Counter(line["request_id"] for line in lines if line["emit"] in _ENDS)
    assert len(ends) == count, ends
    assert set(ends.values()) <= {1}, ends
    known = [each for each in lines if each["emit"] == "accepted"]
    assert all(server.runs[line["request_id"]] for line in known), server.runs
    restarted = len(server.lives) > 1
    if not restarted:
        assert len(known) == count, lines
    if server.kind.remembers and not _may_repeat(server):
        assert set(server.runs.values()) <= {1}, server.runs


def _may_repeat(server: DeployedServer) -> bool:
    """Tell whether a client came to a new life with a position and a name that it knows."""
    lives = server.lives
    return any(
        each.known
        and each.since <= each.head
        and each.life > 0
        and lives[each.life].session_id == lives[each.life - 1].session_id
        for each in server.attaches
    )
