"""What a version of R must offer to be the implementation of a ResourceSet (spec 07, 8.2)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flux.hostlist import Hostlist
    from flux.idset import IDset


class ResourceSetImplementation(ABC):
    """One version of R. What takes another set takes one of the same class."""

    @abstractmethod
    def dumps(self) -> str:
        """The short text form: ``rank[0-1]/core[0-3],gpu0``."""

    @abstractmethod
    def encode(self) -> str:
        """R as JSON."""

    @abstractmethod
    def nodelist(self) -> Hostlist:
        """The hosts, in the order of ranks."""

    @abstractmethod
    def ranks(self) -> IDset:
        """The ranks."""

    @abstractmethod
    def get_properties(self) -> str:
        """Properties and their ranks, as JSON."""

    @abstractmethod
    def nnodes(self) -> int:
        """How many ranks."""

    @abstractmethod
    def count(self, name: str) -> int:
        """How many ``core`` or ``gpu``."""

    @abstractmethod
    def copy(self) -> Any:
        """A copy."""

    @abstractmethod
    def copy_ranks(self, ranks: Any) -> Any:
        """A copy of some ranks."""

    @abstractmethod
    def union(self, rset: Any) -> Any:
        """What is in either."""

    @abstractmethod
    def intersect(self, rset: Any) -> Any:
        """What is on the ranks of both."""

    @abstractmethod
    def diff(self, rset: Any) -> Any:
        """What is not in the other."""

    @abstractmethod
    def append(self, rset: Any) -> None:
        """Takes in another set."""

    @abstractmethod
    def add(self, rset: Any) -> None:
        """Takes in another set."""

    @abstractmethod
    def remove_ranks(self, ranks: Any) -> None:
        """Drops ranks."""

    @abstractmethod
    def get_expiration(self) -> float:
        """Seconds since the epoch; 0: none."""

    @abstractmethod
    def set_expiration(self, expiration: float) -> None:
        """Sets that."""

    @abstractmethod
    def get_starttime(self) -> float:
        """Seconds since the epoch; 0: none."""

    @abstractmethod
    def set_starttime(self, starttime: float) -> None:
        """Sets that."""
