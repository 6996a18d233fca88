"""Resources of an instance that is a job of another one (spec 07, 2.1 and 7.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from in_process import BrokerThread, until

import flux
from flux.constants import FLUX_MSGTYPE_REQUEST, FLUX_RPC_STREAMING
from flux.message import Message

Start = Callable[..., BrokerThread]


class Parent:
    """An enclosing instance that knows of one job's resources."""

    def __init__(self, broker: BrokerThread) -> None:
        self.broker = broker
        for name in ("job-info", "job-list"):
            if name in broker.broker.modules:
                broker.call(lambda name=name: broker.broker.unload(name))  # type: ignore[misc]
        self.handle = broker.open()
        self.handle.service_register("job-info").get()

    def asked(self) -> Message:
        return self.handle.recv(FLUX_MSGTYPE_REQUEST, topic_glob="job-info.*")


@pytest.fixture
def parent(start_broker: Start) -> Iterator[Parent]:
    made = Parent(start_broker())
    yield made
    made.handle.handle = None


@pytest.fixture
def child(start_broker: Start, parent: Parent) -> Callable[..., BrokerThread]:
    def start(config: dict[str, Any] | None = None, **settings: str) -> BrokerThread:
        nested = {"jobid": "ƒ3", "parent-uri": parent.broker.uri, "size": "2", "hostlist": "b,a", "hostname": "b"}
        return start_broker({**nested, **settings}, config)

    return start


def r(expiration: float = 0.0) -> dict[str, Any]:
    lite = [{"rank": "5", "children": {"core": "2"}}, {"rank": "9", "children": {"core": "0-1", "gpu": "1"}}]
    execution = {"R_lite": lite, "starttime": 1.0, "expiration": expiration, "nslots": 2, "nodelist": ["a,b"]}
    return {"version": 1, "execution": execution}


def known(handle: flux.Flux) -> Any:
    until(lambda: handle.rpc("resource.status").get()["R"]["execution"]["R_lite"] != [])
    return handle.rpc("resource.get").get()


def test_the_resources_of_the_job_are_ours(parent: Parent, child: Callable[..., BrokerThread]) -> None:
    with child().open() as handle:
        request = parent.asked()
        assert (request.topic, request.payload) == ("job-info.update-watch", {"id": 2, "key": "R", "flags": 0})
        parent.handle.respond(request, {"R": r(50.0)})
        found = known(handle)
        assert found["method"] == "job-info"
        execution = found["R"]["execution"]
        assert [(group["rank"], group["children"]["core"]) for group in execution["R_lite"]] == [
            ("0", "0-1"),
            ("1", "2"),
        ]
        assert execution["nodelist"] == ["b,a"]
        assert execution["expiration"] == 50.0
        # The job may run longer.
        handle.rpc("module.remove", {"name": "sched-simple"}).get()
        stream = handle.rpc("resource.acquire", flags=FLUX_RPC_STREAMING)
        stream.get()
        stream.reset()
        parent.handle.respond(request, {"R": r(80.0)})
        assert stream.get() == {"expiration": 80.0}
        assert known(handle)["R"]["execution"]["expiration"] == 80.0
        # That the enclosing instance goes is not our end.
        parent.broker.stop()
        assert handle.rpc("resource.status").get()["online"] == "0"


def test_an_enclosing_instance_that_cannot_be_watched_is_asked(
    parent: Parent, child: Callable[..., BrokerThread]
) -> None:
    with child().open() as handle:
        parent.handle.respond_error(parent.asked(), 38)
        request = parent.asked()
        assert (request.topic, request.payload["keys"]) == ("job-info.lookup", ["R"])
        parent.handle.respond(request, {"id": 2, "R": r()})
        assert known(handle)["method"] == "job-info"


@pytest.mark.parametrize("answer", [{"R": r(50.0)}, {"R": {"version": 3}}, None])
def test_what_does_not_fit_is_found_out(parent: Parent, child: Callable[..., BrokerThread], answer: Any) -> None:
    with child(size="1", hostlist="b").open() as handle:
        request = parent.asked()
        if answer is None:
            parent.handle.respond_error(request, 2)
        else:
            parent.handle.respond(request, answer)
        found = known(handle)
        assert found["method"] == "dynamic-discovery"
        assert found["R"]["execution"]["expiration"] == (50.0 if answer and answer["R"]["version"] == 1 else 0.0)


def test_discovery_may_be_wanted(parent: Parent, child: Callable[..., BrokerThread]) -> None:
    with child({"resource": {"rediscover": True}}).open() as handle:
        parent.handle.respond(parent.asked(), {"R": r(50.0)})
        lite = {"version": 1, "execution": {"R_lite": [{"rank": "1", "children": {"core": "0"}}], "nodelist": ["a"]}}
        payload = {"count": 1, "resource": lite}
        handle.rpc("resource.topo-reduce", payload, flags=flux.constants.FLUX_RPC_NORESPONSE)
        assert known(handle)["method"] == "dynamic-discovery"


def test_no_enclosing_instance_after_all(start_broker: Start) -> None:
    with start_broker({"jobid": "ƒ3", "parent-uri": "local:///nosuch"}).open() as handle:
        assert known(handle)["method"] == "dynamic-discovery"
