"""How a job is ended that does not end by itself (spec 07, 4.3).

at once              the term signal to its shells (SIGALRM if its time is over), which pass it on to the tasks
kill-timeout later   SIGKILL to the tasks, again and again
5 kill-timeouts      SIGKILL to the shells, with intervals that double
max-kill-count       its nodes are drained, and it counts as ended
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flux.reactor import Reactor, Timer
    from fluxlet.modules.job_exec.config import Settings
    from fluxlet.modules.job_exec.job import ExecJob

_SHELL_KILL_AFTER = 5
_LONGEST_INTERVAL = 300.0


class Killer:
    """Ends one job.

    Args:
        kill_tasks: has SIGKILL sent to the job's tasks, through job-manager.
        give_up: called when nothing has helped.
    """

    def __init__(
        self,
        job: ExecJob,
        reactor: Reactor,
        settings: Settings,
        kill_tasks: Callable[[ExecJob], None],
        give_up: Callable[[ExecJob], None],
    ) -> None:
        self.job = job
        self._settings = settings
        self._kill_tasks = kill_tasks
        self._give_up = give_up
        self._task_kills = 0
        self.shell_kills = 0
        self._waited = 0.0
        self._interval = settings.kill_timeout
        self._ended = False
        self._timer: Timer = reactor.timer(settings.kill_timeout, 0.0, self._again)

    def begin(self, kind: str) -> None:
        """Begins; `kind` is the type of the exception."""
        signum = signal.SIGALRM if kind == "timeout" else self._settings.term_signal
        self.job.runner.signal(self.job, int(signum))
        if not self._ended:  # at once, as simulated jobs do
            self._timer.start()

    def stop(self) -> None:
        """The job has ended."""
        self._ended = True
        self._timer.stop()

    def _again(self) -> None:
        settings = self._settings
        if self._task_kills < _SHELL_KILL_AFTER - 1:
            self._task_kills += 1
            self._kill_tasks(self.job)
            self._wait(settings.kill_timeout)
            return
        if settings.max_kill_timeout is not None:
            over = self._waited >= settings.max_kill_timeout
        else:
            over = self.shell_kills >= settings.max_kill_count
        if over:
            self._give_up(self.job)
            return
        self.shell_kills += 1
        self.job.runner.kill(self.job, settings.kill_signal)
        self._interval = min(self._interval * 2, _LONGEST_INTERVAL)
        self._waited += self._interval
        self._wait(self._interval)

    def _wait(self, seconds: float) -> None:
        if not self._ended:
            self._timer.reset(seconds, 0.0)
