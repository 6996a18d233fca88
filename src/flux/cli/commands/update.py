"""flux update — change attributes of an active job (spec 08, 10.3)."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from flux.cli.argparse import FluxArgumentParser
from flux.cli.jobid import jobid_argument
from flux.util import CLIMain

if TYPE_CHECKING:
    from flux.core.handle import Flux
    from flux.job.JobID import JobID

LOGGER = logging.getLogger("flux-update")

#: For the manual.
EXAMPLES = (
    ("flux update ƒ2oRvKCz duration=+1h", "An hour more for the job."),
    ("flux update ƒ2oRvKCz queue=debug", "Moves a job that waits to another queue."),
    ("flux update -n ƒ2oRvKCz duration=2h name=long", "What would be asked for."),
)
SEE_ALSO = ("jobs", "job", "queue")

#: Parts of a jobspec; other keys are of attributes.system.
_PARTS = ("attributes.", "resources.", "tasks.")
_NAMES = {"name": "attributes.system.job.name"}
_DURATION = "attributes.system.duration"


def parser() -> FluxArgumentParser:
    """The options."""
    result = FluxArgumentParser(prog="flux-update", description="Change attributes of an active job")
    add = result.add_argument
    add("-n", "--dry-run", action="store_true", hidden_aliases=("--dry",), help="Print the updates, and do not apply")
    add("-v", "--verbose", action="store_true", help="Print what was updated")
    add("--wait", action="store_true", help="Wait until the updates are in the eventlog of the job")
    add("JOBID", type=jobid_argument, help="The job")
    add("KEY=VALUE", nargs="+", help="Attributes, and their new values")
    return result


def _updates(words: list[str], duration: Callable[[str], float]) -> dict[str, Any]:
    """Paths in the jobspec, and what is to be there; `duration` knows what a duration is. Raises ValueError."""
    updates = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"Missing required value for key {key}")
        path = _NAMES.get(key) or (key if key.startswith(_PARTS) else f"attributes.system.{key}")
        updates[path] = duration(text) if path == _DURATION else _value(text)
    return updates


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _duration(handle: Flux, jobid: JobID, text: str) -> float:
    """Seconds, 0 for no limit: a Flux duration, or what is to be added to that of the job or taken from it."""
    from flux.util import fsd, parse_fsd

    sign, change = (text[0], text[1:]) if text[:1] in ("+", "-") else ("", text)
    seconds = parse_fsd(change)
    if sign:
        now = _present_duration(handle, jobid)
        if now == 0.0:
            raise ValueError(f"duration for {jobid} is unlimited, can't update by {text}")
        if sign == "-" and seconds >= now:
            raise ValueError(f"current duration for {jobid} ({fsd(now)}) cannot be reduced by {fsd(seconds)}")
        seconds = now + seconds if sign == "+" else now - seconds
    return 0.0 if seconds == float("inf") else seconds


def _present_duration(handle: Flux, jobid: JobID) -> float:
    from flux.job.kvslookup import job_kvs_lookup

    found = job_kvs_lookup(handle, jobid, keys=["jobspec"])
    if found is None:
        raise ValueError("unknown job id")
    return float(found["jobspec"]["attributes"]["system"].get("duration", 0.0))


def _wait(handle: Flux, jobid: JobID, updates: dict[str, Any], begun: float) -> None:
    """Waits until the eventlog of the job says that it has been updated. Raises ValueError if it ends before."""
    from flux.job.event import event_watch

    for event in event_watch(handle, jobid):
        if event.name == "jobspec-update" and event.timestamp > begun and updates.keys() <= event.context.keys():
            return
    raise ValueError(f"{jobid} ended before it was updated")


def _update(args: Any) -> None:
    from flux.core.handle import Flux

    begun = time.time()
    with Flux() as handle:
        updates = _updates(vars(args)["KEY=VALUE"], lambda text: _duration(handle, args.JOBID, text))
        if args.dry_run:
            print(json.dumps(updates))
            return
        handle.rpc("job-manager.update", {"id": args.JOBID, "updates": updates}).get()
        if args.wait:
            _wait(handle, args.JOBID, updates, begun)
    if args.verbose:
        for path, value in updates.items():
            LOGGER.info(f"updated {path} to {value}")


def _run(argv: list[str]) -> None:
    _update(parser().parse_args(argv))


def main(argv: list[str]) -> NoReturn:
    """Runs the command, and ends the program with its exit code."""
    CLIMain(LOGGER)(partial(_run, argv))
