"""The table of `job-list`: the index finds what a scan would, events move jobs as they should, purged jobs are gone."""

from __future__ import annotations

import random
from typing import Any

import pytest
from job_stories import AROUND, Story, jobspec, r

from fluxlet.modules.job_list.constraint import parse
from fluxlet.modules.job_list.job import INACTIVE, Job
from fluxlet.modules.job_list.spec import parse_jobspec, parse_resources
from fluxlet.modules.job_list.table import SLICE, Event, ExcessiveError


def crowd(seed: int, count: int) -> Story:
    """A story of many jobs, in all states."""
    choose = random.Random(seed)
    story = Story()
    for jobid in range(1, count + 1):
        queue = choose.choice([None, "batch", "small", "debug"])
        story.submit(jobid, jobspec(choose.choice("abcdefgh"), queue), choose.choice([0, 1000, 1001]))
        fate = choose.random()
        if fate < 0.05:
            continue
        story.schedule(jobid, choose.choice([0, 16, 31]))
        if fate < 0.1:
            continue
        if fate < 0.2:
            story.happen(jobid, "exception", type=choose.choice(["cancel", "alloc"]), severity=0, note="")
            story.happen(jobid, "clean")
            continue
        first = choose.randrange(12)
        story.run(jobid, r(*range(first, first + choose.choice([1, 1, 2, 4]))))
        if fate < 0.3:
            continue
        story.happen(jobid, "finish", status=choose.choice([0, 0, 256]))
        if fate > 0.35:
            story.happen(jobid, "clean")
    return story


def any_constraint(choose: random.Random, depth: int = 0) -> dict[str, Any]:
    kind = choose.randrange(12 if depth < 3 else 9)
    times = choose.choice(["t_submit", "t_run", "t_cleanup", "t_inactive", "t_priority"])
    match kind:
        case 0:
            return {"userid": choose.sample([0, 1000, 1001, 7], choose.randrange(3))}
        case 1:
            return {"name": choose.sample("abcdefghxyz", choose.randrange(4))}
        case 2:
            return {"queue": choose.sample(["batch", "small", "debug", "none"], choose.randrange(3))}
        case 3:
            return {"states": [choose.choice([2, 8, 14, 16, 48, 62, 64, 126, "inactive", "RUN"])]}
        case 4:
            return {"results": [choose.choice([1, 2, 3, 4, "failed", "CA"])]}
        case 5:
            return {"ranks": [choose.choice(["0", "3-5", "11", "0-15"])]}
        case 6:
            return {"hostlist": [choose.choice(["node0", "node[2-4]", "nodes7", "node[0-15]"])]}
        case 7 | 8:
            return {times: [choose.choice([">", ">=", "<", "<="]) + str(choose.randrange(4000))]}
        case _:
            operator = choose.choice(["and", "or", "not"])
            return {operator: [any_constraint(choose, depth + 1) for _ in range(choose.randrange(4))]}


def in_order(jobs: list[Job]) -> list[int]:
    """The order of spec 08, 2.3, done the slow way."""
    pending = sorted([j for j in jobs if j.state & 14], key=lambda j: (-(j.priority or 0), j.id))
    running = sorted([j for j in jobs if j.state & 48], key=lambda j: (-(j.t_run or 0.0), -j.id))
    inactive = sorted([j for j in jobs if j.state == INACTIVE], key=lambda j: (-(j.t_inactive or 0.0), -j.id))
    return [job.id for job in (*pending, *running, *inactive)]


@pytest.mark.parametrize("seed", range(4))
def test_the_index_finds_what_a_scan_does_in_the_same_order(seed: int) -> None:
    choose = random.Random(seed)
    story = crowd(seed, 600)
    story.table.purge(choose.sample(range(1, 601), 50))
    jobs = list(story.table.jobs.values())
    for _ in range(400):
        constraint = any_constraint(choose)
        since = choose.choice([0.0, 0.0, float(choose.randrange(4000))])
        limit = choose.choice([0, 0, 1, 7])
        matches = parse(constraint, AROUND).matches
        wanted = in_order([j for j in jobs if matches(j) and (j.state != INACTIVE or (j.t_inactive or 0.0) > since)])
        found = story.ids(constraint, since=since, limit=limit)
        assert found == wanted[: limit or None], constraint


def test_a_rare_name_among_many_inactive_jobs_is_not_searched_for() -> None:
    story = Story()
    for jobid in range(1, 5001):
        story.submit(jobid, jobspec("rare" if jobid == 7 else "common"))
        story.run(jobid)
        story.end(jobid)
    looked = []

    for constraint in (
        {"name": ["rare"]},
        {"and": [{"states": ["inactive"]}, {"userid": [0]}, {"name": ["rare"]}]},
        {"or": [{"name": ["rare"]}, {"hostlist": ["elsewhere"]}]},
        {"ranks": ["5"]},
        {"and": [{"userid": [0]}, {"t_inactive": [f">={story.now - 10}"]}]},
    ):
        found = list(story.table.matching(parse(constraint, AROUND)))
        looked.append(found.count(None))  # slices of work
    assert looked == [0] * 5
    assert list(story.table.matching(parse({"t_submit": [">=0"]}, AROUND))).count(None) == 5000 // SLICE


def test_a_limit_on_comparisons_is_kept() -> None:
    story = crowd(1, 200)
    with pytest.raises(ExcessiveError):
        story.ids({"t_submit": [">0"]}, comparisons=100)
    assert story.ids({"t_submit": [">0"]}, comparisons=1000)


def test_jobs_that_change_between_slices_come_once() -> None:
    story = Story()
    for jobid in range(1, 2001):
        story.submit(jobid)
        story.schedule(jobid)
    listing = story.table.matching()
    seen = []
    for job in listing:
        if job is None:
            # Half of them run, and some end, meanwhile.
            for jobid in range(1, 2001, 2):
                if story.table.jobs[jobid].state == 8:
                    story.run(jobid)
                    if jobid % 3 == 0:
                        story.end(jobid)
        else:
            seen.append(job.id)
    assert sorted(seen) == list(range(1, 2001))


def test_purged_jobs_are_neither_listed_nor_counted_nor_kept() -> None:
    story = Story()
    for jobid in range(1, 3001):
        story.submit(jobid, jobspec(queue="batch"))
        story.run(jobid)
        story.end(jobid, status=0 if jobid % 2 else 256)
    story.table.purge(range(1, 2501))
    story.table.purge([1, 99999])
    assert story.ids() == list(range(3000, 2500, -1))
    assert len(story.table.inactive) == 500
    assert len(story.table.inactive.jobs) <= 1500
    told = story.table.counts.told()
    assert (told["job_states"]["inactive"], told["successful"], told["inactive_purged"]) == (500, 250, 2500)
    assert told["queues"][0]["inactive_purged"] == 2500
    # Nor are they in any index, which goes on with those that are left.
    inactive = story.table.inactive
    assert inactive.by("queue", "batch") == inactive.jobs
    story.submit(3001, jobspec(queue="batch"))
    story.run(3001)
    story.end(3001, status=0)
    assert inactive.by("queue", "batch") == inactive.jobs
    assert inactive.jobs[-1].id == 3001
    story.table.purge(range(2501, 3002))
    story.table.purge(range(2501, 3002))
    assert story.ids() == []


def test_a_job_on_its_way() -> None:
    story = Story()
    story.submit(1)
    assert story.told(1, "state", "t_depend", "priority") == {"id": 1, "state": 2, "t_depend": 2.0}
    story.happen(1, "dependency-add", description="after-start=ƒ1")
    story.happen(1, "dependency-remove", description="after-start=ƒ1")
    assert story.told(1, "dependencies") == {"id": 1, "dependencies": []}
    story.schedule(1)
    first = story.told(1, "t_priority", "t_sched", "priority", "state")
    assert first == {"id": 1, "t_priority": 5.0, "t_sched": 6.0, "priority": 16, "state": 8}
    story.happen(1, "urgency", userid=0, urgency=31)
    assert story.told(1, "state", "priority", "urgency") == {"id": 1, "state": 4, "urgency": 31}
    story.happen(1, "priority", priority=4294967295)
    again = story.told(1, "t_priority", "t_sched", "priority", "state")
    assert again == {**first, "priority": 4294967295}
    story.run(1, r(0, 1))
    told = story.told(1)
    assert {"ranks": "[0-1]", "nodelist": "node[0-1]", "nnodes": 2, "ncores": 4, "state": 16}.items() <= told.items()
    assert "waitstatus" not in told
    story.happen(1, "resource-update", expiration=99.5)
    story.happen(1, "annotations", annotations={"sched": {"resource_summary": "x"}})
    story.happen(1, "memo", uri="local:///x", deep={"a": 1})
    story.happen(1, "memo", deep={"a": None})
    assert story.told(1, "annotations", "expiration") == {
        "id": 1,
        "annotations": {"sched": {"resource_summary": "x"}, "user": {"uri": "local:///x"}},
        "expiration": 99.5,
    }
    story.happen(1, "exception", type="warn", severity=3, note="careful")
    story.happen(1, "finish", status=0)
    assert story.told(1, "state", "waitstatus", "success") == {"id": 1, "state": 32, "waitstatus": 0}
    story.happen(1, "clean")
    told = story.told(1)
    assert {"success": True, "result": 1, "exception_occurred": True, "exception_severity": 3}.items() <= told.items()
    assert told["annotations"]["user"] == {"uri": "local:///x"}


@pytest.mark.parametrize(
    ("events", "result", "success"),
    [
        ([("finish", {"status": 0})], 1, True),
        ([("finish", {"status": 256})], 2, False),
        ([("exception", {"type": "cancel", "severity": 0}), ("finish", {"status": 36608})], 4, False),
        ([("exception", {"type": "timeout", "severity": 0}), ("finish", {"status": 36352})], 8, False),
        ([("exception", {"type": "exec", "severity": 0}), ("finish", {"status": 0})], 2, False),
        ([("finish", {"status": 0}), ("exception", {"type": "cancel", "severity": 0})], 1, True),
        ([("exception", {"type": "x", "severity": 4}), ("exception", {"type": "cancel", "severity": 0})], 4, False),
    ],
)
def test_results(events: list[tuple[str, dict[str, Any]]], result: int, success: bool) -> None:
    story = Story()
    story.submit(1)
    story.run(1)
    for name, context in events:
        story.happen(1, name, **context)
    story.happen(1, "clean")
    assert story.told(1, "result", "success") == {"id": 1, "result": result, "success": success}


def test_a_job_that_is_refused_is_forgotten() -> None:
    story = Story()
    story.table.apply(1, Event(1.0, "submit", {"userid": 0, "urgency": 16}), jobspec())
    assert story.ids() == []
    story.happen(1, "invalidate")
    assert story.table.jobs == {}


def test_an_update_of_the_jobspec_is_seen_and_counted() -> None:
    story = Story()
    story.submit(1, jobspec(queue="batch"))
    story.schedule(1)
    story.happen(1, "jobspec-update", **{"attributes.system.queue": "debug", "attributes.system.duration": 60.0})
    assert story.told(1, "queue", "duration", "state") == {"id": 1, "queue": "debug", "duration": 60.0, "state": 4}
    by_queue = {entry["name"]: entry["job_states"]["total"] for entry in story.table.counts.told()["queues"]}
    assert by_queue == {"batch": 0, "debug": 1}


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        (b"null", {}),
        (b'{"resources": 1, "tasks": {}, "attributes": []}', {}),
        (b'{"tasks": [{"command": ["/bin/"]}]}', {"name": "/bin/"}),
        (b'{"tasks": [{"command": ["/bin/app"], "count": {"total": 5}}]}', {"name": "app", "ntasks": 5}),
        (
            b'{"resources": [{"type": "node", "count": 2, "exclusive": true, "with": [{"type": "slot", "count": 3,'
            b' "with": [{"type": "core", "count": 2}]}]}]}',
            {"nnodes": 2, "ntasks": 6},
        ),
        (
            b'{"resources": [{"type": "node", "count": 2, "with": [{"type": "slot", "count": 3,'
            b' "with": [{"type": "core", "count": 2}]}]}]}',
            {"nnodes": 2, "ntasks": 6, "ncores": 12},
        ),
        (b'{"resources": [{"type": "slot", "count": "2-4", "with": [{"type": "core", "count": 2}]}]}', {}),
        (
            b'{"resources": [{"type": "slot", "count": 4, "with": [{"type": "core", "count": 2}]}], "attributes":'
            b' {"system": {"shell": {"options": {"per-resource": {"type": "core", "count": 3}}}}}}',
            {"ncores": 8, "ntasks": 24},
        ),
    ],
)
def test_what_a_jobspec_says(spec: bytes, wanted: dict[str, Any]) -> None:
    said = {name: value for name, value in parse_jobspec(spec)._asdict().items() if value is not None}
    assert said == wanted


def test_tasks_for_each_resource_are_known_with_the_resources() -> None:
    options = {"options": {"per-resource": {"type": "node", "count": 2}}}
    story = Story()
    story.submit(1, jobspec(shell=options))
    assert "ntasks" not in story.told(1)
    story.run(1, r(0, 1, 2))
    assert story.told(1, "ntasks") == {"id": 1, "ntasks": 6}


def test_what_is_no_r() -> None:
    for text in (b"", b"{}", b'{"execution": {"R_lite": [{"rank": 0}]}}', b'{"execution": {"R_lite": 1}}'):
        with pytest.raises(ValueError, match=r"."):
            parse_resources(text)
