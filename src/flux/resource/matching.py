"""Which ranks a constraint (RFC 31) lets in; the one place where constraints are evaluated (spec 07, 3.5).

A constraint is compiled once into a predicate over the ranks of a set. Several operators in one object must all
hold; no constraint, and an `and` or `or` of none, lets everything in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flux.hostlist import Hostlist
from flux.idset import IDset

if TYPE_CHECKING:
    from flux.resource.Rv1Set import Node, Rv1Set

#: Lists of more hosts than these are searched as they are, rather than taken apart.
_MANY_HOSTS = 1 << 16

#: Called with a set, a rank of it, and what that rank has.
Matcher = Callable[["Rv1Set", int, "Node"], bool]


def compile_constraint(constraint: Any) -> Matcher:
    """The predicate of a constraint. Raises ValueError with what is wrong with it."""
    if not isinstance(constraint, Mapping):
        raise ValueError(f"a constraint must be an object, not {type(constraint).__name__}")
    matchers = []
    for operator, operands in constraint.items():
        make = _MAKERS.get(operator)
        if make is None:
            raise ValueError(f"unknown constraint operator '{operator}'")
        if not isinstance(operands, Sequence) or isinstance(operands, str):
            raise ValueError(f"argument to constraint {operator} must be a sequence")
        matchers.append(make(operands))
    return matchers[0] if len(matchers) == 1 else _all(matchers)


def _all(matchers: list[Matcher]) -> Matcher:
    return lambda rset, rank, node: all(matches(rset, rank, node) for matches in matchers)


def _and(operands: Sequence[Any]) -> Matcher:
    return _all([compile_constraint(operand) for operand in operands])


def _or(operands: Sequence[Any]) -> Matcher:
    matchers = [compile_constraint(operand) for operand in operands]
    if not matchers:
        return lambda rset, rank, node: True
    return lambda rset, rank, node: any(matches(rset, rank, node) for matches in matchers)


def _not(operands: Sequence[Any]) -> Matcher:
    matches = _and(operands)
    return lambda rset, rank, node: not matches(rset, rank, node)


def _properties(operands: Sequence[Any]) -> Matcher:
    names = [str(name) for name in operands]
    wanted = [name for name in names if not name.startswith("^")]
    unwanted = [name[1:] for name in names if name.startswith("^")]

    def matches(rset: Rv1Set, rank: int, node: Node) -> bool:
        properties = rset.properties
        return all(rank in properties.get(name, ()) for name in wanted) and not any(
            rank in properties.get(name, ()) for name in unwanted
        )

    return matches


def _hostlist(operands: Sequence[Any]) -> Matcher:
    lists = [Hostlist(text) for text in operands]
    if sum(map(len, lists)) > _MANY_HOSTS:
        return lambda rset, rank, node: any((node.host or f"rank{rank}") in hosts for hosts in lists)
    names = {host for hosts in lists for host in hosts}
    return lambda rset, rank, node: (node.host or f"rank{rank}") in names


def _ranks(operands: Sequence[Any]) -> Matcher:
    # Not taken apart: a set may be of two billion ranks.
    wanted = [IDset(text) for text in operands]
    return lambda rset, rank, node: any(rank in ranks for ranks in wanted)


_MAKERS: dict[str, Callable[[Sequence[Any]], Matcher]] = {
    "and": _and,
    "or": _or,
    "not": _not,
    "properties": _properties,
    "hostlist": _hostlist,
    "ranks": _ranks,
}
