"""What a JobInfo is made of: annotations, dependencies, the exception, the job's own instance (spec 08, 3.3).

What is not known is not an error in a listing: it is an `EmptyObject`, which prints as nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from flux.core.handle import Flux
from flux.job.stats import JobStats

if TYPE_CHECKING:
    from flux.uri import JobURI


class EmptyObject:
    """Nothing, of which any attribute is nothing, too."""

    def __getattr__(self, attr: str) -> Self:
        if attr.startswith("__"):
            raise AttributeError(attr)
        return self

    def __repr__(self) -> str:
        return ""

    def __str__(self) -> str:
        return ""

    def __format__(self, spec: str) -> str:
        from flux.util.formatter import text_spec

        return format("", text_spec(spec))


class AnnotationsInfo:
    """Annotations as attributes: ``annotations.sched.resource_summary``.

    Attributes:
        annotationsDict: the annotations as they are.
    """

    def __init__(self, annotationsDict: Mapping[str, Any]) -> None:
        self.annotationsDict = dict(annotationsDict)

    def __getattr__(self, attr: str) -> Any:
        if attr.startswith("__") or attr == "annotationsDict":
            raise AttributeError(attr)
        value = self.annotationsDict.get(attr)
        if value is None:
            return EmptyObject()
        return AnnotationsInfo(value) if isinstance(value, dict) else value

    def __repr__(self) -> str:
        return json.dumps(self.annotationsDict) if self.annotationsDict else ""

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)


class InfoList(list[Any]):
    """A list whose text is its elements, with commas between them."""

    def __str__(self) -> str:
        return ",".join(map(str, self))

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


class DependencyList(InfoList):
    """Dependencies as people read them: the time of ``begin-time=N`` is shown as one."""

    def __init__(self, items: Iterable[str]) -> None:
        super().__init__([_begin(item) if item.startswith("begin-time=") else item for item in items])


def _begin(item: str) -> str:
    try:
        when = time.localtime(float(item.partition("=")[2]))
    except (ValueError, OverflowError):
        return item
    day = "" if when[:3] == time.localtime()[:3] else time.strftime("%b%d-", when)
    return f"begin@{day}{time.strftime('%H:%M:%S' if when.tm_sec else '%H:%M', when)}"


class ExceptionInfo:
    """A job's exception: whether one `occurred`, and its `severity`, `type` and `note`, ``""`` where unknown."""

    def __init__(self, occurred: Any, severity: Any, _type: Any, note: Any) -> None:
        self.occurred = occurred
        self.severity = severity
        self.type = _type
        self.note = note


class StatsInfo(JobStats):
    """The statistics of an instance, whose text is ``PD:2 R:1 CD:17 F:0``."""

    def __init__(self, handle: Flux | None = None) -> None:
        super().__init__(handle)  # type: ignore[arg-type]  # none: they are never asked for

    def __repr__(self) -> str:
        if self.total < 0:  # not known
            return ""
        return f"PD:{self.pending} R:{self.running} CD:{self.successful} F:{self.failed}"

    def __format__(self, fmt: str) -> str:
        return format(repr(self), fmt)


class InstanceInfo:
    """The instance that a job is.

    Args:
        uri: where it is; None: nowhere.

    Attributes:
        stats: StatsInfo.
        resources: SchedResourceList.

    What cannot be found out, as the instance has ended, say, is an EmptyObject.
    """

    def __init__(self, uri: JobURI | str | None = None) -> None:
        if not uri:
            return
        try:
            with Flux(_reachable(uri)) as handle:
                self._look(handle)
        except (OSError, ValueError):
            return

    def _look(self, handle: Flux) -> None:
        from flux.resource.list import resource_list

        stats = StatsInfo(handle).update_sync()
        resources = resource_list(handle).get()
        self.stats, self.resources = stats, resources

    def __getattr__(self, attr: str) -> Any:
        if attr.startswith("__"):
            raise AttributeError(attr)
        return EmptyObject()

    @property
    def utilization(self) -> float | str:
        """The part of the cores that is in use; "" if that is not known."""
        return _part(self.resources.allocated.ncores, self.resources.all.ncores)

    @property
    def gpu_utilization(self) -> float | str:
        """The part of the GPUs that is in use; "" if that is not known, or there are none."""
        return _part(self.resources.allocated.ngpus, self.resources.all.ngpus)

    @property
    def progress(self) -> float | str:
        """The part of the jobs that is done; "" if that is not known, or there are none."""
        return _part(self.stats.inactive, self.stats.total)


def _part(count: Any, total: Any) -> float | str:
    if isinstance(total, EmptyObject) or not total:
        return ""
    return float(count / total)


def _reachable(uri: JobURI | str) -> str:
    """A URI to connect to: no ssh to this very host, where the socket is."""
    from flux.uri import JobURI

    return (JobURI(uri) if isinstance(uri, str) else uri).nearest
