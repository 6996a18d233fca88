"""Under a thousand jobs the shell is killed, then the broker, and the instance goes on from its state directory."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from job_recordings import eventually

import flux
import flux.job
from flux.job import JobID, JobspecV1
from fluxlet.testing import Instance

JOBS = 1000


def processes_below(pid: int) -> dict[int, str]:
    """Command lines of the processes that descend from one."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            parents[int(entry)] = int(stat.rpartition(")")[2].split()[1])
    below = {pid}
    while more := {child for child, parent in parents.items() if parent in below} - below:
        below |= more
    found = {}
    for child in below - {pid}:
        try:
            found[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def shell_of(pid: int) -> int | None:
    return next((child for child in processes_below(pid) if comm(child) == "flux-shell"), None)


def eventlog(handle: flux.Flux, jobid: JobID) -> list[dict[str, object]]:
    answer = handle.rpc("job-manager.getattr", {"id": jobid, "attrs": ["eventlog"]}).get()
    log: list[dict[str, object]] = answer["eventlog"]
    return log


def counted(path: Path) -> Counter[str]:
    return Counter(path.read_text().split()) if path.exists() else Counter()


@pytest.mark.parametrize("jobs", [100, pytest.param(JOBS, marks=pytest.mark.nightly)])
def test_no_job_is_lost_and_none_runs_twice(tmp_path: Path, jobs: int) -> None:
    state, ran = tmp_path / "state", tmp_path / "ran"
    state.mkdir()
    instance = Instance(attributes={"statedir": str(state), "log-stderr-level": "2"})
    jobspec = JobspecV1.from_command(["sh", "-c", f"echo $FLUX_JOB_ID >>{ran}"])
    instance.start()
    with instance.handle() as handle:
        futures = [flux.job.submit_async(handle, jobspec) for _ in range(jobs)]
        ids = [future.get_id() for future in futures]
    eventually(lambda: len(counted(ran)) > jobs // 10, 60.0)
    shell = eventually(lambda: shell_of(instance.pid))
    os.kill(shell, signal.SIGKILL)
    some = len(counted(ran))
    eventually(lambda: len(counted(ran)) > some + jobs // 10, 60.0)
    instance.kill()
    instance.start()
    with instance.handle() as handle:
        handle.rpc("job-manager.drain").wait_for(100.0)
        logs = {jobid: eventlog(handle, jobid) for jobid in ids}
    instance.stop()
    runs = counted(ran)
    assert not [jobid for jobid, count in runs.items() if count > 1], "these have run twice"
    for jobid, log in logs.items():
        names = [event["name"] for event in log]
        assert names[:2] == ["submit", "validate"]
        assert names[-1] == "clean"
        assert names.count("clean") == names.count("alloc") == 1
        if "exception" not in names:
            assert log[names.index("finish")]["context"] == {"status": 0}
            assert runs[jobid.f58] + runs[jobid.f58plain] + runs[str(int(jobid))] == 1
    failed = sum("exception" in [event["name"] for event in log] for log in logs.values())
    # Those that ran when the shell, or the broker, was killed.
    assert failed < 20
