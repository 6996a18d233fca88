"""A job as `job-list` knows it, and its attributes as they are told (spec 08, 2.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from fluxlet.modules.job_list.spec import Spec, Where

NEW, DEPEND, PRIORITY, SCHED, RUN, CLEANUP, INACTIVE = 1, 2, 4, 8, 16, 32, 64
PENDING = DEPEND | PRIORITY | SCHED
RUNNING = RUN | CLEANUP
LISTED = PENDING | RUNNING | INACTIVE

COMPLETED, FAILED, CANCELED, TIMEOUT = 1, 2, 4, 8

_NO_SPEC = Spec()
_encode = msgspec.json.Encoder().encode


class Exc(NamedTuple):
    """The exception that is told of: the first fatal one, or else the most severe."""

    type: str
    severity: int
    note: str


class Job(msgspec.Struct, gc=False, eq=False):
    """A job. What is not known, or not yet, is None.

    Not a thing for the garbage collector, which would walk through a hundred thousand of them: it refers to nothing
    that may refer to it.
    """

    id: int
    userid: int
    urgency: int
    t_submit: float
    state: int = NEW
    #: The states that it has been in.
    been: int = NEW
    priority: int | None = None
    t_depend: float | None = None
    t_priority: float | None = None
    t_sched: float | None = None
    t_run: float | None = None
    t_cleanup: float | None = None
    t_inactive: float | None = None
    spec: Spec = _NO_SPEC
    where: Where | None = None
    expiration: float = 0.0
    waitstatus: int | None = None
    success: bool = False
    exception: Exc | None = None
    result: int = 0
    #: A dict while it may change, then its JSON text.
    annotations: dict[str, Any] | bytes | None = None
    dependencies: list[str] | None = None
    #: The JSON text of the jobspec, while it may change.
    jobspec: bytes | None = None
    #: Forgotten by the job manager; lists drop it when there are many of these.
    purged: bool = False


def _ntasks(job: Job) -> int | None:
    spec, where = job.spec, job.where
    if spec.ntasks is not None or where is None:
        return spec.ntasks
    if spec.per_node is not None:
        return where.nnodes * spec.per_node
    return None if spec.per_core is None else where.ncores * spec.per_core


def _nnodes(job: Job) -> int | None:
    return job.spec.nnodes if job.where is None or job.spec.nnodes is not None else job.where.nnodes


def _of_exception(name: str) -> Callable[[Job], Any]:
    def value(job: Job) -> Any:
        return getattr(job.exception, name) if job.state == INACTIVE and job.exception is not None else None

    return value


def _of_spec(name: str) -> Callable[[Job], Any]:
    at = Spec._fields.index(name)
    return lambda job: job.spec[at]


def _of_job(name: str) -> Callable[[Job], Any]:
    return lambda job: getattr(job, name)


#: What can be asked for; a value of None is not told.
ATTRIBUTES: dict[str, Callable[[Job], Any]] = {
    **{name: _of_job(name) for name in ("userid", "urgency", "priority", "t_submit", "t_depend", "t_priority")},
    **{name: _of_job(name) for name in ("t_sched", "t_run", "t_cleanup", "t_inactive", "state")},
    **{name: _of_spec(name) for name in ("name", "cwd", "queue", "project", "bank")},
    "ntasks": _ntasks,
    "ncores": lambda job: job.spec.ncores if job.where is None else job.where.ncores,
    "duration": _of_spec("duration"),
    "nnodes": _nnodes,
    "ranks": lambda job: None if job.where is None else job.where.ranks,
    "nodelist": lambda job: None if job.where is None else job.where.nodelist,
    "success": lambda job: job.success if job.state == INACTIVE else None,
    "exception_occurred": lambda job: job.exception is not None if job.state == INACTIVE else None,
    "exception_type": _of_exception("type"),
    "exception_severity": _of_exception("severity"),
    "exception_note": _of_exception("note"),
    "result": lambda job: job.result if job.state == INACTIVE else None,
    "expiration": lambda job: None if job.where is None else job.expiration,
    "annotations": lambda job: (
        msgspec.Raw(job.annotations) if isinstance(job.annotations, bytes) else job.annotations or None
    ),
    "waitstatus": _of_job("waitstatus"),
    "dependencies": _of_job("dependencies"),
}

_all = tuple(ATTRIBUTES.items())


class Teller:
    """Tells what is asked for of jobs.

    Args:
        attrs: names of ATTRIBUTES, or ``all``; as in the reference, they are not looked at before there is a job.
    """

    def __init__(self, attrs: Iterable[Any]) -> None:
        self._attrs = attrs
        self._wanted: tuple[tuple[str, Callable[[Job], Any]], ...] | None = None

    def _read(self) -> tuple[tuple[str, Callable[[Job], Any]], ...]:
        wanted: dict[str, Callable[[Job], Any]] = {}
        for name in self._attrs:
            if not isinstance(name, str):
                raise ValueError("attr has no string value")
            if name == "all":
                wanted.update(_all)
            elif name in ATTRIBUTES:
                wanted[name] = ATTRIBUTES[name]
            elif name != "id":
                raise ValueError(f"{name} is not a valid attribute")
        return tuple(wanted.items())

    def tell(self, job: Job) -> bytes:
        """The JSON text of a job. Raises ValueError for an attribute that there is not."""
        if self._wanted is None:
            self._wanted = self._read()
        found: dict[str, Any] = {"id": job.id}
        for name, value_of in self._wanted:
            value = value_of(job)
            if value is not None:
                found[name] = value
        return _encode(found)
