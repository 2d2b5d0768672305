"""What `serve` logs: a line for a record, from which everything can be read back."""

import json
import logging
import re
from typing import Any

import pytest
from gatewayproto_cli.logs import KeyValueFormatter, log_to_stderr
from hypothesis import given
from hypothesis import strategies as st

NAME = st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True)
FIELD = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)=("(?:[^"\\]|\\.)*"|[^" ]+)(?: |$)')


def read_back(line: str) -> dict[str, str]:
    """The fields of a line, all of which is fields."""
    found = list(FIELD.finditer(line))
    assert "".join(each[0] for each in found) == line
    values = [json.loads(each[2]) if each[2][0] == '"' else each[2] for each in found]
    assert len({each[1] for each in found}) == len(found)
    return dict(zip([each[1] for each in found], values, strict=True))


def record(message: str, *arguments: object, **extra: Any) -> logging.LogRecord:
    logger = logging.getLogger("gatewayproto.test")
    return logger.makeRecord(
        logger.name, logging.WARNING, __file__, 1, message, arguments, None, extra=extra
    )


@given(
    st.text(),
    st.dictionaries(NAME.map("x_".__add__), st.text() | st.integers() | st.floats() | st.none()),
)
def test_a_record_is_one_line_of_ascii_that_can_be_read_back(
    message: str, extra: dict[str, Any]
) -> None:
    line = KeyValueFormatter().format(record("%s", message, **extra))
    assert line.isascii()
    assert line.isprintable()
    fields = read_back(line)
    assert list(fields)[:4] == ["time", "level", "logger", "message"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", fields.pop("time"))
    assert (fields.pop("level"), fields.pop("logger")) == ("warning", "gatewayproto.test")
    assert fields.pop("message") == message
    assert fields == {key: str(value) for key, value in extra.items()}


def test_a_traceback_is_within_the_line() -> None:
    failed = record("it failed")
    try:
        raise ValueError("line\nline \x1b[31m")
    except ValueError as error:
        failed.exc_info = (type(error), error, error.__traceback__)
    line = KeyValueFormatter().format(failed)
    assert line.isprintable()
    assert read_back(line)["traceback"].endswith("ValueError: line\nline \x1b[31m")


def test_no_key_can_break_a_line() -> None:
    odd = record("odd")
    odd.__dict__["a=b\nlevel"] = "x"
    assert set(read_back(KeyValueFormatter().format(odd))) == {"time", "level", "logger", "message"}


@pytest.mark.parametrize(
    ("level", "told"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)]
)
def test_the_level_is_the_packages_and_others_are_told_from_warnings_on(
    capsys: pytest.CaptureFixture[str], level: str, told: int
) -> None:
    numbers = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
    log_to_stderr(getattr(logging, level.upper()), KeyValueFormatter())
    for name in ("gatewayproto.test", "another"):
        for number in numbers:
            logging.getLogger(name).log(number, "x")
    lines = [read_back(line) for line in capsys.readouterr().err.splitlines()]
    own = [line["level"] for line in lines if line["logger"] == "gatewayproto.test"]
    others = [line["level"] for line in lines if line["logger"] == "another"]
    assert own == ["debug", "info", "warning", "error"][4 - told :]
    assert others == ["warning", "error"][2 - min(told, 2) :]
