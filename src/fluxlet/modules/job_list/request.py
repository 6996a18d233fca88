"""The requests of `job-list`, read as strictly as the reference does, with its texts (spec 08, 2.3 and 2.5)."""

from __future__ import annotations

import errno
from typing import Any, NoReturn

from fluxlet.modules.job_list.constraint import ConstraintError, Surroundings, Term, parse
from fluxlet.modules.job_list.job import LISTED

_ANY_USER = 0xFFFFFFFF
_KINDS = {str: "string", bool: "true or false", int: "integer", float: "real", list: "array", dict: "object"}


def _refuse(text: str) -> NoReturn:
    raise OSError(errno.EPROTO, f"invalid payload: {text}")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _KINDS[type(value)]


def _integer(payload: dict[str, Any], name: str) -> int:
    if name not in payload:
        _refuse(f"Object item not found: {name}")
    value = payload[name]
    if type(value) is not int:
        _refuse(f"Expected integer, got {_kind(value)}")
    return value


def _attrs(payload: dict[str, Any]) -> list[Any]:
    if "attrs" not in payload:
        _refuse("Object item not found: attrs")
    attrs = payload["attrs"]
    if not isinstance(attrs, list):
        _refuse("attrs must be an array")
    return attrs


class ListRequest:
    """The payload of job-list.list.

    Attributes:
        max_entries: 0: all.
        attrs: names, or anything.
        since: seconds since the epoch.
        term: the constraint.

    Raises OSError(EPROTO) for what is none.
    """

    def __init__(self, payload: dict[str, Any], around: Surroundings, only_user: int | None) -> None:
        self.max_entries = _integer(payload, "max_entries")
        if "attrs" not in payload:
            _refuse("Object item not found: attrs")
        since = payload.get("since", 0.0)
        if type(since) not in (int, float):
            _refuse(f"Expected real, got {_kind(since)}")
        if self.max_entries < 0:
            _refuse("max_entries < 0 not allowed")
        if not since >= 0.0:
            _refuse("since < 0.0 not allowed")
        self.attrs = _attrs(payload)
        self.since = float(since)
        constraint = payload["constraint"] if "constraint" in payload else _legacy(payload)
        if only_user is not None:
            mine: dict[str, Any] = {"userid": [only_user]}
            constraint = {"and": [constraint, mine]}
        try:
            self.term: Term = parse(constraint, around)
        except ConstraintError as exc:
            _refuse(f"constraint object invalid: {exc}")


def _legacy(payload: dict[str, Any]) -> dict[str, Any]:
    """The constraint that the members of an old request stand for."""
    if not {"userid", "states", "results"} <= payload.keys():
        return {}
    terms: list[dict[str, Any]] = []
    if (userid := _integer(payload, "userid")) != _ANY_USER:
        terms.append({"userid": [userid]})
    for name in ("name", "queue"):
        if name in payload:
            terms.append({name: [payload[name]]})
    for name in ("states", "results"):
        if (mask := _integer(payload, name)) != 0:
            terms.append({name: [mask]})
    return {"and": terms}


class ListIdRequest:
    """The payload of job-list.list-id.

    Attributes:
        jobid: of the job.
        attrs: names, or anything.
        states: answer when the job has been in one of these; 0: at once.

    Raises OSError(EPROTO) for what is none.
    """

    def __init__(self, payload: dict[str, Any]) -> None:
        self.jobid = _integer(payload, "id")
        self.states = 0
        if "attrs" not in payload:
            _refuse("Object item not found: attrs")
        if "state" in payload:
            self.states = _integer(payload, "state")
            if not self.states or self.states & ~LISTED:
                _refuse("invalid state specified")
        self.attrs = _attrs(payload)
