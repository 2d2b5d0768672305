"""The faults. Each waits for conditions, never for time, so that it surely happens."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from attrs import frozen

from gatewayproto_cli.demo.stage import RETAIN, DemoFailedError, Stage

_LEAST: Final = 120
"""Bytes that no event is below on the wire."""
_MOST: Final = 2000
"""Bytes of a stream after which it is cut at the latest."""
_PROOFS: Final = 40
_PROOF_SIZES: Final = (8 * 1024, 32 * 1024, 128 * 1024)
"""Characters of a proof, larger until the link between gateway and proxy is full."""


@frozen
class Fault:
    """Something that goes wrong. `cost` is the most events that it takes."""

    name: str
    play: Callable[[Stage], Awaitable[None]]
    cost: int


async def cut_mid_stream(stage: Stage) -> None:
    """Cut the connection at some byte of a run that goes on meanwhile."""
    await _settled(stage)
    size = stage.rng.randrange(_LEAST, _MOST)
    before = stage.proxy.disconnects
    stage.proxy.cut_after(size, hard=_coin(stage))
    for _ in range(size // _LEAST + 2):
        stage.publish(stage.story.token())
    await stage.until(lambda: stage.proxy.disconnects > before, "a cut in mid-stream")
    for _ in range(stage.rng.randrange(5)):
        stage.publish(stage.story.token())
    if _coin(stage):
        stage.publish(stage.story.final())


async def cut_mid_replay(stage: Stage) -> None:
    """Let the client miss something, and cut it off again while it gets that."""
    await _settled(stage)
    await _away(stage)
    for _ in range(15):
        stage.publish(stage.story.token())
        stage.publish(stage.story.note())
    before = stage.cut_in_replay
    # Behind the first events, and before the last ones.
    size = stage.welcome_size + stage.rng.randrange(1000, 25 * _LEAST)
    stage.proxy.cut_after(size, hard=_coin(stage))
    stage.reopen()
    await stage.until(lambda: stage.cut_in_replay > before, "a cut in mid-replay")


async def stall(stage: Stage) -> None:
    """Take nothing from the gateway until a whole run has come and gone."""
    for size in _PROOF_SIZES:
        await _settled(stage)
        before = _passed_over(stage)
        stage.proxy.stall()
        for event in stage.story.proofs(_PROOFS, size):
            stage.publish(event)
            # Whatever the network still takes, it takes now.
            await stage.turn()
        stage.proxy.release()
        await stage.until(lambda: stage.at_head, "the end of a stall")
        if _passed_over(stage) > before:
            return
    raise DemoFailedError("the network took more than could be published in a stall")


async def trim(stage: Stage) -> None:
    """Publish more than the journal keeps while the client is away."""
    await _settled(stage)
    await _away(stage)
    for _ in range(RETAIN + 1 + stage.rng.randrange(5)):
        stage.publish(stage.story.note())
    before = stage.account.resyncs["trimmed"]
    stage.reopen()
    await stage.until(lambda: stage.account.resyncs["trimmed"] > before, "a snapshot, trimmed")


async def restart_unbroken(stage: Stage) -> None:
    """Restart the gateway in mid-stream from all that it had: clients go on where they were."""
    await _settled(stage)
    for _ in range(stage.rng.randrange(3, 10)):
        stage.publish(stage.story.token())
    resyncs = stage.account.resyncs.total()
    await stage.stop_gateway()
    await stage.restart_gateway(stage.copy(), unbroken=True)
    stage.publish(stage.story.token())
    await stage.until(lambda: stage.at_head, "the client comes back to the restarted gateway")
    if stage.account.resyncs.total() > resyncs:
        raise DemoFailedError("an unbroken restart cost a snapshot")


async def restart_from_older_copy(stage: Stage) -> None:
    """Restart the gateway from a copy that lacks what clients have: a new epoch tells them."""
    await _settled(stage)
    stage.publish(stage.story.token())
    copy = stage.copy()
    for _ in range(stage.rng.randrange(3, 10)):
        stage.publish(stage.story.token())
    await _settled(stage)
    before = stage.account.resyncs["epoch_changed"]
    await stage.stop_gateway()
    await stage.restart_gateway(copy, unbroken=False)
    for _ in range(stage.rng.randrange(5)):
        stage.publish(stage.story.token())
    await stage.until(
        lambda: stage.account.resyncs["epoch_changed"] > before, "a snapshot of the new epoch"
    )


MID_STREAM: Final = Fault("cut in mid-stream", cut_mid_stream, _MOST // _LEAST + 7)
MID_REPLAY: Final = Fault("cut in mid-replay", cut_mid_replay, 30)
STALL: Final = Fault("stall", stall, (_PROOFS + 1) * len(_PROOF_SIZES))
TRIM: Final = Fault("journal trimmed", trim, RETAIN + 5)
UNBROKEN: Final = Fault("unbroken restart", restart_unbroken, 10)
OLDER_COPY: Final = Fault("restart from an older copy", restart_from_older_copy, 14)

REQUIRED: Final = Counter(
    {MID_STREAM: 12, MID_REPLAY: 6, STALL: 1, TRIM: 1, UNBROKEN: 1, OLDER_COPY: 1}
)
"""What a full demonstration has at the least."""


def _coin(stage: Stage) -> bool:
    return stage.rng.random() < 0.5  # noqa: PLR2004


async def _settled(stage: Stage) -> None:
    await stage.until(lambda: stage.at_head, "the client catches up")


async def _away(stage: Stage) -> None:
    """Cut the client off, and keep it away."""
    before = stage.proxy.disconnects
    stage.proxy.shut()
    stage.proxy.cut(hard=_coin(stage))
    await stage.until(lambda: stage.proxy.disconnects > before, "a cut")


def _passed_over(stage: Stage) -> int:
    """Skips and lags so far, in events and snapshots."""
    return stage.account.skipped + stage.account.resyncs["lagged"]
