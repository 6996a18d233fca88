"""What is measured, inside an instance: `flux start python scenarios.py NAME [N]` prints one JSON object.

Only the public API of the `flux` package is used, so the same file runs under another Flux (`--reference`).
Beside each figure stands the limit measured in the same process: a bare ping-pong between two Python processes
over a UNIX socket, without messages or dispatch. Rounds of the two alternate, and the best round of each counts:
the machines that run this are shared, and noise only ever adds.
"""

import json
import os
import socket
import sys
import time

import flux

ROUNDS = 5
PAYLOAD = b"x" * 75  # as long as the frame of a small RPC


class PingPong:
    """A child process that echoes; `measure` gives microseconds for one exchange."""

    def __init__(self):
        self.sock, peer = socket.socketpair()
        self.child = os.fork()
        if self.child == 0:
            self.sock.close()
            while data := peer.recv(4096):
                peer.send(data)
            os._exit(0)
        peer.close()

    def measure(self, count):
        send, recv = self.sock.send, self.sock.recv
        start = time.perf_counter()
        for _ in range(count):
            send(PAYLOAD)
            recv(4096)
        return (time.perf_counter() - start) / count * 1e6

    def close(self):
        self.sock.close()
        os.waitpid(self.child, 0)


def interleave(measure, count):
    """Rounds of `measure(count)` and of the bare ping-pong, in turn; the best of each, in microseconds."""
    pingpong = PingPong()
    try:
        measure(max(1, count // 10))
        pairs = [(measure(count), pingpong.measure(count)) for _ in range(ROUNDS)]
    finally:
        pingpong.close()
    best, bare = (min(column) for column in zip(*pairs, strict=True))
    return {"us": best, "bare_us": bare, "ratio": best / bare}


def sync_rpc(count=5000):
    """One RPC after the other, each waited for."""
    h = flux.Flux()

    def measure(n):
        rpc = h.rpc
        start = time.perf_counter()
        for seq in range(n):
            rpc("broker.ping", {"seq": seq}).get()
        return (time.perf_counter() - start) / n * 1e6

    return interleave(measure, count)


def pipelined_rpc(count=20000, window=250):
    """RPCs with 250 in flight, each answered in a `then` callback that sends the next."""
    h = flux.Flux()

    def measure(n):
        state = {"sent": window, "done": 0}

        def answered(future):
            future.get()
            state["done"] += 1
            if state["sent"] < n:
                state["sent"] += 1
                h.rpc("broker.ping", {"seq": 1}).then(answered)
            elif state["done"] == n:
                h.reactor_stop()

        n = max(n, window)
        start = time.perf_counter()
        for _ in range(window):
            h.rpc("broker.ping", {"seq": 1}).then(answered)
        h.reactor_run()
        return (time.perf_counter() - start) / n * 1e6

    return interleave(measure, count)


def pipelined_get(count=20000, window=250):
    """RPCs with 250 in flight, sent and then got in order."""
    h = flux.Flux()

    def measure(n):
        start = time.perf_counter()
        for _ in range(max(1, n // window)):
            futures = [h.rpc("broker.ping", {"seq": 1}) for _ in range(window)]
            for future in futures:
                future.get()
        return (time.perf_counter() - start) / (max(1, n // window) * window) * 1e6

    return interleave(measure, count)


def asyncio_rpc(count=5000):
    """One awaited RPC after the other, under asyncio."""
    import asyncio

    import flux.aio

    def measure(n):
        async def main():
            async with flux.aio.connect() as h:
                start = time.perf_counter()
                for seq in range(n):
                    await h.rpc("broker.ping", {"seq": seq})
                return (time.perf_counter() - start) / n * 1e6

        return asyncio.run(main())

    return interleave(measure, count)


def events(count=20000):
    """Events from one client to another process, per second."""
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        h = flux.Flux()
        os.read(go[0], 1)
        for _ in range(ROUNDS):
            for number in range(count):
                h.event_send("bench.event", {"n": number})
            os.read(go[0], 1)
        os._exit(0)
    h = flux.Flux()
    h.event_subscribe("bench.")
    rates = []
    for _ in range(ROUNDS):
        os.write(go[1], b"g")
        h.event_recv()
        start = time.perf_counter()
        for _ in range(count - 1):
            h.event_recv()
        rates.append((count - 1) / (time.perf_counter() - start))
    os.write(go[1], b"g")
    os.waitpid(child, 0)
    del ready
    return {"per_second": max(rates)}


def rss_kb(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def memory(count=1000000):
    """The broker's resident memory in MB: after start, and after many RPCs."""
    h = flux.Flux()
    pid = int(h.attr_get("broker.pid"))
    before = rss_kb(pid)
    after_some = None
    done = 0
    while done < count:
        futures = [h.rpc("broker.ping", {"seq": 1}) for _ in range(250)]
        for future in futures:
            future.get()
        done += 250
        if after_some is None and done >= count // 10:
            after_some = rss_kb(pid)
    return {
        "start_mb": before / 1024,
        "after_tenth_mb": after_some / 1024,
        "after_all_mb": rss_kb(pid) / 1024,
        "rpcs": done,
    }


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[2:]]
    print(json.dumps(globals()[sys.argv[1]](*arguments)))
