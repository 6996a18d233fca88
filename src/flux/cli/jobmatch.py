"""Jobs by an expression: what ``flux pgrep`` and ``flux pkill`` have in common (spec 08, 10.4)."""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from flux.cli.argparse import FluxArgumentParser
from flux.util import FilterAction, FilterActionSetUpdate, FilterActionUser, FilterTrueAction

if TYPE_CHECKING:
    from flux.core.handle import Flux
    from flux.job.info import JobInfo

_EXIT_EXPRESSION = 2


class ExpressionError(ValueError):
    """An expression that is none."""


class Expression(NamedTuple):
    """What jobs match: a pattern that is found in the name, and a range of ids with both its ends."""

    pattern: re.Pattern[str] | None = None
    ids: tuple[int, int] | None = None

    def matches(self, job: JobInfo) -> bool:
        """Whether a job does."""
        if self.pattern is not None and not self.pattern.search(job.name):
            return False
        return self.ids is None or self.ids[0] <= job.id <= self.ids[1]


def parse(words: Iterable[str]) -> Expression:
    """The expression that words make: at most one ``[name:]REGEXP``, and at most one ``ID..ID``.

    Raises ExpressionError.
    """
    found = Expression()
    for word in words:
        ids = _range(word)
        if ids is not None:
            if found.ids is not None:
                raise ExpressionError("Only one range of ids can be provided")
            found = found._replace(ids=ids)
            continue
        if found.pattern is not None:
            raise ExpressionError("Only one pattern can be provided")
        try:
            found = found._replace(pattern=re.compile(word.removeprefix("name:")))
        except re.error as exc:
            raise ExpressionError(str(exc)) from None
    return found


def _range(word: str) -> tuple[int, int] | None:
    from flux.job.JobID import JobID

    first, dots, last = word.partition("..")
    try:
        return (JobID(first), JobID(last)) if dots else None
    except ValueError:
        return None


def add_options(parser: FluxArgumentParser, a_help: str = argparse.SUPPRESS) -> None:
    """Adds the options that both commands have."""
    add = parser.add_argument
    add("-a", action=FilterTrueAction, help=a_help)
    add("-A", action=FilterTrueAction, help="Target jobs of all users")
    add("-u", "--user", action=FilterActionUser, metavar="[USERNAME|UID]", help='Limit to user; "all" for all')
    add(
        "-f",
        "--filter",
        action=FilterActionSetUpdate,
        metavar="STATE|RESULT",
        default=set(),
        help="Target jobs with specific job states or results",
    )
    add("-q", "--queue", action=FilterActionSetUpdate, metavar="QUEUE,...", default=set(), help="Limit to queues")
    add("-c", "--count", action=FilterAction, type=int, metavar="N", help="Only the first N jobs that match")
    add("--max-entries", action=FilterAction, type=int, metavar="N", default=1000, help="Look at N jobs at most")
    add("EXPRESSION", nargs="+", help="A regular expression that names match, a range of ids (ID..ID), or both")
    parser.set_defaults(filtered=False, filtereduser=False)


def matching(handle: Flux, args: Any, attrs: Iterable[str], logger: logging.Logger) -> list[JobInfo]:
    """The jobs that match, as the instance lists them. Ends the program if none does, or the expression is wrong."""
    from flux.job.list import JobList

    try:
        expression = parse(args.EXPRESSION)
    except ExpressionError as exc:
        logger.error(f"expression error: {exc}")
        sys.exit(_EXIT_EXPRESSION)
    filters = args.filter or ({"pending", "running", "inactive"} if args.a else {"pending", "running"})
    jobs = JobList(
        handle,
        attrs=sorted({"name", *attrs}),
        filters=[",".join(sorted(filters))],
        user="all" if args.A else args.user,
        max_entries=args.max_entries,
        queue=sorted(args.queue) or None,
    )
    found = [job for job in jobs.jobs() if expression.matches(job)][: args.count]
    for error in jobs.errors:
        logger.error(error)
    if not found:
        sys.exit(1)
    return found
