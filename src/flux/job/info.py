"""JobInfo: a job as listings show it (spec 08, 3.3), and the formats of such listings (9.2)."""

from __future__ import annotations

import copy
import os
import pwd
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

from flux.constants import FLUX_JOB_STATE_DEPEND, FLUX_JOB_STATE_PRIORITY, FLUX_JOB_STATE_RUN, FLUX_JOB_STATE_SCHED
from flux.core.signal_text import signal_text
from flux.job._infofields import HEADINGS, attributes_of, heading_of
from flux.job._infoparts import (
    AnnotationsInfo,
    DependencyList,
    EmptyObject,
    ExceptionInfo,
    InfoList,
    InstanceInfo,
    StatsInfo,
)
from flux.job._names import (
    INACTIVE,
    PENDING,
    resulttoemoji,
    resulttostr,
    statetoemoji,
    statetostr,
    statustoemoji,
    statustostr,
)
from flux.job.JobID import JobID
from flux.util import OutputFormat, UtilFormatter, fsd

if TYPE_CHECKING:
    from flux.uri import JobURI

__all__ = [
    "AnnotationsInfo",
    "DependencyList",
    "EmptyObject",
    "ExceptionInfo",
    "InfoList",
    "InstanceInfo",
    "JobInfo",
    "JobInfoFormat",
    "StatsInfo",
    "get_username",
    "job_fields_to_attrs",
    "resulttoemoji",
    "resulttostr",
    "statetoemoji",
    "statetostr",
    "statustoemoji",
    "statustostr",
]

#: Exit codes of shells that have a meaning.
_EXIT_CODES = {
    126: "Command invoked cannot execute",
    127: "command not found",
    128: "Invalid argument to exit",
}


@lru_cache(maxsize=1024)
def get_username(userid: int) -> str:
    """The name of a user; the number, if there is no such user here."""
    try:
        return pwd.getpwuid(userid).pw_name
    except (KeyError, OverflowError):
        return str(userid)


class JobInfo:
    """A job.

    Args:
        info_resp: the job as job-list describes it, or as `flux.job.JobResultFuture.get_dict` does.

    What was not asked for, or is not known, has a default, in `defaults`; `userid`, `urgency`, `t_submit` and `state`
    have none. Any other attribute is AttributeError. What is computed is computed once.
    """

    defaults: Mapping[str, Any] = {
        "t_depend": 0.0,
        "t_priority": 0.0,
        "t_sched": 0.0,
        "t_run": 0.0,
        "t_cleanup": 0.0,
        "t_inactive": 0.0,
        "duration": 0.0,
        "expiration": 0.0,
        "name": "",
        "cwd": "",
        "queue": "",
        "project": "",
        "bank": "",
        "ntasks": "",
        "ncores": "",
        "nnodes": "",
        "priority": "",
        "ranks": "",
        "nodelist": "",
        "success": "",
        "result": "",
        "waitstatus": "",
    }

    #: Those attributes that are computed.
    properties = (
        "uri",
        "t_remaining",
        "state",
        "state_single",
        "state_emoji",
        "result",
        "result_abbrev",
        "result_emoji",
        "username",
        "runtime",
        "status",
        "status_abbrev",
        "status_emoji",
        "returncode",
        "contextual_info",
        "contextual_time",
        "inactive_reason",
    )

    def __init__(self, info_resp: Mapping[str, Any]) -> None:
        values = dict(info_resp)
        values["id"] = JobID(values["id"])
        values["annotations"] = AnnotationsInfo(values.get("annotations", {}))
        values["sched"] = values["annotations"].sched
        values["user"] = values["annotations"].user
        values["dependencies"] = DependencyList(values.get("dependencies", ()))
        values["exception"] = ExceptionInfo(
            values.pop("exception_occurred", ""),
            values.pop("exception_severity", ""),
            values.pop("exception_type", ""),
            values.pop("exception_note", ""),
        )
        for name in ("state", "result"):
            if name in values:
                values[f"{name}_id"] = values.pop(name)
        values.setdefault("result_id", "")
        self._values: dict[str, Any] = values
        self._computed: dict[str, Any] = {}
        self._instance: InstanceInfo | None = None

    def __getattr__(self, attr: str) -> Any:
        if attr.startswith("_"):
            # flux-core keeps each attribute in one with an underscore before its name, which programs have come to use.
            attr = attr[1:]
            if "_values" not in self.__dict__ or (attr not in self._values and attr not in self.defaults):
                raise AttributeError(f"_{attr}")
        if attr in self._values:
            return self._values[attr]
        if attr in self.defaults:
            return self.defaults[attr]
        raise AttributeError(f"invalid JobInfo attribute '{attr}'")

    def _once(self, name: str, compute: Callable[[], Any]) -> Any:
        if name not in self._computed:
            self._computed[name] = compute()
        return self._computed[name]

    # The instance that the job is.

    @property
    def instance(self) -> InstanceInfo:
        """The instance, after `get_instance_info`; before that, nothing is known of it."""
        if self._instance is None:
            self._instance = InstanceInfo()
        return self._instance

    def get_instance_info(self) -> Self:
        """Asks the job's instance, if it is one and runs, for its resources and jobs; returns self."""
        uri = self.uri if self.state_id == FLUX_JOB_STATE_RUN else None
        self._instance = InstanceInfo(uri)
        return self

    @property
    def uri(self) -> JobURI | None:
        """Where the instance is that the job runs; None if it runs none."""
        return self._once("uri", self._uri)  # type: ignore[no-any-return]

    def _uri(self) -> JobURI | None:
        from flux.uri import JobURI

        text = self.user.uri
        return JobURI(text) if isinstance(text, str) and text else None

    # Times.

    def get_runtime(self) -> float:
        """How long the job ran, or has run, in seconds; 0.0 before it does."""
        if not self.t_run:
            return 0.0
        if self.t_cleanup:
            return float(max(0.0, self.t_cleanup - self.t_run))
        return float(max(0.0, time.time() - self.t_run))

    def get_remaining_time(self) -> float:
        """How long the job may still run, in seconds; 0.0 if it does not run, or may for ever."""
        if self.state_id != FLUX_JOB_STATE_RUN or not self.expiration:
            return 0.0
        return float(max(0.0, self.expiration - time.time()))

    @property
    def runtime(self) -> float:
        """`get_runtime`, when first asked for."""
        return self._once("runtime", self.get_runtime)  # type: ignore[no-any-return]

    @property
    def t_remaining(self) -> float:
        """`get_remaining_time`, when first asked for."""
        return self._once("t_remaining", self.get_remaining_time)  # type: ignore[no-any-return]

    # State, result and status.

    @property
    def state(self) -> str:
        """``SCHED``, ``RUN``, ``INACTIVE``, ..."""
        return statetostr(self.state_id)

    @property
    def state_single(self) -> str:
        """The state's letter."""
        return statetostr(self.state_id, "S")

    @property
    def state_emoji(self) -> str:
        """The state as a picture."""
        return statetoemoji(self.state_id)

    @property
    def result(self) -> str:
        """``COMPLETED``, ``FAILED``, ``CANCELED``, ``TIMEOUT``; "" until the job is inactive."""
        return resulttostr(self.result_id)

    @property
    def result_abbrev(self) -> str:
        """The result's letters."""
        return resulttostr(self.result_id, "S")

    @property
    def result_emoji(self) -> str:
        """The result as a picture."""
        return resulttoemoji(self.result_id)

    @property
    def status(self) -> str:
        """The state while the job is active, then the result."""
        return statustostr(self.state_id, self.result_id)

    @property
    def status_abbrev(self) -> str:
        """The status's letters."""
        return statustostr(self.state_id, self.result_id, "S")

    @property
    def status_emoji(self) -> str:
        """The status as a picture."""
        return statustoemoji(self.state_id, self.result_id)

    @property
    def returncode(self) -> int | str:
        """The job's exit code; minus the signal that ended its shell.

        Before it has ended "". What ended without having run: -128 if it was canceled, else 1.
        """
        if self.waitstatus != "":
            try:
                return os.waitstatus_to_exitcode(self.waitstatus)
            except ValueError:  # simulated jobs may have any: that of a process that was stopped, say
                return -int(self.waitstatus & 0x7F)
        return {"CANCELED": -128, "FAILED": 1}.get(self.result, "")

    @property
    def username(self) -> str:
        """The name of the job's user."""
        return get_username(self.userid)

    # Whatever is of interest.

    @property
    def contextual_info(self) -> str:
        """Why the job waits; then where it runs, or ran."""
        return self._once("contextual_info", self._contextual_info)  # type: ignore[no-any-return]

    def _contextual_info(self) -> str:
        state = self.state_id
        if state == FLUX_JOB_STATE_PRIORITY:
            return "priority-wait"
        if state == FLUX_JOB_STATE_DEPEND:
            return f"depends:{self.dependencies}"
        if state == FLUX_JOB_STATE_SCHED:
            estimate = self.sched.t_estimate
            if isinstance(estimate, (int, float)):
                left = estimate - time.time()
                return f"eta:{fsd(left) if left > 0 else 'now'}"
            if self.urgency == 0:
                return "held"
            # A job whose queue is stopped, say.
            return "priority-hold" if self.priority == 0 else str(self.sched.reason_pending)
        return str(self.nodelist)

    @property
    def contextual_time(self) -> float:
        """How long the job may run, while it waits; then how long it has."""
        return float(self.duration) if self.state_id & PENDING else self.runtime

    @property
    def inactive_reason(self) -> str:
        """Why the job has ended; "" until it has."""
        return self._once("inactive_reason", self._inactive_reason)  # type: ignore[no-any-return]

    def _inactive_reason(self) -> str:
        if self.state_id != INACTIVE:
            return ""
        exception, code = self.exception, self.returncode
        if self.result == "CANCELED":
            note = exception.note if exception.occurred and exception.type == "cancel" else ""
            return f"Canceled: {note}" if note else "Canceled"
        if self.result == "TIMEOUT":
            return "Timeout"
        if self.result == "FAILED":
            if exception.occurred and exception.severity == 0 and exception.type != "exec":
                note = f" note={exception.note}" if exception.note else ""
                return f"Exception: type={exception.type}{note}"
            if isinstance(code, int) and code > 128:
                return signal_text(code - 128) or f"Exit {code}"
            return _EXIT_CODES.get(code, f"Exit {code}")  # type: ignore[arg-type]  # text is no key
        return f"Exit {code}"

    def to_dict(self, filtered: bool = True) -> dict[str, Any]:
        """The job as a dict that JSON can hold.

        Args:
            filtered: leave out what is not known, or does not apply.
        """
        found = {name: getattr(self, name) for name in self.defaults}
        for name in ("id", "t_submit", "t_remaining", "state", "username", "userid", "urgency", "runtime", "status"):
            found[name] = getattr(self, name, "")
        found["id"] = int(self.id)
        found["returncode"] = self.returncode
        found["dependencies"] = list(self.dependencies)
        found["jobid"] = self.id.f58
        found["annotations"] = copy.deepcopy(self.annotations.annotationsDict)
        found["exception"] = dict(vars(self.exception))
        found["uri"] = str(self.uri) if self.uri is not None else ""
        if filtered:
            for name, value in list(found.items()):
                is_time = name.startswith("t_") or name in ("runtime", "expiration")
                if value == "" or (is_time and value == 0):
                    del found[name]
            if not self.exception.occurred:
                found["exception"] = {"occurred": False}
            if "uri" in found:
                found["annotations"]["user"].pop("uri")
        return found


class _JobFormatter(UtilFormatter):
    """Shows attributes of what a job has not as nothing."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if field_name.endswith("uri.local"):
            uri, key = super().get_field(field_name.removesuffix(".local"), args, kwargs)
            return ("" if uri is None else uri.local), key
        return super().get_field(field_name, args, kwargs)


class _Headings(dict[str, str]):
    """The headings of all fields, those of annotations made when they are asked for."""

    def __contains__(self, field: object) -> bool:
        return isinstance(field, str) and heading_of(field) is not None

    def __missing__(self, field: str) -> str:
        heading = heading_of(field)
        if heading is None:
            raise KeyError(field)
        return heading


class JobInfoFormat(OutputFormat):
    """A format of JobInfo objects; its fields are those of `flux jobs` (spec 08, 9.2).

    Args:
        fmt: the format.
        headings: headings of more fields, or others for the same.
        prepend: as for OutputFormat.
    """

    headings = _Headings(HEADINGS)
    formatter = _JobFormatter

    def __init__(self, fmt: str, headings: Mapping[str, str] | None = None, prepend: str | None = None) -> None:
        super().__init__(fmt, _Headings({**HEADINGS, **headings}) if headings else None, prepend)


def job_fields_to_attrs(fields: Iterable[str]) -> set[str]:
    """The attributes to ask job-list for, to show these fields. Raises KeyError for what is no field."""
    attrs: set[str] = set()
    for field in fields:
        attrs.update(attributes_of(field))
    return attrs
