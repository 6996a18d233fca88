"""flux queue list (spec 08, 11.2)."""

from __future__ import annotations

import os
from typing import Any

from flux.core.handle import Flux
from flux.queue import QueueInfo, QueueLimits, QueueList, QueueResourceCounts
from flux.util import AltField, OutputFormat, UtilConfig

_START = (
    "?:{queuem:<8.8} ?:{parent:<8.8} {color_enabled}{enabled:>2}{color_off} {color_started}{started:>2}{color_off} "
)
_TIMES = "{defaults.timelimit!F:>8} {limits.timelimit!F:>8} "

FORMATS = {
    "default": {
        "description": "Default flux-queue list format string",
        "format": (
            f"{_START}{_TIMES}{{limits.range.effective.nnodes:>10}} "
            "{limits.range.effective.ncores:>10} {limits.range.effective.ngpus:>10}"
        ),
    },
    "policy": {
        "description": "flux-queue list with policy limits only",
        "format": f"{_START}{_TIMES}{{limits.range.nnodes:>10}} {{limits.range.ncores:>10}} {{limits.range.ngpus:>10}}",
    },
    "nodes": {
        "description": "Show queue status plus all/up/allocated/free nodes",
        "format": (
            f"{_START}{{resources.all.nnodes:>6}} {{resources.up.nnodes:>10}} {{resources.down.nnodes:>10}} "
            "{resources.allocated.nnodes:>11} {resources.free.nnodes:>10}"
        ),
    },
}

_COUNTS = ("nnodes", "ncores", "ngpus")
_NAMES = {"nnodes": "NODES", "ncores": "CORES", "ngpus": "GPUS"}
_SUFFIXES = {"all": "", "free": ":FREE", "allocated": ":ALLOC", "up": ":UP", "down": ":DOWN"}

HEADINGS = {
    "queue": "QUEUE",
    "queuem": "QUEUE",
    "parent": "PARENT",
    "submission": "SUBMIT",
    "scheduling": "SCHED",
    **dict.fromkeys(("enabled", "enabled.ascii"), "EN"),
    **dict.fromkeys(("started", "started.ascii"), "ST"),
    **dict.fromkeys(("color_enabled", "color_started", "color_off"), ""),
    "defaults.timelimit": "TDEFAULT",
    "limits.timelimit": "TLIMIT",
    **{f"limits.range.{count}": count.upper() for count in _COUNTS},
    **{f"limits.range.effective.{count}": count.upper() for count in _COUNTS},
    **{f"limits.{side}.{count}": f"{side.upper()}{count[1:].upper()}" for side in ("min", "max") for count in _COUNTS},
    **{
        f"resources.{which}.{count}": f"{_NAMES[count]}{suffix}"
        for which, suffix in _SUFFIXES.items()
        for count in _COUNTS
    },
}
HEADINGS |= {f"limits.{side}.nnodes": f"{side.upper()}NODES" for side in ("min", "max")}

_YES, _NO, _PAUSED, _OFF = "\033[01;32m", "\033[01;31m", "\033[01;33m", "\033[0;0m"


class QueueConfig(UtilConfig):
    """The configuration of the command."""

    builtin_formats = FORMATS

    def __init__(self) -> None:
        super().__init__("flux-queue", subcommand="list", initial_dict={"list": {"formats": dict(FORMATS)}})

    def validate(self, path: str | os.PathLike[str], conf: Any) -> None:
        """As of UtilConfig."""
        for table, keys in conf.items():
            if table != "list":
                raise ValueError(f"{path}: invalid key {table}")
            for key, value in keys.items():
                if key != "formats":
                    raise ValueError(f"{path}: invalid key {table}.{key}")
                self.validate_formats(path, value)


def _number(count: float) -> str:
    return "inf" if count == float("inf") else str(int(count))


class _Range:
    """``MIN-MAX`` of each count; `effective` is what that comes to in what there is."""

    effective: _Range

    def __init__(self, low: QueueResourceCounts, high: QueueResourceCounts, total: Any = None) -> None:
        for name in _COUNTS:
            most = getattr(high, name)
            if total is not None:
                most = min(most, getattr(total, name))
            setattr(self, name, f"{_number(getattr(low, name))}-{_number(most)}")


class _Limits:
    """The limits as they are shown."""

    def __init__(self, limits: QueueLimits, total: Any) -> None:
        self.timelimit = limits.timelimit
        self.min, self.max = limits.min, limits.max
        self.range = _Range(limits.min, limits.max)
        self.range.effective = _Range(limits.min, limits.max, total)


class _Line:
    """A queue as it is shown."""

    def __init__(self, queue: QueueInfo, color: bool) -> None:
        paused = not queue.started and queue.blocked == "parent"
        self.queue = queue.name
        self.queuem = f"{queue.name}*" if queue.is_default else queue.name
        self.parent = queue.parent
        self.submission = "enabled" if queue.enabled else "disabled"
        self.scheduling = "started" if queue.started else "stopped (parent)" if paused else "stopped"
        self.enabled = AltField("✔", "y") if queue.enabled else AltField("✗", "n")
        self.started = AltField("✔", "y") if queue.started else AltField("⏸", "p") if paused else AltField("✗", "n")
        self.color_enabled = (_YES if queue.enabled else _NO) if color else ""
        self.color_started = (_YES if queue.started else _PAUSED if paused else _NO) if color else ""
        self.color_off = _OFF if color else ""
        self.defaults = queue.defaults
        self.limits = _Limits(queue.limits, queue.resources.all)
        self.resources = queue.resources


class QueueFormat(OutputFormat):
    """A format of queues."""

    headings = HEADINGS


def list_command(args: Any) -> None:
    """Prints the queues."""
    table = QueueFormat(QueueConfig().load().get_format_string(args.format))
    with Flux() as handle:
        queues = QueueList(handle, sorted(args.queue) or None)
        table.print_items([_Line(queue, args.color.enabled) for queue in queues], no_header=args.no_header)
