"""A connection over a connected stream socket: what local://, fd:// and ssh:// have in common.

Facts of the platform:

- The socket is in blocking mode and every call that must not block says MSG_DONTWAIT. A blocking read is then
  a single system call, which a signal interrupts before any data is taken, so Ctrl-C loses nothing.
- Others may put it into non-blocking mode: uvloop does that to every descriptor that it watches. A read that is
  to block then polls when it is refused.
- While a blocking send waits for room it reads as well: a broker that has answers for us and no room to put
  them would otherwise wait for us as we wait for it.
- The module `socket` turns hundreds of constants into enumerations when it is imported, which is a tenth of what a
  small command may take. Its C part has all that a stream needs.
"""

from __future__ import annotations

import _socket
import errno
import os
import select
import time

from flux.connector.base import Connector
from flux.constants import FLUX_POLLOUT, FLUX_ROLE_NONE, FLUX_USERID_UNKNOWN
from flux.message import Message
from flux.wire import Framer, encode, encode_request

_DONTWAIT = _socket.MSG_DONTWAIT | getattr(_socket, "MSG_NOSIGNAL", 0)

#: Bytes asked for in one read; a large frame under way asks for more.
_READ_SIZE = 65536
_READ_LARGE = 1 << 20

#: The sockets of all connections, by identity. Handles and their watchers are cycles, and the garbage collector
#: finalizes the objects of a cycle in any order: a socket that could be garbage might go, with a warning, before
#: the handle whose end closes it.
_open: dict[int, _socket.socket] = {}


def read_greeting(sock: _socket.socket) -> None:
    """Reads the byte with which a broker accepts (0) or refuses (an errno) a connection (spec 01, 2.2)."""
    first = sock.recv(1)
    if not first:
        raise OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
    if first[0]:
        raise OSError(first[0], os.strerror(first[0]))


class StreamConnector(Connector):
    """Frames over a connected, greeted stream socket, which the connector owns."""

    def __init__(self, sock: _socket.socket) -> None:
        self._use(sock)
        # Stamped on every message sent, for tests that play another user (spec 01, 2.2).
        self.testing_userid = FLUX_USERID_UNKNOWN
        self.testing_rolemask = FLUX_ROLE_NONE

    def _use(self, sock: _socket.socket) -> None:
        sock.setblocking(True)
        self._sock = sock
        _open[id(sock)] = sock
        self._recv = sock.recv
        self._send = sock.send
        self._framer = Framer()
        self._next = self._framer.next
        self._feed = self._framer.feed

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, message: Message, nonblock: bool) -> None:
        if self.testing_userid != FLUX_USERID_UNKNOWN or self.testing_rolemask != FLUX_ROLE_NONE:
            message = message.copy()
            message._userid = self.testing_userid
            message._rolemask = self.testing_rolemask
        frame = encode(message)
        try:
            sent = self._send(frame, _DONTWAIT)
        except BlockingIOError:
            if nonblock:
                raise
            sent = 0
        except OSError as exc:
            raise self._gone(exc) from exc
        if sent != len(frame):
            # A frame begun must be finished, also in non-blocking mode.
            self._send_rest(memoryview(frame)[sent:])

    def send_request(self, topic: bytes, raw: bytes | None, nodeid: int, matchtag: int, flags: int) -> None:
        if self.testing_userid != FLUX_USERID_UNKNOWN or self.testing_rolemask != FLUX_ROLE_NONE:
            self.send(Message.request(topic, raw, nodeid, matchtag, flags), False)
        else:
            frame = encode_request(topic, raw, nodeid, matchtag, flags)
            try:
                sent = self._send(frame, _DONTWAIT)
            except BlockingIOError:
                sent = 0
            except OSError as exc:
                raise self._gone(exc) from exc
            if sent != len(frame):
                self._send_rest(memoryview(frame)[sent:])

    def _gone(self, exc: OSError) -> OSError:
        if isinstance(exc, ConnectionError):
            return exc
        if exc.errno in (errno.EBADF, errno.ENOTCONN):
            return BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        return exc

    def _send_rest(self, rest: memoryview) -> None:
        poller = select.poll()
        poller.register(self._sock, select.POLLIN | select.POLLOUT)
        while rest:
            for _, events in poller.poll():
                if events & select.POLLIN:
                    self.read_available()
                    if self.on_input is not None:
                        self.on_input()
                if events & (select.POLLOUT | select.POLLERR | select.POLLHUP):
                    try:
                        rest = rest[self._send(rest, _DONTWAIT) :]
                    except BlockingIOError:
                        continue
                    except OSError as exc:
                        raise self._gone(exc) from exc

    def recv(self, timeout: float | None) -> Message | None:
        framer = self._framer
        if framer.pos != framer.end or framer.large is not None:
            message = self._next()
            if message is not None:
                return message
        if timeout is None:
            while True:
                try:
                    data = self._recv(_READ_SIZE if not framer.held or framer.wanted < _READ_SIZE else _READ_LARGE)
                except BlockingIOError:
                    self._wait_for_input(None)
                    continue
                except OSError as exc:
                    raise self._lost(exc) from exc
                if not data:
                    raise self._lost(None)
                message = self._next(data)
                if message is not None:
                    return message
        deadline = time.monotonic() + timeout
        while True:
            self.read_available()
            message = self._next()
            left = deadline - time.monotonic()
            if message is not None or left <= 0:
                return message
            self._wait_for_input(left * 1000)

    def _wait_for_input(self, milliseconds: float | None) -> None:
        poller = select.poll()
        poller.register(self._sock, select.POLLIN)
        poller.poll(milliseconds)

    def _lost(self, exc: OSError | None) -> OSError:
        if exc is not None and exc.errno not in (errno.ECONNRESET, errno.EBADF, errno.ENOTCONN, errno.EPIPE):
            return exc
        return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))

    def next_message(self) -> Message | None:
        return self._next()

    def has_message(self) -> bool:
        return self._framer.has_message()

    def partial(self) -> bool:
        return self._framer.buffered > 0

    def read_available(self) -> None:
        try:
            data = self._recv(_READ_SIZE if self._framer.wanted < _READ_SIZE else _READ_LARGE, _DONTWAIT)
        except BlockingIOError:
            return
        except OSError as exc:
            raise self._lost(exc) from exc
        if not data:
            raise self._lost(None)
        self._feed(data)

    def writable(self) -> int:
        poller = select.poll()
        poller.register(self._sock, select.POLLOUT)
        return FLUX_POLLOUT if poller.poll(0) else 0

    def close(self) -> None:
        _open.pop(id(self._sock), None)
        self._sock.close()

    def __del__(self) -> None:
        # A handle may just be dropped, as in the reference: that closes it, and is no leak to be warned of.
        if "_sock" in self.__dict__:
            self.close()
