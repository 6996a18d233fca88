"""flux hostlist — host lists, from where they come and how they are combined (spec 03, 14.11).

The order of things: the sources are read and made one list, of that hosts are excluded, it is sorted, cut to its
limit, and picked from; what is left is printed.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import select
import sys
import time
from collections.abc import Callable
from functools import partial, reduce
from importlib import import_module
from typing import NoReturn

from flux.cli.argparse import FluxArgumentParser
from flux.core.handle import Flux
from flux.hostlist import Hostlist
from flux.idset import IDset
from flux.util import CLIMain, parse_fsd

LOGGER = logging.getLogger("flux-hostlist")

_STDIN_TIMEOUT = "15s"
_SOURCES = """\
SOURCES:
  instance     the hosts of the instance
  local        the hosts of the job that this runs in, else of the instance
  avail        the hosts of the instance that are neither down nor drained
  stdin, -     host lists read from standard input (the default)
  JOBID        the hosts of a job
  HOSTS        the hosts themselves, such as host[0-9]"""

#: For the manual.
EXAMPLES = (
    ("flux hostlist --count instance", "How many hosts this instance has."),
    ("flux hostlist --expand 'node[1-3]'", "The names, one by one."),
    ("flux hostlist --minus 'a[1-9]' 'a[3-4]'", "The first list without the second."),
)
SEE_ALSO = ("getattr",)

#: Options whose argument may begin with a minus sign.
_SIGNED = ("-n", "--nth", "-L", "--limit")


def parser() -> FluxArgumentParser:
    """The options."""
    result = FluxArgumentParser(
        prog="flux-hostlist",
        description="Fetch, combine, and manipulate Flux hostlists",
        epilog=_SOURCES,
        raw_description=True,
    )
    add = result.add_argument
    add("-e", "--expand", action="store_true", help="print all names, not a host list")
    add("-d", "--delimiter", metavar="S", default=" ", help="what is between names with --expand (default: a blank)")
    add("-c", "--count", action="store_true", help="print the number of hosts")
    add("-n", "--nth", metavar="[-]IDS", help="print only the hosts at these positions, with - counted from the end")
    add("-F", "--find", metavar="HOSTS", help="print the positions of these hosts")
    add("-L", "--limit", metavar="N", type=int, help="print at most N hosts, with -N the last N")
    add("-S", "--sort", action="store_true", help="sort the result")
    add("-x", "--exclude", metavar="IDS|HOSTS", help="leave out the hosts at these positions, or of these names")
    add("-u", "--union", "--unique", dest="unique", action="store_true", help="sort the result, and each host once")
    sets = result.add_mutually_exclusive_group()
    sets.add_argument("-i", "--intersect", action="store_true", help="only hosts that are in all sources")
    sets.add_argument("-m", "--minus", action="store_true", help="the first source without the hosts of the others")
    sets.add_argument("-X", "--xor", action="store_true", help="only hosts that are in an odd number of sources")
    add("-f", "--fallback", action="store_true", help="take what looks like a JOBID and is none for a host name")
    add("-l", "--local", action="store_true", help="the default of SOURCES is local, not stdin")
    add("-q", "--quiet", action="store_true", help="print nothing, exit with 1 if there is no host")
    add("SOURCES", nargs="*", help="where the hosts come from, see below")
    return result


def _attached(argv: list[str]) -> list[str]:
    """The words, with ``-n -1,3`` as ``-n-1,3``: argparse would take the argument for an option."""
    words: list[str] = []
    for word in argv:
        if words and words[-1] in _SIGNED and re.match(r"-\d", word) and "--" not in words:
            words[-1] += f"={word}" if words[-1].startswith("--") else word
        else:
            words.append(word)
    return words


# Sources.


class Sources:
    """Reads sources.

    Args:
        fallback: a job that is not found is a host name.
    """

    def __init__(self, fallback: bool = False) -> None:
        self._fallback = fallback
        self._flux: Flux | None = None

    def _handle(self) -> Flux:
        self._flux = self._flux or Flux()
        return self._flux

    def read(self, source: str) -> Hostlist:
        """The hosts of a source. Raises ValueError for what is none, OSError if the instance cannot be asked."""
        named = _NAMED.get(source)
        return named(self) if named is not None else self._job_or_hosts(source)

    def _instance(self) -> Hostlist:
        return Hostlist(self._handle().attr_get("hostlist"))

    def _local(self) -> Hostlist:
        job = os.environ.get("FLUX_JOB_ID")
        return self._instance() if job is None else self._job(job, int(job))

    def _available(self) -> Hostlist:
        hosts = self._instance()
        status = self._handle().rpc("resource.status", nodeid=0).get()
        unfit = IDset(status["offline"])
        for ranks in status["drain"]:
            unfit.add(ranks)
        return hosts[[rank for rank in range(len(hosts)) if rank not in unfit]]

    def _stdin(self) -> Hostlist:
        return Hostlist(_read_stdin().splitlines())

    def _job_or_hosts(self, word: str) -> Hostlist:
        jobid = _jobid(word)
        if jobid is not None:
            try:
                return self._job(word, jobid)
            except ValueError:
                if not self._fallback:
                    raise
        try:
            return Hostlist(word)
        except ValueError:
            raise ValueError(f"Invalid jobid or hostlist {word}") from None

    def _job(self, word: str, jobid: int) -> Hostlist:
        try:
            job = self._handle().rpc("job-list.list-id", {"id": jobid, "attrs": ["nodelist"]}).get()["job"]
        except OSError as exc:
            if exc.errno in (errno.ENOENT, errno.ENOSYS):
                raise ValueError(f"job {word} not found") from None
            raise
        if "nodelist" not in job:
            raise ValueError(f"job {word} has no hosts yet")
        return Hostlist(job["nodelist"])


_NAMED: dict[str, Callable[[Sources], Hostlist]] = {
    "instance": Sources._instance,
    "local": Sources._local,
    "avail": Sources._available,
    "available": Sources._available,
    "stdin": Sources._stdin,
    "-": Sources._stdin,
}


def _jobid(word: str) -> int | None:
    """The number of a job, None if the word is no job id."""
    try:
        # By name: this is wanted without the rest of `flux.job`.
        return int(import_module("flux.job.JobID").id_parse(word))
    except (ModuleNotFoundError, OSError, ValueError):
        return None


def _read_stdin() -> str:
    """All of standard input. Raises TimeoutError if it takes too long: somebody has forgotten to name a source."""
    text = os.environ.get("FLUX_HOSTLIST_STDIN_TIMEOUT", _STDIN_TIMEOUT)
    end = time.monotonic() + parse_fsd(text)
    parts: list[bytes] = []
    while True:
        ready, _, _ = select.select([0], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            raise TimeoutError(errno.ETIMEDOUT, f"timed out reading host lists from stdin after {text}")
        part = os.read(0, 1 << 16)
        if not part:
            return b"".join(parts).decode("utf-8", "surrogateescape")
        parts.append(part)


# What is done with them.


def _minus(hosts: Hostlist, unwanted: Hostlist) -> Hostlist:
    hosts.delete(unwanted)
    return hosts


def _combine(lists: list[Hostlist], intersect: bool, minus: bool, xor: bool) -> Hostlist:
    if minus:
        return reduce(_minus, lists)
    if intersect or xor:
        combine = set.intersection if intersect else set.symmetric_difference
        return Hostlist(reduce(combine, (set(hosts.expand()) for hosts in lists))).uniq()
    result = Hostlist()
    result.append(*lists)
    return result


def _without(hosts: Hostlist, unwanted: str) -> Hostlist:
    """The hosts, but those at the positions or of the names."""
    try:
        positions = IDset(unwanted)
    except ValueError:
        names = set(Hostlist(unwanted).expand())
        return hosts[[at for at, name in enumerate(hosts) if name not in names]]
    return hosts[[at for at in range(len(hosts)) if at not in positions]]


def _nth(hosts: Hostlist, positions: str) -> Hostlist:
    """The hosts at positions; raises IndexError if there is none at one."""
    if positions.startswith("-"):
        # -1 is the last one, and there is no -0.
        return hosts[[-at if at else len(hosts) for at in IDset(positions[1:])]]
    return hosts[list(IDset(positions))]


def _run(argv: list[str]) -> None:
    args = parser().parse_args(_attached(argv))
    sources = Sources(args.fallback)
    lists = [sources.read(source) for source in args.SOURCES or ["local" if args.local else "stdin"]]
    hosts = _combine(lists, args.intersect, args.minus, args.xor)
    if args.exclude is not None:
        hosts = _without(hosts, args.exclude)
    if args.unique:
        hosts.uniq()
    elif args.sort:
        hosts.sort()
    if args.limit is not None:
        hosts = hosts[: args.limit] if args.limit >= 0 else hosts[args.limit :]
    if args.nth is not None:
        hosts = _nth(hosts, args.nth)
    delimiter = args.delimiter.replace("\\n", "\n").replace("\\t", "\t")
    if args.find is not None:
        text = delimiter.join(map(str, hosts.index(args.find)))
    elif args.count:
        text = str(len(hosts))
    else:
        text = delimiter.join(hosts) if args.expand else str(hosts)
    if args.quiet:
        sys.exit(0 if hosts else 1)
    if text:
        print(text)


def main(argv: list[str]) -> NoReturn:
    """Runs the command, and ends the program with its exit code."""
    CLIMain(LOGGER)(partial(_run, argv))
