"""`Hostlist.pimpl`: the C functions `hostlist_*` with the list implied, for programs that call them (spec 02, 9.3).

The opaque handle is the list's `Hosts`. Results are as cffi gives them: texts are bytes, a null pointer is None; a
failure is an OSError.
"""

from __future__ import annotations

import errno

from flux.core.arguments import text_bytes
from flux.core.ownerpimpl import OwnerPimpl
from flux.hostlist import codec
from flux.hostlist.hosts import Hosts
from flux.wrapper import local_error


class HostlistPimpl(OwnerPimpl):
    """The functions `hostlist_*`."""

    prefixes = ("hostlist_",)
    attribute = "_hosts"
    handle_type = Hosts
    not_methods = ("create", "decode")

    @property
    def _list(self) -> Hosts:
        hosts: Hosts = self._owner._hosts
        return hosts

    def encode(self) -> bytes:
        """The text of the list."""
        return codec.encode(self._list.runs).encode("utf-8", "surrogateescape")

    def count(self) -> int:
        """The number of hosts."""
        return self._list.count

    def nth(self, n: int) -> bytes:
        """The name at position `n`. Raises OSError ENOENT beyond the end."""
        if not 0 <= n < self._list.count:
            raise local_error(errno.ENOENT)
        return self._list.name(n).encode("utf-8", "surrogateescape")

    def find(self, host: str | bytes) -> int:
        """The position of the first host of this name. Raises OSError ENOENT, or EINVAL for a list expression."""
        at: int = self._owner.find(host)
        return at

    def append(self, hosts: str | bytes) -> int:
        """Appends the hosts of a text; returns how many. Raises OSError EINVAL for a malformed one."""
        return self._list.extend(self._decoded("append", hosts))

    def append_list(self, other: object) -> int:
        """Appends the hosts of another list; returns how many."""
        hosts: Hosts = self.opaque("hostlist_append_list", other)
        return self._list.extend(hosts)

    def delete(self, hosts: str | bytes) -> int:
        """Removes the first of each host in a text; returns how many. Raises OSError EINVAL for a malformed one."""
        return self._list.delete(self._decoded("delete", hosts))

    def sort(self) -> None:
        """Sorts by name."""
        self._list.sort()

    def uniq(self) -> None:
        """Sorts by name and removes duplicates."""
        self._list.unique()

    def copy(self) -> Hosts:
        """A new opaque list."""
        return Hosts(self._list.runs)

    def _decoded(self, function: str, text: str | bytes) -> Hosts:
        raw = text_bytes(f"hostlist_{function}", text)
        runs = None if raw is None else codec.decode(raw.decode("utf-8", "surrogateescape"))
        if runs is None:
            raise local_error(errno.EINVAL)
        return Hosts(runs)
