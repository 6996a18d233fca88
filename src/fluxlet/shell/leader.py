"""What the leader of a job's shells does besides (spec 07, 5.5 to 5.12): first exit, other ranks, stdin, signals."""

from __future__ import annotations

import errno
import os
import signal
from binascii import Error as Base64Error
from binascii import a2b_base64
from time import time
from typing import TYPE_CHECKING, Any

from flux.core.signal_text import signal_text
from flux.idset import IDset
from fluxlet.shell import events, options
from fluxlet.shell.guestlog import GuestLog
from fluxlet.shell.options import ShellError
from fluxlet.shell.streams import parse_size

if TYPE_CHECKING:
    from flux.reactor import Timer
    from fluxlet.shell.job import Job

_INPUT_LIMIT = "10M"
_MOST_INPUT = 32 << 20


def pty_ranks(given: dict[str, Any], ntasks: int) -> frozenset[int]:
    """The tasks that get a terminal, by the option `pty` (spec 07, 5.10). Raises ShellError."""
    option = given.get("pty")
    if not option:
        return frozenset()
    if not isinstance(option, dict):
        return frozenset(range(ntasks))
    ranks = option.get("ranks")
    if ranks is None:
        return frozenset((0,)) if option.get("interactive") else frozenset(range(ntasks))
    if ranks == "all":
        return frozenset(range(ntasks))
    try:
        return frozenset((ranks,)) if type(ranks) is int else frozenset(IDset(str(ranks)))
    except ValueError:
        raise ShellError(f"invalid value for option pty.ranks: {ranks}", "pty") from None


def describe(status: int) -> str:
    """A wait status for people: ``Exit 7``, ``Segmentation fault``."""
    if os.WIFSIGNALED(status):
        return signal_text(os.WTERMSIG(status)) or f"Signal {os.WTERMSIG(status)}"
    return f"Exit {os.WEXITSTATUS(status)}"


class Leader:
    """The duties of a job's first shell. Raises ShellError for bad options."""

    def __init__(self, job: Job) -> None:
        self.job = job
        given = job.options
        self._exit_timeout = options.seconds(given, "exit-timeout", 30.0)
        text = options.get(given, "exit-timeout", "30s")
        self._exit_text = text if isinstance(text, str) else f"{text}s"
        self._exit_on_error = options.flag(given, "exit-on-error")
        self.followers = set(range(1, job.size))
        """Shells that are not done."""
        self._exited = False
        self._timers: list[Timer] = []
        self._signum, self._left = self._signal_option(given.get("signal"))
        self._signal_timer: Timer | None = None
        self._pty = pty_ranks(given, job.layout.ntasks)
        self._limit_text = str(options.get(given, "input.limit", _INPUT_LIMIT))
        try:
            self._limit = parse_size(self._limit_text, _MOST_INPUT)
        except ValueError as exc:
            raise ShellError(f"invalid input.limit: {exc}", "input") from None
        self._received = 0
        self._closed: set[int] = set()  # tasks whose stdin has ended
        self._log: GuestLog | None = None
        self.input_file: str | None = None
        if options.get(given, "input.stdin.type") == "file":
            self.input_file = options.text(given, "input.stdin.path")
        if self._signum:
            self.expires(job.expiration)

    @staticmethod
    def _signal_option(value: Any) -> tuple[int, float]:
        if not value:
            return 0, 0.0
        if not isinstance(value, dict):
            return int(signal.SIGUSR1), 60.0
        signum, left = value.get("signum", int(signal.SIGUSR1)), value.get("timeleft", 60)
        if type(signum) is not int or not 0 < signum < signal.NSIG or type(left) not in (int, float) or left < 0:
            raise ShellError(f"invalid value for option signal: {value}", "signal")
        return signum, float(left)

    @property
    def done(self) -> bool:
        """True if nothing more is to be waited for: followers, what is to be written."""
        return (not self.followers or self.job.failed) and (self._log is None or self._log.idle)

    # shell.init

    def pty_context(self) -> str:
        """What shell.init says of terminals."""
        given = self.job.options
        if not options.flag(given, "pty.interactive") or 0 not in self._pty:
            return ""
        return ',"pty":"terminus.0"' + (',"capture":1' if options.flag(given, "pty.capture") else "")

    def pty_ranks(self) -> frozenset[int]:
        """The tasks that get a terminal."""
        return self._pty

    # The first exit.

    def first_exit(self, rank: int, status: int, host: str) -> None:
        """The first task has ended: the others have some time left, or none."""
        what = f"task rank {rank} on host {host}"
        if status and self._exit_on_error:
            note = f"{self.job.program}: {what} failed ({describe(status)}) and exit-on-error is set"
            self._exited = True
            self.job.fail(ShellError(note, "exit-on-error"), _job_status(status))
            return
        self._arm(f"{what} exited ({describe(status)})", _job_status(status))

    def _arm(self, what: str, status: int | None) -> None:
        if self._exited or self._exit_timeout is None:
            return
        self._exited = True
        note = f"{self.job.program}: {what} and exit-timeout={self._exit_text} has expired"

        def expired() -> None:
            if self.job.running or self.followers:
                self.job.fail(ShellError(note, "exit-timeout"), status)

        if self.job.running or self.followers:
            timer = self.job.server.reactor.timer(self._exit_timeout, 0.0, expired)
            self._timers.append(timer)
            timer.start()

    # Other shells.

    def doom(self, value: dict[str, Any], host: str) -> None:
        """The first task of a follower has ended. Raises OSError(EPROTO)."""
        try:
            rank, status = int(value["rank"]), int(value["wait_status"])
        except (KeyError, TypeError, ValueError):
            raise OSError(errno.EPROTO, "bad doom message") from None
        self.job.other_exit(events.compact(value))
        self.first_exit(rank, status, host)

    def tasks_complete(self, shell: int) -> None:
        """A follower is done."""
        self.followers.discard(shell)

    def lost(self, shell: int, severity: int, message: str) -> None:
        """A follower will not come back."""
        self.followers.discard(shell)
        if message:
            self.job.log(4, f"exception: {message}")
        if severity == 0 and 0 <= shell < self.job.size:
            self._arm(f"shell rank {shell} on host {self.job.layout.nodes[shell].host} exited", None)

    # stdin.

    def header(self, now: float) -> str:
        """What `input` begins with."""
        text = events.input_header(now)
        if self.input_file is not None:
            path = self.job.expand(self.input_file)
            context = {"stream": "stdin", "rank": "all", "path": path}
            text += events.entry(now, "redirect", events.compact(context))
        return text

    def stdin(self, value: Any) -> None:
        """A client's input. Raises OSError: EPROTO for a bad message, EPIPE if nobody reads it."""
        if not isinstance(value, dict) or not isinstance(value.get("rank"), str):
            raise OSError(errno.EPROTO, None)
        text, eof = value.get("data"), bool(value.get("eof", False))
        if (text is None and not eof) or not (text is None or isinstance(text, str)):
            raise OSError(errno.EPROTO, None)
        try:
            data = (text or "").encode("utf-8", "surrogateescape")
            if value.get("encoding") == "base64":
                data = a2b_base64(data)
            ranks = None if value["rank"] == "all" else frozenset(IDset(value["rank"]))
        except (Base64Error, ValueError):
            raise OSError(errno.EPROTO, None) from None
        open_ranks = self._open(ranks)
        if not open_ranks or self.input_file is not None:
            raise OSError(errno.EPIPE, None)
        self._received += len(data)
        if self._received > self._limit:
            text = f"stdin exceeds {self._limit_text} limit. Try file input (--input=FILE) instead"
            self.job.fail(ShellError(text, "input"))
            raise OSError(errno.ENOSPC, text)
        if eof:
            self._closed |= open_ranks
        self._record(value)
        self.job.feed(ranks, data, eof)
        if self.job.size > 1:
            raw = events.payload(value)
            for shell in self.followers:
                tasks = self.job.layout.tasks[shell]
                if ranks is None or not ranks.isdisjoint(tasks):
                    nodeid = self.job.layout.nodes[shell].rank
                    self.job.server.connection.tell(f"{self.job.service}.input".encode(), raw, nodeid)

    def _open(self, ranks: frozenset[int] | None) -> set[int]:
        """Those of `ranks` that still read; of this shell's tasks, that is known."""
        job = self.job
        ntasks = job.layout.ntasks
        wanted = set(range(ntasks)) if ranks is None else {rank for rank in ranks if rank < ntasks}
        ended = {task.rank for task in job.tasks if task.terminal is None and (task.stdin is None or task.stdin.eof)}
        return wanted - self._closed - ended

    def _record(self, value: dict[str, Any]) -> None:
        job = self.job
        if self._log is None:
            delay = options.seconds(job.options, "input.batch-timeout", 0.5)
            self._log = GuestLog(job.server.committer, f"job-{job.id}", "input", delay, job.check)
        self._log.add("data", events.compact(value))
        if value.get("eof"):
            self._log.urgent()

    # Time.

    def expires(self, expiration: float) -> None:
        """The job's time limit, in seconds since the epoch, or 0: from here on it is this one."""
        if self._signal_timer is not None:
            self._signal_timer.stop()
            self._signal_timer = None
        if not self._signum or not expiration:
            return
        wait = max(0.0, expiration - self._left - time())
        self._signal_timer = self.job.server.reactor.timer(wait, 0.0, lambda: self._send_signal(expiration))
        self._signal_timer.start()

    def _send_signal(self, expiration: float) -> None:
        job = self.job
        left = max(0.0, expiration - time())
        job.log(5, f"job will expire in {left:.1f}s, sending {signal.Signals(self._signum).name} to job", "signal")
        request = events.payload({"id": job.id, "signum": self._signum})

        def answered(state: Any) -> None:
            if state.errnum and not job.ended:
                job.log(3, f"job-manager.kill: {state.error_text()}", "signal")

        job.server.connection.ask(b"job-manager.kill", request, answered, 0)

    def flush(self) -> None:
        """The job is about to end: what waits to be written is."""
        if self._log is not None and not self._log.idle:
            self._log.commit()

    def close(self) -> None:
        """Lets go of the timers."""
        for timer in self._timers:
            timer.stop()
        if self._signal_timer is not None:
            self._signal_timer.stop()


def _job_status(status: int) -> int | None:
    """The wait status of a job whose task has ended with `status`; None if that is no failure."""
    if not status:
        return None
    code = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    return code << 8
