"""Jobs that exchange data through the key-value store: run it with `flux start python examples/jobs_kvs.py`.

Each of several jobs puts a value, under a key of its own. This program watches the keys appear, and a last job reads
what the others have put. Values are Python's: anything that JSON can hold. In a job, the default is a namespace that
is the job's own, and is kept with it when it has ended; what is for others goes to the namespace `primary`.
"""

from __future__ import annotations

import sys

import flux
import flux.kvs
from flux.job import JobspecV1, job_output, result, submit

WORKER = """
import sys, flux, flux.kvs
number = int(sys.argv[1])
with flux.Flux() as h:
    flux.kvs.put(h, f"squares.{number}", {"number": number, "square": number * number})
    flux.kvs.commit(h, namespace="primary")
"""

SUM = """
import flux, flux.kvs
with flux.Flux() as h:
    squares = flux.kvs.get_dir(h, "squares", namespace="primary")
    print(sum(value["square"] for value in squares.values()))
"""


def main() -> None:
    with flux.Flux() as h:
        jobs = [submit(h, JobspecV1.from_command([sys.executable, "-c", WORKER, str(n)])) for n in range(1, 5)]
        for number in range(1, 5):
            # Waits until there is such a key.
            found = flux.kvs.kvs_watch_async(h, f"squares.{number}", waitcreate=True)
            print(found.get())
            found.cancel()
        for jobid in jobs:
            result(h, jobid)
        total = submit(h, JobspecV1.from_command([sys.executable, "-c", SUM]))
        print(f"sum: {job_output(h, total).stdout}", end="")


if __name__ == "__main__":
    main()
