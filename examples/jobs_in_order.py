"""Submit jobs and wait for them in order: run it with `flux start python examples/jobs_in_order.py`.

All jobs are submitted first, and run as resources allow. `wait` is then called for one after the other: the results
come in the order of submission, whatever the order in which the jobs end. Only jobs that are submitted with
`waitable=True` can be waited for like this, and each once.
"""

from __future__ import annotations

import flux
from flux.job import JobspecV1, submit, wait

COMMANDS = ["exit 0", "sleep 0.2", "exit 3", "kill -9 $$"]


def main() -> None:
    with flux.Flux() as h:
        specs = {command: JobspecV1.from_command(["sh", "-c", command]) for command in COMMANDS}
        jobs = {submit(h, jobspec, waitable=True): command for command, jobspec in specs.items()}
        for jobid, command in jobs.items():
            result = wait(h, jobid)
            print(f"{command}: {'success' if result.success else result.errstr.decode()}")


if __name__ == "__main__":
    main()
