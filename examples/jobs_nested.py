"""Instances as jobs: run it with `flux start python examples/jobs_nested.py`.

    this program -> two batch jobs, each an instance of its own with jobs of its own
                 -> an instance without a program, which this one connects to

The outer instance has three jobs to look after, whatever happens in them: each has its own scheduler, KVS and ids.
What a script leaves in the KVS of its *job* (`flux --parent kvs put`) is there for the outer program when the instance
has gone.
"""

from __future__ import annotations

import flux
import flux.job
from flux.job import JobspecV1
from flux.uri import FluxURIResolver

SCRIPT = """#!/bin/sh
flux submit --quiet --wait --cc=1-4 sh -c 'test $FLUX_JOB_CC -le $1' step $1
flux --parent kvs put level=$(flux getattr instance-level) succeeded=$(flux jobs -n -f completed -o '{id}' | wc -l)
"""


def ensemble(name: str, steps: int) -> JobspecV1:
    """A batch job: as ``flux batch -n1 --job-name=NAME``."""
    jobspec: JobspecV1 = JobspecV1.from_batch_command(SCRIPT, name, args=[str(steps)], num_slots=1)
    return jobspec


def main() -> None:
    with flux.Flux() as h:
        jobs = {name: flux.job.submit(h, ensemble(name, steps)) for name, steps in (("all", 4), ("some", 2))}
        for name, jobid in jobs.items():
            outcome = flux.job.result(h, jobid).result
            left = flux.job.job_kvs_guest(h, jobid)
            print(f"{name}: {outcome}; at level {left['level']}, {left['succeeded']} of 4 steps succeeded")

        # As `flux alloc -n1 --bg`.
        jobid = flux.job.submit(h, JobspecV1.from_alloc(nslots=1, bg=True))
        flux.job.event_wait(h, jobid, "memo")
        with flux.Flux(FluxURIResolver().resolve(f"jobid:{jobid}").nearest) as inner:
            inner.rpc("state-machine.wait").get()
            step = flux.job.submit(inner, JobspecV1.from_command(["true"]))
            print(f"a job of that instance: {flux.job.result(inner, step).result}")
            print(f"it is a job itself: {inner.attr_get('jobid') == str(jobid)}")
        flux.job.cancel(h, jobid)
        print(f"and that has ended: {flux.job.result(h, jobid).result}")


if __name__ == "__main__":
    main()
