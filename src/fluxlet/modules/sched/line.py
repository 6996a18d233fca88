"""Line: pending jobs in the order in which they are to start. Pure."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from flux.message import Message
from flux.resource._pool import Need

if TYPE_CHECKING:
    from fluxlet.broker.host import Module


class Shape(NamedTuple):
    """What jobs that ask for the same have in common.

    Args:
        need: what they ask for.
        ranks: those that their constraint lets in.
    """

    need: Need
    ranks: int


class Called(NamedTuple):
    """A request that was made by a call.

    Args:
        asker: who has called.
        jobspec: of the job, JSON.
    """

    asker: Module
    jobspec: bytes


class Pending:
    """A job that waits for resources.

    Args:
        jobid: its id.
        priority: the higher, the earlier.
        shape: what it asks for; jobs that ask for the same share one object.
        duration: in seconds; 0: none given.
        request: whose answer the resources are.
    """

    __slots__ = ("annotated", "duration", "jobid", "key", "request", "shape")

    def __init__(
        self, jobid: int, priority: int, shape: Shape, duration: float, request: Message | Called | None = None
    ) -> None:
        self.jobid = jobid
        self.key = (-priority, jobid)
        self.shape = shape
        self.duration = duration
        self.request = request
        self.annotated: float | None = None
        """The start that was foretold, if it was."""


class Line:
    """Pending jobs by priority, those of equal priority by id. To add one at the end, and take the first, is cheap."""

    __slots__ = ("_first", "_keys", "jobs")

    def __init__(self) -> None:
        self._keys: list[tuple[int, int]] = []
        self._first = 0  # what is before it has left
        self.jobs: dict[tuple[int, int], Pending] = {}

    def __len__(self) -> int:
        return len(self.jobs)

    def add(self, job: Pending) -> None:
        """Puts a job where it belongs."""
        keys = self._keys
        if not keys or keys[-1] < job.key:
            keys.append(job.key)
        else:
            insort(keys, job.key, lo=self._first)
        self.jobs[job.key] = job

    def remove(self, job: Pending) -> None:
        """Takes a job out. Raises KeyError if it is not there."""
        del self.jobs[job.key]
        keys, first = self._keys, self._first
        if keys[first] != job.key:
            del keys[bisect_left(keys, job.key, lo=first)]
            return
        self._first = first + 1
        if first > 64 and first * 2 > len(keys):
            del keys[: first + 1]
            self._first = 0

    def first(self) -> Pending | None:
        """Who is first."""
        return self.jobs[self._keys[self._first]] if self.jobs else None

    def __iter__(self) -> Iterator[Pending]:
        """All, in order; the line must not change meanwhile."""
        jobs, keys = self.jobs, self._keys
        for index in range(self._first, len(keys)):
            yield jobs[keys[index]]

    def after(self, key: tuple[int, int] | None) -> Pending | None:
        """The first behind `key`; None: the first of all."""
        keys = self._keys
        index = self._first if key is None else bisect_left(keys, (key[0], key[1] + 1), lo=self._first)
        return self.jobs[keys[index]] if index < len(keys) else None
