"""What may be done around jobs, where the configuration says so: prologs, epilogs, housekeeping (spec 06, section 12).

The code for that is imported by instances that have it configured.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import msgspec

from flux.brokermod import request_handler
from flux.message import Message
from fluxlet.modules.job_manager.base import own_table
from fluxlet.modules.job_manager.control import check_signal
from fluxlet.modules.job_manager.information import Information
from fluxlet.modules.job_manager.job import Job
from fluxlet.modules.job_manager.scheduling import SchedulingSide
from fluxlet.payload import decode

if TYPE_CHECKING:
    from fluxlet.modules.job_manager.housekeeping import Housekeeping
    from fluxlet.modules.job_manager.perilog import Perilog


class KillRequest(msgspec.Struct):
    """Payload of job-manager.housekeeping-kill."""

    signum: int
    jobid: int | None = None
    ranks: str | None = None


class Around(SchedulingSide, Information):
    """See the module."""

    def __init__(self, *args: Any) -> None:
        self.perilog: Perilog | None = None
        self.housekeeping: Housekeeping | None = None
        super().__init__(*args)

    def _read_config(self, config: dict[str, Any]) -> Any:
        table = own_table(config)
        try:
            if self.perilog is not None or {"prolog", "epilog", "perilog"} & table.keys():
                from fluxlet.modules.job_manager import perilog

                procedures = perilog.read(config)
                if self.perilog is None:
                    self.perilog = perilog.Perilog(self)
                self.perilog.settings = procedures
            if self.housekeeping is not None or "housekeeping" in table:
                from fluxlet.modules.job_manager import housekeeping

                settings = housekeeping.read(config)
                if self.housekeeping is None:
                    self.housekeeping = housekeeping.Housekeeping(self)
                self.housekeeping.settings = settings
        except ValueError as exc:
            raise OSError(errno.EINVAL, str(exc)) from None
        return super()._read_config(config)

    def free(self, job: Job) -> None:
        """Gives the resources of a job back, or cleans up behind it first."""
        if self.housekeeping is None or not self.housekeeping.begin(job):
            super().free(job)

    def housed(self, partial_ok: bool) -> list[tuple[Job, str | None]]:
        """Jobs in housekeeping, with the ranks that are free already."""
        return [] if self.housekeeping is None else self.housekeeping.housed(partial_ok)

    def housed_resources(self) -> list[bytes]:
        """R of what is in housekeeping."""
        return [] if self.housekeeping is None else self.housekeeping.resources()

    def housekeeping_stats(self) -> dict[str, Any]:
        """Of housekeeping, for stats-get."""
        return super().housekeeping_stats() if self.housekeeping is None else self.housekeeping.stats()

    @request_handler("housekeeping-kill")
    def housekeeping_kill(self, msg: Message) -> None:
        """Payload `{"signum": i, "jobid"?: i, "ranks"?: idset}`: signals what runs, of one job or all."""
        from flux.idset import IDset

        request = decode(msg, KillRequest)
        check_signal(request.signum)
        try:
            ranks = None if request.ranks is None else list(IDset(request.ranks))
        except ValueError as exc:
            raise OSError(errno.EINVAL, str(exc)) from None
        if self.housekeeping is not None:
            self.housekeeping.kill(request.signum, request.jobid, ranks)
        self.handle.respond(msg)

    def restore_perilogs(self, job: Job) -> None:
        """What ran around a job before a restart has ended with the instance."""
        if self.perilog is not None:
            self.perilog.restore(job)
            return
        for description, kind in list(job.perilogs.items()):
            # Whoever has begun it is not there any more.
            self.engine.post(job, f"{kind}-finish", {"description": description, "status": 0})

    def stop_around(self) -> None:
        """The module ends, and with it what it runs."""
        if self.perilog is not None:
            self.perilog.stop()
        if self.housekeeping is not None:
            self.housekeeping.stop()
