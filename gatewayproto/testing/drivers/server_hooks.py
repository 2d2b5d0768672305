"""The checks of a server's driver: credentials that are renewed, aborts, and built snapshots.

Spec: Credentials; Client to server; Snapshots.
"""

from typing import Final

from gatewayproto.actions import AbortRequested, JoinRequested, SnapshotNeeded
from gatewayproto.errors import ERRORS, ErrorCode
from gatewayproto.inputs import Accept, Publish, Reject, SnapshotReady
from gatewayproto.testing.drivers.backend import HookError
from gatewayproto.testing.drivers.check import Talker, awaiting, demand, shown
from gatewayproto.testing.drivers.harness import ServerHarness
from gatewayproto.testing.drivers.server_scene import ServerScene, read_events

_EXPIRED: Final = ERRORS[ErrorCode.AUTH_EXPIRED].close_code


async def _closes_when_credentials_expire(harness: ServerHarness) -> None:
    scene = ServerScene(harness)
    scene.backend.on_join = lambda join: Accept(
        connection=join.connection, expires_in=0.3 if join.agent_id == "brief" else None
    )
    await scene.start()
    lasting, _, _ = await scene.join()
    brief, number, _ = await scene.join(agent_id="brief")
    end = await brief.end(passing=("error",))
    demand(end.code == _EXPIRED, f"{shown(end)} in place of close {_EXPIRED}")
    demand(number in scene.gateway.closes, "the machine was not asked")
    await lasting.fence()
    await scene.finish()


async def _judges_fresh_credentials(harness: ServerHarness) -> None:
    scene = ServerScene(harness)

    def on_auth(join: JoinRequested) -> Accept | Reject:
        match join.token:
            case "bad":
                return Reject(connection=join.connection, code=ErrorCode.AUTH_UNAUTHORIZED)
            case "raises":
                raise HookError("what the hook knows")
            case "brief":
                return Accept(connection=join.connection, expires_in=0.2)
            case _:
                return Accept(connection=join.connection)

    scene.backend.on_auth = on_auth
    await scene.start()
    for token, code in (
        ("bad", ErrorCode.AUTH_UNAUTHORIZED),
        ("raises", ErrorCode.INTERNAL_ERROR),
        ("brief", ErrorCode.AUTH_EXPIRED),
    ):
        talker, number, _ = await scene.join()
        await talker.send("auth", token="good")  # noqa: S106 -- a token of a check
        await talker.fence()
        await talker.send("auth", token=token)
        end = await talker.end(passing=("error",))
        expected = ERRORS[code].close_code
        demand(end.code == expected, f"{shown(end)} in place of close {expected} after {token!r}")
        tokens = [join.token for join in scene.backend.auths if join.connection == number]
        demand(tokens == ["good", token], f"{tokens} were judged")
    demand(len(scene.backend.joins) == 3, "fresh credentials are no handshake")  # noqa: PLR2004
    await scene.finish()


async def _passes_on_aborts(harness: ServerHarness) -> None:
    scene = ServerScene(harness)

    def on_abort(abort: AbortRequested) -> tuple[Publish, ...]:
        if abort.run_id == "raises":
            raise HookError("what the hook knows")
        return (scene.event(abort.session_id),)

    scene.backend.on_abort = on_abort
    await scene.start()
    talker, number, welcome = await scene.join()
    await talker.send("abort", run_id="raises")
    await talker.send("abort", run_id="run-1")
    await talker.send("abort", request_id="r")
    await talker.send("abort")
    await read_events(talker, 1, 3)
    asked = [(each.run_id, each.request_id) for each in scene.backend.aborts]
    expected = [("raises", None), ("run-1", None), (None, "r"), (None, None)]
    demand(asked == expected, f"{asked} were asked for in place of {expected}")
    told = {(each.connection, each.session_id) for each in scene.backend.aborts}
    demand(told == {(number, welcome["session_id"])}, "an abort of another client was told")
    await scene.finish()


async def _has_snapshots_built(harness: ServerHarness) -> None:
    scene = ServerScene(harness, application_snapshots=True, snapshot_timeout=1.0)
    asked: list[SnapshotNeeded] = []
    raises: list[bool] = []

    def on_snapshot(needed: SnapshotNeeded) -> SnapshotReady:
        asked.append(needed)
        if raises:
            raise HookError("what the hook knows")
        return SnapshotReady(
            session_id=needed.session_id,
            epoch=needed.epoch,
            cursor=needed.cursor,
            state={"built": needed.cursor},
        )

    scene.backend.on_snapshot = on_snapshot
    await scene.start()
    one, _, welcome = await scene.join()
    await scene.publish(welcome["session_id"], 10, 10, 10)
    await read_events(one, 1, 3)
    await _resync(one, 3)
    await scene.publish(welcome["session_id"], 10)
    await read_events(one, 4, 4)
    two, _ = await scene.open()
    await scene.hello(two, session_id=welcome["session_id"], start="snapshot")
    frame = await two.only("snapshot")
    demand(frame["cursor"] >= 3, f"a snapshot of {frame['cursor']}")  # noqa: PLR2004 -- as above
    raises.append(True)
    await scene.publish(welcome["session_id"], *(3 * [10]))
    await one.send("resync")
    end = await one.end(passing=("event", "error"))
    expected = ERRORS[ErrorCode.INTERNAL_ERROR].close_code
    demand(end.code == expected, f"{shown(end)} in place of close {expected}")
    demand(len(asked) >= 2, "the application was not asked")  # noqa: PLR2004 -- with who raises
    with awaiting("what a hook that raised did not stop"):
        await two.fence()
    await scene.finish()


async def _resync(talker: Talker, cursor: int) -> None:
    await talker.send("resync")
    frame = await talker.frame("snapshot")
    demand(frame["cursor"] == cursor, f"a snapshot of {frame['cursor']} at {cursor}")
    demand(frame["state"] == {"built": cursor}, "the state is not the one that was built")
    await talker.only("caught_up")


HOOKS: Final = (
    (_closes_when_credentials_expire, "what `Accept` says of credentials counts, and in time"),
    (_judges_fresh_credentials, "`AuthRequested` is answered as the application says"),
    (_passes_on_aborts, "the application is told of every abort"),
    (_has_snapshots_built, "`SnapshotNeeded` is answered with what the application builds"),
)
