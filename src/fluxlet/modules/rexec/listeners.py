"""Who hears of a process: the client of a request, and the record of one in the background (spec 04, 5.2 and 5.3)."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterable
from syslog import LOG_INFO
from typing import TYPE_CHECKING, Any

import msgspec

from flux.constants import FLUX_MSGFLAG_NORESPONSE
from flux.message import Message
from fluxlet.modules.rexec.output import eof_text, io_text

if TYPE_CHECKING:
    from fluxlet.modules.rexec.server import Host

_encode = msgspec.json.Encoder().encode

#: Bytes of output that are kept for whoever waits for a process.
_TAIL = 8192


class Listener:
    """The client of a streaming request, exec or attach.

    Args:
        host: what answers.
        request: what is answered.
        pid: the process.
        streams: those that it is to hear of.
    """

    def __init__(self, host: Host, request: Message, pid: int, streams: Iterable[str]) -> None:
        self.request = request
        self.open = set(streams)
        """The streams whose end it has not heard of."""
        self.finished = False
        """It has heard of the end of the process."""
        self.over = False
        """It hears nothing any more."""
        self._host = host
        self._silent = bool(request.flags & FLUX_MSGFLAG_NORESPONSE)
        self._head = b'{"type":"output","pid":%d,"io":' % pid

    def tell(self, payload: dict[str, Any]) -> None:
        """Sends an answer."""
        if not self._silent and not self.over:
            self._host.respond(self.request, _encode(payload) + b"\0")

    def output(self, stream: str, piece: bytes) -> None:
        """A piece of output."""
        if stream in self.open and not self._silent:
            self._host.respond(self.request, self._head + io_text(stream, self._host.rank, piece) + b"}\0")

    def eof(self, stream: str) -> None:
        """A stream has ended."""
        if stream in self.open:
            self.open.discard(stream)
            if not self._silent:
                self._host.respond(self.request, self._head + eof_text(stream, self._host.rank) + b"}\0")
            self._end_if_complete()

    def finish(self, status: int) -> None:
        """The process has ended, with this status of wait(2)."""
        self.tell({"type": "finished", "status": status})
        self.finished = True
        self._end_if_complete()

    def _end_if_complete(self) -> None:
        if self.finished and not self.open:
            self.fail(errno.ENODATA, None)

    def fail(self, errnum: int, text: str | None) -> None:
        """Ends the stream of answers."""
        if not self.over:
            self.over = True
            self.open.clear()
            if not self._silent:
                self._host.respond_error(self.request, errnum, text)

    def leave(self) -> None:
        """The client has gone."""
        self.over = True
        self.open.clear()


class Record:
    """What becomes of the output of a process in the background: it is logged, and its end is kept.

    Args:
        host: whose log it is.
        who: how the log calls the process.
    """

    def __init__(self, host: Host, who: str) -> None:
        self.who = who
        self._host = host
        self._kept: deque[tuple[str, bytes]] = deque()
        self._size = 0

    def output(self, stream: str, piece: bytes) -> None:
        """A piece of output."""
        text = piece.decode("utf-8", "replace").rstrip("\n")
        if text:
            self._host.log(LOG_INFO, f"{self.who}: {text}")
        self._kept.append((stream, piece))
        self._size += len(piece)
        while self._size > _TAIL and len(self._kept) > 1:
            self._size -= len(self._kept.popleft()[1])

    def answer(self, status: int) -> bytes:
        """The answer to whoever waits for the process: its status, and what is left of its output."""
        pieces = b",".join(io_text(stream, self._host.rank, piece) for stream, piece in self._kept)
        output = b',"output":[%b]' % pieces if pieces else b""
        return b'{"status":%d%b}\0' % (status, output)


def end_text(status: int) -> str:
    """How a process has ended, for the log."""
    return f"Killed by signal {status & 0x7F}" if os.WIFSIGNALED(status) else f"Exit {os.WEXITSTATUS(status)}"
