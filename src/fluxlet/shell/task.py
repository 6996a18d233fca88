"""Task: one process of a job, its streams and its end (spec 07, 5.4 and 5.5).

A task is done when its process has ended and both its output streams have: what it has started may still write.
"""

from __future__ import annotations

import os
import signal
import socket
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from flux.constants import FLUX_POLLIN, FLUX_POLLOUT
from flux.reactor import FdEvent, Reactor
from fluxlet.shell.pmi import LineReader
from fluxlet.shell.streams import Characters, Lines

if TYPE_CHECKING:
    import _socket

    from fluxlet.shell.job import Job
    from fluxlet.shell.pty import Terminal

_READ_SIZE = 65536
#: Reads of one stream before somebody else gets his turn.
_READS = 4


class Stream:
    """stdout or stderr of a task, at our end. The descriptor is this object's, to be closed."""

    __slots__ = ("_event", "_task", "buffer", "fd", "name", "paused")

    def __init__(self, task: Task, name: str, fd: int, buffer: Lines | Characters) -> None:
        self._task = task
        self.name = name
        self.fd = fd
        self.buffer = buffer
        self.paused = False
        self._event: FdEvent | None = None

    def watch(self, reactor: Reactor) -> None:
        """From here on it is read whenever there is something."""
        if self.fd >= 0 and self._event is None:
            self._event = reactor.fd(self.fd, FLUX_POLLIN, self._readable)
            self._event.start()

    def _readable(self, fd: int, revents: int) -> None:
        job = self._task.job
        for _ in range(_READS):
            if self.fd < 0 or job.full:
                break
            if not self._read():
                break
        if self.fd < 0:
            self._task.stream_ended()
        elif job.full and not self.paused:
            self.paused = True
            if self._event is not None:
                self._event.stop()
            job.paused = (*job.paused, self)

    def resume(self) -> None:
        """There is room again."""
        self.paused = False
        if self._event is not None and self.fd >= 0:
            self._event.start()

    def drain(self) -> None:
        """Reads what there is, without waiting."""
        while self.fd >= 0 and not self._task.job.full and self._read():
            pass

    def _read(self) -> bool:
        """True if there may be more."""
        try:
            data = os.read(self.fd, _READ_SIZE)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # of a pty whose other side has closed: EIO
        if data:
            ready = self.buffer.take(data)
            if ready:
                self._task.wrote(self.name, ready)
            return True
        self.close()
        return False

    def close(self) -> None:
        """Ends the stream: what is in the buffer goes on, then its end."""
        if self.fd < 0:
            return
        if self._event is not None:
            self._event.stop()
        os.close(self.fd)
        self.fd = -1
        rest = self.buffer.flush()
        if rest:
            self._task.wrote(self.name, rest)
        self._task.ended_stream(self.name)


class Stdin:
    """stdin of a task, at our end: what does not fit the pipe waits here."""

    __slots__ = ("_event", "_queue", "_reactor", "drained", "eof", "fd", "size")

    def __init__(self, reactor: Reactor, fd: int) -> None:
        self._reactor = reactor
        self.fd = fd
        self.eof = False
        self.size = 0
        self.drained: Callable[[], None] | None = None
        """Called when nothing waits any more."""
        self._queue: deque[bytes] = deque()
        self._event: FdEvent | None = None

    def write(self, data: bytes) -> None:
        """Adds data."""
        if self.fd >= 0 and not self.eof and data:
            self._queue.append(data)
            self.size += len(data)
            self._flush()

    def end(self) -> None:
        """No more comes: the task sees the end when it has read all."""
        self.eof = True
        if not self._queue:
            self.close()

    def _flush(self) -> None:
        os.set_blocking(self.fd, False)
        while self._queue:
            data = self._queue[0]
            try:
                sent = os.write(self.fd, data)
            except BlockingIOError:
                if self._event is None:
                    self._event = self._reactor.fd(self.fd, FLUX_POLLOUT, lambda fd, revents: self._flush())
                    self._event.start()
                return
            except OSError:
                self.close()  # the task reads no more
                return
            self.size -= sent
            if sent < len(data):
                self._queue[0] = data[sent:]
            else:
                self._queue.popleft()
        if self._event is not None:
            self._event.stop()
            self._event = None
        if self.eof:
            self.close()
        elif self.drained is not None:
            self.drained()

    def close(self) -> None:
        """Lets go of it."""
        if self._event is not None:
            self._event.stop()
            self._event = None
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self._queue.clear()
        self.size = 0
        self.eof = True
        drained, self.drained = self.drained, None
        if drained is not None:
            drained()


class PmiLink:
    """The PMI connection of a task, at our end. Most tasks never use it."""

    __slots__ = ("_event", "_lines", "_task", "sock")

    def __init__(self, task: Task, sock: _socket.socket) -> None:
        self._task = task
        self.sock = sock
        self._lines: LineReader | None = None
        self._event: FdEvent | None = None

    def watch(self, reactor: Reactor) -> None:
        """From here on the task is answered."""
        if self._event is None and self.sock.fileno() >= 0:
            self._event = reactor.fd(self.sock.fileno(), FLUX_POLLIN, lambda fd, revents: self.read())
            self._event.start()

    def read(self) -> None:
        """Takes what the task has sent."""
        try:
            data = self.sock.recv(_READ_SIZE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        if self._lines is None:
            self._lines = LineReader()
        for line in self._lines.take(data):
            self._task.job.pmi_line(self._task, line)

    def send(self, text: str) -> None:
        """Answers. A task that has asked and does not read is at fault, and loses its connection."""
        if self.sock.fileno() >= 0:
            try:
                self.sock.send(text.encode("utf-8", "surrogateescape"), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except OSError:
                self.close()

    def close(self) -> None:
        """Lets go of it."""
        if self._event is not None:
            self._event.stop()
            self._event = None
        self.sock.close()


class Task:
    """One task.

    Args:
        job: its job on this rank.
        rank: its id.
        index: its local id.
    """

    __slots__ = ("code", "index", "job", "pid", "pmi", "rank", "running", "status", "stdin", "streams", "terminal")

    def __init__(self, job: Job, rank: int, index: int) -> None:
        self.job = job
        self.rank = rank
        self.index = index
        self.pid = 0
        self.running = False
        self.status = 0
        self.code = 0
        self.streams: list[Stream] = []
        self.stdin: Stdin | None = None
        self.pmi: PmiLink | None = None
        self.terminal: Terminal | None = None

    @property
    def done(self) -> bool:
        """True if it has ended, and its output has."""
        if self.running or (self.terminal is not None and not self.terminal.ended):
            return False
        return all(stream.fd < 0 for stream in self.streams)

    def watch(self, reactor: Reactor) -> None:
        """From here on the loop looks after its streams."""
        for stream in self.streams:
            stream.watch(reactor)
        if self.pmi is not None:
            self.pmi.watch(reactor)

    def wrote(self, stream: str, data: bytes) -> None:
        """It has written."""
        self.job.output.data(self.index, self.rank, stream, data)

    def ended_stream(self, stream: str) -> None:
        """One of its streams has ended."""
        self.job.output.eof(self.rank, stream)

    def stream_ended(self) -> None:
        """As `ended_stream`, noticed by the loop."""
        if self.done:
            self.job.task_done(self)

    def exited(self, status: int) -> None:
        """Its process has ended, with this wait status."""
        self.running = False
        self.status = status
        self.code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
        if self.pmi is not None:
            self.pmi.read()  # it may have said why
            self.pmi.close()
        if self.stdin is not None:
            self.stdin.close()
        for stream in self.streams:
            stream.drain()

    def signal(self, signum: int) -> None:
        """Signals it, and its process group if it has one of its own."""
        if not self.running:
            # Its children may still be there, and are who the signal is for.
            if self.pid and not self.done and self.job.own_groups:
                self._killpg(signum)
            return
        if self.job.own_groups:
            self._killpg(signum)
        else:
            os.kill(self.pid, signum)  # it has not been waited for: the number is still its own

    def _killpg(self, signum: int) -> None:
        from fluxlet.shell.spawn import kill_group

        kill_group(self.pid, signum)

    def end_group(self) -> None:
        """At the end of the job: what is left of its process group is ended."""
        if self.pid and self.job.own_groups:
            self._killpg(signal.SIGKILL)

    def close(self) -> None:
        """Lets go of all descriptors."""
        for stream in self.streams:
            stream.close()
        if self.stdin is not None:
            self.stdin.close()
        if self.pmi is not None:
            self.pmi.close()
