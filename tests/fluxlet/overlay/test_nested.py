"""An instance of several brokers that is a job of another one (spec 04, section 6)."""

from __future__ import annotations

from pathlib import Path

import pytest

import flux.job
from flux.job import JobspecV1
from fluxlet.broker.nested import critical_nodes
from fluxlet.testing import Instance

SCRIPT = """
for name in instance-level parent-uri size broker.mapping broker.boot-method jobid; do flux getattr $name; done
flux --parent getattr size
"""


def test_it_knows_its_parent_and_its_parent_knows_it(tmp_path: Path) -> None:
    with Instance(2, env={"SHELL": "/bin/sh"}) as instance, instance.handle() as handle:
        out = tmp_path / "out"
        command = ["flux", "start", "sh", "-c", f"exec >{out} 2>&1; {SCRIPT}"]
        jobspec = JobspecV1.from_command(command, num_tasks=2, num_nodes=2)
        jobspec.environment, jobspec.cwd = instance.environ, str(tmp_path)
        jobid = flux.job.submit(handle, jobspec, waitable=True)
        assert flux.job.wait(handle, jobid).success
        level, uri, size, mapping, method, name, above = out.read_text().splitlines()
        assert (level, size, mapping, method, above) == ("1", "2", "[[0,2,1,1]]", "simple", "2")
        assert uri == instance.uri
        assert name == flux.job.JobID(jobid).f58
        memos = [event.context for event in flux.job.event_watch(handle, jobid) if event.name == "memo"]
        assert len(memos) == 1
        assert memos[0]["uri"].startswith("ssh://")


@pytest.mark.parametrize(
    ("ranks", "mapping", "nodes"),
    [("0-3", "[[0,2,2,1]]", "0-1"), ("0,3", "[[0,4,1,1]]", "0,3"), ("0-1", None, "0-1"), ("0", "[[0,1,4,1]]", "0")],
)
def test_critical_ranks_as_nodes_of_the_job(ranks: str, mapping: str | None, nodes: str) -> None:
    assert critical_nodes(ranks, mapping, 4) == nodes
