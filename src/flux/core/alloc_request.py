"""A job that waits for resources, as schedulers in Python see it (spec 07, 3.2 and 8.4): part of `flux.scheduler`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flux.resource.ResourceSet import ResourceSet

if TYPE_CHECKING:
    from flux.message import Message
    from flux.scheduler import Scheduler

#: Types of the answers to sched.alloc.
SUCCESS, ANNOTATE, DENY, CANCEL = range(4)


def r_of(R: Any) -> dict[str, Any]:
    """R as a dict, of whatever has a `to_dict`, or is one."""
    r: dict[str, Any] = R if isinstance(R, dict) else R.to_dict()
    return r


class AllocRequest:
    """A job's request for resources, to be answered once; until then it may be annotated.

    Args:
        scheduler: whose request it is.
        msg: the request.
    """

    def __init__(self, scheduler: Scheduler, msg: Message) -> None:
        self._scheduler = scheduler
        self._msg = msg
        self._jobid = int(msg.payload["id"])
        self._annotated: dict[str, None] = {}
        self._answered = False

    @property
    def jobid(self) -> int:
        """The job's id."""
        return self._jobid

    def _answer(self) -> bool:
        """True for the first answer."""
        first, self._answered = not self._answered, True
        return first

    def success(self, R: Any, annotations: Any = None, clear: bool = True) -> None:
        """The job gets resources.

        Args:
            R: what `ResourcePool.alloc` has returned, or R as a dict.
            annotations: of the job, ``{"sched": {...}}``; None: a summary of the resources.
            clear: take back what `annotate` has said.
        """
        if not self._answer():
            return
        if annotations is None:
            annotations = {"sched": {"resource_summary": ResourceSet(r_of(R)).dumps()}}
        if clear and self._annotated:
            annotations = {**annotations, "sched": {**self._annotated, **annotations.get("sched", {})}}
        self._scheduler.alloc_success(self._msg, R, annotations)

    def deny(self, note: str | None = None) -> None:
        """The job will never get any; `note` says why."""
        if self._answer():
            self._scheduler.alloc_deny(self._msg, note)

    def cancel(self) -> None:
        """The job does not want any more."""
        if self._answer():
            self._scheduler.alloc_cancel(self._msg)

    def annotate(self, annotations: dict[str, Any]) -> None:
        """Tells users something of a job that waits, ``{"sched": {...}}``; ignored once it is answered."""
        if not self._answered:
            for key, value in annotations.get("sched", {}).items():
                if value is None:
                    self._annotated.pop(key, None)
                else:
                    self._annotated[key] = None
            self._scheduler.alloc_annotate(self._msg, annotations)


class PendingJob:
    """A job that waits; jobs are ordered by priority, highest first, then by id.

    Args:
        jobid, priority, t_submit: of the job; the time in seconds since the epoch.
        request: its AllocRequest.
        resource_request: what it asks for, as the pool's `parse_resource_request` has it.
    """

    def __init__(
        self, jobid: int, priority: int, t_submit: float, request: AllocRequest, resource_request: Any
    ) -> None:
        self._jobid = jobid
        self._priority = priority
        self._t_submit = t_submit
        self._request = request
        self._resource_request = resource_request

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PendingJob):
            return NotImplemented
        return (self._priority, self._jobid) == (other._priority, other._jobid)

    def __lt__(self, other: PendingJob) -> bool:
        return (-self._priority, self._jobid) < (-other._priority, other._jobid)

    @property
    def jobid(self) -> int:
        """The job's id."""
        return self._jobid

    @property
    def priority(self) -> int:
        """The higher, the earlier."""
        return self._priority

    @property
    def t_submit(self) -> float:
        """When it was submitted, seconds since the epoch."""
        return self._t_submit

    @property
    def request(self) -> AllocRequest:
        """What is to be answered."""
        return self._request

    @property
    def resource_request(self) -> Any:
        """What it asks for."""
        return self._resource_request
