"""The text form of host lists (RFC 29; spec 02, 14.2; spec 07, 1.3)."""

from __future__ import annotations

import re

from flux.hostlist.runs import MAX_DIGITS, Run, join, numbered

#: The most hosts that one range may stand for.
MAX_RANGE = 1 << 20

#: What text must have for it not to be the name of one host.
_SPECIAL = re.compile(r"[\[\], \t]")

#: One element of a list: brackets come in pairs and are not nested; separators are what is outside of them.
_ELEMENT = re.compile(r"(?:[^\[\], \t]|\[[^\[\]]*\])++")
_SEPARATORS = re.compile(r"[, \t]*")

_NUMBER = f"([0-9]{{1,{MAX_DIGITS}}})"
_RANGE = re.compile(f"{_NUMBER}(?:-{_NUMBER})?")


def single(name: str) -> Run:
    """The run of one name."""
    prefix = name.rstrip("0123456789")
    if len(prefix) == len(name):
        return Run(name, 0, 0, 0)
    if len(name) - len(prefix) > MAX_DIGITS:
        prefix = name[:-MAX_DIGITS]
    digits = name[len(prefix) :]
    return Run(prefix, int(digits), int(digits), len(digits) if digits[0] == "0" and digits != "0" else 1)


def is_single(text: str) -> bool:
    """Is `text` the name of one host, with nothing in it to expand or to split?"""
    return _SPECIAL.search(text) is None


def decode(text: str) -> list[Run] | None:
    """The joined list that `text` stands for, or None if it stands for none."""
    if is_single(text):
        return [single(text)] if text else []
    runs: list[Run] = []
    at = 0
    while (at := _end(_SEPARATORS.match(text, at))) < len(text):
        found = _ELEMENT.match(text, at)
        if found is None or not _expand(found[0], runs):
            return None
        at = found.end()
    return runs


def _end(separators: re.Match[str] | None) -> int:
    assert separators is not None  # it matches the empty string
    return separators.end()


def _expand(element: str, runs: list[Run]) -> bool:
    """Appends the hosts of one element to a joined list; False if it is malformed."""
    prefix, bracket, rest = element.partition("[")
    if not bracket:
        join(runs, single(element))
        return True
    numbers, _, suffix = rest.partition("]")
    for item in numbers.split(","):
        found = _RANGE.fullmatch(item)
        if found is None:
            return False
        low = int(found[1])
        high = low if found[2] is None else int(found[2])
        if not low <= high < low + MAX_RANGE:
            return False
        run = numbered(prefix, low, high, len(found[1]))
        if suffix:
            for name in run.names():
                join(runs, single(name + suffix))
        else:
            join(runs, run)
    return True


def encode(runs: list[Run]) -> str:
    """The text form: consecutive runs of one prefix share a pair of brackets."""
    groups: list[str] = []
    at = 0
    while at < len(runs):
        run = runs[at]
        first, at = at, at + 1
        while run.width and at < len(runs) and runs[at].width and runs[at].prefix == run.prefix:
            at += 1
        if at == first + 1 and run.size == 1:
            groups.append(run.name(0))
        else:
            groups.append(f"{run.prefix}[{','.join([each.text() for each in runs[first:at]])}]")
    return ",".join(groups)
