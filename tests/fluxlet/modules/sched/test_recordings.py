"""The recordings of the reference's sched-simple, replayed: what its partners said is said again."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from in_process import BrokerThread
from sched_partners import Partners, partners, said
from service_recordings import RECORDINGS, Deviation, records, replay

from fluxlet.modules.resource.settings import Settings

#: What the modules do with the broker, and not with each other.
_HOUSEHOLD = ("module.status", "event.subscribe", "service.add", "log.append")
#: What a run decides by its clock.
_TIMES = ("starttime", "expiration", "t_estimate", "t_submit")


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (RECORDINGS / f"{name}.jsonl").read_text().splitlines()]


def comparable(value: Any) -> Any:
    """What was said, without its times; of an allocation with its length."""
    if isinstance(value, list):
        return [comparable(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") == "val" and "data" in value:
        return comparable(json.loads(b64decode(value["data"])))
    plain = {
        key: item is None if key == "t_estimate" else comparable(item)
        for key, item in value.items()
        if key not in _TIMES or key == "t_estimate"
    }
    if value.get("expiration") and value.get("starttime"):
        plain["length"] = round(value["expiration"] - value["starttime"], 3)
    return plain


@pytest.mark.parametrize("name", ["sched-simple-reload-alloc-free", "sched-simple-partial-free"])
def test_conversation(start_broker: Callable[..., BrokerThread], name: str) -> None:
    recording = [line for line in lines(name) if line["topic"] not in _HOUSEHOLD]
    inventory = next(line["payload"] for line in recording if "resources" in line.get("payload", {}))
    with partners(start_broker()) as played:
        played.load()
        played.begin(inventory["resources"], inventory["up"])
        assert played.ready() == {"mode": "limited", "limit": 8}
        for number, line in enumerate(recording, 1):
            try:
                play(played, line)
            except AssertionError as exc:
                exc.add_note(f"message {number}: {line}")
                raise
        assert played.silent()


def play(played: Partners, line: dict[str, Any]) -> None:
    topic, payload = line["topic"], line.get("payload")
    if topic == "sched-simple.shutdown":
        played.reload()
    elif line["dir"] == "tx":
        message = played.expect(topic, (payload or {}).get("id"))
        while (said(message) or {}).get("type") == 1 != (payload or {}).get("type"):
            # When it will start has been said: whether there was time for that is nobody's concern.
            message = played.expect(topic, (payload or {}).get("id"))
        assert comparable(said(message)) == comparable(payload)
    elif line["type"] == "response":
        played.answer(topic, payload, line.get("errnum", 0))
    else:
        played.tell(topic, payload)


CONFIG = {
    "resource": {
        "noverify": True,
        "config": [
            {"hosts": "test[0-3]", "cores": "0-3"},
            {"hosts": "test[2-3]", "gpus": "0-1", "properties": ["big", "gpu"]},
            {"hosts": "test0", "properties": ["+local", "small"]},
        ],
    }
}

RFC_31 = "the text is that of a submission; or what RFC 31 says of `not` (spec 07, 3.5)"


@pytest.fixture
def recorded_instance(start_broker: Callable[..., BrokerThread]) -> Iterator[BrokerThread]:
    """Four ranks, and a job that has two cores of rank 2."""
    broker = start_broker({"size": "4", "hostlist": "test[0-3]"}, CONFIG)
    held = {"id": 1, "priority": 16, "userid": 0, "t_submit": 0.0}
    with partners(broker) as played:
        played.load()
        configured = Settings(CONFIG).configured
        assert configured is not None
        played.begin(configured.to_dict(), "0-3", [held])
        lite = [{"rank": "2", "children": {"core": "0-1"}}]
        played.answer_lookup({"version": 1, "execution": {"R_lite": lite}})
        played.ready()
        yield broker


def test_feasibility_and_status(recorded_instance: BrokerThread) -> None:
    recording = records("sched-feasibility-status")
    numbers = {
        json.dumps(line["payload"]["jobspec"]["attributes"]["system"].get("constraints")): number + 1
        for number, line in enumerate(recording, 1)
        if "attributes" in line.get("payload", {}).get("jobspec", {})
    }
    unknown = {"text": "unknown constraint operator 'bogus'"}
    nowhere = "unsatisfiable request: need 1 slot(s) of 1 core(s), only 0 such slot(s) available (total cores: 0)"
    overflow = numbers['{"not": []}']
    recording[overflow - 1]["errnum"] = 75
    replay(
        recording,
        recorded_instance.open,
        lambda topic: topic.startswith(("resource.", "job-manager.")),
        {
            numbers['{"bogus": []}']: Deviation(RFC_31, payload=unknown),
            overflow: Deviation(RFC_31, payload={"text": nowhere}),
        },
    )
