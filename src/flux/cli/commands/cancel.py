"""flux cancel — cancel jobs (spec 08, 10.1)."""

from __future__ import annotations

import logging
import os
import sys
from functools import partial
from typing import Any, NoReturn

from flux.cli.argparse import FluxArgumentParser
from flux.cli.jobid import jobid_argument
from flux.util import CLIMain

LOGGER = logging.getLogger("flux-cancel")

#: For the manual.
EXAMPLES = (
    ("flux cancel ƒ2oRvKCz", "Cancel a job."),
    ("flux cancel --states=pending", "Cancel your jobs that wait."),
    ("flux cancel --all -n", "How many jobs would be canceled."),
)
SEE_ALSO = ("jobs", "job")

_STATES = {
    "depend": 2,
    "priority": 4,
    "sched": 8,
    "run": 16,
    "pending": 14,
    "running": 48,
    "active": 62,
}
_ACTIVE = 62
_ALL_USERS = 0xFFFFFFFF


def parser() -> FluxArgumentParser:
    """The options."""
    result = FluxArgumentParser(prog="flux-cancel", description="Cancel jobs")
    add = result.add_argument
    add("--all", action="store_true", help="Target all jobs")
    add("-n", "--dry-run", action="store_true", hidden_aliases=("--dry",), help="Do not cancel, only tell how many")
    add("-q", "--quiet", action="store_true", help="Do not tell that no jobs match")
    add("-u", "--user", metavar="USER", help="Set target user or 'all' (implies --all)")
    add(
        "-S",
        "--states",
        action="append",
        metavar="STATES",
        hidden_aliases=("--state",),
        help="List of job states to target (implies --all)",
    )
    add("-m", "--message", metavar="NOTE", help="Set an optional message as part of the cancellation")
    add("JOBID...", type=jobid_argument, nargs="*", help="Jobs to cancel")
    return result


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _tell(text: str) -> None:
    print(f"flux-cancel: {text}", file=sys.stderr)


def _userid(user: str | None) -> int:
    if user is None:
        return os.getuid()
    if user == "all":
        return _ALL_USERS
    import pwd

    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        try:
            return int(user)
        except ValueError:
            raise ValueError(f"Invalid user {user} specified") from None


def _mask(given: list[str] | None) -> int:
    mask = 0
    for word in (word for words in given or () for word in words.split(",")):
        if word.lower() not in _STATES:
            raise ValueError(f"Invalid state {word} specified")
        mask |= _STATES[word.lower()]
    return mask or _ACTIVE


def _cancel_matching(args: Any) -> None:
    """Cancels all jobs of a user, or those in some states."""
    from flux.core.handle import Flux

    request = {
        "dry_run": args.dry_run,
        "userid": _userid(args.user),
        "states": _mask(args.states),
        "severity": 0,
        "type": "cancel",
    }
    if args.message is not None:
        request["note"] = args.message
    with Flux() as handle:
        answer = handle.rpc("job-manager.raiseall", request).get()
    count, errors = answer["count"], answer["errors"]
    if count == 0:
        if not args.quiet:
            _tell("Matched 0 jobs")
    elif args.dry_run:
        _tell(f"Would cancel {_plural(count, 'job')}")
    else:
        _tell(f"Canceled {_plural(count, 'job')} ({_plural(errors, 'error')})")


def _cancel(args: Any) -> int:
    """Cancels particular jobs; the exit code."""
    from flux.core.handle import Flux
    from flux.job.kill import cancel_async

    if args.dry_run:
        _tell(f"Would cancel {_plural(len(args.jobids), 'job')}")
        return 0
    status = 0
    with Flux() as handle:
        futures = [(jobid, cancel_async(handle, jobid, args.message)) for jobid in args.jobids]
        for jobid, future in futures:
            try:
                future.get()
            except OSError as exc:
                LOGGER.error(f"{jobid}: {exc.strerror}")
                status = 1
    return status


def _run(argv: list[str]) -> None:
    args = parser().parse_args(argv)
    args.jobids = vars(args)["JOBID..."]
    matching = args.all or args.user is not None or args.states
    if args.jobids and matching:
        raise ValueError("Do not specify a list of jobids with --all,--user,--states options")
    if matching:
        _cancel_matching(args)
    elif not args.jobids:
        raise ValueError("No target jobs were provided")
    else:
        sys.exit(_cancel(args))


def main(argv: list[str]) -> NoReturn:
    """Runs the command, and ends the program with its exit code."""
    CLIMain(LOGGER)(partial(_run, argv))
