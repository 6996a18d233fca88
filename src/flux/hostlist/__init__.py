"""Lists of host names (RFC 29; spec 02, section 14.2).

    hosts = Hostlist("foo[0-3],bar")
    hosts.append("foo[4-5]"); str(hosts)        'foo[0-3],bar,foo[4-5]'

Rules:

- Order counts and duplicates stay, until `sort` or `uniq` is called.
- ``foo1`` and ``foo01`` are different hosts: padding is part of a name.
- Memory and time go by the number of runs of consecutive hosts (`flux.hostlist.runs`).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Self, TypeAlias, overload

from flux.hostlist import codec
from flux.hostlist.hosts import Hosts
from flux.hostlist.runs import Run, join
from flux.wrapper import InvalidArguments, WrapperPimpl, local_error

if TYPE_CHECKING:
    from flux.hostlist.pimpl import HostlistPimpl

    #: What stands for a list of hosts.
    HostsArg: TypeAlias = "Hostlist | str | Iterable[str]"

__all__ = ["Hostlist", "HostlistIterator", "decode"]


class Hostlist(WrapperPimpl):
    """An ordered list of host names.

    Args:
        arg: text as RFC 29 defines it (``"foo[0-3],bar"``), or an iterable of such texts.
        handle: the `handle` of another Hostlist, to share its hosts; `arg` is then ignored.

    Raises ValueError if `arg` is no host list, TypeError if it is of a kind that cannot be one. Equality and hash are
    by identity: compare ``str(hosts)``.
    """

    _hosts: Hosts

    def __init__(self, arg: HostsArg = "", handle: Any = None) -> None:
        super().__init__()
        if handle is None:
            self._hosts = _parse(arg)
        else:
            self.handle = handle

    def __getattr__(self, name: str) -> Any:
        # Only reached for what is not there: `_hosts` goes when the list is closed (`with Hostlist() as hosts`).
        from flux.core.ownerpimpl import closed

        raise closed(self, name, "_hosts")

    @property
    def pimpl(self) -> HostlistPimpl:
        """The C functions `hostlist_*` with this list implied (spec 02, 9.3)."""
        from flux.hostlist.pimpl import HostlistPimpl

        return HostlistPimpl(self)

    def __reduce__(self) -> tuple[Callable[..., Hostlist], tuple[type[Hostlist], list[Run]]]:
        # For pickle and copy. Not by way of the text form: a name may contain what would be taken for brackets.
        return _made, (type(self), self._hosts.runs)

    # Text

    def encode(self) -> str:
        """The list as text."""
        return codec.encode(self._hosts.runs)

    def __str__(self) -> str:
        return self.encode()

    def __repr__(self) -> str:
        return f"Hostlist('{self.encode()}')"

    # Queries

    def __len__(self) -> int:
        return self._hosts.count

    def count(self) -> int:
        """The number of hosts."""
        return self._hosts.count

    def __iter__(self) -> HostlistIterator:
        return HostlistIterator(self)

    def expand(self) -> list[str]:
        """All names, in order."""
        return list(self._hosts.names())

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice | Iterable[int]) -> Hostlist: ...

    def __getitem__(self, index: int | slice | Iterable[int]) -> str | Hostlist:
        """The name at a position (negative: from the end), or a new Hostlist of several.

        Raises IndexError out of range, TypeError for what is no position.
        """
        if isinstance(index, int):
            return self._hosts.name(self._position(index))
        if isinstance(index, slice):
            return _made(Hostlist, self._hosts.pick(range(self._hosts.count)[index]))
        if not isinstance(index, Iterable) or isinstance(index, (str, bytes)):
            raise TypeError(f"Hostlist indices must be integers, slices or iterables of integers, not {type(index)}")
        return _made(Hostlist, self._hosts.pick([self._position(each) for each in index]))

    def _position(self, index: int) -> int:
        if not isinstance(index, int):
            raise TypeError(f"Hostlist indices must be integers, not {type(index)}")
        count = self._hosts.count
        if not -count <= index < count:
            raise IndexError("Hostlist index out of range")
        return index % count

    def __contains__(self, name: object) -> bool:
        """Is there a host of exactly this name (str or bytes)? Raises OSError EINVAL if `name` is a list expression."""
        if not isinstance(name, (str, bytes)):
            return False
        text = _text(name)
        if self._hosts.find(text) is not None:
            return True
        if not codec.is_single(text):
            raise local_error(errno.EINVAL)
        return False

    def find(self, host: str | bytes) -> int:
        """The position of the first host of this name.

        Raises FileNotFoundError if there is none, OSError EINVAL if `host` is None or a list expression,
        InvalidArguments if it is no text.
        """
        if host is None:
            raise local_error(errno.EINVAL)
        if not isinstance(host, (str, bytes)):
            raise InvalidArguments("hostlist_find", "hostlist_find(hostlist, const char *)", (host,))
        text = _text(host)
        at = self._hosts.find(text)
        if at is None:
            raise local_error(errno.ENOENT if codec.is_single(text) else errno.EINVAL)
        return at

    def index(self, hosts: HostsArg, ignore_nomatch: bool = False) -> list[int]:
        """The position of the first host of each name in `hosts`, in the order of `hosts`.

        Raises FileNotFoundError naming those that are not there, unless `ignore_nomatch` is set: they are left out.
        """
        wanted = hosts if isinstance(hosts, Hostlist) else Hostlist(hosts)
        found = self._hosts.find_all(wanted._hosts)
        missing = [] if ignore_nomatch else [at for at, position in enumerate(found) if position is None]
        if missing:
            noun = "hosts" if len(missing) > 1 else "host"
            raise FileNotFoundError(f"{noun} '{wanted[missing]}' not found")
        return [position for position in found if position is not None]

    # Changes

    def append(self, *args: HostsArg) -> int:
        """Appends the hosts of each argument, which is anything the constructor takes; returns how many.

        Raises as the constructor does; then nothing has been appended.
        """
        return sum([self._hosts.extend(hosts) for hosts in [_parse(arg) for arg in args]])

    def delete(self, hosts: HostsArg) -> int:
        """Removes, for each host in `hosts`, the first of its name; returns how many.

        Raises OSError EINVAL if `hosts` is malformed.
        """
        try:
            unwanted = _parse(hosts)
        except ValueError as exc:
            raise local_error(errno.EINVAL) from exc
        return self._hosts.delete(unwanted)

    def sort(self) -> Self:
        """Sorts in place: by prefix, names without number first, then by number; duplicates stay. Returns self."""
        self._hosts.sort()
        return self

    def uniq(self) -> Self:
        """Sorts in place and removes duplicates. Returns self."""
        self._hosts.unique()
        return self

    def copy(self) -> Hostlist:
        """An independent list of the same hosts."""
        return Hostlist(self)


class HostlistIterator:
    """Iterates over the names of a list as it was at the start."""

    def __init__(self, hostlist: Hostlist) -> None:
        self._names = hostlist._hosts.names()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._names)


def decode(arg: HostsArg) -> Hostlist:
    """The Hostlist of `arg`, which is anything the constructor takes."""
    return Hostlist(arg)


def _made(cls: type[Hostlist], runs: list[Run]) -> Hostlist:
    hostlist = cls()
    hostlist._hosts = Hosts(runs)
    return hostlist


def _text(name: str | bytes) -> str:
    return name if isinstance(name, str) else name.decode("utf-8", "surrogateescape")


def _decoded(text: str) -> list[Run]:
    runs = codec.decode(text)
    if runs is None:
        raise ValueError(f"Invalid hostlist: '{text}'")
    return runs


def _parse(arg: HostsArg) -> Hosts:
    """The hosts that `arg` stands for, not shared with it."""
    if isinstance(arg, Hostlist):
        return Hosts(arg._hosts.runs)
    if isinstance(arg, str):
        return Hosts(_decoded(arg))
    if not isinstance(arg, Iterable):
        raise TypeError(f"Hostlist(): expected string or Iterable, got {type(arg)}")
    runs: list[Run] = []
    for text in arg:
        if not isinstance(text, str):
            raise TypeError(f"Hostlist(): expected an Iterable of strings, got one with {type(text)}")
        for run in _decoded(text):
            join(runs, run)
    return Hosts(runs)
