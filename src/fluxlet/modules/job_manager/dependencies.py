"""Dependencies on other jobs: afterstart, afterany, afterok, afternotok, afterexcept (RFC 26; spec 06, section 8)."""

from __future__ import annotations

from typing import Any

from flux.core.fluid import parse
from fluxlet.modules.job_manager.engine import Engine
from fluxlet.modules.job_manager.job import Job
from fluxlet.modules.job_manager.jobspec import Dependency
from fluxlet.modules.job_manager.machine import State
from fluxlet.modules.job_manager.past import Past, Pasts

_KINDS = {
    "after": "after-start",
    "afterstart": "after-start",
    "afterany": "after-finish",
    "afterok": "after-success",
    "afternotok": "after-failure",
    "afterexcept": "after-except",
}

DEPRECATED = "dependency scheme 'after' is deprecated, use 'afterstart'"


class Reference:
    """That a job depends on another one."""

    __slots__ = ("description", "job", "kind")

    def __init__(self, job: Job, kind: str, description: str) -> None:
        self.job = job
        self.kind = kind
        self.description = description


def refusal(kind: str, past: Past) -> str | None:
    """Why a dependency on a job that has ended is not satisfied and never will be; None if it is."""
    if kind == "after-finish":
        return None
    if not past.ran or (kind == "after-start" and not past.started):
        return "never started"
    if kind == "after-success" and past.result != "COMPLETED":
        return "failed or was canceled"
    if kind == "after-failure" and past.result == "COMPLETED":
        return "succeeded"
    if kind == "after-except" and not past.excepted:
        return "no exception"
    return None


class After:
    """See the module."""

    SCHEMES = tuple(_KINDS)

    def __init__(self, engine: Engine, pasts: Pasts) -> None:
        self.engine = engine
        self.pasts = pasts
        engine.dependents = self._event

    def add(self, job: Job, dependency: Dependency) -> None:
        """A new job has a dependency. Raises ValueError with the text for the submitter."""
        scheme, value = dependency.scheme, dependency.value
        kind = _KINDS[scheme]
        description = f"{kind}={value}"
        try:
            jobid = parse(value)
        except ValueError:
            raise ValueError(f'dependency: {scheme}: "{value}" is not a valid jobid') from None
        other: Job | Past | None = self.engine.jobs.get(jobid) or self.pasts.jobs.get(jobid)
        if other is None:
            raise ValueError(f"dependency: {scheme}: id {value}: job not found")
        if other.userid != job.userid:
            raise ValueError(f"{scheme}: Permission denied for job {value}")
        if isinstance(other, Past):
            reason = refusal(kind, other)
            if reason == "never started":
                raise ValueError(f"dependency: after: {value} never started")
            if reason == "no exception":
                raise ValueError(f"dependency: {scheme}: job {value}: no exception")
            if reason is not None:
                raise ValueError(f"dependency: {scheme}: job {value} {reason}")
        if scheme == "after":
            self.engine.exception(job, "dependency", 3, DEPRECATED)
        if description in job.dependencies:
            return
        self.engine.add_dependency(job, description)
        if isinstance(other, Past) or (kind == "after-start" and "start" in other.seen):
            self.engine.remove_dependency(job, description)
        else:
            self._refer(other, Reference(job, kind, description))

    def restore(self, job: Job, dependency: Dependency) -> None:
        """A job that was in DEPEND when the job manager ended still has a dependency, or has not."""
        kind = _KINDS[dependency.scheme]
        description = f"{kind}={dependency.value}"
        if description not in job.dependencies:
            return
        jobid = parse(dependency.value)
        other = self.engine.jobs.get(jobid)
        reference = Reference(job, kind, description)
        if other is None:
            past = self.pasts.jobs.get(jobid)
            if past is not None:
                self._decide(reference, past)
            else:
                self._fail(reference, "can never be satisfied")
        elif kind == "after-start" and "start" in other.seen:
            self.engine.remove_dependency(job, description)
        else:
            self._refer(other, reference)

    def _refer(self, other: Job, reference: Reference) -> None:
        if other.dependents is None:
            other.dependents = []
        other.dependents.append(reference)

    def _event(self, other: Job, name: str) -> None:
        """An event of a job on which others depend."""
        if name == "start":
            started = [reference for reference in other.dependents or () if reference.kind == "after-start"]
            other.dependents = [reference for reference in other.dependents or () if reference not in started]
            for reference in started:
                self.engine.remove_dependency(reference.job, reference.description)
        elif other.state is State.INACTIVE:
            references, other.dependents = other.dependents or [], None
            past = self.pasts.jobs[other.id]
            for reference in references:
                if reference.job.state is State.DEPEND:
                    self._decide(reference, past)

    def _decide(self, reference: Reference, past: Past) -> None:
        reason = refusal(reference.kind, past)
        if reason is None:
            self.engine.remove_dependency(reference.job, reference.description)
        elif reason == "never started" and not past.ran:
            self._fail(reference, "job never started")
        else:
            self._fail(reference, "can never be satisfied")

    def _fail(self, reference: Reference, reason: str) -> None:
        self.engine.exception(reference.job, "dependency", 0, f"dependency {reference.description} {reason}")

    def query(self) -> dict[str, Any]:
        """For job-manager.jobtap-query."""
        found = [
            {"id": ref.job.id, "depid": job.id, "type": ref.kind, "description": ref.description}
            for job in self.engine.jobs.values()
            for ref in job.dependents or ()
        ]
        return {"dependencies": found}
