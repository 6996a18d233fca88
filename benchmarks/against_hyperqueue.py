"""Real `true` jobs end to end, ours beside HyperQueue's, in turns on the same machine in the same minute.

HyperQueue is a task runner in Rust, without Flux's events, store and queries: what this machine can do. It is on PyPI:
`pip install hyperqueue`. Each runs on all cores, one core a job, standard output and error not kept by HyperQueue.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROUNDS = 5
COUNT = 1000


def _ours(flux: Path) -> float:
    shell = Path(__file__).with_name("shell.py")
    command = [str(flux), "start", sys.executable, str(shell), "exec_true", str(COUNT)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(json.loads(done.stdout.splitlines()[-1])["per_second"])


def measure(flux: Path) -> dict[str, Any]:
    """Jobs a second of both, medians; and how many times theirs ours are."""
    from hyperqueue import Job
    from hyperqueue.cluster import LocalCluster, WorkerConfig

    with contextlib.redirect_stdout(sys.stderr), LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=os.cpu_count() or 1))
        client = cluster.client()

        def run(count: int) -> float:
            # Its client looks once a second whether a job has ended; the last task, which comes last, says so at once.
            with tempfile.TemporaryDirectory() as directory:
                end = Path(directory) / "end"
                job = Job()
                for _ in range(count - 1):
                    job.program(["true"], stdout=None, stderr=None)
                job.program(["touch", str(end)], stdout=None, stderr=None)
                start = time.perf_counter()
                submitted = client.submit(job)
                while not end.exists():
                    time.sleep(0.002)
                took = time.perf_counter() - start
                with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
                    client.wait_for_jobs([submitted])  # it has a bar to show
            return count / took

        run(20)
        rounds = [(_ours(flux), run(COUNT)) for _ in range(ROUNDS)]
    ours, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
    return {"ratio": ours / theirs, "per_second": ours, "hyperqueue_per_second": theirs}
