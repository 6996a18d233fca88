"""Collect jobs as they end: run it with `flux start python examples/jobs_any_order.py`.

`wait` without a job id returns for whichever waitable job ends next. So results are dealt with as they come, and a
slow job keeps nobody waiting. When no waitable job is left, it raises ChildProcessError.
"""

from __future__ import annotations

import flux
from flux.job import JobspecV1, submit, wait

SECONDS = {"tortoise": "1", "hare": "0"}


def main() -> None:
    with flux.Flux() as h:
        names = {}
        for name, seconds in SECONDS.items():
            jobid = submit(h, JobspecV1.from_command(["sleep", seconds], name=name), waitable=True)
            names[jobid] = name
        while True:
            try:
                result = wait(h)
            except ChildProcessError as exc:
                print(exc.strerror)
                break
            print(f"{names[result.jobid]} has arrived")


if __name__ == "__main__":
    main()
