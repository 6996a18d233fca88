"""The guardian: a small process beside the broker that cleans up if the broker cannot.

A broker that is killed (SIGKILL, out of memory) removes nothing and ends nobody. The guardian is forked before
the broker has imported anything large, learns what there is to clean up over a pipe, and waits for the pipe's
end. If that comes without a farewell, it kills what the broker has started and removes the broker's directories.

Rules:
- The broker only writes to the pipe. A guardian that has been killed is no harm: the broker goes on without.
- The guardian is in a session of its own, holds none of the broker's descriptors, and ignores the signals that
  are meant for the broker. It ends when the broker ends.
- What a process has started belongs to it: descendants, its process group, its session. What has made itself a
  daemon of its own (another session, and no living parent among these) is nobody's any more.
"""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress

from fluxlet.broker.rundir import remove_tree

_IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT, signal.SIGALRM, signal.SIGPIPE)
#: How long the guardian waits for killed processes to be gone, in seconds.
_PATIENCE = 5.0


class Guardian:
    """The end of a broker. Forks on construction: do that early, while the process is small and has one thread."""

    def __init__(self) -> None:
        self.pid, (self._fd,) = _fork(1)

    @classmethod
    def shared(cls, count: int) -> list[Guardian]:
        """One guardian for several processes that are still to be forked: an end for each.

        A process keeps its end and closes the others (`let_go`). Who has called this waits for the guardian in
        `dismiss` of the first end.
        """
        pid, fds = _fork(count)
        ends = []
        for number, fd in enumerate(fds):
            end = cls.__new__(cls)
            end.pid, end._fd = (0 if number else pid), fd
            ends.append(end)
        return ends

    @property
    def fd(self) -> int:
        """The descriptor of this end; -1 once it is closed."""
        return self._fd

    def let_go(self) -> None:
        """This end is another process's: here it is closed, without a farewell."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def add_process(self, pid: int) -> None:
        """`pid` and what it starts is to be killed if the broker dies."""
        self._tell(f"+process {pid}")

    def remove_process(self, pid: int) -> None:
        """`pid` has ended. Say so before its number can be another process: before it is waited for."""
        self._tell(f"-process {pid}")

    def add_starting(self, uri: str) -> None:
        """A process is about to be started with this FLUX_URI: from here on, until `remove_starting`, whatever has
        it is to be killed. Between its start and `add_process` nobody else could tell that it is ours."""
        self._tell(f"+starting {uri}")

    def remove_starting(self) -> None:
        """`add_process` has been called for what was to be started, or it could not be."""
        self._tell("-starting")

    def add_group(self, pgid: int) -> None:
        """The process group is to be killed; for processes of a group that outlive its first one."""
        self._tell(f"+group {pgid}")

    def started(self, pid: int, group: bool) -> None:
        """What `add_starting` was about has been started, as `pid` and the first of its process group if `group`; or,
        with pid 0, could not be. As `add_process`, `add_group` and `remove_starting`, in one message."""
        lines = [f"+process {pid}"] if pid else []
        if pid and group:
            lines.append(f"+group {pid}")
        self._tell(*lines, "-starting")

    def remove_group(self, pgid: int) -> None:
        """The process group has nobody in it any more: its number may be another one."""
        self._tell(f"-group {pgid}")

    def add_members(self, pgid: int, uri: str) -> None:
        """Those of the process group that were started with this FLUX_URI are to be killed, the others are not."""
        self._tell(f"+members {pgid} {uri}")

    def add_empty(self, path: str) -> None:
        """A directory is about to be made: it is to be removed if the broker dies, while there is nothing in it."""
        self._tell(f"+empty {os.path.abspath(path)}")

    def add_path(self, path: str) -> None:
        """A file or directory is to be removed if the broker dies."""
        self._tell(f"+path {path}")

    def remove_members(self, pgid: int) -> None:
        """As `remove_group`, for `add_members`."""
        self._tell(f"-members {pgid}")

    def dismiss(self) -> None:
        """All is cleaned up: the guardian ends."""
        self._tell("farewell")
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            if self.pid:
                os.waitpid(self.pid, 0)

    def _tell(self, *lines: str) -> None:
        data = b"".join(os.fsencode(line.replace("\n", "\0")) + b"\n" for line in lines)
        if self._fd >= 0:
            try:
                os.write(self._fd, data)
            except BrokenPipeError:
                return  # it has been killed


def _fork(count: int) -> tuple[int, list[int]]:
    """Forks a guardian; its pid, and the ends of so many pipes to it."""
    pipes = [os.pipe() for _ in range(count)]
    pid = os.fork()
    if not pid:
        try:
            _guard([read_end for read_end, _ in pipes])
        finally:
            # Whatever happens: never back into the code of the broker.
            os._exit(0)
    for read_end, _ in pipes:
        os.close(read_end)
    return pid, [write_end for _, write_end in pipes]


class _Ward:
    """What one process has told the guardian: what there is to clean up."""

    def __init__(self) -> None:
        self.processes: set[int] = set()
        self.groups: set[int] = set()
        self.shared: dict[int, str] = {}
        self.paths: list[str] = []
        self.empty: list[str] = []
        self.starting: str | None = None
        self._rest = b""

    def hear(self, data: bytes) -> bool:
        """Takes what has come over the pipe; True once all is well and nothing is to be done."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            match os.fsdecode(line).replace("\0", "\n").split(" ", 1):
                case ["farewell"]:
                    return True
                case ["+process", pid]:
                    self.processes.add(int(pid))
                case ["-process", pid]:
                    self.processes.discard(int(pid))
                case ["+starting", uri]:
                    self.starting = uri
                case ["-starting"]:
                    self.starting = None
                case ["+group", pgid]:
                    self.groups.add(int(pgid))
                case ["-group", pgid]:
                    self.groups.discard(int(pgid))
                case ["-members", pgid]:
                    self.shared.pop(int(pgid), None)
                case ["+members", words]:
                    pgid, _, uri = words.partition(" ")
                    self.shared[int(pgid)] = uri
                case ["+path", path]:
                    self.paths.append(path)
                case ["+empty", path]:
                    self.empty.append(path)
        return False

    def clean_up(self) -> None:
        """The process has died: what it has started ends, what it has made goes."""
        processes = set(self.processes)
        for group, uri in self.shared.items():
            processes |= members(group, uri)
        if self.starting is not None:
            processes |= members(None, self.starting)
        end_processes(processes, self.groups)
        for path in self.paths:
            if os.path.isdir(path) and not os.path.islink(path):
                remove_tree(path)
            elif os.path.lexists(path):
                os.unlink(path)
        for path in self.empty:
            with suppress(OSError):  # it is not there, is somebody else's, or has something in it
                os.rmdir(path)


def _guard(pipes: list[int]) -> None:
    """The guardian's life."""
    os.setsid()
    for signum in _IGNORED:
        signal.signal(signum, signal.SIG_IGN)
    _let_go(pipes)
    wards = {pipe: _Ward() for pipe in pipes}
    poll = select.poll()
    for pipe in pipes:
        poll.register(pipe, select.POLLIN)
    while wards:
        for pipe, _ in poll.poll():
            data = os.read(pipe, 65536)
            ward = wards[pipe]
            if data and not ward.hear(data):
                continue
            if not data:
                ward.clean_up()
            poll.unregister(pipe)
            os.close(pipe)
            del wards[pipe]


def _let_go(pipes: list[int]) -> None:
    """Holds on to nothing that others may wait for the end of: descriptors, a working directory."""
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    limit = os.sysconf("SC_OPEN_MAX")
    start = 3
    for pipe in sorted(pipes):
        os.closerange(start, pipe)
        start = pipe + 1
    os.closerange(start, limit if limit > 0 else 65536)
    try:
        with open("/proc/self/comm", "w") as comm:
            comm.write("flux-guardian")
    except OSError:
        return  # decoration, and Linux only


# Processes, by the word of /proc; elsewhere only process groups are known.


def _processes() -> dict[int, tuple[str, int, int, int]]:
    """pid -> (state, parent, process group, session) of all processes that can be seen."""
    found = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return {}
    for name in names:
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    # The name, in parentheses, may hold anything: what follows the last one is fixed.
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue  # gone meanwhile
            found[int(name)] = (fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[3]))
    return found


def members(pgid: int | None, uri: str) -> set[int]:
    """The processes of a group (None: of any) that were started with FLUX_URI=`uri`, this process excepted.

    The group that a shell makes for a pipeline holds programs of the instance and programs beside it: in
    `flux start work | tee log`, tee must live to see the end of its input.
    """
    wanted = b"\0FLUX_URI=" + os.fsencode(uri) + b"\0"
    found = set()
    for pid, (_, _, group, _) in _processes().items():
        if pgid in (None, group) and pid != os.getpid():
            try:
                with open(f"/proc/{pid}/environ", "rb") as file:
                    environ = file.read()
            except OSError:
                continue  # gone meanwhile, or not ours
            if wanted in b"\0" + environ:
                found.add(pid)
    return found


def family(roots: set[int], groups: set[int]) -> set[int]:
    """The living processes that belong to `roots` and `groups`: themselves, members, sessions, descendants."""
    table = _processes()
    found: set[int] = set()
    while True:
        more = {
            pid
            for pid, (state, parent, group, session) in table.items()
            if pid not in found
            and state not in "ZX"
            and (pid in roots or group in groups or group in roots or session in roots or parent in found)
        }
        more.discard(os.getpid())
        if not more:
            return found
        found |= more


def end_processes(roots: set[int], groups: set[int]) -> None:
    """Kills `roots`, `groups` and all that belongs to them, and waits until they are gone."""
    if not roots and not groups:
        return
    # Stopped first: what is stopped starts nothing, so that the second look sees all of them.
    stopped: set[int] = set()
    for _ in range(16):
        more = family(roots | stopped, groups) - stopped
        if not more:
            break
        for pid in more:
            _kill(pid, signal.SIGSTOP)
        stopped |= more
    for pid in stopped:
        _kill(pid, signal.SIGKILL)
    for group in groups | roots:
        if group != os.getpgrp():
            _kill(-group, signal.SIGKILL)
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and any(
        entry[0] not in "ZX" for pid, entry in _processes().items() if pid in stopped
    ):
        time.sleep(0.01)


def _kill(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except (ProcessLookupError, PermissionError):
        return  # gone, or has changed its user: not ours to end
