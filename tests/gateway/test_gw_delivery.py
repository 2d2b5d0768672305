"""Delivery: whatever happens, every seq is accounted for exactly once (P1 to P5).

Scripts of small numbers are played on a gateway and, as the specification says it, on a list of
events. Witnesses show that what the laws speak of did happen.
"""

import random
from collections import Counter
from typing import Any

from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayproto.actions import CommandDropped, Published, SubscriberLagged
from gatewayproto.inputs import ChangeEpoch, Drained, FrameReceived
from gatewayproto.testing.reference import Ledger
from tests.gateway.gwmodel import Account
from tests.gateway.gwworld import MAX_INT, World, encode

Op = tuple[int, int, int]
RUNS = ("r", "s", None)


@define(eq=False)
class Play:
    """A session with its followers, in both of its tellings."""

    world: World
    ledger: Ledger
    session_id: str
    accounts: dict[int, Account] = field(factory=dict)
    seen: Counter[str] = field(factory=Counter)
    nonce: int = 0

    @classmethod
    def start(cls, options: dict[str, int]) -> "Play":
        world = World.make(max_lags=10_000, answer_window=10**7, heartbeat=10**6, **options)
        ledger = Ledger(options["retain"], options["retain_transient"], options["retain_bytes"])
        maker = world.connect()
        maker.cut()
        return cls(world, ledger, maker.session_id)

    @property
    def epoch(self) -> str:
        info = self.world.gateway.session(self.session_id)
        assert info is not None
        return info.epoch

    # -- steps --------------------------------------------------------------------------------

    def step(self, op: Op) -> None:
        code, a, b = op
        match code:
            case 0 | 1:
                self.publish({"transient": True, "run_id": RUNS[a % 3]}, a, b)
            case 2:
                self.publish({"expects_reply": True} if a == 0 else {}, a, b)
            case 3:
                self.publish({"final": True, "run_id": RUNS[a % 2]}, a, b)
            case 4:
                self.open(a, b)
            case 5 | 6 if self.accounts:
                account = self.pick(a)
                self.drain(account, self.amount(account, b))
            case 7 if self.accounts:
                self.resume(self.pick(a), b)
            case 8 if self.accounts and b < 5:
                self.resync(self.pick(a))
            case 8 if self.accounts:
                account = self.pick(a)
                self.say(account, "ping", nonce="p" * b)
            case 9 if self.accounts and b < 3:
                account = self.pick(a)
                account.peer.cut()
                del self.accounts[account.peer.number]
            case 9 if b == 3:
                self.change_epoch()
            case 9 if b > 6:
                self.world.restore(later=b * 8)
            case _:
                pass

    def pick(self, which: int) -> Account:
        accounts = list(self.accounts.values())
        return accounts[which % len(accounts)]

    def publish(self, fields: dict[str, Any], a: int, b: int) -> None:
        data: dict[str, Any] = {"text": "é" * b} if b % 3 else {"n": a}
        if b == 9:
            data["pad"] = "x" * 4300  # too large for the smallest peers
        if b == 6 and self.ledger.log:
            data["reply_to"] = self.ledger.log[a % len(self.ledger.log)].event_id
        ready = {n for n, account in self.accounts.items() if account.is_ready()}
        event = self.world.publish(self.session_id, data=data, **fields)
        (told,) = self.world.told(Published)[-1:]
        self.ledger.append(event)
        assert (told.seq, told.event_id) == (self.ledger.cursor, event.event_id)  # M20, M16
        self.account_for(pumped=ready)
        self.ledger.trim()
        self.check_journal()

    def check_journal(self) -> None:
        info = self.world.gateway.session(self.session_id)
        assert info is not None
        assert (info.cursor, info.oldest_cursor) == (self.ledger.cursor, self.ledger.oldest(2))
        assert info.retained == len(self.ledger.kept)
        assert info.retained_bytes == sum(map(self.ledger.size, self.ledger.kept))

    def since(self, choice: int) -> int:
        head, oldest = self.ledger.cursor, self.ledger.oldest(1 + choice % 2)
        return max(
            0, [0, head, head, oldest - 1, oldest - 2, head - 3, head // 2, head - 1, head + 1,
                MAX_INT][choice]
        )  # fmt: skip

    def open(self, a: int, b: int) -> None:
        if len(self.accounts) >= 4:
            return
        version, since, head = 1 if a in {0, 4, 6} else 2, self.since(b), self.ledger.cursor
        epoch = None if a in {3, 4} else "stale" if a == 8 else self.epoch
        fields: dict[str, Any] = {"start": "snapshot"} if a == 7 else {}
        if a in {2, 6}:
            fields["max_payload"] = 4096
        peer = self.world.connect(
            version, auto=False, session_id=self.session_id, epoch=epoch, since=since, **fields
        )
        reason = self.reason(version, epoch, since)
        if reason is None and a == 7:
            reason = "requested"
        welcome = peer.welcome
        assert welcome["resumed"] is True
        assert welcome.get("resync_reason") == reason
        assert welcome["oldest_cursor"] == self.ledger.oldest(version)
        account = Account(
            peer, self.ledger, version,
            cursor=since if reason is None else 0,
            epoch=self.epoch,
            replay_until=head,
            owed_attach=None if version == 1 else head,
            due=reason,
            due_since=head,
        )  # fmt: skip
        self.accounts[peer.number] = account
        if reason is not None and not peer.closed:
            assert any(f["type"] == "snapshot" for f in peer.frames)  # together
        self.seen[f"attach {reason}"] += 1
        self.account_for(pumped={peer.number})

    def reason(self, version: int, epoch: str | None, since: int) -> str | None:
        if (epoch is None and version == 2 and since > 0) or epoch not in {None, self.epoch}:
            return "epoch_changed"
        if since > self.ledger.cursor:
            return "cursor_ahead"
        if since < self.ledger.oldest(version) - 1:
            return "trimmed"
        return None

    def amount(self, account: Account, b: int) -> int:
        return min(account.peer.owed, [10**9, 10**9, 10**9, 1, 20, 50, 100, 300, 1000, 3000][b])

    def drain(self, account: Account, size: int) -> None:
        if size:
            account.peer.owed -= size
            self.world.give(Drained(account.peer.number, size))
            self.account_for(pumped={account.peer.number})

    def say(self, account: Account, kind: str, **fields: Any) -> None:
        """Send a frame; what it brought is still to be accounted for."""
        self.world.give(FrameReceived(account.peer.number, encode({"type": kind, **fields})))

    def resume(self, account: Account, b: int) -> None:
        self.nonce += 1
        nonce, since = f"n{self.nonce}", self.since(b)
        epoch = "stale" if b == 9 else self.epoch
        reason = self.reason(2, epoch, since)
        self.say(account, "resume", epoch=epoch, since=since, nonce=nonce)
        if account.version == 2:
            account.resumed(nonce, since, reason)
            self.seen[f"resume {reason}"] += 1
        self.account_for(pumped={account.peer.number})

    def resync(self, account: Account) -> None:
        self.nonce += 1
        self.say(account, "resync", nonce=f"n{self.nonce}")
        if account.version == 2:
            account.resynced(f"n{self.nonce}")
        self.account_for(pumped={account.peer.number})

    def change_epoch(self) -> None:
        old = self.epoch
        self.world.give(ChangeEpoch(session_id=self.session_id))
        assert self.epoch != old
        for number, account in tuple(self.accounts.items()):
            if account.version == 1:
                assert (account.peer.code, account.peer.reason) == (1012, "epoch_changed")
                del self.accounts[number]
            else:
                account.new_epoch()
        self.account_for(pumped=set(self.accounts))

    # -- the account --------------------------------------------------------------------------

    def account_for(self, *, pumped: set[int]) -> None:
        lagged = {event.connection: event.position for event in self.world.hear(SubscriberLagged)}
        assert lagged.keys() <= pumped
        for number, account in tuple(self.accounts.items()):
            if number in lagged:
                self.seen[f"lagged v{account.version}"] += 1
            frames = account.peer.take()
            unknown = [f for f in frames if f["type"] == "error"]
            assert all((f["code"], account.version) == ("unknown_type", 1) for f in unknown)
            frames = [f for f in frames if f["type"] != "error"]
            closed = account.peer.closed
            account.take(
                frames,
                self.epoch,
                lagged_at=None if closed else lagged.get(number),
            )
            self.seen.update(account.seen)
            account.seen.clear()
            if closed:
                self.check_close(account, lagged.get(number))
                del self.accounts[number]
            elif account.peer.owed == 0:
                account.settled()

    def check_close(self, account: Account, lagged_at: int | None) -> None:
        """Only version 1 is ever closed here: for what version 2 gets a snapshot."""
        assert account.version == 1
        assert account.peer.code == (4507 if lagged_at is None else 4002)
        if lagged_at is None:
            assert account.peer.limit == 4096
        else:
            assert lagged_at == account.cursor < self.ledger.oldest(1) - 1
        self.seen[f"closed {account.peer.code}"] += 1

    def finish(self) -> None:
        """Every transport takes everything: all converge at the head."""
        for account in tuple(self.accounts.values()):
            while account.peer.owed and not account.peer.closed:
                self.drain(account, account.peer.owed)
        assert not self.world.told(CommandDropped)


def play(options: dict[str, int], script: list[Op]) -> Counter[str]:
    game = Play.start(options)
    for op in script:
        game.step(op)
    game.finish()
    return game.seen


BUDGETS = {
    "retain": [0, 1, 3, 6, 1000],
    "retain_transient": [0, 1, 2, 4, 1000],
    "retain_bytes": [0, 250, 800, 10**6],
    "send_window": [1, 200, 1000, 6000, 10**6],
}
OPS = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))


@settings(max_examples=150)
@given(
    st.fixed_dictionaries({name: st.sampled_from(values) for name, values in BUDGETS.items()}),
    st.lists(OPS, max_size=80),
)
def test_every_seq_is_accounted_for_exactly_once(options: dict[str, int], script: list[Op]) -> None:
    play(options, script)


WITNESSES = {
    "event", "replay", "skip", "caught_up", "attach None", "attach requested", "attach trimmed",
    "attach cursor_ahead", "attach epoch_changed", "resume None", "resume trimmed",
    "resume cursor_ahead", "resume epoch_changed", "snapshot requested", "snapshot trimmed",
    "snapshot cursor_ahead", "snapshot epoch_changed", "snapshot lagged", "lagged v1", "lagged v2",
    "closed 4002", "closed 4507", "part", "shed",
}  # fmt: skip


def test_what_the_laws_speak_of_does_happen() -> None:
    seen: Counter[str] = Counter()
    for seed in range(150):
        rng = random.Random(seed)
        options = {name: rng.choice(values) for name, values in BUDGETS.items()}
        script = [(rng.randrange(10), rng.randrange(10), rng.randrange(10)) for _ in range(150)]
        seen += play(options, script)
    assert {name for name in WITNESSES if seen[name] < 5} == set()
