"""What becomes of jobs when the initial program ends (spec 03, 7.3)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flux.job import event_wait
from fluxlet.testing import Instance

#: Submits jobs, says which they are once the first one runs, and ends.
SUBMIT = """
import os, sys
import flux, flux.job

h = flux.Flux()
ids = []
for command, urgency in eval(sys.argv[1]):
    jobspec = flux.job.JobspecV1.from_command(command)
    jobspec.environment, jobspec.cwd = dict(os.environ), "/"
    ids.append(flux.job.submit(h, jobspec, urgency=urgency))
flux.job.event_wait(h, ids[0], "shell.start", eventlog="guest.exec.eventlog")
print(*map(int, ids), flush=True)
"""


def command(jobs: list[tuple[list[str], int]], *options: str) -> list[str]:
    return [sys.executable, "-m", "fluxlet", "start", *options, sys.executable, "-c", SUBMIT, repr(jobs)]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FLUX_")}
    return {**clean, "TMPDIR": str(tmp_path), "SHELL": "/bin/sh"}


def run(environ: dict[str, str], words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_running_jobs_are_canceled_and_waiting_ones_stay(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    jobs = [(["sleep", "1000"], 16), (["true"], 0)]
    done = run(environ, command(jobs, f"-Sstatedir={tmp_path}/state", "-Slog-stderr-level=6"))
    assert done.returncode == 0
    assert "broker.info[0]: cleanup: canceled 1 job\n" in done.stderr
    running, waiting = map(int, done.stdout.split())
    attributes: dict[str, Any] = {"statedir": f"{tmp_path}/state"}
    with Instance(attributes=attributes) as instance, instance.handle() as h:
        assert event_wait(h, running, "exception", raiseJobException=False).context["type"] == "cancel"
        event_wait(h, running, "clean", raiseJobException=False)
        assert [job["id"] for job in h.rpc("job-manager.list", {"max_entries": 0}).get()["jobs"]] == [waiting]
        # The queue is as it was.
        h.rpc("job-manager.urgency", {"id": waiting, "urgency": 16}).get()
        event_wait(h, waiting, "clean")


def test_signal_ends_the_waiting(environ: dict[str, str]) -> None:
    jobs = [(["sh", "-c", "trap '' TERM; sleep 1000 & wait; wait"], 16)]
    words = command(jobs, "--conf=exec.kill-timeout=1h", "-o-v")
    with subprocess.Popen(words, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as instance:
        assert instance.stdout is not None
        assert instance.stderr is not None
        lines = []
        for line in instance.stderr:
            lines.append(line)
            if "cleanup: canceled" in line:
                instance.send_signal(signal.SIGTERM)
        assert instance.wait(60) == 128 + signal.SIGHUP, lines
    assert "<6>broker.info[0]: signal 15\n" in lines


def test_cleanup_can_be_turned_off(environ: dict[str, str]) -> None:
    jobs = [(["sleep", "1000"], 16)]
    done = run({**environ, "FLUX_DISABLE_JOB_CLEANUP": "1"}, command(jobs, "-Slog-stderr-level=6"))
    assert "cleanup: canceled" not in done.stderr
    assert "cleanup-none: cleanup->shutdown" in done.stderr
