"""The smaller parts of the job manager: batches, directories, jobs that have ended, ids, jobspecs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flux.core import fluid
from fluxlet.modules.job_ingest.ids import Ids
from fluxlet.modules.job_manager.batch import Batch
from fluxlet.modules.job_manager.directories import Directories
from fluxlet.modules.job_manager.job import Job, apply, merge, new_job
from fluxlet.modules.job_manager.jobspec import counts, read, updated
from fluxlet.modules.job_manager.past import Pasts
from fluxlet.modules.kvs.operation import Commit, payload

JOBSPEC = b'{"attributes":{"system":{"duration":0}}}'


def job(jobid: int, t_clean: float = 0.0) -> Job:
    made = new_job(jobid, 7, 16, 0, 1.0, JOBSPEC, read(JOBSPEC))
    made.t_clean = t_clean
    return made


class World:
    """A KVS and a clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.commits: list[Any] = []
        self.delays: list[float] = []
        self.unwatched: set[str] = set()

    def commit(self, commit: Commit) -> None:
        self.commits.append(json.loads(payload(commit)[:-1]))

    def watched(self, key: str) -> bool:
        return key not in self.unwatched

    def soon(self, delay: float) -> None:
        self.delays.append(delay)


def test_a_lone_event_is_stored_at_once_and_the_next_after_a_rest() -> None:
    world = World()
    batch = Batch(world, clock=lambda: world.now)
    batch.append(job(1), b'{"x":1}')
    assert world.delays == [0.0]
    batch.flush()
    world.now += 0.002
    batch.append(job(1), b'{"x":2}')
    batch.ended()
    assert world.delays[1:] == [pytest.approx(0.006)]
    batch.after(lambda: None)
    assert world.delays[-1] == 0.0


def test_what_nobody_looks_at_waits_longer() -> None:
    world = World()
    batch = Batch(world, clock=lambda: world.now)
    one, two = job(1), job(2)
    world.unwatched = {f"{one.path}.eventlog", f"{one.path}.R"}
    batch.append(one, b"a")
    assert world.delays == [0.0]
    batch.flush()
    world.now += 0.002
    batch.ended()
    batch.append(one, b"b")
    batch.add(f"{one.path}.R", b"R")
    assert world.delays[1:] == [pytest.approx(0.05)]
    batch.append(two, b"c")
    assert world.delays[2:] == [pytest.approx(0.006)]
    batch.flush()
    batch.ended()
    batch.append(one, b"d")
    assert world.delays[3:] == [pytest.approx(0.05)]


def test_events_of_a_job_are_one_append_and_in_order() -> None:
    world = World()
    batch = Batch(world, durable=True)
    one, two = job(1), job(2)
    for each, line in ((one, b"a"), (two, b"b"), (one, b"c")):
        batch.append(each, line)
    batch.add("key", b"value")
    batch.flush()
    ops = world.commits[0]["ops"]
    assert [(op["key"].rpartition(".")[2], op["flags"], op["dirent"]["data"]) for op in ops] == [
        ("key", 0, "dmFsdWU="),
        ("eventlog", 32, "YQpjCg=="),
        ("eventlog", 32, "Ygo="),
    ]
    assert world.commits[0]["flags"] == 4


def test_who_waits_is_called_when_what_was_posted_before_is_stored() -> None:
    world = World()
    batch = Batch(world)
    called: list[str] = []
    batch.after(lambda: called.append("nothing to store"))
    batch.append(job(1), b"a")
    batch.after(lambda: called.append("first"))
    batch.flush()
    batch.after(lambda: called.append("under way"))
    batch.append(job(1), b"b")
    batch.after(lambda: called.append("second"))
    batch.flush()
    assert (len(world.commits), called) == (1, ["nothing to store"])
    batch.ended()
    assert called == ["nothing to store", "first", "under way"]
    batch.flush()
    batch.ended()
    assert called[-1] == "second"


def test_directories_that_nobody_needs_go_with_their_last_job() -> None:
    minute = 60_000 << 24
    directories = Directories()
    for jobid in (1, 2, 1 << 16, 1 << 40):
        directories.add(jobid)
    newest = (1 << 48) + minute
    assert directories.remove([1], newest) == ["job.0000.0000.0000.0001"]
    assert directories.remove([2], newest) == ["job.0000.0000.0000"]
    assert directories.remove([1 << 16], newest) == ["job.0000.0000"]
    assert directories.remove([1 << 40], newest) == ["job.0000"]


def test_directories_where_new_jobs_may_come_stay() -> None:
    directories = Directories()
    directories.add(5)
    assert directories.remove([5], 6) == ["job.0000.0000.0000.0005"]
    directories.add(9)
    directories.add(8)
    assert list(directories.ids) == [8, 9]


def test_jobs_that_have_ended_are_packed_and_are_as_they_were() -> None:
    pasts = Pasts()
    made = {}
    for jobid in range(3000):
        each = job(jobid)
        names = ("submit", "validate", "depend", "priority", "alloc", "start", "finish", "release", "free", "clean")
        each.events = [
            b'{"timestamp":%f,"name":"%b","context":{"n":%d}}' % (1.8e9 + jobid + n / 7, name.encode(), jobid % 3)
            for n, name in enumerate(names)
        ]
        if jobid % 5:
            each.R = b'{"version":1,"execution":{"R_lite":[{"rank":"%d"}],"starttime":%d}}' % (jobid % 9, jobid)
        made[jobid] = each
        pasts.add(each)
    huge = job(3000)
    huge.events, huge.R = [b'{"timestamp":1.0,"name":"memo","context":{"x":"%b"}}' % (100_000 * b"y")] * 2, b"{}"
    made[3000] = huge
    pasts.add(huge)
    for jobid, each in made.items():
        past = pasts.jobs[jobid]
        assert (past.entries, past.R, past.jobspec) == (each.events, each.R, JOBSPEC)
        assert past.log == b",".join(each.events)
    plain = sum(len(b"".join(each.events)) + len(each.R or b"") for each in made.values())
    assert sum(len(past.packed) for past in pasts.jobs.values()) < plain / 3
    # A dictionary is that of many.
    assert len({id(past.dictionary) for past in pasts.jobs.values()}) < 6


def test_which_jobs_may_be_purged() -> None:
    pasts = Pasts()
    for jobid in range(10):
        pasts.add(job(jobid, t_clean=float(jobid)))
    assert pasts.eligible(-1, -1, 100.0) == 0
    assert pasts.eligible(-1, 3, 100.0) == 7
    assert pasts.eligible(95.0, -1, 100.0) == 6
    assert pasts.eligible(95.0, 2, 100.0) == 8
    assert pasts.oldest(3) == [0, 1, 2]


def test_ids_grow_also_when_a_millisecond_has_too_many() -> None:
    ids = Ids(3, 1000, 50.0)
    found = [ids.next(50.0) for _ in range(3000)] + [ids.next(50.5)]
    assert found == sorted(set(found))
    assert fluid.timestamp(found[0]) == 1000
    assert fluid.timestamp(found[-1]) == 1500
    assert {jobid >> 10 & 0x3FFF for jobid in found} == {3}
    assert max(jobid & 0x3FF for jobid in found) < 1023
    assert ids.timestamp(50.6) == 1600


def test_annotations_are_merged_and_null_deletes() -> None:
    first = {"user": {"a": 1, "b": {"c": 2}}}
    merged = merge(first, {"user": {"a": None, "b": {"d": 3}}, "sched": {"x": 1}})
    assert merged == {"user": {"b": {"c": 2, "d": 3}}, "sched": {"x": 1}}
    assert first == {"user": {"a": 1, "b": {"c": 2}}}


def test_an_update_of_the_expiration_changes_r() -> None:
    made = job(1)
    made.R = b'{"version":1,"execution":{"expiration":0.0}}'
    apply(made, "resource-update", {"expiration": 17.5})
    assert json.loads(made.R)["execution"]["expiration"] == 17.5


@pytest.mark.parametrize(
    ("resources", "found"),
    [
        ('[{"type":"slot","count":2,"with":[{"type":"core","count":3}]}]', (0, 2, 6, 0)),
        (
            '[{"type":"node","count":2,"with":[{"type":"slot","count":3,"with":[{"type":"core","count":1},'
            '{"type":"gpu","count":2}]}]}]',
            (2, 6, 6, 12),
        ),
    ],
)
def test_counting_what_a_jobspec_asks_for(resources: str, found: tuple[int, ...]) -> None:
    number = counts(f'{{"resources":{resources}}}'.encode())
    assert (number.nnodes, number.nslots, number.ncores, number.ngpus) == found


@pytest.mark.parametrize(
    ("resources", "text"),
    [
        ("[]", "jobspec has no resources"),
        ('[{"type":"core","count":1}]', "Unable to determine slot count"),
        ('[{"type":"slot","count":1}]', "Unable to determine slot size"),
    ],
)
def test_what_cannot_be_counted(resources: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        counts(f'{{"resources":{resources}}}'.encode())


def test_updating_a_jobspec() -> None:
    text, spec = updated(JOBSPEC, {"attributes.system.duration": 5, "attributes.user.x.y": 1})
    assert json.loads(text)["attributes"] == {"system": {"duration": 5}, "user": {"x": {"y": 1}}}
    assert spec.system.duration == 5
    with pytest.raises(ValueError, match="failed to unpack duration"):
        updated(JOBSPEC, {"attributes.system.duration": "x"})
