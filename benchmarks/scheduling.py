"""What scheduling costs: CPU time of an allocation and of what comes back.

    python benchmarks/scheduling.py           the core alone, and the module in an instance; JSON

- core: the planner, with few and with 10,000 jobs waiting, on 1 and 1,000 nodes, in order and with backfill.
- module: sched.alloc, R in the KVS, the answer and sched.free, in an instance whose job manager is this program: CPU
  time of the broker for each job, the KVS and the messages included.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

import flux
from flux.constants import FLUX_MSGTYPE_REQUEST, FLUX_MSGTYPE_RESPONSE
from flux.core import fluid
from flux.message import Message
from flux.resource._pool import Need, Pool
from fluxlet.modules.sched.line import Pending, Shape
from fluxlet.modules.sched.planner import BACKFILL, FIFO, Planner

CONFIG = "[fake-resources]\nnnodes = 1000\ncores-per-node = 64\n"
WITHOUT = "job-manager,job-exec,job-ingest,job-list,job-info,job-shell,sched-simple"


def core(nodes: int, waiting: int, policy: str, jobs: int = 20000) -> float:
    """Microseconds of CPU for each job, on `nodes` nodes of 64 cores, while `waiting` more wait."""
    pool = Pool(dict.fromkeys(range(nodes), ((1 << 64) - 1, 0)))
    pool.up = pool.ranks
    planner = Planner(pool, policy)
    shape = Shape(Need(0, 0, 1, 1, 1, 0, False), pool.ranks)
    last = 0

    def more(count: int) -> None:
        nonlocal last
        for _ in range(count):
            last += 1
            planner.add(Pending(last, 16, shape, 60.0))

    more(nodes * 64 + waiting)
    running = deque(start.job.jobid for start in planner.run(0.0))
    began, done = time.process_time(), 0
    while done < jobs:
        for _ in range(32):
            pool.free(running.popleft())
        planner.unsettle()
        more(32)
        running.extend(start.job.jobid for start in planner.run(0.0))
        done += 32
    return (time.process_time() - began) / done * 1e6


class JobManager:
    """Plays the job manager: asks for resources for jobs, gives them back."""

    def __init__(self) -> None:
        self.handle = flux.Flux()
        self._jobs = 0
        self.handle.service_register("job-manager").get()
        resources = [{"type": "slot", "count": 1, "label": "task", "with": [{"type": "core", "count": 1}]}]
        self.jobspec = {"version": 1, "resources": resources, "tasks": [], "attributes": {"system": {"duration": 60}}}
        self.handle.rpc("module.load", {"path": "sched-simple", "args": ["queue-depth=unlimited"]}).get()
        hello = self._request("job-manager.sched-hello")
        self.handle.respond_error(hello, 61, "")
        self.handle.respond(self._request("job-manager.sched-ready"), {"count": 0})

    def _request(self, topic: str) -> Message:
        return self.handle.recv(FLUX_MSGTYPE_REQUEST, topic_glob=topic)

    def _send(self, topic: bytes, payload: Any) -> None:
        message = Message.request(topic, None)
        message.payload = payload
        self.handle.send(message)

    def run(self, jobs: int, outstanding: int) -> None:
        """Runs jobs, so many at a time."""
        asked = answered = 0
        while answered < jobs:
            while asked < jobs and asked - answered < outstanding:
                asked += 1
                self._jobs += 1
                # As ids of 3,000 jobs a second are.
                jobid = fluid.make(self._jobs // 3, 0, self._jobs % 3)
                job = {"id": jobid, "priority": 16, "userid": 0, "t_submit": 0.0, "jobspec": self.jobspec}
                self._send(b"sched.alloc", job)
            told = self.handle.recv(FLUX_MSGTYPE_RESPONSE, topic_glob="sched.alloc").payload
            answered += 1
            self._send(b"sched.free", {"id": told["id"], "R": told["R"], "final": True})

    def cpu(self) -> float:
        """Seconds of CPU that the broker has used."""
        usage = self.handle.rpc("broker.rusage").get()
        return float(usage["utime"] + usage["stime"])


def module() -> dict[str, float]:
    """In an instance: microseconds of the broker's CPU for each job, and jobs a second."""
    manager = JobManager()
    manager.run(500, 64)
    figures = {}
    for outstanding in (1, 64):
        jobs = 300 if outstanding == 1 else 5000
        began, used = time.perf_counter(), manager.cpu()
        manager.run(jobs, outstanding)
        figures[f"module_us_{outstanding}"] = (manager.cpu() - used) / jobs * 1e6
        figures[f"module_per_second_{outstanding}"] = jobs / (time.perf_counter() - began)
    return figures


def measure(flux_command: Path) -> dict[str, float]:
    """All figures."""
    figures = {
        f"core_us_{nodes}_nodes_{waiting}_waiting_{policy}": core(nodes, waiting, policy)
        for nodes in (1, 1000)
        for waiting in (8, 10000)
        for policy in (FIFO, BACKFILL)
    }
    with tempfile.TemporaryDirectory(prefix="flux-bench-") as directory:
        config = Path(directory, "config.toml")
        config.write_text(CONFIG)
        command = [str(flux_command), "start", f"-c{config}", sys.executable, __file__, "inside"]
        environ = {**os.environ, "FLUX_MODPROBE_DISABLE": WITHOUT}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environ)
    return figures | json.loads(done.stdout)


if __name__ == "__main__":
    if sys.argv[1:] == ["inside"]:
        print(json.dumps(module()))
    else:
        print(json.dumps(measure(Path(sys.executable).parent / "flux"), indent=1))
