"""What a jobspec must be like: the checks of RFC 14 and RFC 25 that are made (spec 06, 3.1 and 3.2).

`check` is for any jobspec, `check_v1` for version 1 besides. Each raises ValueError or TypeError with the exact
sentence that submitters see, for the first rule that is broken, in the order of the specification's table.

Rules are the reference's, also where they are loose: what is not checked here fails later, or never.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Rules = Callable[[Any], None]

_RANGE_KEYS = ("min", "max", "operand", "operator")
_OPERATORS = ["+", "*", "^"]
_range = re.compile(r"([0-9]+)(?:-([0-9]+)|\+)(?::([0-9]+)(?::([+*^]))?)?").fullmatch
_bad_in_property = re.compile("[&'\"`|()]").search


def check(jobspec: Mapping[str, Any]) -> None:
    """The rules for every jobspec with the right top-level keys."""
    if not isinstance(jobspec["resources"], Sequence):
        raise TypeError("resources must be a sequence")
    if not isinstance(jobspec["tasks"], Sequence):
        raise TypeError("tasks must be a sequence")
    if not isinstance(jobspec["attributes"], Mapping):
        raise TypeError("attributes must be a mapping")
    if not isinstance(jobspec["version"], int):
        raise TypeError("version must be an integer")
    if jobspec["version"] < 1:
        raise ValueError("version must be >= 1")
    for resource in jobspec["resources"]:
        check_resource(resource)
    for task in jobspec["tasks"]:
        check_task(task)
    check_attributes(jobspec["attributes"])


def check_v1(jobspec: Mapping[str, Any]) -> None:
    """What version 1 asks for besides."""
    attributes = jobspec["attributes"]
    if "system" not in attributes:
        raise ValueError("attributes.system is a required key")
    system = attributes["system"]
    if not isinstance(system, Mapping):
        raise ValueError("attributes.system must be a mapping")
    if "duration" not in system:
        raise ValueError("attributes.system.duration is a required key")
    if not isinstance(system["duration"], int | float):
        raise ValueError("attributes.system.duration must be a number")
    for task in jobspec["tasks"]:
        if not task["count"].keys() & {"per_slot", "total"}:
            raise ValueError("count per_slot or total must be set")
    for vertex in walk(jobspec["resources"]):
        if not isinstance(vertex["count"], int):
            kind, count = vertex["type"], type(vertex["count"]).__name__
            raise ValueError(f"resource count must be an integer for type '{kind}' (got '{count}')")


def check_keys(value: Mapping[str, Any], required: Sequence[str], optional: Sequence[str] | None = ()) -> None:
    """All of `required`, and nothing but them and `optional` (None: whatever else there is)."""
    for key in sorted(required):
        if key not in value:
            raise ValueError(f"Missing key ({key})")
    if optional is not None and len(value) > len(required):
        for key in sorted(value.keys() - set(required) - set(optional), key=str):
            raise ValueError(f"Extraneous key ({key})")


def walk(resources: Any) -> list[Any]:
    """Resource vertices in the order of the text, parents first."""
    found: list[Any] = []
    waiting = list(reversed(resources))
    while waiting:
        vertex = waiting.pop()
        found.append(vertex)
        below = vertex.get("with")
        if isinstance(below, Sequence):
            waiting.extend(reversed(below))
    return found


def check_resource(vertex: Any) -> None:
    """A resource vertex, and those in it."""
    waiting = [vertex]
    while waiting:
        vertex = waiting.pop()
        _check_vertex(vertex)
        below = vertex.get("with")
        if isinstance(below, Sequence):
            waiting.extend(reversed(below))


def _check_vertex(vertex: Any) -> None:
    if not isinstance(vertex, Mapping):
        raise TypeError("resource must be a mapping")
    if "type" not in vertex:
        raise ValueError("type is a required key for resources")
    if not isinstance(vertex["type"], str):
        raise TypeError("type must be a string")
    if "count" not in vertex:
        raise ValueError("count is a required key for resources")
    check_count(vertex["type"], vertex["count"])
    for key in ("id", "unit", "label"):
        if key in vertex and not isinstance(vertex[key], str):
            raise TypeError(f"{key} must be a string")
    if "exclusive" in vertex and vertex["exclusive"] not in (True, False):
        raise TypeError("exclusive must be a boolean")
    if vertex["type"] == "slot" and "label" not in vertex:
        raise ValueError("slots must have labels")


def check_count(kind: str, count: Any) -> None:
    """A vertex' count: a number, or several it may be."""
    if isinstance(count, int):
        if count < 1 and kind in ("node", "slot", "core"):
            raise ValueError("node, slot, or core count must be > 0")
        if count < 0:
            raise ValueError("count must be >= 0")
    elif isinstance(count, str):
        _check_count_text(count)
    elif isinstance(count, Mapping):
        check_range(count)
    else:
        raise TypeError("count must be an int or mapping")


def _check_count_text(text: str) -> None:
    match = _range(text[1:-1] if text.startswith("[") and text.endswith("]") else text)
    if match:
        names = ("min", "max", "operand")
        count: dict[str, Any] = {
            name: int(part) for name, part in zip(names, match.groups()[:3], strict=True) if part is not None
        }
        if "operand" in count:
            count["operator"] = match[4] or "+"
        check_range(count)
        return
    from flux.idset import IDset

    try:
        ids = IDset(text)
    except ValueError:
        ids = None
    if not ids:
        raise ValueError("count string must be a valid idset or range")
    if 0 in ids:
        raise ValueError("min must be > 0")


def check_range(count: Mapping[str, Any]) -> None:
    """A range of counts, ``{"min": 1, "max": 8, "operand": 2, "operator": "*"}``."""
    if "min" not in count:
        raise ValueError("min must be in range")
    check_keys(count, ("min",), _RANGE_KEYS)
    for key in ("min", "max", "operand"):
        if key in count:
            if not isinstance(count[key], int):
                raise TypeError(f"{key} must be an int")
            if count[key] < 1:
                raise ValueError(f"{key} must be > 0")
    if "max" in count and count["max"] < count["min"]:
        raise ValueError("max must be >= min")
    if ("operand" in count) != ("operator" in count):
        raise ValueError("operand and operator must both be in range if either is")
    if "operator" not in count:
        return
    operator = count["operator"]
    if not isinstance(operator, str) or len(operator) != 1:
        raise TypeError("operator must be a single character str")
    if operator not in _OPERATORS:
        raise ValueError(f"operator must be one of {_OPERATORS}")
    if operator in "*^" and count["operand"] < 2:
        raise ValueError("operand must be > 1 for '*' or '^' operator")
    if operator == "^" and count["min"] < 2:
        raise ValueError("min must be > 1 for '^' operator")


def check_task(task: Any) -> None:
    """One task."""
    if not isinstance(task, Mapping):
        raise TypeError("task must be a mapping")
    check_keys(task, ("command", "slot", "count"), None)
    count = task["count"]
    if not isinstance(count, Mapping):
        raise TypeError("count must be a mapping")
    if len(count) != 1:
        raise ValueError("count must have exactly one key set")
    (key, number), *_ = count.items()
    if key not in ("per_slot", "per_resource", "total"):
        raise ValueError("count per_slot, per_resource, or total must be set")
    if key != "per_resource":
        if not isinstance(number, int):
            raise TypeError(f"count {key} must be an int")
        if number < 1:
            raise ValueError(f"count {key} must be > 0")
    if not isinstance(task["slot"], str):
        raise TypeError("slot must be a string")
    if "attributes" in task and not isinstance(task["attributes"], Mapping):
        raise TypeError("attributes must be a mapping")
    check_command(task["command"])


def check_command(command: Any) -> None:
    """A task's argument vector."""
    if command is None:
        raise TypeError("object of type 'NoneType' has no len()")
    if isinstance(command, Sequence) and not isinstance(command, str | bytes):
        if not command:
            raise TypeError("command array cannot have length of zero")
        if all(isinstance(word, str) for word in command):
            return
    raise TypeError("command must be a list of strings")


def check_attributes(attributes: Mapping[str, Any]) -> None:
    """Attributes, as far as all jobspecs have them."""
    check_keys(attributes, (), ("system", "user"))
    if "system" not in attributes:
        return
    system = attributes["system"]
    if system is None:
        raise TypeError("argument of type 'NoneType' is not iterable")
    if not isinstance(system, Mapping):
        return  # for version 1 to refuse
    if "dependencies" in system:
        _check_dependencies(system["dependencies"])
    if "constraints" in system:
        check_constraints(system["constraints"])


def _check_dependencies(dependencies: Any) -> None:
    if not isinstance(dependencies, list | tuple):
        raise TypeError("attributes.system.dependencies must be a list")
    for dependency in dependencies:
        if not isinstance(dependency, Mapping):
            raise TypeError("dependency must be a mapping")
        check_keys(dependency, ("scheme", "value"), None)
        for key in ("scheme", "value"):
            if not isinstance(dependency[key], str):
                raise TypeError(f"dependency {key} must be a string")


def check_constraints(constraints: Any) -> None:
    """Constraints (RFC 31); whether their hosts exist is for the instance to say."""
    waiting = [constraints]
    while waiting:
        constraint = waiting.pop()
        if not isinstance(constraint, Mapping):
            raise TypeError("constraints must be a mapping")
        for operator, operands in constraint.items():
            if not isinstance(operands, Sequence):
                raise TypeError(f"argument to constraint {operator} must be a sequence")
            if operator in ("and", "or", "not"):
                waiting.extend(reversed(operands))
            elif operator in _CONSTRAINTS:
                _CONSTRAINTS[operator](operands)
            else:
                raise ValueError(f"unknown constraint operator '{operator}'")


def _check_properties(operands: Sequence[Any]) -> None:
    for name in operands:
        if _bad_in_property(name):
            raise ValueError(f"invalid character in property '{name}'")


def _check_hosts(operands: Sequence[Any]) -> None:
    from flux.hostlist import Hostlist

    for hosts in operands:
        Hostlist(hosts)


def _check_ranks(operands: Sequence[Any]) -> None:
    from flux.idset import IDset

    for ranks in operands:
        IDset(ranks)


_CONSTRAINTS: dict[str, Rules] = {
    "properties": _check_properties,
    "hostlist": _check_hosts,
    "ranks": _check_ranks,
}
