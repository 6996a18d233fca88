"""Whole instances under a deterministic simulator: what must hold whatever fails, and that it notices if that does not.

`tests/sim/run.py` runs them by hand, and shows what happens in one.
"""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from sim import world as sim_world
from sim.run import run
from sim.world import Broken, Link

from fluxlet.broker.router import Router
from fluxlet.modules.barrier import BarrierService
from fluxlet.modules.groups import Groups
from fluxlet.overlay.neighbours import Neighbours

SEEDS = 50
BATCH = 10


def run_many(seeds: Iterable[int]) -> None:
    for seed in seeds:
        run(seed)
    gc.collect()  # runs leave a lot behind


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_what_must_hold_does(first: int) -> None:
    run_many(range(first, first + BATCH))


@pytest.mark.nightly
def test_what_must_hold_does_for_thousands_of_seeds() -> None:
    for first in range(SEEDS, 5000, BATCH):
        run_many(range(first, first + BATCH))


@pytest.mark.parametrize("ranks", [512, pytest.param(4096, marks=pytest.mark.nightly)])
def test_so_many_ranks_in_one_process(ranks: int) -> None:
    run(1, ranks)
    gc.collect()


def test_a_run_follows_from_its_seed_also_in_another_process() -> None:
    path = Path(sim_world.__file__).with_name("run.py")
    environ = {"PYTHONHASHSEED": "77", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, path, "--seed=4"], env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert run(4) == run(4)
    assert run(4)[:12] in done.stdout
    assert run(4) != run(5)


def forget_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Router.detach

    def detach(self: Router, endpoint: Any, text: str | None = None) -> Any:
        if endpoint.pending:
            endpoint.pending = {}
        return original(self, endpoint, text)

    monkeypatch.setattr(Router, "detach", detach)


def answer_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    # A request that was answered is taken for one that is open still.
    monkeypatch.setattr(Router, "_answered", lambda self, message, source, routes: None)


def lose_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Neighbours.from_parent

    def from_parent(self: Neighbours, message: Any, now: float) -> None:
        if not (message._type == 4 and message.aux1 == 11):
            original(self, message, now)

    monkeypatch.setattr(Neighbours, "from_parent", from_parent)


def deliver_out_of_order(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Link._carry

    def carry(self: Link, upwards: bool, message: Any) -> None:
        self._arrivals = [0.0, 0.0]
        original(self, upwards, message)

    monkeypatch.setattr(Link, "_carry", carry)


def leave_barriers_early(monkeypatch: pytest.MonkeyPatch) -> None:
    original = BarrierService._count

    def count(self: BarrierService, key: Any, barrier: Any, number: int) -> None:
        if barrier.nprocs > 2 and barrier.entered + number == barrier.nprocs - 1:
            number += 1
        original(self, key, barrier, number)

    monkeypatch.setattr(BarrierService, "_count", count)


def forget_barriers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BarrierService, "exit", lambda self, msg: None)


def keep_lost_members(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Groups, "_watch_children", lambda self: None)


def keep_requests_of_the_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Neighbours, "_note", lambda self, child, message, topic: None)


def keep_notices_of_the_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Neighbours._note

    def note(self: Neighbours, child: Any, message: Any, topic: bytes) -> None:
        if not topic.endswith(b".disconnect"):
            original(self, child, message, topic)

    monkeypatch.setattr(Neighbours, "_note", note)


def count_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    # Entrants are counted, whatever their broker has heard.
    monkeypatch.setattr(BarrierService, "_remember", lambda self, key, number: None)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (forget_requests, "was never answered"),
        (answer_twice, "second answer|an answer to nothing|are kept"),
        (lose_an_event, "came after event|the last event seen is"),
        (deliver_out_of_order, "came after event|out of order|second answer|never answered|not part of|has members"),
        (leave_barriers_early, "was left when"),
        (forget_barriers, "is never over|passed, and nothing broke"),
        (keep_lost_members, "has members"),
        (keep_requests_of_the_gone, "of clients that are gone are kept|is never over|has members"),
        (keep_notices_of_the_gone, "notices of"),
        (count_for_the_next, "barriers are kept|is never over"),
    ],
)
def test_the_simulator_notices(
    damage: Callable[[pytest.MonkeyPatch], None], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(monkeypatch)
    with pytest.raises(AssertionError, match=complaint) as failed:
        run_many(range(30))
    # It says how to see that again, and what led to it.
    assert isinstance(failed.value.__cause__, Broken)
    text = str(failed.value)
    assert "to see it again: python " in text
    assert "tests/sim/run.py --seed=" in text
    assert text.count("\n") > 20
