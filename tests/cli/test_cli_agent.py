"""What the demo agent makes of a message's text, and whom it lets in."""

import bisect
import time
from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import Any

import anyio
import pytest
from gatewayproto_adapter.errors import ClientStoppedError, MessageRefusedError
from gatewayproto_asyncio import ClientSession, Server
from gatewayproto_cli.agent import MAX_EVENTS, DemoAgent

from gatewayproto import Event, GatewayConfig, codec
from gatewayproto.actions import EventReceived, Skipped
from gatewayproto.projection import Transcript
from tests.adapter.both import CHOSEN

Content = str | dict[str, Any]

pytestmark = pytest.mark.usefixtures("adapter")


def connect(url: str, **options: Any) -> ClientSession:
    """A client of the adapter that the test runs on; all have the same names."""
    client: ClientSession = import_module(f"gatewayproto_{CHOSEN.name}").connect(url, **options)
    return client


def serving(work: Callable[[Server], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Run `work` against a server with the demo agent."""

    async def run() -> None:
        config = GatewayConfig(**options.pop("config", {}))
        agent = DemoAgent(
            agent_ids=options.pop("agent_ids", ("demo",)),
            tokens=options.pop("tokens", ()),
            config=config,
        )
        serve = import_module(f"gatewayproto_{CHOSEN.name}").serve
        with anyio.fail_after(20):
            async with serve(agent, port=0, config=config) as server:
                await work(server)

    anyio.run(run, backend=CHOSEN.name)


async def take(client: ClientSession, last: int) -> dict[int, Event]:
    """The events that a client is given up to this seq."""
    events: dict[int, Event] = {}
    async for item in client:
        if isinstance(item, EventReceived):
            events[item.seq] = item.event
        if item.token.cursor >= last:
            break
    return events


def answers(*contents: Content, last: int, config: dict[str, Any] | None = None) -> list[Event]:
    """What is published in answer to these messages, sent as fast as they go."""
    events: list[Event] = []

    async def work(server: Server) -> None:
        async with connect(server.url, agent_id="demo") as client:
            for content in contents:
                await client.send(content, request_id=f"r{contents.index(content)}")
            events.extend((await take(client, last)).values())

    serving(work, config=config or {})
    return events


def answer(content: Content, **config: Any) -> Event:
    """The one event that answers a message."""
    events = answers(content, "marker", last=2, config=config)
    assert [event.data for event in events[1:]] == [{"text": "marker"}]
    assert events[0].request_id == "r0"
    assert events[0].transient is None
    return events[0]


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "",
        "tokens",
        "tokens x",
        "tokens -1",
        "tokens 1.5",
        "tokens 1 2 3",
        "tokens 3 -1",
        "tokens ３",
        "Tokens 3",
        "burst",
        "burst x",
        "burst 1 2",
        "sleep",
        "sleep 1",
        "sleep x y",
        "sleep -1 y",
        "sleep nan y",
        "ask",
        "line\nline",
        "\x00\x1b[31m",
    ],
)
def test_anything_else_is_echoed(text: str) -> None:
    event = answer(text)
    assert (event.type, event.data) == ("response", {"text": text})
    assert (event.final, event.expects_reply) == (None, None)


@pytest.mark.parametrize(
    ("content", "text"),
    [({"text": "hi", "more": 1}, "hi"), ({"text": 5}, ""), ({"other": "x"}, ""), ({}, "")],
)
def test_content_may_be_an_object_with_a_text(content: Content, text: str) -> None:
    assert answer(content).data == {"text": text}


@pytest.mark.on_trio
@pytest.mark.parametrize("text", ["tokens 4", "tokens 4 0", "tokens 4 2", "tokens  4 0.5 "])
def test_tokens_are_a_run_with_its_final(text: str) -> None:
    *tokens, final = answers(text, last=5)
    assert [event.data for event in tokens] == [{"text": f"t{n} "} for n in range(4)]
    assert {(event.type, event.transient, event.final) for event in tokens} == {
        ("token", True, None)
    }
    assert (final.type, final.transient, final.final) == ("response", None, True)
    assert final.data == {"text": "t0 t1 t2 t3 "}
    assert len({event.run_id for event in (*tokens, final)}) == 1
    assert {event.request_id for event in (*tokens, final)} == {"r0"}


def test_every_run_has_an_id_of_its_own() -> None:
    events = answers("tokens 2", {"text": "tokens 2"}, last=6)
    assert len({event.run_id for event in events if event.final}) == 2


def test_no_tokens_are_a_final_alone() -> None:
    (final,) = answers("tokens 0", last=1)
    assert (final.final, final.data) == (True, {"text": ""})


def test_a_burst_is_so_many_notes() -> None:
    events = answers("burst 3", last=3)
    assert [(event.type, event.data) for event in events] == [("note", {"n": n}) for n in (1, 2, 3)]
    assert {(event.transient, event.run_id, event.request_id) for event in events} == {
        (None, None, "r0")
    }


@pytest.mark.on_trio
def test_sleep_answers_later_and_the_next_message_waits() -> None:
    before = time.time()
    first, second = answers("sleep 0.05 one  two\n", "three", last=2)
    assert (first.type, first.data) == ("response", {"text": "one  two\n"})
    assert second.data == {"text": "three"}
    assert before + 0.05 <= first.timestamp <= second.timestamp


@pytest.mark.parametrize(
    "text",
    [
        f"tokens {MAX_EVENTS + 1}",
        f"tokens {'9' * 5000}",
        "tokens 1 86400001",
        "tokens 200000",
        f"burst {MAX_EVENTS + 1}",
        "sleep 86401 x",
        f"sleep {'9' * 400} x",
    ],
)
def test_what_is_too_much_is_refused_before_it_begins(text: str) -> None:
    event = answer(text)
    assert (event.type, event.data["refused"]) == ("response", True)
    assert event.data["text"]


def test_the_largest_run_is_the_one_whose_final_fits() -> None:
    small = {"max_event": 7680}

    def runs(count: int) -> bool:
        return answers(f"tokens {count}", last=1, config=small)[0].type == "token"

    largest = bisect.bisect_left(range(1, 2000), True, key=lambda count: not runs(count))
    assert 1000 < largest < 2000
    *_, final = answers(f"tokens {largest}", last=largest + 1, config=small)
    size = len(codec.encode_event(final, max_depth=64))
    room = 7680 - size - len(',"aborted":true')  # it fits also where it comes early
    assert 0 <= room <= len(f"t{largest} ")


def test_an_echo_that_would_not_fit_is_refused() -> None:
    # The text fits into a message, but not with the fields of an event around it.
    event = answer("x" * 7600, max_event=7680)
    assert event.data["refused"] is True


@pytest.mark.on_trio
def test_a_question_is_closed_by_its_reply() -> None:
    async def work(server: Server) -> None:
        transcript = Transcript()
        async with connect(server.url, agent_id="demo") as client:
            await client.send("ask yes or no?", request_id="ask")
            question = (await take(client, 1))[1]
            transcript.apply(1, question)
            assert (question.type, question.expects_reply) == ("question", True)
            assert (question.data, question.request_id) == ({"text": "yes or no?"}, "ask")
            assert transcript.state()["questions"] == [question.event_id]
            await client.send({"text": "tokens 5"}, request_id="re", reply_to=question.event_id)
            reply = (await take(client, 2))[2]
            transcript.apply(2, reply)
            assert (reply.type, reply.request_id) == ("response", "re")
            assert reply.data == {"text": "tokens 5", "reply_to": question.event_id}
            assert transcript.state()["questions"] == []
            with pytest.raises(MessageRefusedError) as refused:
                await client.send("again", reply_to=question.event_id)
            assert refused.value.code == "already_answered"

    serving(work)


@pytest.mark.on_trio
def test_work_goes_on_while_nobody_is_there() -> None:
    async def work(server: Server) -> None:
        async with connect(server.url, agent_id="demo") as client:
            await client.send("sleep 0.05 one")
            await client.send("tokens 3")
            await anext(client)
            token = client.resume_token
        async with connect(server.url, agent_id="demo") as clock:
            await clock.send("sleep 0.1 done")
            await take(clock, 1)
        async with connect(server.url, agent_id="demo", resume=token) as client:
            items = [await anext(client) for _ in range(3)]
        assert [item.seq for item in items if isinstance(item, EventReceived)] == [1, 5]
        skips = [(item.first, item.last) for item in items if isinstance(item, Skipped)]
        assert skips == [(2, 4)]

    serving(work)


@pytest.mark.on_trio
def test_a_long_run_starves_nobody() -> None:
    async def work(server: Server) -> None:
        async with (
            connect(server.url, agent_id="demo") as busy,
            connect(server.url, agent_id="demo") as other,
        ):
            await busy.send("tokens 5000")
            await other.send("quick")
            quick = (await take(other, 1))[1]
            final = (await take(busy, 5001))[5001]
        assert final.data["text"] == "".join(f"t{n} " for n in range(5000))
        assert quick.timestamp < final.timestamp

    serving(work)


# Aborting


def aborted(events: list[Event], text: str, request_id: str) -> bool:
    """Whether the last of these is how an aborted run with this text ends."""
    *tokens, final = events
    return (
        (final.type, final.final, final.transient) == ("response", True, None)
        and final.data == {"text": text, "aborted": True}
        and final.request_id == request_id
        and {event.run_id for event in tokens} <= {final.run_id}
        and text == "".join(event.data["text"] for event in tokens)
    )


async def begun(client: ClientSession, text: str, seq: int) -> Event:
    """Send a message as `run`, and wait for its first event."""
    await client.send(text, request_id="run")
    return (await take(client, seq))[seq]


@pytest.mark.on_trio
@pytest.mark.parametrize("named", ["by nothing", "by its run", "by its request", "by both"])
def test_an_abort_ends_tokens_with_what_there_is_of_the_text(named: str) -> None:
    async def work(server: Server) -> None:
        async with connect(server.url, agent_id="demo") as client:
            first = await begun(client, "tokens 3 60000", 1)
            names: dict[str, dict[str, str | None]] = {
                "by nothing": {},
                "by its run": {"run_id": first.run_id},
                "by its request": {"request_id": "run"},
                "by both": {"run_id": first.run_id, "request_id": "run"},
            }
            await client.abort(**names[named])
            rest = await take(client, 2)
            assert aborted([first, *rest.values()], "t0 ", "run")
            await client.send("after it")
            assert (await take(client, 3))[3].data == {"text": "after it"}

    serving(work)


@pytest.mark.on_trio
def test_an_abort_ends_a_run_without_pauses_before_it_is_whole() -> None:
    async def work(server: Server) -> None:
        async with connect(server.url, agent_id="demo") as client:
            events = [await begun(client, "tokens 100000", 1)]
            await client.abort()
            while not events[-1].final:
                cursor = len(events) + 1
                events += (await take(client, cursor)).values()
            assert 1 < len(events) < 100_000
            text = "".join(f"t{n} " for n in range(len(events) - 1))
            assert aborted(events, text, "run")

    serving(work)


@pytest.mark.on_trio
def test_an_abort_ends_a_sleep_with_no_text() -> None:
    async def work(server: Server) -> None:
        async with connect(server.url, agent_id="demo") as client:
            await client.send("sleep 60 never", request_id="run")
            await client.abort(request_id="run")
            assert aborted(list((await take(client, 1)).values()), "", "run")

    serving(work)


@pytest.mark.on_trio
def test_an_abort_of_what_does_not_run_changes_nothing() -> None:
    async def work(server: Server) -> None:
        async with (
            connect(server.url, agent_id="demo") as client,
            connect(server.url, agent_id="demo") as other,
        ):
            await client.abort()
            first = await begun(client, "tokens 2 200", 1)
            await client.abort(run_id="another")
            await client.abort(request_id="another")
            await client.abort(run_id=first.run_id, request_id="another")
            await anext(other)
            await other.abort()
            await other.abort(run_id=first.run_id)
            events = await take(client, 3)
            assert events[3].data == {"text": "t0 t1 "}
            await client.abort(run_id=first.run_id)
            await client.send("after it")
            assert (await take(client, 4))[4].data == {"text": "after it"}

    serving(work)


# Who may come


async def admitted(server: Server, token: str | None = None, agent_id: str = "demo") -> str:
    """The session that a client gets; `ClientStoppedError` if it gets none."""
    async with connect(server.url, agent_id=agent_id, token=token) as client:
        item = await anext(client)
        return item.token.session_id


@pytest.mark.on_trio
@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({}, "auth_required"),
        ({"token": ""}, "auth_required"),
        ({"token": "wrong"}, "auth_unauthorized"),
        ({"token": "rëd"}, "auth_unauthorized"),
        ({"token": "re"}, "auth_unauthorized"),
        ({"token": "redd"}, "auth_unauthorized"),
        ({"token": "wrong", "agent_id": "nobody"}, "auth_unauthorized"),
        ({"token": "red", "agent_id": "nobody"}, "agent_not_found"),
    ],
)
def test_who_may_not_come_is_told_why(options: dict[str, str], code: str) -> None:
    async def work(server: Server) -> None:
        with pytest.raises(ClientStoppedError) as stopped:
            await admitted(server, **options)
        assert stopped.value.code == code
        assert "red" not in stopped.value.message.split()

    serving(work, tokens=("red", "blüe"))


def test_each_token_is_a_principal_of_its_own() -> None:
    async def work(server: Server) -> None:
        async with connect(server.url, agent_id="demo", token="red") as client:
            token = (await anext(client)).token
        for name, same in (("red", True), ("blüe", False)):
            got = await admitted_again(server, name, token)
            assert (got == token.session_id) is same

    async def admitted_again(server: Server, name: str, position: Any) -> str:
        seen: list[str] = []
        joined = anyio.Event()

        def watch(event: Any) -> None:
            if hasattr(event, "resumed"):
                seen.append(event.session_id)
                joined.set()

        async with connect(
            server.url, agent_id="demo", token=name, resume=position, on_event=watch
        ):
            await joined.wait()
        return seen[0]

    serving(work, tokens=("red", "blüe"))


@pytest.mark.on_trio
def test_fresh_credentials_are_judged_as_those_of_a_handshake() -> None:
    async def work(server: Server) -> None:
        async with connect(server.url, agent_id="demo", token="red") as client:
            await client.send("one")
            await take(client, 1)
            await client.set_token("red")
            await client.send("two")
            assert (await take(client, 2))[2].data == {"text": "two"}
            for token in ("wrong", "blüe"):
                async with connect(
                    server.url, agent_id="demo", token="red", resume=client.resume_token
                ) as tab:
                    await tab.send("here")
                    await anext(tab)
                    await tab.set_token(token)
                    with pytest.raises(ClientStoppedError) as stopped:
                        await take(tab, 99)
                    assert stopped.value.code == "auth_unauthorized"

    serving(work, tokens=("red", "blüe"))


def test_without_tokens_everybody_may_come_to_every_agent() -> None:
    async def work(server: Server) -> None:
        assert await admitted(server, agent_id="ann") != await admitted(server, agent_id="bob")
        assert await admitted(server, agent_id="ann", token="whatever")
        with pytest.raises(ClientStoppedError) as stopped:
            await admitted(server)
        assert stopped.value.code == "agent_not_found"

    serving(work, agent_ids=("ann", "bob"))
