"""The table of states."""

from __future__ import annotations

import pytest

from fluxlet.modules.job_manager.machine import ACTIVE, FATAL, TABLE, Action, State, step

#: Every event that moves a job, in the order of a job's life.
LIVES = [
    (["validate", "depend", "priority", "alloc", "start", "finish", "release", "free", "clean"], State.INACTIVE),
    (["validate", "depend", "priority", "urgency", "priority", "alloc"], State.RUN),
    (["validate", "depend", "priority", "jobspec-update"], State.PRIORITY),
    (["validate", "depend", "priority", "flux-restart", "priority"], State.SCHED),
    (["validate", FATAL, "clean"], State.INACTIVE),
    (["validate", "depend", FATAL, FATAL, "clean"], State.INACTIVE),
    (["validate", "depend", "priority", "alloc", FATAL, "finish", "release", "free", "clean"], State.INACTIVE),
]


@pytest.mark.parametrize(("events", "state"), LIVES)
def test_lives(events: list[str], state: State) -> None:
    now = State.NEW
    for event in events:
        now, _ = step(now, event)
    assert now is state


def test_states_are_walked_forwards_but_for_going_back_to_priority() -> None:
    back = {(old, event) for (old, event), (new, _) in TABLE.items() if new < old}
    assert back == {(State.SCHED, event) for event in ("urgency", "jobspec-update", "flux-restart")}


def test_every_state_is_reached_and_left() -> None:
    reached = {new for (old, _), (new, _) in TABLE.items() if new is not old}
    left = {old for (old, _), (new, _) in TABLE.items() if new is not old}
    assert reached == set(State) - {State.NEW}
    assert left == set(State) - {State.INACTIVE}


def test_a_fatal_exception_ends_every_active_state_and_no_other() -> None:
    for state in State:
        new, actions = step(state, FATAL)
        if state & ACTIVE:
            assert (new, actions) == (State.CLEANUP, (Action.CLEAN,))
        else:
            assert (new, actions) == (state, ())


def test_coming_into_a_state_calls_for_what_is_done_there() -> None:
    called = {new: set() for new in State}
    for (old, _), (new, actions) in TABLE.items():
        if new is not old:
            called[new] |= set(actions)
    assert called == {
        State.NEW: set(),
        State.DEPEND: {Action.DEPEND},
        State.PRIORITY: {Action.PRIORITIZE},
        State.SCHED: {Action.SCHEDULE},
        State.RUN: {Action.START},
        State.CLEANUP: {Action.CLEAN},
        State.INACTIVE: {Action.RETIRE},
    }


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", ["memo", "debug.x", "annotations", "dependency-add", "set-flags", "exception"])
def test_events_that_are_only_logged(state: State, event: str) -> None:
    assert step(state, event) == (state, ())


def test_nothing_happens_to_a_job_that_has_ended() -> None:
    events = {event for _, event in TABLE}
    assert all(step(State.INACTIVE, event) == (State.INACTIVE, ()) for event in events)
