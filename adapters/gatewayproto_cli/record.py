"""`--record FILE`: what a command does beside its work."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

import click

from gatewayproto.testing.recording import Recording
from gatewayproto_cli.text import escape


@contextmanager
def recording_into(
    path: Path | None, *, secrets: Iterable[str] = ()
) -> Generator[Recording | None, None, None]:
    """Record into a new file during the block; None where there is nothing to record into.

    A file into which no input was written does not stay.

    Raises:
        click.ClickException: The file cannot be made, or could not be written to its end.
    """
    if path is None:
        yield None
        return
    try:
        recording = Recording.create(path, secrets=secrets)
    except OSError as error:
        raise click.ClickException(
            f"cannot record into {escape(str(path))}: {error.strerror}"
        ) from None
    try:
        with recording:
            yield recording
    finally:
        if recording.inputs == 0:  # what was to be recorded never began
            path.unlink(missing_ok=True)
    if recording.failure is not None:
        raise click.ClickException(
            f"the recording in {escape(str(path))} is not whole: {escape(recording.failure)}"
        )
