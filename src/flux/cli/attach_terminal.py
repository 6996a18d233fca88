"""The user's terminal, connected to one of the job's (spec 07, 5.10).

Rules:
- Keys go to the job as they are typed, and what the job writes comes out as it is: this terminal is raw meanwhile, and
  the job's does the rest. What was typed before is the job's, too.
- This terminal is put back whatever happens.
"""

from __future__ import annotations

import codecs
import errno
import os
import signal
import sys
from typing import Any

from flux.constants import FLUX_POLLIN, FLUX_RPC_STREAMING
from flux.core.handle import Flux
from flux.rpc import RPC

_SIZE = 65536


class Terminal:
    """A session on a terminal of a job.

    Args:
        handle: a connection; its reactor is run.
        topic: of the service that the terminal is.
        rank: where that is.
        raw: a terminal that is standard input is made raw.

    Attributes:
        status: the wait status that the session ended with; None as long as that is not known.
        error: why it could not be attached to, or was lost.
    """

    def __init__(self, handle: Flux, topic: str, rank: int, raw: bool = True) -> None:
        self._handle = handle
        self._topic = topic
        self._rank = rank
        self._raw = raw
        self._saved: list[Any] | None = None
        self._watchers: list[Any] = []
        self._rpc: RPC | None = None
        self.status: int | None = None
        self.error: OSError | None = None
        # A key may be several bytes, which need not come together.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def start(self) -> None:
        """Connects."""
        payload = {"type": "attach", "mode": "rw", "winsize": _size()}
        self._rpc = self._handle.rpc(self._topic, payload, self._rank, FLUX_RPC_STREAMING)
        self._rpc.then(self._heard)
        if self._raw and sys.stdin.isatty():
            import termios
            import tty

            self._saved = termios.tcgetattr(0)
            tty.setraw(0, termios.TCSADRAIN)
        self._watch(self._handle.fd_watcher_create(0, self._typed, FLUX_POLLIN))
        self._watch(self._handle.signal_watcher_create(signal.SIGWINCH, self._resized))

    def _watch(self, watcher: Any) -> None:
        watcher.start()
        watcher.unref()
        self._watchers.append(watcher)

    def stop(self) -> None:
        """Takes no more keys, and leaves the user's terminal as it was."""
        for watcher in self._watchers:
            watcher.destroy()
        self._watchers.clear()
        if self._saved is not None:
            import termios

            termios.tcsetattr(0, termios.TCSADRAIN, self._saved)
            self._saved = None

    def detach(self) -> None:
        """Leaves the session, which goes on without us."""
        self.stop()
        self._tell({"type": "detach"})

    def _tell(self, payload: dict[str, Any]) -> None:
        self._handle.rpc(self._topic, payload, self._rank)

    def _typed(self, handle: Flux, watcher: Any, fd: int, revents: int, args: Any) -> None:
        try:
            data = os.read(0, _SIZE)
        except OSError as exc:
            if exc.errno != errno.EIO:  # the terminal has been closed
                raise
            data = b""
        if not data:
            self.at_end()
        elif text := self._decoder.decode(data):
            self.type(text)

    def at_end(self) -> None:
        """Nothing more will be typed."""
        self.stop()

    def type(self, text: str) -> None:
        """Sends what was typed."""
        self._tell({"type": "data", "data": text})

    def _resized(self, handle: Flux, watcher: Any, signum: int, args: Any) -> None:
        self._tell({"type": "resize", "winsize": _size()})

    def _heard(self, rpc: RPC) -> None:
        try:
            message = rpc.get()
        except OSError as exc:
            if exc.errno != errno.ENODATA:  # the session has ended
                self.error = exc
            self.stop()
            return
        rpc.reset()
        if message["type"] == "data":
            data = message["data"]
            if message.get("encoding") == "base64":
                from base64 import b64decode

                _write(b64decode(data))
            else:
                _write(data.encode("utf-8", "surrogateescape"))
        elif message["type"] == "exit":
            self.status = message.get("status", 0)
            self.stop()


def _size() -> dict[str, int]:
    """That of the terminal; not what COLUMNS and LINES say, which are of another time."""
    try:
        size = os.get_terminal_size(0)
    except OSError:
        size = os.terminal_size((80, 25))
    return {"rows": size.lines, "cols": size.columns}


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]
