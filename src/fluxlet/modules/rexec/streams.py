"""Our ends of a process's streams: what it writes, and what it is to read (spec 04, 5.2 and 5.4).

Rules:
- Nothing blocks. Output is read only as far as it can be passed on: what is left stays in the pipe, and the process
  waits. Input is held up to the size of the stream's buffer, which the other side knows as its credit.
- A flood of lines is passed on a share at a time, so that nobody else waits for it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from flux.constants import FLUX_POLLIN, FLUX_POLLOUT
from flux.reactor import FdEvent, Reactor
from fluxlet.modules.rexec.output import Pieces

_READ_SIZE = 65536
#: Bytes in a pipe, at least, that nobody reads.
_PIPE = 1 << 18
#: Pieces passed on before others have their turn.
_SHARE = 256


class Output:
    """A stream that a process writes.

    Args:
        reactor: the loop.
        fd: to read from, not blocking.
        pieces: what cuts it.
        take: called with each piece.
        ended: called once, at its end.
        may_go_on: see below.
        later: called with this if it has to go on at another time, by `resume`.
        close: closes the descriptor.
    """

    def __init__(
        self,
        reactor: Reactor,
        fd: int,
        pieces: Pieces,
        take: Callable[[bytes], None],
        ended: Callable[[], None],
        may_go_on: Callable[[], bool],
        later: Callable[[Output], None],
        close: Callable[[], None],
    ) -> None:
        self.closed = False
        self._fd = fd
        self._pieces = pieces
        self._take = take
        self._ended = ended
        self.may_go_on = may_go_on
        """Whether what is read now could be passed on."""
        self._later = later
        self._close = close
        self._eof = False
        self._waiting = False
        self.event: FdEvent = reactor.fd(fd, FLUX_POLLIN, self._on_ready)
        self.event.start()

    def _on_ready(self, fd: int, revents: int) -> None:
        if self.may_go_on():
            self._read()
        self.resume()

    def _read(self) -> bool:
        """Reads once; False if there was nothing."""
        try:
            data = os.read(self._fd, min(_READ_SIZE, self._pieces.size))
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # of a channel: the other end was closed with something unread
        if data:
            self._pieces.feed(data)
        else:
            self._pieces.finish()
            self._eof = True
        return bool(data)

    def resume(self) -> bool:
        """Passes on what is ready, or a share of it; False if the rest has to wait."""
        ready = self._pieces.ready
        for _ in range(min(len(ready), _SHARE)):
            self._take(ready.popleft())
            if self.closed:
                return True  # nobody is interested any more
        if ready or not self.may_go_on():
            if not self._waiting:
                self._waiting = True
                self.event.set_events(0)
                self._later(self)
            return False
        if self._waiting:
            self._waiting = False
            self.event.set_events(FLUX_POLLIN)
        if self._eof:
            self.close()
            self._ended()
        return True

    def drain(self) -> None:
        """Passes on what has been written so far; of somebody who goes on writing, no more than a pipe holds."""
        ready = self._pieces.ready
        left = _PIPE
        while not self.closed:
            more = left > 0 and not self._eof and self._read()
            left -= min(_READ_SIZE, self._pieces.size)
            while ready and not self.closed:
                self._take(ready.popleft())
            if not more:
                break
        if self._eof and not self.closed:
            self.close()
            self._ended()

    def close(self) -> None:
        """Stops listening."""
        if not self.closed:
            self.closed = True
            self.event.stop()
            self._close()


class Input:
    """A stream that a process reads.

    Args:
        reactor: the loop.
        sock: to write to, not blocking.
        size: of the buffer, in bytes.
        drained: called with the number of bytes that have been taken from the buffer.
        shared: the descriptor is an output, too, and is closed with that.
    """

    def __init__(
        self, reactor: Reactor, sock: socket.socket, size: int, drained: Callable[[int], None], shared: bool = False
    ) -> None:
        self.size = size
        self._sock = sock
        self._drained = drained
        self._shared = shared
        self._buffer = bytearray()
        self._eof = False
        self._open = True
        # An event of its own: of a channel, another one watches for what comes.
        self._event: FdEvent = reactor.fd(sock.fileno(), FLUX_POLLOUT, lambda fd, revents: self._write())

    def write(self, data: bytes, eof: bool) -> bool:
        """Takes what the process is to read; False if that is more than the buffer holds."""
        if not self._open or self._eof:
            if data:
                self._drained(len(data))  # nobody reads it
            return True
        if len(self._buffer) + len(data) > self.size:
            return False
        self._buffer += data
        self._eof = eof
        if not self._event.active:
            self._write()
        return True

    def _write(self) -> None:
        sent = 0
        if self._buffer:
            try:
                sent = self._sock.send(self._buffer)
            except BlockingIOError:
                sent = 0
            except OSError:
                sent = len(self._buffer)  # it has closed its end: nobody reads that
                self._eof = True
            del self._buffer[:sent]
        if self._buffer:
            self._event.start()
        else:
            self._event.stop()
            if self._eof:
                self.close()
        if sent:
            self._drained(sent)

    def close(self) -> None:
        """The process finds the end of the stream."""
        if not self._open:
            return
        self._open = False
        self._event.stop()
        self._buffer.clear()
        if not self._shared:
            self._sock.close()
            return
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            return  # it has closed its end
