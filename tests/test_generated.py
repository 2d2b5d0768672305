"""The generated documentation is current, and says of the frames what the code does."""

import enum
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no types

from docs import generate
from gatewayproto import Gateway, GatewayConfig, codec, frames, render
from gatewayproto._table import Table, Verdict, fault, handled, ignored, late, mistake, race
from gatewayproto.actions import Emit, SendFrames, SubscriberJoined
from gatewayproto.client import CLIENT_TABLE
from gatewayproto.connection import CONNECTION_TABLE
from gatewayproto.errors import ERRORS, ErrorCode, FrameError
from gatewayproto.inputs import (
    Accept,
    Activity,
    ConnectionOpened,
    Drained,
    FrameReceived,
    GatewayInput,
    Publish,
    Reject,
    SetHealth,
    TimerExpired,
)
from gatewayproto.projection import Transcript
from gatewayproto.testing.strategies import client_frames, plain
from tests.wire_vocabulary import (
    CLIENT_TO_SERVER,
    PRESENCE_CHANGE,
    PRESENCE_COUNT,
    SERVER_TO_CLIENT,
    SNAPSHOT_PART,
    Mark,
    Record,
)

VALIDATORS = {
    "client": Draft202012Validator(generate.CLIENT_TO_SERVER.schema()),
    "server": Draft202012Validator(generate.SERVER_TO_CLIENT.schema()),
    "server-v1": Draft202012Validator(generate.SERVER_TO_CLIENT_V1.schema()),
}
READERS = {"client": codec.client_frame, "server": codec.server_frame}
RECORDS: list[tuple[str, str, Record]] = [
    *(("client", kind, record) for kind, record in CLIENT_TO_SERVER.items()),
    *(("server", kind, record) for kind, record in SERVER_TO_CLIENT.items()),
    ("server", "snapshot", SNAPSHOT_PART),
    ("server", "presence", PRESENCE_CHANGE),
    ("server", "presence", PRESENCE_COUNT),
]
EVERY_FRAME = pytest.mark.parametrize(
    ("side", "kind", "record"), RECORDS, ids=[f"{side}-{kind}" for side, kind, _ in RECORDS]
)


# -- current ----------------------------------------------------------------------------------


def files(docs: Path) -> dict[str, str]:
    return {
        path.relative_to(docs).as_posix(): path.read_text(encoding="utf-8")
        for folder in ("schema", "tables")
        for path in (docs / folder).iterdir()
    }


def test_the_generated_files_are_current() -> None:
    assert files(generate.DOCS) == generate.generated(), "run `make generate`"


def test_generating_writes_every_file_and_removes_what_is_no_longer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "DOCS", tmp_path)
    generate.main()
    assert files(tmp_path) == generate.generated()
    (tmp_path / "schema" / "old.json").write_text("{}")
    (tmp_path / "other.md").write_text("by hand")
    generate.main()
    assert files(tmp_path) == generate.generated()
    assert (tmp_path / "other.md").exists()


# -- schemas ----------------------------------------------------------------------------------


@pytest.mark.parametrize("side", VALIDATORS)
def test_a_schema_is_one(side: str) -> None:
    Draft202012Validator.check_schema(VALIDATORS[side].schema)


def properties(schema: Any) -> Iterator[tuple[str, Any]]:
    for definition in schema["$defs"].values():
        assert definition["title"]
        assert definition["description"]
        yield from definition["properties"].items()


def test_every_field_is_described_and_nothing_else_is() -> None:
    used: set[str] = set()
    for validator in VALIDATORS.values():
        for name, schema in properties(validator.schema):
            assert schema.get("description") or schema == {"const": schema["const"]}
            used.add(name)
    assert used == set(generate.FIELDS)


@EVERY_FRAME
def test_every_good_frame_is_valid(side: str, kind: str, record: Record) -> None:
    for _, fields in record.good():
        VALIDATORS[side].validate({"type": kind, **fields})
        VALIDATORS[side].validate({"type": kind, **fields, "unknown": [None]})


@EVERY_FRAME
def test_no_bad_frame_is_valid(side: str, kind: str, record: Record) -> None:
    for name, fields in record.bad():
        if not holds_integral_float(fields):
            assert not VALIDATORS[side].is_valid({"type": kind, **fields}), (name, fields)
    for name in record.marked(Mark.WRITTEN):
        fields = {"type": kind, **record.minimal()}
        assert not VALIDATORS[side].is_valid({**fields, name: None})
        del fields[name]
        assert not VALIDATORS[side].is_valid(fields)


def holds_integral_float(value: Any) -> bool:
    """JSON Schema takes 5.0 for an integer; the schemas' descriptions say that it is none."""
    match value:
        case dict():
            return any(map(holds_integral_float, value.values()))
        case list():
            return any(map(holds_integral_float, value))
        case _:
            return isinstance(value, float) and value.is_integer()


@pytest.mark.parametrize("side", VALIDATORS)
def test_what_is_no_frame_is_not_valid(side: str) -> None:
    none: list[Any] = [{}, [], "ping", None, {"type": "nobody knows"}, {"type": 5}, {"nonce": ""}]
    for value in none:
        assert not VALIDATORS[side].is_valid(value)


def test_a_snapshot_and_a_presence_have_one_form_each() -> None:
    whole = {"type": "snapshot", **SERVER_TO_CLIENT["snapshot"].full()}
    part = {"type": "snapshot", **SNAPSHOT_PART.full()}
    listed = {"type": "presence", **SERVER_TO_CLIENT["presence"].full()}
    change = {"type": "presence", **PRESENCE_CHANGE.full()}
    counted = {"type": "presence", **PRESENCE_COUNT.full()}
    for one, other in ((whole, part), (listed, change), (listed, counted), (counted, change)):
        assert VALIDATORS["server"].is_valid(one)
        assert VALIDATORS["server"].is_valid(other)
        assert VALIDATORS["server"].is_valid({**dict.fromkeys(other), **one})
        assert not VALIDATORS["server"].is_valid({**one, **other})


@given(client_frames())
def test_what_a_client_writes_is_valid(frame: frames.ClientFrame) -> None:
    VALIDATORS["client"].validate(json.loads(codec.encode(frame)))


@given(st.sampled_from(RECORDS), st.data())
def test_a_schema_and_the_codec_agree(chosen: tuple[str, str, Record], data: st.DataObject) -> None:
    side, kind, record = chosen
    name = data.draw(st.sampled_from(sorted({*record.fields, "unknown"})))
    value = data.draw(plain.filter(lambda value: value is not None))
    if holds_integral_float(value):
        return
    fields = {"type": kind, **record.minimal(), name: value}
    encoded = codec.encode_object(fields)
    try:
        READERS[side](codec.parse(encoded, max_bytes=len(encoded)))
        accepted = True
    except FrameError:
        accepted = False
    assert VALIDATORS[side].is_valid(fields) == accepted


# -- what the gateway really sends ------------------------------------------------------------


class Script:
    """Drives a gateway, and keeps every frame that it sends, by connection."""

    def __init__(self, **config: Any) -> None:
        numbers = iter(range(1, 1_000_000))
        self.gateway = Gateway(GatewayConfig(**config), ids=lambda: f"id-{next(numbers)}")
        self.now = 0.0
        self.sent: dict[int, list[dict[str, Any]]] = {}
        self.session_id = ""

    def give(self, input_: GatewayInput) -> None:
        taken: list[tuple[int, int]] = []
        for action in self.gateway.handle(input_, now=self.now):
            match action:
                case SendFrames(connections=connections, frames=sent):
                    for connection in connections:
                        self.sent.setdefault(connection, []).extend(map(json.loads, sent))
                        taken.append((connection, sum(map(len, sent))))
                case Emit(event=SubscriberJoined(session_id=session_id)):
                    self.session_id = session_id
                case _:
                    pass
        for connection, size in taken:
            self.give(Drained(connection, size))

    def receive(self, connection: int, **fields: Any) -> None:
        self.give(FrameReceived(connection, json.dumps(fields).encode()))

    def join(self, connection: int, **fields: Any) -> dict[str, Any]:
        """Open a connection, shake hands, and return the first frame sent on it."""
        self.give(ConnectionOpened(connection=connection, timestamp=1.0))
        self.receive(connection, **{"type": "hello", "agent_id": "agent", **fields})
        self.give(Accept(connection=connection))
        return self.sent[connection][0]

    def publish(self, event_id: str, **fields: Any) -> None:
        event: dict[str, Any] = {"type": "note", "data": {"text": event_id}, "timestamp": 1.0}
        event = {**event, "event_id": event_id, **fields}
        self.give(Publish(session_id=self.session_id, event=frames.Event(**event)))

    def publish_all(self) -> None:
        self.publish("plain", source="agent", target="user")
        for number in range(3):
            self.publish(f"token-{number}", transient=True, run_id="run")
        self.publish("final", final=True, run_id="run", request_id="r")
        self.publish("question", expects_reply=True)

    def answer_all(self, connection: int) -> None:
        for _ in range(2):
            self.receive(connection, type="message", content="x", request_id="r")
        self.receive(connection, type="message", content="y", request_id="r")
        self.receive(connection, type="message", content="y", request_id="")
        self.receive(connection, type="nobody knows")
        self.receive(connection, type="ping", nonce="n")
        self.give(FrameReceived(connection, b"["))

    def wait(self, connection: int) -> None:
        """Let a heartbeat pass on a connection that lives."""
        self.give(Activity(connection))
        deadline = self.gateway.next_deadline
        assert deadline is not None
        self.now = deadline
        self.give(TimerExpired())

    def types(self, connection: int) -> list[str]:
        return [frame["type"] for frame in self.sent.get(connection, [])]


V2 = {"protocol_min": 1, "protocol_max": 2}


def test_what_the_gateway_sends_to_version_2_is_valid() -> None:
    script = Script(projection=lambda: Transcript(64 * 1024))
    welcome = script.join(1, **V2, client={"name": "tab", "version": "1"})
    script.publish_all()
    script.answer_all(1)
    position = {"session_id": welcome["session_id"], "epoch": welcome["epoch"]}
    script.join(2, **V2, **position)
    script.receive(2, type="resync", nonce="n")
    script.receive(2, type="resume", epoch=welcome["epoch"], since=1, nonce="m")
    script.receive(2, type="resume", epoch=welcome["epoch"], since=-1)
    for number in range(8):
        script.publish(f"large-{number}", data={"text": "x" * 1000})
    script.join(3, **V2, **position, start="snapshot", max_payload=4096)
    script.receive(3, type="hello", agent_id="agent", **V2)
    script.join(4, type="join", agent_id="agent", min_version=2, max_version=2)
    script.give(ConnectionOpened(connection=5))
    script.receive(5, type="hello", agent_id="agent", since="x", **V2)
    script.give(ConnectionOpened(connection=6))
    script.receive(6, type="hello", agent_id="agent", protocol_min=7, protocol_max=9)
    script.give(ConnectionOpened(connection=7))
    script.receive(7, type="join", agent_id="agent", min_version=2, max_version=2)
    limited = Reject(connection=7, code=ErrorCode.RATE_LIMITED, retry_after_seconds=1.5)
    script.give(limited)
    script.give(SetHealth(health={"load": 0.5}))
    script.wait(1)  # for the pushes
    script.wait(1)

    seen: set[str] = set()
    for sent in script.sent.values():
        for frame in sent:
            VALIDATORS["server"].validate(frame)
            seen.add(frame["type"])
    assert seen >= set(SERVER_TO_CLIENT) - {"going_away"}
    assert any("state" in frame for frame in script.sent[2])
    assert any("chunk" in frame for frame in script.sent[3])


def test_what_the_gateway_sends_to_version_1_is_valid() -> None:
    script = Script()
    welcome = script.join(1)
    script.publish_all()
    script.answer_all(1)
    script.join(2, type="join", session_id=welcome["session_id"])
    script.join(3, session_id=welcome["session_id"], start="snapshot")
    for number, code in enumerate(ErrorCode, start=10):
        if ERRORS[code].close_code is not None:
            script.give(ConnectionOpened(connection=number))
            script.receive(number, type="hello", agent_id="agent")
            script.give(Reject(connection=number, code=code))
    script.give(ConnectionOpened(connection=99))
    script.receive(99, type="join", agent_id="agent", since=-1)
    script.wait(1)

    seen: set[str] = set()
    for sent in script.sent.values():
        for frame in sent:
            VALIDATORS["server-v1"].validate(frame)
            seen.add(frame["type"])
    known = {"hello_ok", "joined", "replay", "snapshot", "response", "hello_error", "error"}
    assert seen == {*known, "ping", "pong"}


# -- tables -----------------------------------------------------------------------------------


class Light(enum.Enum):
    DARK = "dark"
    LIT = "lit | bright"
    GONE = "gone"


class Touch(enum.Enum):
    PRESS = "press"
    HOLD = "hold or hit"


def turn_on() -> None:
    """Turn it on.

    With a click.
    """


def break_it() -> None:
    """Break it."""


def refuse() -> None:
    """Say that it is gone."""


LAMP: Table[Light, Touch] = Table(
    "lamp",
    Light,
    Touch,
    {
        Light.DARK: {
            Touch.PRESS: handled(turn_on, Light.LIT),
            Touch.HOLD: mistake(Light.DARK),
        },
        Light.LIT: {
            Touch.PRESS: ignored(Light.LIT),
            Touch.HOLD: fault(break_it, Light.GONE, Light.DARK, Light.LIT),
        },
        Light.GONE: {
            Touch.PRESS: late(Light.GONE),
            Touch.HOLD: race(refuse, Light.GONE),
        },
    },
)


def test_a_table_is_drawn_with_a_row_for_each_input_and_a_column_for_each_state() -> None:
    m = __name__.rpartition(".")[2]
    fault_cell = f"fault: `{m}.break_it` → lit \\| bright or dark or gone"
    assert render.markdown(LAMP) == (
        "| input | dark | lit \\| bright | gone |\n"
        "| --- | --- | --- | --- |\n"
        f"| press | `{m}.turn_on` → lit \\| bright | ignored | too late |\n"
        f"| hold or hit | mistake | {fault_cell} | race: `{m}.refuse` |\n"
    )


def test_handlers_are_listed_with_what_they_do() -> None:
    m = __name__.rpartition(".")[2]
    assert render.handlers(LAMP) == (
        f"- `{m}.turn_on`: Turn it on.\n"
        f"- `{m}.break_it`: Break it.\n"
        f"- `{m}.refuse`: Say that it is gone.\n"
    )


def test_a_diagram_has_every_move_from_state_to_state() -> None:
    assert render.mermaid(LAMP) == (
        "stateDiagram-v2\n"
        '    state "dark" as dark\n'
        '    state "lit | bright" as lit\n'
        '    state "gone" as gone\n'
        "    [*] --> dark\n"
        "    dark --> lit: press\n"
        "    lit --> dark: hold or hit\n"
        "    lit --> gone: hold or hit\n"
        "    gone --> [*]\n"
    )


@pytest.mark.parametrize("table", [CONNECTION_TABLE, CLIENT_TABLE], ids=lambda table: table.name)
def test_every_handler_of_a_machine_says_what_it_does(table: Table[enum.Enum, enum.Enum]) -> None:
    cells = [table[state, input_] for state in table.states for input_ in table.inputs]
    found = {cell.handler for cell in cells if cell.handler is not None}
    lines = render.handlers(table).splitlines()
    assert len(lines) == len(found)
    assert all(line.partition("`: ")[2].endswith(".") for line in lines)
    drawn = render.markdown(table).splitlines()
    assert len(drawn) == 2 + len(table.inputs)
    assert {line.count(" | ") for line in drawn} == {len(table.states)}
    assert {cell.verdict for cell in cells} == set(Verdict)


@pytest.mark.parametrize("code", ErrorCode)
def test_the_page_of_errors_has_a_row_for_every_code(code: ErrorCode) -> None:
    rows = generate.generated()["tables/errors.md"].splitlines()
    spec = ERRORS[code]
    (row,) = [row for row in rows if row.startswith(f"| `{code}` |")]
    assert row.split(" | ")[1] == (str(spec.close_code) if spec.close_code else "none")
