"""Threads, processes and signals: who may use a handle, and what Ctrl-C does in a blocking call."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from started import StartedInstance

import flux
from flux.constants import FLUX_MSGTYPE_EVENT, FLUX_RPC_STREAMING
from flux.future import FutureExt

PATIENCE = 60.0
FOLLOW = {"follow": True, "nobacklog": True}


def in_threads(*functions: Callable[[], Any]) -> list[Any]:
    """Runs functions at the same time; their results, or what they have raised."""
    results: list[Any] = [None] * len(functions)
    start = threading.Barrier(len(functions))

    def run(index: int) -> None:
        start.wait()
        try:
            results[index] = functions[index]()
        except BaseException as exc:  # noqa: BLE001  # a result, here
            results[index] = exc

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    return results


# Threads.


def wait_by_get(h: flux.Flux) -> Any:
    return h.rpc("log.dmesg", FOLLOW, flags=FLUX_RPC_STREAMING).get_str()


def wait_by_recv(h: flux.Flux) -> Any:
    return h.event_recv("thr.*").topic


def wait_by_reactor(h: flux.Flux) -> Any:
    seen: list[str] = []

    def on_event(h: flux.Flux, watcher: Any, message: Any, args: Any) -> None:
        seen.append(message.topic)
        watcher.stop()

    h.msg_watcher_create(on_event, FLUX_MSGTYPE_EVENT).start()
    h.reactor_run()
    return seen[0]


USES: dict[str, Callable[[flux.Flux], Any]] = {
    "rpc": lambda h: h.rpc("broker.ping", {}),
    "recv": lambda h: h.recv(),
    "send": lambda h: h.event_send("thr.x"),
    "attr_get": lambda h: h.attr_get("test.x"),
    "reactor_run": lambda h: h.reactor_run(),
}


@pytest.mark.parametrize("wait", [wait_by_get, wait_by_recv, wait_by_reactor])
def test_a_second_thread_is_refused_and_disturbs_nothing(
    instance_handle: flux.Flux, instance_uri: str, wait: Callable[[flux.Flux], Any]
) -> None:
    h = instance_handle
    h.event_subscribe("thr.")

    def use() -> list[Any]:
        while h.core.link.lock.acquire(False):  # type: ignore[attr-defined]
            h.core.link.lock.release()
            time.sleep(0.001)
        refusals = []
        for call in USES.values():
            for _ in range(100):
                try:
                    call(h)
                except RuntimeError as exc:
                    refusals.append(str(exc))
        with flux.Flux(instance_uri) as other:
            other.log(6, "the end of the wait")
            other.event_send("thr.end")
        return refusals

    waited, refusals = in_threads(lambda: wait(h), use)
    assert waited == "thr.end" or "the end of the wait" in waited
    assert len(refusals) == 100 * len(USES)
    assert set(refusals) == {
        "this Flux handle is in use by another thread: a handle serves one thread at a time, "
        "so open one flux.Flux() per thread"
    }
    assert h.rpc("broker.ping", {"seq": 1}).get()["seq"] == 1


def test_two_threads_that_hammer_one_handle_get_an_answer_or_a_refusal(instance_handle: flux.Flux) -> None:
    h = instance_handle

    def hammer(thread: int) -> tuple[int, int]:
        right = refused = 0
        for number in range(1000):
            seq = thread * 10000 + number
            try:
                assert h.rpc("broker.ping", {"seq": seq}).get()["seq"] == seq
                right += 1
            except RuntimeError:
                refused += 1
        return right, refused

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        results = in_threads(lambda: hammer(0), lambda: hammer(1))
    finally:
        sys.setswitchinterval(interval)
    assert [sum(result) for result in results] == [1000, 1000]
    assert sum(right for right, _ in results) > 0
    assert h.rpc("broker.ping", {"seq": 1}).get()["seq"] == 1


def test_a_handle_may_change_threads_when_it_is_idle(instance_handle: flux.Flux) -> None:
    def use() -> Any:
        seen: list[Any] = []
        instance_handle.rpc("broker.ping", {"seq": 2}).then(lambda future: seen.append(future.get()["seq"]))
        assert instance_handle.reactor_run() == 0
        return seen

    assert [use(), *in_threads(use), use()] == [[2], [2], [2]]


def test_one_handle_for_each_of_eight_threads(instance_uri: str) -> None:
    def work(thread: int) -> int:
        with flux.Flux(instance_uri) as h:
            for number in range(100):
                seq = thread * 1000 + number
                assert h.rpc("broker.ping", {"seq": seq}).get()["seq"] == seq
            seen: list[int] = []
            for number in range(100):
                h.rpc("broker.ping", {"seq": number}).then(lambda future: seen.append(future.get()["seq"]))
            assert h.reactor_run() == 0
            assert seen == list(range(100))
            assert h.reactor_running() is False
        return thread

    assert in_threads(*(lambda thread=thread: work(thread) for thread in range(8))) == list(range(8))


def test_handles_on_two_instances(instance_uri: str, start_instance: Callable[[], StartedInstance]) -> None:
    uris = [instance_uri, start_instance().uri]
    handles = [flux.Flux(uris[number % 2]) for number in range(20)]
    calls = [handle.rpc("attr.get", {"name": "local-uri"}) for handle in handles]
    assert [call.get()["value"] for call in calls] == 10 * uris
    # Two connections on one loop.
    a, b = flux.Flux(uris[0]), flux.Flux(uris[1])
    b.flux_set_reactor(a.get_reactor())
    seen = []
    for handle in (a, b):
        handle.rpc("attr.get", {"name": "local-uri"}).then(lambda future: seen.append(future.get()["value"]))
    a.reactor_run()
    assert sorted(seen) == sorted(uris)


# Processes.


def in_child(function: Callable[[], Any]) -> int:
    """Runs a function in a fork of this process; its exit code, 99 for an exception."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = function() or 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_that_drops_what_it_inherits_does_its_parent_no_harm(instance_uri: str) -> None:
    h = flux.Flux(instance_uri)
    seen: list[str] = []

    def on_event(h: flux.Flux, watcher: Any, message: Any, args: Any) -> None:
        seen.append(message.topic)
        if len(seen) == 2:
            watcher.stop()

    h.event_subscribe("thr.")
    watcher = h.msg_watcher_create(on_event, FLUX_MSGTYPE_EVENT)
    watcher.start()
    h.flux_pollfd()
    h.reactor_run(flags=1)
    pending = h.rpc("broker.ping", {"seq": 5})

    def child() -> int:
        with flux.Flux(instance_uri) as own:
            own.rpc("broker.ping", {}).get()
        watcher.stop()
        watcher.destroy()
        h.__exit__(None, None, None)
        return 7

    assert in_child(child) == 7
    h.event_send("thr.one")
    h.event_send("thr.two")
    # The child has taken nothing out of the poller that both have inherited.
    assert h.reactor_run() == 0
    assert seen == ["thr.one", "thr.two"]
    assert pending.get()["seq"] == 5
    h.__exit__(None, None, None)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_may_use_the_handle_that_its_parent_leaves_to_it(instance_uri: str) -> None:
    h = flux.Flux(instance_uri)

    def child() -> int:
        seen: list[int] = []
        h.rpc("broker.ping", {"seq": 3}).then(lambda future: seen.append(future.get()["seq"]))
        h.reactor_run()
        return seen[0]

    assert in_child(child) == 3
    h.__exit__(None, None, None)


# Ctrl-C.

BLOCKING = {
    "get": "h.rpc('log.dmesg', FOLLOW, flags=1 << 1).get()",
    "wait_for": "h.rpc('log.dmesg', FOLLOW, flags=1 << 1).wait_for(1000.0)",
    "init": "flux.future.FutureExt(lambda f: f.get_flux().timer_watcher_create(1000, print).start(), "
    "flux_handle=h).get()",
    "recv": "h.recv()",
    "reactor": "h.rpc('log.dmesg', FOLLOW, flags=1 << 1).then(print); h.reactor_run()",
}
SCRIPT = """
import signal, sys, flux, flux.future
from flux.constants import FLUX_RPC_STREAMING
FOLLOW = {{"follow": True, "nobacklog": True}}
h = flux.Flux(sys.argv[1])
def handler(*args): raise KeyboardInterrupt
signal.signal(signal.SIGINT, {handler})
before = signal.getsignal(signal.SIGINT)
print("ready", flush=True)
try:
    {call}
finally:
    assert signal.getsignal(signal.SIGINT) is before
    assert h.rpc("broker.ping", {{"seq": 1}}).get()["seq"] == 1
    print("usable", flush=True)
"""


@pytest.mark.parametrize("handler", ["signal.default_int_handler", "handler"])
@pytest.mark.parametrize("call", list(BLOCKING.values()), ids=list(BLOCKING))
def test_ctrl_c_ends_a_blocking_call_and_a_script_that_does_not_catch_it(
    instance_uri: str, call: str, handler: str
) -> None:
    assert FLUX_RPC_STREAMING == 2
    script = SCRIPT.format(call=call, handler=handler)
    process = subprocess.Popen(
        [sys.executable, "-c", script, instance_uri], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        deadline = time.monotonic() + PATIENCE
        # Sent when the process sleeps in the kernel, which is what waiting is.
        while state_of(process.pid) != "S" and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=PATIENCE)
    assert output == "usable\n", errors
    assert process.returncode == -signal.SIGINT  # which shells show as 130
    assert "KeyboardInterrupt" in errors


def state_of(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0]


def test_a_call_that_fails_leaves_the_handler_as_it_was(instance_handle: flux.Flux) -> None:
    def handler(signum: int, frame: Any) -> None:
        raise AssertionError

    before = signal.signal(signal.SIGINT, handler)
    try:
        for call in (
            lambda: instance_handle.rpc("no.such").get(),
            lambda: FutureExt(lambda future: None, flux_handle=instance_handle).get(),
            lambda: instance_handle.attr_get("no.such"),
        ):
            with pytest.raises(OSError, match=r"."):
                call()
            assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
