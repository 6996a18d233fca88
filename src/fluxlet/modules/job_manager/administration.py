"""Requests of the instance owner: queues, purge, drain and idle, plugins (spec 06, sections 10, 11 and 16)."""

from __future__ import annotations

import errno
from time import time
from typing import Any

import msgspec

from flux.brokermod import event_handler, request_handler
from flux.core.fluid import kvs
from flux.message import Message
from flux.util.durations import parse_fsd
from fluxlet.config_table import read_table
from fluxlet.modules.job_manager.base import Base, own_table
from fluxlet.modules.job_manager.job import Job
from fluxlet.modules.job_manager.machine import RUNNING, State
from fluxlet.modules.job_manager.queues import Queue
from fluxlet.payload import decode
from fluxlet.service import sender

_BATCH = 100


class StatusRequest(msgspec.Struct):
    """Payload of job-manager.queue-status."""

    name: str | None = None


class EnableRequest(msgspec.Struct):
    """Payload of job-manager.queue-enable."""

    enable: bool
    all: bool
    name: str | None = None
    reason: str | None = None


class StartRequest(msgspec.Struct):
    """Payload of job-manager.queue-start."""

    start: bool
    all: bool
    name: str | None = None
    reason: str | None = None
    nocheckpoint: bool = False


class PurgeRequest(msgspec.Struct):
    """Payload of job-manager.purge."""

    age_limit: float
    num_limit: int
    batch: int
    force: bool


class PurgeIdRequest(msgspec.Struct):
    """Payload of job-manager.purge-id."""

    id: int
    force: int | bool


class JobtapRequest(msgspec.Struct):
    """Payload of job-manager.jobtap."""

    load: str | None = None
    conf: Any = None
    remove: str | None = None
    query_only: bool = False


class QueryRequest(msgspec.Struct):
    """Payload of job-manager.jobtap-query."""

    name: str


class PostRequest(msgspec.Struct):
    """Payload of job-manager.post-event.post."""

    id: int
    name: str
    context: dict[str, Any] | None = None


class TimeoutRequest(msgspec.Struct):
    """Payload of job-manager.set-batch-timeout."""

    timeout: float


class _PurgeLimits:
    """`inactive-age-limit` and `inactive-num-limit` of [job-manager]; negative: none. Raises ValueError."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.age = -1.0
        self.number = -1
        types = {"inactive-age-limit": str, "inactive-num-limit": int}
        table = read_table(config.get("job-manager", {}), types)
        if "inactive-age-limit" in table:
            try:
                self.age = parse_fsd(table["inactive-age-limit"])
            except ValueError:
                raise ValueError("job-manager.inactive-age-limit: invalid FSD") from None
        if "inactive-num-limit" in table:
            self.number = table["inactive-num-limit"]
            if self.number < 0:
                raise ValueError("job-manager.inactive-num-limit: must be >= 0")


def _plugins(config: dict[str, Any]) -> list[dict[str, Any]]:
    """`[[job-manager.plugins]]`. Raises ValueError."""
    entries = own_table(config).get("plugins", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("[job-manager]: plugins must be an array of tables")
    for entry in entries:
        strange = entry.keys() - {"load", "remove", "conf"}
        if strange:
            raise ValueError(
                f"[job-manager.plugins]: unknown key {sorted(strange)[0]}: there are load, conf and remove"
            )
    return entries


class Administration(Base):
    """See the module."""

    def __init__(self, *args: Any) -> None:
        self._idle: list[tuple[Message, bool]] = []
        super().__init__(*args)

    def _read_config(self, config: dict[str, Any]) -> Any:
        try:
            self._purge_limits = _PurgeLimits(config)
            self._configured = _plugins(config)
        except ValueError as exc:
            raise OSError(errno.EINVAL, str(exc)) from None
        return super()._read_config(config)

    # Queues.

    @request_handler("queue-list", allow_guest=True)
    def queue_list(self, msg: Message) -> None:
        """Answers `{"queues": [name, ...]}`; none for the anonymous one."""
        self.handle.respond(msg, {"queues": [name for name in self.queues.queues if name is not None]})

    @request_handler("queue-status", allow_guest=True)
    def queue_status(self, msg: Message) -> None:
        """Payload `{"name"?: s}`. Answers what the queue takes and lets run, and why not."""
        request = decode(msg, StatusRequest)
        self.handle.respond(msg, _invalid(self.queues.status, request.name, self.alloc.ready))

    @request_handler("queue-enable")
    def queue_enable(self, msg: Message) -> None:
        """Has queues take jobs, or not any more."""
        request = decode(msg, EnableRequest)
        if not request.enable and request.reason is None:
            raise OSError(errno.EINVAL, "reason is required for disable")
        queues = _invalid(self.queues.chosen, request.name, request.all)
        self.queues.enable(queues, request.enable, request.reason)
        self.handle.respond(msg)

    @request_handler("queue-start")
    def queue_start(self, msg: Message) -> None:
        """Lets jobs of queues run, or takes back what the scheduler was asked for them."""
        request = decode(msg, StartRequest)
        queues: list[Queue] = _invalid(self.queues.chosen, request.name, request.all)
        self.queues.start(queues, request.start, request.reason, not request.nocheckpoint)
        names = self.queues.affected(queues)
        for job in list(self.engine.jobs.values()):
            if job.state is State.SCHED and job.spec.system.queue in names:
                if not request.start:
                    self.alloc.take_back(job)
                    self.kept_back(job)
                elif self.queues.started(job.spec.system.queue):
                    self._explain(job, None)
                    self.alloc.enqueue(job)
        self.handle.respond(msg)

    def kept_back(self, job: Job) -> None:
        """A job in SCHED is not to ask for resources yet. If that is for its queue, lists tell so."""
        if job.stored and job.priority and not job.bypass:
            self._explain(job, self.queues.why_not(job.spec.system.queue))

    def _explain(self, job: Job, reason: str | None) -> None:
        if reason is not None or (job.annotations and "sched" in job.annotations):
            self.engine.annotate(job, {"sched": {"reason_pending": reason}})

    # Nothing left to do.

    @request_handler("drain")
    def drain(self, msg: Message) -> None:
        """Answers when no job is active."""
        self._idle.append((msg, True))
        self.check_idle()

    @request_handler("idle")
    def idle(self, msg: Message) -> None:
        """Answers `{"pending": active jobs}` when no job runs or may be about to."""
        self._idle.append((msg, False))
        self.check_idle()

    def check_idle(self) -> None:
        """Answers those whose time has come, once all that was posted is stored."""
        if not self._idle:
            return
        drained = not self.engine.jobs
        idle = drained or (not self.alloc.pending and not any(job.state & RUNNING for job in self.engine.jobs.values()))
        due = [(request, drain) for request, drain in self._idle if (drained if drain else idle)]
        if not due:
            return
        self._idle = [entry for entry in self._idle if entry not in due]
        left = {"pending": len(self.engine.jobs)}

        def stored() -> None:
            for request, drain in due:
                self.handle.respond(request, None if drain else left)

        self.batch.after(stored)

    def forget_idle(self, who: bytes) -> None:
        """Somebody has gone."""
        self._idle = [entry for entry in self._idle if sender(entry[0]) != who]

    def refuse_waiting(self) -> None:
        """The module ends: nobody waits any more."""
        requests = [*self.waits.take_all(), *(request for request, _ in self._idle)]
        self._idle = []
        self.refuse(requests)

    # Purge.

    @request_handler("purge")
    def purge(self, msg: Message) -> None:
        """Forgets jobs that have ended, the oldest first. Answers `{"count": i}`: how many, or could be."""
        request = decode(msg, PurgeRequest)
        if request.age_limit < 0 and request.age_limit != -1:
            raise OSError(errno.EINVAL, "if set, age limit must be >= 0")
        if request.num_limit < -1:
            raise OSError(errno.EINVAL, "if set, num limit must be >= 0")
        if not 1 <= request.batch <= _BATCH:
            raise OSError(errno.EINVAL, f"batch must be >= 1 and <= {_BATCH}")
        count = self.pasts.eligible(request.age_limit, request.num_limit, time())
        if not request.force:
            self.handle.respond(msg, {"count": count})
            return
        jobids = self.pasts.oldest(min(count, request.batch))
        self._purge(jobids, lambda: self.handle.respond(msg, {"count": len(jobids)}))

    @request_handler("purge-id")
    def purge_id(self, msg: Message) -> None:
        """Forgets one job. Answers `{"count": 1}`."""
        request = decode(msg, PurgeIdRequest)
        if request.id == -1:
            raise OSError(errno.EINVAL, "id must be that of a job")
        if request.id in self.engine.jobs:
            raise OSError(errno.EINVAL, "cannot purge active job")
        if request.id not in self.pasts.jobs:
            raise OSError(errno.ENOENT, "id not found")
        if not request.force:
            self.handle.respond(msg, {"count": 1})
            return
        self._purge([request.id], lambda: self.handle.respond(msg, {"count": 1}))

    def _purge(self, jobids: list[int], then: Any) -> None:
        """Forgets jobs, everywhere; directories that held nothing but them go too."""
        for jobid in jobids:
            self.plugins.forgotten(self.pasts.jobs.pop(jobid))
            self.waits.zombies.pop(jobid, None)
            self.batch.forget(kvs(jobid))  # or what is appended would come after its end
        for key in self.directories.remove(jobids, self.max_jobid):
            self.batch.add(key, None)
        if self.max_jobid in jobids:
            self.save_checkpoint()

        def unlinked() -> None:
            if jobids:
                self.send_event("job-purge-inactive", {"jobs": jobids})
            then()

        self.batch.after(unlinked)

    @event_handler("heartbeat.pulse", prefix=False)
    def pulse(self, msg: Message) -> None:
        """Purges what the configuration lets go."""
        if self.loading or (self._purge_limits.age < 0 and self._purge_limits.number < 0):
            return
        count = self.pasts.eligible(self._purge_limits.age, self._purge_limits.number, time())
        if count:
            self._purge(self.pasts.oldest(min(count, _BATCH)), lambda: None)

    def save_checkpoint(self) -> None:
        """Stores what a restart cannot find in the logs of jobs (spec 06, 11.2)."""
        checkpoint = {"version": 1, "max_jobid": self.max_jobid, "queue": self.queues.save()}
        self.batch.add("checkpoint.job-manager", msgspec.json.encode(checkpoint))

    # Plugins.

    @request_handler("jobtap")
    def jobtap(self, msg: Message) -> None:
        """Payload `{"load"?: s, "conf"?, "remove"?: s, "query_only"?: b}`. Removes first; see spec 06, section 16."""
        request = decode(msg, JobtapRequest)
        if request.query_only:
            self.handle.respond(msg, {"plugins": self.plugins.names()})
            return
        if request.remove is not None:
            self.plugins.remove(request.remove)
        if request.load is not None:
            self.plugins.load(request.load, request.conf)
        self.handle.respond(msg)

    def load_configured_plugins(self) -> None:
        """Does what `[[job-manager.plugins]]` says. Raises OSError."""
        for entry in self._configured:
            if "remove" in entry:
                self.plugins.remove(str(entry["remove"]))
            if "load" in entry:
                self.plugins.load(str(entry["load"]), entry.get("conf"))

    @request_handler("jobtap-query")
    def jobtap_query(self, msg: Message) -> None:
        """Payload `{"name": s}`. Answers what the plugin tells about itself."""
        self.handle.respond(msg, self.plugins.query(decode(msg, QueryRequest).name))

    @request_handler("post-event.post")
    def post_event(self, msg: Message) -> None:
        """Payload `{"id", "name", "context"?}`: posts an event of any name."""
        request = decode(msg, PostRequest)
        job = self.find(request.id, errno.ENOENT, "unknown job id")
        try:
            self.engine.post_foreign(job, request.name, request.context)
        except ValueError as exc:
            raise OSError(errno.EINVAL, str(exc)) from None
        self.journal.flush()
        self.handle.respond(msg)

    @request_handler("set-batch-timeout")
    def set_batch_timeout(self, msg: Message) -> None:
        """Payload `{"timeout": seconds}`. There is no such timer here (spec 06, 18.2): nothing changes."""
        if decode(msg, TimeoutRequest).timeout < 0:
            raise OSError(errno.EINVAL, "timeout must not be negative")
        self.handle.respond(msg)


def _invalid(call: Any, *args: Any) -> Any:
    """Calls something whose ValueErrors are EINVAL."""
    try:
        return call(*args)
    except ValueError as exc:
        raise OSError(errno.EINVAL, str(exc)) from None
