"""What is measured of running jobs, inside an instance: `flux start python shell.py NAME [N]` prints one JSON object.

As in jobs.py, only the public API is used, so that the same file runs under another Flux. Where the processes are ours
their CPU time stands beside the rates: the machines that run this are shared.
"""

import json
import os
import shutil
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


def exec_flood(megabytes=100):
    """A job that writes as fast as it can, and what others notice: the longest of many pings meanwhile."""
    handle = flux.Flux()
    size = megabytes * 1_000_000
    jobspec = flux.job.JobspecV1.from_command(["sh", "-c", f"yes 0123456789012345678901234567890 | head -c {size}"])
    broker = handle.attr_get("broker.pid")
    page = os.sysconf("SC_PAGE_SIZE")

    def resident():
        return int(Path(f"/proc/{broker}/statm").read_text().split()[1]) * page / 1e6

    before, start = resident(), time.perf_counter()
    jobid = flux.job.submit(handle, jobspec, waitable=True)
    ended = flux.job.wait_async(handle, jobid)
    worst = 0.0
    while not ended.is_ready():
        asked = time.perf_counter()
        handle.rpc("broker.ping", {}).get()
        worst = max(worst, time.perf_counter() - asked)
        time.sleep(0.002)
    took = time.perf_counter() - start
    return {"worst_ping_ms": worst * 1e3, "mb_per_second": megabytes / took, "broker_grew_mb": resident() - before}


def main():
    scenario = {"exec_true": exec_true, "exec_simulated": exec_simulated, "exec_flood": exec_flood}[sys.argv[1]]
    print(json.dumps(scenario(*map(int, sys.argv[2:]))))


if __name__ == "__main__":
    main()
