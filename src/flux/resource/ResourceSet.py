"""ResourceSet: a set of resources as programs see it (spec 07, 8.2)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flux.resource.ResourceSetImplementation import ResourceSetImplementation
from flux.resource.Rv1Set import Rv1Set

if TYPE_CHECKING:
    from flux.hostlist import Hostlist
    from flux.idset import IDset

_VERSIONS: dict[int, Any] = {1: Rv1Set}


class ResourceSet:
    """A set of resources.

    Args:
        arg: R as JSON text or a mapping; an implementation, such as another set's `impl`; None: nothing.
        version: the version of R, where `arg` does not say.
        kwargs: for the implementation: keep_scheduling.

    Operators and methods take other ResourceSets, and whatever can be made into one. Raises ValueError, KeyError,
    TypeError for what is no R.
    """

    def __init__(self, arg: Any = None, version: int = 1, **kwargs: Any) -> None:
        self.impl: Any
        self._state: Any = None
        if isinstance(arg, ResourceSetImplementation):
            self.impl = arg
        else:
            if isinstance(arg, str):
                arg = json.loads(arg)
            if arg is not None:
                if not isinstance(arg, Mapping):
                    raise TypeError(f"ResourceSet cannot be instantiated from {type(arg)}")
                version = arg["version"]
            if version not in _VERSIONS:
                raise ValueError(f"R version {version} not supported")
            self.impl = _VERSIONS[version](arg, **kwargs)
        self.version = self.impl.version

    @staticmethod
    def _impl(arg: Any) -> Any:
        return arg.impl if isinstance(arg, ResourceSet) else ResourceSet(arg).impl

    def __str__(self) -> str:
        return self.dumps()

    def __eq__(self, other: object) -> bool:
        """The same resources, hosts and properties, whatever the times."""
        if not isinstance(other, ResourceSet):
            return NotImplemented
        parts = ("R_lite", "properties", "nodelist")
        mine, others = self.to_dict()["execution"], other.to_dict()["execution"]
        return all(mine.get(part) == others.get(part) for part in parts)

    __hash__ = object.__hash__

    def __and__(self, arg: Any) -> ResourceSet:
        return ResourceSet(self.impl.intersect(self._impl(arg)))

    def __sub__(self, arg: Any) -> ResourceSet:
        return ResourceSet(self.impl.diff(self._impl(arg)))

    def __or__(self, arg: Any) -> ResourceSet:
        return ResourceSet(self.impl.union(self._impl(arg)))

    def dumps(self) -> str:
        """The short text form: ``rank[0-1]/core[0-3],gpu0``."""
        return str(self.impl.dumps())

    def encode(self) -> str:
        """R as JSON."""
        return str(self.impl.encode())

    def to_dict(self) -> dict[str, Any]:
        """R."""
        r: dict[str, Any] = self.impl.to_dict()
        return r

    def count(self, name: str) -> int:
        """How many ``core`` or ``gpu``; 0 for other names."""
        return int(self.impl.count(name))

    def append(self, *args: Any) -> ResourceSet:
        """Takes in other sets, and returns this one."""
        for arg in args:
            self.impl.append(self._impl(arg))
        return self

    def add(self, *args: Any) -> ResourceSet:
        """Takes in other sets, and returns this one."""
        for arg in args:
            self.impl.add(self._impl(arg))
        return self

    def copy(self) -> ResourceSet:
        """A copy, without the number of slots."""
        return ResourceSet(self.impl.copy())

    def union(self, *args: Any) -> ResourceSet:
        """What is in any of them; times are those of this set."""
        return self.copy().add(*args)

    def diff(self, *args: Any) -> ResourceSet:
        """What is in this one only, core by core."""
        result = self.copy()
        for arg in args:
            result = result - arg
        return result

    def intersect(self, *args: Any) -> ResourceSet:
        """What this one has on the ranks that all have."""
        result = self.copy()
        for arg in args:
            result = result & arg
        return result

    def copy_constraint(self, constraint: Any) -> ResourceSet:
        """The ranks that satisfy a constraint (RFC 31): an object or its JSON text. Raises ValueError."""
        return ResourceSet(self.impl.copy_constraint(constraint))

    def set_property(self, name: str, ranks: Any = None) -> ResourceSet:
        """Gives a property to some ranks, None for all, and returns this set. Raises ValueError."""
        self.impl.set_property(name, ranks)
        return self

    def get_properties(self) -> str:
        """Properties and their ranks, as JSON."""
        return str(self.impl.get_properties())

    def remove_ranks(self, ranks: Any) -> ResourceSet:
        """Drops ranks (an idset, a number, or numbers), and returns this set."""
        self.impl.remove_ranks(ranks)
        return self

    def copy_ranks(self, ranks: Any) -> ResourceSet:
        """A copy of some ranks: an idset, a number, or numbers."""
        return ResourceSet(self.impl.copy_ranks(ranks))

    def host_ranks(self, hosts: Any, ignore_nomatch: bool = False) -> list[int]:
        """The ranks on hosts, in the order of these.

        Args:
            hosts: a Hostlist or its text.
            ignore_nomatch: leave out hosts that are not in the set; else FileNotFoundError.
        """
        ranks: list[int] = self.impl.host_ranks(hosts, ignore_nomatch)
        return ranks

    @property
    def nodelist(self) -> Hostlist:
        """The hosts, in the order of ranks."""
        hosts: Hostlist = self.impl.nodelist()
        return hosts

    @property
    def state(self) -> Any:
        """Whatever a caller has put there; lists of resources put the state's name."""
        return self._state

    @state.setter
    def state(self, state: Any) -> None:
        self._state = state

    @property
    def ranks(self) -> IDset:
        """The ranks."""
        ranks: IDset = self.impl.ranks()
        return ranks

    @property
    def nnodes(self) -> int:
        """How many ranks."""
        return int(self.impl.nnodes())

    @property
    def ncores(self) -> int:
        """How many cores."""
        return self.count("core")

    @property
    def ngpus(self) -> int:
        """How many gpus."""
        return self.count("gpu")

    @property
    def rlist(self) -> str:
        """As `dumps`."""
        return self.dumps()

    @property
    def properties(self) -> str:
        """The names of the properties, with commas."""
        return ",".join(json.loads(self.get_properties()))

    @property
    def expiration(self) -> float:
        """When they are to be given back, in seconds since the epoch; 0: never."""
        return float(self.impl.get_expiration())

    @expiration.setter
    def expiration(self, expiration: float) -> None:
        self.impl.set_expiration(expiration)

    @property
    def starttime(self) -> float:
        """Since when they are held, in seconds since the epoch; 0: not said."""
        return float(self.impl.get_starttime())

    @starttime.setter
    def starttime(self, starttime: float) -> None:
        self.impl.set_starttime(starttime)
