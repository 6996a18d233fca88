"""What is measured of the KVS, inside an instance: `flux start python kvs.py NAME [N]` prints one JSON object.

Only the public API of the `flux` package is used, so the same file runs under another Flux (`--reference`). Beside
the rate stands the CPU time that the broker took for one, which other load on the machine changes less; best of
some rounds.
"""

import json
import os
import subprocess
import sys
import time

import flux
import flux.kvs

TICKS = os.sysconf("SC_CLK_TCK")
ROUNDS = 3


class Broker:
    """The broker's process."""

    def __init__(self, handle):
        self.pid = int(handle.attr_get("broker.pid"))

    def cpu(self):
        """Seconds of CPU so far."""
        with open(f"/proc/{self.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_mb(self):
        """Megabytes of memory."""
        with open(f"/proc/{self.pid}/status") as status:
            return int(status.read().split("VmRSS:")[1].split()[0]) / 1024


def rate(handle, count, body, rounds=ROUNDS):
    """Runs `body()`, which does something `count` times, some rounds; the best wall time counts."""
    broker = Broker(handle)
    best, cpu = float("inf"), float("inf")
    for _ in range(rounds):
        before, start = broker.cpu(), time.perf_counter()
        body()
        best = min(best, time.perf_counter() - start)
        cpu = min(cpu, broker.cpu() - before)
    return {"per_second": count / best, "ms": best * 1e3, "broker_us": cpu / count * 1e6}


def kvs_commit(count=2000):
    """Put and commit of a small value, each waited for; 100 keys of one directory."""
    handle = flux.Flux()

    def body():
        for number in range(count):
            flux.kvs.put(handle, f"b.k{number % 100}", number)
            flux.kvs.commit(handle)

    return rate(handle, count, body)


def kvs_pipelined(count=4000):
    """The same without waiting: appends to the eventlogs of 300 jobs, as the job manager makes them."""
    handle = flux.Flux()
    dirent = {"ver": 1, "type": "val", "data": "eyJ0aW1lc3RhbXAiOjE3OTU3ODE2NDYuMzE0NTY4LCJuYW1lIjoic3VibWl0In0K"}

    def body():
        futures = []
        for number in range(count):
            key = f"job.0000.00{number % 300 // 64:02x}.{number % 300:04x}.0000.eventlog"
            ops = [{"key": key, "flags": 32, "dirent": dirent}]
            futures.append(handle.rpc("kvs.commit", {"namespace": "primary", "flags": 0, "ops": ops}))
        for future in futures:
            future.get()

    return rate(handle, count, body)


def kvs_commit_8(count=4000):
    """Put and commit, each waited for, by eight clients at once."""
    handle = flux.Flux()
    code = f"""
import sys, flux, flux.kvs
handle = flux.Flux()
sys.stdin.readline()
for number in range({count // 8}):
    flux.kvs.put(handle, f"c{{sys.argv[1]}}.k{{number % 100}}", number)
    flux.kvs.commit(handle)
"""
    clients = []

    def body():
        for client in clients:
            client.stdin.write(b"go\n")
            client.stdin.close()
        for client in clients:
            client.wait()

    results = []
    for _ in range(ROUNDS):
        clients = [
            subprocess.Popen([sys.executable, "-c", code, str(number)], stdin=subprocess.PIPE) for number in range(8)
        ]
        time.sleep(1.0)  # they have connected
        results.append(rate(handle, count, body, rounds=1))
    return max(results, key=lambda result: result["per_second"])


def kvs_get(count=5000):
    """Get of a small value, each waited for."""
    handle = flux.Flux()
    for number in range(100):
        flux.kvs.put(handle, f"b.k{number}", number)
    flux.kvs.commit(handle)

    def body():
        for number in range(count):
            flux.kvs.get(handle, f"b.k{number % 100}")

    return rate(handle, count, body)


def kvs_batch(count=5000):
    """One commit of 5,000 puts: staged, and committed."""
    handle = flux.Flux()

    def body():
        txn = flux.kvs.KVSTxn(handle)
        for number in range(count):
            txn.put(f"batch.k{number}", number)
        txn.commit()

    return rate(handle, count, body)


def kvs_values(count=100):
    """Values of 100 B, 100 kB and 10 MB: put and committed, and got, a second."""
    handle = flux.Flux()
    found = {}
    for name, size, times in (("100B", 100, 5 * count), ("100kB", 100_000, count), ("10MB", 10_000_000, 3)):
        values = [os.urandom(size // 2).hex().encode() for _ in range(times)]
        start = time.perf_counter()
        for number, value in enumerate(values):
            flux.kvs.put(handle, f"sz.s{size}.k{number}", value, raw=True)
            flux.kvs.commit(handle)
        put = time.perf_counter()
        for number in range(times):
            flux.kvs.get_key_direct(handle, f"sz.s{size}.k{number}")
        got = time.perf_counter()
        found[f"put_{name}"], found[f"get_{name}"] = times / (put - start), times / (got - put)
    return found


def kvs_watch(count=50):
    """A key watched by 100 clients: values that all of them have heard, a second, times 100."""
    handle = flux.Flux()
    flux.kvs.put(handle, "watched", 0)
    flux.kvs.commit(handle)
    watchers = [flux.kvs.kvs_watch_async(flux.Flux(), "watched") for _ in range(100)]
    for watcher in watchers:
        watcher.get()

    def body():
        for number in range(count):
            flux.kvs.put(handle, "watched", number)
            flux.kvs.commit(handle)
            for watcher in watchers:
                watcher.get()

    result = rate(handle, 100 * count, body)
    for watcher in watchers:
        watcher.cancel(stop=True)
    return result


def kvs_list(count=10_000):
    """A directory of 10,000 keys: made in one commit, listed, and one of its keys overwritten."""
    handle = flux.Flux()
    start = time.perf_counter()
    txn = flux.kvs.KVSTxn(handle)
    for number in range(count):
        txn.put(f"big.k{number:05d}", number)
    txn.commit()
    made = time.perf_counter() - start
    listing = rate(handle, 1, lambda: list(flux.kvs.get_dir(handle, "big")))

    def overwrite():
        for number in range(100):
            flux.kvs.put(handle, f"big.k{number * 37:05d}", "new")
            flux.kvs.commit(handle)

    over = rate(handle, 100, overwrite)
    return {"ms": listing["ms"], "made_ms": made * 1e3, "overwrites_per_second": over["per_second"]}


def kvs_memory(count=1_000_000):
    """The broker's memory after many overwrites of 1,000 keys."""
    handle = flux.Flux()
    broker = Broker(handle)
    before = broker.rss_mb()
    peak = before
    for start in range(0, count, 5000):
        futures = []
        for number in range(start, start + 5000):
            flux.kvs.put(handle, f"over.k{number % 1000}", number)
            futures.append(flux.kvs.commit_async(handle))
        for future in futures:
            future.get()
        peak = max(peak, broker.rss_mb())
    return {"after_mb": broker.rss_mb(), "before_mb": before, "peak_mb": peak}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*map(int, sys.argv[2:]))))
