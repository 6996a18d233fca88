"""The module `job-manager` (spec 06): see `fluxlet.modules.job_manager.base` for how its parts are put together."""

from __future__ import annotations

from fluxlet.modules.job_manager.administration import Administration
from fluxlet.modules.job_manager.around import Around
from fluxlet.modules.job_manager.control import Control
from fluxlet.modules.job_manager.direct import Direct
from fluxlet.modules.job_manager.job import WAITABLE, Job
from fluxlet.modules.job_manager.lifetime import Lifetime
from fluxlet.modules.job_manager.restart import Restart
from fluxlet.modules.job_manager.updates import Updates


class JobManager(
    Direct,
    Control,
    Updates,
    Around,
    Administration,
    Restart,
):
    """The job manager. Raises OSError(EINVAL) for a configuration that will not do."""

    _lifetime: Lifetime | None = None

    async def start_service(self) -> None:
        """Loads the plugins that the configuration names, and the jobs of a former life."""
        self.load_configured_plugins()
        await super().start_service()
        self._lifetime = Lifetime(self.handle, self.instance_expires)

    def lifetime(self) -> float | None:
        """Seconds that the instance has left; None: no end is known."""
        return None if self._lifetime is None else self._lifetime.left

    def retired(self, job: Job) -> None:
        """A job has ended."""
        self.pasts.add(job)
        self.singleton.ended(job)
        self.begin_time.ended(job)
        if job.flags & WAITABLE:
            self.waits.ended(job)
        self.check_idle()

    def gone(self, who: bytes) -> None:
        """Somebody has gone."""
        self.forget_idle(who)
        if who == self._scheduler and self.alloc.ready:
            self.scheduler_lost()
        if who == self._executor and self.service:
            self.executor_lost()

    async def finish_service(self) -> None:
        """Stores all that there is: another job manager may go on from there while jobs run.

        No job gets resources any more; what the execution service has still to say, it keeps; and nobody is heard.
        """
        self.scheduler_lost()
        await self.silence_executor()
        self.unloading()
        self.save_checkpoint()
        await self.stored()

    def stop_service(self) -> None:
        """Ends what others wait for."""
        super().stop_service()
        self.plugins.close()
        self.refuse_waiting()
        self.end_journals()
        self.stop_around()
        if self._lifetime is not None:
            self._lifetime.stop()
        self.begin_time.stop()
        self._commit_soon.stop()
        self._commit_later.stop()
        self._journal_soon.stop()
