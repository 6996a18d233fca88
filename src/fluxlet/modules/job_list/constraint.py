"""Which jobs are asked for: constraints in the form of RFC 31 (spec 08, 2.4).

A constraint is parsed into a `Term`, which can tell three things:

- whether a job matches;
- in which states a job must be, to have a chance;
- which of the inactive jobs have one: lists of the index, and the time they ended at the earliest.

What the last two say may be too much, and never too little.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

from flux.core.job_names import RESULTS, STATES
from flux.hostlist import Hostlist
from flux.idset import IDset
from fluxlet.modules.job_list.job import CLEANUP, INACTIVE, LISTED, RUN, Job
from fluxlet.modules.job_list.order import Inactive

_ANY_USER = 0xFFFFFFFF
_MANY = 1024
_TIMES = ("t_submit", "t_depend", "t_priority", "t_sched", "t_run", "t_cleanup", "t_inactive")
_DEPTH = 100


class ConstraintError(ValueError):
    """What is wrong with a constraint."""


@dataclass(frozen=True, slots=True)
class Term:
    """A constraint, parsed.

    Attributes:
        matches: tells whether a job matches.
        states: the states that a match is in; all of them, if the constraint says nothing about it.
        exact: `states` is all that the constraint is about.
        candidates: gives lists of inactive jobs that have all that match; None: any may.
        since: when they ended, at the earliest.
        cost: elementary checks that a match takes.
    """

    matches: Callable[[Job], bool]
    states: int = LISTED
    exact: bool = False
    candidates: Callable[[Inactive], list[list[Job]] | None] = lambda inactive: None
    since: float = 0.0
    cost: int = 1


ANY = Term(lambda job: True, exact=True, cost=0)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the meaning of a constraint depends on.

    Attributes:
        size: ranks of the instance.
        parents: of queues that are virtual, the queue each is a part of.
    """

    size: int = 1
    parents: dict[str, str] | None = None


def parse(constraint: Any, around: Surroundings, depth: int = 0) -> Term:
    """The term for a constraint. Raises ConstraintError with the text of spec 08, 2.4."""
    if not isinstance(constraint, dict):
        raise ConstraintError("constraint must be JSON object")
    if len(constraint) > 1:
        raise ConstraintError("constraint must only contain 1 element")
    if depth > _DEPTH:
        raise ConstraintError("constraint is nested too deeply")
    for operator, values in constraint.items():
        if not isinstance(values, list):
            raise ConstraintError(f"operator {operator} values not an array")
        if operator in ("and", "or", "not"):
            return _JOINED[operator]([parse(value, around, depth + 1) for value in values])
        if operator in _TIMES:
            return _time(operator, values)
        leaf = _LEAVES.get(operator)
        if leaf is None:
            raise ConstraintError(f"unknown constraint operator: {operator}")
        return leaf(values, around)
    return ANY


# Several constraints.


def _and(terms: list[Term]) -> Term:
    if not terms:
        return ANY
    if len(terms) == 1:
        return terms[0]
    states = LISTED
    for term in terms:
        states &= term.states
    checks = [term.matches for term in terms if not term.exact]
    by_state = len(checks) != len(terms)

    def matches(job: Job) -> bool:
        if by_state and not job.state & states:
            return False
        return all(check(job) for check in checks)

    def candidates(inactive: Inactive) -> list[list[Job]] | None:
        found = [lists for term in terms if (lists := term.candidates(inactive)) is not None]
        return min(found, key=_count, default=None)

    return Term(
        matches,
        states=states,
        exact=not checks,
        candidates=candidates,
        since=max(term.since for term in terms),
        cost=sum(term.cost for term in terms),
    )


def _count(lists: list[list[Job]]) -> int:
    return sum(map(len, lists))


def _or(terms: list[Term]) -> Term:
    if not terms:
        return ANY
    states = 0
    for term in terms:
        states |= term.states
    checks = [term.matches for term in terms]

    def candidates(inactive: Inactive) -> list[list[Job]] | None:
        together: list[list[Job]] = []
        for term in terms:
            if term.states & INACTIVE:  # what no inactive job can match looks for none
                lists = term.candidates(inactive)
                if lists is None:
                    return None
                together += lists
        return together

    return Term(
        lambda job: any(check(job) for check in checks),
        states=states,
        exact=all(term.exact for term in terms),
        candidates=candidates,
        since=min(term.since for term in terms),
        cost=sum(term.cost for term in terms),
    )


def _not(terms: list[Term]) -> Term:
    term = _and(terms)
    check = term.matches
    states = LISTED & ~term.states if term.exact else LISTED
    return Term(lambda job: not check(job), states=states, exact=term.exact, cost=term.cost)


_JOINED = {"and": _and, "or": _or, "not": _not}


# One constraint.


def _by(what: str, values: Iterable[Hashable]) -> Callable[[Inactive], list[list[Job]]]:
    keys = tuple(values)
    return lambda inactive: [inactive.by(what, value) for value in keys]


def _userid(values: list[Any], around: Surroundings) -> Term:
    for value in values:
        if type(value) is not int:
            raise ConstraintError("userid value must be an integer")
    if _ANY_USER in values:
        return ANY
    wanted = frozenset(values)
    return Term(lambda job: job.userid in wanted, candidates=_by("userid", wanted))


def _name(values: list[Any], around: Surroundings) -> Term:
    for value in values:
        if not isinstance(value, str):
            raise ConstraintError("name value must be a string")
    wanted = frozenset(values)
    return Term(lambda job: job.spec.name in wanted, candidates=_by("name", wanted))


def _queue(values: list[Any], around: Surroundings) -> Term:
    for value in values:
        if not isinstance(value, str):
            raise ConstraintError("queue value must be a string")
    parts = [name for name, parent in (around.parents or {}).items() if parent in values]
    wanted = frozenset([*values, *parts])
    return Term(lambda job: job.spec.queue in wanted, candidates=_by("queue", wanted))


def _mask(what: str, names: dict[int, tuple[str, str]], values: list[Any]) -> int:
    spelled = {}
    everything = 0
    for number, (long, short) in names.items():
        everything |= number
        spelled.update(dict.fromkeys((long, long.lower(), short, short.lower()), number))
    mask = 0
    for value in values:
        if isinstance(value, str):
            if value not in spelled:
                raise ConstraintError(f"invalid {what} value '{value}' specified")
            mask |= spelled[value]
        elif type(value) is int:
            if value & ~everything:
                raise ConstraintError(f"invalid {what} value '{value & 0xFFFFFFFF:x}h' specified")
            mask |= value
        else:
            raise ConstraintError(f"{what} value invalid type")
    return mask


def _states(values: list[Any], around: Surroundings) -> Term:
    mask = _mask("states", STATES, values)
    return Term(lambda job: bool(job.state & mask), states=mask & LISTED, exact=True)


def _results(values: list[Any], around: Surroundings) -> Term:
    mask = _mask("results", RESULTS, values)
    return Term(
        lambda job: job.state == INACTIVE and bool(job.result & mask),
        states=INACTIVE,
        candidates=_by("result", [number for number in RESULTS if number & mask]),
    )


#: The states of jobs that have, or had, resources.
_PLACED = RUN | CLEANUP | INACTIVE


def _placed(what: str, values: Iterable[Hashable]) -> Callable[[Inactive], list[list[Job]]]:
    keys = tuple(values)
    return lambda inactive: [*(inactive.by(what, value) for value in keys), inactive.by("wide", None)]


def _hostlist(values: list[Any], around: Surroundings) -> Term:
    wanted: set[str] = set()
    limit = max(_MANY, around.size)
    for value in values:
        if not isinstance(value, str):
            raise ConstraintError("host value must be a string")
        try:
            hosts = Hostlist(value)
        except (ValueError, OSError):
            raise ConstraintError("host value not in valid Hostlist format") from None
        if len(wanted) + len(hosts) > limit:
            raise ConstraintError("too many hosts specified")
        wanted.update(hosts)

    def matches(job: Job) -> bool:
        return job.where is not None and not wanted.isdisjoint(job.where.hosts)

    return Term(matches, states=_PLACED, candidates=_placed("host", wanted), cost=max(1, len(wanted)))


def _ranks(values: list[Any], around: Surroundings) -> Term:
    wanted: set[int] = set()
    limit = max(_MANY, around.size)
    for value in values:
        if not isinstance(value, str):
            raise ConstraintError("ranks value must be a string")
        try:
            ids = IDset(value)
        except ValueError:
            raise ConstraintError(f"ranks value '{value}': error parsing range '{value}'") from None
        if len(wanted) + len(ids) > limit:
            raise ConstraintError("too many ranks specified")
        wanted.update(ids)

    def matches(job: Job) -> bool:
        return job.where is not None and not wanted.isdisjoint(job.where.rank_ids)

    return Term(matches, states=_PLACED, candidates=_placed("rank", wanted), cost=max(1, len(wanted)))


_LEAVES: dict[str, Callable[[list[Any], Surroundings], Term]] = {
    "userid": _userid,
    "name": _name,
    "queue": _queue,
    "states": _states,
    "results": _results,
    "hostlist": _hostlist,
    "ranks": _ranks,
}

_COMPARISON = re.compile(r"(>=|<=|>|<)(.*)\Z", re.DOTALL)


def _time(name: str, values: list[Any]) -> Term:
    if not values:
        raise ConstraintError("timestamp value not specified")
    if not isinstance(values[0], str):
        raise ConstraintError(f"{name} value must be a string")
    parts = _COMPARISON.match(values[0])
    if parts is None:
        raise ConstraintError("timestamp comparison operator not specified")
    operator, text = parts[1], parts[2]
    try:
        bound = float(text)
    except ValueError:
        raise ConstraintError("Invalid timestamp value specified") from None
    if not bound >= 0.0:
        raise ConstraintError("timestamp value must be >= 0.0")

    def matches(job: Job) -> bool:
        when: float | None = getattr(job, name)
        if when is None:
            return False
        if operator[0] == ">":
            return when > bound or (when == bound and len(operator) == 2)
        return when < bound or (when == bound and len(operator) == 2)

    # Whatever happened to a job happened before its end.
    return Term(matches, since=bound if operator[0] == ">" else 0.0)
