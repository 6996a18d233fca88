"""rc1 beside the start of the initial program: nobody is to notice."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from in_process import BrokerThread

import flux
from flux.message import Message
from flux.wire import Framer, encode
from fluxlet.broker.attributes import Attributes
from fluxlet.broker.beside import plain
from fluxlet.broker.broker import Broker
from fluxlet.broker.builtins import LISTED

FLUX = str(Path(sys.executable).parent / "flux")
PATIENCE = 60.0
#: Connects before any of our own code could be loaded, sends what its argument says, prints the answer.
CLIENT = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(os.environ["FLUX_URI"][len("local://"):])
s.sendall(bytes.fromhex(sys.argv[1]))
assert s.recv(1) == b"\\0"
data = b""
while len(data) < 8 or len(data) < 8 + int.from_bytes(data[4:8], "big"):
    data += s.recv(65536)
print(data.hex())
"""


@pytest.fixture
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a user who is in no instance."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("FLUX_", "PMI_", "SLURM_"))}
    return {**own, "TMPDIR": str(tmp_path_factory.mktemp("t")), "SHELL": "/bin/sh"}


def start(environ: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([FLUX, "start", *words], env=environ, timeout=PATIENCE, capture_output=True, text=True)


# Which instances do it.


def is_plain(
    given: dict[str, str | None] | None = None,
    config: dict[str, Any] | None = None,
    environ: dict[str, str] | None = None,
    **known: str,
) -> bool:
    attributes = Attributes(dict(given or {}))
    for name, value in {"rank": "0", "size": "1", "statedir-cleanup": "1", **known}.items():
        attributes.set_internal(name, value)
    return plain(Broker(attributes, config), given or {}, environ or {})


def test_instance_without_settings_is_plain() -> None:
    assert is_plain()
    assert is_plain({"log-stderr-level": "7", "broker.quorum": "1"}, environ={"HOME": "/"})
    assert is_plain(jobid="ƒ1")


@pytest.mark.parametrize(
    "settings",
    [
        {"given": {"content.backing-module": "content-files"}},
        {"given": {"broker.rc1_path": "true"}},
        {"given": {"broker.rc3_path": "true"}},
        {"given": {"broker.recovery-mode": "1"}},
        {"given": {"cron.directory": "/etc/cron"}},
        {"config": {"resource": {"noverify": True}}},
        {"environ": {"FLUX_RC_EXTRA": "/etc/flux"}},
        {"environ": {"FLUX_MODPROBE_DISABLE": "cron"}},
        {"size": "2"},
        {"statedir-cleanup": "0"},
    ],
)
def test_what_matters_to_modules_is_waited_for(settings: dict[str, Any]) -> None:
    assert not is_plain(**settings)


# What they do.


def test_client_that_is_there_first_finds_all_modules(environ: dict[str, str]) -> None:
    request = Message(flux.constants.FLUX_MSGTYPE_REQUEST)
    request.topic = "module.list"
    done = start(environ, sys.executable, "-I", "-S", "-c", CLIENT, encode(request).hex())
    assert (done.returncode, done.stderr) == (0, "")
    answer = Framer().next(bytes.fromhex(done.stdout))
    assert answer is not None
    mods = answer.payload["mods"]
    assert {mod["name"]: mod["status"] for mod in mods} == dict.fromkeys(LISTED, 1)


@pytest.mark.parametrize(("command", "code"), [("true", 0), ("exit 3", 3), ("kill -9 $$", 137)])
def test_program_that_asks_nothing_ends_the_loading(environ: dict[str, str], command: str, code: int) -> None:
    done = start(environ, "sh", "-c", command)
    assert (done.returncode, done.stdout) == (code, "")
    assert "modprobe" not in done.stderr
    assert os.listdir(environ["TMPDIR"]) == []


def test_program_that_cannot_be_started(environ: dict[str, str]) -> None:
    done = start(environ, "/nosuch/program")
    assert done.returncode == 127
    assert "modprobe" not in done.stderr


def test_module_that_fails_all_the_same_ends_the_instance(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['fluxlet.modules.barrier'] = None\n")
    done = start({**environ, "PYTHONPATH": str(tmp_path)}, "sleep", str(PATIENCE))
    assert done.returncode == 1
    assert "flux-modprobe: load barrier" in done.stderr


#: Reading the code of a module takes longer than a module may keep the broker.
SLOW = """
import sys, time

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "fluxlet.modules.barrier":
            time.sleep(2.2)

sys.meta_path.insert(0, Slow())
"""


def test_reading_of_code_on_a_slow_machine_is_not_reported(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    slow = {**environ, "PYTHONPATH": str(tmp_path)}
    done = start(slow, FLUX, "getattr", "size")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    waited = start(slow, "--conf=modules.cron.disabled=true", FLUX, "getattr", "size")
    assert "handler of module.load has been keeping the broker" in waited.stderr


def test_signal_for_the_jobs_waits_for_who_keeps_them(environ: dict[str, str]) -> None:
    # Its answer comes when all modules are there, and have had the signal.
    done = start(environ, "sh", "-c", f"kill -USR1 $PPID; {FLUX} getattr size; exit 4")
    assert (done.returncode, done.stdout) == (4, "1\n")
    assert "locally" not in done.stderr


# The door.


def test_who_connects_meanwhile_is_let_in_afterwards(broker_thread: BrokerThread, handle: flux.Flux) -> None:
    server = broker_thread.broker.server
    broker_thread.call(server.hold)
    assert not broker_thread.call(lambda: server.awaited)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(broker_thread.uri.removeprefix("local://"))
        handle.rpc("broker.ping", {}).get()  # who is in stays in
        assert broker_thread.call(lambda: server.awaited)
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)
        broker_thread.call(server.release)
        sock.settimeout(PATIENCE)
        assert sock.recv(1) == b"\0"
    assert not broker_thread.call(lambda: server.awaited)
