"""Processes that run beside a job's tasks: those of debuggers and of `flux exec --jobid` (RFC 42; spec 07, 5.9).

The server is the broker's own (`fluxlet.modules.rexec.server`). What runs when the tasks have ended gets SIGTERM, and
SIGKILL after `rexec-shutdown-timeout`; the job ends when it has.
"""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from syslog import LOG_ERR
from typing import TYPE_CHECKING

from flux.message import Message
from flux.reactor import Reactor, Timer
from fluxlet.broker.guardian import Guardian
from fluxlet.modules.rexec.server import Helper, Server
from fluxlet.shell import options

if TYPE_CHECKING:
    from fluxlet.shell.job import Job

_METHODS = ("exec", "write", "kill", "list", "wait", "attach", "disconnect")


class JobHost:
    """The shell of a job, as its subprocess server sees it."""

    guardian: Guardian | None = None  # the keeper's business

    def __init__(self, job: Job) -> None:
        self._job = job
        self.rank = job.server.rank
        self.reactor: Reactor = job.server.reactor
        self.uri = job.server.place.uri

    def respond(self, request: Message, raw: bytes | None) -> None:
        """Answers."""
        self._job.server.connection.answer(request, raw)

    def respond_error(self, request: Message, errnum: int, text: str | None) -> None:
        """Answers with an error."""
        self._job.server.connection.refuse(request, errnum, text or "")

    def congested(self, request: Message) -> bool:
        """Our broker takes what we send."""
        return False

    def log(self, severity: int, text: str) -> None:
        """Logs as the shell."""
        self._job.log(3 if severity <= LOG_ERR else 6, text, "rexec")

    def environment(self) -> Mapping[str, str]:
        """That of the tasks, but for what is of one of them."""
        own = ("FLUX_TASK_RANK", "FLUX_TASK_LOCAL_ID", "PMI_FD", "PMI_RANK", "PMI_SIZE")
        return {name: value for name, value in self._job.env.items() if name not in own}

    def helpers(self) -> Sequence[Helper]:
        """There are none."""
        return ()


class Subprocesses:
    """The processes beside the tasks of a job on this rank."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._server = Server(JobHost(job))
        # The job's end may wait for it; what is said of the process itself comes first.
        self._checks = job.server.reactor.timer(0.0, 0.0, job.check)
        self._server.on_end = lambda: self._checks.reset(0.0, 0.0)
        self._methods: dict[str, Callable[[Message], None]] = {name: getattr(self._server, name) for name in _METHODS}
        self._timer: Timer | None = None

    @property
    def pids(self) -> list[int]:
        """Those that run."""
        return [process.pid for process in self._server.running]

    def serve(self, method: str, msg: Message) -> None:
        """Serves a request. Raises OSError for the answer."""
        handler = self._methods.get(method)
        if handler is None:
            raise OSError(errno.ENOSYS, f"Unknown service method '{msg.topic}'")
        handler(msg)
        if self.pids:
            self._job.server.others.add(self._job)

    def end(self) -> bool:
        """The tasks have ended: so are these to. True if they have."""
        if not self._server.running:
            if self._timer is not None:
                self._timer.stop()
            self._checks.stop()
            self._server.stop(0.0)
            self._job.server.others.discard(self._job)
            return True
        if self._timer is None:
            self._server.closing = True
            self._signal(signal.SIGTERM)
            given = self._job.options
            limit = options.seconds(given, "rexec-shutdown-timeout", 60.0)
            if "coprocess" in given:
                limit = options.seconds(given, "coprocess-kill-timeout", 10.0)
            self._timer = self._job.server.reactor.timer(60.0 if limit is None else limit, 0.0, self.kill)
            self._timer.start()
        return False

    def kill(self) -> None:
        """Ends them by force."""
        self._signal(signal.SIGKILL)

    def _signal(self, signum: int) -> None:
        for process in self._server.running:
            with suppress(OSError):  # it has just ended
                process.signal(signum)
