"""What is measured of many ranks, inside an instance of 16 in a binary tree:

    flux start --test-size=16 -Stbon.topo=kary:2 python overlay.py NAME

prints one JSON object. Only the public API of the `flux` package is used, so the same file runs under another Flux
(`--reference`). All brokers are on one machine, with fewer cores than brokers: what is shown is what they cost, not
what a network adds. Rounds are repeated and the best counts: the machines that run this are shared.
"""

import errno
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import flux

ROUNDS = 7
#: A rank at each depth of a binary tree of 16.
DEPTHS = (0, 1, 3, 7, 15)
ENTRANTS = 1000


def uris(handle):
    """The sockets of all ranks."""
    size = int(handle.attr_get("size"))
    asked = [handle.rpc("attr.get", {"name": "local-uri"}, rank) for rank in range(size)]
    return [future.get()["value"] for future in asked]


def overlay_rpc(count=500):
    """One RPC after the other to a rank at each depth: microseconds each, for each level more; then many at once."""
    h = flux.Flux()

    def measure(rank):
        rpc = h.rpc
        start = time.perf_counter()
        for seq in range(count):
            rpc("broker.ping", {"seq": seq}, rank).get()
        return (time.perf_counter() - start) / count * 1e6

    rounds = [[measure(rank) for rank in DEPTHS] for _ in range(ROUNDS)]
    best = [min(column) for column in zip(*rounds)]  # noqa: B905  # the reference's Python may be old
    result = {f"depth_{depth}_us": us for depth, us in enumerate(best)}
    result["us_a_level"] = (best[-1] - best[0]) / (len(best) - 1)
    result["all_ranks_per_second"] = max(pipelined(h) for _ in range(3))
    return result


def pipelined(h, count=5000, window=250):
    """RPCs to all ranks in turn, 250 in flight; RPCs per second."""
    size = int(h.attr_get("size"))
    state = {"sent": 0, "done": 0}

    def send():
        state["sent"] += 1
        h.rpc("broker.ping", {"seq": 1}, state["sent"] % size).then(answered)

    def answered(future):
        future.get()
        state["done"] += 1
        if state["sent"] < count:
            send()
        elif state["done"] == count:
            h.reactor_stop()

    start = time.perf_counter()
    for _ in range(window):
        send()
    h.reactor_run()
    return count / (time.perf_counter() - start)


def overlay_event(count=200):
    """An event published at rank 0: until a client of each of 16 ranks has it; and many in a row."""
    h = flux.Flux()
    readers = [flux.Flux(uri) for uri in uris(h)]
    for reader in readers:
        reader.event_subscribe("bench")

    def wait(number):
        for reader in readers:
            for _ in range(number):
                reader.event_recv()

    def single():
        taken = []
        for _ in range(count):
            start = time.perf_counter()
            h.event_send("bench.one", {})
            wait(1)
            taken.append((time.perf_counter() - start) * 1e6)
        return statistics.median(taken)

    def row():
        start = time.perf_counter()
        for _ in range(count):
            h.event_send("bench.many", {})
        wait(count)
        return count / (time.perf_counter() - start)

    return {"us": min(single() for _ in range(ROUNDS)), "row_per_second": max(row() for _ in range(ROUNDS))}


def overlay_exec():
    """`flux exec -n true` on all ranks, beside as many processes started from one."""

    def exec_all():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        subprocess.run(["flux", "exec", "-n", "true"], check=True)
        wall = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return wall * 1e3, (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3

    def bare():
        start = time.perf_counter()
        processes = [subprocess.Popen(["true"]) for _ in range(16)]
        for process in processes:
            process.wait()
        return (time.perf_counter() - start) * 1e3

    exec_all()
    rounds = [(*exec_all(), bare()) for _ in range(ROUNDS)]
    wall, cpu, plain = (min(column) for column in zip(*rounds))  # noqa: B905  # as above
    return {"ms": wall, "client_cpu_ms": cpu, "bare_16_processes_ms": plain, "inside_ms": exec_inside()}


def exec_inside(count=10):
    """The same by RPC, from a client that is there already."""
    h = flux.Flux()
    size = int(h.attr_get("size"))
    env = {"PATH": os.environ["PATH"]}
    command = {"cmdline": ["true"], "env": env, "opts": {}, "channels": [], "cwd": "/tmp"}
    taken = []
    for _ in range(count):
        start = time.perf_counter()
        streams = [
            h.rpc("rexec.exec", {"cmd": command, "flags": 3}, rank, flux.constants.FLUX_RPC_STREAMING)
            for rank in range(size)
        ]
        for stream in streams:
            while True:
                try:
                    stream.get()
                except OSError as exc:
                    if exc.errno != errno.ENODATA:
                        raise
                    break
                stream.reset()
        taken.append((time.perf_counter() - start) * 1e3)
    return min(taken)


def overlay_barrier():
    """A barrier that 1,000 clients enter, all over the ranks: from the first entry to the last answer."""
    places = uris(flux.Flux())
    clients = [flux.Flux(places[number % len(places)]) for number in range(ENTRANTS)]
    taken = []
    for number in range(5):
        request = {"name": f"bench{number}", "nprocs": ENTRANTS}
        start = time.perf_counter()
        entered = [client.rpc("barrier.enter", request) for client in clients]
        sent = time.perf_counter()
        try:
            for future in entered:
                future.get()
        except OSError as exc:
            if exc.errno != errno.ENOSYS:
                raise
            return {"ms": float("nan"), "after_last_entry_ms": float("nan")}  # flux-core has none since 0.78
        end = time.perf_counter()
        taken.append(((end - start) * 1e3, (end - sent) * 1e3))
    return {"ms": min(taken)[0], "after_last_entry_ms": min(after for _, after in taken)}


if __name__ == "__main__":
    scenarios = {
        function.__name__: function for function in (overlay_rpc, overlay_event, overlay_exec, overlay_barrier)
    }
    print(json.dumps(scenarios[sys.argv[1]]()))
