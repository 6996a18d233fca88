"""Asking the scheduler for resources: the queue of jobs that wait, and what is outstanding (RFC 27; spec 06, 13). Pure.

Rules:
- The queue is in order of priority, highest first, then of id. What is outstanding is the scheduler's to order.
- Without a limit every job is sent at once. With one, at most `limit` are outstanding, and when a job in the queue
  outranks one of those and there is no room, the lowest is taken back; the better one is sent when that has come.
- A job that ends while its request is outstanding is not waited for; resources that come for it are given back.
- A scheduler that goes, or answers with an error, leaves the jobs it had: they are queued again.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import msgspec

from fluxlet.modules.job_manager.job import Job

SUCCESS, ANNOTATE, DENY, CANCEL = range(4)

_encode = msgspec.json.Encoder().encode


class Scheduler(Protocol):
    """How messages get to the scheduler."""

    def request(self, topic: bytes, payload: bytes) -> None:
        """Sends a request whose response is matched by its topic and id."""

    def tell(self, topic: bytes, payload: bytes) -> None:
        """Sends a request that has no response."""

    def enter(self, job: Job) -> bool:
        """Asks for resources without a message; False if that cannot be done, or is to be refused."""

    def give_back(self, jobid: int, R: bytes, final: bool) -> bool:
        """Gives resources back without a message; False if that cannot be done."""


class Alloc:
    """See the module.

    Args:
        scheduler: how to reach it.
        may_run: whether the queue of a job is started.
    """

    def __init__(self, scheduler: Scheduler, may_run: Callable[[Job], bool]) -> None:
        self.scheduler = scheduler
        self.may_run = may_run
        self.ready = False
        self.limit: int | None = None
        self.queue: dict[int, Job] = {}
        self.pending: dict[int, Job] = {}
        self._heap: list[tuple[int, int]] = []
        self._taken_back: set[int] = set()
        self._owed: list[tuple[int, bytes, bool]] | None = None
        """What has become free since the scheduler was told who holds what, and is not ready yet; None: it was not."""
        self._gathered: list[tuple[int, int]] | None = None

    def enqueue(self, job: Job) -> None:
        """Has a job wait for resources, unless it is held, outstanding, or its queue is stopped."""
        if job.priority == 0 or job.pending or job.bypass or not self.may_run(job):
            return
        if not job.queued:
            job.queued = True
            self.queue[job.id] = job
        heapq.heappush(self._heap, job.order)
        self.pump()

    def take_back(self, job: Job) -> None:
        """A job does not want resources any more, or not yet: out of the queue, or asked back from the scheduler."""
        if job.queued:
            job.queued = False
            del self.queue[job.id]
        if job.pending and job.id not in self._taken_back:
            self._taken_back.add(job.id)
            self.scheduler.tell(b"sched.cancel", b'{"id":%d}\0' % job.id)

    def abandon(self, job: Job) -> None:
        """A job has ended: as `take_back`, and what the scheduler answers is not for it any more."""
        self.take_back(job)
        job.pending = False

    def reorder(self, job: Job) -> None:
        """A job's priority has changed while it waited."""
        if job.priority == 0:
            self.take_back(job)
        elif job.pending:
            self.prioritize(job.id, job.priority)
        else:
            self.enqueue(job)

    def prioritize(self, jobid: int, priority: int) -> None:
        """Tells the scheduler of the new priority of a job it has been asked for."""
        if self._gathered is not None:
            self._gathered.append((jobid, priority))
        else:
            self._tell_priorities([(jobid, priority)])

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is prioritized meanwhile goes out in one message."""
        self._gathered = []
        try:
            yield
        finally:
            gathered, self._gathered = self._gathered, None
            if gathered:
                self._tell_priorities(gathered)

    def _tell_priorities(self, changes: list[tuple[int, int]]) -> None:
        self.scheduler.tell(b"sched.prioritize", _encode({"jobs": changes}) + b"\0")

    def _head(self) -> Job | None:
        """The first in the queue. What the heap has of jobs that are not in it, or elsewhere in it, is dropped."""
        heap = self._heap
        while heap:
            job = self.queue.get(heap[0][1])
            if job is not None and job.order == heap[0]:
                return job
            heapq.heappop(heap)
        return None

    def pump(self) -> None:
        """Sends what may be sent."""
        if not self.ready:
            return
        while (job := self._head()) is not None:
            if self.limit is not None and len(self.pending) >= self.limit:
                self._make_room(job)
                return
            heapq.heappop(self._heap)
            del self.queue[job.id]
            job.queued = False
            job.pending = True
            self.pending[job.id] = job
            if not self.scheduler.enter(job):
                self._request(job)

    def _request(self, job: Job) -> None:
        payload = b'{"id":%d,"priority":%d,"userid":%d,"t_submit":%b,"jobspec":%b}\0'
        self.scheduler.request(
            b"sched.alloc", payload % (job.id, job.priority, job.userid, repr(job.t_submit).encode(), job.jobspec)
        )

    def _make_room(self, better: Job) -> None:
        """Takes the lowest outstanding job back if `better` outranks it and nobody is on the way back already."""
        if self._taken_back:
            return
        priority, jobid = better.priority, better.id
        for job in self.pending.values():
            if job.priority < priority or (job.priority == priority and job.id > jobid):
                self.take_back(max(self.pending.values(), key=lambda job: job.order))
                return

    # What the scheduler says.

    def begin(self, limit: int | None) -> int:
        """The scheduler is ready; `limit` None for no limit. Returns the length of the queue before it was asked."""
        owed = self._owed or []
        self.lose()
        self.limit = limit
        self.ready = True
        for jobid, R, final in owed:
            self.free(jobid, R, final)
        return len(self.queue)

    def greet(self) -> None:
        """The scheduler is being told who holds what."""
        self._owed = []

    def lose(self) -> list[Job]:
        """The scheduler has gone: what was outstanding is queued again. Returns the jobs that were."""
        self.ready = False
        self._owed = None
        lost = list(self.pending.values())
        self.pending.clear()
        self._taken_back.clear()
        for job in lost:
            if job.pending:
                job.pending = False
                self.enqueue(job)
        return lost

    def answered(self, jobid: int) -> Job | None:
        """The scheduler's last word on a request: it is outstanding no more. None: it was not."""
        job = self.pending.pop(jobid, None)
        self._taken_back.discard(jobid)
        return job

    def free(self, jobid: int, R: bytes, final: bool = True) -> None:
        """Gives resources back."""
        if self.ready:
            if self.scheduler.give_back(jobid, R, final):
                return
            final_text = b"true" if final else b"false"
            self.scheduler.request(b"sched.free", b'{"id":%d,"R":%b,"final":%b}\0' % (jobid, R, final_text))
        elif self._owed is not None:
            self._owed.append((jobid, R, final))

    def in_order(self) -> list[Job]:
        """The queue, first come first."""
        return sorted(self.queue.values(), key=lambda job: job.order)
