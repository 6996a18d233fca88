"""What is to be stored of jobs is kept back for a moment, and seen by all who look as if it were not.

With `LAZY` an hour nothing that is seen here has come by itself.
"""

from __future__ import annotations

import errno
from base64 import b64decode
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from in_process import BrokerThread
from waiting import wait_until

import flux
import flux.job
import flux.kvs
from flux.constants import FLUX_RPC_STREAMING
from flux.core.fluid import f58, kvs
from flux.job import JobspecV1
from fluxlet.modules.job_exec import guests
from fluxlet.modules.job_manager import batch
from fluxlet.testing import Instance

PATIENCE = 30.0
ONCE = ("submit", "validate", "depend", "priority", "alloc", "start", "finish", "release", "free", "clean")


@pytest.fixture
def lazy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "LAZY", 3600.0)
    monkeypatch.setattr(guests, "_LAZY", 3600.0)


def submitted(handle: flux.Flux, count: int = 1, *command: str) -> list[Any]:
    jobspec = JobspecV1.from_command(list(command or ("true",)))
    jobspec.cwd = "/"
    return [flux.job.submit_async(handle, jobspec, waitable=True) for _ in range(count)]


def ask(handle: flux.Flux, topic: str, **payload: Any) -> Any:
    return handle.rpc(topic, payload).wait_for(PATIENCE).get()


def wait(handle: flux.Flux, jobid: int) -> Any:
    return flux.job.wait_async(handle, jobid).wait_for(PATIENCE).get_status()


def names(log: str) -> list[str]:
    return [msgspec.json.decode(line)["name"] for line in log.splitlines()]


def lookup(handle: flux.Flux, key: str, namespace: str = "primary") -> str:
    """A value, or an error with its number."""
    val = ask(handle, "kvs.lookup", key=key, namespace=namespace, flags=0)["val"]
    assert val["type"] == "val"
    return b64decode(val["data"]).decode()


def check_whole(handle: flux.Flux, jobid: int, output: str | None = None) -> None:
    """All that there is to be seen of a job that has ended, by whichever way somebody looks first."""
    path = kvs(jobid)
    log = names(lookup(handle, f"{path}.eventlog"))
    assert [log.count(name) for name in ONCE] == [1] * len(ONCE), log
    assert log[-1] == "clean"
    for key in ("R", "J", "jobspec"):
        assert lookup(handle, f"{path}.{key}")
    guest = names(lookup(handle, f"{path}.guest.exec.eventlog"))
    assert Counter(guest)["done"] == 1, guest
    assert guest[-1] == "done"
    looked = ask(handle, "job-info.lookup", id=jobid, keys=["eventlog", "guest.exec.eventlog", "R"], flags=0)
    assert names(looked["eventlog"]) == log
    assert names(looked["guest.exec.eventlog"]) == guest
    if output is not None:
        assert output in lookup(handle, f"{path}.guest.output")
    assert set(flux.kvs.get_dir(handle, path)) >= {"eventlog", "R", "J", "jobspec", "guest"}
    assert "exec" in set(flux.kvs.get_dir(handle, f"{path}.guest"))


def followed(handle: flux.Flux, jobid: int, path: str) -> Any:
    return handle.rpc("job-info.eventlog-watch", {"id": jobid, "path": path, "flags": 0}, flags=FLUX_RPC_STREAMING)


def told(stream: Any, last: str) -> list[str]:
    """The events that a watch has told of, up to one."""
    found: list[str] = []
    while last not in found:
        found += names(stream.wait_for(PATIENCE).get()["event"])
        stream.reset()
    return found


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


# What goes wrong.


def goes_on_alone(broker: BrokerThread, name: str) -> None:
    """A module that fails is not the end of the broker."""
    broker.call(lambda: setattr(broker.broker, "on_failure", lambda module: None))


def number_of(future: Any) -> int:
    """How an answer that has to come ends: 0, or the number of its error."""
    try:
        future.wait_for(PATIENCE).get()
    except TimeoutError:
        raise
    except OSError as exc:
        return exc.errno or errno.EIO
    return 0


def gone(handle: flux.Flux, name: str) -> bool:
    return name not in [module["name"] for module in ask(handle, "module.list")["mods"]]


@pytest.mark.usefixtures("lazy")
@pytest.mark.parametrize("name", ["content", "kvs"])
def test_what_cannot_be_stored_is_an_error_for_all_who_wait(
    broker_thread: BrokerThread, handle: flux.Flux, name: str
) -> None:
    goes_on_alone(broker_thread, "job-manager")
    jobs = [future.get_id() for future in submitted(handle, 5)]
    running = submitted(handle, 1, "sleep", "3600")[0].get_id()
    for jobid in jobs:
        wait(handle, jobid)
    waiter = flux.job.wait_async(handle, running)
    with broker_thread.open() as another:
        remove = another.rpc("module.remove", {"name": name, "force": True})
        futures = submitted(handle, 20)
        looks = [another.rpc("kvs.lookup", {"key": kvs(job), "namespace": "primary", "flags": 1}) for job in jobs]
        remove.wait_for(PATIENCE).get()
        futures += submitted(handle, 20)
        looks += [another.rpc("kvs.lookup", {"key": kvs(job), "namespace": "primary", "flags": 1}) for job in jobs]
        assert sum(number_of(future) != 0 for future in futures) >= 20
        for look in looks:
            assert number_of(look) in (0, errno.ENOSYS, errno.EHOSTUNREACH)
        with pytest.raises(OSError, match="unload"):
            waiter.wait_for(PATIENCE).get_status()
        wait_until(lambda: gone(another, "job-manager"), "the end of the job manager")


def test_a_disk_that_is_full_is_an_error_for_all_who_wait(
    start_broker: Callable[..., BrokerThread], tmp_path: Path
) -> None:
    broker = start_broker({"statedir": str(tmp_path), "statedir-cleanup": "0"})
    goes_on_alone(broker, "job-manager")

    def pragma(text: str) -> None:
        database = broker.broker.modules["content-sqlite"].instance._database  # type: ignore[union-attr]
        broker.call(lambda: database.connection.execute(f"PRAGMA {text}").fetchall())

    with broker.open() as handle:
        jobs = [future.get_id() for future in submitted(handle, 5)]
        for jobid in jobs:
            wait(handle, jobid)
        pragma("max_page_count = 1")
        futures = submitted(handle, 20)
        looks = [handle.rpc("kvs.lookup", {"key": kvs(job), "namespace": "primary", "flags": 1}) for job in jobs]
        for future in futures:
            assert number_of(future) in (errno.ENOSYS, errno.EHOSTUNREACH)
        for look in looks:
            look.wait_for(PATIENCE).get()
        wait_until(lambda: gone(handle, "job-manager"), "the end of the job manager")
        pragma("max_page_count = 1000000")
        ask(handle, "module.load", path="job-manager", args=[])
        more = submitted(handle)[0].wait_for(PATIENCE).get_id()
        wait(handle, more)
        for jobid in (*jobs, more):
            check_whole(handle, jobid)


def test_nothing_is_left_of_jobs_that_are_refused_among_others(handle: flux.Flux) -> None:
    good, bad = JobspecV1.from_command(["true"]), []
    for attribute, value in (
        ("system.queue", "nowhere"),
        ("system.dependencies", [{"scheme": "unheard-of", "value": "1"}]),
        ("system.dependencies", [{"scheme": "afterok", "value": "ƒ1"}]),
    ):
        jobspec = JobspecV1.from_command(["true"])
        jobspec.setattr(attribute, value)
        bad.append(jobspec)
    futures = [
        (jobspec is good, flux.job.submit_async(handle, jobspec, waitable=True))
        for _ in range(20)
        for jobspec in (good, bad[0], good, bad[1], bad[2], "{}", good)
    ]
    jobs = []
    for fine, future in futures:
        if fine:
            jobs.append(future.wait_for(PATIENCE).get_id())
        else:
            assert number_of(future) in (errno.EINVAL, errno.EPERM)
    for jobid in jobs:
        assert wait(handle, jobid).success
        check_whole(handle, jobid)
    stored = [
        int(a + b + c + d, 16)
        for a in flux.kvs.get_dir(handle, "job")
        for b in flux.kvs.get_dir(handle, f"job.{a}")
        for c in flux.kvs.get_dir(handle, f"job.{a}.{b}")
        for d in flux.kvs.get_dir(handle, f"job.{a}.{b}.{c}")
    ]
    assert sorted(stored) == sorted(int(jobid) for jobid in jobs)


# Other ranks, and what lasts.


@pytest.fixture(scope="module")
def three_ranks() -> Any:
    with Instance(size=3) as instance:
        yield instance


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_who_has_waited_for_a_job_sees_all_of_it_on_every_rank(three_ranks: Instance, rank: int) -> None:
    with three_ranks.handle(rank) as handle:
        for future in submitted(handle, 10, "echo", "hello"):
            jobid = future.get_id()
            wait(handle, jobid)
            check_whole(handle, jobid, "hello")


def test_the_tasks_of_a_job_find_its_resources_on_every_rank(three_ranks: Instance) -> None:
    with three_ranks.handle() as handle:
        command = "flux kvs get --namespace=primary $(flux job id --to=kvs $FLUX_JOB_ID).R"
        jobspec = JobspecV1.from_command(["sh", "-c", command], num_tasks=3, num_nodes=3)
        jobspec.environment = three_ranks.environ
        jobid = flux.job.submit(handle, jobspec, waitable=True)
        assert wait(handle, jobid).success, lookup(handle, f"{kvs(jobid)}.guest.output")


def test_what_a_wait_has_told_survives_a_broker_that_is_killed(tmp_path: Path) -> None:
    instance = Instance(attributes={"statedir": str(tmp_path), "log-stderr-level": "2"})
    instance.start()
    with instance.handle() as handle:
        jobs = [future.get_id() for future in submitted(handle, 5, "echo", "hello")]
        for jobid in jobs:
            assert wait(handle, jobid).success
    instance.kill()
    with instance, instance.handle() as handle:
        for jobid in jobs:
            check_whole(handle, jobid, "hello")
            log = names(lookup(handle, f"{kvs(jobid)}.eventlog"))
            assert "exception" not in log, f58(jobid)
