"""The tree of ``flux pstree``: jobs, and below those that are instances what they run (spec 08, 10.5).

An instance that cannot be asked (it is another user's, or has just ended) is a job like any other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from flux.constants import FLUX_JOB_STATE_RUN
from flux.core.handle import Flux
from flux.job._infoparts import _reachable
from flux.job.info import JobInfo, JobInfoFormat, job_fields_to_attrs
from flux.job.list import JobList, job_list_id
from flux.util import Tree

#: What has to be known of a job to see whether it is an instance that runs.
_INSTANCE = {"annotations", "state"}


def _format(text: str) -> JobInfoFormat:
    try:
        return JobInfoFormat(text)
    except ValueError as exc:
        raise ValueError(f"Error in user format: {exc}") from None


class JobTree:
    """Makes trees of jobs.

    Args:
        label, parent_label: formats of the labels of jobs, and of those that are instances.
        details: format of what is printed before the tree; None: nothing.
        filters: names of states and results that jobs have, at any level.
        count: how many jobs of each instance at most.
        combine: equal jobs are one label, ``3*[name]``.

    Attributes:
        errors: a sentence for each job that was asked for and is none.

    Raises ValueError for a format that is none.
    """

    def __init__(
        self,
        label: str,
        parent_label: str,
        details: str | None,
        filters: Collection[str],
        count: int,
        combine: bool,
    ) -> None:
        self._label = _format(label)
        self._parent_label = _format(parent_label)
        self._details = None if details is None else _format(details)
        self._filters = sorted(filters)
        self._count = count
        self._combine = combine
        fields = {*self._label.fields, *self._parent_label.fields, *(self._details.fields if self._details else ())}
        self._attrs = sorted(job_fields_to_attrs(fields) | _INSTANCE)
        self._of_instances = any(field.removeprefix("0.").startswith("instance.") for field in fields)
        self.errors: list[str] = []

    def header(self) -> str:
        """The headings of the details; "" without."""
        return self._details.header() if self._details else ""

    def node(self, label: str, prefix: str = "") -> Tree:
        """A label without anything below it, yet."""
        return Tree(label, prefix, combine_children=self._combine)

    def root(self, handle: Flux, unnamed: str) -> Tree:
        """The instance itself: `unnamed`, unless it is a job whose parent can be asked."""
        job = self._own_job(handle)
        if job is None:
            return self.node(unnamed, " " * len(self.header()))
        return self.node(self._parent_label.format(job), self._prefix(job))

    def _own_job(self, handle: Flux) -> JobInfo | None:
        try:
            parent, jobid = handle.attr_get("parent-uri"), handle.attr_get("jobid")
            with Flux(_reachable(parent)) as above:
                return self._completed(job_list_id(above, jobid, self._attrs).get_jobinfo())
        except (OSError, ValueError):
            return None

    def _completed(self, job: JobInfo) -> JobInfo:
        return job.get_instance_info() if self._of_instances else job

    def _prefix(self, job: JobInfo) -> str:
        return self._details.format(job) if self._details else ""

    def fill(self, node: Tree, handle: Flux, levels: int, ids: Iterable[Any] = ()) -> None:
        """Adds the jobs of an instance below `node`, and for `levels` more levels what is in those.

        Args:
            ids: only these jobs, whatever their state.
        """
        jobs = JobList(handle, attrs=self._attrs, filters=self._filters, ids=ids, max_entries=self._count)
        found = jobs.jobs()
        self.errors += jobs.errors
        for job in found:
            self._add(node, self._completed(job), levels)

    def _add(self, node: Tree, job: JobInfo, levels: int) -> None:
        below = self.node("")
        instance = self._below(below, job, levels - 1)
        below.label = (self._parent_label if instance else self._label).format(job)
        below.prefix = self._prefix(job)
        node.append_tree(below)

    def _below(self, node: Tree, job: JobInfo, levels: int) -> bool:
        """Adds the jobs in `job`, if it is an instance that can be asked; whether it is one."""
        if job.state_id != FLUX_JOB_STATE_RUN or job.uri is None:
            return False
        if levels < 0:
            return True
        try:
            with Flux(_reachable(job.uri)) as handle:
                self.fill(node, handle, levels)
        except OSError:
            return False
        return True
