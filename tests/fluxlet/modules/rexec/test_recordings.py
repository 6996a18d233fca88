"""The recordings of remote execution (`exec-*.jsonl`) said again to our servers: two ranks, in a process of their own.

What belongs to one process comes in the order of each of its streams; how those interleave is chance, here as in the
recordings. Process ids differ, and so do the paths of sockets.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from in_process import receive, until
from service_recordings import FLAGS, message_of, records

import flux
from flux.message import Message

pytest_plugins = ["linked_instance"]

NAMES = (
    *("exec-all-label-io", "exec-attach", "exec-bg-wait-kill", "exec-channel", "exec-cli-bg-sproc"),
    *("exec-disconnect", "exec-errors", "exec-io", "exec-signal", "exec-stdin-cat", "exec-true"),
    *("exec-write-credit", "exec-write-errors"),
)
#: Of the recorded broker itself.
HELPERS = (751, 766)

#: Before these lines the client of the recording has waited, and so do we: for a process of this label or (recorded)
#: pid to be in the list with this state, or not there at all; or for a line in the log.
WAITS: dict[str, dict[int, tuple[Any, str]]] = {
    "exec-attach": {3: ("early", "log"), 15: ("z1", "Z")},
    "exec-bg-wait-kill": {7: ("w1", "Z"), 25: (1391, "")},
    "exec-cli-bg-sproc": {9: ("b1", "Z")},
    "exec-disconnect": {5: ("d1", "")},
}


class World:
    """The two ranks, and what is known of this run."""

    def __init__(self, directory: Path) -> None:
        self.uri = f"local://{directory}/local-0"
        self.other = flux.Flux(self.uri)
        self.pids: dict[int, int] = {}
        self.handles: dict[int, flux.Flux] = {}
        self.pool: dict[int, list[Message]] = {}

    def translate(self, value: Any) -> Any:
        """What was recorded, as it is in this run."""
        if isinstance(value, dict):
            return {
                key: self.pids.get(entry, entry) if key == "pid" else self.translate(entry)
                for key, entry in value.items()
            }
        if isinstance(value, list):
            return [self.translate(entry) for entry in value]
        if isinstance(value, str):
            value = re.sub(r"local:///tmp/(flux-XXXXXX|tap)/local-0", self.uri, value)
            return re.sub(r"^pid (\d+) ", lambda match: f"pid {self.pids.get(int(match[1]), match[1])} ", value)
        return value

    def procs(self, rank: int) -> list[dict[str, Any]]:
        return self.other.rpc("rexec.list", nodeid=rank).get()["procs"]  # type: ignore[no-any-return]

    def wait(self, who: Any, state: str) -> None:
        deadline = time.monotonic() + 60.0
        while time.monotonic() < deadline:
            if state == "log":
                if any(who in line for line in self.log()):
                    return
            else:
                procs = self.procs(0) + self.procs(1)
                found = [p["state"] for p in procs if who in (p["label"],) or self.pids.get(who) == p["pid"]]
                if found == ([state] if state else []):
                    return
        raise AssertionError(f"{who} is not {state}")

    def log(self) -> list[str]:
        lines = []
        stream = self.other.rpc("log.dmesg", {"follow": False}, flags=flux.constants.FLUX_RPC_STREAMING)
        while True:
            try:
                lines.append(stream.get_str() or "")
            except OSError:
                return lines
            stream.reset()

    def close(self) -> None:
        for handle in self.handles.values():
            handle.handle = None
        self.other.handle = None


def kind(payload: Any, matchtag: int) -> tuple[Any, ...]:
    """Messages of one kind come in order."""
    if not isinstance(payload, dict):
        return (matchtag, "error")
    if payload.get("type") == "output":
        return matchtag, payload["io"]["stream"]
    if payload.get("type") == "add-credit":
        return matchtag, "credit"
    return matchtag, payload.get("type")


def payload_of(message: Message) -> Any:
    if message.raw is None:
        return None
    try:
        return json.loads(message.raw[:-1])
    except ValueError:
        return {"text": message.payload_str}


def expect(world: World, record: dict[str, Any]) -> None:
    """The recorded message comes, as the first of its kind."""
    conn = record["conn"]
    pool = world.pool.setdefault(conn, [])
    wanted = record.get("payload")
    key = kind(wanted, record["matchtag"])
    while True:
        for message in pool:
            if kind(payload_of(message), message.aux2) == key:
                pool.remove(message)
                compare(world, record, message)
                return
        pool.append(receive(world.handles[conn]))


def compare(world: World, record: dict[str, Any], message: Message) -> None:
    if record["topic"] == "attr.get":
        assert message.aux1 == 0  # another owner, perhaps
        return
    wanted, told = record.get("payload"), payload_of(message)
    if wanted and wanted.get("type") in ("started", "attached"):
        world.pids[wanted["pid"]] = told["pid"]
    wanted = world.translate(wanted)
    if wanted and "procs" in wanted:
        wanted["procs"] = [entry for entry in wanted["procs"] if entry["pid"] not in HELPERS]
    if wanted and isinstance(wanted.get("output"), list):
        # stdout and stderr come by two ways.
        wanted["output"], told["output"] = (
            sorted(entry["output"], key=lambda io: io["stream"]) for entry in (wanted, told)
        )
    flags = sum(FLAGS[flag] for flag in record["flags"])
    assert (message.topic, message.aux1, told, message.flags) == (record["topic"], record["errnum"], wanted, flags)
    assert (message.userid, message.rolemask) == (os.getuid(), record["rolemask"])


@pytest.fixture
def world(linked_instance: Path) -> Iterator[World]:
    made = World(linked_instance)
    yield made
    made.close()


@pytest.mark.parametrize("name", NAMES)
def test_clients_hear_what_the_reference_said(name: str, world: World) -> None:
    lines = records(name)
    last = {record["conn"]: number for number, record in enumerate(lines)}
    for number, record in enumerate(lines, 1):
        conn = record["conn"]
        if conn not in world.handles:
            world.handles[conn] = flux.Flux(world.uri)
        if number in WAITS.get(name, {}):
            who, state = WAITS[name][number]
            if state == "":
                for other in [other for other in last if last[other] < number - 1]:
                    world.handles.pop(other).handle = None
            world.wait(who, state)
        try:
            if record["dir"] == "c>b":
                sent = {**record, "payload": world.translate(record["payload"])} if "payload" in record else record
                world.handles[conn].send(message_of(sent, ()))
            else:
                expect(world, record)
        except AssertionError as exc:
            exc.add_note(f"line {number} of {name}")
            raise
    assert not any(world.pool.values()), "more has come than was recorded"
    for conn in list(world.handles):
        world.handles.pop(conn).handle = None
    until(lambda: not world.procs(0) + world.procs(1))


def test_all_recordings_of_remote_execution_are_replayed() -> None:
    here = Path(__file__).parents[3] / "vectors"
    found = {path.stem for path in here.glob("exec-*.jsonl")} - {"exec-cli"}
    assert {name for name in found if not name.startswith("exec-job-")} == set(NAMES)
