"""The module `rexec` in a broker: what the recordings do not show."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from in_process import GUEST, BrokerThread, ask, error_of, outcome, tell, until

import flux
from flux.constants import FLUX_RPC_STREAMING


class Exec:
    """A process in the foreground, and what is heard of it."""

    def __init__(self, handle: flux.Flux, *words: str, flags: int = 3, local_flags: int = 0, **fields: Any) -> None:
        cmd = {"cmdline": list(words), "env": {"PATH": os.environ["PATH"]}, "opts": {}, "channels": [], **fields}
        self.handle = handle
        payload = {"cmd": cmd, "flags": flags, "local_flags": local_flags}
        self.rpc = handle.rpc("rexec.exec", payload, 0, FLUX_RPC_STREAMING)
        self.pid = 0
        self.heard: list[dict[str, Any]] = []
        self.output: dict[str, bytes] = {}
        self.status: int | None = None

    def next(self) -> dict[str, Any]:
        """The next response. Raises OSError for an error, ENODATA too."""
        answer: dict[str, Any] = self.rpc.get()
        self.rpc.reset()
        self.heard.append(answer)
        if answer["type"] == "started":
            self.pid = answer["pid"]
        elif answer["type"] == "output" and "data" in answer["io"]:
            io = answer["io"]
            self.output[io["stream"]] = self.output.get(io["stream"], b"") + io["data"].encode()
        elif answer["type"] == "finished":
            self.status = answer["status"]
        return answer

    def started(self) -> Exec:
        while not self.pid:
            self.next()
        return self

    def until(self, kind: str) -> dict[str, Any]:
        while (answer := self.next())["type"] != kind:
            pass
        return answer

    def run(self) -> Exec:
        """To its end."""
        try:
            while True:
                self.next()
        except OSError as exc:
            if exc.errno != errno.ENODATA:
                raise
        return self

    def write(self, data: str = "", eof: bool = False, stream: str = "stdin") -> None:
        io: dict[str, Any] = {"stream": stream, "rank": "0"}
        if data:
            io["data"] = data
        if eof:
            io["eof"] = True
        tell(self.handle, "rexec.write", {"matchtag": self.rpc.handle.matchtag, "io": io}, flags=4)  # NORESPONSE


def background(handle: flux.Flux, *words: str, flags: int = 0, **fields: Any) -> int:
    """Starts a process in the background."""
    cmd = {"cmdline": list(words), "env": {"PATH": os.environ["PATH"]}, "opts": {}, "channels": [], **fields}
    return int(handle.rpc("rexec.exec", {"cmd": cmd, "flags": flags}).get()["pid"])


def procs(handle: flux.Flux) -> list[dict[str, Any]]:
    return handle.rpc("rexec.list").get()["procs"]  # type: ignore[no-any-return]


def alive(pid: int) -> bool:
    """It runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def log_of(broker: BrokerThread) -> list[str]:
    raw = broker.call(lambda: list(broker.broker.log.ring))
    lines = [line.decode().split(" ", 7) for line in raw]
    return [f"{int(line[0][1:-2]) >> 3} {line[7]}" for line in lines if line[3] == "rexec"]


# Who may.


@pytest.mark.parametrize("method", ["exec", "write", "kill", "list", "wait", "attach"])
def test_guests_are_refused(handle: flux.Flux, method: str) -> None:
    assert outcome(ask(handle, f"rexec.{method}", {}, **GUEST)) == (
        errno.EPERM,
        "Request requires owner credentials",
    )


@pytest.mark.parametrize("method", ["exec", "kill", "list", "wait", "attach"])
def test_where_guests_may_connect_rank_0_runs_nothing_for_other_ranks(
    start_broker: Callable[..., BrokerThread], method: str
) -> None:
    broker = start_broker(config={"access": {"allow-guest-user": True}})
    with broker.open() as handle:
        # Without the LOCAL role, as it comes from another rank.
        answer = ask(handle, f"rexec.{method}", {}, userid=os.getuid(), rolemask=1)
        assert outcome(answer) == (errno.EPERM, "Remote rexec requests are not allowed on rank 0")
        tell(handle, "rexec.write", {}, userid=os.getuid(), rolemask=1)
        until(lambda: "3 rexec.write: Remote rexec requests are not allowed on rank 0" in log_of(broker))
        assert Exec(handle, "true").run().status == 0


# What a process finds.


def test_a_process_has_its_streams_and_no_other_descriptors(handle: flux.Flux) -> None:
    inherited = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    try:
        ran = Exec(handle, "sh", "-c", "exec ls -l /proc/self/fd").run()
    finally:
        os.close(inherited)
    numbers = [line.split(b" -> ")[0].split()[-1] for line in ran.output["stdout"].splitlines()[1:]]
    assert numbers == [b"0", b"1", b"2", b"3"]  # 3 is the directory that ls reads


def test_a_process_leads_a_group_of_its_own_and_has_the_default_signals(handle: flux.Flux) -> None:
    script = "ps -o pid=,pgid= -p $$; grep -E '^Sig(Blk|Ign)' /proc/self/status"
    ran = Exec(handle, "sh", "-c", script).run()
    pids, *masks = ran.output["stdout"].decode().splitlines()
    assert pids.split() == [str(ran.pid)] * 2
    own = 3 << 31  # 32 and 33 are the C library's, which ignores them in what it spawns
    assert [int(mask.split()[1], 16) & ~own for mask in masks] == [0, 0]


def test_without_a_group_of_its_own_a_process_is_in_that_of_the_broker(handle: flux.Flux) -> None:
    ran = Exec(handle, "sh", "-c", "ps -o pgid= -p $$; read x", local_flags=2).started()
    ran.until("output")
    assert int(ran.output["stdout"]) == os.getpgrp()
    handle.rpc("rexec.kill", {"pid": ran.pid, "signum": 15}).get()
    assert ran.run().status == 15


def test_an_empty_environment_stands_for_that_of_the_broker(
    handle: flux.Flux, broker_thread: BrokerThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARK", "here")
    monkeypatch.setenv("FLUX_JOB_ID", "1")
    ran = Exec(handle, "sh", "-c", "echo $MARK $FLUX_JOB_ID $FLUX_URI", env={}).run()
    assert ran.output["stdout"].decode() == f"here {broker_thread.uri}\n"


def test_a_program_is_searched_in_both_paths(handle: flux.Flux, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    for name, mode in (("mine", 0o755), ("locked", 0o644)):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\necho found\n")
        (tmp_path / "bin" / name).chmod(mode)
    # In that of its own environment, also relative to its directory; then in that of the server.
    assert Exec(handle, "mine", env={"PATH": "bin"}, cwd=str(tmp_path)).run().output["stdout"] == b"found\n"
    assert Exec(handle, "./bin/mine", cwd=str(tmp_path)).run().output["stdout"] == b"found\n"
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    assert Exec(handle, "mine", env={"PATH": "/nowhere"}).run().output["stdout"] == b"found\n"
    for name, errnum in (("locked", errno.EACCES), ("missing", errno.ENOENT)):
        ran = Exec(handle, name, env={"PATH": "/nowhere"})
        assert error_of(ran.next) == (errnum, f"error launching process: {os.strerror(errnum)}")


@pytest.mark.parametrize(
    ("fields", "errnum"),
    [
        ({"cmdline": ["tr\0ue"]}, errno.EINVAL),
        ({"cmdline": ["true", "a\0b"]}, errno.EINVAL),
        ({"env": {"A=B": "x"}}, errno.EINVAL),
        ({"cmdline": ["true", "x" * (1 << 22)]}, errno.E2BIG),
        ({"cmdline": ["/"]}, errno.EACCES),
        ({"opts": {"stdin_BUFSIZE": "0"}}, errno.EINVAL),
        ({"opts": {"FOO_LINE_BUFFER": "perhaps"}, "channels": ["FOO"]}, errno.EINVAL),
    ],
)
def test_what_cannot_be_started_says_why(handle: flux.Flux, fields: dict[str, Any], errnum: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    ran = Exec(handle, *fields.pop("cmdline", ["true"]), **fields)
    assert error_of(ran.next) == (errnum, f"error launching process: {os.strerror(errnum)}")
    assert len(os.listdir("/proc/self/fd")) == before
    assert procs(handle) == []


def test_without_descriptors_nothing_is_started_and_nothing_lost(
    handle: flux.Flux, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    Exec(handle, "true").run()
    before = len(os.listdir("/proc/self/fd"))
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    for function in ("pipe", "pidfd_open"):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, refuse)
            ran = Exec(handle, "sleep", "1000")
            assert error_of(ran.next) == (errno.EMFILE, "error launching process: Too many open files")
    assert len(os.listdir("/proc/self/fd")) == before
    assert procs(handle) == []
    assert not any("sleep" in Path(f"/proc/{pid}/comm").read_text() for pid in children.read_text().split())


@pytest.mark.parametrize(
    ("words", "flags", "errnum"), [(["./nothing"], 0, errno.ENOENT), (["/etc/passwd"], 1, errno.EACCES)]
)
def test_a_process_without_streams_that_cannot_be_started(
    handle: flux.Flux, words: list[str], flags: int, errnum: int
) -> None:
    assert error_of(Exec(handle, *words, flags=flags).next)[0] == errnum


def test_a_directory_that_may_not_be_entered(handle: flux.Flux, tmp_path: Any) -> None:
    path = tmp_path / "file"
    path.touch()
    ran = Exec(handle, "pwd", cwd=str(path)).run()
    text = f"Could not change dir to {path}: Not a directory. Going to /tmp instead\n"
    assert (ran.output["stdout"], ran.output["stderr"].decode()) == (b"/tmp\n", text)


# Input and output.


def test_input_of_many_times_the_socket_s_size_arrives(handle: flux.Flux) -> None:
    ran = Exec(handle, "wc", "-c", flags=11, opts={"stdin_BUFSIZE": "1M"}).started()
    total, credit = 20 << 20, 0
    sent = 0
    while sent < total:
        while not credit:
            credit += ran.until("add-credit")["channels"]["stdin"]
        size = min(credit, total - sent, 300_000)
        ran.write("x" * size)
        sent += size
        credit -= size
    ran.write(eof=True)
    ran.run()
    assert int(ran.output["stdout"]) == total
    returned = [answer["channels"]["stdin"] for answer in ran.heard if answer["type"] == "add-credit"]
    assert sum(returned) == (1 << 20) + total


def test_input_that_nobody_reads_is_credited_all_the_same(handle: flux.Flux) -> None:
    ran = Exec(handle, "sh", "-c", "exec 0<&-; echo closed; sleep 100", flags=11).started()
    ran.until("output")
    for size in (1000, 2000):
        ran.write("x" * size)
        assert ran.until("add-credit")["channels"] == {"stdin": size}
    handle.rpc("rexec.kill", {"pid": ran.pid, "signum": 9}).get()
    assert ran.run().status == 9


def test_only_the_client_that_has_started_a_process_feeds_it(handle: flux.Flux, broker_thread: BrokerThread) -> None:
    ran = Exec(handle, "cat").started()
    with broker_thread.open() as other:
        io = {"stream": "stdin", "rank": "0", "data": "not mine\n"}
        tell(other, "rexec.write", {"matchtag": ran.rpc.handle.matchtag, "io": io}, flags=4)
        other.rpc("rexec.list").get()  # it has been dealt with
    ran.write("mine\n", eof=True)
    assert ran.run().output["stdout"] == b"mine\n"


@pytest.mark.parametrize(
    "io",
    [
        {"stream": "stdin", "rank": "0"},
        {"stream": "stdin", "rank": 0, "eof": True},
        {"stream": "stdin", "rank": "0", "data": "!", "encoding": "base64"},
        {"stream": "stdin", "rank": "0", "data": "x", "encoding": "rot13"},
        7,
    ],
)
def test_a_write_that_makes_no_sense_is_logged(handle: flux.Flux, broker_thread: BrokerThread, io: Any) -> None:
    ran = Exec(handle, "cat").started()
    tell(handle, "rexec.write", {"matchtag": ran.rpc.handle.matchtag, "io": io}, flags=4)
    ran.write("good", eof=True)
    assert ran.run().output["stdout"] == b"good"
    assert any(line.startswith("3 Error decoding write request: ") for line in log_of(broker_thread))


def test_a_line_longer_than_any_read_comes_whole(handle: flux.Flux) -> None:
    ran = Exec(handle, "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; echo").run()
    pieces = [answer["io"]["data"] for answer in ran.heard if answer["type"] == "output" and "data" in answer["io"]]
    assert [len(piece) for piece in pieces] == [3_000_001]


def test_output_of_grandchildren_is_heard_after_the_end_of_the_process(handle: flux.Flux, tmp_path: Any) -> None:
    os.mkfifo(tmp_path / "fifo")
    ran = Exec(handle, "sh", "-c", f"(read x < {tmp_path}/fifo; echo late) & exit 3")
    ran.until("finished")
    assert ran.output == {}
    (tmp_path / "fifo").write_text("go on\n")
    assert ran.run().output == {"stdout": b"late\n"}


def test_signals_reach_the_group_of_a_process_that_has_ended(handle: flux.Flux) -> None:
    ran = Exec(handle, "sh", "-c", "sleep 1000 & echo $!; exit 0")
    ran.until("finished")
    until(lambda: "stdout" in ran.output or bool(ran.next()))
    grandchild = int(ran.output["stdout"])
    assert alive(grandchild)
    handle.rpc("rexec.kill", {"pid": ran.pid, "signum": 15}).get()
    ran.run()
    until(lambda: not alive(grandchild))
    assert error_of(handle.rpc("rexec.kill", {"pid": ran.pid, "signum": 15}).get)[0] == errno.ESRCH


def test_a_client_that_does_not_read_stops_the_process_and_not_the_broker(
    handle: flux.Flux, broker_thread: BrokerThread
) -> None:
    with broker_thread.open() as reader:
        ran = Exec(reader, "yes", "123456789012345678901234567890").started()

        def waiting() -> int:
            server = broker_thread.broker.server
            return broker_thread.call(lambda: max(client.backlog for client in server.connections))

        until(lambda: waiting() > 1 << 20)
        before = resource_of(ran.pid)
        assert procs(handle)[0]["pid"] == ran.pid  # the broker has time for others
        assert resource_of(ran.pid) == before  # it waits
        assert waiting() < 2 << 20
        for _ in range(30_000):  # and goes on when its output is read
            ran.next()


def resource_of(pid: int) -> str:
    """The state of a process that waits for its pipe; none that runs looks the same twice."""
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline:
        with open(f"/proc/{pid}/wchan") as file:
            if "pipe" in file.read():
                return "waits"
        with open(f"/proc/{pid}/stat") as file:
            if file.read().rpartition(")")[2].split()[0] == "S":
                return "waits"
    raise AssertionError("it does not wait")


def test_many_processes_at_once(handle: flux.Flux) -> None:
    running = [Exec(handle, "sh", "-c", f"echo {number}; exit {number % 7}") for number in range(200)]
    for number, ran in enumerate(running):
        ran.run()
        assert (int(ran.output["stdout"]), ran.status) == (number, (number % 7) << 8)
    assert procs(handle) == []


# In the background.


def test_what_a_background_process_writes_is_logged(handle: flux.Flux, broker_thread: BrokerThread) -> None:
    pid = background(handle, "sh", "-c", "echo out; echo err >&2; exit 2", label="job")
    until(lambda: f"6 job: sh[{pid}]: Exit 2" in log_of(broker_thread))
    assert sorted(log_of(broker_thread)) == [
        f"6 job: sh[{pid}]: Exit 2",
        f"6 job[{pid}]: err",
        f"6 job[{pid}]: out",
    ]
    assert procs(handle) == []
    pid = background(handle, "/bin/sh", "-c", "echo hi; kill -9 $$")
    until(lambda: f"6 /bin/sh[{pid}]: Killed by signal 9" in log_of(broker_thread))
    assert f"6 sh[{pid}]: hi" in log_of(broker_thread)


def test_a_background_process_finds_its_input_at_the_end(handle: flux.Flux) -> None:
    background(handle, "cat", flags=16, label="cat")
    assert handle.rpc("rexec.wait", {"pid": -1, "label": "cat"}).get() == {"status": 0}


def test_a_background_process_survives_its_client_and_a_foreground_one_does_not(
    handle: flux.Flux, broker_thread: BrokerThread
) -> None:
    with broker_thread.open() as other:
        kept = background(other, "sleep", "1000")
        ran = Exec(other, "sh", "-c", "sleep 1000 & echo $!; wait").started()
        ran.until("output")
        child = int(ran.output["stdout"])
    until(lambda: [entry["pid"] for entry in procs(handle)] == [kept])
    until(lambda: not alive(child))
    handle.rpc("rexec.kill", {"pid": kept, "signum": 9}).get()
    until(lambda: procs(handle) == [])


def test_of_the_output_of_a_waitable_process_its_end_is_kept(handle: flux.Flux) -> None:
    script = "i=0; while [ $i -lt 2000 ]; do echo $((10000 + i)); i=$((i+1)); done"
    pid = background(handle, "sh", "-c", script, flags=16)
    output = handle.rpc("rexec.wait", {"pid": pid}).get()["output"]
    assert [io["data"] for io in output] == [f"{10000 + number}\n" for number in range(2000 - 8192 // 6, 2000)]
    pid = background(handle, "sh", "-c", "head -c 20000 /dev/zero; echo", flags=16)
    assert [len(io["data"]) for io in handle.rpc("rexec.wait", {"pid": pid}).get()["output"]] == [20001]


def test_a_wait_does_not_wait_for_daemons(handle: flux.Flux, broker_thread: BrokerThread) -> None:
    pid = background(handle, "sh", "-c", "sleep 1000 & echo $!", flags=16)
    answer = handle.rpc("rexec.wait", {"pid": pid}).get()
    daemon = int(answer["output"][0]["data"])
    assert answer["status"] == 0
    assert alive(daemon)
    assert procs(handle) == []
    broker_thread.call(lambda: broker_thread.broker.unload("rexec"))
    until(lambda: not alive(daemon))


def test_a_waiter_that_goes_leaves_its_place_to_others(handle: flux.Flux, broker_thread: BrokerThread) -> None:
    pid = background(handle, "sleep", "1000", flags=16)
    server = broker_thread.broker.modules["rexec"].instance.server  # type: ignore[attr-defined]

    def is_waited_for() -> bool:
        return broker_thread.call(lambda: server._by_pid[pid].waiter is not None)

    with broker_thread.open() as other:
        waiting = other.rpc("rexec.wait", {"pid": pid})
        until(is_waited_for)
        text = "process is already being waited on"
        assert error_of(handle.rpc("rexec.wait", {"pid": pid}).get) == (errno.EINVAL, text)
        del waiting
    until(lambda: not is_waited_for())
    answer = handle.rpc("rexec.wait", {"pid": pid})
    handle.rpc("rexec.kill", {"pid": pid, "signum": 15}).get()
    assert answer.get() == {"status": 15}


def test_listening_to_a_process_and_ceasing_to(handle: flux.Flux, broker_thread: BrokerThread) -> None:
    pid = background(handle, "sh", "-c", "trap 'echo caught' USR1; while :; do sleep 0.01; done", label="bg")
    with broker_thread.open() as other:
        attached = other.rpc("rexec.attach", {"pid": pid, "flags": 1}, 0, FLUX_RPC_STREAMING)
        assert attached.get()["type"] == "attached"
        attached.reset()
        text = "subprocess already has a client attached"
        busy = handle.rpc("rexec.attach", {"pid": pid, "flags": 1}, 0, FLUX_RPC_STREAMING)
        assert error_of(busy.get) == (errno.EBUSY, text)
        until(lambda: signal_is_caught(pid, signal.SIGUSR1))
        handle.rpc("rexec.kill", {"pid": pid, "signum": int(signal.SIGUSR1)}).get()
        assert attached.get()["io"] == {"stream": "stdout", "rank": "0", "data": "caught\n"}
    until(lambda: broker_thread.call(lambda: True) and [entry["pid"] for entry in procs(handle)] == [pid])

    def attach_again() -> bool:
        again = handle.rpc("rexec.attach", {"pid": -1, "label": "bg", "flags": 3}, 0, FLUX_RPC_STREAMING)
        try:
            return bool(again.get()["type"] == "attached")
        except OSError:
            return False  # the other's notice is still on its way

    until(attach_again)
    handle.rpc("rexec.kill", {"pid": pid, "signum": 9}).get()
    until(lambda: procs(handle) == [])
    assert f"6 bg[{pid}]: caught" in log_of(broker_thread)


def signal_is_caught(pid: int, signum: int) -> bool:
    with open(f"/proc/{pid}/status") as file:
        caught = next(line for line in file if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signum - 1) & 1)


def test_who_is_attached_at_the_end_has_collected_a_waitable_process(handle: flux.Flux) -> None:
    pid = background(handle, "sleep", "1000", flags=16)
    attached = handle.rpc("rexec.attach", {"pid": pid, "flags": 3}, 0, FLUX_RPC_STREAMING)
    attached.get()
    attached.reset()
    text = "subprocess has a client attached"
    assert error_of(handle.rpc("rexec.wait", {"pid": pid}).get) == (errno.EBUSY, text)
    handle.rpc("rexec.kill", {"pid": pid, "signum": 9}).get()
    heard = []
    for _ in range(3):  # the end of both streams, and of the process
        heard.append(attached.get())
        attached.reset()
    assert error_of(attached.get)[0] == errno.ENODATA
    assert {"type": "finished", "status": 9} in heard
    assert procs(handle) == []


def test_a_process_that_is_waited_for_cannot_be_attached_to(handle: flux.Flux) -> None:
    pid = background(handle, "sleep", "1000", flags=16)
    waiting = handle.rpc("rexec.wait", {"pid": pid})
    attach = handle.rpc("rexec.attach", {"pid": pid, "flags": 3}, 0, FLUX_RPC_STREAMING)
    assert error_of(attach.get) == (errno.EBUSY, "subprocess is being waited on")
    handle.rpc("rexec.kill", {"pid": pid, "signum": 9}).get()
    assert waiting.get() == {"status": 9}


# Requests that will not do.


@pytest.mark.parametrize(
    ("method", "payload", "errnum", "text"),
    [
        ("kill", None, errno.EPROTO, "invalid request payload: request has no payload"),
        ("kill", {"pid": "1", "signum": 1}, errno.EPROTO, "invalid request payload: Expected integer, got string"),
        ("kill", {"pid": 1}, errno.EPROTO, "invalid request payload: Object item not found: signum"),
        (
            "kill",
            {"pid": 1, "signum": 1, "label": 5},
            errno.EPROTO,
            "invalid request payload: Expected string, got integer",
        ),
        ("wait", {"pid": True}, errno.EPROTO, "invalid request payload: Expected integer, got true"),
        ("wait", {"pid": 1, "signature": "x"}, errno.EPERM, "flux-security support not available"),
        ("exec", {"cmd": 5, "flags": 0}, errno.EPROTO, "error parsing command string"),
        (
            "exec",
            {"cmd": {"cmdline": "true", "env": {}, "opts": {}, "channels": []}, "flags": 0},
            errno.EINVAL,
            "error parsing command string",
        ),
        (
            "exec",
            {"cmd": {"cmdline": ["true"], "env": {}, "opts": {}, "channels": [], "cwd": None}, "flags": 0},
            errno.EPROTO,
            "error parsing command string",
        ),
        ("nosuch", {}, errno.ENOSYS, "Unknown service method 'rexec.nosuch'"),
    ],
)
def test_requests_that_will_not_do(handle: flux.Flux, method: str, payload: Any, errnum: int, text: str) -> None:
    assert outcome(ask(handle, f"rexec.{method}", payload)) == (errnum, text)


# The end.


def test_nothing_outlives_the_module(handle: flux.Flux, broker_thread: BrokerThread) -> None:
    kept = background(handle, "sleep", "1000", label="plain")
    stopped = background(handle, "sleep", "1000")
    handle.rpc("rexec.kill", {"pid": stopped, "signum": int(signal.SIGSTOP)}).get()
    waiting = background(handle, "sleep", "1000", flags=16)
    answer = handle.rpc("rexec.wait", {"pid": waiting})
    ran = Exec(handle, "sleep", "1000").started()
    broker_thread.call(lambda: broker_thread.broker.unload("rexec"))
    assert not any(alive(pid) for pid in (kept, stopped, waiting, ran.pid))
    assert answer.get() == {"status": 15}
    broker_thread.call(lambda: broker_thread.broker.load("rexec", type_of_rexec()))
    assert procs(handle) == []


def type_of_rexec() -> Any:
    from fluxlet.modules.rexec.module import Rexec

    return Rexec


def test_what_ignores_the_end_is_killed(
    handle: flux.Flux, broker_thread: BrokerThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fluxlet.modules.rexec.module._GRACE", 0.05)
    pid = background(handle, "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done")
    until(lambda: any("ready" in line for line in log_of(broker_thread)))
    broker_thread.call(lambda: broker_thread.broker.unload("rexec"))
    assert not alive(pid)
    assert "3 subprocess server shutdown: Connection timed out" in log_of(broker_thread)
