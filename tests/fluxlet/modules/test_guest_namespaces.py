"""The namespaces of jobs while they run, and what becomes of them: on one rank, and on two."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import msgspec
import pytest
from waiting import wait_until
from whole_jobs import PATIENCE, ask, check_whole, followed, lookup, wait

import flux
import flux.job
import flux.kvs
from flux.core.fluid import kvs
from flux.job import JobspecV1
from fluxlet.testing import Instance


@pytest.fixture(scope="module", params=[1, 2])
def ranks(request: pytest.FixtureRequest) -> Iterator[Instance]:
    with Instance(size=request.param) as instance:
        yield instance


def run_on(instance: Instance, handle: flux.Flux, script: str) -> int:
    size = instance.size
    jobspec = JobspecV1.from_command(["sh", "-c", script], num_tasks=size, num_nodes=size)
    jobspec.environment = instance.environ
    jobspec.cwd = "/"
    return flux.job.submit(handle, jobspec, waitable=True)


def test_tasks_use_the_namespace_of_their_job_and_what_they_leave_stays(ranks: Instance) -> None:
    script = (
        "set -e; flux kvs put mine.$FLUX_TASK_RANK=1; flux kvs get mine.$FLUX_TASK_RANK; flux kvs get exec.eventlog"
    )
    with ranks.handle() as handle:
        jobid = run_on(ranks, handle, script)
        assert wait(handle, jobid).success, lookup(handle, f"{kvs(jobid)}.guest.output")
        check_whole(handle, jobid, "init")
        for rank in range(ranks.size):
            assert lookup(handle, f"{kvs(jobid)}.guest.mine.{rank}") == "1"


def test_what_tasks_write_is_seen_through_the_link_while_they_run_and_after(ranks: Instance) -> None:
    script = (
        "flux kvs put mine.$FLUX_TASK_RANK=1; echo hello; flux kvs get --waitcreate --watch --count=1 go; echo goodbye"
    )
    with ranks.handle() as handle, ranks.handle(ranks.size - 1) as looker:
        jobid = run_on(ranks, handle, script)
        path = f"{kvs(jobid)}.guest"

        def there(key: str, what: str) -> bool:
            try:
                return what in lookup(looker, f"{path}.{key}")
            except OSError:
                return False

        for rank in range(ranks.size):
            wait_until(lambda rank=rank: there(f"mine.{rank}", "1"), "what a task has put")  # type: ignore[misc]
        wait_until(lambda: there("output", "hello"), "what the tasks have written")
        wait_until(lambda: there("exec.eventlog", "starting"), "what the execution service has written")
        ask(
            handle,
            "kvs.commit",
            namespace=f"job-{int(jobid)}",
            flags=0,
            ops=[{"key": "go", "flags": 0, "dirent": {"ver": 1, "type": "val", "data": "MQ=="}}],
        )
        assert wait(looker, jobid).success
        written = lookup(looker, f"{path}.output")
        assert written.count("hello") == written.count("goodbye") == ranks.size
        assert lookup(looker, f"{path}.go") == "1"
        check_whole(looker, jobid, "goodbye")


def lines_of(log: str) -> int:
    """How many entries of an output log have something that was written."""
    return sum("data" in msgspec.json.decode(line)["context"] for line in log.splitlines())


def test_the_output_of_jobs_of_all_lengths_is_there_once(ranks: Instance) -> None:
    with ranks.handle() as handle, ranks.handle(ranks.size - 1) as looker:
        jobs = []
        for seconds in (0, 0.005, 0.02, 0.045, 0.055, 0.08, 0.5):
            for words in ("", "echo one;", "echo one; echo two >&2;"):
                for before in (True, False):
                    script = f"{words} sleep {seconds}" if before else f"sleep {seconds}; {words}"
                    jobs.append((run_on(ranks, handle, script), words.count("echo")))
        # What rank 0 has accepted the others hear of by and by.
        submitted = ask(handle, "kvs.getroot", namespace="primary")["rootseq"]
        ask(looker, "kvs.wait-version", namespace="primary", rootseq=submitted)
        streams = [followed(looker, jobid, "guest.output") for jobid, _ in jobs]
        for (jobid, lines), stream in zip(jobs, streams, strict=True):
            assert wait(looker, jobid).success
            check_whole(looker, jobid)
            assert lines_of(lookup(looker, f"{kvs(jobid)}.guest.output")) == lines * ranks.size
            heard = 0
            while True:
                try:
                    heard += lines_of(stream.wait_for(PATIENCE).get()["event"])
                except OSError as exc:
                    ended = exc
                    break
                stream.reset()
            assert ended.errno == errno.ENODATA
            assert heard == lines * ranks.size
        spaces = ask(handle, "kvs.namespace-list")["namespaces"]
        assert [space["namespace"] for space in spaces] == ["primary"]
