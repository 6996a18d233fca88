"""The option `rlimit` (spec 07, 5.4): soft limits of the submitter's, for the tasks."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from typing import Any

NAMES = {
    name: getattr(resource, constant)
    for name, constant in {
        "cpu": "RLIMIT_CPU",
        "fsize": "RLIMIT_FSIZE",
        "data": "RLIMIT_DATA",
        "stack": "RLIMIT_STACK",
        "core": "RLIMIT_CORE",
        "nofile": "RLIMIT_NOFILE",
        "ofile": "RLIMIT_NOFILE",
        "as": "RLIMIT_AS",
        "rss": "RLIMIT_RSS",
        "nproc": "RLIMIT_NPROC",
        "memlock": "RLIMIT_MEMLOCK",
        "msgqueue": "RLIMIT_MSGQUEUE",
        "nice": "RLIMIT_NICE",
        "rtprio": "RLIMIT_RTPRIO",
        "rttime": "RLIMIT_RTTIME",
        "sigpending": "RLIMIT_SIGPENDING",
    }.items()
    if hasattr(resource, constant)
}

Limits = Mapping[int, tuple[int, int]]

#: The most open files that we ask for.
_MOST_FILES = 65536


def own() -> dict[int, tuple[int, int]]:
    """The (soft, hard) limits of this process."""
    return {number: resource.getrlimit(number) for number in set(NAMES.values())}


def wanted(option: Any, present: Limits) -> tuple[list[tuple[int, int]], list[str]]:
    """The (resource, soft limit) that differ from this process's, and warnings. Raises ValueError for a bad option."""
    if not isinstance(option, dict):
        raise ValueError("rlimit: an object is expected")
    different: list[tuple[int, int]] = []
    warnings: list[str] = []
    for name, value in option.items():
        number = NAMES.get(name)
        if number is None or type(value) is not int:
            raise ValueError(f"invalid shell option rlimit.{name}={value}")
        soft, hard = present[number]
        if value == soft:
            continue
        if hard != resource.RLIM_INFINITY and (value < 0 or value > hard):
            warnings.append(f"rlimit: {name} exceeds current max, raising value to hard limit")
            value = hard
        if value != soft:
            different.append((number, value))
    return different, warnings


def raise_descriptors(present: Limits) -> Limits:
    """Lets this process have more open files, each task costs it several; what it was is for tasks. The new limits."""
    soft, hard = present[resource.RLIMIT_NOFILE]
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return present
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return {**present, resource.RLIMIT_NOFILE: (most, hard)}


class Borrowed:
    """While it is entered, this process has other limits: what is started then inherits them.

    Args:
        different: (resource, soft limit) of what is started, where it is not as `present`.
        present: the limits that this process was started with.
        own: those it has.
    """

    def __init__(self, different: list[tuple[int, int]], present: Limits, own: Limits) -> None:
        wanted = dict(different)
        if own is not present:
            wanted.setdefault(resource.RLIMIT_NOFILE, present[resource.RLIMIT_NOFILE][0])
        self._wanted = wanted
        self._own = own

    def __enter__(self) -> None:
        for number, value in self._wanted.items():
            resource.setrlimit(number, (value, self._own[number][1]))

    def __exit__(self, *exc: object) -> None:
        for number in self._wanted:
            resource.setrlimit(number, self._own[number])
