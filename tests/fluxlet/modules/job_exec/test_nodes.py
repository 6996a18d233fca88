"""Jobs on brokers of their own: nodes that are lost, and shells that do not come, or do not go."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flux
import flux.job
from fluxlet.testing import Instance

CONFIG = {"exec": {"kill-timeout": "0.2s", "shell-exit-timeout": "0.3s"}}

#: A shell that enters the barrier as often as it is told to, then runs the rest.
SHELL = f"""#!{sys.executable}
import os, sys, time
sys.path[:0] = {sys.path!r}
import flux
from flux.constants import FLUX_MSGTYPE_RESPONSE, FLUX_RPC_NORESPONSE
h = flux.Flux()
rank = int(h.attr_get("rank"))
def barrier():
    h.rpc("job-exec.shell-barrier", {{"id": int(sys.argv[1]), "rank": rank}}, 0, FLUX_RPC_NORESPONSE)
    h.recv(FLUX_MSGTYPE_RESPONSE, topic_glob="job-exec.shell-barrier")
"""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Instance]:
    with Instance(size=2, config=CONFIG) as instance:
        yield instance


def submit(handle: flux.Flux, count: int, command: list[str], **system: Any) -> int:
    jobspec = flux.job.JobspecV1.from_command(command, num_tasks=count, num_nodes=count)
    jobspec.environment = {"PATH": os.environ["PATH"]}
    jobspec.cwd = "/tmp"
    for name, value in system.items():
        jobspec.setattr(f"system.{name}", value)
    return int(flux.job.submit(handle, jobspec))


def ended(handle: flux.Flux, jobid: int) -> tuple[int, list[tuple[int, str]]]:
    """The job's status, and its exceptions."""
    status = flux.job.result(handle, jobid).waitstatus
    events = list(flux.job.event_watch(handle, jobid))
    found = [(e.context["severity"], e.context["note"]) for e in events if e.name == "exception"]
    return int(status), found


def own_shell(tmp_path: Path, body: str) -> dict[str, Any]:
    path = tmp_path / "shell"
    path.write_text(SHELL + body)
    path.chmod(0o755)
    return {"job_shell": str(path)}


def test_a_lost_node_ends_the_job() -> None:
    with Instance(size=3) as instance:
        handle = instance.handle()
        jobid = submit(handle, 3, ["sleep", "600"])
        flux.job.event_wait(handle, jobid, "shell.start", "guest.exec.eventlog")
        instance.kill_rank(2)
        host = handle.attr_get("hostname")
        assert ended(handle, jobid) == (143 << 8, [(0, f"node failure on {host} (rank 2)")])
        log = [e.context["message"] for e in flux.job.event_watch(handle, jobid, "guest.output") if e.name == "log"]
        assert log == [f"exception: node failure on {host} (shell rank 2)"]
        # Who is not critical may go.
        jobid = submit(handle, 2, ["sh", "-c", "[ {{node.id}} = 1 ] && exec sleep 600; sleep 1; exit 5"])
        flux.job.event_wait(handle, jobid, "shell.start", "guest.exec.eventlog")
        handle.rpc("job-exec.critical-ranks", {"id": jobid, "ranks": "0"}).get()
        instance.kill_rank(1)
        assert ended(handle, jobid) == (5 << 8, [(2, f"node failure on {host} (shell rank 1)")])


def test_shells_of_the_users_choice_meet_at_barriers(nodes: Instance, tmp_path: Path) -> None:
    handle = nodes.handle()
    body = "barrier()\nbarrier()\nsys.exit(rank)\n"
    assert ended(handle, submit(handle, 2, ["x"], exec=own_shell(tmp_path, body))) == (256, [])


def test_a_shell_that_ends_before_the_barrier(nodes: Instance, tmp_path: Path) -> None:
    handle = nodes.handle()
    body = "if rank: sys.exit(0)\nbarrier()\ntime.sleep(600)\n"
    status, exceptions = ended(handle, submit(handle, 2, ["x"], exec=own_shell(tmp_path, body)))
    host = handle.attr_get("hostname")
    assert exceptions == [(0, f"{host} (rank 1) terminated before first barrier")]
    assert status == 15


def test_shells_that_do_not_come_to_the_barrier(nodes: Instance, tmp_path: Path) -> None:
    handle = nodes.handle()
    body = "if not rank: barrier()\ntime.sleep(600)\n"
    options = {**own_shell(tmp_path, body), "bulkexec": {"barrier-timeout": 1.0}}
    jobid = submit(handle, 2, ["x"], exec=options)
    _, exceptions = ended(handle, jobid)
    assert exceptions == [(0, "start barrier timeout waiting for 1/2 nodes (rank 1)")]
    drain = handle.rpc("resource.status", None, 0).get()["drain"]
    f58 = flux.job.JobID(jobid).f58
    assert drain["1"]["reason"] == f"job {f58} start timeout: possible node hang"
    handle.rpc("resource.undrain", {"targets": "1"}, 0).get()


def test_shells_that_stay_when_the_leader_has_ended(nodes: Instance, tmp_path: Path) -> None:
    handle = nodes.handle()
    body = "barrier()\nbarrier()\nif rank: time.sleep(600)\n"
    _, exceptions = ended(handle, submit(handle, 2, ["x"], exec=own_shell(tmp_path, body)))
    host = handle.attr_get("hostname")
    assert exceptions == [(0, f"job shells still active on {host} (rank 1) 0.3s after leader shell exit")]
