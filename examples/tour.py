"""A tour of Flux: run it with `flux start python examples/tour.py`.

It connects to the instance it runs in, logs, calls a service, serves one of its own for another process, sends
and receives events, runs timers, descriptors and signals on the handle's reactor, meets three other processes at
a barrier, and does the first thing again under asyncio. Every step prints what it did.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import syslog

import flux
import flux.aio
from flux.constants import FLUX_MSGTYPE_REQUEST, FLUX_RPC_STREAMING

MYSELF = [sys.executable, os.path.abspath(__file__)]


def step(title: str) -> None:
    print(f"\n== {title}", flush=True)


def say(text: str) -> None:
    print(f"   {text}", flush=True)


def connect() -> flux.Flux:
    step("connect")
    h = flux.Flux()
    say(f"FLUX_URI is {os.environ['FLUX_URI']}")
    say(f"this is rank {h.get_rank()} of {h.attr_get('size')}, broker version {h.attr_get('version')}")
    return h


def log(h: flux.Flux) -> None:
    step("log, and read it back")
    h.log(syslog.LOG_INFO, "the tour says hello")
    messages = h.rpc("log.dmesg", {"follow": False}, flags=FLUX_RPC_STREAMING)
    found = None
    while True:
        try:
            text = messages.get_str() or ""
        except OSError:  # ENODATA ends the stream
            break
        if "the tour says hello" in text:
            found = text
        messages.reset()
    say(f"the broker's log has: {found}")


def call(h: flux.Flux) -> None:
    step("call a service")
    say(f"broker.ping answers {h.rpc('broker.ping', {'seq': 1}).get()}")
    try:
        h.rpc("no.such.method").get()
    except OSError as exc:
        say(f"calling what is not there: {exc.strerror}")


def serve(h: flux.Flux) -> None:
    step("serve `tour.greet`, called from a second process")
    h.service_register("tour").get()

    def greet(handle: flux.Flux, watcher: object, message: flux.message.Message, args: object) -> None:
        who = message.payload["who"]
        say(f"request from {who}")
        handle.respond(message, {"text": f"hello {who}, I am process {os.getpid()}"})
        handle.reactor_stop()

    watcher = h.msg_watcher_create(greet, FLUX_MSGTYPE_REQUEST, "tour.greet")
    watcher.start()
    with subprocess.Popen([*MYSELF, "caller"], stdout=subprocess.PIPE, text=True) as child:
        h.reactor_run()
        say(f"the other process got: {child.communicate()[0].strip()}")
    watcher.destroy()
    h.service_unregister("tour").get()


def caller() -> None:
    answer = flux.Flux().rpc("tour.greet", {"who": f"process {os.getpid()}"}).get()
    print(answer["text"])


def events(h: flux.Flux) -> None:
    step("events")
    h.event_subscribe("tour.")
    for number in range(3):
        h.event_send("tour.tick", {"number": number})
    for _ in range(3):
        event = h.event_recv()
        say(f"received {event.topic} {event.payload}")
    h.event_unsubscribe("tour.")


def watchers(h: flux.Flux) -> None:
    step("timers, descriptors and signals on one reactor")
    readable, writable = os.pipe()
    seen = []

    def note(what: str) -> None:
        seen.append(what)
        say(what)
        if len(seen) == 3:
            h.reactor_stop()

    def on_timer(handle: flux.Flux, watcher: object, revents: int, args: object) -> None:
        note("the timer fired: writing to the pipe, raising a signal")
        os.write(writable, b"x")
        os.kill(os.getpid(), signal.SIGUSR1)

    with (
        h.timer_watcher_create(0.01, on_timer),
        h.fd_watcher_create(readable, lambda *a: note(f"the pipe has {os.read(readable, 10)!r}")),
        h.signal_watcher_create(signal.SIGUSR1, lambda *a: note("SIGUSR1 arrived")),
    ):
        h.reactor_run()
    os.close(readable)
    os.close(writable)


def barrier(h: flux.Flux) -> None:
    step("a barrier of 4 processes")
    children = [subprocess.Popen([*MYSELF, "entrant", str(number)]) for number in range(1, 4)]
    h.barrier("tour", 4)
    for child in children:
        child.wait()
    say("all four have passed")


def entrant(number: str) -> None:
    flux.Flux().barrier("tour", 4)
    say(f"process {number} has passed the barrier")


async def with_asyncio() -> None:
    async with flux.aio.connect() as h:
        answers = await asyncio.gather(*(h.rpc("broker.ping", {"seq": seq}) for seq in range(3)))
        say(f"three pings at once: {[answer['seq'] for answer in answers]}")
        async with h.subscribe("tour.") as incoming:
            h.publish("tour.async", {"from": "asyncio"})
            async for event in incoming:
                say(f"received {event.topic} {event.payload}")
                break


def main() -> None:
    h = connect()
    log(h)
    call(h)
    serve(h)
    events(h)
    watchers(h)
    barrier(h)
    step("the same under asyncio")
    asyncio.run(with_asyncio())
    print("\nThat was the tour.")


if __name__ == "__main__":
    roles = {"caller": caller, "entrant": entrant}
    if len(sys.argv) > 1:
        roles[sys.argv[1]](*sys.argv[2:])
    else:
        main()
