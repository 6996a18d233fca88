"""flux job: id, namespace, info, stats, last, timeleft, list, list-inactive, list-ids."""

from __future__ import annotations

import math
import os
import sys
from typing import Any

from flux.cli.commands.job.common import Failure, compact, handle, jobid, number, show, states, text_of, userid
from flux.cli.options import Parsed, UsageError
from flux.constants import FLUX_JOB_LOOKUP_CURRENT
from flux.core import fluid
from flux.core.job_names import STATES
from flux.job._requests import wire_id

_UNLIMITED = 4294967295


def _words(parsed: Parsed) -> list[str]:
    """The arguments, or without any the lines of stdin."""
    return parsed.words or [line.strip() for line in sys.stdin]


def id_command(parsed: Parsed) -> int:
    """Converts ids."""
    form = parsed.value("to") or "dec"
    encoder = fluid.ENCODERS.get(form.lower())
    if encoder is None:
        raise Failure(f"Unknown to={form}")
    words = _words(parsed)
    for word in words:
        try:
            show(encoder(fluid.parse(word)), flush=False)
        except ValueError:
            raise Failure(f"{word}: malformed input") from None
    return 0 if words else 1


def namespace_command(parsed: Parsed) -> int:
    """Prints the namespaces of jobs."""
    words = _words(parsed)
    for word in words:
        show(f"job-{int(jobid(word))}", flush=False)
    return 0 if words else 1


def info_command(parsed: Parsed) -> int:
    """Prints what is at a key of a job."""
    word, key = parsed.words
    number = jobid(word)
    original = parsed.has("original") and key == "jobspec"
    current = key in ("R", "jobspec") and not parsed.has("base") and not original
    wanted = "J" if original else key
    request = {"id": wire_id(number), "keys": [wanted], "flags": FLUX_JOB_LOOKUP_CURRENT if current else 0}
    with handle() as h:
        try:
            value = h.rpc("job-info.lookup", request).get()[wanted]
        except OSError as exc:
            raise Failure(text_of(exc)) from None
    if original:
        from flux.job import _sign

        value = _sign.jobspec_of(value).decode("utf-8", "surrogateescape")
    show(value)
    return 0


def stats_command(parsed: Parsed) -> int:
    """Prints how many jobs there are."""
    with handle() as h:
        show(compact(h.rpc("job-list.job-stats").get()))
    return 0


def last_command(parsed: Parsed) -> int:
    """Prints the ids of the last jobs."""
    word = parsed.words[0] if parsed.words else "1"
    if word.isdecimal():
        word = f"[:{word}]"
    elif not (word.startswith("[") and word.endswith("]")):
        raise UsageError("Usage: flux-job last SLICE")
    with handle() as h:
        try:
            jobs = h.rpc("job-manager.history.get", {"slice": word}).get()["jobs"]
        except OSError as exc:
            raise Failure(text_of(exc)) from None
    if not jobs:
        raise Failure("job history is empty")
    for found in jobs:
        show(fluid.f58(found), flush=False)
    return 0


def timeleft_command(parsed: Parsed) -> int:
    """Prints the seconds that a job, or the instance, has left."""
    from flux.job.timeleft import timeleft

    if parsed.words:
        os.environ["FLUX_JOB_ID"] = str(parsed.words[0])
    with handle() as h:
        try:
            left = timeleft(h)
        except OSError as exc:
            raise Failure(text_of(exc)) from None
    if parsed.has("human"):
        from flux.util import fsd

        show("infinity" if math.isinf(left) else fsd(left))
    else:
        show(str(_UNLIMITED if math.isinf(left) else max(int(left), 1) if left > 0 else 0))
    return 0


# Lists.


def _no_terminal() -> None:
    if sys.stdout.isatty():
        raise Failure("This is not the command you are looking for. Try flux-jobs(1).")


def _print_jobs(jobs: list[dict[str, Any]]) -> int:
    for job in jobs:
        show(compact(job), flush=False)
    return 0


def list_command(parsed: Parsed) -> int:
    """Prints jobs as JSON."""
    _no_terminal()
    from flux.job.list import job_list

    everything = parsed.has("all-user") or parsed.has("all")
    mask = states(parsed.value("states"), 126 if everything else 62)
    user = userid("all" if parsed.has("all") else parsed.value("user"))
    with handle() as h:
        return _print_jobs(job_list(h, number(parsed, "count", 0), userid=user, states=mask).get_jobs())


def list_inactive_command(parsed: Parsed) -> int:
    """Prints inactive jobs as JSON."""
    _no_terminal()
    from flux.job.list import job_list_inactive

    try:
        since = float(parsed.value("since") or 0.0)
    except ValueError:
        raise Failure(f"Invalid argument for option 'since': '{parsed.value('since')}'") from None
    with handle() as h:
        return _print_jobs(job_list_inactive(h, since, number(parsed, "count", 0)).get_jobs())


def list_ids_command(parsed: Parsed) -> int:
    """Prints particular jobs as JSON."""
    _no_terminal()
    state = parsed.value("wait-state") or "depend"
    mask = {name.lower(): mask for mask, names in STATES.items() for name in names}.get(state.lower())
    if mask is None:
        raise Failure("invalid job state specified")
    with handle() as h:
        rpcs = [
            h.rpc("job-list.list-id", {"id": wire_id(jobid(word)), "attrs": ["all"], "state": mask})
            for word in parsed.words
        ]
        try:
            return _print_jobs([rpc.get()["job"] for rpc in rpcs])
        except OSError as exc:
            raise Failure(f"flux job-list.list-id: {text_of(exc)}") from None
