"""Follow a job's events, and look at lists of jobs: run it with `flux start python examples/jobs_status.py`.

What happens to a job is written to its eventlog. It can be followed while it grows, or read when the job is long gone:
the events are the same. Lists show what jobs are at the moment, by state, name, queue and more.
"""

from __future__ import annotations

import flux
from flux.job import JobList, JobspecV1, event_watch, job_output, submit
from flux.job.stats import JobStats


def main() -> None:
    with flux.Flux() as h:
        greeting = JobspecV1.from_command(["sh", "-c", "echo hello from $FLUX_TASK_RANK"], name="greeting")
        jobid = submit(h, greeting)
        held = submit(h, greeting, urgency=0)

        for event in event_watch(h, jobid):
            if event.name in ("alloc", "start", "finish", "clean"):
                print(event.name)
        print(job_output(h, jobid).stdout, end="")

        for job in JobList(h, filters=["pending", "inactive"], attrs=["all"]).jobs():
            print(f"{job.name} {job.status_abbrev} {job.contextual_info if job.id == held else job.inactive_reason}")
        stats = JobStats(h).update_sync()
        print(f"{stats.successful} successful, {stats.pending} pending")
        flux.job.cancel(h, held)


if __name__ == "__main__":
    main()
