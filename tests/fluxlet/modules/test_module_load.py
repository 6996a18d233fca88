"""Modules come and go: in the broker's process, and as processes of their own (spec 03, 13.4; spec 01, 3.7)."""

from __future__ import annotations

import errno
import json
import os
import signal
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from in_process import GUEST, BrokerThread, ask, error_of, outcome, until
from recordings import load as recording

import flux
from flux.brokermod import request_handler
from flux.constants import FLUX_RPC_NORESPONSE, FLUX_RPC_STREAMING
from flux.message import Message
from fluxlet.broker import host
from fluxlet.broker.broker import Broker
from fluxlet.broker.builtins import LISTED
from fluxlet.broker.loaded import LoadedModule
from fluxlet.service import Service

LOADER = "module-python-exec"

HELLO = """
    import os, signal, sys, time
    from flux.brokermod import BrokerModule, event_handler, request_handler

    class Hello(BrokerModule):
        def __init__(self, h, *args):
            super().__init__(h, *args)
            self.events = []
            match args:
                case ("value",): raise ValueError("not these arguments")
                case ("os",): raise PermissionError(13, "no")
                case ("raise",): raise LookupError("a defect")
                case ("exit",): os._exit(3)
                case ("sysexit",): sys.exit(5)
                case ("kill",): os.kill(os.getpid(), signal.SIGKILL)
                case ("sync",): self.attribute = h.rpc("attr.get", {"name": "rank"}).get()["value"]
            if "service" in args:
                h.rpc("service.add", {"service": "greeter"}).get()

        @request_handler("greet", allow_guest=True)
        def greet(self, msg):
            self.handle.respond(msg, {"name": self.name, "args": self.args, "pid": os.getpid()})

        @request_handler("greeter.greet", prefix=False)
        def other(self, msg):
            self.handle.respond(msg, {"as": "greeter"})

        @request_handler("environ")
        def environ(self, msg):
            self.handle.respond(msg, {"uri": os.environ["FLUX_URI"], "module": "FLUX_MODULE_URI" in os.environ,
                                      "size": self.handle.attr_get("size"), "conf": self.handle.conf_get()})

        @event_handler("said", prefix=False)
        def said(self, msg):
            self.events.append(msg.payload)

        @request_handler("events")
        def heard(self, msg):
            self.handle.respond(msg, {"events": self.events})

        @request_handler("never")
        def never(self, msg):
            pass

        @request_handler("use")
        def use(self, msg):
            self.waiting = self.handle.rpc("watched.wait")
            self.handle.respond(msg)

        @request_handler("fail")
        def fail(self, msg):
            raise LookupError("a defect")

        @request_handler("exit")
        def exit(self, msg):
            os._exit(7)

        @request_handler("block")
        def block(self, msg):
            signal.pause()

        @request_handler("stop")
        def stop_it(self, msg):
            self.stop()
"""


class Watched(Service):
    """Is used by others, and hears when they go."""

    def __init__(self, handle: flux.Flux, broker: Broker) -> None:
        super().__init__(handle, broker)
        self.waiting: list[Message] = []
        self.gone: list[Message] = []

    @request_handler("wait")
    def wait(self, msg: Message) -> None:
        self.waiting.append(msg)

    @request_handler("disconnect")
    def disconnect(self, msg: Message) -> None:
        self.gone.append(msg)


def write(path: Path, text: str = HELLO) -> str:
    path.write_text(textwrap.dedent(text))
    return str(path)


@pytest.fixture
def hello(tmp_path: Path) -> str:
    return write(tmp_path / "hello.py")


@pytest.fixture
def failures() -> list[str]:
    return []


@pytest.fixture
def broker_thread(start_broker: Callable[..., BrokerThread], failures: list[str]) -> BrokerThread:
    def prepare(broker: Broker) -> None:
        def failed(module: LoadedModule) -> None:
            failures.append(module.name)

        broker.on_failure = failed

    return start_broker(config={"foo": {"bar": 1}}, prepare=prepare)


@pytest.fixture(params=[None, "inproc"], ids=["process", "inproc"])
def loader(request: pytest.FixtureRequest) -> str | None:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def handle(broker_thread: BrokerThread) -> Iterator[flux.Flux]:
    with broker_thread.open() as opened:
        yield opened


def load(handle: flux.Flux, path: str, *args: str, **more: Any) -> None:
    more = {key: value for key, value in more.items() if value is not None}
    handle.rpc("module.load", {"path": path, "args": list(args), **more}).get()


def remove(handle: flux.Flux, name: str, **more: Any) -> None:
    handle.rpc("module.remove", {"name": name, **more}).get()


def modules(handle: flux.Flux) -> dict[str, Any]:
    return {module["name"]: module for module in handle.rpc("module.list").get()["mods"]}


def logged(broker: BrokerThread) -> list[str]:
    ring = broker.call(lambda: list(broker.broker.log.ring))
    return [raw.decode().partition(" - - ")[2] for raw in ring]


def pid_of(handle: flux.Flux, name: str = "hello") -> int:
    pid: int = handle.rpc(f"{name}.greet").get()["pid"]
    return pid


# Loading, and what a module then is.


def test_file_becomes_a_process_that_serves(handle: flux.Flux, hello: str) -> None:
    load(handle, hello, "a", "b c")
    answer = handle.rpc("hello.greet").get()
    assert answer["name"] == "hello"
    # As in the reference, which has no quoting.
    assert answer["args"] == ["a", "b", "c"]
    assert answer["pid"] != os.getpid()
    assert modules(handle)["hello"] == {
        "name": "hello",
        "path": hello,
        "idle": 0,
        "status": 1,
        "services": ["hello"],
        "sendqueue": 0,
        "recvqueue": 0,
    }
    assert ask(handle, "hello.greet", None, **GUEST).aux1 == 0
    assert outcome(ask(handle, "hello.events", None, **GUEST))[0] == errno.EPERM


def test_loader_inproc_makes_a_file_a_module_of_the_broker(handle: flux.Flux, hello: str) -> None:
    load(handle, hello, "a", loader="inproc", name="h2")
    assert handle.rpc("h2.greet").get() == {"name": "h2", "args": ["a"], "pid": os.getpid()}
    remove(handle, "h2")
    assert "h2" not in modules(handle)


def test_process_knows_its_instance(broker_thread: BrokerThread, handle: flux.Flux, hello: str) -> None:
    load(handle, hello)
    known = {"uri": broker_thread.uri, "module": False, "size": "1", "conf": {"foo": {"bar": 1}}}
    assert handle.rpc("hello.environ").get() == known


def test_events_reach_modules(handle: flux.Flux, hello: str, loader: str | None) -> None:
    load(handle, hello, loader=loader)
    handle.rpc("event.publish", {"topic": "said", "flags": 0, "payload": "eyJhIjoxfQA="}).get()
    assert handle.rpc("hello.events").get() == {"events": [{"a": 1}]}


def test_process_may_wait_for_answers_and_add_services(handle: flux.Flux, hello: str) -> None:
    load(handle, hello, "sync")
    load(handle, hello, "service", name="other")
    assert modules(handle)["other"]["services"] == ["other", "greeter"]
    assert handle.rpc("greeter.greet").get() == {"as": "greeter"}
    remove(handle, "other")
    assert error_of(handle.rpc("greeter.greet").get)[0] == errno.ENOSYS


def test_name_is_looked_up_in_the_search_path(
    handle: flux.Flux, hello: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLUX_MODULE_PATH", f"/nonexistent:{tmp_path}")
    load(handle, "hello")
    assert modules(handle)["hello"]["path"] == hello


def test_mod_main_is_run(handle: flux.Flux, tmp_path: Path) -> None:
    text = """
        def mod_main(h, *args):
            h.msg_watcher_create(lambda h, w, msg, a: h.respond(msg, {"args": args}), 1, "main.x").start()
            h.reactor_run()
    """
    load(handle, write(tmp_path / "main.py", text), "1")
    assert handle.rpc("main.x").get() == {"args": ["1"]}
    remove(handle, "main")


def test_file_may_import_what_lies_beside_it_and_have_any_name(handle: flux.Flux, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("VALUE = 17\n")
    text = """
        import json, beside
        from flux.brokermod import BrokerModule, request_handler

        class Json(BrokerModule):
            @request_handler("x")
            def x(self, msg):
                self.handle.respond(msg, json.loads(f'{{"value": {beside.VALUE}}}'))
    """
    load(handle, write(tmp_path / "json.py", text))
    assert handle.rpc("json.x").get() == {"value": 17}


def test_standard_methods(handle: flux.Flux, hello: str, loader: str | None) -> None:
    load(handle, hello, loader=loader)
    assert handle.rpc("hello.ping", {"seq": 1}).get()["route"].count("!") == 3
    assert handle.rpc("hello.debug", {"op": "setbit", "flags": 4}).get() == {"flags": 4}
    assert handle.rpc("hello.rusage", {"who": "self"}).get()["maxrss"] > 0
    assert handle.rpc("hello.stats-get").get()["rx"]["request"] >= 4
    handle.rpc("hello.stats-clear").get()
    assert handle.rpc("hello.stats-get").get()["rx"]["request"] == 1
    handle.event_send("hello.stats-clear")
    assert handle.rpc("hello.stats-get").get()["rx"] == {"request": 1, "response": 0, "event": 0, "control": 0}
    # The whole instance goes on being configured.
    handle.rpc("config.load", {"foo": {"bar": 2}}).get()


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"path": "nosuch", "args": []}, (errno.ENOENT, "module not found in search path")),
        ({"path": "/x/nosuch.so", "args": []}, (errno.ENOENT, "module not found in search path")),
        ({"path": "/x/nosuch.so.1", "args": []}, (errno.ENOENT, "module not found in search path")),
        ({"path": "/x/nosuch.rb", "args": []}, (errno.ENOENT, "could not determine loader from path suffix")),
        (
            {"path": "heartbeat", "args": [], "name": "h", "loader": "x"},
            (errno.EINVAL, "module loader may only be specified with module path"),
        ),
        (
            {"path": "heartbeat", "args": [], "name": "h", "exec": True},
            (errno.EINVAL, "built-in modules cannot execute in a separate process"),
        ),
        ({"path": "heartbeat", "args": []}, (errno.EEXIST, os.strerror(errno.EEXIST))),
        ({"path": "/x.py", "args": [], "name": "attr"}, (errno.EEXIST, os.strerror(errno.EEXIST))),
        ({"path": "heartbeat", "args": ["foo=1"], "name": "h"}, (errno.EINVAL, "Invalid argument")),
        ({"path": "/x/a.b.py", "args": []}, (errno.EINVAL, "'a.b' cannot be the name of a module: use --name")),
        ({"path": "/x/nosuch.py", "args": []}, (errno.EINVAL, f"loader ({LOADER}) exited with exit code 1")),
        (
            {"path": "/x/a.py", "args": [], "loader": "/x/nosuch"},
            (errno.ENOENT, "loader (nosuch) cannot be started: No such file or directory"),
        ),
    ],
)
def test_what_cannot_be_loaded(handle: flux.Flux, request_: dict[str, Any], error: tuple[int, str]) -> None:
    assert error_of(handle.rpc("module.load", request_).get) == error
    assert set(modules(handle)) == set(LISTED)


@pytest.mark.parametrize(
    "payload", [{}, {"path": "x"}, {"args": []}, {"path": 1, "args": []}, {"path": "x", "args": "y"}]
)
def test_malformed_load_is_eproto(handle: flux.Flux, payload: Any) -> None:
    assert error_of(handle.rpc("module.load", payload).get)[0] == errno.EPROTO


@pytest.mark.parametrize(
    ("arg", "error"),
    [
        ("value", (errno.EINVAL, "Invalid argument")),
        ("os", (errno.EACCES, "Permission denied")),
        ("raise", (errno.ECONNRESET, "Connection reset by peer")),
        ("exit", (errno.EINVAL, f"loader ({LOADER}) exited with exit code 3")),
        ("sysexit", (errno.EINVAL, f"loader ({LOADER}) exited with exit code 5")),
        ("kill", (errno.EINVAL, f"loader ({LOADER}) killed by SIGKILL")),
    ],
)
def test_module_that_does_not_start(
    handle: flux.Flux,
    hello: str,
    failures: list[str],
    capfd: pytest.CaptureFixture[str],
    arg: str,
    error: tuple[int, str],
) -> None:
    assert error_of(lambda: load(handle, hello, arg)) == error
    assert "hello" not in modules(handle)
    assert failures == []
    written = {"value": "hello.py: not these arguments\n", "os": "hello.py: no\n", "raise": "LookupError: a defect"}
    assert written.get(arg, "") in capfd.readouterr().err
    # The name is free, and the file may be better the next time.
    load(handle, hello)


@pytest.mark.parametrize("text", ["1/0", "x = ", "import nosuch_module", "raise SystemError"])
def test_file_that_is_broken(handle: flux.Flux, tmp_path: Path, loader: str | None, text: str) -> None:
    path = write(tmp_path / "broken.py", text)
    assert error_of(lambda: load(handle, path, loader=loader))[0] == errno.ECONNRESET
    assert "broken" not in modules(handle)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "no mod_main() or BrokerModule subclass found"),
        (
            "from flux.brokermod import BrokerModule\nclass A(BrokerModule): pass\nclass B(BrokerModule): pass",
            "multiple BrokerModule subclasses found (A, B); define mod_main()",
        ),
    ],
)
def test_file_without_a_module(
    handle: flux.Flux, tmp_path: Path, capfd: pytest.CaptureFixture[str], text: str, error: str
) -> None:
    path = write(tmp_path / "empty.py", text)
    assert error_of(lambda: load(handle, path)) == (errno.EINVAL, "Invalid argument")
    assert capfd.readouterr().err == f"empty.py: {error}\n"
    assert error_of(lambda: load(handle, path, loader="inproc")) == (errno.EINVAL, f"empty.py: {error}")


def test_any_program_may_be_a_loader(handle: flux.Flux, tmp_path: Path) -> None:
    path = tmp_path / "own"
    path.write_text('#!/bin/sh\ntest "$1" = /x/any.thing || exit 1\ntest -n "$FLUX_MODULE_URI" || exit 2\nexit 9\n')
    path.chmod(0o755)
    error = error_of(lambda: load(handle, "/x/any.thing", loader=str(path), name="n"))
    assert error == (errno.EINVAL, "loader (own) exited with exit code 9")


# The end of a module.


def test_removed_module_is_gone(handle: flux.Flux, hello: str, loader: str | None) -> None:
    load(handle, hello, loader=loader)
    pid = pid_of(handle)
    pending = handle.rpc("hello.never")
    remove(handle, "hello")
    assert "hello" not in modules(handle)
    assert error_of(handle.rpc("hello.greet").get) == (errno.ENOSYS, "No service matching hello.greet is registered")
    assert error_of(pending.get) == (errno.EHOSTUNREACH, "module disconnect")
    if loader is None:
        assert not os.path.exists(f"/proc/{pid}")


@pytest.mark.parametrize("name", ["nosuch", "attr", "module"])
def test_only_modules_of_the_list_can_be_removed(handle: flux.Flux, name: str) -> None:
    assert error_of(lambda: remove(handle, name))[0] == errno.ENOENT


def test_builtin_module_comes_back_with_other_arguments(handle: flux.Flux) -> None:
    remove(handle, "heartbeat")
    assert error_of(handle.rpc("heartbeat.stats-get").get)[0] == errno.ENOSYS
    load(handle, "heartbeat", "period=5s")
    assert handle.rpc("heartbeat.stats-get").get()["period"] == 5.0


def test_shutdown_request_ends_a_module(handle: flux.Flux, hello: str, loader: str | None, failures: list[str]) -> None:
    load(handle, hello, loader=loader)
    handle.rpc("hello.shutdown", flags=FLUX_RPC_NORESPONSE)
    until(lambda: "hello" not in modules(handle))
    assert failures == []


def test_module_may_return(broker_thread: BrokerThread, handle: flux.Flux, hello: str, failures: list[str]) -> None:
    load(handle, hello)
    handle.rpc("hello.stop", flags=FLUX_RPC_NORESPONSE)
    until(lambda: "hello" not in modules(handle))
    assert failures == []
    assert not [line for line in logged(broker_thread) if "hello" in line]


def test_module_that_returns_at_once_has_been_loaded(handle: flux.Flux, tmp_path: Path) -> None:
    load(handle, write(tmp_path / "brief.py", "def mod_main(h, *args): pass"))
    assert "brief" not in modules(handle)


def test_services_hear_of_the_end_of_a_module(
    broker_thread: BrokerThread, handle: flux.Flux, hello: str, loader: str | None
) -> None:
    watched = broker_thread.call(lambda: broker_thread.broker.load("watched", Watched)).instance
    assert isinstance(watched, Watched)
    load(handle, hello, loader=loader)
    handle.rpc("hello.use").get()
    remove(handle, "hello")
    (notice,) = watched.gone
    assert notice.routes == watched.waiting[0].routes
    assert notice.flags & FLUX_RPC_NORESPONSE


@pytest.mark.parametrize(
    ("method", "text"),
    [
        ("exit", f"hello: loader ({LOADER}) exited with exit code 7"),
        ("fail", f"hello: {os.strerror(errno.ECONNRESET)}"),
    ],
)
def test_process_that_fails_ends_alone(
    broker_thread: BrokerThread, handle: flux.Flux, hello: str, failures: list[str], method: str, text: str
) -> None:
    load(handle, hello)
    pending = handle.rpc("hello.never")
    last = handle.rpc(f"hello.{method}")
    for future in (pending, last):
        assert error_of(future.get) == (errno.EHOSTUNREACH, "module disconnect")
    until(lambda: failures == ["hello"])
    assert logged(broker_thread)[-2:] == [text, "hello module runtime failure"]
    assert "hello" not in modules(handle)
    load(handle, hello)
    assert handle.rpc("hello.greet").get()["name"] == "hello"


def test_process_that_is_killed(
    broker_thread: BrokerThread, handle: flux.Flux, hello: str, failures: list[str]
) -> None:
    load(handle, hello)
    pending = handle.rpc("hello.never")
    os.kill(pid_of(handle), signal.SIGKILL)
    assert error_of(pending.get) == (errno.EHOSTUNREACH, "module disconnect")
    until(lambda: failures == ["hello"])
    assert logged(broker_thread)[-2] == f"hello: loader ({LOADER}) killed by SIGKILL"


def test_inproc_module_that_raises_is_unloaded(
    broker_thread: BrokerThread, handle: flux.Flux, hello: str, failures: list[str]
) -> None:
    load(handle, hello, loader="inproc")
    assert error_of(handle.rpc("hello.fail").get) == (errno.EHOSTUNREACH, "module disconnect")
    assert failures == ["hello"]
    assert "hello: LookupError: a defect" in logged(broker_thread)
    assert "hello" not in modules(handle)
    assert handle.rpc("heartbeat.ping", {}).get()


def test_blocked_process_blocks_nobody_and_can_be_cancelled(handle: flux.Flux, hello: str, failures: list[str]) -> None:
    load(handle, hello)
    pid = pid_of(handle)
    blocked = handle.rpc("hello.block")
    removal = handle.rpc("module.remove", {"name": "hello"})
    assert handle.rpc("broker.ping", {"a": 1}).get()["a"] == 1
    remove(handle, "hello", cancel=True)
    removal.get()
    assert error_of(blocked.get) == (errno.EHOSTUNREACH, "module disconnect")
    assert not os.path.exists(f"/proc/{pid}")
    assert failures == []


def test_process_that_does_not_read_is_ended(
    broker_thread: BrokerThread, handle: flux.Flux, hello: str, failures: list[str]
) -> None:
    load(handle, hello)
    pid_of(handle)
    broker_thread.call(lambda: setattr(broker_thread.broker.server.limits, "queue", 1 << 20))
    pending = handle.rpc("hello.block")
    for _ in range(100):
        handle.rpc("hello.never", "x" * 65536, flags=FLUX_RPC_NORESPONSE)
    assert error_of(pending.get) == (errno.EHOSTUNREACH, "module disconnect")
    until(lambda: failures == ["hello"])
    (line,) = [line for line in logged(broker_thread) if "is ended" in line]
    assert line == "module hello is ended: it does not read, and more than 1048576 bytes wait for it"


def test_blocking_handler_is_named_in_the_log(
    broker_thread: BrokerThread, handle: flux.Flux, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
        import time
        from flux.brokermod import BrokerModule, request_handler

        class Slow(BrokerModule):
            @request_handler("work")
            def work(self, msg):
                time.sleep(0.06)
                self.handle.respond(msg)

            @request_handler("quick")
            def quick(self, msg):
                self.handle.respond(msg)
    """
    load(handle, write(tmp_path / "slow.py", text), loader="inproc")
    handle.rpc("slow.quick").get()
    monkeypatch.setattr(host, "PATIENCE", 0.05)
    handle.rpc("slow.work").get()
    lines = [line for line in logged(broker_thread) if "blocked" in line]
    assert [line.rpartition(" ")[0] for line in lines] == ["handler of slow.work blocked the broker for"]


def test_broker_that_ends_takes_its_modules_along(start_broker: Callable[..., BrokerThread], hello: str) -> None:
    broker = start_broker()
    with broker.open() as handle:
        load(handle, hello)
        load(handle, hello, name="blocked")
        pids = [pid_of(handle), pid_of(handle, "blocked")]
        handle.rpc("blocked.block", flags=FLUX_RPC_NORESPONSE)
    broker.stop()
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]


@pytest.mark.parametrize("count", [20, pytest.param(50, marks=pytest.mark.nightly)])
def test_coming_and_going_leaves_nothing_behind(
    broker_thread: BrokerThread, handle: flux.Flux, hello: str, count: int
) -> None:
    def holdings() -> tuple[int, ...]:
        broker = broker_thread.broker
        router = broker.router
        return (
            len(os.listdir("/proc/self/fd")),
            len(broker.modules),
            len(router.services),
            len(router._paths),
            len(router._origins),
            len(router._subscriptions),
            broker.reactor.references,
        )

    def children() -> list[str]:
        tasks = Path("/proc/self/task")
        return [pid for task in tasks.iterdir() for pid in (task / "children").read_text().split()]

    # Once, for what is made on first use.
    load(handle, hello)
    remove(handle, "hello")
    before = broker_thread.call(holdings)
    running = children()
    # Several at a time: one after the other would be as many starts of Python in a row.
    for start in range(0, count, 10):
        names = [f"hello{number}" for number in range(start, min(start + 10, count))]
        payload = {"path": hello, "args": []}
        for future in [handle.rpc("module.load", {**payload, "name": name}) for name in names]:
            future.get()
        assert handle.rpc(f"{names[-1]}.greet").get()["name"] == names[-1]
        for future in [handle.rpc("module.remove", {"name": name}) for name in names]:
            future.get()
    for _ in range(count):
        load(handle, hello, loader="inproc")
        remove(handle, "hello")
    assert broker_thread.call(holdings) == before
    assert children() == running


# Status, debug, trace.


@pytest.mark.parametrize("payload", [{}, {"status": "x"}, {"status": 9}, {"status": 3, "errnum": -1}])
def test_malformed_status_is_eproto(handle: flux.Flux, payload: Any) -> None:
    error = (errno.EPROTO, "error decoding module.status request")
    assert error_of(handle.rpc("module.status", payload).get) == error


def test_status_of_nobody_is_accepted(handle: flux.Flux) -> None:
    assert handle.rpc("module.status", {"status": 3, "errnum": 1}).get() is None
    assert set(modules(handle)) == set(LISTED)


def test_deferred_messages_come_in_order_later(handle: flux.Flux, hello: str, loader: str | None) -> None:
    load(handle, hello, loader=loader)
    handle.rpc("module.debug", {"name": "hello", "defer": True}).get()
    for number in range(3):
        handle.rpc("event.publish", {"topic": "said", "flags": 0, "payload": ["MAA=", "MQA=", "MgA="][number]}).get()
    answer = handle.rpc("hello.events")
    assert modules(handle)["hello"]["sendqueue"] == 4
    handle.rpc("module.debug", {"name": "hello", "defer": False}).get()
    assert answer.get() == {"events": [0, 1, 2]}
    assert modules(handle)["hello"]["sendqueue"] == 0


def test_deferring_needs_a_module(handle: flux.Flux) -> None:
    assert error_of(handle.rpc("module.debug", {"name": "nosuch"}).get)[0] == errno.ENOENT


def trace(handle: flux.Flux, **wanted: Any) -> Any:
    request = {"typemask": 15, "topic_glob": "*", "names": [], "full": True, **wanted}
    return handle.rpc("module.trace", request, flags=FLUX_RPC_STREAMING)


def test_trace_is_that_of_the_reference(broker_thread: BrokerThread, handle: flux.Flux) -> None:
    lines = [line for line in recording("broker-module") if line["topic"] in ("module.trace", "kvs.lookup")]
    told = [line["payload"] for line in lines if line["topic"] == "module.trace" and line["dir"] == "b>c"]
    request = next(line["payload"] for line in lines if line["topic"] == "module.trace")
    traced = handle.rpc("module.trace", request, flags=FLUX_RPC_STREAMING)
    with broker_thread.open() as client:
        lookup = next(line["payload"] for line in lines if line["topic"] == "kvs.lookup")
        # Without blanks, as it was sent there: the size is told.
        text = json.dumps(lookup, separators=(",", ":"))
        assert error_of(client.rpc("kvs.lookup", text).get)[0] == errno.ENOENT
    for expected in told:
        entry = traced.get()
        assert {**entry, "timestamp": expected["timestamp"]} == expected
        traced.reset()


def test_trace_shows_what_is_asked_for(broker_thread: BrokerThread, handle: flux.Flux, hello: str) -> None:
    traced = trace(handle, names=["hello"], typemask=1, topic_glob="*.greet", full=False)
    # A module that comes later is shown as well.
    load(handle, hello)
    handle.rpc("hello.events").get()
    handle.rpc("hello.greet", "{}").get()
    entry = traced.get()
    assert (entry["prefix"], entry["name"], entry["topic"]) == ("rx", "hello", "hello.greet")
    assert (entry["payload"], entry["payload_size"]) == (None, 3)


def test_trace_ends_with_its_client(broker_thread: BrokerThread, handle: flux.Flux) -> None:
    with broker_thread.open() as client:
        trace(client)
        client.rpc("module.list").get()
        heartbeat = broker_thread.broker.modules["heartbeat"]
        assert "deliver" in heartbeat.__dict__
    until(lambda: broker_thread.call(lambda: "deliver" not in heartbeat.__dict__))


def test_trace_is_a_stream(handle: flux.Flux) -> None:
    request = {"typemask": 15, "topic_glob": "*", "names": []}
    assert error_of(handle.rpc("module.trace", request).get)[0] == errno.EPROTO


@pytest.mark.parametrize("method", ["load", "remove", "status", "debug", "trace"])
def test_guests_may_only_look(handle: flux.Flux, method: str) -> None:
    assert outcome(ask(handle, f"module.{method}", {}, **GUEST)) == (errno.EPERM, "Request requires owner credentials")
