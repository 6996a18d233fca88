"""What job-exec tells of itself: `flux module stats job-exec`."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from typing import Any

from flux.idset import IDset
from fluxlet.modules.job_exec.config import Settings
from fluxlet.modules.job_exec.job import ExecJob


def figures(settings: Settings, jobs: Iterable[ExecJob]) -> dict[str, Any]:
    """What is set, and what is running."""
    limit = settings.max_kill_timeout
    return {
        "method": settings.method,
        "kill-timeout": settings.kill_timeout,
        "term-signal": signal.Signals(settings.term_signal).name,
        "kill-signal": signal.Signals(settings.kill_signal).name,
        "max-kill-count": settings.max_kill_count,
        "max-kill-timeout": -1.0 if limit is None else limit,
        "effective-max-kill-timeout": settings.longest_kill,
        "jobs": {str(job.id): _of(job) for job in jobs},
        "config": {
            "default_cwd": "/tmp",
            "default_job_shell": settings.job_shell or "(built-in)",
            "exec_service": settings.service,
            "default_barrier_timeout": settings.barrier_timeout or 0.0,
            "shell_exit_timeout": settings.shell_exit_timeout or 0.0,
        },
    }


def _of(job: ExecJob) -> dict[str, Any]:
    return {
        "implementation": type(job.runner).__name__.lower(),
        "ns": job.namespace,
        "state": job.state.value,
        "critical_ranks": "all" if job.critical is None else str(IDset(sorted(job.critical))),
        "active_ranks": job.ranks(job.active),
        "exception_in_progress": int(job.fatal),
        "shell_kills": job.killer.shell_kills if job.killer is not None else 0,
    }
