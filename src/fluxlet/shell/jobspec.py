"""A jobspec as the shell reads it, and J, in which it is signed (spec 06, sections 2 and 3)."""

from __future__ import annotations

import binascii
from typing import Any

import msgspec

from fluxlet.payload import UNREADABLE


class TaskCount(msgspec.Struct):
    """How many tasks there are to be."""

    per_slot: int = 0
    total: int = 0


class Task(msgspec.Struct):
    """The program that the tasks run."""

    command: list[str]
    count: TaskCount = msgspec.field(default_factory=TaskCount)


class Shell(msgspec.Struct):
    """attributes.system.shell"""

    options: dict[str, Any] = {}


class Name(msgspec.Struct):
    """attributes.system.job"""

    name: str | None = None


class System(msgspec.Struct):
    """attributes.system"""

    duration: float = 0.0
    environment: dict[str, str | None] = {}
    cwd: str | None = None
    shell: Shell = msgspec.field(default_factory=Shell)
    job: Name = msgspec.field(default_factory=Name)
    files: dict[str, Any] = {}
    batch: dict[str, Any] | None = None


class Attributes(msgspec.Struct):
    """attributes"""

    system: System = msgspec.field(default_factory=System)


class Jobspec(msgspec.Struct):
    """What the shell has to know of a jobspec."""

    resources: list[dict[str, Any]]
    tasks: list[Task]
    attributes: Attributes = msgspec.field(default_factory=Attributes)
    version: int = 1

    @property
    def name(self) -> str:
        """The job's name: its own, or that of its program."""
        own = self.attributes.system.job.name
        return own if own else self.tasks[0].command[0].rpartition("/")[2]


_decode = msgspec.json.Decoder(Jobspec).decode


def parse(text: bytes) -> Jobspec:
    """A jobspec. Raises ValueError saying what is wrong with it."""
    try:
        jobspec = _decode(text)
    except UNREADABLE as exc:
        raise ValueError(f"error parsing jobspec: {exc}") from None
    if not jobspec.tasks or not jobspec.tasks[0].command:
        raise ValueError("error parsing jobspec: there is no command")
    return jobspec


def unwrap(signed: bytes) -> bytes:
    """The jobspec in J, HEADER.PAYLOAD.SIGNATURE. Raises ValueError.

    Who signed it was checked when it was submitted.
    """
    parts = signed.split(b".")
    if len(parts) != 3:
        raise ValueError("error unwrapping J: it has not three parts")
    try:
        return binascii.a2b_base64(parts[1])
    except binascii.Error as exc:
        raise ValueError(f"error unwrapping J: {exc}") from None


def vertices(resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All vertices of a jobspec's resources, parents first."""
    found: list[dict[str, Any]] = []
    waiting = list(resources)
    while waiting:
        vertex = waiting.pop(0)
        found.append(vertex)
        below = vertex.get("with")
        if isinstance(below, list):
            waiting += [item for item in below if isinstance(item, dict)]
    return found
