"""local:// — the broker's UNIX socket (spec 01, 2.2)."""

from __future__ import annotations

import _socket
import errno
import os
import time

from flux.connector.base import env_number
from flux.connector.stream import StreamConnector, read_greeting
from flux.constants import FLUX_ROLE_NONE, FLUX_USERID_UNKNOWN

#: Longest path of a socket address, in bytes.
_MAX_PATH = 107
_RETRIES = 5
_FIRST_DELAY = 0.016
_MAX_DELAY = 2.0


def _retry_count() -> int:
    text = os.environ.get("FLUX_LOCAL_CONNECTOR_RETRY_COUNT")
    if text is None:
        return _RETRIES
    if text == "":
        return 0
    if not text.isascii() or not text.isdigit():
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return int(text)


def _connect(path: str) -> _socket.socket:
    """A greeted connection; a connect that fails is tried again, since a broker may be about to listen."""
    retries = _retry_count()
    encoded = os.fsencode(path)
    if not 0 < len(encoded) <= _MAX_PATH:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    delay = _FIRST_DELAY
    while True:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            sock.connect(encoded)
            read_greeting(sock)
            return sock
        except OSError as exc:
            sock.close()
            if exc.errno in (errno.EPERM, errno.ECONNRESET):
                raise  # connected, and refused
            if retries == 0:
                if exc.errno == errno.ENOENT:
                    raise OSError(errno.ENOENT, f"broker socket {path} was not found") from None
                raise OSError(exc.errno, os.strerror(exc.errno or errno.EIO)) from None
        except BaseException:
            sock.close()
            raise
        retries -= 1
        time.sleep(delay)
        delay = min(2 * delay, _MAX_DELAY)


class LocalConnector(StreamConnector):
    """A connection to the UNIX socket at `path`.

    Raises OSError as spec 01 2.3 lists: ENOENT `broker socket PATH was not found`, ECONNREFUSED, EPERM, EINVAL.
    """

    def __init__(self, path: str) -> None:
        userid = env_number("FLUX_HANDLE_USERID")
        rolemask = env_number("FLUX_HANDLE_ROLEMASK")
        super().__init__(_connect(path))
        self._path = path
        self.testing_userid = FLUX_USERID_UNKNOWN if userid is None else userid & 0xFFFFFFFF
        self.testing_rolemask = FLUX_ROLE_NONE if rolemask is None else rolemask & 0xFFFFFFFF

    def reconnect(self) -> None:
        self.close()
        self._use(_connect(self._path))
