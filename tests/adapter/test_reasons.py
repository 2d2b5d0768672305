"""Why a transport could not be opened, in the same words on every framework."""

import errno
import os
import socket
import ssl

import pytest
from gatewayproto_adapter.reasons import reason
from hypothesis import given
from hypothesis import strategies as st

REFUSED = os.strerror(errno.ECONNREFUSED)
UNREACHABLE = os.strerror(errno.ENETUNREACH)


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


def untrusted() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] (_ssl.c:1)")
    error.verify_message = "self-signed certificate"
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        # As the system says it, and as frameworks repeat it.
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), REFUSED),
        (OSError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)"), REFUSED),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
         "Name or service not known"),
        (UnicodeError("label too long"), "this is no name of a host"),
        # Of every address that a name has.
        (OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1, 0, 0), "
                 "[Errno 111] Connect call failed ('127.0.0.1', 1)"), os.strerror(111)),
        (caused(OSError("all attempts to connect failed"),
                ExceptionGroup("", [OSError(errno.ECONNREFUSED, "x"),
                                    OSError(errno.ENETUNREACH, "y"),
                                    OSError(errno.ECONNREFUSED, "z")])),
         f"{REFUSED}, {UNREACHABLE}"),
        # TLS.
        (untrusted(), "TLS: the certificate is not trusted: self-signed certificate"),
        (caused(ConnectionError("x"), caused(RuntimeError("y"), untrusted())),
         "TLS: the certificate is not trusted: self-signed certificate"),
        (ssl.SSLError(1, "no details"), "TLS: the handshake failed"),
        # Nothing is known but that it failed.
        (ConnectionResetError(), "the connection broke off"),
        (OSError("what a peer said \x1b[2J"), "the connection broke off"),
    ],
)  # fmt: skip
def test_the_reason_is_what_the_system_said(error: BaseException, words: str) -> None:
    assert reason(error) == words


def test_errors_in_a_circle_have_an_end() -> None:
    one, two = OSError("one"), OSError("two")
    one.__cause__, two.__cause__ = two, one
    assert reason(one) == "the connection broke off"


errors = st.recursive(
    st.builds(OSError, st.text()) | st.builds(OSError, st.integers(1, 200), st.text()),
    lambda inner: (
        st.builds(caused, inner, inner)
        | st.builds(lambda each: ExceptionGroup("group", each), st.lists(inner, min_size=1))
    ),
    max_leaves=8,
)


@given(errors)
def test_whatever_it_was_the_reason_is_words_without_what_the_error_carried(
    error: BaseException,
) -> None:
    words = reason(error)
    assert words
    known = {os.strerror(number) for number in range(1, 1000)} | {"the connection broke off"}
    assert all(each in known for each in words.split(", ")) or words in known
