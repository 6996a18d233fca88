"""Housekeeping: a command on each rank of a job that has ended, before others get its resources (spec 06, section 12).

The job is history by then; to the scheduler its resources are taken until `sched.free`.
"""

from __future__ import annotations

from syslog import LOG_ERR, LOG_INFO
from time import time
from typing import Any

import msgspec

from flux.core.fluid import f58
from flux.idset import IDset
from flux.util.durations import parse_fsd
from fluxlet.config_table import read_table
from fluxlet.modules.job_manager.base import Base
from fluxlet.modules.job_manager.job import Job
from fluxlet.modules.job_manager.runs import KILL, TERM, Run, job_environment


class Settings(msgspec.Struct):
    """[job-manager.housekeeping]. `release_after` seconds; negative: when all ranks are done."""

    command: list[str] = []
    release_after: float = -1.0


def read(config: dict[str, Any]) -> Settings:
    """Reads the configuration. Raises ValueError with the text for the user."""
    table = config.get("job-manager", {}).get("housekeeping")
    if table is None:
        return Settings()
    try:
        values = read_table(table, {"command": list, "release-after": str}, strict=True)
        command = values.get("command", [])
        if not command or not all(isinstance(word, str) for word in command):
            raise ValueError("command must be an array of strings")
        release_after = parse_fsd(values["release-after"]) if "release-after" in values else -1.0
    except ValueError as exc:
        raise ValueError(f"[job-manager.housekeeping]: {exc}") from None
    return Settings(command, release_after)


class House:
    """The housekeeping of one job."""

    def __init__(self, job: Job, ranks: list[int]) -> None:
        self.job = job
        self.t_start = time()
        self.allocated = set(ranks)
        self.done: set[int] = set()
        self.releasing = False
        self.timer: Any = None
        self.run: Run


def _idset(ranks: set[int]) -> str:
    return IDset(ranks).encode() if ranks else ""


class Housekeeping:
    """See the module.

    Args:
        service: the job manager.
    """

    def __init__(self, service: Base) -> None:
        self.service = service
        self.alloc = service.alloc
        self.settings = Settings()
        self._houses: dict[int, House] = {}

    def begin(self, job: Job) -> bool:
        """Cleans up behind a job before its resources are given back; False: there is nothing to do."""
        settings = self.settings
        if not settings.command or job.R is None:
            return False
        from flux.resource.Rv1Set import Rv1Set

        ranks = sorted(Rv1Set(job.R).nodes)
        house = self._houses[job.id] = House(job, ranks)
        env = job_environment(job.id, job.userid, FLUX_JOB_RANKS=_idset(set(ranks)))
        house.run = Run(
            self.service.handle,
            settings.command,
            env,
            ranks,
            lambda rank, line: self.service.write_log(LOG_INFO, f"housekeeping: {job.path}: rank {rank}: {line}"),
            lambda rank, status: self._rank_done(house, rank, status),
            lambda status: self._all_done(house),
        )
        return True

    def _rank_done(self, house: House, rank: int, status: int) -> None:
        if status:
            self.service.write_log(LOG_ERR, f"housekeeping: {house.job.path}: rank {rank}: wait status {status}")
        house.done.add(rank)
        settings = self.settings
        if settings.release_after == 0:
            house.releasing = True
        elif settings.release_after > 0 and house.timer is None and not house.releasing:
            house.timer = self.service.timer(settings.release_after, lambda: self._release_on_time(house))
        if house.releasing and house.run.pending:
            self._release(house)

    def _release_on_time(self, house: House) -> None:
        house.timer = None
        house.releasing = True
        self._release(house)

    def _release(self, house: House) -> None:
        """Gives back what is done; the last of it ends the housekeeping."""
        done = house.done & house.allocated
        if not done:
            return
        house.allocated -= done
        final = not house.allocated
        R = house.job.R
        assert R is not None
        if final and done == set(house.done):
            self.alloc.free(house.job.id, R)
        else:
            from flux.resource.Rv1Set import Rv1Set

            part = msgspec.json.encode(Rv1Set(R).copy_ranks(sorted(done)).to_dict())
            self.alloc.free(house.job.id, part, final)

    def _all_done(self, house: House) -> None:
        if self._houses.pop(house.job.id, None) is None:
            return
        if house.timer is not None:
            house.timer.stop()
        self._release(house)

    # What others are told of it.

    def housed(self, partial_ok: bool) -> list[tuple[Job, str | None]]:
        """For sched-hello; a scheduler that cannot take part of a job does not get it."""
        found: list[tuple[Job, str | None]] = []
        for house in list(self._houses.values()):
            if house.allocated == house.done | set(house.run.pending):
                found.append((house.job, None))
            elif partial_ok:
                found.append((house.job, _idset(house.done - house.allocated)))
            else:
                del self._houses[house.job.id]
                house.run.kill(KILL)
                house.run.forget()
        return found

    def resources(self) -> list[bytes]:
        """For resource-status."""
        from flux.resource.Rv1Set import Rv1Set

        parts = []
        for house in self._houses.values():
            if house.job.R is not None:
                parts.append(msgspec.json.encode(Rv1Set(house.job.R).copy_ranks(sorted(house.allocated)).to_dict()))
        return parts

    def stats(self) -> dict[str, Any]:
        """For stats-get."""
        running = {
            f58(house.job.id): {
                "t_start": house.t_start,
                "pending": _idset(set(house.run.pending)),
                "allocated": _idset(house.allocated),
            }
            for house in self._houses.values()
        }
        command = " ".join(self.settings.command)
        return {"running": running, "config": {"release-after": self.settings.release_after, "command": command}}

    def kill(self, signum: int, jobid: int | None, ranks: list[int] | None) -> None:
        """Signals what runs: of one job, or all (None, -1); on some ranks, or all (None)."""
        for house in self._houses.values():
            if jobid in (None, -1, house.job.id):
                house.run.kill(signum, ranks)

    def stop(self) -> None:
        """The module ends, and with it what it runs."""
        for house in self._houses.values():
            if house.timer is not None:
                house.timer.stop()
            house.run.kill(TERM)
            house.run.forget()
        self._houses.clear()
