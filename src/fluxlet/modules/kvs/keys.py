"""Keys: components between dots (spec 05, section 5). Pure."""

from __future__ import annotations

import errno

#: Links within the targets of links that are followed: the next one is ELOOP (spec 05, 6.3).
MAX_NESTED = 10
#: Links that are followed for one key, nested or not: targets of many links each would take for ever.
MAX_LINKS = 10_000


def normalize(key: str) -> str:
    """A key without the dots that mean nothing; `.` is the root directory. Of "" nothing is changed."""
    if key.startswith(".") or key.endswith(".") or ".." in key:
        return ".".join(filter(None, key.split("."))) or "."
    return key


def components(key: str) -> list[str]:
    """The components of a normalised key, the first one last; none for the root directory."""
    if key == ".":
        return []
    parts = key.split(".")
    parts.reverse()
    return parts


class Trail:
    """The way to a key: the components that are left, and the links that were followed.

    Attributes:
        parts: the components that are left, the next one last.
    """

    __slots__ = ("_followed", "_inside", "parts")

    def __init__(self, parts: list[str]) -> None:
        self.parts = parts
        self._inside: list[int] = []  # how many parts are left when the target of a link is used up
        self._followed = 0

    def follow(self, target: str) -> None:
        """Goes on at the target of a link. Raises OSError(ELOOP) where that leads nowhere."""
        parts, inside = self.parts, self._inside
        # The link itself is used up: a target with nothing left of it is behind us.
        while inside and len(parts) < inside[-1]:
            inside.pop()
        inside.append(len(parts))
        self._followed += 1
        if len(inside) > MAX_NESTED or self._followed > MAX_LINKS:
            raise OSError(errno.ELOOP, None)
        parts += components(normalize(target))
