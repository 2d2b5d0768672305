"""TLS contexts from files, for `serve` and for `tail`."""

import os
import ssl
from pathlib import Path
from typing import Final

import click

from gatewayproto_cli.text import escape

FILE: Final = click.Path(dir_okay=False, path_type=Path)


def server_context(certfile: Path, keyfile: Path | None) -> ssl.SSLContext:
    """A context that shows this certificate; without a `keyfile` its key is in the same file.

    Raises:
        click.ClickException: The files cannot be read, or are no certificate with its key.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # Nobody is there to be asked for a passphrase: a key that has one cannot be used.
        context.load_cert_chain(certfile, keyfile, password=lambda: b"")
    except (OSError, ValueError) as error:
        files = " and ".join(escape(str(path)) for path in (certfile, keyfile) if path is not None)
        raise click.ClickException(
            f"cannot use {files} as a certificate and its key: {_why(error)}"
        ) from None
    return context


def client_context(cafile: Path | None) -> ssl.SSLContext | None:
    """A context that trusts what these authorities vouch for; None where the default will do.

    Raises:
        click.ClickException: The file cannot be read, or holds no certificate.
    """
    if cafile is None:
        return None
    try:
        return ssl.create_default_context(cafile=cafile)
    except (OSError, ValueError) as error:
        raise click.ClickException(
            f"cannot use {escape(str(cafile))} as certificates of authorities: {_why(error)}"
        ) from None


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.errno:
        return os.strerror(error.errno)
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return "they are not in PEM format, or do not belong together"
