"""What `flux exec` runs: one command on several ranks, as if it were one program (spec 04, 5.6).

Rules:
- Output is written in the order it comes, all of a pass of the loop in one call. A reader of ours that is slow makes us
  wait, and with us the processes.
- Input is read when every process that is left has room for it, no more than the least room, and copied to all.
- SIGINT and SIGTERM are for the processes. Who insists, by a third Ctrl-C within a second of the last, ends us.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from flux.cli.tool import OutputClosed, text_of
from flux.constants import FLUX_POLLIN
from flux.core.remote_process import CREDIT, STDERR, STDOUT, RemoteProcess, io_object
from flux.idset import IDset
from flux.rpc import RPC

if TYPE_CHECKING:
    from flux.core.handle import Flux
    from flux.core.watchers import FDWatcher

_WAITABLE = 16
#: Bytes of input read at once.
_READ_SIZE = 65536
#: Bytes of output kept before they are written.
_FULL = 65536
#: Seconds within which one more interrupt means it.
_INSIST = 1.0

#: Exit codes for what cannot be started or reached.
_CODES = {errno.EPERM: 126, errno.EACCES: 126, errno.ENOENT: 127, errno.EHOSTUNREACH: 68}


class Settings(NamedTuple):
    """What the command line says.

    Args:
        targets: the ranks.
        service: what runs the processes there.
        label_io: output shows where it comes from.
        verbose, quiet: more, or less, is said about what goes on.
        flow: input goes out only as far as there is room for it.
    """

    targets: list[int]
    service: str
    label_io: bool
    verbose: bool
    quiet: bool
    flow: bool


class Writer:
    """Our stdout or stderr."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, data: bytes) -> None:
        """Output of a process. Raises OutputClosed."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= _FULL:
            self.flush()

    def flush(self) -> None:
        """Writes what there is. Raises OutputClosed if nobody reads it."""
        if not self._pieces:
            return
        view = memoryview(b"".join(self._pieces))
        self._pieces.clear()
        self._size = 0
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                # Whoever gave us this descriptor has made it so.
                import select

                select.select([], [self._fd], [])
            except BrokenPipeError:
                raise OutputClosed from None


class Group:
    """The processes of one `flux exec`."""

    def __init__(self, handle: Flux, settings: Settings) -> None:
        self.handle = handle
        self.settings = settings
        self._started = monotonic()
        self._processes: dict[int, RemoteProcess] = {}
        self._left = len(settings.targets)
        self._statuses: dict[int, int] = {}  # of those that have ended, as of wait(2)
        self._failed = 0
        self._out = {"stdout": Writer(1), "stderr": Writer(2)}
        self._interrupts = 0
        self._interrupted = 0.0
        self._pending: list[int] = []  # signals that have come before processes had started
        self._input: FDWatcher | None = None
        self._name = ""

    # What it is for.

    def background(self, command: Mapping[str, Any], waitable: bool) -> int:
        """Starts processes in the background and prints their ids; 1 if one could not be started."""
        self._name = command["cmdline"][0]
        request = {"cmd": command, "flags": _WAITABLE if waitable else 0, "local_flags": 0}
        topic = f"{self.settings.service}.exec"
        sent = [(rank, RPC(self.handle, topic, request, rank)) for rank in self.settings.targets]
        code = 0
        for rank, rpc in sent:
            try:
                print(f"{rank}: {rpc.get()['pid']}", flush=True)
            except OSError as exc:
                self._report(rank, exc)
                code = 1
        return code

    def foreground(self, command: Mapping[str, Any], noinput: bool) -> int:
        """Runs processes to their end; the largest of their exit codes."""
        self._name = command["cmdline"][0]
        targets = self.settings.targets
        self._say(f"Starting {self._name} on {_ranks(targets)}")
        flags = STDOUT | STDERR | (CREDIT if self.settings.flow else 0)
        for rank in targets:
            process = RemoteProcess(self.handle, command, rank, self.settings.service, flags)
            self._listen(rank, process)
        if noinput:
            self._feed(b"")
        self._say("Sent all requests")
        if not noinput:
            self._input = self.handle.fd_watcher_create(0, self._on_input, FLUX_POLLIN)
        for signum in (signal.SIGINT, signal.SIGTERM):
            self.handle.signal_watcher_create(signum, self._on_signal).start()
        self._run()
        return self._result()

    def attach(self, target: Mapping[str, Any], name: str, word: str) -> int:
        """Listens to processes in the background until they end; the largest of their exit codes."""
        self._name = name
        for rank in self.settings.targets:
            service = self.settings.service
            process = RemoteProcess(self.handle, None, rank, service, STDOUT | STDERR, attach=target)
            self._listen(rank, process)

        def detach(*args: Any) -> None:
            self._flush()
            print(f"flux-exec: detached; use 'flux sproc kill {word}' to signal it", file=sys.stderr)
            self._left = 0
            self._statuses.clear()
            self.handle.reactor_stop()

        self.handle.signal_watcher_create(signal.SIGINT, detach).start()
        self._run()
        return self._result()

    # On the way.

    def _say(self, text: str) -> None:
        if self.settings.verbose:
            print(f"{1000 * (monotonic() - self._started):.6f}ms: {text}", file=sys.stderr, flush=True)

    def _run(self) -> None:
        self.handle.prepare_watcher_create(lambda *args: self._flush()).start()
        if self._left:
            # The bare loop: SIGINT is for the processes, not for us.
            self.handle.reactor.run()
            self.handle.raise_if_exception()
        self._flush()

    def _flush(self) -> None:
        for writer in self._out.values():
            writer.flush()

    def _listen(self, rank: int, process: RemoteProcess) -> None:
        self._processes[rank] = process
        label = b"%d: " % rank if self.settings.label_io else b""
        out = self._out

        def output(stream: str, data: bytes) -> None:
            if data and stream in out:
                out[stream].add(label + data)

        process.on_output = output
        process.on_started = lambda: self._on_started(process)
        process.on_credit = self._look_after_input
        process.on_finished = self._look_after_input
        process.on_end = lambda: self._on_end(rank, process)

    def _on_started(self, process: RemoteProcess) -> None:
        for signum in self._pending:
            process.kill(signum)
        self._look_after_input()

    def _on_end(self, rank: int, process: RemoteProcess) -> None:
        if process.error is not None:
            self._flush()
            self._report(rank, process.error)
            self._failed = max(self._failed, _CODES.get(process.error.errno or 0, 1))
        if process.status is not None:
            self._statuses[rank] = process.status
        self._left -= 1
        if not self._left:
            self.handle.reactor_stop()
        else:
            self._look_after_input()

    def _report(self, rank: int, error: OSError) -> None:
        print(f"flux-exec: Error: rank {rank}: {self._name}: {text_of(error)}", file=sys.stderr, flush=True)

    # Input.

    def _room(self) -> int:
        """How much may be read; 0 as long as a process has not started, or has no room."""
        running = [process for process in self._processes.values() if not process.ended and process.status is None]
        if not running or not all(process.pid for process in running):
            return 0
        return min(process.credit.get("stdin", 0) for process in running)

    def _look_after_input(self) -> None:
        if self._input is not None:
            if self._room():
                self._input.start()
            else:
                self._input.stop()

    def _on_input(self, *args: Any) -> None:
        try:
            data = os.read(0, min(_READ_SIZE, self._room()))
        except BlockingIOError:
            return
        except OSError:
            data = b""  # a terminal that has hung up
        self._feed(data)
        if not data and self._input is not None:
            self._input.destroy()
            self._input = None
        self._look_after_input()

    def _feed(self, data: bytes) -> None:
        """Copies input, or its end, to all processes."""
        io = io_object("stdin", data, not data)
        for process in self._processes.values():
            if process.status is None:
                process.write_io(io, len(data))

    # Signals.

    def _on_signal(self, handle: Flux, watcher: Any, signum: int, args: Any) -> None:
        now = monotonic()
        if signum == signal.SIGINT:
            again = now - self._interrupted < _INSIST
            self._interrupts = self._interrupts + 1 if again or self._interrupts == 1 else 1
            self._interrupted = now
            if self._interrupts == 2:
                text = f"interrupt (Ctrl+C) one more time within {_INSIST:.2f} sec to exit"
                print(f"flux-exec: {text}", file=sys.stderr, flush=True)
            elif self._interrupts > 2:
                self.handle.reactor_stop()
                return
        self._pending.append(signum)
        for process in self._processes.values():
            if process.running:
                process.kill(signum)

    # The end.

    def _result(self) -> int:
        running = [rank for rank, process in self._processes.items() if not process.ended]
        code = self._failed
        by_status: dict[int, list[int]] = {}
        for rank, status in sorted(self._statuses.items()):
            by_status.setdefault(status, []).append(rank)
            number = os.waitstatus_to_exitcode(status)
            code = max(code, number if number >= 0 else 128 - number)
        self._say(f"{len(self._statuses)} tasks complete with code {code}")
        if not self.settings.quiet:
            for status, ranks in by_status.items():
                if status:
                    print(f"{_ranks(ranks)}: {_how(status)}", file=sys.stderr)
        if running and self._left:
            print(f"{_ranks(running)}: command still running at exit", file=sys.stderr)
            return 1
        return code


def _ranks(ranks: list[int]) -> str:
    """A set of ranks, in brackets if there are several."""
    return f"[{IDset(ranks)}]" if len(ranks) > 1 else str(ranks[0])


def _how(status: int) -> str:
    """How a process has ended."""
    code = os.waitstatus_to_exitcode(status)
    return f"Exit {code}" if code >= 0 else signal.strsignal(-code) or f"Signal {-code}"
