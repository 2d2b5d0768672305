"""The application's hooks beyond messages, and its commands, on every framework alike."""

from typing import Any

import anyio
import pytest
from gatewayproto_adapter.application import (
    Application,
    BuiltSnapshot,
    Grant,
    Rejected,
    SessionHandle,
)
from gatewayproto_adapter.errors import ClientStoppedError

from gatewayproto import ClientConfig, ErrorCode, Event, GatewayConfig
from gatewayproto.actions import (
    AbortRequested,
    ClientEvent,
    EventReceived,
    HealthReceived,
    Joined,
    JoinRequested,
    MessageReceived,
    PresenceReceived,
    RetryScheduled,
    SnapshotNeeded,
    SnapshotReceived,
    SubscriberJoined,
    TokenNeeded,
)
from gatewayproto.backoff import Backoff
from gatewayproto.errors import LocalProtocolError
from gatewayproto.rates import Rate
from tests.adapter.frameworks import FRAMEWORKS, Echo, Framework, patience, until

FAST = ClientConfig(agent_id="demo", backoff=Backoff(initial=0.01, maximum=0.02))
pytestmark = pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)


async def first(client: Any, kind: type) -> Any:
    """The next item of a kind; others before it are let pass."""
    with patience():
        async for item in client:
            if isinstance(item, kind):
                return item
    raise AssertionError("the client ended")


# -- credentials ------------------------------------------------------------------------------


class Guard(Echo):
    """Knows three tokens: `brief` is good for a moment, `good` for ever, `bad` not at all."""

    async def authenticate(self, join: JoinRequested) -> Grant | str | None:
        self.joins.append(join)
        match join.token:
            case "brief":
                return Grant("alice", expires_in=0.05)
            case "good":
                return "alice"
            case "other":
                return "bob"
            case _:
                raise Rejected(ErrorCode.AUTH_UNAUTHORIZED, "not known")


def test_credentials_that_expire_end_the_connection(framework: Framework) -> None:
    async def main() -> None:
        adapter, application = framework.adapter, Guard()
        asked: list[None] = []

        async def get_token() -> str:
            asked.append(None)
            return "good"

        async with (
            adapter.serve(application, port=0) as server,
            adapter.connect(server.url, config=FAST, token="brief", get_token=get_token) as client,
        ):
            await first(client, object)
            await until(lambda: len(application.joins) == 2)
            with patience():
                await client.send("still here")
            assert [join.token for join in application.joins] == ["brief", "good"]
            assert len(asked) == 1

    framework.run(main)


def test_fresh_credentials_are_judged_on_the_connection(framework: Framework) -> None:
    async def main() -> None:
        adapter, application = framework.adapter, Guard()
        async with (
            adapter.serve(application, port=0) as server,
            adapter.connect(server.url, config=FAST, token="good") as client,
        ):
            await first(client, object)
            await client.set_token("good")
            await until(lambda: len(application.joins) == 2)
            assert application.joins[0].connection == application.joins[1].connection
            with patience():
                await client.send("still here")
            await first(client, EventReceived)
            await client.set_token("other")
            with patience(), pytest.raises(ClientStoppedError, match="auth_unauthorized"):
                await anext(client)

    framework.run(main)


def test_a_decision_on_fresh_credentials_ends_with_the_connection(framework: Framework) -> None:
    class Undecided(Echo):
        begun = cancelled = False

        async def reauthenticate(self, join: JoinRequested) -> None:  # noqa: ARG002
            self.begun = True
            try:
                await anyio.sleep_forever()
            finally:
                self.cancelled = True

    async def main() -> None:
        adapter, application = framework.adapter, Undecided()
        async with adapter.serve(application, port=0) as server:
            async with adapter.connect(server.url, config=FAST) as client:
                await first(client, object)
                await client.set_token("fresh")
                await until(lambda: application.begun)
                assert not application.cancelled
            await until(lambda: application.cancelled)

    framework.run(main)


def test_a_time_that_is_none_is_no_grant(framework: Framework) -> None:
    for seconds in (0, -1.0, float("nan"), float("inf"), 2e9):
        with pytest.raises(ValueError, match="expires_in"):
            framework.adapter.Grant("alice", expires_in=seconds)


def test_the_application_may_end_a_client_and_renew_one(framework: Framework) -> None:
    async def main() -> None:
        adapter, application = framework.adapter, Guard()

        async def get_token() -> str:
            return "good"

        events: list[ClientEvent] = []
        async with (
            adapter.serve(application, port=0) as server,
            adapter.connect(
                server.url, config=FAST, token="good", get_token=get_token, on_event=events.append
            ) as client,
        ):
            await first(client, object)
            number = application.joins[0].connection
            assert server.end_client(number, ErrorCode.AUTH_EXPIRED, "fetch a new one")
            await until(lambda: len(application.joins) == 2)
            assert [each.code for each in events if isinstance(each, TokenNeeded)] == [
                "auth_expired"
            ]
            assert not server.end_client(number, ErrorCode.AUTH_EXPIRED)
            assert not server.renew_client(number, Grant("alice"))
            with pytest.raises(LocalProtocolError, match="never opened"):
                server.end_client(99, ErrorCode.AUTH_EXPIRED)
            with patience():
                await client.send("welcomed again")
            assert server.renew_client(application.joins[1].connection, Grant("alice", 0.05))
            await until(lambda: len(application.joins) == 3)

    framework.run(main)


# -- aborts -----------------------------------------------------------------------------------


def test_an_abort_stops_a_run(framework: Framework) -> None:
    class Thinker(Application):
        def __init__(self) -> None:
            self.runs: dict[str, anyio.CancelScope] = {}
            self.aborts: list[AbortRequested] = []

        async def on_message(self, session: SessionHandle, message: MessageReceived) -> None:
            assert message.content == "think"
            with anyio.CancelScope() as scope:
                self.runs["run-1"] = scope
                session.publish("token", {"text": "well"}, run_id="run-1", transient=True)
                await anyio.sleep_forever()
            session.publish("response", {"text": "stopped"}, run_id="run-1", final=True)

        def on_abort(self, session: SessionHandle, abort: AbortRequested) -> None:
            self.aborts.append(abort)
            if abort.run_id is None:
                raise LookupError("which one?")
            session.publish("note", {"text": "stopping"})
            self.runs[abort.run_id].cancel()

    async def main() -> None:
        adapter, application = framework.adapter, Thinker()
        async with (
            adapter.serve(application, port=0) as server,
            adapter.connect(server.url, config=FAST) as client,
        ):
            await client.send("think")
            assert (await first(client, EventReceived)).event.type == "token"
            await client.abort()  # the hook raises, and that changes nothing
            await client.abort(run_id="run-1")
            assert (await first(client, EventReceived)).event.type == "note"
            assert (await first(client, EventReceived)).event.data == {"text": "stopped"}
        assert [each.run_id for each in application.aborts] == [None, "run-1"]

    framework.run(main)


# -- snapshots that the application builds ----------------------------------------------------

BUILT = GatewayConfig(application_snapshots=True)


class Builder(Echo):
    """Builds states out of thin air, one at a time, when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[SnapshotNeeded] = []
        self.at_work = self.most = 0
        self.may = anyio.Event()

    async def build_snapshot(self, session: SessionHandle, needed: SnapshotNeeded) -> BuiltSnapshot:
        assert session.session_id == needed.session_id
        self.asked.append(needed)
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        await self.may.wait()
        self.at_work -= 1
        return BuiltSnapshot(needed.cursor, {"built": needed.cursor})


def test_a_snapshot_is_built_while_the_world_moves(framework: Framework) -> None:
    async def main() -> None:
        adapter, application = framework.adapter, Builder()
        async with (
            adapter.serve(application, port=0, config=BUILT) as server,
            adapter.connect(server.url, config=FAST) as client,
        ):
            joined = await first(client, object)
            session = server.session(joined.token.session_id)
            session.publish("note", {"n": 1})
            assert (await first(client, EventReceived)).seq == 1
            await client.resync()
            await until(lambda: application.asked)
            session.publish("note", {"n": 2})
            application.may.set()
            snapshot = await first(client, SnapshotReceived)
            assert (snapshot.cursor, snapshot.state) == (1, {"built": 1})
            assert (await first(client, EventReceived)).seq == 2

    framework.run(main)


def test_one_snapshot_of_a_session_is_built_at_a_time(framework: Framework) -> None:
    async def main() -> None:
        adapter, application = framework.adapter, Builder()
        async with (
            adapter.serve(application, port=0, config=BUILT) as server,
            adapter.connect(server.url, config=FAST) as one,
        ):
            joined = await first(one, object)
            session_id = joined.token.session_id
            server.publish(session_id, note(1))
            assert (await first(one, EventReceived)).seq == 1
            await one.resync()
            await until(lambda: application.asked)
            assert server.change_epoch(session_id)  # so that another one is needed
            application.may.set()
            snapshot = await first(one, SnapshotReceived)
            assert snapshot.epoch == application.asked[-1].epoch != application.asked[0].epoch
            assert application.most == 1

    framework.run(main)


def note(n: int) -> Event:
    return Event(type="note", data={"n": n}, event_id=f"e{n}", timestamp=0.0)


def test_a_snapshot_may_be_given_before_anybody_asks(framework: Framework) -> None:
    async def main() -> None:
        adapter, application = framework.adapter, Builder()
        async with (
            adapter.serve(application, port=0, config=BUILT) as server,
            adapter.connect(server.url, config=FAST) as client,
        ):
            joined = await first(client, object)
            session = server.session(joined.token.session_id)
            session.publish("note", {"n": 1})
            assert session.give_snapshot(1, {"given": True}, epoch=joined.token.epoch)
            with pytest.raises(LocalProtocolError, match="the session is at 1"):
                session.give_snapshot(2, {}, epoch=joined.token.epoch)
            assert not server.session("none").give_snapshot(0, {}, epoch="e")
            assert (await first(client, EventReceived)).seq == 1
            await client.resync()
            assert (await first(client, SnapshotReceived)).state == {"given": True}
            assert application.asked == []

    framework.run(main)


def test_whoever_waits_in_vain_for_a_snapshot_comes_again(framework: Framework) -> None:
    class Clumsy(Builder):
        async def build_snapshot(
            self, session: SessionHandle, needed: SnapshotNeeded
        ) -> BuiltSnapshot:
            assert session.session_id == needed.session_id
            self.asked.append(needed)
            if len(self.asked) == 1:
                raise LookupError("the state is not to be found")
            return BuiltSnapshot(needed.cursor, {"found": True})

    async def main() -> None:
        adapter, application, retries = framework.adapter, Clumsy(), []

        def on_event(event: ClientEvent) -> None:
            if isinstance(event, RetryScheduled):
                retries.append(event.code)

        config = GatewayConfig(application_snapshots=True, snapshot_timeout=0.5)
        async with (
            adapter.serve(application, port=0, config=config) as server,
            adapter.connect(server.url, config=FAST, on_event=on_event) as client,
        ):
            await first(client, object)
            await client.resync()
            await until(lambda: retries)
            assert retries == ["internal_error"]
            await client.send("back again")
            await client.resync()
            assert (await first(client, SnapshotReceived)).state == {"found": True}

    framework.run(main)


def test_an_application_that_builds_no_snapshots_is_a_mistake(framework: Framework) -> None:
    with pytest.raises(ValueError, match="overrides build_snapshot"):
        framework.adapter.serve(Echo(), config=BUILT)
    framework.adapter.serve(Builder(), config=GatewayConfig())


# -- commands ---------------------------------------------------------------------------------


def test_a_session_that_is_closed_gives_what_is_left(framework: Framework) -> None:
    async def main() -> None:
        adapter, application = framework.adapter, Echo()
        async with (
            adapter.serve(application, port=0) as server,
            adapter.connect(server.url, config=FAST) as client,
        ):
            joined = await first(client, object)
            session = server.session(joined.token.session_id)
            session.publish("note", {"n": 1})
            assert server.close_session(session.session_id)
            assert session.publish("note", {"n": 2}) is None
            assert server.metrics().sessions_sealed == 1
            assert (await first(client, EventReceived)).seq == 1
            with patience(), pytest.raises(ClientStoppedError, match="session_closed"):
                await anext(client)
            assert not server.close_session("none")
            assert not server.change_epoch("none")

    framework.run(main)


def test_a_new_epoch_begins_with_a_snapshot(framework: Framework) -> None:
    async def main() -> None:
        adapter = framework.adapter
        async with (
            adapter.serve(Echo(), port=0) as server,
            adapter.connect(server.url, config=FAST) as client,
        ):
            joined = await first(client, object)
            assert server.change_epoch(joined.token.session_id)
            snapshot = await first(client, SnapshotReceived)
            assert snapshot.reason == "epoch_changed"
            assert snapshot.epoch != joined.token.epoch

    framework.run(main)


def test_commands_wait_for_the_server_to_be_entered(framework: Framework) -> None:
    async def main() -> None:
        server = framework.adapter.serve(Echo(), port=0)
        with pytest.raises(RuntimeError, match="not entered"):
            server.close_session("s")
        with pytest.raises(RuntimeError, match="not entered"):
            await server.drain()

    framework.run(main)


def test_both_ends_measure(framework: Framework) -> None:
    async def main() -> None:
        adapter = framework.adapter
        async with (
            adapter.serve(Echo(), port=0) as server,
            adapter.connect(server.url, config=FAST) as client,
        ):
            assert client.metrics().connected == 0
            with patience():
                await client.send("hello")
            await first(client, EventReceived)
            assert server.metrics().subscribers == 1
            assert server.metrics().messages_taken == 1
            assert client.metrics().messages_accepted == client.metrics().connected == 1

    framework.run(main)


OFTEN = GatewayConfig(push_interval=0.01)


def test_what_is_pushed_reaches_the_application(framework: Framework) -> None:
    async def main() -> None:
        adapter, application = framework.adapter, Echo()
        events: list[ClientEvent] = []
        async with (
            adapter.serve(application, port=0, config=OFTEN) as server,
            adapter.connect(server.url, config=FAST, on_event=events.append) as one,
        ):
            joined = await first(one, object)
            async with adapter.connect(server.url, config=FAST, resume=joined.token) as two:
                await until(
                    lambda: sum(isinstance(e, SubscriberJoined) for e in application.events) == 2
                )
                await until(lambda: any(isinstance(e, PresenceReceived) for e in events))
                server.set_health({"model": "busy"})
                await until(lambda: any(isinstance(e, HealthReceived) for e in events))
                assert two.state == "connected"
            (health,) = (each for each in events if isinstance(each, HealthReceived))
            assert health.health == {"model": "busy"}
            with patience():
                await server.drain(after=30.0)
            await until(lambda: any(isinstance(e, RetryScheduled) for e in events))
            (retry,) = (each for each in events if isinstance(each, RetryScheduled))
            assert retry.code == "going_away"
            assert retry.delay >= 30.0

    framework.run(main)


# -- rates ------------------------------------------------------------------------------------

ONCE = GatewayConfig(connection_rate=Rate(1e-6, 1))


@pytest.mark.parametrize(
    ("trusted", "forwarded", "welcomed"),
    [
        ((), ("192.0.2.1", "192.0.2.2"), 1),
        (("127.0.0.1",), ("192.0.2.1", "192.0.2.2"), 2),
        (("127.0.0.1",), ("192.0.2.1", "192.0.2.1:8000"), 1),
        (("127.0.0.1",), ("::ffff:192.0.2.1", "192.0.2.1"), 1),
        (("127.0.0.1",), ("2001:db8::1", "2001:db8::ffff:2"), 1),
        (("127.0.0.1",), ("2001:db8::1", "2001:db8:0:1::1"), 2),
    ],
)
def test_rates_are_counted_by_the_clients_own_network(
    framework: Framework, trusted: tuple[str, ...], forwarded: tuple[str, str], welcomed: int
) -> None:
    async def main() -> None:
        adapter = framework.adapter
        async with adapter.serve(Echo(), port=0, config=ONCE, trusted_proxies=trusted) as server:
            codes: list[str | None] = []

            def on_event(event: ClientEvent) -> None:
                if isinstance(event, RetryScheduled):
                    codes.append(event.code)
                elif isinstance(event, Joined):
                    codes.append("welcomed")

            for number, address in enumerate(forwarded):
                headers = [("X-Forwarded-For", address)]
                async with adapter.connect(
                    server.url, config=FAST, headers=headers, on_event=on_event
                ):
                    await until(lambda: len(codes) > number)  # noqa: B023 - awaited at once
            assert codes == ["welcomed", "welcomed" if welcomed == 2 else "rate_limited"]

    framework.run(main)


def test_a_unix_socket_has_no_address_to_count_by(framework: Framework, tmp_path: Any) -> None:
    async def main() -> None:
        adapter, path = framework.adapter, str(tmp_path / "gateway")
        async with adapter.serve(Echo(), unix_path=path, config=ONCE) as server:
            for _ in range(3):
                async with adapter.connect(server.url, config=FAST, unix_path=path) as client:
                    await first(client, object)

    framework.run(main)
