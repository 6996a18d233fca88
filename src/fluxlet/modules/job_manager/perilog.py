"""Prologs and epilogs: commands before a job starts and after it has finished (spec 06, section 12).

A prolog keeps a job from starting, an epilog its resources from being freed. A job whose prolog has failed, or that got
a fatal exception meanwhile, has its epilog all the same.
"""

from __future__ import annotations

import re
from syslog import LOG_ERR, LOG_INFO
from typing import Any

import msgspec

from flux.util.durations import fsd, parse_fsd
from fluxlet.config_table import read_table
from fluxlet.modules.job_manager.base import Base
from fluxlet.modules.job_manager.job import Job, exit_code
from fluxlet.modules.job_manager.machine import State
from fluxlet.modules.job_manager.runs import KILL, TERM, Run, job_environment, ranks_of

_NAMES = {"prolog": "job-manager.prolog", "epilog": "job-manager.epilog"}


class Procedure(msgspec.Struct):
    """[job-manager.prolog] or [job-manager.epilog]; `timeout` in seconds, 0 for none."""

    command: list[str]
    timeout: float
    cancel: bool
    per_rank: bool = False
    kill_timeout: float = 60.0


class Settings(msgspec.Struct):
    """Both, and what output is not logged."""

    prolog: Procedure | None = None
    epilog: Procedure | None = None
    ignore: list[re.Pattern[str]] = []


def read(config: dict[str, Any]) -> Settings:
    """Reads the configuration. Raises ValueError with the text for the user."""
    table = config.get("job-manager", {})
    ignore = table.get("perilog", {}).get("log-ignore", [])
    try:
        patterns = [re.compile(pattern) for pattern in ignore]
    except (re.error, TypeError) as exc:
        raise ValueError(f"[job-manager.perilog]: log-ignore: {exc}") from None
    return Settings(
        _procedure(table.get("prolog"), "prolog", "30m", True),
        _procedure(table.get("epilog"), "epilog", "0", False),
        patterns,
    )


def _procedure(table: Any, name: str, timeout: str, cancel: bool) -> Procedure | None:
    if table is None:
        return None
    types = {
        "command": list,
        "timeout": str,
        "kill-timeout": object,
        "per-rank": bool,
        "cancel-on-exception": bool,
        "exit-on-first-error": bool,
    }
    try:
        values = read_table(table, types, strict=True)
        command = values.get("command", [])
        if not command or not all(isinstance(word, str) for word in command):
            raise ValueError("command must be an array of strings")
        seconds = parse_fsd(values.get("timeout", timeout))
        kill_timeout = float(values.get("kill-timeout", 60.0))
    except (ValueError, TypeError) as exc:
        raise ValueError(f"[job-manager.{name}]: {exc}") from None
    cancel = values.get("cancel-on-exception", cancel)
    return Procedure(command, seconds, cancel, values.get("per-rank", False), kill_timeout)


class Going:
    """A prolog or epilog that runs."""

    def __init__(self, kind: str, run: Run) -> None:
        self.kind = kind
        self.run = run
        self.timers: list[Any] = []
        self.reason: str | None = None  # why it was ended

    def stop_timers(self) -> None:
        """Lets go of its timers."""
        for timer in self.timers:
            timer.stop()
        self.timers.clear()


class Perilog:
    """See the module.

    Args:
        service: the job manager.
    """

    def __init__(self, service: Base) -> None:
        self.service = service
        self.engine = service.engine
        self.settings = Settings()
        self._going: dict[int, Going] = {}
        self.engine.watches.append(self._watch)

    def _watch(self, job: Job, name: str) -> None:
        if name == "alloc" and self.settings.prolog is not None:
            self._begin(job, "prolog")
        elif name == "finish" and self.settings.epilog is not None:
            self._begin(job, "epilog")
        elif name == "exception" and job.fatal is not None and job.id in self._going:
            going = self._going[job.id]
            procedure = getattr(self.settings, going.kind)
            if procedure is not None and procedure.cancel and going.reason is None:
                self._end_early(going, procedure, "canceled due to exception")

    def _begin(self, job: Job, kind: str, post: bool = True) -> None:
        procedure: Procedure = getattr(self.settings, kind)
        if post:
            self.engine.post(job, f"{kind}-start", {"description": _NAMES[kind]})
        ranks = ranks_of(job.R) if procedure.per_rank else [0]
        run = Run(
            self.service.handle,
            procedure.command,
            job_environment(job.id, job.userid),
            ranks,
            lambda rank, line: self._output(job, kind, rank, line),
            lambda rank, status: None,
            lambda status: self._ended(job, kind, status),
        )
        going = self._going[job.id] = Going(kind, run)
        if procedure.timeout:
            text = f"timed out after {fsd(procedure.timeout)}"
            going.timers.append(self.service.timer(procedure.timeout, lambda: self._end_early(going, procedure, text)))

    def _end_early(self, going: Going, procedure: Procedure, reason: str) -> None:
        going.reason = reason
        going.run.kill(TERM)
        going.timers.append(self.service.timer(procedure.kill_timeout, lambda: going.run.kill(KILL)))

    def _output(self, job: Job, kind: str, rank: int, line: str) -> None:
        if not any(pattern.search(line) for pattern in self.settings.ignore):
            self.service.write_log(LOG_INFO, f"{job.path}: {kind}: rank {rank}: {line}")

    def _ended(self, job: Job, kind: str, status: int) -> None:
        going = self._going.pop(job.id)
        going.stop_timers()
        if not job.active:
            return
        if status:
            self._failed(job, kind, status, going)
        if kind == "prolog" and job.fatal is not None and self.settings.epilog is not None:
            self._begin(job, "epilog")
        self.engine.post(job, f"{kind}-finish", {"description": _NAMES[kind], "status": status})

    def _failed(self, job: Job, kind: str, status: int, going: Going) -> None:
        signum = status & 0x7F
        how = f"killed by signal {signum}" if signum else f"exited with code={exit_code(status)}"
        if going.run.trouble is not None:
            how = f"could not be run: {going.run.trouble}"
        note = f"{kind} {going.reason or how} (rank {going.run.failed_rank})"
        self.service.write_log(LOG_ERR, f"{job.path}: {note}")
        if kind == "epilog":
            self.engine.exception(job, "epilog", 2, note)
        elif job.fatal is None:
            self.engine.exception(job, "prolog", 0, note)

    def restore(self, job: Job) -> None:
        """What ran before a restart has ended with the instance: it is run again."""
        for description, kind in list(job.perilogs.items()):
            if description != _NAMES.get(kind) or getattr(self.settings, kind) is None:
                # Whoever has begun it is not there any more.
                self.engine.post(job, f"{kind}-finish", {"description": description, "status": 0})
            elif kind == "prolog" and job.state is State.CLEANUP:
                if self.settings.epilog is not None:
                    self._begin(job, "epilog")
                self.engine.post(job, "prolog-finish", {"description": description, "status": TERM})
            else:
                self._begin(job, kind, post=False)

    def stop(self) -> None:
        """The module ends, and with it what it runs."""
        for going in self._going.values():
            going.stop_timers()
            going.run.forget()
        self._going.clear()
