"""Jobs that nobody runs: for tests and benchmarks (spec 07, 4.5)."""

from __future__ import annotations

import errno
from time import time
from typing import TYPE_CHECKING, Any

from flux.util.durations import parse_fsd
from fluxlet.modules.job_exec.job import ExecJob
from fluxlet.modules.job_exec.machine import State

if TYPE_CHECKING:
    from flux.reactor import Timer
    from fluxlet.modules.job_exec.module import JobExec


class TestJob:
    """How a simulated job is to run. Raises ValueError for an option that will not do."""

    def __init__(self, options: dict[str, Any], duration: float) -> None:
        text = options.get("run_duration")
        if text is None:
            self.duration = float(duration)
        else:
            try:
                self.duration = float(parse_fsd(text))
            except (ValueError, TypeError):
                raise ValueError(f"Unable to parse run duration: {text}") from None
        self.wait_status = _integer(options, "wait_status")
        self.mock_exception = options.get("mock_exception")
        self.override = bool(_integer(options, "override"))
        self.reattach_finish = bool(_integer(options, "reattach_finish"))
        self.running = False
        self.timer: Timer | None = None


def _integer(options: dict[str, Any], name: str) -> int:
    value = options.get(name, 0)
    if type(value) not in (int, bool):
        raise ValueError(f"exec.test.{name}: an integer is expected")
    return int(value)


class TestExec:
    """The runner of simulated jobs. A signal ends them, with itself as status."""

    __test__ = False  # for pytest, which goes by the name

    def __init__(self, service: JobExec) -> None:
        self.service = service

    def start(self, job: ExecJob) -> None:
        """Lets it begin."""
        service = self.service
        try:
            test = job.data = TestJob(job.system.exec.test or {}, job.system.duration)
        except ValueError as exc:
            service.exception(job, "exec", str(exc))
            service.shell_ended(job, 0, 256)
            return
        if test.mock_exception == "init":
            service.exception(job, "exec", "mock initialization exception generated")
            service.all_ended(job, 256)
            return
        if job.reattach:
            self._reattach(job, test)
        elif not test.override:
            self.run(job)

    def _reattach(self, job: ExecJob, test: TestJob) -> None:
        job.log("reattach")
        job.log("starting")
        self.service.reattached(job)
        test.running = True
        left = job.starttime + test.duration - time() if test.duration else 0.0
        if test.reattach_finish or (test.duration and left <= 0):
            self.finish(job, test.wait_status)
        elif test.duration:
            self._arm(job, test, left)

    def run(self, job: ExecJob) -> None:
        """It is running."""
        test: TestJob = job.data
        test.running = True
        self.service.started(job)
        job.log("recoverable")
        if test.mock_exception == "run":
            self.service.exception(job, "exec", "mock run exception generated")
            return
        self.service.flush_soon(job)
        if test.duration and not test.override:
            self._arm(job, test, test.duration)

    def _arm(self, job: ExecJob, test: TestJob, seconds: float) -> None:
        test.timer = self.service.module.reactor.timer(seconds, 0.0, lambda: self.finish(job, test.wait_status))
        test.timer.start()

    def finish(self, job: ExecJob, status: int) -> None:
        """It has ended."""
        if job.data.timer is not None:
            job.data.timer.stop()
        self.service.all_ended(job, status)

    def signal(self, job: ExecJob, signum: int) -> None:
        """Ends it."""
        if isinstance(job.data, TestJob):
            self.finish(job, signum)

    def kill(self, job: ExecJob, signum: int) -> None:
        """Ends it."""
        self.signal(job, signum)

    def expires(self, job: ExecJob) -> None:
        """Makes no difference to it."""

    def forget(self, job: ExecJob) -> None:
        """It is over."""
        if isinstance(job.data, TestJob) and job.data.timer is not None:
            job.data.timer.stop()


def override(runner: TestExec, job: ExecJob | None, event: str, status: int) -> None:
    """job-exec.override: has a simulated job start or finish. Raises OSError."""
    if event not in ("start", "finish"):
        raise OSError(errno.EINVAL, "Invalid event")
    if job is None:
        raise OSError(errno.ENOENT, "Job not found")
    test = job.data
    if not isinstance(test, TestJob) or not test.override or job.state not in (State.STARTING, State.RUNNING):
        raise OSError(errno.EINVAL, "Job not in exec override mode")
    if event == "start":
        if test.running:
            raise OSError(errno.EINVAL, "Job already running")
        runner.run(job)
    elif not test.running:
        raise OSError(errno.EINVAL, "Job not running")
    else:
        runner.finish(job, status)
