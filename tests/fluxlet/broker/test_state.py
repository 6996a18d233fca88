"""The state machine: every (state, event) of the table, and how transitions are seen and logged."""

from __future__ import annotations

import pytest

from fluxlet.broker.state import NUMBERS, STATES, TABLE, StateMachine, Transition

# Spec 03 section 6, with the events of other ranks from 04 section 3.6: "state: event... > next".
SPEC = """
load-builtins: builtins-success > join; builtins-fail > unload-builtins
join: parent-none parent-ready > config-sync; parent-fail > shutdown
config-sync: sync-none sync-success > init; sync-fail > shutdown
init: rc1-success rc1-none rc1-ignorefail > quorum; rc1-fail panic > shutdown
quorum: quorum-full > run; quorum-fail panic > shutdown
run: rc2-success rc2-fail shutdown parent-fail > cleanup; panic > shutdown; rc2-none > run
cleanup: cleanup-success cleanup-none cleanup-fail > shutdown
shutdown: children-none children-complete > finalize
finalize: rc3-success rc3-none rc3-fail > goodbye
goodbye: goodbye > unload-builtins
unload-builtins: builtins-done builtins-unload-fail > exit
exit:
"""


def expected() -> dict[tuple[str, str], str]:
    table = {}
    for line in SPEC.strip().splitlines():
        state, _, rows = line.partition(":")
        for row in filter(str.strip, rows.split(";")):
            events, _, new = row.partition(">")
            table.update({(state, event): new.strip() for event in events.split()})
    return table


EVENTS = sorted({event for _, event in TABLE})


def machine_in(state: str, log: list[tuple[int, str]] | None = None) -> StateMachine:
    machine = StateMachine(None if log is None else lambda *entry: log.append(entry), now=lambda: 100.0)
    machine.state = state
    return machine


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", EVENTS)
def test_every_event_in_every_state_leads_where_the_spec_says(state: str, event: str) -> None:
    machine = machine_in(state)
    machine.post(event)
    assert machine.state == expected().get((state, event), state)


def test_states_are_numbered_as_monitors_see_them() -> None:
    assert [NUMBERS[name] for name in ("load-builtins", "run", "goodbye", "exit")] == [0, 5, 9, 11]
    assert machine_in("cleanup").number == 6


def test_exit_is_final_and_all_other_states_can_be_left() -> None:
    assert {state for state, _ in TABLE} == set(STATES) - {"exit"}


def test_a_watcher_sees_the_transition_with_the_time_spent_in_the_old_state() -> None:
    clock = [10.0]
    machine = StateMachine(now=lambda: clock[0])
    seen: list[Transition] = []
    machine.watch(seen.append)
    clock[0] = 12.5
    machine.post("builtins-success")
    assert seen == [Transition("builtins-success", "load-builtins", "join", 2.5)]
    assert machine.since == 12.5


def test_events_posted_by_watchers_reach_all_watchers_in_order() -> None:
    machine = machine_in("load-builtins")
    chain = {"join": "parent-none", "config-sync": "sync-none", "init": "rc1-success"}
    seen: list[str] = []
    machine.watch(lambda transition: machine.post(chain[transition.new]) if transition.new in chain else None)
    machine.watch(lambda transition: seen.append(transition.new))
    machine.post("builtins-success")
    assert seen == ["join", "config-sync", "init", "quorum"]


def test_transitions_are_logged_at_info_and_ignored_events_at_debug() -> None:
    log: list[tuple[int, str]] = []
    machine = machine_in("quorum", log)
    machine.since = 99.5
    machine.post("quorum-full")
    machine.post("quorum-full")
    assert log == [(6, "quorum-full: quorum->run 0.5s"), (7, "quorum-full: ignored in run")]


def test_rc2_none_stays_in_run_and_its_time_goes_on() -> None:
    log: list[tuple[int, str]] = []
    machine = machine_in("run", log)
    machine.since = 50.0
    machine.post("rc2-none")
    assert (machine.state, machine.since) == ("run", 50.0)
    assert log == [(6, "rc2-none: run->run 50s")]
