"""A Unix socket to listen on: its file is made, and taken away again."""

import errno
import socket
import stat
from contextlib import suppress
from pathlib import Path

from attrs import field, frozen


@frozen
class UnixListener:
    """A bound socket that does not listen yet, and the file by which it is found.

    Who may write to the file may connect; its directory and the process's umask decide that.
    """

    socket: socket.socket
    _path: Path
    _identity: tuple[int, int] = field(repr=False)

    @classmethod
    def bind(cls, path: str) -> "UnixListener":
        """Make the file. One that a server which is gone left behind is replaced.

        Raises:
            OSError: It cannot be made; `EADDRINUSE` where somebody listens there, or the file is
                no socket.
        """
        if not hasattr(socket, "AF_UNIX"):
            raise OSError(errno.EAFNOSUPPORT, "this system has no Unix sockets")
        file = Path(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if _is_left_behind(file):
                with suppress(FileNotFoundError):
                    file.unlink()
            sock.bind(path)
            return cls(sock, file, _identity(file))
        except BaseException:
            sock.close()
            raise

    def remove(self) -> None:
        """Take the file away, unless it is gone or another server's by now."""
        with suppress(OSError):
            if _identity(self._path) == self._identity:
                self._path.unlink()


def _is_left_behind(file: Path) -> bool:
    """Whether the file is a socket that nobody listens on."""
    try:
        if not stat.S_ISSOCK(file.stat().st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(str(file)) == errno.ECONNREFUSED


def _identity(file: Path) -> tuple[int, int]:
    status = file.lstat()
    return status.st_dev, status.st_ino
