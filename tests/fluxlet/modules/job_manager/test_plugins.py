"""Plugins: loading, and what they may do to jobs."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from in_process import BrokerThread, error_of
from job_player import Player
from managed_jobs import WHOLE, events, names

import flux
from flux.job import JobID

Submit = Callable[..., JobID]

BUILTINS = [
    ".priority-default",
    ".limit-job-size",
    ".limit-duration",
    ".dependency-after",
    ".dependency-singleton",
    ".begin-time",
    ".validate-duration",
    ".update-duration",
    ".history",
    ".post-event",
    ".update-queue",
]


@pytest.fixture
def load(handle: flux.Flux, tmp_path: Path) -> Callable[..., None]:
    """Loads a plugin with the given body of its class."""

    def loaded(body: str, conf: Any = None, name: str = "mine") -> None:
        path = tmp_path / f"{name}.py"
        lines = "".join(f"    {line}\n" for line in body.strip("\n").splitlines())
        path.write_text(f"class Plugin:\n{lines}")
        handle.rpc("job-manager.jobtap", {"load": str(path), "conf": conf}).get()

    return loaded


def test_loading_and_removing(handle: flux.Flux, load: Callable[..., None], tmp_path: Path) -> None:
    def plugins() -> list[str]:
        found: list[str] = handle.rpc("job-manager.jobtap", {"query_only": True}).get()["plugins"]
        return found

    assert plugins() == BUILTINS
    load("def query(self): return {'answer': 42}")
    assert plugins() == [*BUILTINS, "mine"]
    query = handle.rpc("job-manager.jobtap-query", {"name": "mine"}).get()
    assert query == {"name": "mine", "path": str(tmp_path / "mine.py"), "answer": 42}
    assert error_of(lambda: load("pass")) == (errno.EEXIST, "mine already loaded")
    handle.rpc("job-manager.jobtap", {"remove": "m*"}).get()
    assert plugins() == BUILTINS
    missing = error_of(lambda: handle.rpc("job-manager.jobtap", {"remove": "mine"}).get())
    assert missing == (errno.ENOENT, "Failed to find plugin to remove")
    for name in ("perilog.so", "/nowhere/x.py", "no.such.module"):
        found = error_of(lambda name=name: handle.rpc("job-manager.jobtap", {"load": name}).get())
        assert found == (errno.ENOENT, f"{name}: No such plugin found")
    unknown = error_of(lambda: handle.rpc("job-manager.jobtap-query", {"name": "foo"}).get())
    assert unknown == (errno.EINVAL, "foo: plugin not found")


def test_a_plugin_that_is_broken_is_not_loaded(load: Callable[..., None]) -> None:
    assert error_of(lambda: load("1 / 0"))[0] == errno.EINVAL
    assert error_of(lambda: load("def __init__(self, manager, conf): raise ValueError('no')"))[1].endswith("no")


def test_refusing(load: Callable[..., None], submit: Submit) -> None:
    load(
        """
def validate(self, job):
    if job.urgency == 1: raise ValueError("too low")
    if job.urgency == 2: raise KeyError()
"""
    )
    assert error_of(lambda: submit("true", urgency=1)) == (errno.EINVAL, "too low")
    assert error_of(lambda: submit("true", urgency=2)) == (errno.EINVAL, "rejected by job-manager plugin 'mine'")
    submit("true")


def test_priorities(handle: flux.Flux, broker_thread: BrokerThread, load: Callable[..., None], submit: Submit) -> None:
    load("def priority(self, job): return 100 - job.urgency")
    first, second = submit("true", urgency=20), submit("true", urgency=10)
    held, expedited = submit("true", urgency=0), submit("true", urgency=31)
    found = {job["id"]: job["priority"] for job in handle.rpc("job-manager.list", {"max_entries": 0}).get()["jobs"]}
    assert found == {first: 80, second: 90, held: 0, expedited: 4294967295}
    with Player(broker_thread.uri, cores=1) as player:
        handle.rpc("job-manager.idle").get()
        assert player.started == [expedited, second, first]


def test_everything_that_happens_is_told(
    handle: flux.Flux, player: Player, load: Callable[..., None], submit: Submit
) -> None:
    load(
        """
def __init__(self, manager): self.seen, self.states = [], []
def create(self, job): self.seen.append("create")
def new(self, job): self.seen.append("new")
def on_event(self, job, event): self.seen.append(event.name)
def on_state(self, job, state, event): self.states.append(state)
def inactive(self, job): self.seen.append("inactive " + job.result)
def query(self): return {"seen": self.seen, "states": self.states}
"""
    )
    submit("true")
    handle.rpc("job-manager.drain").get()
    query = handle.rpc("job-manager.jobtap-query", {"name": "mine"}).get()
    seen = [name for name in query["seen"] if name != "annotations"]
    assert seen == ["submit", "create", "validate", "new", *WHOLE[2:], "inactive COMPLETED"]
    assert query["states"] == ["DEPEND", "PRIORITY", "SCHED", "RUN", "CLEANUP", "INACTIVE"]


def test_holding_annotating_and_events_of_its_own(
    handle: flux.Flux, player: Player, load: Callable[..., None], submit: Submit
) -> None:
    load(
        """
def __init__(self, manager, conf): self.manager, self.seconds = manager, conf["seconds"]
def validate(self, job): job.add_dependency("patience")
def new(self, job):
    job.annotate({"mine": {"held": True}})
    self.manager.timer(self.seconds, lambda: job.remove_dependency("patience"))
def on_state(self, job, state, event):
    if state == "RUN":
        job.prolog_start("warm-up")
        job.post_event("mine", {"x": 1})
        job.prolog_finish("warm-up")
def inactive(self, job): 1 / 0
""",
        {"seconds": 0.05},
    )
    jobid = submit("true")
    handle.rpc("job-manager.drain").get()
    assert names(handle, jobid) == [
        "submit",
        "dependency-add",
        "validate",
        "dependency-remove",
        *WHOLE[2:5],
        "prolog-start",
        "mine",
        "prolog-finish",
        *WHOLE[5:],
    ]
    alloc = events(handle, jobid)[6]["context"]["annotations"]
    assert alloc["mine"] == {"held": True}


def test_updates_that_only_a_plugin_knows(handle: flux.Flux, load: Callable[..., None], submit: Submit) -> None:
    load("def allow_update(self, job, key, value, cred): return key == 'attributes.system.project'")
    jobid = submit("true", urgency=0)
    handle.rpc("job-manager.update", {"id": jobid, "updates": {"attributes.system.project": "x"}}).get()
    jobspec = handle.rpc("job-manager.getattr", {"id": jobid, "attrs": ["jobspec"]}).get()["jobspec"]
    assert jobspec["attributes"]["system"]["project"] == "x"
    other = {"id": jobid, "updates": {"attributes.system.bank": "x"}}
    found = error_of(lambda: handle.rpc("job-manager.update", other).get())
    assert found == (errno.EINVAL, "update of attributes.system.bank not supported")
