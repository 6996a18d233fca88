"""Writer: frames on their way out of a socket, to clients and to modules that are processes of their own.

Output is queued, and written when the loop is about to wait, all of a peer's frames in one call; what the socket
does not take then is written when it can.
"""

from __future__ import annotations

import socket

from flux.constants import FLUX_POLLIN, FLUX_POLLOUT
from flux.reactor import FdEvent

#: Frames from this size on are written by themselves.
_LARGE = 65536
#: Bytes that are written in a row: who reads as fast as we write must not keep the others waiting.
_SHARE = 1 << 20


class Writer:
    """The output of one socket.

    Args:
        sock: not blocking.
        event: what watches the socket for input.
    """

    def __init__(self, sock: socket.socket, event: FdEvent) -> None:
        self._send = sock.send
        self.out: list[bytes | memoryview] = []
        self.out_size = 0
        self.blocked = False
        self.event = event

    def flush(self) -> None:
        """Writes what is queued, as far as the socket takes it, or its share."""
        left = _SHARE
        while out := self.out:
            # Small frames go out together; a large one is not copied for that.
            alone = len(out) == 1 or len(out[0]) >= _LARGE
            count = 1 if alone else len(out) if self.out_size <= _SHARE else _first(out)
            data = out[0] if alone else b"".join(out[:count])
            try:
                sent = self._send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                # It went away; what it sent before that is still read, then comes the end of the stream.
                out.clear()
                self.out_size = 0
                break
            del out[:count]
            self.out_size -= sent
            left -= sent
            if sent < len(data):
                out.insert(0, memoryview(data)[sent:])
            if sent < len(data) or (left <= 0 and out):
                if not self.blocked:
                    self.blocked = True
                    self.event.set_events(FLUX_POLLIN | FLUX_POLLOUT)
                return
        if self.blocked:
            self.blocked = False
            self.event.set_events(FLUX_POLLIN)


def _first(frames: list[bytes | memoryview]) -> int:
    """How many of many frames to write together."""
    size = 0
    for count, frame in enumerate(frames, 1):
        size += len(frame)
        if size >= _LARGE:
            return count
    return len(frames)
