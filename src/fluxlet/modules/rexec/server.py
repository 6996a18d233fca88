"""The subprocess server: what each request does (RFC 42; spec 04, section 5).

It is the same in a broker and in the shell of a job; `Host` is what it needs to know and to use there. Methods take a
request, and answer it or raise the OSError that is the answer.

Rules:
- A process is found by its pid or label; for input, by who asked for it and with which matchtag: a client feeds the
  processes that it has started itself.
- A client that goes takes its processes in the foreground with it.
- Nothing that was started here outlives the server, but what has made itself a daemon (another session).
"""

from __future__ import annotations

import errno
import os
import signal
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from syslog import LOG_ERR, LOG_INFO
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from flux.constants import FLUX_MSGFLAG_STREAMING
from flux.message import Message
from flux.reactor import Reactor
from flux.reactor.signals import in_main_thread
from fluxlet.modules.rexec.aftermath import LeftBehind, end_all
from fluxlet.modules.rexec.command import Command, command_name
from fluxlet.modules.rexec.launch import INHERIT_STDIO, LOCAL_FLAGS, launch
from fluxlet.modules.rexec.listeners import Listener, Record, end_text
from fluxlet.modules.rexec.payloads import (
    AttachRequest,
    ExecRequest,
    KillRequest,
    TargetRequest,
    WriteRequest,
    unpack,
)
from fluxlet.modules.rexec.process import Process
from fluxlet.modules.rexec.streams import Output
from fluxlet.service import may_end, sender

if TYPE_CHECKING:
    from fluxlet.broker.guardian import Guardian

_encode = msgspec.json.Encoder().encode

#: Bits of `flags`.
FORWARD_STDOUT = 1
FORWARD_STDERR = 2
FORWARD_CHANNELS = 4
WRITE_CREDIT = 8
WAITABLE = 16

#: Seconds until outputs that could not be passed on are tried again.
_CONGESTION = 0.01


class Helper(NamedTuple):
    """A process that the host has started for itself: to be listed, and to be signaled."""

    pid: int
    cmdline: Sequence[str]
    label: str


class Host(Protocol):
    """Where a server is: a broker, or the shell of a job."""

    rank: int
    reactor: Reactor
    uri: str
    guardian: Guardian | None

    def respond(self, request: Message, raw: bytes | None) -> None:
        """Answers; `raw` is the payload as it goes on the wire."""
        ...

    def respond_error(self, request: Message, errnum: int, text: str | None) -> None:
        """Answers with an error."""
        ...

    def congested(self, request: Message) -> bool:
        """Too much is waiting to be sent to whoever has sent `request`."""
        ...

    def log(self, severity: int, text: str) -> None:
        """Logs."""
        ...

    def environment(self) -> Mapping[str, str]:
        """What a process gets that is given no environment."""
        ...

    def helpers(self) -> Sequence[Helper]:
        """The host's own processes."""
        ...


class Server:
    """The processes of one host.

    Attributes:
        on_end: called when a process has ended.
    """

    on_end: Callable[[], None] | None = None

    def __init__(self, host: Host) -> None:
        self.host = host
        self.closing = False
        self._all: dict[Process, None] = {}
        self._by_pid: dict[int, Process] = {}
        self._by_label: dict[str, Process] = {}
        self._by_request: dict[tuple[bytes, int], Process] = {}
        self._left = LeftBehind(host.uri, host.guardian)
        self._later: list[Output] = []
        self._timer = host.reactor.timer(0.0, 0.0, self._resume)
        # Who stops cannot be seen through a descriptor.
        self._stops = host.reactor.signal(signal.SIGCHLD, self._look_for_stopped)

    # Starting.

    def exec(self, msg: Message) -> None:
        """rexec.exec: starts a process, for the sender (a streaming request) or in the background."""
        request = unpack(msg, ExecRequest)
        if self.closing:
            raise OSError(errno.ENOSYS, "subprocess server is shutting down")
        foreground = bool(msg.flags & FLUX_MSGFLAG_STREAMING)
        if not foreground:
            for bit, flags, name in (
                (WRITE_CREDIT, request.flags, "write-credit"),
                (INHERIT_STDIO, request.local_flags, "stdio-fallthrough"),
            ):
                if flags & bit:
                    raise OSError(errno.EINVAL, f"{name} flag is not allowed in background mode")
        command = Command.parse(request.cmd)
        if command.label is not None and self._is_label(command.label):
            raise OSError(errno.EINVAL, "command label is not unique")
        if not command.cmdline:
            raise OSError(errno.EPROTO, "command string is empty")
        if command.channels and not foreground:
            raise OSError(errno.EINVAL, "auxiliary channels are not allowed in background mode")
        if request.flags & WAITABLE and foreground:
            raise OSError(errno.EINVAL, "waitable flag only supported in background mode")
        process = self._start(command, request, foreground)
        if foreground:
            self._take_to_foreground(process, msg, request.flags)
        else:
            process.waitable = bool(request.flags & WAITABLE)
            self.host.respond(msg, b'{"type":"started","pid":%d}\0' % process.pid)

    def _start(self, command: Command, request: ExecRequest, foreground: bool) -> Process:
        host = self.host
        streams = frozenset(("stdout", "stderr"))
        if foreground:
            wanted = (("stdout", FORWARD_STDOUT), ("stderr", FORWARD_STDERR))
            streams = frozenset(name for name, bit in wanted if request.flags & bit)
        environ = command.environment({} if command.env else host.environment(), host.uri)
        try:
            for name in ("stdin", "stdout", "stderr", *command.channels):
                command.stream(name)
            if request.local_flags & ~LOCAL_FLAGS:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            launched = launch(command, environ, streams, request.local_flags, foreground, host.guardian)
            process = Process(host, command, environ, launched, request.local_flags, self._changed, self._go_on_later)
        except OSError as exc:
            text = os.strerror(exc.errno or errno.EIO)
            raise OSError(exc.errno, f"error launching process: {text}") from None
        if not foreground:
            who = command.label or os.path.basename(command.cmdline[0])
            process.record = Record(host, f"{who}[{process.pid}]")
        if in_main_thread():  # other threads get no signals
            self._stops.start()
        self._all[process] = None
        self._by_pid[process.pid] = process
        if command.label is not None:
            self._by_label[command.label] = process
        return process

    def _take_to_foreground(self, process: Process, msg: Message, flags: int) -> None:
        streams = [name for name in process.outputs if name in ("stdout", "stderr") or flags & FORWARD_CHANNELS]
        process.client = Listener(self.host, msg, process.pid, streams)
        process.key = sender(msg), msg.aux2
        self._by_request[process.key] = process
        process.client.tell({"type": "started", "pid": process.pid})
        if flags & WRITE_CREDIT:
            process.grant()

    def _is_label(self, label: str) -> bool:
        return label in self._by_label or any(helper.label == label != "" for helper in self.host.helpers())

    # Input.

    def write(self, msg: Message) -> None:
        """rexec.write: input for a process of the sender's. Not answered, whatever is wrong with it."""
        try:
            request = unpack(msg, WriteRequest)
            io = request.io
            if io.data is UNSET and not io.eof:
                raise OSError(errno.EPROTO, "neither data nor eof")
            data = _io_data(io.data, io.encoding)
        except OSError as exc:
            self.host.log(LOG_ERR, f"Error decoding write request: {exc.strerror}")
            return
        process = self._by_request.get((sender(msg), request.matchtag))
        if process is None or process.status is not None or process.client is None:
            return
        stream = process.inputs.get(io.stream)
        if stream is None:
            self._fail(process, errno.EINVAL, len(data))
        elif not stream.write(data, io.eof):
            self._fail(process, errno.ENOSPC, len(data))

    def _fail(self, process: Process, errnum: int, size: int) -> None:
        """Input that cannot be handed to a process ends it."""
        self.host.log(LOG_ERR, f"Error writing {size} bytes to subprocess {process.command.cmdline[0]}")
        if process.client is not None:
            process.client.fail(errnum, f"internal fatal error: {os.strerror(errnum)}")
        self._end(process)

    # Signals, lists, waiting.

    def _find(self, request: TargetRequest, errnum: int = errno.ESRCH) -> Process:
        """The process that a request is about. Raises OSError."""
        if request.label is not UNSET:
            process = self._by_label.get(request.label)
            who = f"label {request.label}"
        else:
            process = self._by_pid.get(request.pid)
            who = f"pid {request.pid}"
        if process is None:
            raise OSError(errnum, f"{who} does not belong to any subprocess")
        return process

    def kill(self, msg: Message) -> None:
        """rexec.kill: sends a signal to a process and its group."""
        request = unpack(msg, KillRequest)
        helper = self._find_helper(request)
        process = self._find(request) if helper is None else None
        if not request.signum:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if process is not None:
            process.signal(request.signum)
        elif helper is not None:
            try:
                os.kill(helper.pid, request.signum)
            except OSError as exc:
                raise OSError(exc.errno, f"kill: {exc.strerror}") from None
        self.host.respond(msg, None)

    def _find_helper(self, request: TargetRequest) -> Helper | None:
        for helper in self.host.helpers():
            if helper.pid == request.pid if request.label is UNSET else helper.label and helper.label == request.label:
                return helper
        return None

    def list(self, msg: Message) -> None:
        """rexec.list: all processes, and the host's own."""
        entries = [
            {"pid": helper.pid, "cmd": command_name(helper.cmdline), "label": helper.label, "state": "R"}
            for helper in self.host.helpers()
        ]
        entries += [
            {
                "pid": process.pid,
                "cmd": process.command.name,
                "label": process.command.label or "",
                "state": process.state,
            }
            for process in self._all
            if not process.collected
        ]
        self.host.respond(msg, _encode({"rank": self.host.rank, "procs": entries}) + b"\0")

    def wait(self, msg: Message) -> None:
        """rexec.wait: the status of a waitable process in the background, once it has ended."""
        process = self._find(unpack(msg, TargetRequest))
        if not process.waitable:
            raise OSError(errno.EINVAL, "process is not waitable")
        if process.waiter is not None:
            raise OSError(errno.EINVAL, "process is already being waited on")
        if process.client is not None:
            raise OSError(errno.EBUSY, "subprocess has a client attached")
        process.waiter = msg
        self._changed(process)

    def attach(self, msg: Message) -> None:
        """rexec.attach: has the sender listen to a process in the background."""
        if not msg.flags & FLUX_MSGFLAG_STREAMING:
            raise OSError(errno.EPROTO, "attach request is missing STREAMING flag")
        request = unpack(msg, AttachRequest)
        process = self._find(request, errno.ENOENT)
        if not process.background:
            raise OSError(errno.EBUSY, "subprocess is not in background mode")
        if process.client is not None:
            raise OSError(errno.EBUSY, "subprocess already has a client attached")
        if process.waiter is not None:
            raise OSError(errno.EBUSY, "subprocess is being waited on")
        streams = [
            name for name, bit in (("stdout", FORWARD_STDOUT), ("stderr", FORWARD_STDERR)) if request.flags & bit
        ]
        client = process.client = Listener(self.host, msg, process.pid, streams)
        client.tell({"type": "attached", "pid": process.pid, "cmd": process.command.describe(process.environ)})
        for name in streams:
            if name not in process.outputs or process.outputs[name].closed:
                client.eof(name)
        if process.status is not None:
            client.finish(process.status)
            self._changed(process)

    def disconnect(self, msg: Message) -> None:
        """rexec.disconnect: a client has gone."""
        for process in tuple(self._all):
            if process.waiter is not None and may_end(process.waiter, msg):
                process.waiter = None
            if process.client is not None and may_end(process.client.request, msg):
                process.leave()
                if not process.background:
                    self._end(process)

    # What happens to them.

    def _end(self, process: Process) -> None:
        """Kills a process and its group."""
        try:
            process.signal(signal.SIGKILL)
        except OSError:
            return  # gone already

    def _look_for_stopped(self, signum: int) -> None:
        """Some child has changed: perhaps one has stopped."""
        try:
            found = os.waitid(os.P_ALL, 0, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return  # there are none any more
        if found is None:
            return  # it has ended, as children nearly always have
        # Perhaps it is somebody else's, who looks himself; one of ours may have stopped all the same.
        for process in tuple(self._all):
            if process.status is not None:
                continue
            stopped = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOHANG) is not None
            if stopped and process.client is not None:
                process.client.tell({"type": "stopped"})

    def _go_on_later(self, output: Output) -> None:
        self._later.append(output)
        if not self._timer.active:
            self._timer.reset(0.0, 0.0)

    def _resume(self) -> None:
        waiting, self._later = self._later, []
        self._later += [output for output in waiting if not output.closed and not output.resume()]
        if self._later and not self._timer.active:
            # With something to pass on it is only its turn that it has waited for.
            self._timer.reset(0.0 if any(output.may_go_on() for output in self._later) else _CONGESTION, 0.0)

    def _changed(self, process: Process) -> None:
        """A process has ended, is complete, or is waited for."""
        if process.status is None:
            return
        if not process.noted:
            process.noted = True
            self._note_end(process, process.status)
        if process.client is not None and process.client.finished:
            process.collected = True
        if process.waiter is not None and process.record is not None:
            waiter, process.waiter = process.waiter, None
            process.collected = True
            self.host.respond(waiter, process.record.answer(process.status))
        if process.background and not process.waitable:
            process.collected = True
        if process.complete and (process.collected or not process.background):
            self._forget(process)
        elif process.collected and process.background:
            self._unname(process)

    def _note_end(self, process: Process, status: int) -> None:
        if process.background:
            label = f"{process.command.label}: " if process.command.label else ""
            self.host.log(LOG_INFO, f"{label}{process.command.name}[{process.pid}]: {end_text(status)}")
        self._left.note_end(process)
        if self.on_end is not None:
            self.on_end()

    def _unname(self, process: Process) -> None:
        """It cannot be found any more."""
        if self._by_pid.get(process.pid) is process:
            del self._by_pid[process.pid]
        label = process.command.label
        if label is not None and self._by_label.get(label) is process:
            del self._by_label[label]

    def _forget(self, process: Process) -> None:
        if process not in self._all:
            return
        del self._all[process]
        self._unname(process)
        if process.key is not None and self._by_request.get(process.key) is process:
            del self._by_request[process.key]
        process.hang_up()
        if not self._all:
            self._stops.stop()

    # The end.

    @property
    def running(self) -> tuple[Process, ...]:
        """The processes that have not ended."""
        return tuple(process for process in self._all if process.status is None)

    def stop(self, grace: float) -> None:
        """Ends all processes: SIGTERM, and SIGKILL after `grace` seconds. For when the loop does not run any more."""
        self.closing = True
        self._timer.stop()
        self._stops.stop()
        if not end_all(self.running, self._left, grace):
            self.host.log(LOG_ERR, "subprocess server shutdown: Connection timed out")
        for process in tuple(self._all):
            if process.waiter is not None:
                self.host.respond_error(process.waiter, errno.EHOSTUNREACH, "module disconnect")
            if process.client is not None:
                process.client.fail(errno.EHOSTUNREACH, "module disconnect")
            process.collected = True
            self._forget(process)


def _io_data(data: str | UnsetType, encoding: str | UnsetType) -> bytes:
    """What an IO object carries. Raises OSError(EPROTO)."""
    if data is UNSET:
        return b""
    if encoding is UNSET:
        return data.encode("utf-8", "surrogateescape")
    try:
        if encoding != "base64":
            raise ValueError(f"unknown encoding {encoding}")
        return b64decode(data, validate=True)
    except ValueError as exc:
        raise OSError(errno.EPROTO, str(exc)) from None
