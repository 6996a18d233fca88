"""Keep a number of jobs in flight: run it with `flux start python examples/jobs_sliding_window.py`.

There may be more to do than should be submitted at once: here at most four jobs are submitted and not ended at any
time. Whenever one ends, the next is submitted.
"""

from __future__ import annotations

import flux
from flux.job import JobspecV1, submit, wait

WINDOW = 4
JOBS = 20


def main() -> None:
    jobspec = JobspecV1.from_command(["true"])
    submitted = done = most = 0
    with flux.Flux() as h:
        while done < JOBS:
            while submitted < JOBS and submitted - done < WINDOW:
                submit(h, jobspec, waitable=True)
                submitted += 1
                most = max(most, submitted - done)
            result = wait(h)
            if not result.success:
                raise SystemExit(result.errstr.decode())
            done += 1
    print(f"{done} jobs, never more than {most} at a time")


if __name__ == "__main__":
    main()
