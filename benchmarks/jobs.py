"""What is measured of jobs, inside an instance: `flux start python jobs.py NAME [N]` prints one JSON object.

Only the public API of the `flux` package is used, so the same file runs under another Flux (`--reference`). Beside the
wall-clock time stands the CPU time of this process: the machines that run this are shared.
"""

import asyncio
import json
import math
import os
import statistics
import subprocess
import sys
import time

import flux
import flux.aio
import flux.job
import flux.job.watcher
from flux.job.stats import JobStats


def simulated(name="true"):
    """A job for which no process is started."""
    jobspec = flux.job.JobspecV1.from_command(["true"])
    jobspec.setattr("system.exec.test.run_duration", "0.001s")
    jobspec.setattr("system.job.name", name)
    return jobspec


def broker_mb(handle):
    """The broker's resident memory, in MB."""
    with open(f"/proc/{handle.attr_get('broker.pid')}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def finish(handle, count):
    """Waits until there are that many inactive jobs."""
    while JobStats(handle).update_sync().inactive < count:
        time.sleep(0.02)


def fill(handle, count, window=500):
    """Has `count` simulated jobs run, of a hundred names."""
    specs = [simulated(f"job-{number}") for number in range(100)]
    done = 0
    while done < count:
        batch = min(window, count - done)
        futures = [flux.job.submit_async(handle, specs[(done + n) % 100], waitable=True) for n in range(batch)]
        for future in futures:
            flux.job.submit_get_id(future)
        for _ in range(batch):
            flux.job.wait(handle)
        done += batch


def job_latency(count=100):
    """One real `true`, submitted and waited for, again and again."""
    handle = flux.Flux()
    jobspec = flux.job.JobspecV1.from_command(["true"])
    times = []
    for number in range(count + 5):
        start = time.perf_counter()
        flux.job.wait(handle, flux.job.submit(handle, jobspec, waitable=True))
        if number >= 5:
            times.append((time.perf_counter() - start) * 1e3)
    return {"ms": statistics.median(times), "best_ms": min(times)}


def job_executor(count=200):
    """Real jobs through a FluxExecutor, to their ends."""
    jobspec = flux.job.JobspecV1.from_command(["true"])
    with flux.job.FluxExecutor() as executor:
        executor.submit(jobspec).result()
        start, cpu = time.perf_counter(), time.process_time()
        futures = [executor.submit(jobspec) for _ in range(count)]
        for future in futures:
            future.jobid()
        known = time.perf_counter() - start
        for future in futures:
            assert future.result() == 0
        took = time.perf_counter() - start
        cpu = time.process_time() - cpu
    return {"per_second": count / took, "ids_per_second": count / known, "client_cpu_us": cpu / count * 1e6}


def job_submit_client(count=3000):
    """What a submission costs the client: CPU time, of sending it and of reading the answer."""
    handle = flux.Flux()
    jobspec = simulated()
    for future in [flux.job.submit_async(handle, jobspec, urgency=0) for _ in range(200)]:
        flux.job.submit_get_id(future)
    start, cpu = time.perf_counter(), time.process_time()
    futures = [flux.job.submit_async(handle, jobspec, urgency=0) for _ in range(count)]
    sent = time.process_time() - cpu
    for future in futures:
        flux.job.submit_get_id(future)
    took, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {"cpu_us": cpu / count * 1e6, "sending_cpu_us": sent / count * 1e6, "per_second": count / took}


def broker_cpu(handle):
    """Seconds of CPU time that the broker has used."""
    with open(f"/proc/{handle.attr_get('broker.pid')}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def submissions(handle, count, submit_all):
    """Submissions a second, and microseconds of the broker's CPU for each. The jobs are held: nothing else happens."""
    start, cpu = time.perf_counter(), broker_cpu(handle)
    submit_all(count)
    took, cpu = time.perf_counter() - start, broker_cpu(handle) - cpu
    return count / took, cpu / count * 1e6


def by_wait(handle, jobspec, count):
    """Waitable jobs."""
    for future in [flux.job.submit_async(handle, jobspec, waitable=True) for _ in range(count)]:
        flux.job.submit_get_id(future)
    for _ in range(count):
        flux.job.wait(handle)


def by_result(handle, jobspec, count):
    """`result_async` of each."""
    futures = [flux.job.submit_async(handle, jobspec) for _ in range(count)]
    for future in [flux.job.result_async(handle, future.get_id()) for future in futures]:
        future.get_info()


def by_events(handle, jobspec, count):
    """`event_watch_async` of each."""
    futures = [flux.job.submit_async(handle, jobspec) for _ in range(count)]
    for watch in [flux.job.event_watch_async(handle, future.get_id()) for future in futures]:
        while watch.get_event() is not None:
            pass


def by_executor(handle, jobspec, count):
    """A FluxExecutor."""
    with flux.job.FluxExecutor() as executor:
        for future in [executor.submit(jobspec) for _ in range(count)]:
            future.result()


def by_watcher(handle, jobspec, count):
    """A JobWatcher, as of `flux submit --wait`."""
    watcher = flux.job.watcher.JobWatcher(handle, watch=False).start()
    for _ in range(count):
        flux.job.submit_async(handle, jobspec).then(lambda future: watcher.add_jobid(future.get_id()))
    handle.reactor_run()


def by_asyncio(handle, jobspec, count):
    """`flux.aio`."""

    async def run():
        async with flux.aio.AsyncFlux() as connected:
            await asyncio.gather(*[connected.job.run(jobspec) for _ in range(count)])

    asyncio.run(run())


def job_following(count=500):
    """Simulated jobs followed to their ends: microseconds of CPU a job, of this process and of the broker."""
    handle, jobspec, result = flux.Flux(), simulated(), {}
    for way in (by_wait, by_result, by_events, by_executor, by_watcher, by_asyncio):
        way(handle, jobspec, 20)
        best = {}
        for _ in range(3):
            client, broker = time.process_time(), broker_cpu(handle)
            way(handle, jobspec, count)
            used = {"client_us": time.process_time() - client, "broker_us": broker_cpu(handle) - broker}
            best = {name: min(used[name] / count * 1e6, best.get(name, math.inf)) for name in used}
        result |= {f"{way.__name__}_{name}": value for name, value in best.items()}
    return result


def job_submit(count=1000):
    """Submissions waited for one by one, and many at once."""
    handle = flux.Flux()
    jobspec = flux.job.JobspecV1.from_command(["true"])

    def one_by_one(count):
        for _ in range(count):
            flux.job.submit(handle, jobspec, urgency=0)

    def at_once(count):
        for future in [flux.job.submit_async(handle, jobspec, urgency=0) for _ in range(count)]:
            flux.job.submit_get_id(future)

    at_once(100)
    sync, sync_cpu = max(submissions(handle, count, one_by_one) for _ in range(3))
    bulk, bulk_cpu = max(submissions(handle, 5 * count, at_once) for _ in range(3))
    return {"sync_per_second": sync, "sync_broker_us": sync_cpu, "per_second": bulk, "broker_us": bulk_cpu}


def command_time(words):
    """Seconds that a command takes, and seconds of its CPU time."""
    start, before = time.perf_counter(), os.times()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - start, used


def job_bulksubmit(count=2000, one_by_one=10):
    """`flux bulksubmit` of held jobs, start and all, beside a `flux submit` for each."""
    options = ["--quiet", "--urgency=hold"]
    inputs = [str(number) for number in range(count)]
    command_time(["flux", "submit", *options, "true"])
    single = min(command_time(["flux", "submit", *options, "true"])[0] for _ in range(one_by_one))
    took, cpu = min(command_time(["flux", "bulksubmit", *options, "true", "{}", ":::", *inputs]) for _ in range(3))
    named, named_cpu = min(
        command_time(["flux", "bulksubmit", *options, "--job-name=j{}", "true", ":::", *inputs]) for _ in range(3)
    )
    return {
        "per_second": count / took,
        "cpu_us": cpu / count * 1e6,
        "options_differ_per_second": count / named,
        "options_differ_cpu_us": named_cpu / count * 1e6,
        "single_ms": single * 1e3,
        "times_single": count / took * single,
    }


def first_line(words, attached=None):
    """Milliseconds from the start of a command to the first line of the program in it, which prints the time.

    Args:
        words: of the command, but for the program.
        attached: prints what the program did, given what the command printed; by default the command itself does.
    """
    began = time.time()
    output = subprocess.run([*words, "date", "+%s.%N"], check=True, capture_output=True, text=True).stdout
    if attached is not None:
        output = subprocess.run([*attached, output.strip()], check=True, capture_output=True, text=True).stdout
    return (float(output.split()[0]) - began) * 1e3


def job_nested(count=7):
    """From `flux batch` to the first line of the script, beside the same of `flux start` and `flux run`, in turns."""
    batch = ["flux", "batch", "-n1", "--output=none", "--wrap"]
    rounds = [
        (
            first_line(batch, ["flux", "job", "attach"]),
            first_line(["flux", "start"]),
            first_line(["flux", "run"]),
        )
        for _ in range(count)
    ]
    nested, start, run = (statistics.median(column) for column in zip(*rounds, strict=True))
    return {"ratio": nested / start, "ms": nested, "start_ms": start, "run_ms": run, "over_run": nested / run}


def database_mb(handle):
    """What has been stored, in MB."""
    return handle.rpc("content-sqlite.stats-get").get()["dbfile_size"] / 1e6


def job_list(count=4000):
    """Lists among many inactive jobs: the best of ten, in milliseconds; and the broker's memory with them.

    Caches fill up, too: what a job costs for good is told by the second half of the jobs, if there are many.
    """
    handle = flux.Flux()
    empty, began, cpu = broker_mb(handle), time.perf_counter(), broker_cpu(handle)
    fill(handle, count // 2)
    finish(handle, count // 2)
    half = broker_mb(handle)
    fill(handle, count - count // 2)
    finish(handle, count)
    after, took, cpu = broker_mb(handle), time.perf_counter() - began, broker_cpu(handle) - cpu

    def best(**kwargs):
        times = []
        for _ in range(10):
            start = time.perf_counter()
            flux.job.JobList(handle, attrs=["name", "state"], filters=["inactive"], **kwargs).jobs()
            times.append((time.perf_counter() - start) * 1e3)
        return min(times)

    return {
        "by_name_ms": best(name="job-7", max_entries=10),
        "no_match_ms": best(name="nobody", max_entries=0),
        "first_1000_ms": best(max_entries=1000),
        "jobs": count,
        "empty_mb": empty,
        "broker_mb": after,
        "kb_per_job": (after - empty) * 1e3 / count,
        "second_half_kb_per_job": (after - half) * 1e3 / (count - count // 2),
        "database_mb": database_mb(handle),
        "jobs_per_second": count / took,
        "broker_cpu_us": cpu / count * 1e6,
    }


SCENARIOS = {
    function.__name__: function
    for function in (
        *(
            job_latency,
            job_executor,
            job_following,
            job_submit,
            job_submit_client,
            job_bulksubmit,
            job_nested,
            job_list,
        ),
    )
}


if __name__ == "__main__":
    print(json.dumps(SCENARIOS[sys.argv[1]](*map(int, sys.argv[2:]))))
