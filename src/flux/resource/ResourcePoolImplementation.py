"""What a pool of resources must offer to a scheduler (spec 07, 8.4)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from flux.resource.ResourceSetImplementation import ResourceSetImplementation


class InsufficientResources(OSError):
    """There is not room enough now; later there may be."""


class InfeasibleRequest(OSError):
    """There never will be room enough."""


class ResourcePoolImplementation(ResourceSetImplementation):
    """A set of resources, of which some are down and some are held by jobs.

    Attributes:
        generation: counts changes: a scheduler that has seen this number need not look again.
    """

    generation = 0
    _log: Any = None

    def log(self, level: int, msg: str) -> None:
        """Logs, if the pool was given something to log with."""
        if self._log is not None:
            self._log(level, msg)

    @property
    def name(self) -> str:
        """What messages call this kind of pool."""
        return type(self).__name__

    @property
    def expiration(self) -> float:
        """When the instance loses its resources, seconds since the epoch; 0: never."""
        return self.get_expiration()

    @expiration.setter
    def expiration(self, value: float) -> None:
        self.generation += 1
        self.set_expiration(value)

    @abstractmethod
    def mark_up(self, ids: str) -> None:
        """Ranks, an idset or "all", may be used."""

    @abstractmethod
    def mark_down(self, ids: str) -> None:
        """Ranks, an idset or "all", may not be used."""

    @abstractmethod
    def copy_down(self) -> Any:
        """The set of what may not be used."""

    @abstractmethod
    def register_alloc(self, jobid: int, R: Any) -> None:
        """A job has resources already. Raises ValueError if it cannot have them."""

    @abstractmethod
    def free(self, jobid: int, R: Any = None, final: bool = False) -> None:
        """A job gives back R, or all it has. Raises ValueError if that is not what it has."""

    @abstractmethod
    def update_expiration(self, jobid: int, expiration: float) -> None:
        """A job will end at another time, seconds since the epoch; 0: it has no end."""

    @abstractmethod
    def job_end_times(self) -> list[tuple[int, float]]:
        """The jobs that have an end, and when that is."""

    @abstractmethod
    def parse_resource_request(self, jobspec: Any) -> Any:
        """What a jobspec asks for. Raises ValueError for what makes no sense."""

    @abstractmethod
    def alloc(self, jobid: int, request: Any) -> Any:
        """Gives resources to a job. Raises InsufficientResources or InfeasibleRequest."""

    @abstractmethod
    def check_feasibility(self, request: Any) -> None:
        """Raises InfeasibleRequest if a request could never be served."""

    @abstractmethod
    def copy(self) -> Any:
        """A copy, to try things out with."""

    @abstractmethod
    def copy_allocated(self) -> Any:
        """The set of what jobs hold."""

    @abstractmethod
    def to_set(self) -> Any:
        """The set of all resources."""
