"""Logs on stderr, in which nothing from a peer is more than text."""

import logging
import sys
from types import TracebackType

from gatewayproto_cli.text import escape


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


def log_to_stderr(level: int = logging.WARNING) -> None:
    """Send warnings and worse to stderr; what the package itself tells, from `level` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(EscapingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("gatewayproto").setLevel(level)
