"""Instances of several brokers, over real sockets: what a client of any rank sees (spec 04, 1 and 3)."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from in_process import until

from flux.message import Message
from fluxlet.testing import Instance

VECTORS = Path(__file__).parents[2] / "vectors"
UPSTREAM = 0xFFFFFFFE
ANY = 0xFFFFFFFF


@pytest.fixture(scope="module")
def chain() -> Iterator[Instance]:
    """Three brokers, each the parent of the next."""
    with Instance(3, attributes={"tbon.topo": "kary:1"}, env={"SHELL": "/bin/sh"}) as instance:
        yield instance


def ask(instance: Instance, at: int, topic: str, payload: Any = None, nodeid: int = ANY) -> Any:
    with instance.handle(at) as handle:
        return handle.rpc(topic, payload, nodeid).get()


@pytest.mark.parametrize("rank", range(3))
def test_every_rank_knows_its_place(chain: Instance, rank: int) -> None:
    names = ("rank", "size", "tbon.level", "tbon.maxlevel", "tbon.descendants", "broker.boot-method", "broker.mapping")
    with chain.handle(rank) as handle:
        found = [handle.attr_get(name) for name in names]
        assert found == [str(rank), "3", str(rank), "2", str(2 - rank), "simple", "[[0,1,3,1]]"]
        assert handle.attr_get("hostlist").count(",") == 2
        assert handle.attr_get("broker.critical-ranks") == "0-1"
        endpoints = [f"ipc://{chain.rundir}/tbon-{number}" for number in range(2)]
        if rank < 2:
            assert handle.attr_get("tbon.endpoint") == endpoints[rank]
        else:
            with pytest.raises(FileNotFoundError):
                handle.attr_get("tbon.endpoint")
        if rank:
            assert handle.attr_get("tbon.parent-endpoint") == endpoints[rank - 1]
        else:
            with pytest.raises(FileNotFoundError):
                handle.attr_get("tbon.parent-endpoint")


@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize("to", range(3))
def test_a_request_reaches_any_rank_and_its_answer_comes_back(chain: Instance, at: int, to: int) -> None:
    answer = ask(chain, at, "broker.ping", {"seq": 1}, to)
    with chain.handle(to) as handle:
        uuid = handle.attr_get("broker.uuid")[:8]
    hops = answer["route"].split("!")
    assert hops[-1] == uuid
    assert len(hops) == 3 + abs(at - to)
    assert (answer["userid"], answer["seq"]) == (os.getuid(), 1)
    # The role LOCAL ends where a request crosses to another broker.
    assert answer["rolemask"] == (5 if at == to else 1)


@pytest.mark.parametrize("at", range(3))
def test_what_nobody_serves_is_told_so_by_rank_0(chain: Instance, at: int) -> None:
    with pytest.raises(OSError, match=r"No service matching nobody\.x is registered") as error:
        ask(chain, at, "nobody.x")
    assert error.value.errno == errno.ENOSYS
    with pytest.raises(OSError, match=os.strerror(errno.EHOSTUNREACH)):
        ask(chain, at, "broker.ping", {}, 3)


@pytest.mark.parametrize("at", range(3))
def test_upstream_means_the_parent_and_never_comes_down_again(chain: Instance, at: int) -> None:
    text = "No service matching" if at else os.strerror(errno.EHOSTUNREACH)
    with pytest.raises(OSError, match=text):
        ask(chain, at, "nobody.x", {}, UPSTREAM)
    if at:
        with chain.handle(at - 1) as handle:
            above = handle.attr_get("broker.uuid")[:8]
        assert ask(chain, at, "broker.ping", {}, UPSTREAM)["route"].endswith(above)


@pytest.mark.parametrize("at", range(3))
def test_an_event_is_seen_by_all_in_one_order(chain: Instance, at: int) -> None:
    with ExitStack() as stack:
        listeners = [stack.enter_context(chain.handle(rank)) for rank in range(3)]
        for listener in listeners:
            listener.event_subscribe("many.")
        with chain.handle(at) as handle:
            for number in range(20):
                handle.rpc("event.publish", {"topic": f"many.{number}", "flags": 0}, 0).get()
        seen = []
        for listener in listeners:
            messages = [listener.event_recv() for _ in range(20)]
            seen.append([(message.topic, message.aux1) for message in messages])
    assert seen[0] == seen[1] == seen[2]
    assert [topic for topic, _ in seen[0]] == [f"many.{number}" for number in range(20)]
    numbers = [number for _, number in seen[0]]
    assert numbers == sorted(set(numbers))


def test_all_ranks_are_online_and_the_tree_is_full(chain: Instance) -> None:
    assert ask(chain, 0, "groups.get", {"name": "broker.online"}) == {"members": "0-2"}
    assert ask(chain, 0, "overlay.health")["status"] == "full"
    assert [ask(chain, rank, "state-machine.get")["state"] for rank in range(3)] == ["run"] * 3


@pytest.mark.parametrize("size", [1, 2, 5, 8, 16])
def test_sizes(size: int) -> None:
    with Instance(size, env={"SHELL": "/bin/sh"}) as instance, instance.handle() as handle:
        assert handle.get_size() == size
        pings = [handle.rpc("broker.ping", {}, rank) for rank in range(size)]
        assert all(ping.get() for ping in pings)
        assert handle.rpc("groups.get", {"name": "broker.online"}).get()["members"] == f"0-{size - 1}".replace(
            "0-0", "0"
        )


def test_there_are_no_other_ranks(chain: Instance) -> None:
    with pytest.raises(ValueError, match="rank=3: the instance has 3 brokers"):
        chain.handle(3)


# Recordings of the reference at size 2.


def recorded(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (VECTORS / f"{name}.jsonl").read_text().splitlines()]


def known(payload: Any) -> Any:
    """A payload without what differs from run to run."""
    return {key: value for key, value in payload.items() if key != "duration"} if isinstance(payload, dict) else payload


@pytest.mark.parametrize("name", ["overlay-groups", "overlay-state-machine"])
def test_services_of_two_ranks_answer_as_those_of_the_reference(name: str) -> None:
    flags = {"topic": 1, "payload": 2, "noresponse": 4, "route": 8, "upstream": 16, "private": 32, "streaming": 64}
    with Instance(2, env={"SHELL": "/bin/sh"}) as instance, instance.handle() as handle:
        for number, entry in enumerate(recorded(name), 1):
            topic = entry["topic"].encode()
            if entry["dir"] == "c>b":
                raw = json.dumps(entry["payload"]).encode() + b"\0" if "payload" in entry else None
                bits = sum(flags[flag] for flag in entry["flags"])
                handle.send(Message.request(topic, raw, entry["nodeid"], entry["matchtag"], bits))
                continue
            answer = handle.recv(type_mask=2)
            assert (answer.topic_bytes, answer.aux1, answer.aux2) == (topic, entry["errnum"], entry["matchtag"]), number
            assert answer._rolemask == entry["rolemask"], number
            text = (answer.raw or b"").rstrip(b"\0").decode()
            if entry["errnum"]:
                expected = entry.get("payload", {}).get("text")
                assert expected is None or text == expected, number
            else:
                assert known(json.loads(text) if text else None) == known(entry.get("payload")), number


def test_the_configuration_is_followed_when_the_service_was_loaded_again() -> None:
    def configured(rank: int) -> Any:
        return ask(instance, rank, "config.get").get("sim")

    with Instance(3, attributes={"tbon.topo": "kary:1"}) as instance:
        ask(instance, 0, "module.remove", {"name": "config"})
        ask(instance, 0, "module.load", {"path": "config", "args": []})
        ask(instance, 0, "config.load", {"sim": {"x": 1}})
        # The others have noticed that it was away, and ask again a second later.
        until(lambda: [configured(rank) for rank in range(3)] == [{"x": 1}] * 3)
        ask(instance, 0, "config.load", {"sim": {"x": 2}})
        until(lambda: [configured(rank) for rank in range(3)] == [{"x": 2}] * 3)
