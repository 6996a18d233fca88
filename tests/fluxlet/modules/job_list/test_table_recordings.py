"""The table of `job-list` answers as recorded of the reference, given the events of the recorded jobs."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import pytest
from service_recordings import records

from fluxlet.modules.job_list.constraint import Surroundings
from fluxlet.modules.job_list.job import Teller
from fluxlet.modules.job_list.request import ListIdRequest, ListRequest
from fluxlet.modules.job_list.table import Event, Table


def resources(expiration: float) -> bytes:
    """The R that the recorded jobs had: a core of the one node."""
    lite = [{"rank": "0", "children": {"core": "0"}}]
    execution = {"R_lite": lite, "starttime": 0.0, "expiration": expiration, "nodelist": ["node0"]}
    return json.dumps({"version": 1, "execution": execution}).encode()


def recorded_table(name: str, before: int) -> Table:
    """The table as it was when the request in line `before` came."""
    table = Table()
    specs: dict[int, bytes] = {}
    submits: dict[int, dict[str, Any]] = {}
    watches: dict[int, int] = {}
    seen: set[tuple[int, str]] = set()
    for line in records(name)[: before - 1]:
        topic, payload, tag = line["topic"], line.get("payload"), line.get("matchtag")
        if topic == "job-ingest.submit":
            if line["dir"] == "c>b":
                submits[tag] = payload
            else:
                specs[payload["id"]] = b64decode(submits[tag]["J"].split(".")[1])
        elif topic == "job-info.eventlog-watch" and line["dir"] == "c>b":
            watches[tag] = payload["id"]
        elif topic == "job-info.eventlog-watch" and payload:
            entry, jobid = json.loads(payload["event"]), watches[tag]
            if (jobid, payload["event"]) in seen:
                continue
            seen.add((jobid, payload["event"]))
            event = Event(entry["timestamp"], entry["name"], entry.get("context"))
            # A job without a limit has none; the recorded one with a limit of 500 s got 1795312391.7233799.
            duration = json.loads(specs[jobid])["attributes"]["system"]["duration"]
            table.apply(jobid, event, specs[jobid], resources(1795312391.7233799 if duration else 0.0))
    _add_what_nobody_watched(table, specs)
    return table


#: When things happened to jobs whose eventlogs the recorded client did not read to their present ends.
TIMES = {
    8942256128: [1795311891.7370474, 1795311891.7481794, 1795311891.759124, 1795311891.7591465],
    9344909312: [1795311891.7609766, 1795311891.772026],
}


def _add_what_nobody_watched(table: Table, specs: dict[int, bytes]) -> None:
    """Of the five jobs of each recording, the fourth is held, and the fifth waits for another."""
    held, dependent = list(specs)[3:]
    times = TIMES.get(held, [1795311864.0] * 4)
    table.apply(held, Event(times[0], "submit", {"userid": 0, "urgency": 0}), specs[held])
    table.apply(held, Event(times[1], "validate"))
    table.apply(held, Event(times[2], "depend"))
    table.apply(held, Event(times[3], "priority", {"priority": 0}))
    table.apply(dependent, Event(TIMES.get(dependent, [0.0, 1795311865.0])[1], "validate"))


def answer(table: Table, line: dict[str, Any]) -> Any:
    """The payload of the response to a recorded request, or its errno and text."""
    try:
        if line["topic"] == "job-list.list":
            request = ListRequest(line["payload"], Surroundings(), None)
            teller = Teller(request.attrs)
            found = table.matching(request.term, request.max_entries, request.since)
            return {"jobs": [json.loads(teller.tell(job)) for job in found if job is not None]}
        one = ListIdRequest(line["payload"])
        job = table.jobs.get(one.jobid)
        return (2, None) if job is None else {"job": json.loads(Teller(one.attrs).tell(job))}
    except OSError as exc:
        return exc.errno, exc.strerror
    except ValueError as exc:
        return 22, str(exc)


def exchanges(name: str, first: int, last: int) -> Iterator[Any]:
    lines = list(enumerate(records(name), 1))[first - 1 : last]
    for at, (number, line) in enumerate(lines):
        if line["dir"] != "c>b" or line["topic"] not in ("job-list.list", "job-list.list-id"):
            continue
        answers = [reply for _, reply in lines[at + 1 :] if reply["topic"] == line["topic"]]
        if "streaming" in line["flags"]:
            answers = answers[: next(i for i, reply in enumerate(answers) if reply["errnum"])]
            wanted: Any = {"jobs": [job for reply in answers for job in reply["payload"]["jobs"]]}
        elif answers[0]["errnum"]:
            wanted = (answers[0]["errnum"], answers[0].get("payload", {}).get("text"))
        else:
            wanted = answers[0]["payload"]
        yield pytest.param(name, number, line, wanted, id=f"{name}-{number}")


@pytest.mark.parametrize(
    ("name", "number", "line", "wanted"),
    [*exchanges("jobinfo-list", 50, 97), *exchanges("jobinfo-list-constraints", 50, 999)],
)
def test_it_answers_as_recorded(name: str, number: int, line: dict[str, Any], wanted: Any) -> None:
    table = recorded_table(name, 50 if name == "jobinfo-list-constraints" else number)
    assert answer(table, line) == wanted
