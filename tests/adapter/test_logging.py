"""What the adapters log: listed on a page, no secret in it, and nothing of a peer's as it is."""

import ast
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from gatewayproto import ClientConfig
from gatewayproto.actions import Joined
from gatewayproto.backoff import Backoff
from tests.adapter.frameworks import FRAMEWORKS, Echo, Framework, patience, until

ROOT: Final = Path(__file__).parents[2]
FAST = ClientConfig(agent_id="demo", token="a-secret", backoff=Backoff(initial=0.01))
LEVELS: Final = ("debug", "info", "warning", "error", "exception")


def logged() -> Iterator[tuple[str, str]]:
    """The level and the message of every call that logs, with its placeholders as dots."""
    for name in ("adapter", "asyncio", "trio"):
        for path in (ROOT / "adapters" / f"gatewayproto_{name}").glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                match node:
                    case ast.Call(
                        func=ast.Attribute(
                            value=(ast.Name() | ast.Attribute()) as logger, attr=how
                        ),
                        args=[ast.Constant(value=str() as message), *_],
                    ) if how in LEVELS and "logger" in ast.unparse(logger):
                        yield how, re.sub(r"%[a-z]", "…", message)
                    case _:
                        pass


def test_everything_that_is_logged_is_on_the_page() -> None:
    page = (ROOT / "docs" / "how-to" / "operate.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| (\w+) \| `([^`]+)` \|", page, re.MULTILINE))
    found = {("error" if how == "exception" else how, message) for how, message in logged()}
    assert len(found) > 10
    assert found == listed


NASTY: Final = "\x1b[31mred\x9b\u202e, 10.0.0.1\u2028"


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)
def test_what_is_logged_is_plain_and_tells_no_secret(
    framework: Framework, caplog: pytest.LogCaptureFixture
) -> None:
    sessions: list[str] = []

    async def main() -> None:
        adapter, application = framework.adapter, Echo()
        async with (
            adapter.serve(application, port=0, trusted_proxies=["127.0.0.1"]) as server,
            adapter.connect(
                f"{server.url}?token=a-secret",
                config=FAST,
                headers=[("X-Forwarded-For", "nobody <b>")],
            ) as client,
        ):
            with patience():
                joined = await anext(client)
                assert isinstance(joined, Joined)
                sessions.append(joined.token.session_id)
                await client.send(NASTY)
                await client.abort(run_id=NASTY)
                async with adapter.connect(f"{server.url}x", config=FAST):
                    await until(lambda: "an upgrade was refused: 404" in caplog.messages)
                await server.drain(reason=NASTY)

    with caplog.at_level(logging.DEBUG, "gatewayproto"):
        framework.run(main)
    name = framework.adapter.__name__.replace("_", ".")
    records = [each for each in caplog.records if each.name.startswith("gatewayproto")]
    assert {each.name for each in records} == {name}
    messages = [each.getMessage() for each in records]
    assert {"connection 1 is gone", "drained", "closed"} <= set(messages)
    for record in records:
        fields = " ".join(map(str, added(record).values()))
        for text in (record.getMessage(), fields):
            assert text.isascii()
            assert text.isprintable()
            assert "a-secret" not in text
            assert not any(each in text for each in sessions)


def added(record: logging.LogRecord) -> dict[str, Any]:
    """The fields of a record that are ours."""
    plain = vars(logging.makeLogRecord({}))
    return {key: value for key, value in vars(record).items() if key not in plain}


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)
def test_records_have_their_fields(framework: Framework, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        adapter = framework.adapter
        async with (
            adapter.serve(Echo(), port=0) as server,
            adapter.connect(server.url, config=FAST) as client,
        ):
            with patience():
                await anext(client)

    with caplog.at_level(logging.DEBUG, "gatewayproto"):
        framework.run(main)
    fields = {each.getMessage(): added(each) for each in caplog.records}
    assert fields["connection 1 is gone"]["connection"] == 1
    (listening,) = (each for each in fields if each.startswith("listening on ws://127.0.0.1:"))
    assert listening.endswith(fields[listening]["url"])
    (arrived,) = (each for each in fields if each.startswith("connection 1 from '127.0.0.1:"))
    assert fields[arrived]["peer"] in arrived
