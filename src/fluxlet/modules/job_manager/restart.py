"""The jobs of a former life: read back from the KVS when the module is loaded (spec 06, 11.2).

    Reader -> replay -> active jobs, which go on from what they had reached
                     -> those that have ended, in the order in which they have

A job that cannot be read is put aside, and logged.
"""

from __future__ import annotations

import errno
from binascii import a2b_base64
from functools import lru_cache
from syslog import LOG_ERR, LOG_INFO
from typing import TYPE_CHECKING, Any

import msgspec

from flux.core.fluid import f58plain, kvs
from fluxlet.modules.content.digest import Hash
from fluxlet.modules.job_manager.base import AT_ONCE
from fluxlet.modules.job_manager.entries import Entry
from fluxlet.modules.job_manager.execution import ExecutionSide
from fluxlet.modules.job_manager.job import DONE, IDLE, STARTING, WAITABLE, Job, apply, new_job
from fluxlet.modules.job_manager.jobspec import read
from fluxlet.modules.job_manager.machine import State
from fluxlet.modules.job_manager.past import Past
from fluxlet.modules.job_manager.waits import Zombie
from fluxlet.payload import UNREADABLE

if TYPE_CHECKING:
    from fluxlet.modules.job_manager.stored import Stored

TREEOBJ = 16

#: Whose jobs outlive a job manager, as that of our own modules do.
EXECUTOR = "job-exec"

#: Who goes on submitting jobs while there is no job manager.
INGEST = "job-ingest"

#: The event that a job manager begins with.
HELLO = b"job-manager.hello"

STOPPED = "Automatically stopped due to restart"


_decode = msgspec.json.Decoder(list[Entry]).decode
#: Jobs that are submitted in numbers have equal jobspecs.
_read = lru_cache(maxsize=256)(read)


def _events(lines: list[bytes]) -> list[Entry]:
    """The entries of a log. Raises ValueError."""
    events = _decode(b"[%b]" % b",".join(lines))
    if len(events) != len(lines):
        raise ValueError("a line of the eventlog is not one event")
    return events


def replay(jobid: int, log: bytes, jobspec: bytes, R: bytes | None) -> Job:
    """A job as its eventlog leaves it.

    Raises ValueError if the log is none, or what is in it cannot be.
    """
    lines = log.split(b"\n")
    if lines.pop() != b"":
        raise ValueError("the eventlog ends within a line")
    job: Job | None = None
    try:
        for event in _events(lines):
            context = event.context
            if job is None:
                if event.name != "submit" or context is None:
                    raise ValueError("the eventlog does not begin with submit")
                who, urgency, flags = context["userid"], context["urgency"], context["flags"]
                job = new_job(jobid, who, urgency, flags, event.timestamp, jobspec, _read(jobspec))
                job.R = R
            apply(job, event.name, context)
            if event.name == "clean":
                job.t_clean = event.timestamp
    except (*UNREADABLE, KeyError, TypeError, AttributeError) as exc:
        raise ValueError(f"bad eventlog: {type(exc).__name__}: {exc}") from None
    if job is None or job.state is State.NEW:
        raise ValueError("the job has not been accepted")
    job.events = lines
    return job


class Restart(ExecutionSide):
    """See the module."""

    async def _lookup(self, key: str, flags: int = 0) -> dict[str, Any] | None:
        """A tree object; None if there is none. Raises OSError for anything else that goes wrong."""
        try:
            answer = await self.handle.rpc("kvs.lookup", {"key": key, "flags": flags, "namespace": "primary"})
        except OSError as exc:
            if exc.errno == errno.ENOENT:
                return None
            raise
        return dict(answer["val"])

    async def _value(self, key: str) -> bytes | None:
        tree = await self._lookup(key)
        return None if tree is None else a2b_base64(tree["data"])

    async def start_service(self) -> None:
        """Reads everything back; until that is done requests wait.

        Schedulers and execution services that have served a job manager before this one are told, and say hello.
        """
        router = self.broker.router
        if router.subscribers(HELLO) or router.children:
            self.send_event(HELLO.decode(), {})
        await self._load_checkpoint()
        tree = await self._lookup("job", TREEOBJ)
        if tree is not None:
            await self._load_jobs(tree["data"][0])
        await self._go_on()
        self.loaded()

    async def _load_jobs(self, dirref: str) -> None:
        """Reads all jobs. The broker looks after others in between."""
        from fluxlet.modules.job_manager.stored import Reader  # few instances have had a former life

        def complain(text: str) -> None:
            self.write_log(LOG_ERR, f"restart: {text}")

        reader = Reader(self, Hash(self.broker.attributes.visible.get("content.hash", "sha1")), complain, AT_ONCE // 2)
        pasts: list[Past] = []
        zombies: dict[int, Zombie] = {}
        async for some in reader.jobs(dirref):
            for stored in some:
                if stored.log is None and INGEST in self.broker.modules:
                    # It may be among those that are being submitted, and wait until we are loaded.
                    self.max_jobid = max(self.max_jobid, stored.id)
                    continue
                job = self._restored(stored)
                if job is None:
                    await self._put_aside(stored.id)
                elif not job.active:
                    pasts.append(self.pasts.past(job))
                    if job.flags & WAITABLE:
                        zombies[job.id] = Zombie.of(job)
            await self.next_pass()
        pasts.sort(key=lambda past: past.t_clean)
        for past in pasts:
            self.pasts.jobs[past.id] = past
            if past.id in zombies:
                self.waits.zombies[past.id] = zombies[past.id]
        count = len(pasts) + len(self.engine.jobs)
        if count:
            self.write_log(LOG_INFO, f"restart: {count} jobs")

    async def _load_checkpoint(self) -> None:
        value = await self._value("checkpoint.job-manager")
        if value is not None:
            try:
                checkpoint = msgspec.json.decode(value)
                self.max_jobid = int(checkpoint["max_jobid"])
                self.queues.restore(checkpoint["queue"])
            except (*UNREADABLE, KeyError, TypeError, ValueError, AttributeError) as exc:
                self.write_log(LOG_ERR, f"restart: checkpoint.job-manager cannot be read: {type(exc).__name__}: {exc}")
            if self.engine.config.get("job-manager", {}).get("stop-queues-on-restart", False):
                self.queues.start(list(self.queues.queues.values()), False, STOPPED)

    def _restored(self, stored: Stored) -> Job | None:
        """A job as it was; None if it has to be put aside."""
        jobid, log, jobspec, R = stored
        self.max_jobid = max(self.max_jobid, jobid)
        try:
            if log is None or jobspec is None:
                raise ValueError("it has no eventlog, or no jobspec")
            job = replay(jobid, log, jobspec, R)
        except ValueError as exc:
            self.write_log(LOG_ERR, f"restart: {f58plain(jobid)} is put aside: {exc}")
            return None
        self.directories.add(jobid)
        if job.active:
            self.engine.jobs[jobid] = job
            self.waits.submitted(job)
            self.singleton.accepted(job)
        return job

    async def _put_aside(self, jobid: int) -> None:
        """Moves what there is of a job to job-lost+found."""
        path = kvs(jobid)
        tree = await self._lookup(path, TREEOBJ)
        ops = [
            {"key": f"job-lost+found.job.{f58plain(jobid)}", "flags": 0, "dirent": tree},
            {"key": path, "flags": 0, "dirent": None},
        ]
        await self.handle.rpc("kvs.commit", {"namespace": "primary", "flags": 0, "ops": ops})

    async def _go_on(self) -> None:
        """Every job is there: each goes on from where it was. The broker looks after others in between."""
        for number, job in enumerate(list(self.engine.jobs.values()), 1):
            if job.active:
                self.plugins.accepted(job)
                self._resume(job)
            if number % AT_ONCE == 0:
                await self.next_pass()
        self.singleton.settle()

    def _resume(self, job: Job) -> None:
        if job.state < State.RUN and not job.bypass:
            job.R = None  # of a scheduler that could not say so any more
        if job.state is State.DEPEND:
            self._restore_dependencies(job)
            self.engine.depend(job)
        elif job.state is State.PRIORITY:
            self.engine.prioritize(job)
        elif job.state is State.SCHED:
            self.engine.post(job, "flux-restart")
        elif job.state is State.RUN:
            job.exec = IDLE
            # While a prolog runs a job has not been started; later it may have been.
            job.reattach = not job.perilogs
            self.restore_perilogs(job)
        elif job.state is State.CLEANUP:
            self._resume_end(job)

    def _resume_end(self, job: Job) -> None:
        """A job in CLEANUP. What ran it has ended with the instance, unless only the job manager is another one."""
        if job.exec != DONE and EXECUTOR in self.broker.modules:
            job.exec = STARTING
            self.unclear[job.id] = job
        else:
            job.exec = DONE
        self.restore_perilogs(job)
        self.engine.clean(job)

    def restore_perilogs(self, job: Job) -> None:
        """Prologs and epilogs that were running have ended with the instance."""

    def _restore_dependencies(self, job: Job) -> None:
        for dependency in job.spec.system.dependencies:
            handler = self.schemes.get(dependency.scheme)
            if handler is not None:
                handler.restore(job, dependency)
            else:
                try:
                    known = self.plugins.ask("dependency", job, dependency)
                except ValueError:
                    known = False
                if not known:
                    note = f'dependency scheme "{dependency.scheme}" not supported'
                    self.engine.exception(job, "dependency", 4, note)
