"""What the job manager has to know of a jobspec, read from its text without building the rest. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from fluxlet.config_table import type_name
from fluxlet.payload import UNREADABLE


class Dependency(msgspec.Struct):
    """An element of attributes.system.dependencies."""

    scheme: str
    value: str


class Bypass(msgspec.Struct):
    """attributes.system.alloc-bypass."""

    R: msgspec.Raw = msgspec.Raw()


class System(msgspec.Struct):
    """attributes.system, as far as it matters here."""

    duration: int | float = 0.0
    queue: str | None = None
    dependencies: tuple[Dependency, ...] = ()
    job: Any = None
    alloc_bypass: Bypass | None = msgspec.field(default=None, name="alloc-bypass")


class _Attributes(msgspec.Struct):
    system: System


class Spec(msgspec.Struct):
    """A jobspec, as far as it matters here."""

    attributes: _Attributes

    @property
    def system(self) -> System:
        """attributes.system."""
        return self.attributes.system

    @property
    def name(self) -> str | None:
        """attributes.system.job.name, if it is a string."""
        job = self.attributes.system.job
        name = job.get("name") if isinstance(job, dict) else None
        return name if isinstance(name, str) else None


_decode_spec = msgspec.json.Decoder(Spec).decode
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def read(text: bytes) -> Spec:
    """Reads a jobspec. Raises ValueError with the text for the submitter."""
    try:
        return _decode_spec(text)
    except UNREADABLE as exc:
        raise ValueError(_reason(text) or f"invalid jobspec: {exc}") from None


def _reason(text: bytes) -> str | None:
    """What is wrong, in the words of the reference where it has some."""
    try:
        system = _decode(text)
    except UNREADABLE:
        return None
    for key in ("attributes", "system"):
        if not isinstance(system, dict):
            return f"failed to unpack duration: Expected object, got {type_name(system)}"
        if key not in system:
            return f"failed to unpack duration: Object item not found: {key}"
        system = system[key]
    if isinstance(system, dict):
        duration = system.get("duration", 0)
        if isinstance(duration, bool) or not isinstance(duration, int | float):
            return f"failed to unpack duration: Expected real or integer, got {type_name(duration)}"
        if not isinstance(system.get("queue", ""), str):
            return "attributes.system.queue must be a string"
    return None


_PARTS = ("attributes", "resources", "tasks")


def check_keys(updates: Mapping[str, Any]) -> None:
    """Raises ValueError for dotted keys that are not within a jobspec."""
    if not all(key in _PARTS or key.partition(".")[0] in _PARTS for key in updates):
        raise ValueError("one or more jobspec updates are invalid")


def updated(text: bytes, updates: Mapping[str, Any]) -> tuple[bytes, Spec]:
    """A jobspec with the values of dotted keys replaced. Raises ValueError if what comes out is none.

    Also for keys that lead through what is no object.
    """
    spec = _decode(text)
    for key, value in updates.items():
        place = spec
        *path, last = key.split(".")
        for word in path:
            place = place.setdefault(word, {})
            if not isinstance(place, dict):
                raise ValueError(f"{key} leads through what is no object")
        place[last] = value
    result = _encode(spec)
    return result, read(result)


class Counts(msgspec.Struct):
    """What a jobspec asks for in numbers (spec 06, 3.3)."""

    nnodes: int = 0
    nslots: int = 0
    ncores: int = 0
    ngpus: int = 0


def counts(text: bytes) -> Counts:
    """Counts the resources of a jobspec. Raises ValueError with what cannot be determined."""
    resources = _decode(text).get("resources")
    if not isinstance(resources, list) or not resources:
        raise ValueError("jobspec has no resources")
    found = Counts()
    vertex = resources[0]
    nodes = 1
    while isinstance(vertex, dict) and vertex.get("type") != "slot":
        if vertex.get("type") == "node":
            found.nnodes = nodes = _count(vertex, "node")
        below = vertex.get("with")
        vertex = below[0] if isinstance(below, list) and below else None
    if vertex is None:
        raise ValueError("Unable to determine slot count")
    found.nslots = _count(vertex, "slot") * nodes
    below = vertex.get("with")
    inside = [item for item in below if isinstance(item, dict)] if isinstance(below, list) else []
    cores = [_count(item, "core") for item in inside if item.get("type") == "core"]
    if not cores:
        raise ValueError("Unable to determine slot size")
    found.ncores = found.nslots * cores[0]
    found.ngpus = found.nslots * sum(_count(item, "gpu") for item in inside if item.get("type") == "gpu")
    return found


def _count(vertex: dict[str, Any], kind: str) -> int:
    count = vertex.get("count")
    if not isinstance(count, int):
        raise ValueError(f"Unable to determine {kind} count")
    return count
