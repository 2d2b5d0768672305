"""What the explorer judges by: properties whose past can be folded into a small account.

A `Judge` is part of the state of a world: two worlds are one only where it would judge the same
from there on. So it is told of everything, like any observer, and remembers little of it. What
needs a run's whole past is for the monitors of the simulator.

P1, P2, P3, P5, P6: what each client's application is given, and each connection sent. P4: every
welcome and every snapshot, by the decision table. P7: what is given up changes nothing. P8: what is
in the inbox and how messages end. P10: deadlines. P12: epochs. P13: nothing is raised. P9 is judged
where the machines are, P15 by the exploration.

Spec: the verification page, "Explorer".
"""

from collections import Counter
from collections.abc import Callable, Sequence

from attrs import define, field

from gatewayproto.actions import ResumeToken
from gatewayproto.config import GatewayConfig
from gatewayproto.inputs import TimerExpired
from gatewayproto.testing.explorer.history import Log, View, Views
from gatewayproto.testing.explorer.judge_book import Book
from gatewayproto.testing.explorer.judge_client import Account, ClientRules, epoch_of
from gatewayproto.testing.explorer.judge_gateway import GatewayRules
from gatewayproto.testing.steps import (
    GATEWAY,
    WORLD,
    ClientAdded,
    FrameGarbled,
    Restarted,
    Saved,
    Step,
    Violation,
)
from gatewayproto.testing.world import World

Rename = Callable[[str], str]
"""Gives an id that a client made the name that another client would have given it."""


@define(eq=False)
class Rules:
    """What the judges of an exploration share.

    `witnessed` counts, over all transitions, what the properties are about.
    """

    gateway: GatewayRules
    client: ClientRules
    witnessed: Counter[str]

    @classmethod
    def of(cls, config: GatewayConfig, *, folds: bool = True) -> "Rules":
        """Rules for a gateway of this configuration; `folds` is whether history is folded."""
        witnessed: Counter[str] = Counter()
        gateway = GatewayRules(config, witnessed, Log.empty(config))
        floor = config.retry_after
        return cls(gateway, ClientRules(Views(config), witnessed, floor, folds), witnessed)


@define(eq=False)
class Judge:
    """Judges one world: give every step to `observe`, which raises `Violation`."""

    rules: Rules
    book: Book = field(factory=Book)
    accounts: dict[str, Account] = field(factory=dict)
    due: dict[str, float | None] = field(factory=dict)
    may_miss: bool = False

    def copy(self) -> "Judge":
        """The judge of another world with the same past."""
        accounts = {name: account.copy() for name, account in self.accounts.items()}
        return Judge(self.rules, self.book.copy(), accounts, self.due.copy(), self.may_miss)

    def text(self, names: Sequence[str], rename: Rename) -> str:
        """What tells its past from others, as far as the future is judged by it.

        The accounts go in the order of `names`; ids are renamed.
        """
        accounts = "\n".join([self.accounts[name].text(rename) for name in names])
        return f"{self.may_miss}\n{self.book.text(rename)}\n{accounts}"

    # -- steps --------------------------------------------------------------------------------

    def observe(self, step: Step) -> None:
        """Judge a step."""
        if step.who == WORLD:
            self._happened(step)
            return
        if step.raised is not None:
            raise Violation("P13", f"{step.who} raises {step.raised!r}")
        self._check_time(step)
        if step.who == GATEWAY:
            self.rules.gateway.judge(self.book, step)
        else:
            account = self.accounts[step.who]
            self.rules.client.judge(
                account, step, self.book.lives, self.book.entered, may_miss=self.may_miss
            )

    def _happened(self, step: Step) -> None:
        match step.input:
            case ClientAdded():
                self.accounts[step.input.client] = self._begin(step.input)
            case FrameGarbled():
                self.may_miss = True
            case Saved():
                self.book.save()
            case Restarted(kind=kind):
                self.book.restart(kind)
                self.due.pop(GATEWAY, None)
                self._saw(f"restarted: {kind}")
            case _:
                self._saw(type(step.input).__name__)

    def _begin(self, added: ClientAdded) -> Account:
        account, resume = Account(added.client, added.config), added.resume
        if resume is not None:
            account.session, account.epoch = resume.session_id, epoch_of(resume)
            account.cursor = resume.cursor
            account.version = 1 if resume.epoch is None else 2
            account.view = self._stored(resume) if account.version > 1 else None
        return account

    def _stored(self, token: ResumeToken) -> View | None:
        """What an application stored with this token: what one that stands there has made."""
        where = (token.session_id, token.epoch, token.cursor)
        views = [
            each.view
            for each in self.accounts.values()
            if (each.session, each.epoch, each.cursor) == where and each.view is not None
        ]
        return max(views, key=lambda view: view.digest, default=None)

    def _check_time(self, step: Step) -> None:
        known, was = step.who in self.due, self.due.get(step.who)
        self.due[step.who] = step.deadline
        if not known or not isinstance(step.input, TimerExpired):
            return
        if was is None or step.now < was:
            if step.actions or step.deadline != was:
                raise Violation("P10", f"{step.who} acts at {step.now}, due at {was}")
        elif step.deadline is not None and step.deadline <= step.now:
            raise Violation("P10", f"{step.who} is due again at {step.deadline}, now {step.now}")

    def shift(self, seconds: float) -> None:
        """Let every time be earlier."""
        for who, deadline in self.due.items():
            if deadline is not None:
                self.due[who] = deadline - seconds

    def _saw(self, what: str) -> None:
        self.rules.witnessed[what] += 1

    # -- where nothing is in flight -----------------------------------------------------------

    def check_settled(self, world: World) -> None:
        """Where nothing is in flight on a link, everything that was published was sent on it."""
        for link in world.links:
            connection = self.book.connections.get(link.connection or 0)
            if connection is None or connection.stage != "live" or not link.flows:
                continue
            head = self.book.sessions[connection.session_id].log.cursor
            if connection.position != head:
                raise Violation(
                    "P3",
                    f"nothing is in flight, and connection {link.connection} was sent what is up to"
                    f" {connection.position} of {head}",
                )

    def is_at_head(self, name: str) -> bool:
        """Whether this client's application has everything, and made of it what it must."""
        account = self.accounts[name]
        session = self.book.sessions.get(account.session.partition(".")[0])
        if session is None or session.epoch != account.epoch:
            return False
        if account.cursor != session.log.cursor:
            return False
        view, due = account.view, self.rules.client.views.of_log(session.log)
        if view is not None and view is not due:
            raise Violation("P5", f"{name} made {view.state}; published was {due.state}")
        return True
