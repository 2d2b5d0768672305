"""Logs on stderr, in which nothing from a peer is more than text."""

import json
import logging
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Final

from gatewayproto_cli.text import escape

LEVELS: Final = ("debug", "info", "warning", "error")

_OWN_FIELDS: Final = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})
"""What every record has; what it has beside these was told with it."""
_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BARE: Final = re.compile(r"[A-Za-z0-9_./:+-]+")


class EscapingFormatter(logging.Formatter):
    """One line for a record, whatever is in its message; tracebacks keep their line ends."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """See logging."""
        record.message = escape(record.message)
        return super().formatMessage(record)

    def formatException(  # noqa: N802 - logging's name
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        """See logging."""
        return "\n".join(map(escape, super().formatException(ei).split("\n")))


class KeyValueFormatter(logging.Formatter):
    """One line of ASCII for a record, `key=value` for each thing that it says.

    First `time` (UTC), `level`, `logger` and `message`, then what was told with it, then the
    `traceback`, if there is one. A value that is more than letters, digits and `_./:+-` is a JSON
    string, and so can be read back.
    """

    def format(self, record: logging.LogRecord) -> str:
        """See logging."""
        return " ".join(f"{key}={_value(value)}" for key, value in self._fields(record))

    def _fields(self, record: logging.LogRecord) -> Iterator[tuple[str, object]]:
        time = datetime.fromtimestamp(record.created, UTC)
        yield "time", time.isoformat(timespec="milliseconds")
        yield "level", record.levelname.lower()
        yield "logger", record.name
        yield "message", record.getMessage()
        for key, value in vars(record).items():
            if key not in _OWN_FIELDS and _KEY.fullmatch(key):
                yield key, value
        if record.exc_info:
            yield "traceback", self.formatException(record.exc_info)
        if record.stack_info:
            yield "stack", record.stack_info


def _value(value: object) -> str:
    text = str(value)
    return text if _BARE.fullmatch(text) else json.dumps(text)


def log_to_stderr(level: int = logging.WARNING, formatter: logging.Formatter | None = None) -> None:
    """Send warnings and worse to stderr; what the package itself tells, from `level` on.

    For people, unless there is another `formatter`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        formatter or EscapingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))
    logging.getLogger("gatewayproto").setLevel(level)
