"""Is this a jobspec? What job-ingest asks of the text of one, and makes of it (spec 06, 3.1, 3.5, 4.3). Pure.

Refusals are OSErrors with the errno and text for the submitter: EPERM for what the rules of jobspecs refuse, as the
reference has it; EINVAL for what is no jobspec at all, and for what we refuse because it could never run.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Container
from typing import Any

import msgspec

from flux.job import _rules
from fluxlet.payload import UNREADABLE, check_value

_KEYS = ("attributes", "resources", "tasks", "version")
#: Levels of nesting that a jobspec may have: it travels inside of payloads, which have a bound.
_DEPTH = 128

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_token = re.compile(rb"[^\s\[\]{},:]+|\S").match


def parse(text: bytes) -> dict[str, Any]:
    """The object in the text of a jobspec. Raises OSError(EINVAL)."""
    body = text.lstrip(b" \t\r\n")
    if body[:1] not in (b"{", b"["):
        token = _token(body)
        near = "end of file" if token is None else f"'{token[0].decode(errors='replace')}'"
        raise OSError(errno.EINVAL, f"jobspec: invalid JSON: '[' or '{{' expected near {near}")
    try:
        value = _decode(body)
    except UNREADABLE as exc:
        raise OSError(errno.EINVAL, f"jobspec: invalid JSON: {exc}") from None
    if not isinstance(value, dict):
        raise OSError(errno.EINVAL, "jobspec: a jobspec must be a JSON object, not an array")
    try:
        check_value(text, value, _DEPTH)
    except OSError as exc:
        raise OSError(errno.EINVAL, f"jobspec: invalid JSON: {exc.strerror}") from None
    return value


def validate(jobspec: dict[str, Any], version: int | None = 1) -> None:
    """The rules of jobspecs of a version, 1 or any (None). Raises ValueError and TypeError with their texts."""
    _rules.check_keys(jobspec, _KEYS)
    if version == 1 and jobspec["version"] != 1:
        raise ValueError("version must be 1")
    _rules.check(jobspec)
    if version == 1:
        _rules.check_v1(jobspec)


def runnable(jobspec: dict[str, Any]) -> None:
    """Refuses a valid jobspec that could never run (spec 06, 18.9). Raises OSError(EINVAL)."""
    resources, tasks = jobspec["resources"], jobspec["tasks"]
    if not resources:
        raise OSError(errno.EINVAL, "jobspec has no resources")
    if not tasks:
        raise OSError(errno.EINVAL, "jobspec has no tasks")
    labels = {vertex["label"] for vertex in _rules.walk(resources) if "label" in vertex}
    for task in tasks:
        if task["slot"] not in labels:
            raise OSError(errno.EINVAL, f"task slot '{task['slot']}' is not the label of a resource")
    system = jobspec["attributes"].get("system", {})
    if system.get("duration", 0) < 0:
        raise OSError(errno.EINVAL, "duration must not be negative")


def hosts(jobspec: dict[str, Any], known: Callable[[], Container[str]]) -> None:
    """Refuses constraints on hosts that are not among those that `known` gives. Raises ValueError."""
    constraints = jobspec["attributes"].get("system", {}).get("constraints")
    if constraints is None:
        return
    from flux.hostlist import Hostlist

    waiting = [constraints]
    while waiting:
        for operator, operands in waiting.pop().items():
            if operator in ("and", "or", "not"):
                waiting.extend(operands)
            elif operator == "hostlist":
                for host in Hostlist(list(operands)):
                    if host not in known():
                        raise ValueError(f"host constraint contains invalid hosts: host '{host}' not found")


def encode(jobspec: dict[str, Any]) -> bytes:
    """The text of a jobspec."""
    return _encode(jobspec)


def redacted(jobspec: dict[str, Any]) -> bytes:
    """The text of a jobspec without its environment, as everybody but the shell may see it."""
    attributes = jobspec.get("attributes")
    system = attributes.get("system") if isinstance(attributes, dict) else None
    if isinstance(system, dict):
        system.pop("environment", None)
    return _encode(jobspec)
