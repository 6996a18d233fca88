"""The module `overlay` (spec 03, 13.7; spec 04, 2.9)."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from in_process import GUEST, BrokerThread, ask, error_of, outcome, receive, tell, until
from linked import LinkedInstance
from overlay_tree import grown, overlay_of

import flux
from flux.constants import FLUX_MSGFLAG_NORESPONSE, FLUX_MSGFLAG_STREAMING
from fluxlet.broker.broker import Broker
from fluxlet.broker.router import Peer
from fluxlet.modules.overlay import Overlay

TRACE = {"typemask": 15, "topic_glob": "*", "nodeid": -1}


@pytest.mark.parametrize("method", ["health", "topology", "stats-get"])
def test_guests_may_look(handle: flux.Flux, method: str) -> None:
    assert ask(handle, f"overlay.{method}", {"rank": 0}, **GUEST).aux1 == 0


@pytest.mark.parametrize("method", ["monitor", "trace", "disconnect-subtree", "disconnect-parent"])
def test_guests_may_do_no_more(handle: flux.Flux, method: str) -> None:
    assert ask(handle, f"overlay.{method}", {"rank": 0}, **GUEST).aux1 == errno.EPERM


@pytest.mark.parametrize(
    ("method", "payload", "expected"),
    [
        ("topology", {}, (errno.EPROTO, None)),
        ("topology", {"rank": 1}, (errno.ENOENT, "requested rank is not this broker or its direct child")),
        ("monitor", None, (errno.EPROTO, None)),
        ("trace", TRACE, (errno.EPROTO, None)),
        ("disconnect-subtree", {"rank": 0}, (errno.ENOENT, "requested rank is not this broker's direct child")),
    ],
)
def test_refusals(handle: flux.Flux, method: str, payload: Any, expected: tuple[int, str | None]) -> None:
    assert outcome(ask(handle, f"overlay.{method}", payload)) == expected


@pytest.mark.parametrize("payload", [None, {}, {"topic_glob": "*", "nodeid": 0}])
def test_malformed_trace_is_eproto(handle: flux.Flux, payload: Any) -> None:
    assert ask(handle, "overlay.trace", payload, flags=FLUX_MSGFLAG_STREAMING).aux1 == errno.EPROTO


def test_streams_that_have_nothing_to_tell_end_with_the_module(broker_thread: BrokerThread, handle: flux.Flux) -> None:
    tell(handle, "overlay.monitor", None, flags=FLUX_MSGFLAG_STREAMING, matchtag=1)
    tell(handle, "overlay.trace", TRACE, flags=FLUX_MSGFLAG_STREAMING, matchtag=2)
    assert ask(handle, "overlay.ping", {}, matchtag=3).aux2 == 3
    broker_thread.call(lambda: broker_thread.broker.unload("overlay"))
    ended = {message.aux2: outcome(message) for message in (receive(handle), receive(handle))}
    assert ended == dict.fromkeys((1, 2), (errno.EHOSTUNREACH, "module disconnect"))


def test_giving_up_a_parent_has_no_answer(broker_thread: BrokerThread, handle: flux.Flux) -> None:
    assert ask(handle, "overlay.disconnect-parent", {"reason": "x"}).aux1 == errno.EPROTO
    tell(handle, "overlay.disconnect-parent", {"reason": "no reason"}, flags=FLUX_MSGFLAG_NORESPONSE)
    until(lambda: any(b"disconnecting: no reason" in raw for raw in broker_thread.broker.log.ring))


def test_what_was_asked_of_a_parent_that_is_given_up_fails(start_broker: Callable[..., BrokerThread]) -> None:
    def prepare(broker: Broker) -> None:
        class Parent(Peer):
            def deliver(self, message: object) -> None:
                """Says nothing."""

        broker.router.attach(Parent(0, b"parent", True))

    broker = start_broker({"rank": "1", "size": "2"}, None, prepare)
    with broker.open() as handle:
        assert handle.rpc("overlay.stats-get").get()["parent-count"] == 1
        request = handle.rpc("broker.ping", {}, 0)
        tell(handle, "overlay.disconnect-parent", {"reason": "x"}, flags=FLUX_MSGFLAG_NORESPONSE)
        assert error_of(request.get) == (errno.EHOSTUNREACH, "overlay disconnect")
        assert handle.rpc("overlay.stats-get").get()["parent-count"] == 0


# Configuration.


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"torpid_min": 5}, "Expected string, got integer"),
        ({"zmqdebug": "1"}, "Expected integer, got string"),
        ({"torpid_max": "x"}, "torpid_max: 'x' is no duration"),
        ({"torpid_min": "inf"}, "torpid_min: 'inf' has no end"),
        ({"torpid_min": "0"}, "torpid_min must be greater than zero and less than torpid_max"),
        ({"torpid_min": "40s"}, "torpid_min must be greater than zero and less than torpid_max"),
        (1, "Expected object, got integer"),
    ],
)
def test_configurations_that_will_not_do(handle: flux.Flux, table: Any, text: str) -> None:
    error = error_of(lambda: handle.rpc("config.load", {"tbon": table}).get())
    assert error == (errno.EINVAL, f"error updating overlay: Error reading [tbon] table: {text}")


def test_the_table_shows_in_attributes(start_broker: Callable[..., BrokerThread]) -> None:
    config = {"tbon": {"topo": "kary:2", "zmqdebug": 1, "torpid_min": "1s", "unknown": 1}}
    broker = start_broker({"tbon.torpid_max": "20s"}, {"tbon": {**config["tbon"], "torpid_max": "25s"}})
    with broker.open() as handle:

        def shown() -> list[str]:
            names = ("tbon.topo", "tbon.zmqdebug", "tbon.torpid_min", "tbon.torpid_max")
            return [handle.rpc("attr.get", {"name": name}).get()["value"] for name in names]

        # What was set on the command line stays.
        assert shown() == ["kary:2", "1", "1s", "20s"]
        handle.rpc("config.load", {"tbon": {"topo": "kary:4", "torpid_min": "2s", "torpid_max": "0"}}).get()
        # The tree is what it is; how patient we are can change.
        assert shown() == ["kary:2", "1", "2s", "0"]


# Ranks with children.


@pytest.fixture
def fork(tmp_path: Path) -> Iterator[LinkedInstance]:
    """0 over 1 and 2, 1 over 3."""
    instance = grown(str(tmp_path), 0, 0, 1)
    instance.start()
    yield instance
    instance.stop()


def statuses(health: dict[str, Any]) -> tuple[str, dict[int, tuple[str, str | None]]]:
    return health["status"], {child["rank"]: (child["status"], child.get("error")) for child in health["children"]}


def test_watchers_hear_of_a_loss_once_for_each_change(fork: LinkedInstance) -> None:
    with flux.Flux(f"local://{fork.directory}/local-0") as handle:
        tell(handle, "overlay.health", None, flags=FLUX_MSGFLAG_STREAMING, matchtag=1)
        tell(handle, "overlay.monitor", None, flags=FLUX_MSGFLAG_STREAMING, matchtag=2)
        assert statuses(receive(handle).payload) == ("full", {1: ("full", None), 2: ("full", None)})
        assert [receive(handle).payload for _ in range(2)] == [
            {"rank": 1, "status": "full", "torpid": False},
            {"rank": 2, "status": "full", "torpid": False},
        ]
        tell(handle, "overlay.disconnect-subtree", {"rank": 1}, matchtag=3)
        gone = ("degraded", {1: ("lost", "administrative disconnect"), 2: ("full", None)})
        messages = [receive(handle) for _ in range(4)]
        assert [message.aux2 for message in messages] == [1, 2, 1, 3]
        assert [statuses(message.payload) for message in messages[::2]] == [gone, gone]
        assert messages[1].payload == {"rank": 1, "status": "lost", "torpid": False}
        assert outcome(ask(handle, "overlay.disconnect-subtree", {"rank": 1})) == (
            errno.EINVAL,
            "rank 1 is already lost",
        )
        # Nobody goes there any more.
        assert error_of(lambda: handle.rpc("broker.ping", {}, 3).get())[0] == errno.EHOSTUNREACH
        assert handle.rpc("overlay.stats-get").get()["child-connected"] == 1


def test_a_loss_shows_in_every_rank_above(fork: LinkedInstance) -> None:
    with flux.Flux(f"local://{fork.directory}/local-0") as handle:
        handle.rpc("overlay.disconnect-subtree", {"rank": 3}, 1).get()
        assert statuses(handle.rpc("overlay.health", None, 0).get()) == (
            "degraded",
            {1: ("degraded", None), 2: ("full", None)},
        )
        tree = {"rank": 1, "size": 2, "children": [{"rank": 3, "size": 1, "children": []}]}
        assert handle.rpc("overlay.topology", {"rank": 1}, 0).get() == tree
        assert handle.rpc("overlay.topology", {"rank": 1}, 1).get() == tree


def test_a_child_that_is_not_heard_of_is_torpid(fork: LinkedInstance) -> None:
    overlay: Overlay = overlay_of(fork, 0)
    with flux.Flux(f"local://{fork.directory}/local-0") as handle:
        tell(handle, "overlay.monitor", None, flags=FLUX_MSGFLAG_STREAMING, matchtag=1)
        for _ in range(2):
            receive(handle)

        def change() -> None:
            overlay.child_is_torpid(2, True)
            overlay.child_is_torpid(2, True)
            overlay.child_is(2, "lost", "x")

        timer = fork.reactor.timer(0.0, 0.0, change)
        timer.start()
        fork.reactor.wake()
        assert [receive(handle).payload for _ in range(2)] == [
            {"rank": 2, "status": "full", "torpid": True},
            {"rank": 2, "status": "lost", "torpid": False},
        ]
