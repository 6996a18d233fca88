"""A scheduler's partners, played by a client: the job manager, the KVS, the resource module."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from in_process import BrokerThread, receive

import flux
from flux.constants import FLUX_MSGFLAG_STREAMING, FLUX_MSGTYPE_REQUEST
from flux.message import Message

SERVICES = ("job-manager", "kvs", "resource")
ENODATA = 61


class Partners:
    """What a scheduler says to its partners, and what they say."""

    def __init__(self, broker: BrokerThread, path: str = "sched-simple") -> None:
        for module in ("sched-simple", "job-exec", "job-manager", "resource", "kvs-watch", "kvs"):
            if module in broker.broker.modules:
                broker.call(lambda module=module: broker.broker.unload(module))  # type: ignore[misc]
        self.handle = broker.open()
        self.control = broker.open()
        self.path = path
        self.name = path.rpartition("/")[2].removesuffix(".py")
        for service in SERVICES:
            self.handle.service_register(service).get()
        self._heard: list[Message] = []
        self._requests: dict[str, Message] = {}

    def close(self) -> None:
        self.control.rpc("module.remove", {"name": self.name}).get()
        self.control.handle = None
        self.handle.handle = None

    def load(self, *args: str) -> None:
        self.control.rpc("module.load", {"path": self.path, "args": list(args)}).get()

    def reload(self) -> None:
        self.control.rpc("module.remove", {"name": self.name}).get()
        self._heard.clear()
        self.load()

    # Listening.

    def expect(self, topic: str, jobid: int | None = None) -> Message:
        """The next message with a topic, of a job. A request waits for its `answer`."""
        for message in self._messages():
            if message.topic == topic and (jobid is None or id_of(message) == jobid):
                self._heard.remove(message)
                if message._type == FLUX_MSGTYPE_REQUEST:
                    self._requests[topic] = message
                return message
        raise AssertionError(f"no {topic}")

    def _messages(self) -> Iterator[Message]:
        yield from tuple(self._heard)
        while True:
            message = receive(self.handle)
            if not str(message.topic).endswith((".disconnect", ".stats-clear")):
                self._heard.append(message)
                yield message

    def silent(self) -> bool:
        """Nothing more was said: all that was asked before is answered, and left nothing."""
        self.control.rpc(f"{self.name}.ping", {"seq": 1}).get()
        self.handle.rpc("broker.ping", {"seq": 1}).get()
        return not self._heard

    # Talking.

    def answer(self, topic: str, payload: Any = None, errnum: int = 0) -> None:
        request = self._requests[topic]
        if errnum:
            self.handle.respond_error(request, errnum)
        else:
            self.handle.respond(request, payload)

    def tell(self, topic: str, payload: Any) -> None:
        request = Message.request(topic.encode(), None)
        request.payload = payload
        self.handle.send(request)

    def begin(self, resources: dict[str, Any], up: str, jobs: list[dict[str, Any]] | None = None) -> None:
        """Plays the start: resources are given, jobs that hold some are named."""
        request = self.expect("resource.acquire")
        assert request.flags & FLUX_MSGFLAG_STREAMING
        self.answer("resource.acquire", {"resources": resources, "up": up})
        self.expect("job-manager.sched-hello")
        for job in jobs or ():
            self.answer("job-manager.sched-hello", job)
        self.answer("job-manager.sched-hello", errnum=ENODATA)

    def answer_lookup(self, r: dict[str, Any]) -> None:
        """A job's R is looked up, and found."""
        self.expect("kvs.lookup")
        data = b64encode(json.dumps(r).encode()).decode()
        self.answer("kvs.lookup", {"val": {"ver": 1, "type": "val", "data": data}})

    def ready(self) -> Any:
        """Plays its end; returns what the scheduler has said of its queue."""
        request = self.expect("job-manager.sched-ready")
        self.answer("job-manager.sched-ready", {"count": 0})
        return request.payload

    def commit(self) -> dict[str, Any]:
        """A transaction is committed; returns the Rs in it, by key."""
        request = self.expect("kvs.commit")
        self.answer("kvs.commit", {"rootref": "sha1-0", "rootseq": 1})
        payload = request.payload
        assert (payload["namespace"], payload["flags"]) == ("primary", 0)
        return {op["key"]: json.loads(b64decode(op["dirent"]["data"])) for op in payload["ops"]}


def said(message: Message) -> Any:
    """The payload of a message; None without."""
    return None if message.raw is None else message.payload


def id_of(message: Message) -> int | None:
    payload = said(message)
    return payload.get("id") if isinstance(payload, dict) else None


@contextmanager
def partners(broker: BrokerThread, path: str = "sched-simple") -> Iterator[Partners]:
    """Partners of the scheduler called `path`, which is removed in the end."""
    played = Partners(broker, path)
    try:
        yield played
    finally:
        played.close()


def inventory(ranks: str, cores: str, **extra: Any) -> dict[str, Any]:
    """R."""
    lite = [{"rank": ranks, "children": {"core": cores}}]
    nodes = len(flux.idset.IDset(ranks))
    execution = {"R_lite": lite, "starttime": 0.0, "expiration": 0.0, "nodelist": [",".join(["vm"] * nodes)], **extra}
    return {"version": 1, "execution": execution}
