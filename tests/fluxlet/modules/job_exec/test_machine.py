"""The life of a job as a table; barriers; settings."""

from __future__ import annotations

import itertools

import pytest

from fluxlet.modules.job_exec.config import Settings
from fluxlet.modules.job_exec.job import Barrier
from fluxlet.modules.job_exec.machine import TABLE, Action, Event, State, final_status, step


def walk(*events: Event) -> list[Action]:
    state, done = State.INIT, []
    for event in events:
        state, actions = step(state, event)
        done += actions
    return done


def test_a_job_that_runs() -> None:
    assert walk(Event.READY, Event.STARTED, Event.ENDED, Event.SAVED) == [
        Action.START_SHELLS,
        Action.RESPOND_START,
        Action.RESPOND_FINISH,
        Action.SAVE,
        Action.RELEASE,
    ]


def test_a_job_that_never_started_does_not_finish() -> None:
    assert walk(Event.EXCEPTION, Event.ENDED, Event.SAVED) == [Action.SAVE, Action.RELEASE]
    done = walk(Event.READY, Event.EXCEPTION, Event.ENDED, Event.SAVED)
    assert done == [Action.START_SHELLS, Action.KILL, Action.SAVE, Action.RELEASE]


def test_every_way_through_the_table_ends_with_one_release() -> None:
    """Whatever comes in whatever order: start before finish before release, and each at most once."""
    for events in itertools.product(Event, repeat=6):
        state, done = State.INIT, []
        for event in events:
            if (state, event) not in TABLE:
                break
            state, actions = step(state, event)
            done += actions
        responses = [action for action in done if action.value.startswith("respond")]
        order = [Action.RESPOND_START, Action.RESPOND_FINISH, Action.RELEASE]
        assert responses == sorted(responses, key=order.index)
        assert len(set(responses)) == len(responses)
        assert (Action.RESPOND_FINISH in responses) <= (Action.RESPOND_START in responses)
        assert (state is State.RELEASED) == (Action.RELEASE in responses)


@pytest.mark.parametrize(
    ("shells", "fatal", "wait_status", "status"),
    [
        (0, False, None, 0),
        (256, False, None, 256),
        (0, True, None, 256),
        (36608, True, None, 36608),
        (0, True, 35584, 35584),
    ],
)
def test_the_status_of_a_job(shells: int, fatal: bool, wait_status: int | None, status: int) -> None:
    assert final_status(shells, fatal, wait_status) == status


def test_a_barrier_can_be_used_again() -> None:
    barrier = Barrier(2)
    assert [barrier.enter(1), barrier.enter(1), barrier.enter(0)] == [False, False, True]
    assert barrier.missing == {0, 1}
    assert [barrier.enter(0), barrier.enter(1), barrier.passed] == [False, True, 2]


def test_settings() -> None:
    settings = Settings.parse({"exec": {"kill-timeout": "1m", "term-signal": "TERM", "barrier-timeout": "0"}})
    assert (settings.kill_timeout, settings.term_signal, settings.barrier_timeout) == (60.0, 15, None)
    assert Settings.parse({}, ["kill-timeout=0.5s", "kill-signal=SIGKILL"]).kill_timeout == 0.5
    assert Settings.parse({"exec": {"shell-exit-timeout": "none"}}).shell_exit_timeout is None
    assert Settings.parse({}).longest_kill == 640.0  # as recorded
    assert Settings.parse({"exec": {"testexec": {"allow-guests": True}}}).guests_may_test
    for bad in ({"kill-timeout": "x"}, {"max-kill-count": 0}, {"term-signal": "NOSUCH"}, {"job-shell": 3}):
        with pytest.raises(ValueError, match=r"^error reading config value exec\."):
            Settings.parse({"exec": bad})
    with pytest.raises(ValueError, match=r"^unknown argument 'bogus'$"):
        Settings.parse({}, ["bogus"])
