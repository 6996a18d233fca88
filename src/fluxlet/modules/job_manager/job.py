"""A job as the job manager knows it, and what each event changes of it. Pure.

`apply` is the only place where an event changes a job: events that are posted and those that are read back from
an eventlog at a restart alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from flux.core.fluid import kvs
from fluxlet.modules.job_manager.jobspec import Spec, updated
from fluxlet.modules.job_manager.machine import FATAL, Action, State, step

DEBUG, WAITABLE, NOVALIDATE = 2, 4, 8

HOLD, DEFAULT, EXPEDITE = 0, 16, 31
MAX_PRIORITY = 4294967295

#: Of `exec`: what the execution service has been told, and has told.
IDLE, STARTING, DONE = range(3)


class Job(msgspec.Struct, eq=False, gc=True):
    """A job that is not yet history.

    `seen` are the names of the events so far; `fatal` is (type, note, wait status) of the first fatal exception.
    `held`: it is being submitted, nothing is done yet; `stored`: its first events are; others may be asked about it.
    `reattach`: it may have been started, in a former life of the instance, without that having been stored.
    """

    id: int
    userid: int
    urgency: int
    flags: int
    t_submit: float
    jobspec: bytes
    spec: Spec
    path: str
    state: State = State.NEW
    priority: int = -1
    R: bytes | None = None
    events: list[bytes] = []
    seen: set[str] = set()
    annotations: dict[str, Any] | None = None
    dependencies: dict[str, None] = {}
    dependents: list[Any] | None = None
    perilogs: dict[str, str] = {}
    fatal: tuple[str, str, int | None] | None = None
    status: int | None = None
    t_clean: float = 0.0
    has_resources: bool = False
    bypass: bool = False
    debug: bool = False
    immutable: bool = False
    queued: bool = False
    pending: bool = False
    held: bool = False
    stored: bool = True
    reattach: bool = False
    free_posted: bool = False
    exec: int = IDLE
    waiting: list[tuple[str, dict[str, Any] | None, bool]] | None = None
    aux: dict[Any, Any] | None = None

    @property
    def active(self) -> bool:
        """Not ended."""
        return self.state != State.INACTIVE

    @property
    def order(self) -> tuple[int, int]:
        """What jobs that wait for resources are ordered by: the first is the smallest."""
        return (-self.priority, self.id)

    @property
    def result(self) -> str:
        """What has become of a job that has ended (spec 06, 5.4): its first fatal exception decides."""
        if self.fatal is None:
            return "COMPLETED" if self.status == 0 else "FAILED"
        return {"cancel": "CANCELED", "timeout": "TIMEOUT"}.get(self.fatal[0], "FAILED")


def new_job(
    jobid: int,
    userid: int,
    urgency: int,
    flags: int,
    t_submit: float,
    jobspec: bytes,
    spec: Spec,
) -> Job:
    """A job as it is when it is submitted."""
    job = Job(jobid, userid, urgency, flags, t_submit, jobspec, spec, kvs(jobid))
    job.debug = bool(flags & DEBUG)
    return job


def exit_code(status: int) -> int:
    """The exit code of a wait status: 128 and the signal's number for what a signal has killed."""
    return status >> 8 if status & 0x7F == 0 else 128 + (status & 0x7F)


def merge(target: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`target` with `changes` merged in, objects member by member; null deletes. Shares nothing that may change."""
    merged = dict(target)
    for key, value in changes.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            old = merged.get(key)
            merged[key] = merge(old if isinstance(old, dict) else {}, value)
        else:
            merged[key] = value
    return merged


def annotate(job: Job, changes: dict[str, Any]) -> None:
    """Merges annotations; none left are None."""
    merged = merge(job.annotations or {}, changes)
    job.annotations = {key: value for key, value in merged.items() if value != {}} or None


# What events change.


def _dependency_add(job: Job, context: dict[str, Any]) -> None:
    job.dependencies[context["description"]] = None


def _dependency_remove(job: Job, context: dict[str, Any]) -> None:
    job.dependencies.pop(context["description"], None)


def _priority(job: Job, context: dict[str, Any]) -> None:
    job.priority = context["priority"]


def _urgency(job: Job, context: dict[str, Any]) -> None:
    job.urgency = context["urgency"]


def _set_flags(job: Job, context: dict[str, Any]) -> None:
    for name in context["flags"]:
        if name == "alloc-bypass":
            job.bypass = True
        elif name == "debug":
            job.debug = True
        elif name == "immutable":
            job.immutable = True


def _memo(job: Job, context: dict[str, Any]) -> None:
    annotate(job, {"user": context})


def _annotations(job: Job, context: dict[str, Any]) -> None:
    job.annotations = context["annotations"]


def _jobspec_update(job: Job, context: dict[str, Any]) -> None:
    job.jobspec, job.spec = updated(job.jobspec, context)


def _resource_update(job: Job, context: dict[str, Any]) -> None:
    if job.R is not None and "expiration" in context:
        R = msgspec.json.decode(job.R)
        R.setdefault("execution", {})["expiration"] = context["expiration"]
        job.R = msgspec.json.encode(R)


def _alloc(job: Job, context: dict[str, Any]) -> None:
    job.has_resources = True
    job.bypass = job.bypass or bool(context.get("bypass"))
    if context.get("annotations"):
        job.annotations = context["annotations"]


def _exception(job: Job, context: dict[str, Any]) -> None:
    if context["severity"] == 0:
        if job.fatal is None:
            job.fatal = (context["type"], context.get("note", ""), context.get("wait_status"))
        if context["type"] == "scheduler-restart":
            job.has_resources = False


def _finish(job: Job, context: dict[str, Any]) -> None:
    job.status = context["status"]


def _release(job: Job, context: dict[str, Any]) -> None:
    if context["final"]:
        job.exec = DONE


def _prolog_start(job: Job, context: dict[str, Any]) -> None:
    job.perilogs[context["description"]] = "prolog"


def _epilog_start(job: Job, context: dict[str, Any]) -> None:
    job.perilogs[context["description"]] = "epilog"


def _perilog_finish(job: Job, context: dict[str, Any]) -> None:
    job.perilogs.pop(context["description"], None)


def _free(job: Job, context: dict[str, Any]) -> None:
    job.has_resources = False
    job.free_posted = True


_CHANGES: dict[str, Callable[[Job, dict[str, Any]], None]] = {
    "dependency-add": _dependency_add,
    "dependency-remove": _dependency_remove,
    "priority": _priority,
    "urgency": _urgency,
    "set-flags": _set_flags,
    "memo": _memo,
    "annotations": _annotations,
    "jobspec-update": _jobspec_update,
    "resource-update": _resource_update,
    "alloc": _alloc,
    "exception": _exception,
    "finish": _finish,
    "release": _release,
    "prolog-start": _prolog_start,
    "epilog-start": _epilog_start,
    "prolog-finish": _perilog_finish,
    "epilog-finish": _perilog_finish,
    "free": _free,
}

#: Events that count from the moment they are posted, though others are before them in the line: what is waited for
#: must not be over before it has begun.
AT_ONCE = {
    "prolog-start": _prolog_start,
    "epilog-start": _epilog_start,
    "dependency-add": _dependency_add,
}


def apply(job: Job, name: str, context: dict[str, Any] | None) -> tuple[Action, ...]:
    """Changes `job` as the event says. Returns what that calls for.

    Raises KeyError and TypeError for an event whose context is not what it must be, which can happen only to one
    that is read back.
    """
    change = _CHANGES.get(name)
    if change is not None:
        change(job, context or {})
    job.seen.add(name)
    key = FATAL if name == "exception" and context and context["severity"] == 0 else name
    job.state, actions = step(job.state, key)
    return actions
