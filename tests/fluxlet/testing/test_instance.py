"""`fluxlet.testing.Instance`: real instances, from the start to what is left of them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flux
from fluxlet.testing import Instance, InstanceError

PATIENCE = 60.0


@pytest.fixture(scope="module")
def shared() -> Iterator[Instance]:
    """An instance for tests that leave it as it is."""
    with Instance(
        config={"table": {"key": [1, "two"]}},
        attributes={"test.value": "one,two", "test.empty": ""},
        env={"ADDED": "yes", "HOME": None},
    ) as instance:
        yield instance


def wait_until(condition: Callable[[], Any], what: str) -> None:
    """Returns once `condition` is true; fails the test if it does not become so."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


# What there is in the instance.


def test_the_instance_is_in_state_run_and_has_what_it_was_given(shared: Instance) -> None:
    with shared.handle() as handle:
        assert handle.rpc("state-machine.get").get()["state"] == "run"
        assert handle.attr_get("test.value") == "one,two"
        assert handle.attr_get("test.empty") == ""
        assert handle.conf_get("table.key") == [1, "two"]


def test_uri_rundir_and_pid_are_those_of_the_broker(shared: Instance) -> None:
    with flux.Flux(shared.uri) as handle:
        assert shared.uri == handle.attr_get("local-uri")
        assert shared.rundir == handle.attr_get("rundir")
        assert shared.pid == int(handle.attr_get("broker.pid"))


def test_handles_are_connections_of_their_own(shared: Instance) -> None:
    with shared.handle() as one, shared.handle() as other:
        assert one.handle is not other.handle
        assert one.get_size() == other.get_size() == 1


def test_aio_connects_for_asyncio(shared: Instance) -> None:
    async def size() -> int:
        async with shared.aio() as handle:
            return await handle.get_size()

    assert asyncio.run(size()) == 1


def test_programs_run_in_the_instance(shared: Instance) -> None:
    script = "import flux; print(flux.Flux().attr_get('test.value'))"
    result = shared.run(sys.executable, "-c", script, capture_output=True, text=True, check=True)
    assert result.stdout == "one,two\n"


def test_the_instances_flux_command_is_found(shared: Instance) -> None:
    # Also where ours is not in PATH, as when a virtual environment is used without being activated.
    path = Path(sys.executable).parent
    others = [entry for entry in os.environ["PATH"].split(":") if Path(entry) != path]
    with Instance(env={"PATH": ":".join(others)}) as instance:
        result = instance.run("flux", "getattr", "broker.pid", capture_output=True, text=True, check=True)
        assert int(result.stdout) == instance.pid


def test_run_is_subprocess_run(shared: Instance, tmp_path: Path) -> None:
    result = shared.run("sh", "-c", "cat; pwd; exit 3", input=b"input\n", stdout=subprocess.PIPE, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (3, b"input\n%s\n" % os.fsencode(tmp_path))
    with pytest.raises(subprocess.CalledProcessError):
        shared.run("false", check=True)


def test_env_changes_the_environment_of_the_instance_and_of_one_program(shared: Instance) -> None:
    show = ("sh", "-c", "echo ${ADDED-none} ${HOME-none} ${MORE-none}")

    def shown(**env: str | None) -> str:
        return str(shared.run(*show, capture_output=True, text=True, env=env or None).stdout)

    assert shown() == "yes none none\n"
    assert shown(ADDED=None, MORE="more") == "none none more\n"
    assert shown() == "yes none none\n"


def test_environ_is_a_copy(shared: Instance) -> None:
    shared.environ["FLUX_URI"] = "local:///nowhere"
    assert shared.environ["FLUX_URI"] == shared.uri


def test_log_has_the_lines_of_dmesg(shared: Instance) -> None:
    with shared.handle() as handle:
        handle.log(5, "two\nlines of a test")
        handle.rpc("broker.ping", {}).get()  # behind it
    command = shared.run("flux", "dmesg", "--color=never", capture_output=True, text=True, check=True)
    assert shared.log() == command.stdout
    assert shared.log().endswith("lines of a test\n")


def test_an_environment_around_the_test_is_not_that_of_the_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    strange = {
        "FLUX_URI": "local:///nowhere",
        "FLUX_CONF_DIR": "/nowhere",
        "FLUX_RC_EXTRA": "/nowhere",
        "PMI_FD": "0",
        "PMI_RANK": "1",
        "PMI_SIZE": "2",
        "SLURM_JOB_ID": "7",
    }
    for name, value in strange.items():
        monkeypatch.setenv(name, value)
    with Instance() as instance:
        assert instance.environ["FLUX_URI"] == instance.uri != strange["FLUX_URI"]
        assert not {*strange} - {"FLUX_URI"} & {*instance.environ}


@pytest.mark.parametrize("name", ["flux.toml", "flux.json", "."])
def test_the_configuration_may_be_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "flux.toml").write_text("[table]\nkey = 'toml'\n")
    (tmp_path / "flux.json").write_text('{"table": {"key": "json"}}')
    monkeypatch.chdir(tmp_path)
    instance = Instance(config=Path(name))
    monkeypatch.chdir("/")
    with instance, instance.handle() as handle:
        assert handle.conf_get("table.key") == ("json" if name == "flux.json" else "toml")


# What cannot be.


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "size=0: an instance has at least one broker"),
        (-1, "size=-1: an instance has at least one broker"),
    ],
)
def test_sizes_that_cannot_be(size: int, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Instance(size)


def test_a_configuration_is_a_dict_or_a_path() -> None:
    with pytest.raises(TypeError, match="config: expected a dict or a path, not list"):
        Instance(config=["key=value"])  # type: ignore[arg-type]


def test_an_instance_without_the_program_that_ties_it_to_us_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"broker\.rc2_none: .* needs its initial program"):
        Instance(attributes={"broker.rc2_none": "1"})


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"attributes": {"foo": "1"}}, "does not start: exit code 1\nflux-broker: foo: unknown attribute"),
        ({"config": "/nonexistent"}, "/nonexistent: No such file or directory"),
        ({"config": {"access": {"what": 1}}}, "--conf: access.what: unknown key"),
        ({"attributes": {"broker.rc1_path": "echo why >&2; exit 7"}}, r"(?s)exit code 7\n.*rc1\.0: why"),
        ({"attributes": {"broker.rc1_path": "kill -9 $PPID"}}, r"signal 9 \(Killed\) \(it has written nothing"),
    ],
)
def test_an_instance_that_does_not_come_up_says_why(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(InstanceError, match=text):
        Instance(**arguments).start()


def test_an_instance_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    slow = {"broker.rc1_path": f"echo $PPID >{pid}.new; mv {pid}.new {pid}; echo slow >&2; read forever"}
    for patience in (1, 4, 60):  # so long that it gets there, whatever the machine is busy with
        with pytest.raises(InstanceError, match=f"not started within {patience} seconds") as error:
            Instance(attributes=slow, timeout=patience).start()
        if "rc1.0: slow" in str(error.value):
            break
    else:
        pytest.fail("what the broker has written is not shown")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


@pytest.mark.parametrize("what", ["uri", "rundir", "pid", "environ", "handle", "aio", "log", "wait"])
def test_an_instance_that_was_not_started_says_so(what: str) -> None:
    def use() -> None:
        value = getattr(Instance(), what)
        if callable(value):
            value()

    with pytest.raises(InstanceError, match="the instance has not been started"):
        use()


# How it ends.


def test_nothing_is_left_when_it_has_ended() -> None:
    instance = Instance()
    instance.stop()  # nothing to do
    assert instance.start() is instance
    assert os.path.isdir(instance.rundir)
    instance.stop()
    assert not os.path.exists(instance.rundir)
    with pytest.raises(ProcessLookupError):
        os.kill(instance.pid, 0)
    with pytest.raises(OSError, match="was not found"):
        instance.handle()
    instance.stop()
    instance.kill()
    assert instance.wait() == 0


def test_it_can_be_started_again_but_not_twice() -> None:
    with Instance() as instance:
        first = instance.pid
        with pytest.raises(RuntimeError, match="running already"):
            instance.start()
        instance.stop()
        instance.start()
        assert instance.pid != first
        with instance.handle() as handle:
            assert int(handle.attr_get("broker.pid")) == instance.pid


def test_kill_is_a_crash_and_its_clients_notice() -> None:
    with Instance() as instance, instance.handle() as handle:
        waiting = handle.rpc("log.dmesg", {"follow": True, "nobacklog": True}, flags=flux.constants.FLUX_RPC_STREAMING)
        instance.kill()
        with pytest.raises(ConnectionResetError):
            waiting.get()
    assert instance.wait() == -signal.SIGKILL


def test_an_end_that_the_test_has_caused_is_waited_for() -> None:
    with Instance() as instance:
        with pytest.raises(TimeoutError, match=r"not ended within 0\.01 seconds"):
            instance.wait(0.01)
        os.kill(instance.pid, signal.SIGTERM)
        assert instance.wait() == 128 + signal.SIGHUP


def test_an_end_by_itself_is_an_error() -> None:
    instance = Instance().start()
    os.kill(instance.pid, signal.SIGKILL)
    os.waitid(os.P_PID, instance.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(InstanceError, match=r"has ended by itself: signal 9 \(Killed\)"):
        instance.stop()


def test_a_failure_at_the_end_is_an_error_with_what_was_written() -> None:
    instance = Instance(attributes={"broker.rc3_path": "echo why >&2; exit 5"}).start()
    with pytest.raises(InstanceError, match=r"(?s)failed at its end: exit code 5\n.*rc3\.0: why"):
        instance.stop()
    assert "rc3.0: why" in instance.output


def test_a_failure_at_the_end_does_not_hide_that_of_the_test() -> None:
    with pytest.raises(ZeroDivisionError) as caught, Instance(attributes={"broker.rc3_path": "exit 5"}):
        raise ZeroDivisionError
    assert "failed at its end: exit code 5" in caught.value.__notes__[0]


def test_an_instance_that_does_not_end_is_killed() -> None:
    instance = Instance(attributes={"broker.rc3_path": "echo slow >&2; sleep 1000"}).start()
    instance.timeout = 0.5
    with pytest.raises(InstanceError, match=r"(?s)not ended within 0\.5 seconds and was killed.*"):
        instance.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(instance.pid, 0)


def test_output_is_what_the_broker_writes_also_after_its_end() -> None:
    with Instance(attributes={"log-stderr-level": "7"}) as instance:
        assert "init->quorum" in instance.output
        with instance.handle() as handle:
            handle.log(6, "said by a test")
            handle.rpc("broker.ping", {}).get()
        assert "said by a test" in instance.output
    assert "said by a test" in instance.output
    assert "cleanup->shutdown" in instance.output


# Whose it is.

_OWNER = """
import os, signal, sys
from fluxlet.testing import Instance

instance = Instance().start()
{more}
print(instance.pid, instance.rundir, flush=True)
{end}
"""


@pytest.mark.parametrize(
    ("more", "end"),
    [
        ("", "os._exit(0)"),
        ("", "os.kill(os.getpid(), signal.SIGKILL)"),
        ("", "sys.exit(1)"),
        ("", "raise RuntimeError('unexpected')"),
        # A child that is still there when its parent is not.
        ("if not os.fork(): sys.stdin.read(); os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)"),
    ],
)
def test_it_ends_with_the_process_that_started_it(more: str, end: str) -> None:
    script = _OWNER.format(more=more, end=end)
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as owner:
        assert owner.stdin is not None
        assert owner.stdout is not None
        pid, rundir = owner.stdout.readline().split()
        owner.wait(PATIENCE)
        wait_until(lambda: not os.path.exists(rundir), "the end of the instance")
        wait_until(lambda: not _alive(int(pid)), "the end of the broker")
        owner.stdin.close()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return not Path("/proc").is_dir()


def test_a_forked_child_uses_it_and_does_not_end_it() -> None:
    script = """
import os
from fluxlet.testing import Instance

def size(instance):
    with instance.handle() as handle:
        return handle.get_size()

with Instance() as instance:
    pid = os.fork()
    if not pid:
        print("child", size(instance), flush=True)
        instance.stop()
        instance.kill()
        os._exit(0)
    os.waitpid(pid, 0)
    print("parent", size(instance))
"""
    # Not in this process, which may have threads: those and fork do not go together.
    result = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("child 1\nparent 1\n", "")


def test_ctrl_c_is_not_for_the_instance() -> None:
    with Instance() as instance:
        assert os.getpgid(instance.pid) != os.getpgrp()
        assert os.getsid(instance.pid) != os.getsid(0)
