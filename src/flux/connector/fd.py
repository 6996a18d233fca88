"""fd://N — a descriptor that is already connected to a broker, the greeting still to be read (spec 01, 2.3)."""

from __future__ import annotations

import errno
import os
import socket

from flux.connector.stream import StreamConnector, read_greeting


class FdConnector(StreamConnector):
    """Takes over descriptor number `path`, which closes with the connection."""

    def __init__(self, path: str) -> None:
        if not path:
            raise OSError(errno.EINVAL, "URI path is not set")
        try:
            fd = int(path)
        except ValueError:
            raise OSError(errno.EINVAL, "error parsing file descriptor") from None
        try:
            sock = socket.socket(fileno=fd)
        except (OSError, OverflowError, ValueError) as exc:
            number = getattr(exc, "errno", None) or errno.EBADF
            raise OSError(number, os.strerror(number)) from None
        try:
            read_greeting(sock)
        except OSError:
            sock.close()
            raise
        super().__init__(sock)
