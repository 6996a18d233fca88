"""Jobs that do not run in our own shell: simulated ones, and shells of the user's choice; and other requests."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from exec_player import JobPlayer

VECTORS = Path(__file__).parents[3] / "vectors"


def simulated(player: JobPlayer, **test: Any) -> Any:
    return player.start(["true"], system={"exec": {"test": test}})


def test_simulated_jobs_take_the_recorded_course(player: JobPlayer) -> None:
    """exec-job-testexec: a job with a duration, and one whose initialization fails."""
    jobs: dict[int, list[Any]] = {}
    lines: dict[int, list[str]] = {}
    for text in (VECTORS / "exec-job-testexec-modules.jsonl").read_text().splitlines():
        value = json.loads(text)
        payload = value.get("payload") or {}
        if value["dir"] == "tx" and value["topic"] == "job-exec.start":
            jobs.setdefault(payload["id"], []).append((payload["type"], payload["data"]))
        if value["dir"] == "tx" and value["topic"] == "kvs.commit" and payload["namespace"].startswith("job-"):
            import base64

            jobid = int(payload["namespace"][4:])
            for op in payload["ops"]:
                for line in base64.b64decode(op["dirent"]["data"]).decode().splitlines():
                    lines.setdefault(jobid, []).append(json.loads(line)["name"])
    first, second = jobs
    job = player.wait(simulated(player, run_duration="0.1s"))
    assert job.responses == jobs[first]
    assert [event["name"] for event in player.events(job)] == lines[first]
    job = player.wait(simulated(player, mock_exception="init"))
    assert job.responses == jobs[second]
    assert [event["name"] for event in player.events(job)] == lines[second]


def test_options_of_simulated_jobs(player: JobPlayer) -> None:
    assert player.wait(simulated(player, run_duration="0.01s", wait_status=256)).status == 256
    job = player.wait(simulated(player, mock_exception="run"))
    assert job.kinds == ["start", "exception", "finish", "release"]
    assert job.responses[1][1]["note"] == "mock run exception generated"
    job = player.wait(simulated(player, run_duration="zzz"))
    assert job.kinds == ["exception", "release"]
    assert job.responses[0][1]["note"] == "Unable to parse run duration: zzz"


def test_a_simulated_job_is_killed_with_the_signal_as_status(player: JobPlayer) -> None:
    job = simulated(player)
    player.started(job)
    player.exception(job.id)
    assert player.wait(job).status == 15


def test_simulated_jobs_start_and_finish_on_demand(player: JobPlayer) -> None:
    def override(event: str, jobid: int, **more: Any) -> None:
        player.handle.rpc("job-exec.override", {"event": event, "jobid": jobid, **more}).get()

    job = simulated(player, override=1)
    player.until(lambda: player.handle.rpc("job-exec.stats-get").get()["jobs"])
    for event, jobid, text in (
        ("bogus", job.id, "Invalid event"),
        ("start", 1, "Job not found"),
        ("finish", job.id, "Job not running"),
    ):
        with pytest.raises(OSError, match=text):
            override(event, jobid)
    override("start", job.id)
    player.started(job)
    with pytest.raises(OSError, match="Job already running"):
        override("start", job.id)
    override("finish", job.id, status=512)
    assert player.wait(job).status == 512
    job = simulated(player)
    player.started(job)
    with pytest.raises(OSError, match="Job not in exec override mode"):
        override("finish", job.id)
    player.exception(job.id)
    player.wait(job)


def test_simulated_jobs_go_on_after_a_restart(player: JobPlayer) -> None:
    job = player.start(["true"], system={"exec": {"test": {"run_duration": "0.05s"}}}, reattach=True)
    player.wait(job)
    assert job.kinds == ["reattached", "finish", "release"]
    assert [event["name"] for event in player.events(job)][:3] == ["init", "reattach", "starting"]


def test_a_real_job_that_was_running_before_a_restart_is_over(player: JobPlayer) -> None:
    job = player.start(["true"], reattach=True)
    player.wait(job)
    assert job.kinds == ["exception", "finish", "release"]
    assert job.responses[0][1]["note"] == "the job's shells were lost when the instance was restarted"
    assert job.status == 256


# Shells of the user's choice.


def shell(tmp_path: Path, body: str) -> dict[str, Any]:
    path = tmp_path / "shell"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return {"exec": {"job_shell": str(path)}}


def test_a_shell_of_the_users_choice(player: JobPlayer, tmp_path: Path) -> None:
    system = shell(tmp_path, 'echo "id $1 in $FLUX_KVS_NAMESPACE"; echo oops >&2; [ -n "$FLUX_URI" ] && exit 3')
    job = player.run(["ignored"], system=system)
    assert job.responses == [("start", {}), ("finish", {"status": 768}), ("release", {"ranks": "all", "final": True})]
    logs = [event["context"] for event in player.events(job) if event["name"] == "log"]
    assert {
        "component": "flux-shell",
        "stream": "stdout",
        "rank": "0",
        "data": f"id {job.id} in job-{job.id}\n",
    } in logs
    assert {"component": "flux-shell", "stream": "stderr", "rank": "0", "data": "oops\n"} in logs
    names = [event["name"] for event in player.events(job) if event["name"] != "log"]
    assert names == ["init", "starting", "shell-exit", "complete", "done"]


def test_such_a_shell_is_told_of_the_end(player: JobPlayer, tmp_path: Path) -> None:
    system = shell(tmp_path, "trap 'exit 143' TERM; echo up; while :; do sleep 0.05; done")
    job = player.start(["ignored"], system=system)
    player.until(lambda: "start" in job.kinds and any(e["name"] == "log" for e in player.events(job)))
    player.exception(job.id)
    assert player.wait(job).status == 143 << 8


def test_such_a_shell_that_ignores_signals_is_killed(player: JobPlayer, tmp_path: Path) -> None:
    system = shell(tmp_path, "trap '' TERM; echo up; while :; do sleep 0.05; done")
    job = player.start(["ignored"], system=system)
    player.until(lambda: "start" in job.kinds and any(e["name"] == "log" for e in player.events(job)))
    player.exception(job.id)
    player.wait(job)
    assert (job.kinds, job.status) == (["start", "finish", "release"], 9)


def test_a_shell_that_cannot_be_started(player: JobPlayer) -> None:
    job = player.run(["true"], system={"exec": {"job_shell": "/nosuch"}})
    assert job.kinds == ["exception", "release"]
    note = job.responses[0][1]["note"]
    assert note.startswith("error launching job shell on test0 (rank 0): ")
    assert [event["name"] for event in player.events(job)] == ["init", "done"]


# What job-exec is asked.


def test_figures(player: JobPlayer) -> None:
    job = player.start(["sleep", "60"])
    player.started(job)
    stats = player.handle.rpc("job-exec.stats-get").get()
    assert (stats["method"], stats["kill-timeout"], stats["max-kill-timeout"]) == ("bulk-exec", 0.2, -1.0)
    assert stats["jobs"][str(job.id)]["active_ranks"] == "0"
    player.handle.rpc("job-exec.critical-ranks", {"id": job.id, "ranks": "0"}).get()
    stats = player.handle.rpc("job-exec.stats-get").get()
    assert stats["jobs"][str(job.id)]["critical_ranks"] == "0"
    with pytest.raises(FileNotFoundError):
        player.handle.rpc("job-exec.critical-ranks", {"id": 1, "ranks": "0"}).get()
    player.exception(job.id)
    player.wait(job)


def test_a_job_without_j_ends_with_an_exception(player: JobPlayer) -> None:
    job = player.run(["true"], with_J=False)
    assert job.kinds == ["exception", "release"]
    assert job.responses[0][1]["note"] == "error reading J: No such file or directory"


def test_a_bad_r_ends_with_an_exception(player: JobPlayer) -> None:
    job = player.start(["true"], ranks="x")
    player.wait(job)
    assert job.kinds == ["exception", "release"]


def test_jobs_of_guests_need_an_imp(player: JobPlayer) -> None:
    job = player.run(["true"], userid=os.getuid() + 1)
    assert job.kinds == ["exception", "release"]
    assert job.responses[0][1]["note"] == "unable run multiuser job with no IMP configured!"
    job = player.run(["true"], userid=os.getuid() + 1, system={"exec": {"test": {"run_duration": "0.01s"}}})
    assert job.kinds == ["exception", "release"]


def test_what_ran_for_a_job_exec_that_is_gone_is_ended(player: JobPlayer) -> None:
    job = player.start(["sh", "-c", "echo $$; exec sleep 600"])
    player.started(job)
    player.until(lambda: player.output(job))
    pid = int(player.output(job))
    player.handle.rpc("module.remove", {"name": "job-exec"}).get()
    loading = player.handle.rpc("module.load", {"path": "job-exec", "args": ["kill-timeout=0.2s"]})
    player.until(loading.is_ready)
    loading.get()
    again = player.start(["true"], reattach=True)
    player.wait(again)
    assert again.kinds == ["exception", "finish", "release"]
    player.until(lambda: not Path(f"/proc/{pid}").exists())
    assert player.run(["true"]).status == 0
    player.handle.rpc("kvs.namespace-remove", {"namespace": f"job-{job.id}"}, 0).get()
