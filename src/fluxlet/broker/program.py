"""The programs that a broker runs in its own name: the initial program, and rc1, cleanup and rc3 commands
(spec 03, 3.4 and 7.5).

Rules:
- A program gets the broker's environment as it is at that moment, without what belongs to the enclosing job
  or instance, and with FLUX_URI of this one.
- The initial program inherits the broker's descriptors untouched. What other commands write goes to the log.
- The guardian knows of every process before its end and forgets it before it is waited for.
- posix_spawn, not subprocess: it takes a third of the time, and nothing to import.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import time
from collections.abc import Callable, Mapping
from syslog import LOG_ERR, LOG_INFO
from typing import Any, NamedTuple

from flux.constants import FLUX_POLLIN
from flux.reactor import FdEvent, Reactor, SignalEvent
from fluxlet.broker.guardian import Guardian

DEFAULT_SHELL = "/bin/bash"
_LAST_SHELL = "/bin/sh"

#: Of the enclosing job or instance: not for programs of this one. A trailing * stands for anything.
BLOCKED = (
    "FLUX_JOB_ID",
    "FLUX_JOB_ID_PATH",
    "FLUX_ENCLOSING_ID",
    "FLUX_JOB_SIZE",
    "FLUX_JOB_NNODES",
    "FLUX_JOB_TMPDIR",
    "FLUX_TASK_RANK",
    "FLUX_TASK_LOCAL_ID",
    "FLUX_URI",
    "FLUX_KVS_NAMESPACE",
    "FLUX_PROXY_REMOTE",
    "FLUX_TERMINUS_SESSION",
    "FLUX_PMI_LIBRARY_PATH",
    "I_MPI_PMI_LIBRARY",
    "NOTIFY_SOCKET",
    "PMI_*",
    "PMIX_*",
    "SLURM_*",
    "PALS_*",
)
_BLOCKED_NAMES = frozenset(name for name in BLOCKED if not name.endswith("*"))
_BLOCKED_PREFIXES = tuple(name[:-1] for name in BLOCKED if name.endswith("*"))

#: Python ignores the first two, the broker handles or ignores the others; programs start with the defaults.
DEFAULT_SIGNALS = [
    signal.SIGPIPE,
    signal.SIGXFSZ,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGALRM,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCHLD,
    signal.SIGTTOU,
]


def program_environment(environ: Mapping[str, str], uri: str, jobid: str | None = None) -> dict[str, str]:
    """The environment of a program, made of the broker's (spec 03, 3.4)."""
    result = {
        name: value
        for name, value in environ.items()
        if name not in _BLOCKED_NAMES and not name.startswith(_BLOCKED_PREFIXES)
    }
    result["FLUX_URI"] = uri
    if jobid is not None:
        result["FLUX_ENCLOSING_ID"] = jobid
    return result


# What runs.


class Program(NamedTuple):
    """What to run: its words, how messages call it, and whether it is a shell to type at."""

    argv: list[str]
    name: str
    interactive: bool = False


def usable_shell(environ: Mapping[str, str]) -> tuple[str, str | None]:
    """The user's shell, and a warning or None. One that does not exist is replaced (spec 03, section 17)."""
    shell = environ.get("SHELL") or DEFAULT_SHELL
    if find_program(shell, environ):
        return shell, None
    if "SHELL" not in environ:
        return _LAST_SHELL, None
    return _LAST_SHELL, f"SHELL={shell} cannot be executed: using {_LAST_SHELL}"


def command_line(line: str, shell: str) -> Program:
    """A line for the shell."""
    return Program([shell, "-c", line], line)


def initial_program(command: list[str], shell: str) -> Program:
    """The initial program for the words that the broker was given."""
    if not command:
        return Program([shell], shell, interactive=True)
    if len(command) > 1:
        return Program(command, " ".join(command))
    word = command[0]
    if word in _login_shells():
        return Program([word], word, interactive=True)
    if not any(character.isspace() for character in word) and _is_program(word):
        return Program([word], word)
    return command_line(word, shell)


def _login_shells() -> set[str]:
    try:
        with open("/etc/shells", encoding="utf-8", errors="surrogateescape") as file:
            paths = [line.strip() for line in file if line.startswith("/")]
    except OSError:
        return set()
    return {*paths, *(os.path.basename(path) for path in paths)}


def _is_program(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode) and os.access(path, os.R_OK | os.X_OK)
    except (OSError, ValueError):
        return False


def find_program(word: str, environ: Mapping[str, str]) -> str | None:
    """The path of a program: `word` itself if it has a slash, else the first of that name in PATH."""
    if "/" in word:
        return word if os.access(word, os.X_OK) else None
    for directory in environ.get("PATH", os.defpath).split(":"):
        path = os.path.join(directory or ".", word)
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
    return None


# Running it.


class Outcome(NamedTuple):
    """How a program ended: its exit code by the rules of spec 03, 7.5, and the log line about it."""

    code: int
    severity: int
    text: str


class Run:
    """A program that runs.

    Args:
        reactor: the broker's loop.
        guardian: told of the process.
        label: e.g. `rc2.0`, for the log.
        program: what to run.
        environ: its environment.
        done: called when it has ended.
        log: called with (severity, line) for what it writes; None: it inherits stdout and stderr.
        own_group: it gets a process group of its own.
    """

    def __init__(
        self,
        reactor: Reactor,
        guardian: Guardian,
        label: str,
        program: Program,
        environ: Mapping[str, str],
        done: Callable[[Outcome], None],
        log: Callable[[int, str], None] | None = None,
        own_group: bool = True,
    ) -> None:
        self.label = label
        self.program = program
        self.pid = 0
        self.stopping = False
        """It has been told to stop: exit code 0 then counts as a failure."""
        self._reactor = reactor
        self._guardian = guardian
        self._environ = environ
        self._done = done
        self._log = log
        self._own_group = own_group
        self._started = time.monotonic()
        self._outputs: list[_Output] = []
        self._child: SignalEvent | None = None
        self._terminal = Terminal() if log is None else None

    @property
    def group(self) -> int:
        """The process group that signals go to, 0 if that would be the broker's own."""
        try:
            group = os.getpgid(self.pid) if self.pid else 0
        except ProcessLookupError:
            return 0
        return 0 if group == os.getpgrp() else group

    def start(self) -> None:
        """Starts the program; that it cannot be started is one way of ending."""
        environ = dict(self._environ)
        path = find_program(self.program.argv[0], environ) or self.program.argv[0]
        actions: list[tuple[int, ...]] = []
        pipes: list[tuple[int, int]] = []
        if self._log is not None:
            pipes = [os.pipe(), os.pipe()]
            actions = [(os.POSIX_SPAWN_DUP2, pipe[1], fd) for pipe, fd in zip(pipes, (1, 2), strict=True)]
        # Before the start: a program that ends at once must not be missed.
        self._child = self._reactor.signal(signal.SIGCHLD, lambda signum: self._look())
        self._child.start()
        try:
            if "/" not in path:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            spawn_options = {"setpgroup": 0} if self._own_group else {}
            self._guardian.add_starting(environ["FLUX_URI"])
            self.pid = os.posix_spawn(
                path,
                self.program.argv,
                environ,
                file_actions=actions,
                setsigmask=[],
                setsigdef=DEFAULT_SIGNALS,
                **spawn_options,  # type: ignore[arg-type]
            )
        except OSError as exc:
            for fd in (fd for pipe in pipes for fd in pipe):
                os.close(fd)
            self._guardian.remove_starting()
            code = 127 if exc.errno in (errno.ENOENT, errno.ENOTDIR) else 126
            self._finish(code, f"error launching process: {exc.strerror}")
            return
        self._guardian.add_process(self.pid)
        if self._own_group:
            self._guardian.add_group(self.pid)
        self._guardian.remove_starting()
        for (read_end, write_end), severity in zip(pipes, (LOG_INFO, LOG_ERR), strict=False):
            os.close(write_end)
            assert self._log is not None
            self._outputs.append(_Output(self._reactor, read_end, self._prefixed(self._log, severity)))

    def _prefixed(self, log: Callable[[int, str], None], severity: int) -> Callable[[str], None]:
        return lambda line: log(severity, f"{self.label}: {line}")

    def signal(self, signum: int) -> None:
        """Sends a signal to the program, and to its whole group if that is not the broker's."""
        if not self.pid:
            return
        group = self.group
        try:
            if group:
                os.killpg(group, signum)
                os.killpg(group, signal.SIGCONT)  # one that is stopped is to hear of it
            else:
                os.kill(self.pid, signum)
                os.kill(self.pid, signal.SIGCONT)
        except ProcessLookupError:
            return  # ended, and about to be waited for

    def _look(self) -> None:
        """Some child has changed: perhaps ours."""
        if not self.pid:
            return
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is not None:
            self._guardian.remove_process(self.pid)
            code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            self.pid = 0
            if code < 0:
                self._finish(128 - code, signal.strsignal(-code) or f"Signal {-code}")
            elif code == 0 and self.stopping:
                self._finish(1, "aborted after exit with rc=0")
            else:
                self._finish(code, "Exited")
            return
        stopped = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG)
        if stopped is not None and self._terminal is not None:
            self._terminal.hand_over(self.group, stopped.si_status)

    def _finish(self, code: int, status: str) -> None:
        if self._child is not None:
            self._child.stop()
        for output in self._outputs:
            output.finish()
        if self._terminal is not None:
            self._terminal.restore()
        elapsed = time.monotonic() - self._started
        text = f"{self.label}: {self.program.name} {status} (rc={code}) {elapsed:.1f}s"
        self._done(Outcome(code, LOG_ERR if code else LOG_INFO, text))


class _Output:
    """One output stream of a command, taken apart into lines."""

    def __init__(self, reactor: Reactor, fd: int, line: Callable[[str], None]) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._line = line
        self._rest = b""
        self._event: FdEvent = reactor.fd(fd, FLUX_POLLIN, self._on_ready)
        self._event.start()

    def _on_ready(self, fd: int, revents: int) -> None:
        self._read()

    def _read(self) -> bool:
        """Takes what is there; False if there is nothing more."""
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line.decode("utf-8", "replace"))
        if not data:
            self._event.stop()
        return bool(data)

    def finish(self) -> None:
        """The command has ended: what it has written is read; what it has left behind may write on in vain."""
        while self._read():
            pass
        if self._rest:
            self._line(self._rest.decode("utf-8", "replace"))
        self._event.stop()
        os.close(self._fd)


class Terminal:
    """The terminal on stdin, if there is one: lent to the initial program and taken back (spec 03, 3.4).

    Only a broker in the foreground has a terminal to lend: one in the background would take it from the user.
    """

    def __init__(self) -> None:
        self._modes: list[Any] | None = None
        self._group = os.getpgrp()
        self._ours = os.isatty(0) and self._in_foreground()
        if self._ours:
            import termios

            try:
                self._modes = termios.tcgetattr(0)
            except termios.error:
                self._ours = False  # hung up

    def _in_foreground(self) -> bool:
        try:
            return os.tcgetpgrp(0) == self._group
        except OSError:
            return False  # a terminal, but not the one that controls us

    def hand_over(self, group: int, signum: int) -> None:
        """A process of `group` was stopped: if that was for use of the terminal, it gets it."""
        if self._ours and group and signum in (signal.SIGTTIN, signal.SIGTTOU) and self._in_foreground():
            self._set_foreground(group)
            os.killpg(group, signal.SIGCONT)

    def restore(self) -> None:
        """The terminal is as it was."""
        if self._ours:
            import termios

            self._set_foreground(self._group)
            if self._modes is not None:
                try:
                    termios.tcsetattr(0, termios.TCSADRAIN, self._modes)
                except termios.error:
                    self._ours = False  # hung up meanwhile

    @staticmethod
    def _set_foreground(group: int) -> None:
        # Who is not in the foreground is stopped for this, unless the signal is ignored.
        previous = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        try:
            os.tcsetpgrp(0, group)
        except OSError:
            return  # hung up, or the group is gone
        finally:
            signal.signal(signal.SIGTTOU, previous)
