"""flux uptime — how an instance is, in a line or two (spec 03, 14.9)."""

from __future__ import annotations

import errno
import time
from typing import Any

from flux.cli.human_times import short_duration
from flux.cli.options import Command, Parsed
from flux.cli.tool import Failure, call, connect, run, show, text_of
from flux.core.handle import Flux
from flux.idset import IDset

COMMAND = Command(
    "uptime",
    "Tell how long Flux has been up and running",
    words=(0, None),
    builtin=True,
    description="Prints in one line the time, the state of the instance and since when it has had it, its owner, how "
    "deep in the hierarchy it is, and its size.",
    examples=(("flux uptime", "How is this instance?"),),
    see_also=("getattr", "dmesg"),
)


def _attribute(handle: Flux, name: str) -> str:
    return str(call(handle, "attr.get", {"name": name}, context=f"Error fetching {name} attribute")["value"])


def _user(uid: str) -> str:
    """The name of a user, or the number of one who has none."""
    import pwd  # NSS may be slow to load

    try:
        return pwd.getpwuid(int(uid)).pw_name
    except (KeyError, ValueError):
        return uid


def _ask(handle: Flux, topic: str, payload: Any = None) -> Any:
    """The answer of a service on rank 0; None if the instance has no such service."""
    try:
        return handle.rpc(topic, payload, nodeid=0).get()
    except OSError as exc:
        if exc.errno == errno.ENOSYS:
            return None
        raise Failure(f"{topic}: {text_of(exc)}") from None


def _nodes(handle: Flux, size: int) -> list[str]:
    """What is wrong with nodes."""
    found = []
    status = _ask(handle, "resource.status")
    drained = IDset()
    for ranks in status["drain"] if status is not None else ():
        drained.add(ranks)
    if drained:
        found.append(f"{len(drained)} drained")
    online = _ask(handle, "groups.get", {"name": "broker.online"})
    offline = size - len(IDset(online["members"])) if online is not None else 0
    if offline > 0:
        found.append(f"{offline} offline")
    return found


def _queues(handle: Flux) -> list[str]:
    """What jobs cannot do now, in any queue."""
    listed = _ask(handle, "job-manager.queue-list")
    if listed is None:
        return []
    names = listed["queues"]
    requests: list[dict[str, str]] = [{"name": name} for name in names] or [{}]
    states = [_ask(handle, "job-manager.queue-status", request) for request in requests]
    found = []
    if not any(state["enable"] for state in states):
        found.append("submit disabled")
    if not any(state["start"] for state in states):
        found.append("scheduler stopped")
    return found


def _body(parsed: Parsed) -> int:
    with connect(COMMAND) as handle:
        owner = _user(_attribute(handle, "security.owner"))
        size = int(_attribute(handle, "size"))
        level = _attribute(handle, "instance-level")
        machine = call(handle, "state-machine.get", context="state-machine.get")
        state, duration = machine["state"], machine["duration"]
        nodes: list[str] = []
        queues: list[str] = []
        if state == "run":
            start = _ask(handle, "attr.get", {"name": "broker.starttime"})
            duration = max(0.0, time.time() - float(start["value"]))
            nodes = _nodes(handle, size)
            queues = _queues(handle)
    clock = time.strftime("%H:%M:%S")
    facts = [f"{clock} {state} {short_duration(duration)}", f"owner {owner}", f"depth {level}", f"size {size}", *nodes]
    show(" " + ",  ".join(facts))
    if queues:
        show("  " + ",  ".join(queues))
    return 0


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
