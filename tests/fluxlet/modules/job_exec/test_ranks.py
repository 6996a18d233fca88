"""Jobs on several ranks: one shell process on each, which find each other, exchange, and are lost."""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flux
import flux.job
from flux.core import fluid
from fluxlet.testing import Instance


class Ranks:
    """Three brokers, with all services."""

    def __init__(self, uri: str) -> None:
        self.handle = flux.Flux(uri)
        self.host = self.handle.attr_get("hostname")

    def submit(self, command: list[str], tasks: int = 3, nodes: int = 3, **options: Any) -> int:
        jobspec = flux.job.JobspecV1.from_command(command, num_tasks=tasks, num_nodes=nodes)
        jobspec.environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
        jobspec.cwd = "/tmp"
        for name, value in options.items():
            jobspec.setattr_shell_option(name.replace("_", "-"), value)
        return int(flux.job.submit(self.handle, jobspec, waitable=True))

    def wait(self, jobid: int) -> int:
        """The status of a job at its end; what it leaves is there."""
        info = flux.job.result(self.handle, jobid)
        flux.job.wait(self.handle, jobid)
        while self.handle.rpc("job-exec.stats-get").get()["jobs"]:
            time.sleep(0.01)
        return int(info.waitstatus)

    def run(self, command: list[str], **more: Any) -> int:
        jobid = self.submit(command, **more)
        self.status = self.wait(jobid)
        return jobid

    def events(self, jobid: int, key: str = "guest.exec.eventlog") -> list[dict[str, Any]]:
        payload = {"key": f"{fluid.kvs(jobid)}.{key}", "namespace": "primary", "flags": 0}
        try:
            answer = self.handle.rpc("kvs.lookup", payload).get()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in base64.b64decode(answer["val"]["data"]).decode().splitlines()]

    def until(self, jobid: int, name: str, key: str = "guest.exec.eventlog") -> None:
        deadline = time.monotonic() + 60.0
        while not any(event["name"] == name for event in self.events(jobid, key)):
            assert time.monotonic() < deadline, self.events(jobid, key)
            time.sleep(0.01)

    def output(self, jobid: int) -> dict[int, str]:
        found: dict[int, str] = {}
        for event in self.events(jobid, "guest.output"):
            context = event.get("context", {})
            if event["name"] == "data" and context["stream"] == "stdout":
                rank = int(context["rank"])
                found[rank] = found.get(rank, "") + context.get("data", "")
        return found

    def exceptions(self, jobid: int) -> list[tuple[str, int, str]]:
        return [
            (e["context"]["type"], e["context"]["severity"], e["context"]["note"])
            for e in self.events(jobid, "eventlog")
            if e["name"] == "exception"
        ]

    def logged(self, jobid: int) -> list[str]:
        return [e["context"]["message"] for e in self.events(jobid, "guest.output") if e["name"] == "log"]

    def kill_shell(self, rank: int) -> None:
        keeper = self.handle.rpc("job-shell.stats-get", None, rank).get()["pid"]
        os.kill(int(Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()[0]), signal.SIGKILL)


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    with Instance(size=3) as instance:
        yield Ranks(instance.uri)


def test_tasks_on_all_ranks(ranks: Ranks) -> None:
    script = "echo $FLUX_TASK_RANK/$FLUX_JOB_SIZE local $FLUX_TASK_LOCAL_ID of {{node.id}}; exit $FLUX_TASK_RANK"
    jobid = ranks.run(["sh", "-c", script], tasks=4)
    assert ranks.status == 3 << 8
    assert ranks.output(jobid) == {
        0: "0/4 local 0 of 0\n",
        1: "1/4 local 1 of 0\n",
        2: "2/4 local 0 of 1\n",
        3: "3/4 local 0 of 2\n",
    }
    by_name = {event["name"]: event.get("context") for event in ranks.events(jobid)}
    assert by_name["shell.init"]["size"] == 3
    assert by_name["shell.start"] == {"taskmap": {"version": 1, "map": [[0, 1, 2, 1], [1, 2, 1, 1]]}}
    assert by_name["complete"] == {"status": 3 << 8}
    names = [event["name"] for event in ranks.events(jobid)]
    assert len(names) == len(set(names))
    assert sum(bool(e.get("context", {}).get("eof")) for e in ranks.events(jobid, "guest.output")) == 8


def test_a_command_that_does_not_exist_on_several_ranks(ranks: Ranks) -> None:
    jobid = ranks.run(["/nosuch"])
    assert ranks.status == 127 << 8
    assert ranks.exceptions(jobid)[0][0] == "exec"


def test_bad_options_on_several_ranks(ranks: Ranks) -> None:
    jobid = ranks.run(["true"], exit_timeout="soon")
    assert ranks.status == 256
    assert ranks.exceptions(jobid)[0] == ("exec", 0, "invalid value for option exit-timeout: soon")


def test_a_job_on_several_ranks_is_canceled(ranks: Ranks) -> None:
    jobid = ranks.submit(["sleep", "600"])
    ranks.until(jobid, "shell.start")
    flux.job.cancel(ranks.handle, jobid)
    assert ranks.wait(jobid) == 143 << 8


def test_stdin_reaches_all_ranks(ranks: Ranks) -> None:
    jobid = ranks.submit(["cat"])
    ranks.until(jobid, "shell.init")
    service = f"{os.getuid()}-shell-{fluid.f58plain(jobid)}"
    for payload in ({"rank": "all", "data": "all\n"}, {"rank": "2", "data": "two\n"}, {"rank": "all", "eof": True}):
        ranks.handle.rpc(f"{service}.stdin", {"stream": "stdin", **payload}, 0).get()
    assert ranks.wait(jobid) == 0
    assert ranks.output(jobid) == {0: "all\n", 1: "all\n", 2: "all\ntwo\n"}


def test_tasks_of_all_ranks_exchange_their_keys(ranks: Ranks) -> None:
    script = """
import os, socket
file = socket.socket(fileno=int(os.environ["PMI_FD"])).makefile("rw", newline="\\n")
rank = os.environ["PMI_RANK"]
def ask(line):
    file.write(line + "\\n"); file.flush()
    return file.readline().rstrip("\\n")
name = ask("cmd=get_my_kvsname").rpartition("=")[2]
for turn in range(3):
    ask(f"cmd=put kvsname={name} key=k{rank} value={rank}:{turn}")
    ask(f"cmd=barrier_in")
    print(" ".join(ask(f"cmd=get kvsname={name} key=k{n}").rpartition("=")[2] for n in range(3)), flush=True)
    ask(f"cmd=barrier_in")
ask("cmd=finalize")
"""
    jobid = ranks.run([sys.executable, "-c", script])
    assert ranks.status == 0
    lines = "0:0 1:0 2:0\n0:1 1:1 2:1\n0:2 1:2 2:2\n"
    assert ranks.output(jobid) == {0: lines, 1: lines, 2: lines}


def test_output_of_a_follower_is_bounded_by_credits(ranks: Ranks) -> None:
    jobid = ranks.run(["sh", "-c", "[ {{node.id}} = 2 ] && seq 400000"])
    assert ranks.output(jobid)[2] == "".join(f"{number}\n" for number in range(1, 400001))


def test_one_file_for_all_ranks_is_written_by_the_leader(ranks: Ranks, tmp_path: Path) -> None:
    option = {"stdout": {"type": "file", "path": str(tmp_path / "all"), "label": True}}
    ranks.run(["echo", "hi"], output=option)
    assert sorted((tmp_path / "all").read_text().splitlines()) == ["0: hi", "1: hi", "2: hi"]
    option = {"stdout": {"type": "file", "path": str(tmp_path / "{{node.id}}")}}
    ranks.run(["echo", "{{taskid}}"], output=option)
    assert [(tmp_path / str(rank)).read_text() for rank in range(3)] == ["0\n", "1\n", "2\n"]


def test_the_process_table_of_all_ranks(ranks: Ranks) -> None:
    jobid = ranks.submit(["sleep", "600"])
    ranks.until(jobid, "shell.start")
    service = f"{os.getuid()}-shell-{fluid.f58plain(jobid)}"
    table = ranks.handle.rpc(f"{service}.proctable", {}, 0).get()
    assert (table["ids"], table["ranks"]) == ([[0, 2]], [[0, 2]])
    assert ranks.handle.rpc(f"{service}.proctable", {}, 1).get()["ids"] == [1]
    with pytest.raises(OSError, match="Unknown service method"):
        ranks.handle.rpc(f"{service}.stdin", {"stream": "stdin", "rank": "0", "eof": True}, 1).get()
    flux.job.cancel(ranks.handle, jobid)
    ranks.wait(jobid)


def test_a_lost_follower_starts_the_exit_timeout(ranks: Ranks) -> None:
    jobid = ranks.submit(["sleep", "600"], tasks=2, nodes=2, exit_timeout="0.2s")
    ranks.until(jobid, "shell.start")
    ranks.kill_shell(1)
    assert ranks.wait(jobid) == 256  # as recorded (exec-job-lost-shell)
    note = f"sleep: shell rank 1 on host {ranks.host} exited and exit-timeout=0.2s has expired"
    assert ranks.exceptions(jobid)[0] == ("exec", 0, note)
    assert f"exception: shell rank 1 (on {ranks.host}): Killed" in ranks.logged(jobid)


def test_a_lost_leader_ends_the_job(ranks: Ranks) -> None:
    jobid = ranks.submit(["sleep", "600"])
    ranks.until(jobid, "shell.start")
    ranks.kill_shell(0)
    assert ranks.wait(jobid) == 143 << 8  # as recorded: 36608
    assert ranks.exceptions(jobid)[0] == ("exec", 0, f"shell rank 0 (on {ranks.host}): Killed")
    exited = next(event["context"] for event in ranks.events(jobid) if event["name"] == "shell-exit")
    assert exited == {"rank": 0, "wait_status": 9, "active_ranks": "1-2"}


def test_a_follower_that_is_not_critical_may_be_lost(ranks: Ranks) -> None:
    jobid = ranks.submit(["sh", "-c", "[ {{node.id}} = 1 ] && exec sleep 600; sleep 1"])
    ranks.until(jobid, "shell.start")
    ranks.handle.rpc("job-exec.critical-ranks", {"id": jobid, "ranks": "0"}).get()
    ranks.kill_shell(1)
    assert ranks.wait(jobid) == 9
    assert ranks.exceptions(jobid) == [("node-failure", 2, f"shell rank 1 (on {ranks.host}): Killed")]
