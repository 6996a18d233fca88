"""Submit many jobs at once: run it with `flux start python examples/jobs_bulk.py`.

`submit_async` sends a submission and returns its future: the next one does not wait for the answer. The futures are
asked for the ids afterwards, which are in the order of the submissions. What becomes of each job is asked for in the
same way: with `result_async`, for all of them at once.
"""

from __future__ import annotations

import flux
from flux.job import JobspecV1, result_async, submit_async

JOBS = 200


def main() -> None:
    jobspec = JobspecV1.from_command(["true"])
    # A simulated job: it takes this long, and no process is started.
    jobspec.setattr("system.exec.test.run_duration", "0.001s")
    with flux.Flux() as h:
        submissions = [submit_async(h, jobspec) for _ in range(JOBS)]
        ids = [future.get_id() for future in submissions]
        print(f"{len(set(ids))} jobs, ids in order: {ids == sorted(ids)}")
        results = [future.get_info() for future in [result_async(h, jobid) for jobid in ids]]
        print(f"{sum(info.result == 'COMPLETED' for info in results)} completed")


if __name__ == "__main__":
    main()
