"""A plugin of the job manager, and a program that tries it: run it with `flux start python examples/jobs_plugin.py`.

The plugin wants a project to be named, lets short jobs go first, and has a kind of dependency of its own: a job that
depends on `quiet` waits until no other job is there.
"""

from __future__ import annotations

import os
from typing import Any

import flux
from flux.job import JobspecV1, event_watch, result, submit


class Plugin:
    """What the job manager calls: see docs/plugins.md."""

    def __init__(self, manager: Any, conf: Any) -> None:
        self.manager = manager
        self.projects = conf["projects"]
        self.quiet: list[Any] = []
        self.ended = 0

    def validate(self, job: Any) -> None:
        project = job.jobspec["attributes"]["system"].get("project")
        if project not in self.projects:
            raise ValueError(f"project must be one of {', '.join(self.projects)}, not {project}")

    def priority(self, job: Any) -> int:
        return 10 if job.jobspec["attributes"]["system"]["duration"] > 60 else 20

    def dependency(self, job: Any, dependency: Any) -> bool:
        if dependency.scheme != "quiet":
            return False
        job.add_dependency("quiet")
        self.quiet.append(job)
        return True

    def inactive(self, job: Any) -> None:
        self.ended += 1
        if len(self.manager.jobs()) == len(self.quiet):
            while self.quiet:
                self.quiet.pop().remove_dependency("quiet")

    def query(self) -> dict[str, Any]:
        return {"ended": self.ended}


def job(project: str, duration: float = 0.0, dependencies: tuple[str, ...] = ()) -> JobspecV1:
    jobspec = JobspecV1.from_command(["true"])
    jobspec.setattr("system.project", project)
    jobspec.duration = duration
    jobspec.setattr("system.dependencies", [{"scheme": scheme, "value": ""} for scheme in dependencies])
    return jobspec


def main() -> None:
    with flux.Flux() as h:
        load = {"load": os.path.abspath(__file__), "conf": {"projects": ["moon", "mars"]}}
        h.rpc("job-manager.jobtap", load).get()
        try:
            submit(h, job("sun"))
        except OSError as exc:
            print("refused:", exc.strerror)
        last = submit(h, job("moon", dependencies=("quiet",)))
        long, short = submit(h, job("mars", 3600.0)), submit(h, job("moon", 10.0))
        for jobid in (long, short):
            print(next(event.context for event in event_watch(h, jobid) if event.name == "priority"))
        print([event.name for event in event_watch(h, last)][:4])
        print(result(h, last).result)
        print(h.rpc("job-manager.jobtap-query", {"name": "jobs_plugin"}).get()["ended"], "jobs have ended")


if __name__ == "__main__":
    main()
