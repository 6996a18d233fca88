"""Things that are looked at some time after they have come."""

from __future__ import annotations

from time import monotonic

from flux.reactor import Reactor
from fluxlet.shell.later import Later


def test_each_item_has_its_own_time() -> None:
    reactor = Reactor()
    called: dict[str, float] = {}

    def callback(item: str) -> None:
        called[item] = monotonic()
        if item == "last":
            reactor.stop()

    later: Later[str] = Later(reactor, 0.02, callback)
    added: dict[str, float] = {}

    def add(item: str) -> None:
        added[item] = monotonic()
        later.add(item)

    add("first")
    later.add("never")
    later.discard("never")
    reactor.timer(0.015, 0.0, lambda: add("last")).start()
    reactor.run()
    assert list(called) == ["first", "last"]
    # A timer of 20 ms that was armed for the first is not that of the second.
    assert all(called[item] - added[item] > 0.019 for item in called)


def test_an_item_keeps_its_time_and_can_come_again() -> None:
    reactor = Reactor()
    called: list[int] = []

    def callback(item: int) -> None:
        called.append(item)
        if len(called) == 1:
            later.add(1)
        else:
            reactor.stop()

    later: Later[int] = Later(reactor, 0.001, callback)
    later.add(1)
    later.add(1)
    reactor.run()
    assert called == [1, 1]
    later.add(2)
    later.stop()
    reactor.run(1)
    assert called == [1, 1]
