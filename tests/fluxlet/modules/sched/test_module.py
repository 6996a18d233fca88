"""The built-in schedulers, in conversation with their partners (spec 07, 3.1 to 3.7)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from in_process import BrokerThread, error_of
from sched_partners import Partners, inventory, partners, said

Start = Callable[..., BrokerThread]


def jobspec(slots: Any, cores: int = 1, **system: Any) -> dict[str, Any]:
    resources = [{"type": "slot", "count": slots, "label": "task", "with": [{"type": "core", "count": cores}]}]
    return {"version": 1, "resources": resources, "tasks": [], "attributes": {"system": system}}


def ask_for(played: Partners, jobid: int, slots: Any = 1, priority: int = 16, **system: Any) -> None:
    request = {"id": jobid, "priority": priority, "userid": 0, "t_submit": 1.0, "jobspec": jobspec(slots, **system)}
    played.tell("sched.alloc", request)


def answer(played: Partners, jobid: int) -> dict[str, Any]:
    payload: dict[str, Any] = said(played.expect("sched.alloc", jobid))
    return payload


def started(played: Partners, *jobids: int) -> dict[int, Any]:
    """R of jobs that start, all in the next transaction."""
    written = played.commit()
    assert len(written) == len(jobids)
    found = {}
    for jobid in jobids:
        told = answer(played, jobid)
        while told["type"] == 1:  # its future was foretold
            told = answer(played, jobid)
        assert told["type"] == 0
        assert told["R"] in written.values()
        found[jobid] = told["R"]
    return found


def rlist(r: dict[str, Any]) -> list[tuple[str, str]]:
    return [(group["rank"], group["children"]["core"]) for group in r["execution"]["R_lite"]]


@pytest.fixture
def begin(start_broker: Start) -> Iterator[Callable[..., Partners]]:
    """A function that starts a scheduler, by name, with R, ranks that are up, and arguments."""
    opened = []

    def begin(name: str = "sched-simple", r: Any = None, up: str = "0", *args: str) -> Partners:
        context = partners(start_broker(), name)
        opened.append(context)
        played = context.__enter__()
        played.load(*args)
        played.begin(r or inventory("0", "0-1"), up)
        played.mode = played.ready()  # type: ignore[attr-defined]
        return played

    yield begin
    for context in opened:
        context.__exit__(None, None, None)


def free(played: Partners, jobid: int, r: Any, final: bool = True) -> None:
    played.tell("sched.free", {"id": jobid, "R": r, "final": final})


Begin = Callable[..., Partners]


@pytest.mark.parametrize(
    ("name", "args", "mode"),
    [
        ("sched-simple", [], {"mode": "limited", "limit": 8}),
        ("sched-fifo", [], {"mode": "limited", "limit": 8}),
        ("sched-backfill", [], {"mode": "unlimited"}),
        ("sched-simple", ["queue-depth=3", "log-level=err", "placement=best"], {"mode": "limited", "limit": 3}),
        ("sched-simple", ["queue-depth=unlimited"], {"mode": "unlimited"}),
        ("sched-simple", ["mode=unlimited", "policy=backfill"], {"mode": "unlimited"}),
        ("sched-backfill", ["mode=limited=5", "test-hello-nopartial"], {"mode": "limited", "limit": 5}),
    ],
)
def test_modes(begin: Begin, name: str, args: list[str], mode: dict[str, Any]) -> None:
    assert begin(name, None, "0", *args).mode == mode  # type: ignore[attr-defined]


def test_arguments_that_are_none(start_broker: Start) -> None:
    broker = start_broker()
    with broker.open() as handle:
        for arg in ("x", "queue-depth=0", "queue-depth=x", "mode=x", "mode=limited=", "log-level=x", "placement=x"):
            load = {"path": "sched-fifo", "args": [arg]}
            assert error_of(lambda load=load: handle.rpc("module.load", load).get())[0] == 22  # type: ignore[misc]
        # There is one already.
        assert error_of(lambda: handle.rpc("module.load", {"path": "sched-fifo", "args": []}).get())[0] == 17
        assert "sched-fifo" not in [mod["name"] for mod in handle.rpc("module.list").get()["mods"]]


def test_those_who_come_together_start_in_one_transaction(begin: Begin) -> None:
    played = begin(r=inventory("0-3", "0-15"), up="0-3")
    for jobid in range(1, 41):
        ask_for(played, jobid)
    written: dict[str, Any] = {}
    while len(written) < 40:
        written |= played.commit()
    assert len({str(rlist(r)) for r in written.values()}) == 40  # all have others
    # Worst fit spreads.
    assert sorted(rlist(r)[0][0] for r in written.values()) == sorted("0123" * 10)
    for jobid in range(1, 41):
        told = answer(played, jobid)
        assert told["annotations"] == {"sched": {"resource_summary": told["annotations"]["sched"]["resource_summary"]}}


def test_priority_then_id(begin: Begin) -> None:
    played = begin()
    ask_for(played, 1, 2)
    held = started(played, 1)
    ask_for(played, 3)
    ask_for(played, 2)
    ask_for(played, 4, priority=20)
    played.tell("sched.prioritize", {"jobs": [[2, 25]]})
    free(played, 1, held[1])
    assert started(played, 2, 4).keys() == {2, 4}


def test_a_job_that_does_not_want_any_more(begin: Begin) -> None:
    played = begin()
    ask_for(played, 1, 2)
    held = started(played, 1)
    ask_for(played, 2)
    ask_for(played, 3)
    played.tell("sched.cancel", {"id": 2})
    played.tell("sched.cancel", {"id": 77})
    assert answer(played, 2) == {"id": 2, "type": 3}
    free(played, 1, held[1])
    started(played, 3)


@pytest.mark.parametrize(
    ("slots", "system", "note"),
    [
        (3, {}, "unsatisfiable request: need 3 slot(s) of 1 core(s), only 2 such slot(s) available (total cores: 2)"),
        ("1,3", {}, "cannot parse jobspec: slot count specifies discrete valid values"),
        (0, {}, "cannot parse jobspec: RFC 14 count: integer count must be >= 1, got 0"),
        (1, {"duration": "x"}, "cannot parse jobspec: duration is 'x', not a number of seconds"),
        (1, {"constraints": {"not": []}}, "unsatisfiable request: need 1 slot(s) of 1 core(s), only 0"),
        (1, {"constraints": {"bogus": []}}, "cannot parse jobspec: unknown constraint operator 'bogus'"),
        (1, {"constraints": {"ranks": ["x"]}}, "cannot parse jobspec: IDset(): Invalid argument: x"),
        (1, {"constraints": {"properties": 3}}, "cannot parse jobspec: argument to constraint properties"),
        (1, {"constraints": 3}, "cannot parse jobspec: a constraint must be an object"),
    ],
)
def test_who_never_can_start_is_told_so_and_nobody_else_is_harmed(
    begin: Begin, slots: Any, system: dict[str, Any], note: str
) -> None:
    played = begin()
    ask_for(played, 1, slots, **system)
    told = answer(played, 1)
    assert told["type"] == 2
    assert told["note"].startswith(note)
    ask_for(played, 2)
    started(played, 2)


def test_deep_nonsense_is_denied(begin: Begin) -> None:
    played = begin()
    for jobid, spec in enumerate([{}, {"resources": 3}, {"resources": [{}], "attributes": 3}, [], None, "x"], 1):
        played.tell("sched.alloc", {"id": jobid, "priority": 16, "userid": 0, "t_submit": 1.0, "jobspec": spec})
        assert answer(played, jobid)["note"].startswith("cannot parse jobspec: ")
    played.tell("sched.alloc", {"id": "x"})
    message = played.expect("sched.alloc")
    assert message.aux1 == 71


def test_what_comes_back_in_parts(begin: Begin) -> None:
    played = begin(r=inventory("0-2", "0-1"), up="0-2")
    ask_for(played, 1, 6)
    started(played, 1)
    free(played, 1, inventory("0", "0-1"), final=False)
    ask_for(played, 2, 2)
    assert rlist(started(played, 2)[2]) == [("0", "0-1")]
    free(played, 1, inventory("1-2", "0-1"))
    ask_for(played, 3, 4)
    assert rlist(started(played, 3)[3]) == [("1-2", "0-1")]


def test_what_was_given_is_what_is_free_whatever_is_said(begin: Begin) -> None:
    """A wrong R is no way to have resources given twice."""
    played = begin(r=inventory("0-1", "0-1"), up="0-1")
    ask_for(played, 1, 2)
    ask_for(played, 2, 2)
    written = played.commit()
    if len(written) == 1:
        written |= played.commit()
    assert len({str(rlist(r)) for r in written.values()}) == 2
    free(played, 1, inventory("0-1", "0-1"))  # too much
    free(played, 1, inventory("0", "0-1"))  # again
    free(played, 99, inventory("0", "0-1"))  # somebody else
    played.tell("sched.free", {"id": 2, "R": {"version": 1, "execution": {"R_lite": [{"rank": "x", "children": {}}]}}})
    ask_for(played, 3, 3)
    ask_for(played, 4, 2)
    status = played.control.rpc("sched.resource-status").get()
    assert sum(len(group["rank"]) for group in status["allocated"]["execution"]["R_lite"]) == 1


def test_who_cannot_be_written_down_does_not_start(begin: Begin) -> None:
    played = begin()
    ask_for(played, 1, 2)
    played.expect("kvs.commit")
    played.answer("kvs.commit", errnum=5)
    told = answer(played, 1)
    assert (told["type"], told["note"]) == (2, "R could not be stored: Input/output error")
    ask_for(played, 2, 2)
    started(played, 2)


def test_starts_are_foretold_by_durations(begin: Begin) -> None:
    played = begin()
    ask_for(played, 1, 2, duration=100.0)
    end = started(played, 1)[1]["execution"]["expiration"]
    ask_for(played, 2, 1, duration=50.0)
    assert answer(played, 2)["annotations"] == {"sched": {"t_estimate": end}}
    # The first may stay longer: so the second comes later.
    played.control.rpc("sched.expiration", {"id": 1, "expiration": end + 60.0}).get()
    assert answer(played, 2)["annotations"] == {"sched": {"t_estimate": end + 60.0}}
    assert error_of(lambda: played.control.rpc("sched.expiration", {"id": 1, "expiration": -1.0}).get())[0] == 22


def test_backfill(begin: Begin) -> None:
    played = begin("sched-backfill")
    ask_for(played, 1, 1, duration=100.0)
    end = started(played, 1)[1]["execution"]["expiration"]
    ask_for(played, 2, 2, duration=10.0)
    assert answer(played, 2)["annotations"] == {"sched": {"t_estimate": end}}
    ask_for(played, 3, 1, duration=1000.0)
    ask_for(played, 4, 1, duration=10.0)
    played.commit()
    told = answer(played, 4)
    assert told["annotations"]["sched"]["backfill"] in ("ƒ3", "f3")
    assert played.control.rpc("sched-backfill.stats-get").get()["pending_jobs"] == 2


def test_ranks_come_and_go(begin: Begin) -> None:
    played = begin(r=inventory("0-1", "0-1"), up="0")
    ask_for(played, 1, 4)
    played.answer("resource.acquire", {"up": "1"})
    held = started(played, 1)
    played.answer("resource.acquire", {"down": "1"})
    free(played, 1, held[1])
    ask_for(played, 2, 2)
    assert rlist(started(played, 2)[2]) == [("0", "0-1")]
    ask_for(played, 3, 4)
    ask_for(played, 4, 1)
    # Gone for good: nobody will ever have so many cores.
    played.answer("resource.acquire", {"down": "1", "shrink": "1"})
    assert answer(played, 3)["note"].startswith("unsatisfiable request: need 4 slot(s) of 1 core(s), only 2")
    assert error_of(lambda: played.control.rpc("feasibility.check", {"jobspec": jobspec(3)}).get())[0] == 75


def test_the_end_of_the_instance_is_that_of_its_jobs(begin: Begin) -> None:
    played = begin()
    played.answer("resource.acquire", {"expiration": 2000000000.5})
    ask_for(played, 1)
    assert started(played, 1)[1]["execution"]["expiration"] == 2000000000.5


def test_properties_of_ranks_are_in_r_but_for_local_ones(begin: Begin) -> None:
    r = inventory("0-1", "0-1", properties={"big": "0-1", "+here": "0"})
    played = begin(r=r, up="0-1")
    ask_for(played, 1, constraints={"properties": ["+here"]})
    assert started(played, 1)[1]["execution"]["properties"] == {"big": "0"}
    ask_for(played, 2, constraints={"properties": ["^+here"]})
    assert rlist(started(played, 2)[2]) == [("1", "0")]


def test_the_scheduling_part_is_copied(begin: Begin) -> None:
    played = begin(r={**inventory("0", "0-1"), "scheduling": {"a": [1]}})
    ask_for(played, 1)
    assert started(played, 1)[1]["scheduling"] == {"a": [1]}


def test_jobs_that_hold_resources_at_the_start(start_broker: Start) -> None:
    held = [{"id": number, "priority": 16, "userid": 0, "t_submit": 0.0} for number in (1, 2, 3)]
    held[0]["free"] = "0"  # type: ignore[assignment]
    with partners(start_broker()) as played:
        played.load()
        played.begin(inventory("0-1", "0-1"), "0-1", held)
        played.answer_lookup(inventory("0-1", "0"))
        played.answer_lookup(inventory("7", "0"))
        played.answer_lookup(inventory("1", "0"))  # the first has it
        for jobid in (2, 3):
            told = said(played.expect("job-manager.raise", jobid))
            assert (told["type"], told["severity"]) == ("scheduler-restart", 0)
            assert told["note"] == "failed to reallocate R for running job"
        played.ready()
        ask_for(played, 4, 3)
        assert rlist(started(played, 4)[4]) == [("0", "0-1"), ("1", "1")]


def test_debug_bits(begin: Begin) -> None:
    played = begin()
    played.control.rpc("sched-simple.debug", {"op": "setbit", "flags": 1}).get()
    ask_for(played, 1)
    assert answer(played, 1) == {"id": 1, "type": 2, "note": "DEBUG_FAIL_ALLOC"}
    ask_for(played, 2, 2)
    started(played, 2)
    played.control.rpc("sched-simple.debug", {"op": "setbit", "flags": 2}).get()
    ask_for(played, 3)
    assert answer(played, 3)["annotations"]["sched"] == {"reason_pending": "insufficient resources", "jobs_ahead": 0}
    played.control.rpc("sched-simple.debug", {"op": "setbit", "flags": 4}).get()
    assert error_of(lambda: played.control.rpc("sched.expiration", {"id": 2, "expiration": 9.0}).get())[0] == 22
    played.control.rpc("sched.expiration", {"id": 2, "expiration": 9.0}).get()


def test_a_job_is_asked_for_once(begin: Begin) -> None:
    played = begin()
    ask_for(played, 1)
    started(played, 1)
    ask_for(played, 1)
    assert played.expect("sched.alloc").aux1 == 17


def test_before_the_resources_are_known(start_broker: Start) -> None:
    with partners(start_broker()) as played:
        played.load()
        played.expect("resource.acquire")
        assert error_of(lambda: played.control.rpc("feasibility.check", {"jobspec": jobspec(1)}).get())[0] == 11
        assert played.control.rpc("sched-simple.stats-get").get()["pending_jobs"] == 0
