"""The table `[bootstrap]` of a configuration: which hosts there are, and where each is reached (spec 04, 3.5). Pure.

    hosts = parse(table)       raises ValueError with the text for the log
    hosts.names, hosts.bind(3), hosts.connect(0), hosts.parents()

Rules:
- A host's rank is its place among all hosts, in the order in which they are mentioned first.
- Entries about one host are one: of what they say differently, the first counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flux.hostlist import Hostlist

_KEYS: dict[str, type] = {
    "curve_cert": str,
    "default_port": int,
    "default_bind": str,
    "default_connect": str,
    "enable_ipv6": bool,
    "hosts": list,
}
_HOST_KEYS = ("host", "bind", "connect", "parent")


class Hosts:
    """What a table says.

    Args:
        names: of the hosts, by rank; none: an instance of one broker.
        entries: what is said of each.
        table: the rest.
    """

    def __init__(self, names: list[str], entries: list[dict[str, str]], table: Mapping[str, Any]) -> None:
        self.names = names
        self._entries = entries
        self.certificate: str | None = table.get("curve_cert")
        self.ipv6: bool = table.get("enable_ipv6", False)
        self._port = table.get("default_port")
        self._bind: str | None = table.get("default_bind")
        self._connect: str | None = table.get("default_connect")

    def rank(self, host: str) -> int | None:
        """The rank of a host; None if it is not there."""
        return self.names.index(host) if host in self.names else None

    def _uri(self, rank: int, key: str, default: str | None) -> str | None:
        text = self._entries[rank].get(key, default)
        return None if text is None else substitute(text, self.names[rank], self._port)

    def bind(self, rank: int) -> str | None:
        """Where a rank listens; None: nobody says."""
        return self._uri(rank, "bind", self._bind)

    def connect(self, rank: int) -> str | None:
        """Where a rank is reached; None: nobody says."""
        return self._uri(rank, "connect", self._connect)

    def parents(self) -> list[int]:
        """The parent of each rank, -1 for rank 0; those of whom nothing is said are children of rank 0."""
        places = {name: rank for rank, name in enumerate(self.names)}
        parents = [places[entry["parent"]] if "parent" in entry else 0 for entry in self._entries]
        return [-1, *parents[1:]]


def substitute(text: str, host: str, port: int | None) -> str:
    """A URI with %h, %p and %% filled in."""
    words = {"h": host, "p": str(port) if port is not None else "%p", "%": "%"}
    result, rest = "", text
    while rest:
        before, percent, rest = rest.partition("%")
        result += before
        if percent:
            result += words.get(rest[:1], f"%{rest[:1]}")
            rest = rest[1:]
    return result


def _check_uri(where: str, key: str, uri: str) -> None:
    scheme, colon, rest = uri.partition("://")
    if not colon:
        raise ValueError(f"{where}: {key} key {uri} has no URI scheme")
    if scheme not in ("tcp", "ipc"):
        raise ValueError(f"{where}: {key} key {uri} URI scheme must be tcp or ipc")
    if scheme == "tcp" and rest.endswith(":*"):
        raise ValueError(f"{where}: {key} key {uri} contains 0MQ port wildcard")


def parse(table: Any) -> Hosts:
    """What a table `[bootstrap]` says. Raises ValueError with the text for the log."""
    if not isinstance(table, dict):
        raise ValueError("expected a table")
    unknown = [key for key in table if key not in _KEYS]
    if unknown:
        raise ValueError(f"{len(unknown)} object item(s) left unpacked: {', '.join(unknown)}")
    for key, kind in _KEYS.items():
        value = table.get(key)
        if value is not None and type(value) is not kind:
            raise ValueError(f"{key}: expected {kind.__name__}, not {type(value).__name__}")
    port = table.get("default_port", 0)
    if not 0 <= port <= 65535:
        raise ValueError("default_port must be in the range of 0-65535")
    for key in ("default_bind", "default_connect"):
        if key in table:
            _check_uri(key, key.removeprefix("default_"), substitute(table[key], "host", port))
    names: list[str] = []
    entries: dict[str, dict[str, str]] = {}
    for number, entry in enumerate(table.get("hosts", [])):
        where = f"invalid hosts[{number}]"
        for name in _names(where, entry):
            if name not in entries:
                names.append(name)
                entries[name] = {}
            for key in _HOST_KEYS[1:]:
                if key in entry:
                    entries[name].setdefault(key, entry[key])
        for key in ("bind", "connect"):
            if key in entry:
                _check_uri(where, key, substitute(entry[key], "host", port))
    for number, entry in enumerate(table.get("hosts", [])):
        parent = entry.get("parent")
        if parent is not None and parent not in entries:
            raise ValueError(f"invalid hosts[{number}]: parent key refers to unknown host")
        if parent is not None and parent in list(Hostlist(entry["host"])):
            raise ValueError(f"invalid hosts[{number}]: parent key refers to self")
    if len(names) > 1 and "curve_cert" not in table:
        raise ValueError("curve_cert must be defined for size > 1")
    return Hosts(names, [entries[name] for name in names], table)


def _names(where: str, entry: Any) -> list[str]:
    """The hosts that an entry is about. Raises ValueError."""
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: expected a table")
    unknown = [key for key in entry if key not in _HOST_KEYS]
    if unknown:
        raise ValueError(f"{where}: {len(unknown)} object item(s) left unpacked: {', '.join(unknown)}")
    if not all(isinstance(value, str) for value in entry.values()):
        raise ValueError(f"{where}: expected strings")
    if "host" not in entry:
        raise ValueError(f"{where}: Object item not found: host")
    try:
        names = list(Hostlist(entry["host"]))
    except ValueError:
        names = []
    if not names:
        raise ValueError(f"{where}: host key is not a valid RFC 29 hostlist")
    return names
