"""What is measured of running jobs, inside an instance: `flux start python shell.py NAME [N]` prints one JSON object.

As in jobs.py, only the public API is used, so that the same file runs under another Flux. Where the processes are ours
their CPU time stands beside the rates: the machines that run this are shared.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import flux
import flux.job

_TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")


def cpu_us(pid):
    """(own, of waited-for children) CPU time of a process, in microseconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system, child_user, child_system = (int(field) * _TICK_US for field in fields[11:15])
    return user + system, child_user + child_system


def shell_pid(handle):
    """Our shell process; None under another Flux."""
    try:
        keeper = handle.rpc("job-shell.stats-get").get()["pid"]
    except OSError:
        return None
    return int(Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()[0])


def run_all(handle, jobspec, count):
    """Submits at once, waits for all; jobs a second."""
    start = time.perf_counter()
    futures = [flux.job.submit_async(handle, jobspec, waitable=True) for _ in range(count)]
    for future in futures:
        future.get_id()
    for _ in range(count):
        flux.job.wait(handle)
    return count / (time.perf_counter() - start)


def bare_spawn(count=300):
    """What the system takes for `true`, one after the other, with nothing around it: (own, of children) in us."""
    path = shutil.which("true")
    before = os.times()
    for _ in range(count):
        os.waitpid(os.posix_spawn(path, ["true"], os.environ), 0)
    after = os.times()
    own = after.user + after.system - before.user - before.system
    children = after.children_user + after.children_system - before.children_user - before.children_system
    return own * 1e6 / count, children * 1e6 / count


def exec_true(count=1000):
    """Real jobs, `true`, one core each: end to end. Beside them, what no Flux can do without."""
    handle = flux.Flux()
    jobspec = flux.job.JobspecV1.from_command(["true"])
    run_all(handle, jobspec, 20)
    broker, shell = handle.attr_get("broker.pid"), shell_pid(handle)
    before = cpu_us(broker), cpu_us(shell) if shell else None
    found = {"per_second": run_all(handle, jobspec, count)}
    found["broker_cpu_us"] = (cpu_us(broker)[0] - before[0][0]) / count
    if shell:
        own, children = cpu_us(shell)
        found["shell_cpu_us"] = (own - before[1][0]) / count
        found["true_cpu_us"] = (children - before[1][1]) / count
    spawn, true = bare_spawn()
    found["bare_spawn_us"], found["bare_true_us"] = spawn, true
    if shell:
        found["over_bare"] = (found["shell_cpu_us"] + found["true_cpu_us"]) / (spawn + true)
    return found


def exec_simulated(count=2000):
    """Jobs that nobody runs, with a duration of a millisecond."""
    handle = flux.Flux()
    jobspec = flux.job.JobspecV1.from_command(["true"])
    jobspec.setattr("system.exec.test.run_duration", "0.001s")
    run_all(handle, jobspec, 20)
    broker = handle.attr_get("broker.pid")
    before = cpu_us(broker)[0]
    rate = run_all(handle, jobspec, count)
    return {"per_second": rate, "broker_cpu_us": (cpu_us(broker)[0] - before) / count}


class Notice:
    """What others notice of a flood: the longest of many pings, and what the broker takes."""

    def __init__(self, handle):
        self.handle = handle
        self.broker = handle.attr_get("broker.pid")
        self.worst = 0.0
        self.start = time.perf_counter()
        self.cpu = cpu_us(self.broker)[0]
        self.before = self.peak = self.resident()

    def resident(self):
        pages = int(Path(f"/proc/{self.broker}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def ping(self):
        asked = time.perf_counter()
        self.handle.rpc("broker.ping", {}).get()
        self.worst = max(self.worst, time.perf_counter() - asked)
        self.peak = max(self.peak, self.resident())
        time.sleep(0.002)

    def found(self, megabytes):
        took = time.perf_counter() - self.start
        return {
            "worst_ping_ms": self.worst * 1e3,
            "mb_per_second": megabytes / took,
            "broker_grew_mb": self.peak - self.before,
            "broker_cpu_ms_mb": (cpu_us(self.broker)[0] - self.cpu) / 1e3 / megabytes,
        }


def flood(megabytes):
    """A command that writes as fast as it can."""
    return ["sh", "-c", f"yes 0123456789012345678901234567890 | head -c {megabytes * 1_000_000}"]


def exec_flood(megabytes=100):
    """A job that writes as fast as it can, and what others notice."""
    handle = flux.Flux()
    notice = Notice(handle)
    jobid = flux.job.submit(handle, flux.job.JobspecV1.from_command(flood(megabytes)), waitable=True)
    ended = flux.job.wait_async(handle, jobid)
    while not ended.is_ready():
        notice.ping()
    return notice.found(megabytes)


def exec_flood_reader(megabytes=150, stopped=0):
    """The same, and `flux run` reads it; after a second it is stopped for so many seconds."""
    handle = flux.Flux()
    subprocess.run(["flux", "run", "true"], check=True)  # what is imported at first is not of the flood
    notice = Notice(handle)
    with (
        subprocess.Popen(["flux", "run", *flood(megabytes)], stdout=subprocess.PIPE) as run,
        subprocess.Popen(["wc", "-c"], stdin=run.stdout, stdout=subprocess.PIPE) as count,
    ):
        run.stdout.close()
        while run.poll() is None:
            running = time.perf_counter() - notice.start
            if stopped:
                run.send_signal(signal.SIGSTOP if 1 < running < 1 + stopped else signal.SIGCONT)
            notice.ping()
        found = notice.found(megabytes)
        if int(count.stdout.read()) != megabytes * 1_000_000:
            raise SystemExit("something was lost")
    return found


def exec_tasks(count=256):
    """Many tasks of one job, and what another job of the rank notices: the longest wait for its shell's service."""
    handle = flux.Flux()
    other = flux.job.submit(handle, flux.job.JobspecV1.from_command(["sleep", "600"]))
    for event in flux.job.event_watch(handle, other):
        if event.name == "start":
            break
    topic = f"{os.getuid()}-shell-{flux.job.JobID(other).f58plain}.proctable"
    jobspec = flux.job.JobspecV1.from_command(["true"])
    jobspec.setattr_shell_option("per-resource", {"type": "core", "count": count})
    waits, took = [], []
    for _ in range(4):
        worst, start = 0.0, time.perf_counter()
        ended = flux.job.wait_async(handle, flux.job.submit(handle, jobspec, waitable=True))
        while not ended.is_ready():
            asked = time.perf_counter()
            handle.rpc(topic, {}).get()
            worst = max(worst, time.perf_counter() - asked)
            time.sleep(0.001)
        waits.append(worst)
        took.append(time.perf_counter() - start)
    flux.job.cancel(handle, other)
    return {"worst_wait_ms": min(waits) * 1e3, "job_ms": min(took) * 1e3}


def main():
    scenarios = (exec_true, exec_simulated, exec_flood, exec_flood_reader, exec_tasks)
    scenario = {scenario.__name__: scenario for scenario in scenarios}[sys.argv[1]]
    print(json.dumps(scenario(*map(int, sys.argv[2:]))))


if __name__ == "__main__":
    main()
