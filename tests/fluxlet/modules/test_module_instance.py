"""What modules of users mean to a whole instance: its exit code, its log, its end (spec 03, 13.4 and 7.4)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from in_process import until

from fluxlet.testing import Instance

MODULE = """
import os
from flux.brokermod import BrokerModule, request_handler

class M(BrokerModule):
    @request_handler("exit")
    def exit(self, msg):
        os._exit(7)

    @request_handler("fail")
    def fail(self, msg):
        raise LookupError("a defect")

    @request_handler("pid")
    def pid(self, msg):
        self.handle.respond(msg, {"pid": os.getpid()})
"""
#: Loads the module, has it fail if that is asked for, and goes on for a moment.
PROGRAM = """
import sys, flux
path, loader, method, keep = sys.argv[1:]
h = flux.Flux()
request = {"path": path, "args": []}
h.rpc("module.load", {**request, "loader": loader} if loader else request).get()
if method:
    try:
        h.rpc("m." + method).get()
    except OSError as exc:
        print(exc.strerror, flush=True)
    h.rpc("broker.ping", {}).get()
if not keep:
    h.rpc("module.remove", {"name": "m"}).get()
print("end")
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "m.py"
    file.write_text(MODULE)
    return str(file)


def run(
    path: str, *options: str, loader: str = "", method: str = "", keep: str = ""
) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", PROGRAM, path, loader, method, keep]
    words = [sys.executable, "-m", "fluxlet", "start", *options, *program]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FLUX_")}
    return subprocess.run(words, env=environ, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("loader", ["", "inproc"])
def test_module_that_is_removed_leaves_no_trace(path: str, loader: str) -> None:
    done = run(path, loader=loader)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


@pytest.mark.parametrize(("loader", "method"), [("", "exit"), ("", "fail"), ("inproc", "fail")])
def test_module_that_fails_ends_the_instance(path: str, loader: str, method: str) -> None:
    done = run(path, loader=loader, method=method, keep="keep")
    assert done.returncode == 1
    assert "broker.crit[0]: m module runtime failure\n" in done.stderr


@pytest.mark.parametrize(("loader", "method"), [("", "exit"), ("", "fail"), ("inproc", "fail")])
def test_nopanic_lets_the_instance_go_on(path: str, loader: str, method: str) -> None:
    done = run(path, "-Sbroker.module-nopanic=1", loader=loader, method=method, keep="keep")
    assert (done.returncode, done.stdout) == (0, "module disconnect\nend\n")
    assert "broker.crit[0]: m module runtime failure\n" in done.stderr


@pytest.mark.parametrize("loader", ["", "inproc"])
def test_module_that_is_still_there_at_the_end_is_removed(path: str, loader: str) -> None:
    done = run(path, loader=loader, keep="keep")
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


@pytest.mark.parametrize("loader", ["", "inproc"])
def test_module_that_nobody_has_removed_is_reported(path: str, loader: str) -> None:
    done = run(path, "-Sbroker.rc3_path=true", loader=loader, keep="keep")
    assert (done.returncode, done.stdout) == (1, "end\n")
    assert done.stderr.endswith("broker.err[0]: broker module 'm' was not properly shut down\n")


BLOCKING = """
from flux.brokermod import BrokerModule, request_handler

class Slow(BrokerModule):
    @request_handler("read")
    def read(self, msg):
        self.handle.respond(msg, open(self.args[0]).read())

    @request_handler("later")
    def later(self, msg):
        self.handle.timer_watcher_create(0.0, lambda *args: self.read(msg)).start()

    @request_handler("answered")
    def answered(self, msg):
        self.handle.rpc("attr.get", {"name": "rank"}).then(lambda future: self.read(msg))
"""


@pytest.mark.parametrize(
    ("method", "what"), [("read", "handler of slow.read"), ("later", "a timer"), ("answered", "a callback")]
)
def test_blocking_module_is_named_on_stderr_while_it_blocks(tmp_path: Path, method: str, what: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    module = tmp_path / "slow.py"
    module.write_text(BLOCKING)
    with Instance() as instance, instance.handle() as handle:
        handle.rpc("module.load", {"path": str(module), "args": [str(tmp_path / "pipe")], "loader": "inproc"}).get()
        answer = handle.rpc(f"slow.{method}")
        until(lambda: "keeping the broker" in instance.output)
        (tmp_path / "pipe").write_text('"done"')
        assert answer.get() == "done"
        (line,) = instance.output.splitlines()
        assert re.search(
            rf" slow\.err\[0\]: {what} has been keeping the broker for \d\.\ds, at {module}:7 in read$", line
        )
        assert re.search(rf" slow\.warning\[0\]: {what} blocked the broker for \d+\.\ds$", instance.log(), flags=re.M)


def test_killed_broker_takes_its_modules_along(path: str) -> None:
    with Instance() as instance, instance.handle() as handle:
        handle.rpc("module.load", {"path": path, "args": []}).get()
        pid = handle.rpc("m.pid").get()["pid"]
        instance.kill()
    until(lambda: not os.path.exists(f"/proc/{pid}"))
