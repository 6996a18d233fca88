"""The fields of job listings: their headings, and what has to be asked for to show them (spec 08, 9.2)."""

from __future__ import annotations

_NONE: tuple[str, ...] = ()
_STATE_RESULT = ("state", "result")
_EXCEPTION = ("exception_occurred", "exception_severity", "exception_type", "exception_note")
_INSTANCE = ("annotations", "state", "result")

#: Field: (heading, attributes of job-list).
_FIELDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "id": ("JOBID", _NONE),
    **{f"id.{form}": ("JOBID", _NONE) for form in ("dec", "hex", "dothex", "kvs", "words", "f58", "f58plain", "emoji")},
    "userid": ("UID", ("userid",)),
    "username": ("USER", ("userid",)),
    "urgency": ("URG", ("urgency",)),
    "priority": ("PRI", ("priority",)),
    "state": ("STATE", ("state",)),
    "state_single": ("S", ("state",)),
    "state_emoji": ("STATE", ("state",)),
    "status": ("STATUS", _STATE_RESULT),
    "status_abbrev": ("ST", _STATE_RESULT),
    "status_emoji": ("STATUS", _STATE_RESULT),
    "result": ("RESULT", ("result",)),
    "result_abbrev": ("RS", ("result",)),
    "result_emoji": ("RESULT", ("result",)),
    **{
        name: (name.upper(), (name,))
        for name in (
            "name",
            "cwd",
            "queue",
            "project",
            "bank",
            "ntasks",
            "ncores",
            "nnodes",
            "duration",
            "ranks",
            "nodelist",
            "success",
            "t_submit",
            "t_depend",
            "t_priority",
            "t_sched",
            "t_run",
            "t_cleanup",
            "t_inactive",
            "annotations",
            "dependencies",
        )
    },
    "expiration": ("EXPIRATION", ("expiration", *_STATE_RESULT)),
    "t_remaining": ("T_REMAINING", ("expiration", *_STATE_RESULT)),
    "runtime": ("RUNTIME", ("t_run", "t_cleanup")),
    "waitstatus": ("WSTATUS", ("waitstatus",)),
    "returncode": ("RC", ("waitstatus", "result")),
    "exception.occurred": ("EXCEPTION-OCCURRED", ("exception_occurred",)),
    "exception.severity": ("EXCEPTION-SEVERITY", ("exception_severity",)),
    "exception.type": ("EXCEPTION-TYPE", ("exception_type",)),
    "exception.note": ("EXCEPTION-NOTE", ("exception_note",)),
    "sched": ("SCHED", ("annotations",)),
    "user": ("USER", ("annotations",)),
    "uri": ("URI", ("annotations",)),
    "uri.local": ("URI", ("annotations",)),
    "contextual_info": (
        "INFO",
        ("state", "dependencies", "annotations", "nodelist", "priority", "urgency"),
    ),
    "contextual_time": ("TIME", ("state", "t_run", "t_cleanup", "duration")),
    "inactive_reason": ("INACTIVE-REASON", ("state", "result", "waitstatus", *_EXCEPTION)),
    "sched.t_estimate": ("T_ESTIMATE", ("annotations",)),
    "sched.reason_pending": ("REASON", ("annotations",)),
    "sched.resource_summary": ("RESOURCES", ("annotations",)),
    "annotations.sched.t_estimate": ("T_ESTIMATE", ("annotations",)),
    "annotations.sched.reason_pending": ("REASON", ("annotations",)),
    "annotations.sched.resource_summary": ("RESOURCES", ("annotations",)),
    "instance.stats": ("STATS", _INSTANCE),
    "instance.stats.total": ("NJOBS", _INSTANCE),
    "instance.utilization": ("CORE%", _INSTANCE),
    "instance.gpu_utilization": ("GPU%", _INSTANCE),
    "instance.progress": ("PROG", _INSTANCE),
    **{
        f"instance.resources.{which}.{what}": (heading, _INSTANCE)
        for which, headings in {
            "all": ("NODES", "CORES", "GPUS"),
            "up": ("UP", "UP", "UP"),
            "down": ("DOWN", "DOWN", "DOWN"),
            "allocated": ("USED", "USED", "USED"),
            "free": ("FREE", "FREE", "FREE"),
        }.items()
        for what, heading in zip(("nnodes", "ncores", "ngpus"), headings, strict=True)
    },
}

#: The fields whose names are known beforehand.
HEADINGS = {field: heading for field, (heading, _) in _FIELDS.items()}

#: What fields may start with that are not, and what of that is no part of the heading.
_OPEN = {
    "annotations.": "annotations.",
    "sched.": "",
    "user.": "",
    "instance.resources.": "instance.resources.",
    "instance.": "instance.",
}


def heading_of(field: str) -> str | None:
    """The heading of a field, None if there is no such field."""
    if field in HEADINGS:
        return HEADINGS[field]
    for start, dropped in _OPEN.items():
        if field.startswith(start) and field != start:
            return field.removeprefix(dropped).upper()
    return None


def attributes_of(field: str) -> tuple[str, ...]:
    """The attributes that a field needs. Raises KeyError for what is no field."""
    if field in _FIELDS:
        return _FIELDS[field][1]
    if heading_of(field) is None:
        raise KeyError(field)
    return _INSTANCE if field.startswith("instance.") else ("annotations",)
