"""Plugins: loading, and what they may do to jobs."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from in_process import BrokerThread, error_of
from job_player import Player, resources
from job_recordings import eventually
from managed_jobs import WHOLE, events, names

import flux
import flux.job
from flux.job import JobID, JobspecV1

Submit = Callable[..., JobID]

R = resources(3)

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


def query(handle: flux.Flux, name: str = "mine") -> dict[str, Any]:
    """What a plugin tells about itself."""
    answer: dict[str, Any] = handle.rpc("job-manager.jobtap-query", {"name": name}).get()
    return answer


def states(handle: flux.Flux) -> dict[int, tuple[int, int]]:
    """State and priority of the active jobs."""
    jobs = handle.rpc("job-manager.list", {"max_entries": 0}).get()["jobs"]
    return {job["id"]: (job["state"], job["priority"]) for job in jobs}


RPCS = """
def __init__(self, manager):
    self.manager, self.late = manager, []
    manager.serve("add", lambda request: {"sum": sum(request.payload["terms"])})
    manager.serve("who", lambda request: {"userid": request.userid, "owner": request.is_owner}, allow_guest=True)
    manager.serve("later", self.later)
    manager.serve("answer", self.answer)
    manager.serve("fail", self.fail)
def later(self, request):
    self.late.append(request)
    return self.manager.LATER
def answer(self, request):
    for each in self.late: each.respond({"at": "last"})
def fail(self, request):
    how = request.payload["how"]
    if how == "os": raise FileNotFoundError(2, "not here")
    if how == "value": raise ValueError("not so")
    1 / 0
"""


def test_requests_that_a_plugin_serves(
    handle: flux.Flux, broker_thread: BrokerThread, load: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    load(RPCS)
    assert handle.rpc("job-manager.mine.add", {"terms": [1, 2, 3]}).get() == {"sum": 6}
    late = handle.rpc("job-manager.mine.later")
    handle.rpc("job-manager.mine.answer").get()
    assert late.get() == {"at": "last"}
    for how, expected in [
        ("os", (errno.ENOENT, "not here")),
        ("value", (errno.EINVAL, "not so")),
        ("else", (errno.EINVAL, "ZeroDivisionError: division by zero")),
    ]:
        assert error_of(lambda how=how: handle.rpc("job-manager.mine.fail", {"how": how}).get()) == expected
    assert error_of(lambda: handle.rpc("job-manager.mine.fail", [1]).get())[0] == errno.EPROTO
    monkeypatch.setenv("FLUX_HANDLE_USERID", "1001")
    monkeypatch.setenv("FLUX_HANDLE_ROLEMASK", "2")
    with broker_thread.open() as guest:
        assert guest.rpc("job-manager.mine.who").get() == {"userid": 1001, "owner": False}
        assert error_of(lambda: guest.rpc("job-manager.mine.add", {"terms": []}).get())[0] == errno.EPERM
    handle.rpc("job-manager.jobtap", {"remove": "mine"}).get()
    gone = error_of(lambda: handle.rpc("job-manager.mine.add", {"terms": []}).get())
    assert gone == (errno.ENOSYS, "Unknown service method 'job-manager.mine.add'")
    load(RPCS)
    assert handle.rpc("job-manager.mine.add", {"terms": [4]}).get() == {"sum": 4}


def test_methods_that_there_are_already(load: Callable[..., None]) -> None:
    body = "name = 'history'\ndef __init__(self, manager): manager.serve('get', print)"
    assert "there is a method job-manager.history.get already" in error_of(lambda: load(body))[1]
    twice = "def __init__(self, manager):\n    for _ in range(2): manager.serve('x', print)"
    assert "there is a method job-manager.mine.x already" in error_of(lambda: load(twice))[1]
    load("def __init__(self, manager): manager.serve('x', print)")  # what failed has left nothing


UNAVAILABLE = """
def __init__(self, manager):
    self.manager, self.known = manager, {}
    manager.serve("set", self.set)
    manager.serve("know", self.know)
def priority(self, job): return self.known.get(job.id, self.manager.UNAVAILABLE)
def set(self, request): self.manager.job(request.payload["id"]).set_priority(request.payload["priority"])
def know(self, request):
    self.known = {int(key): value for key, value in request.payload.items()}
    self.manager.reprioritize()
"""


def test_jobs_whose_priority_is_not_known_yet_wait_for_it(
    handle: flux.Flux, broker_thread: BrokerThread, load: Callable[..., None], submit: Submit
) -> None:
    load(UNAVAILABLE)
    a, b, c, held, expedited = submit("true"), submit("true"), submit("true"), submit(urgency=0), submit(urgency=31)
    assert states(handle) == {a: (4, -1), b: (4, -1), c: (4, -1), held: (8, 0), expedited: (8, 4294967295)}
    with Player(broker_thread.uri, cores=1) as player:
        handle.rpc("job-manager.idle").get()
        assert player.started == [expedited]
        handle.rpc("job-manager.mine.set", {"id": a, "priority": 7}).get()
        eventually(lambda: names(handle, a)[-1] == "clean")
        # What is not known changes nothing for one that waits for resources.
        handle.rpc("job-manager.urgency", {"id": held, "urgency": 16}).get()
        assert states(handle) == {b: (4, -1), c: (4, -1), held: (4, 0)}
        handle.rpc("job-manager.urgency", {"id": c, "urgency": 31}).get()
        eventually(lambda: names(handle, c)[-1] == "clean")
        handle.rpc("job-manager.mine.know", {str(int(b)): 3}).get()
        eventually(lambda: names(handle, b)[-1] == "clean")
        assert names(handle, b) == WHOLE
        flux.job.cancel(handle, held)
        handle.rpc("job-manager.drain").get()


def test_jobs_that_wait_for_a_plugin_that_is_removed_go_on(
    handle: flux.Flux, player: Player, load: Callable[..., None], submit: Submit
) -> None:
    load(UNAVAILABLE)
    jobid = submit("true")
    assert states(handle)[jobid][0] == 4
    handle.rpc("job-manager.jobtap", {"remove": "mine"}).get()
    handle.rpc("job-manager.drain").get()
    assert names(handle, jobid) == WHOLE


def test_jobs_that_were_there_before_the_plugin(
    handle: flux.Flux, broker_thread: BrokerThread, load: Callable[..., None], submit: Submit
) -> None:
    jobid = submit("true", urgency=0)
    load(
        """
def __init__(self): self.seen = []
def create(self, job): self.seen.append(["create", job.id, job.state])
def new(self, job): self.seen.append(["new", job.id, job.state])
def query(self): return {"seen": self.seen}
"""
    )
    assert query(handle)["seen"] == [["create", jobid, "SCHED"], ["new", jobid, "SCHED"]]


def test_the_end_of_jobs(handle: flux.Flux, player: Player, load: Callable[..., None], submit: Submit) -> None:
    load(
        """
def __init__(self, manager): self.manager, self.seen = manager, []
def create(self, job):
    if job.urgency == 1: raise ValueError("no")
def on_state(self, job, state, event): self.seen.append([job.previous_state, state, event.name])
def inactive(self, job): self.seen.append("inactive")
def inactive_remove(self, job): self.seen.append(["inactive_remove", job.id, job.result, job.has_event("start")])
def destroy(self, job): self.seen.append(["destroy", job.id])
def query(self): return {"seen": self.seen}
"""
    )
    with pytest.raises(OSError, match="no"):
        submit("true", urgency=1)
    assert [entry[0] for entry in query(handle)["seen"]] == ["destroy"]
    jobid = submit("true")
    handle.rpc("job-manager.drain").get()
    seen = query(handle)["seen"][1:]
    assert seen == [
        ["NEW", "DEPEND", "validate"],
        ["DEPEND", "PRIORITY", "depend"],
        ["PRIORITY", "SCHED", "priority"],
        ["SCHED", "RUN", "alloc"],
        ["RUN", "CLEANUP", "finish"],
        ["CLEANUP", "INACTIVE", "clean"],
        "inactive",
    ]
    handle.rpc("job-manager.purge-id", {"id": jobid, "force": True}).get()
    assert query(handle)["seen"][8:] == [["inactive_remove", jobid, "COMPLETED", True], ["destroy", jobid]]


def test_a_plugin_changes_jobspecs(
    handle: flux.Flux, player: Player, load: Callable[..., None], submit: Submit
) -> None:
    load(
        """
def __init__(self): self.updates, self.refused = [], []
def validate(self, job):
    job.update({"attributes.system.project": "moon"})
    if job.jobspec["attributes"]["system"]["project"] != "moon": raise ValueError("it was not changed")
    for bad in ({"foo": 1}, {"attributes.system.duration": "x"}, {"tasks.x.y": 1}):
        try: job.update(bad)
        except ValueError as exc: self.refused.append(str(exc))
def on_update(self, job, updates): self.updates.append(updates)
def query(self): return {"updates": self.updates, "refused": self.refused}
"""
    )
    jobid = submit("true")
    handle.rpc("job-manager.drain").get()
    assert names(handle, jobid) == ["submit", "jobspec-update", *WHOLE[1:]]
    jobspec = handle.rpc("job-manager.getattr", {"id": jobid, "attrs": ["jobspec"]}).get()["jobspec"]
    assert jobspec["attributes"]["system"]["project"] == "moon"
    assert query(handle)["updates"] == [{"attributes.system.project": "moon"}]
    refused = query(handle)["refused"]
    assert refused[0] == "one or more jobspec updates are invalid"
    assert "duration" in refused[1]
    assert len(refused) == 3


def test_a_plugin_that_moves_a_job_to_a_queue_that_there_is_not(load: Callable[..., None], submit: Submit) -> None:
    load("def create(self, job): job.update({'attributes.system.queue': 'nope'})")
    assert error_of(lambda: submit("true")) == (errno.EINVAL, "'nope' is not a valid queue")


def test_what_a_plugin_says_to_updates(
    handle: flux.Flux, broker_thread: BrokerThread, load: Callable[..., None], submit: Submit
) -> None:
    load(
        """
def validate(self, job):
    if job.jobspec["attributes"]["system"].get("bank") == "bad": raise ValueError("a bad bank")
def allow_update(self, job, key, value, cred):
    if key == "attributes.system.project": return {"updates": {"attributes.system.bank": value}}
    if key == "attributes.system.bank": return {"validated": cred["userid"] == 0 and value != "bad"}
    if key == "attributes.system.x": return {"nonsense": 1}
    if key == "attributes.system.y": raise ValueError("not y")
"""
    )
    jobid = submit("true", urgency=0)

    def update(key: str, value: object) -> None:
        handle.rpc("job-manager.update", {"id": jobid, "updates": {f"attributes.system.{key}": value}}).get()

    update("project", "good")
    system = handle.rpc("job-manager.getattr", {"id": jobid, "attrs": ["jobspec"]}).get()["jobspec"]["attributes"]
    assert (system["system"]["project"], system["system"]["bank"]) == ("good", "good")
    assert error_of(lambda: update("y", 1)) == (errno.EINVAL, "not y")
    assert "nonsense" in error_of(lambda: update("x", 1))[1]
    assert error_of(lambda: update("z", 1)) == (errno.EINVAL, "update of attributes.system.z not supported")


def test_what_cannot_be_done_to_a_job_any_more(
    handle: flux.Flux, player: Player, load: Callable[..., None], submit: Submit
) -> None:
    load(
        """
def __init__(self, manager):
    self.manager, self.kept = manager, {}
    manager.serve("try", self.try_)
def validate(self, job): self.kept[job.urgency] = job
def try_(self, request):
    job = self.kept[request.payload["urgency"]]
    getattr(job, request.payload["method"])(*request.payload["args"])
"""
    )

    def attempt(urgency: int, method: str, *args: object) -> str:
        payload = {"urgency": urgency, "method": method, "args": args}
        return error_of(lambda: handle.rpc("job-manager.mine.try", payload).get())[1]

    waiting, running, ended = submit("true", urgency=0), submit("sleep", urgency=10), submit("true", urgency=11)
    eventually(lambda: names(handle, ended)[-1] == "clean" and running in player.running)
    before = [names(handle, jobid) for jobid in (waiting, running, ended)]
    assert attempt(0, "add_dependency", "x") == "it is too late for a dependency: the job is in SCHED"
    assert attempt(10, "set_priority", 3) == "it is too late for a priority, or too early: the job is in RUN"
    assert "is a number from 0" in attempt(0, "set_priority", -1)
    assert attempt(10, "prolog_start", "x") == "it is too late for a prolog: the job is in RUN"
    assert attempt(10, "prolog_finish", "x") == "no prolog 'x' has been started"
    assert "too late, or too early" in attempt(0, "epilog_start", "x")
    assert attempt(0, "raise_exception", "x", 8) == "the severity of an exception is 0 to 7, not 8"
    assert "no type" in attempt(0, "raise_exception", "a=b", 1)
    assert "'bogus' is no flag" in attempt(0, "set_flag", "bogus")
    for method, args in [
        ("annotate", [{}]),
        ("post_event", ["x"]),
        ("update", [{}]),
        ("raise_exception", ["x", 0]),
        ("set_flag", ["debug"]),
    ]:
        assert attempt(11, method, *args) == "the job has ended"
    handle.rpc("job-manager.mine.try", {"urgency": 11, "method": "remove_dependency", "args": ["x"]}).get()
    assert [names(handle, jobid) for jobid in (waiting, running, ended)] == before
    player.finish(running)


def test_prologs_and_epilogs_of_plugins_are_waited_for(
    handle: flux.Flux, player: Player, load: Callable[..., None], submit: Submit
) -> None:
    load(
        """
def __init__(self, manager):
    self.manager = manager
    manager.serve("go", self.go)
def on_state(self, job, state, event):
    if state == "RUN": job.prolog_start("warm-up")
    if state == "CLEANUP": job.epilog_start("cool-down")
def go(self, request):
    job = self.manager.job(request.payload["id"])
    if job.state == "RUN": job.prolog_finish("warm-up")
    else: job.epilog_finish("cool-down", 256)
"""
    )
    jobid = submit("true")
    eventually(lambda: names(handle, jobid)[-1] == "prolog-start")
    assert player.started == []
    handle.rpc("job-manager.mine.go", {"id": jobid}).get()
    eventually(lambda: names(handle, jobid)[-1] == "release")
    assert player.held
    handle.rpc("job-manager.mine.go", {"id": jobid}).get()
    handle.rpc("job-manager.drain").get()
    around = ["prolog-start", "prolog-finish", "start", "finish", "epilog-start", "release", "epilog-finish"]
    assert names(handle, jobid) == [*WHOLE[:5], *around, "free", "clean"]


def test_resources_that_a_plugin_gives(
    handle: flux.Flux, player: Player, load: Callable[..., None], submit: Submit
) -> None:
    load("def __init__(self, manager, conf): self.R = conf\ndef create(self, job): job.use_resources(self.R)", R)
    jobid = submit("true")
    handle.rpc("job-manager.drain").get()
    assert names(handle, jobid) == ["submit", "set-flags", *WHOLE[1:]]
    assert handle.rpc("job-manager.getattr", {"id": jobid, "attrs": ["R"]}).get()["R"] == R
    assert player.held == {}


def test_jobs_that_bring_their_resources(handle: flux.Flux, player: Player) -> None:
    handle.rpc("job-manager.jobtap", {"load": "/usr/lib/flux/job-manager/plugins/alloc-bypass.so"}).get()
    assert handle.rpc("job-manager.jobtap", {"query_only": True}).get()["plugins"][-1] == "alloc-bypass"
    jobspec = JobspecV1.from_command(["true"])
    jobspec.setattr("system.alloc-bypass.R", R)
    jobid = flux.job.submit(handle, jobspec)
    handle.rpc("job-manager.drain").get()
    assert names(handle, jobid) == ["submit", "set-flags", *WHOLE[1:]]
    assert handle.rpc("job-manager.getattr", {"id": jobid, "attrs": ["R"]}).get()["R"] == R
    assert player.held == {}
    jobspec.setattr("system.alloc-bypass.R", {"version": 1})
    assert error_of(lambda: flux.job.submit(handle, jobspec))[1].startswith("alloc-bypass: invalid R: ")


def test_timers_of_a_plugin(handle: flux.Flux, load: Callable[..., None], submit: Submit) -> None:
    load(
        """
def __init__(self, manager):
    self.calls = 0
    manager.timer(0.0, self.call)
    manager.timer(0.0, lambda: 1 / 0)
    manager.timer(3600.0, self.call).stop()
def call(self): self.calls += 1
def query(self): return {"calls": self.calls}
"""
    )
    eventually(lambda: query(handle)["calls"] == 1)
    submit("true")  # what a timer has raised was the end of nothing


def test_a_plugin_is_told_of_its_end(handle: flux.Flux, load: Callable[..., None], tmp_path: Path) -> None:
    load(
        "def __init__(self, m, conf): self.path = conf\ndef close(self): __import__('os').mkdir(self.path)",
        str(tmp_path / "one"),
    )
    handle.rpc("job-manager.jobtap", {"remove": "mine"}).get()
    assert (tmp_path / "one").exists()
    load(
        "def __init__(self, m, conf): self.path = conf\ndef close(self): __import__('os').mkdir(self.path)",
        str(tmp_path / "two"),
    )
    handle.rpc("module.remove", {"name": "job-manager"}).get()
    assert (tmp_path / "two").exists()


def test_names_and_patterns(handle: flux.Flux, load: Callable[..., None]) -> None:
    def plugins() -> list[str]:
        found: list[str] = handle.rpc("job-manager.jobtap", {"query_only": True}).get()["plugins"]
        return found[len(BUILTINS) :]

    load("name = 'accounting'")
    load("pass", name="b")
    load("pass", name="c")
    assert plugins() == ["accounting", "b", "c"]
    handle.rpc("job-manager.jobtap", {"remove": "[ab]*"}).get()
    assert plugins() == ["c"]
    builtin = error_of(lambda: handle.rpc("job-manager.jobtap", {"remove": ".limit-*"}).get())
    assert builtin[0] == errno.EPERM
    handle.rpc("job-manager.jobtap", {"remove": "*"}).get()
    assert plugins() == []
    load("pass", name="d")
    handle.rpc("job-manager.jobtap", {"remove": "all"}).get()
    assert plugins() == []
    handle.rpc("job-manager.jobtap", {"remove": "all"}).get()  # none are all there are


def test_configuration_is_told_and_may_be_refused(handle: flux.Flux, load: Callable[..., None]) -> None:
    load(
        """
def __init__(self): self.seen = []
def conf_update(self, conf):
    if conf.get("mine", {}).get("bad"): raise ValueError("mine.bad must not be set")
    self.seen.append(conf.get("mine"))
def query(self): return {"seen": self.seen}
"""
    )
    handle.rpc("job-manager.config-reload", {"mine": {"x": 1}}).get()
    assert query(handle)["seen"] == [None, {"x": 1}]
    refused = error_of(lambda: handle.rpc("job-manager.config-reload", {"mine": {"bad": True}}).get())
    assert refused == (errno.EINVAL, "mine: mine.bad must not be set")


def test_plugins_of_the_configuration(start_broker: Callable[..., BrokerThread], tmp_path: Path) -> None:
    path = tmp_path / "fromconf.py"
    path.write_text(
        "class Plugin:\n"
        "    def __init__(self, manager, conf): self.conf = conf\n"
        "    def query(self): return {'conf': self.conf}\n"
    )
    broker = start_broker({}, {"job-manager": {"plugins": [{"load": str(path), "conf": {"x": [1]}}]}})
    with broker.open() as handle:
        assert query(handle, "fromconf")["conf"] == {"x": [1]}


def test_a_dependency_of_a_job_that_was_refused_is_forgotten(
    handle: flux.Flux, player: Player, load: Callable[..., None], submit: Submit
) -> None:
    first = submit("sleep", urgency=0)
    wrong = [{"scheme": "afterstart", "value": str(int(first))}, {"scheme": "foo", "value": ""}]
    with pytest.raises(OSError, match="foo"):
        submit("true", dependencies=wrong)
    gone = submit("true", dependencies=wrong[:1])
    flux.job.cancel(handle, gone)
    handle.rpc("job-manager.urgency", {"id": first, "urgency": 16}).get()
    eventually(lambda: first in player.running)
    player.finish(first)
    handle.rpc("job-manager.drain").get()
    assert names(handle, gone)[-1] == "clean"
    assert handle.rpc("job-list.list", {"max_entries": 0, "attrs": []}).get()["jobs"] == [{"id": first}, {"id": gone}]
