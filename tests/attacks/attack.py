"""What an attack is, and how it is carried out and judged."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
from attrs import define, field, frozen

from tests.attacks.field import Field, Scale
from tests.attacks.limits import MIB
from tests.attacks.stand import MOST_LINES, Account, Stand, faults_of
from tests.attacks.target import TOKENS
from tests.blackbox.bbwire import HttpAnswerError, PeerClosedError

ADAPTERS: Final = ("asyncio", "trio")
LONGEST_SILENCE: Final = 15.0
"""Seconds that the witness may wait for an event: not speed, but that it is served at all."""
_LINGER: Final = 10.0
"""Seconds that a server may take to let go of an attacker who has gone."""
SECRET: Final = "secret-of-the-attacker-51a7"
"""What an attacker's tokens hold; no log may."""

Rude = Callable[[Field], object]


@frozen(kw_only=True)
class Attack:
    """An attack by its name, and what is to come of it.

    `answer` says it for people. `growth` bounds the server's memory, in bytes above what it had
    before, `full` at full scale. `allowed` is a pattern for the records that the server may log
    above `INFO`, and `lines` how many altogether. `open` says, for each adapter where something is
    not answered so yet, what.
    """

    name: str
    group: str
    act: Rude = field(repr=False)
    answer: str
    growth: int
    full: int
    allowed: str = ""
    profile: str = "standard"
    deep: bool = False
    open: Mapping[str, str] = {}
    lines: int = MOST_LINES

    @property
    def subject(self) -> str:
        """What is done."""
        return (self.act.__doc__ or "").strip().partition("\n")[0]


@define(kw_only=True)
class Report:
    """What came of an attack: empty `faults`, and figures.

    Memory in bytes: the highest above what there was before, and what stayed. `cpu` in seconds of
    the server's process, `lasted` in seconds.
    """

    attack: str
    adapter: str
    scale: str
    faults: list[str] = field(factory=list)
    before: int = 0
    growth: int = 0
    kept: int = 0
    bound: int = 0
    cpu: float = 0.0
    lasted: float = 0.0
    witness: Account | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return attrs.asdict(self)


ATTACKS: Final[dict[str, Attack]] = {}


def attack(
    group: str,
    *,
    answer: str,
    growth: int = 8 * MIB,
    full: int | None = None,
    allowed: str = "",
    profile: str = "standard",
    deep: bool = False,
    open: str | Mapping[str, str] = "",  # noqa: A002 - as the field
    lines: int = MOST_LINES,
) -> Callable[[Rude], Rude]:
    """Make an attack of a function, under the function's name."""

    def made(act: Rude) -> Rude:
        name = act.__name__.replace("_", "-")
        ATTACKS[name] = Attack(
            name=name,
            group=group,
            act=act,
            answer=answer,
            growth=growth,
            full=growth if full is None else full,
            allowed=allowed,
            profile=profile,
            deep=deep,
            open=dict.fromkeys(ADAPTERS, open) if isinstance(open, str) and open else open or {},
            lines=lines,
        )
        return act

    return made


def carry_out(attack_: Attack, stand: Stand, scale: Scale) -> Report:
    """Attack, and judge the answers, the memory, the witness and the log."""
    report = Report(
        attack=attack_.name,
        adapter=stand.adapter,
        scale=scale.value,
        bound=attack_.full if scale is Scale.FULL else attack_.growth,
    )
    server = stand.server
    stand.account()
    descriptors, cpu = server.descriptors(), server.seconds()
    report.before = server.rss()
    server.forget_peak()
    ground = Field(
        stand.port,
        stand.profile,
        scale,
        connections=lambda: server.descriptors() - descriptors,
    )
    started = time.monotonic()
    try:
        attack_.act(ground)
    except (AssertionError, OSError, HttpAnswerError, PeerClosedError) as error:
        report.faults.append(f"{type(error).__name__}: {error}")
    finally:
        ground.leave()
    report.lasted = time.monotonic() - started
    if not server.alive():
        report.faults.append(
            f"the server died: {server.errors()[-2000:].decode('ascii', 'replace')}"
        )
        return report
    report.faults += _left_behind(stand, descriptors)
    report.cpu = server.seconds() - cpu
    report.growth = max(0, server.peak() - report.before)
    report.kept = max(0, server.rss() - report.before)
    if report.growth > report.bound:
        report.faults.append(f"memory grew by {report.growth} bytes, over {report.bound}")
    report.faults += _disturbed(report, stand)
    secrets_ = (SECRET, *TOKENS)
    report.faults += faults_of(
        stand.new_log(),
        stand.mark,
        allowed=attack_.allowed,
        secrets_=secrets_,
        most=attack_.lines,
    )
    return report


def _left_behind(stand: Stand, descriptors: int) -> list[str]:
    """Wait until the server has let go of every socket of the attack."""
    deadline = time.monotonic() + _LINGER
    while (now := stand.server.descriptors()) > descriptors:
        if time.monotonic() > deadline:
            return [f"{now - descriptors} sockets were not let go of"]
        time.sleep(0.02)
    return []


def _disturbed(report: Report, stand: Stand) -> list[str]:
    account = report.witness = stand.followed(LONGEST_SILENCE)
    faults: list[str] = []
    if account.events == 0:
        faults.append("the witness was given nothing")
    if account.wrong:
        faults.append(f"{account.wrong} events came to the witness out of order, twice or never")
    if account.covered:
        faults.append(f"the witness fell behind: {account.covered} events were not delivered")
    if account.connections:
        faults.append(f"the witness lost its connection {account.connections} times")
    if account.worst > LONGEST_SILENCE:
        faults.append(f"the witness waited {account.worst:.1f} s")
    return faults
