"""The command `gatewayproto`: a gateway to try, a client to watch one with, and a demonstration.

Exit status: 0 done, 1 failed for a reason that it names, 2 wrong usage. Results go to stdout, logs
and progress to stderr.
"""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command, or say what it lacks: its libraries come with an extra of the package."""
    try:
        from gatewayproto_cli.command import main as command  # noqa: PLC0415 -- may be absent

        command(prog_name="gatewayproto")
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in {"anyio", "click", "rich"}:
            raise
        sys.exit(f"Error: the command needs {library}: pip install 'gatewayproto[cli]'")
    except OSError as error:
        # What a command knows of is told there; here it is its output that cannot be written.
        sys.exit(f"Error: the output cannot be written: {error.strerror}")
