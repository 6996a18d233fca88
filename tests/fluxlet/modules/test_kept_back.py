"""What is to be stored of jobs is kept back for a moment, and seen by all who look as if it were not.

With `LAZY` an hour nothing that is seen here has come by itself.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
from in_process import BrokerThread
from waiting import wait_until
from whole_jobs import PATIENCE, ask, check_whole, followed, lookup, names, submitted, told, wait

import flux
import flux.job
import flux.kvs
from flux.core.fluid import kvs
from flux.job import JobspecV1
from fluxlet.modules.job_exec import guests
from fluxlet.modules.job_manager import batch


@pytest.fixture
def lazy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "LAZY", 3600.0)
    monkeypatch.setattr(guests, "_LAZY", 3600.0)


LOOKS: dict[str, Callable[[flux.Flux, int], Any]] = {
    "lookup": lambda handle, jobid: lookup(handle, f"{kvs(jobid)}.guest.exec.eventlog"),
    "readdir": lambda handle, jobid: list(flux.kvs.get_dir(handle, f"{kvs(jobid)}.guest")),
    "job-info": lambda handle, jobid: ask(handle, "job-info.lookup", id=jobid, keys=["guest.exec.eventlog"], flags=0),
    "getroot": lambda handle, jobid: ask(
        handle,
        "kvs.lookup",
        key=f"{kvs(jobid)}.R",
        flags=0,
        rootdir={"type": "dirref", "ver": 1, "data": [ask(handle, "kvs.getroot", namespace="primary")["rootref"]]},
    ),
    "main log": lambda handle, jobid: told(followed(handle, jobid, "eventlog"), "clean"),
    "guest log": lambda handle, jobid: told(followed(handle, jobid, "guest.exec.eventlog"), "done"),
}


@pytest.mark.usefixtures("lazy")
@pytest.mark.parametrize("look", LOOKS)
def test_who_looks_first_sees_all_of_a_job_that_has_ended(handle: flux.Flux, look: str) -> None:
    jobs = [future.get_id() for future in submitted(handle, 3, "echo", "hello")]
    for jobid in jobs:
        wait(handle, jobid)
    for jobid in jobs:
        LOOKS[look](handle, jobid)
        check_whole(handle, jobid, "hello")


@pytest.mark.usefixtures("lazy")
def test_who_follows_a_log_is_told_each_event_once_as_they_come(handle: flux.Flux) -> None:
    jobid = submitted(handle, 1, "sleep", "3600")[0].get_id()
    main, guest = followed(handle, jobid, "eventlog"), followed(handle, jobid, "guest.exec.eventlog")
    first = told(main, "start")
    second = told(guest, "starting")
    late = followed(handle, jobid, "guest.exec.eventlog")
    assert told(late, "starting") == second
    ask(handle, "job-manager.raise", id=jobid, severity=0, type="cancel", note="")
    first += told(main, "clean")
    assert first.count("clean") == first.count("alloc") == first.count("finish") == 1
    assert told(guest, "done")[-1] == told(late, "done")[-1] == "done"


@pytest.mark.usefixtures("lazy")
def test_who_waits_for_the_next_version_is_answered_when_a_job_changes_something(handle: flux.Flux) -> None:
    jobspec = JobspecV1.from_command(["true"])
    jobid = flux.job.submit(handle, jobspec, urgency=0)
    seq = ask(handle, "kvs.getroot", namespace="primary")["rootseq"]
    next_root = handle.rpc("kvs.wait-version", {"namespace": "primary", "rootseq": seq + 1})
    ask(handle, "job-manager.memo", id=jobid, memo={"a": 1})
    assert next_root.wait_for(PATIENCE).get()["rootseq"] == seq + 1
    ask(handle, "job-manager.raise", id=jobid, severity=0, type="cancel", note="")


@pytest.mark.usefixtures("lazy")
def test_nothing_is_left_of_a_job_that_is_purged_as_soon_as_it_has_ended(handle: flux.Flux) -> None:
    jobid, other = (future.get_id() for future in submitted(handle, 2))
    wait(handle, jobid)
    wait(handle, other)
    ask(handle, "job-manager.purge-id", id=jobid, force=True)
    with pytest.raises(FileNotFoundError):
        lookup(handle, f"{kvs(jobid)}.eventlog")
    with pytest.raises(FileNotFoundError):
        ask(handle, "kvs.lookup", key=kvs(jobid), namespace="primary", flags=1)
    check_whole(handle, other)


# Calls and messages.


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("name", ["kvs", "job-manager", "kvs-watch", "content", "job-exec", "sched-simple"])
@pytest.mark.parametrize("how", ["traced", "held"])
def test_a_module_that_is_asked_by_messages_all_of_a_sudden_loses_nothing(
    broker_thread: BrokerThread, handle: flux.Flux, monkeypatch: pytest.MonkeyPatch, name: str, how: str, kept: bool
) -> None:
    if kept:
        monkeypatch.setattr(batch, "LAZY", 3600.0)
    module = broker_thread.broker.modules[name]
    with broker_thread.open() as another:
        looks = []
        jobs = [future.get_id() for future in submitted(handle, 10, "echo", "hello")]
        futures = submitted(handle, 10, "echo", "hello")
        if how == "traced":
            broker_thread.call(lambda: module.trace(lambda direction, message: None))
        else:
            broker_thread.call(lambda: module.hold(True))
        looks = [another.rpc("kvs.lookup", {"key": kvs(job), "namespace": "primary", "flags": 1}) for job in jobs]
        futures += submitted(handle, 10, "echo", "hello")
        if how == "held":
            ask(handle, "broker.ping")
            broker_thread.call(lambda: module.hold(False))
        jobs += [future.wait_for(PATIENCE).get_id() for future in futures]
        for look in looks:
            look.wait_for(PATIENCE).get()
        for jobid in jobs:
            assert wait(handle, jobid).success
        if how == "traced":
            broker_thread.call(lambda: module.trace(None))
        for jobid in jobs:
            check_whole(another, jobid, "hello")
        spaces = ask(handle, "kvs.namespace-list")["namespaces"]
    assert [space["namespace"] for space in spaces] == ["primary"]


@pytest.mark.usefixtures("lazy")
def test_a_job_manager_that_is_removed_has_stored_what_was_answered(handle: flux.Flux) -> None:
    jobs = [future.get_id() for future in submitted(handle, 5)]
    for jobid in jobs:
        wait(handle, jobid)
    ask(handle, "module.remove", name="job-manager")
    for jobid in jobs:
        check_whole(handle, jobid)
    ask(handle, "module.load", path="job-manager", args=[])
    more = submitted(handle)[0].wait_for(PATIENCE).get_id()
    wait(handle, more)
    check_whole(handle, more)


@pytest.mark.usefixtures("lazy")
def test_an_execution_service_that_is_loaded_again_has_written_what_its_jobs_have_said(handle: flux.Flux) -> None:
    jobid = submitted(handle, 1, "sh", "-c", "echo hello; sleep 3600")[0].get_id()
    namespace = f"job-{int(jobid)}"
    wait_until(lambda: "hello" in output(handle, namespace), "what the job has written")
    ask(handle, "module.remove", name="job-exec")
    ask(handle, "module.load", path="job-exec", args=[])
    wait(handle, jobid)
    log = names(lookup(handle, f"{kvs(jobid)}.eventlog"))
    assert log[-1] == "clean"
    guest = names(lookup(handle, f"{kvs(jobid)}.guest.exec.eventlog"))
    assert guest.count("starting") == 1
    assert lookup(handle, f"{kvs(jobid)}.guest.output").count("hello") == 1


def output(handle: flux.Flux, namespace: str) -> str:
    try:
        return lookup(handle, "output", namespace)
    except OSError as exc:
        if exc.errno not in (errno.ENOENT, errno.EOPNOTSUPP):
            raise
        return ""
