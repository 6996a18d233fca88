"""The tables [policy] and [queues] of the configuration: defaults, limits, queues (RFC 33; spec 06, section 10). Pure.

`read` is what the job manager and job-ingest both ask; what will not do is a ValueError with the reference's text.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from flux.util.durations import parse_fsd
from fluxlet.config_table import read_named_table

_SIZES = ("nnodes", "ncores", "ngpus")
_BAD_IN_PROPERTY = frozenset(" \t!&'\"`|()")


class Sizes(msgspec.Struct):
    """Bounds of a job's size; None: not set, -1: none."""

    nnodes: int | None = None
    ncores: int | None = None
    ngpus: int | None = None


class Policy(msgspec.Struct):
    """A [policy] table: of all queues, or of one. `duration` (seconds) None: not set, 0: unlimited."""

    defaults: dict[str, Any] = {}
    duration: float | None = None
    most: Sizes = msgspec.field(default_factory=Sizes)
    least: Sizes = msgspec.field(default_factory=Sizes)


class QueueConfig(msgspec.Struct):
    """A [queues.NAME] table."""

    name: str
    requires: list[str] = []
    parent: str | None = None
    policy: Policy = msgspec.field(default_factory=Policy)


class Settings(msgspec.Struct):
    """[policy] and [queues]. `queues` None: there is only the anonymous one."""

    policy: Policy
    queues: dict[str, QueueConfig] | None
    limits_sizes: bool = False
    limits_durations: bool = False

    def lineage(self, name: str | None) -> list[Policy]:
        """The policies that a job in a queue is under, the nearest first."""
        found = []
        while name is not None and self.queues and name in self.queues:
            found.append(self.queues[name].policy)
            name = self.queues[name].parent
        return [*found, self.policy]

    def duration_limit(self, name: str | None) -> float:
        """The longest duration in a queue, in seconds; 0: unlimited."""
        return next((p.duration for p in self.lineage(name) if p.duration is not None), 0.0)

    def size_limit(self, name: str | None, bound: str, size: str) -> int | None:
        """A bound (`most` or `least`) of a size (nnodes, ncores, ngpus) in a queue; None: there is none."""
        for policy in self.lineage(name):
            value: int | None = getattr(getattr(policy, bound), size)
            if value is not None:
                return None if value == -1 else value
        return None

    def _limits(self) -> tuple[bool, bool]:
        """Whether any queue bounds sizes, and whether any bounds the duration."""
        policies = [self.policy, *(queue.policy for queue in (self.queues or {}).values())]
        sizes = any(
            getattr(bound, size) is not None for p in policies for bound in (p.most, p.least) for size in _SIZES
        )
        return sizes, any(p.duration is not None for p in policies)

    def __post_init__(self) -> None:
        # Looked at for every submission.
        self.limits_sizes, self.limits_durations = self._limits()


def read(config: dict[str, Any]) -> Settings:
    """Reads the configuration. Raises ValueError."""
    policy = _policy(config.get("policy", {}), "policy")
    queues = _queues(config["queues"]) if "queues" in config else None
    default = policy.defaults.get("queue")
    if default is not None and default not in (queues or {}):
        raise ValueError(f"the [policy] config table defines a default queue {default} that is not in [queues] table")
    return Settings(policy, queues)


def _policy(table: Any, name: str) -> Policy:
    types: dict[str, type] = {"jobspec": dict, "limits": dict, "access": dict, "scheduler": object}
    values = read_named_table(table, types, name, strict=True)
    policy = Policy()
    if "jobspec" in values:
        policy.defaults = _defaults(values["jobspec"])
    if "limits" in values:
        _read_limits(values["limits"], policy)
    if "access" in values:
        _access(values["access"])
    return policy


def _defaults(table: dict[str, Any]) -> dict[str, Any]:
    system = read_named_table(table.get("defaults", {}), {"system": dict}, "policy.jobspec").get("system", {})
    found = dict(system)
    where = "error parsing [policy.jobspec] config table:"
    duration = system.get("duration")
    if duration is not None:
        try:
            found["duration"] = float(parse_fsd(duration) if isinstance(duration, str) else duration)
        except (ValueError, TypeError):
            raise ValueError(f"{where} 'defaults.system.duration' is not a valid FSD") from None
    if not isinstance(system.get("queue", ""), str):
        raise ValueError(f"{where} 'defaults.system.queue' must be a string")
    return found


def _read_limits(table: dict[str, Any], policy: Policy) -> None:
    values = read_named_table(table, {"duration": object, "job-size": dict}, "policy.limits", strict=True)
    if "duration" in values:
        duration = values["duration"]
        try:
            seconds = parse_fsd(duration) if isinstance(duration, str) else float(duration)
        except (ValueError, TypeError):
            raise ValueError("error parsing [policy.limits] config table: 'duration' is not a valid FSD") from None
        policy.duration = 0.0 if math.isinf(seconds) else seconds
    sizes = read_named_table(
        values.get("job-size", {}), {"max": dict, "min": dict}, "policy.limits.job-size", strict=True
    )
    for key, target in (("max", policy.most), ("min", policy.least)):
        name = f"policy.limits.{key}"
        for size, value in read_named_table(sizes.get(key, {}), dict.fromkeys(_SIZES, int), name, strict=True).items():
            if value < -1:
                raise ValueError(f"error parsing [{name}] config table: values must be >= -1")
            setattr(target, size, value)


def _access(table: dict[str, Any]) -> None:
    for key in ("allow-user", "allow-group"):
        names = table.get(key, [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"error parsing [policy.access] config table: '{key}' must be a string array")


def _queues(table: Any) -> dict[str, QueueConfig]:
    if not isinstance(table, dict):
        raise ValueError("error parsing [queues] config table: not a table")
    queues = {name: _queue(name, value) for name, value in table.items()}
    for queue in queues.values():
        _check_parent(queue, queues, table)
    return queues


def _queue(name: str, table: Any) -> QueueConfig:
    where = f"error parsing [queues.{name}] config table:"
    types: dict[str, type] = {"requires": object, "policy": dict, "parent": str}
    values = read_named_table(table, types, f"queues.{name}", strict=True)
    requires = values.get("requires", [])
    if not isinstance(requires, list) or not all(_is_property(item) for item in requires):
        raise ValueError(f"{where} 'requires' must be an array of property strings (RFC 20)")
    try:
        policy = _policy(values.get("policy", {}), "policy")
    except ValueError as exc:
        raise ValueError(f"{where} {exc}") from None
    if "queue" in policy.defaults:
        raise ValueError(f"{where} 'policy' must not define a default queue!")
    return QueueConfig(name, requires, values.get("parent"), policy)


def _is_property(item: Any) -> bool:
    return isinstance(item, str) and bool(item) and not _BAD_IN_PROPERTY & set(item)


def _check_parent(queue: QueueConfig, queues: dict[str, QueueConfig], table: dict[str, Any]) -> None:
    if queue.parent is None:
        return
    where = f"error parsing [queues.{queue.name}] config table:"
    if queue.parent == queue.name:
        raise ValueError(f"{where} parent queue is itself")
    parent = queues.get(queue.parent)
    if parent is None:
        raise ValueError(f"{where} parent queue '{queue.parent}' is not configured")
    if parent.parent is not None:
        raise ValueError(f"{where} parent queue '{queue.parent}' is itself a virtual queue")
    if queue.requires:
        raise ValueError(f"{where} a virtual queue must not set 'requires'")
    if "scheduler" in table[queue.name].get("policy", {}):
        raise ValueError(f"{where} a virtual queue must not set 'policy.scheduler'")
