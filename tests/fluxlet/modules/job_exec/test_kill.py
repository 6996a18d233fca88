"""How a job is ended that does not end by itself: which signal, to whom, how often."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any

import pytest

from flux.reactor import Reactor
from fluxlet.modules.job_exec.config import Settings
from fluxlet.modules.job_exec.kill import Killer


def course(settings: Settings, kind: str) -> list[str]:
    """What is done to a job that nothing ends."""
    done: list[str] = []
    reactor = Reactor()
    runner = SimpleNamespace(
        signal=lambda job, signum: done.append(f"shells {signal.Signals(signum).name}"),
        kill=lambda job, signum: done.append(f"shells {signal.Signals(signum).name}"),
    )
    job: Any = SimpleNamespace(runner=runner)

    def give_up(job: Any) -> None:
        done.append("drain")
        reactor.stop()

    Killer(job, reactor, settings, lambda job: done.append("tasks SIGKILL"), give_up).begin(kind)
    reactor.run()
    return done


@pytest.mark.parametrize(("kind", "first"), [("cancel", "SIGTERM"), ("timeout", "SIGALRM")])
def test_signals_until_nothing_helps(kind: str, first: str) -> None:
    settings = Settings(kill_timeout=0.001, max_kill_count=3)
    tasks, shells = ["tasks SIGKILL"] * 4, ["shells SIGKILL"] * 3
    assert course(settings, kind) == [f"shells {first}", *tasks, *shells, "drain"]


def test_the_end_can_be_a_matter_of_time() -> None:
    settings = Settings(kill_timeout=0.001, max_kill_timeout=0.005, term_signal=int(signal.SIGUSR1))
    done = course(settings, "cancel")
    assert done[0] == "shells SIGUSR1"
    # Intervals double: 2, 4 ms.
    assert done[5:] == ["shells SIGKILL", "shells SIGKILL", "drain"]


@pytest.mark.parametrize("last", ["shells SIGTERM", "tasks SIGKILL", "shells SIGKILL"])
def test_a_job_that_ends_in_between_is_left_alone(last: str) -> None:
    """Simulated jobs end while they are signaled; what goes on after that would drain the nodes."""
    reactor = Reactor()
    done: list[str] = []

    def do(what: str) -> None:
        done.append(what)
        if what == last:
            killer.stop()

    runner = SimpleNamespace(
        signal=lambda job, signum: do("shells SIGTERM"),
        kill=lambda job, signum: do("shells SIGKILL"),
    )
    job: Any = SimpleNamespace(runner=runner)
    settings = Settings(kill_timeout=0.001, max_kill_count=1)
    killer = Killer(job, reactor, settings, lambda job: do("tasks SIGKILL"), lambda job: do("drain"))
    killer.begin("cancel")
    reactor.run()  # until there is nothing that it could wait for
    assert done[-1] == last
    assert done.count(last) == 1
