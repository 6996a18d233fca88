"""An ensemble with dependencies: run it with `flux start python examples/jobs_ensemble.py`.

    prepare -> four members -> collect           if all of the members are a success
                            -> report            if one of them is not

A dependency is part of a job's spec: it waits, in the instance, until the jobs it names have ended as it wants.
One that can never be fulfilled any more ends its job with an exception.
"""

from __future__ import annotations

import flux
from flux.job import JobID, JobspecV1, result, submit


def job(h: flux.Flux, name: str, command: str, after: list[str] | None = None) -> JobID:
    """Submits a shell command that depends on other jobs, as ``afterok:ID`` for one."""
    jobspec = JobspecV1.from_submit(["sh", "-c", command], name=name, dependency=after or [])
    return submit(h, jobspec)


def main() -> None:
    with flux.Flux() as h:
        prepare = job(h, "prepare", "true")
        members = [job(h, f"member-{n}", f"test {n} -ne 3", [f"afterok:{prepare}"]) for n in range(4)]
        collect = job(h, "collect", "true", [f"afterok:{member}" for member in members])
        report = job(h, "report", "true", [f"afterany:{member}" for member in members])
        for jobid in (prepare, *members, report, collect):
            info = result(h, jobid)
            name = flux.job.get_job(h, jobid)["name"]
            why = f" ({info.exception.type})" if info.exception.occurred else ""
            print(f"{name}: {info.result}{why}")


if __name__ == "__main__":
    main()
