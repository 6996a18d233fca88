"""What an attached user types: standard input of the job's tasks, or its terminal (spec 08, section 7; 07, 5.10)."""

from __future__ import annotations

import errno
import os
import signal
import sys
from base64 import b64encode
from typing import TYPE_CHECKING, Any

from flux.constants import FLUX_POLLIN
from flux.core.handle import Flux
from flux.rpc import RPC

if TYPE_CHECKING:
    from flux.cli.attach import Attach
    from flux.cli.attach_terminal import Terminal

_SIZE = 65536


def somebody_types() -> bool:
    """Whether standard input may be read: it is open, and not a terminal that is another program's now."""
    if sys.stdin is None:
        return False  # it was closed when we began: what is descriptor 0 now is something of our own
    try:
        return not os.isatty(0) or os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return True  # a terminal, but not that of this session


class Input:
    """Sends standard input to the job's shell.

    Attributes:
        service, leader: the name of the shell's service, and the rank it is on.
    """

    def __init__(self, attach: Attach) -> None:
        self._attach = attach
        self.service: str | None = None
        self.leader = 0
        self._ranks = attach.options.stdin_ranks
        self._watcher: Any = None
        self._sent = False
        self._terminal: Terminal | None = None

    def start(self) -> None:
        """Reads standard input from now on."""
        if self._watcher is not None or self._terminal is not None:
            return
        if os.isatty(0):
            # Sent to the background, this program is to go on, and not to be stopped by reading.
            signal.signal(signal.SIGTTIN, signal.SIG_IGN)
        handle = self._attach.handle
        try:
            self._watcher = handle.fd_watcher_create(0, self._readable, FLUX_POLLIN)
            self._watcher.start()
            self._watcher.unref()
        except OSError:
            # A file, which cannot be polled, and need not: it is there.
            self._watcher = None
            self._read_all()

    def stop(self) -> None:
        """Reads no more."""
        if self._watcher is not None:
            self._watcher.destroy()
            self._watcher = None
        if self._terminal is not None:
            self._terminal.stop()

    def detach(self) -> None:
        """Reads no more, and leaves the job's terminal to others."""
        self.stop()
        if self._terminal is not None:
            self._terminal.detach()

    def tasks_known(self, context: dict[str, Any]) -> None:
        """The tasks that there are: those that get no input are told so at once."""
        if self._ranks == "all":
            return
        from flux.idset import IDset

        count = sum(entry[1] * entry[2] * entry[3] for entry in context["taskmap"]["map"])
        everybody = IDset(f"0-{count - 1}")
        wanted = IDset(self._ranks)
        there = wanted.intersect(everybody)
        if len(there) < len(wanted):
            self._attach.say(f"warning: adjusting --stdin-ranks from {wanted} to {there}")
        self._ranks = str(there)
        others = everybody.difference(there)
        if len(others):
            self._send({"stream": "stdin", "rank": str(others), "eof": True})

    def _readable(self, handle: Flux, watcher: Any, fd: int, revents: int, args: Any) -> None:
        try:
            data = os.read(0, _SIZE)
        except BlockingIOError:
            return
        except OSError as exc:
            if exc.errno != errno.EIO:  # a background job may not read its terminal
                raise
            self.stop()
            return
        self._take(data)

    def _read_all(self) -> None:
        while data := os.read(0, _SIZE):
            self._take(data)
        self._take(b"")

    def _take(self, data: bytes) -> None:
        """Sends what was read; nothing is the end."""
        entry: dict[str, Any] = {"stream": "stdin", "rank": self._ranks}
        if data:
            self._sent = True
            try:
                entry["data"] = data.decode()
            except UnicodeDecodeError:
                entry |= {"data": b64encode(data).decode(), "encoding": "base64"}
        else:
            entry["eof"] = True
            self.stop()
        self._send(entry)

    def _send(self, entry: dict[str, Any]) -> None:
        rpc = self._attach.handle.rpc(f"{self.service}.stdin", entry, self.leader)
        rpc.then(self._answered)

    def _answered(self, rpc: RPC) -> None:
        try:
            rpc.get()
        except OSError as exc:
            if self._attach.finished:
                return
            if exc.errno == errno.ENOSYS:
                # A shell that takes no input, which is an error only if there was some.
                if self._sent:
                    self._attach.fail("stdin not accepted by job")
                return
            if exc.errno == errno.EPIPE:
                # The tasks read no more, or a file: as in a pipeline, that is their business.
                self.stop()
                return
            self._attach.fail(f"stdin: {exc.strerror}")

    def attach_terminal(self, name: str, captured: bool) -> None:
        """The job has a terminal: the user's is connected to it."""
        if self._attach.options.read_only:
            if not captured:
                self._attach.fail("Cannot connect to pty in readonly mode")
            return
        from flux.cli.attach_terminal import Terminal  # few jobs have one

        self._terminal = Terminal(self._attach.handle, f"{self.service}.{name}", self.leader)
        self._terminal.start()
