"""What a scheduler is asked, and its arguments (RFC 27; spec 07, 3.1 and 3.2)."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any

import msgspec

from flux.brokermod import BrokerLogger
from flux.resource._pool import BEST, FIRST, WORST
from fluxlet.modules.sched.planner import BACKFILL, FIFO


class System(msgspec.Struct):
    """What of a jobspec's attributes.system matters here."""

    duration: Any = 0
    constraints: msgspec.Raw = msgspec.Raw(b"null")


class Attributes(msgspec.Struct):
    """A jobspec's attributes."""

    system: System = msgspec.field(default_factory=System)


class JobspecPart(msgspec.Struct):
    """What of a jobspec matters here."""

    resources: msgspec.Raw = msgspec.Raw(b"null")
    attributes: Attributes = msgspec.field(default_factory=Attributes)


class AllocRequest(msgspec.Struct):
    """Payload of sched.alloc."""

    id: int
    priority: int
    userid: int
    t_submit: float
    jobspec: msgspec.Raw


class Children(msgspec.Struct):
    """Cores and gpus of the ranks of a group: idsets."""

    core: str = ""
    gpu: str = ""


class Group(msgspec.Struct):
    """Ranks, an idset, that have the same."""

    rank: str
    children: Children


class Execution(msgspec.Struct):
    """What of R matters when it is given back, or found again."""

    R_lite: list[Group]
    expiration: float = 0.0


class HeldR(msgspec.Struct):
    """R."""

    execution: Execution


class FreeRequest(msgspec.Struct):
    """Payload of sched.free: a job gives back R, the last of what it has if `final`."""

    id: int
    R: HeldR
    final: bool = False


class CancelRequest(msgspec.Struct):
    """Payload of sched.cancel."""

    id: int


class PrioritizeRequest(msgspec.Struct):
    """Payload of sched.prioritize: ids and priorities."""

    jobs: list[tuple[int, int]]


class ExpirationRequest(msgspec.Struct):
    """Payload of sched.expiration: a job is to end at another time, seconds since the epoch."""

    id: int
    expiration: float


class FeasibilityRequest(msgspec.Struct):
    """Payload of feasibility.check."""

    jobspec: msgspec.Raw = msgspec.Raw(b"null")


class HelloResponse(msgspec.Struct):
    """Payload of a job-manager.sched-hello response: a job that has resources, but for those of ranks `free`."""

    id: int
    priority: int
    userid: int
    t_submit: float
    free: str = ""


class Options:
    """The arguments of a scheduler.

    Args:
        args: words.
        policy: FIFO or BACKFILL, unless an argument says something else.
        limit: how many jobs the job manager is to show us at a time; None: all.

    Raises OSError(EINVAL) for an argument that is none.
    """

    def __init__(self, args: Sequence[str], policy: str, limit: int | None) -> None:
        self.policy = policy
        self.limit = limit
        self.placement = WORST
        self.log_level: int | str = "debug"
        self.partial_ok = True
        for arg in args:
            key, _, value = arg.partition("=")
            if key == "queue-depth":
                self.limit = self._depth(arg, value)
            elif key == "mode" and value == "unlimited":
                self.limit = None
            elif key == "mode" and value.startswith("limited="):
                self.limit = self._depth(arg, value.removeprefix("limited="))
            elif key == "log-level" and (value in BrokerLogger.LEVEL_NAMES or value.isdecimal()):
                self.log_level = value if value in BrokerLogger.LEVEL_NAMES else int(value)
            elif key == "placement" and value in (WORST, BEST, FIRST):
                self.placement = value
            elif key == "policy" and value in (FIFO, BACKFILL):
                self.policy = value
            elif arg == "test-hello-nopartial":
                self.partial_ok = False
            elif key == "pool-class":
                raise OSError(
                    errno.EINVAL,
                    f"{arg}: the built-in schedulers have a pool of their own: see placement, or derive a scheduler "
                    "from flux.scheduler.Scheduler",
                )
            else:
                raise OSError(
                    errno.EINVAL,
                    f"unknown argument '{arg}': built-in options are queue-depth, log-level, placement, policy",
                )

    @staticmethod
    def _depth(arg: str, text: str) -> int | None:
        if text == "unlimited":
            return None
        if not text.isdecimal() or int(text) < 1:
            raise OSError(errno.EINVAL, f"{arg}: not a number of jobs, or unlimited")
        return int(text)

    def ready(self) -> dict[str, Any]:
        """The payload of job-manager.sched-ready."""
        return {"mode": "unlimited"} if self.limit is None else {"mode": "limited", "limit": self.limit}
