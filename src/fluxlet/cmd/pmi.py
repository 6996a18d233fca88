"""flux pmi — tries out the PMI of a launcher: that of our job shell, of flux start, or of another (spec 04, 3.2).

    flux run -n4 flux pmi barrier

It asks with the client that brokers find each other with.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from flux.cli.options import Command, Option, Parsed
from flux.cli.tool import Failure, run, show
from fluxlet.overlay.bootstrap.pmi_client import PmiClient
from fluxlet.overlay.bootstrap.pmi_wire import PmiError

COMMAND = Command(
    "pmi",
    "Try out the PMI of what has started this program",
    [
        Option("", "method", "Use only this one: simple, slurm, single.", "URI", complete="simple|slurm|single"),
        Option("", "libpmi-noflux", "Accepted: libraries of PMI are not used."),
        Option("", "libpmi2-cray", "Accepted: libraries of PMI are not used."),
        Option("v", "verbose", "Show what is said.", "LEVEL", optional=True),
        Option("t", "timeout", "End with an error if it takes longer.", "FSD"),
    ],
    subcommands=[
        Command(
            "pmi barrier",
            "Wait until all tasks have come here",
            [
                Option("", "test-count", "So many times.", "N"),
                Option("", "test-abort", "This rank aborts the program instead.", "RANK"),
                Option("", "test-timing", "Tell how long it took, from when all were there.", ""),
            ],
        ),
        Command(
            "pmi get",
            "Print values of keys",
            [Option("", "ranks", "These ranks print (default: 0).", "{IDSET|all}")],
            "KEY ...",
            (1, None),
        ),
        Command(
            "pmi exchange",
            "Have each task tell all others something",
            [Option("", "count", "So many times.", "N")],
        ),
    ],
    builtin=True,
    examples=(
        ("flux run -n4 flux pmi barrier --test-timing", "How long a barrier of four tasks takes."),
        ("flux run -N2 flux pmi get flux.taskmap", "Where the tasks are."),
        ("srun -n2 flux pmi --method=simple exchange", "Whether another launcher has what brokers need."),
    ),
)

_METHODS = ("simple", "slurm", "single")


class _Single:
    """The PMI of who is alone: as `PmiClient`."""

    rank, size, kvsname = 0, 1, "single"

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def init(self) -> None:
        """Nothing to do."""

    def put(self, key: str, value: str) -> None:
        """Stores a value."""
        self._values[key] = value

    def get(self, key: str) -> str | None:
        """A value."""
        return self._values.get(key)

    def barrier(self) -> None:
        """Nobody to wait for."""

    def finalize(self) -> None:
        """Nothing to do."""

    def abort(self, text: str) -> None:
        """Nobody else to end."""


def _client(parsed: Parsed, environ: Mapping[str, str]) -> Any:
    """The first client that works here. Raises Failure, PmiError."""
    wanted = parsed.value("method")
    names = [wanted] if wanted else environ.get("FLUX_PMI_CLIENT_METHODS", "").split() or list(_METHODS)
    for name in names:
        method = name.partition(":")[0]
        if method == "simple":
            found: Any = PmiClient.from_environment(environ)
            if found is not None:
                return found
        elif method == "slurm" and "SLURM_STEP_ID" in environ:
            from fluxlet.overlay.bootstrap.slurm import client

            found = client(environ)
            if found is not None:
                return found
        elif method == "single":
            return _Single()
        elif wanted and method not in _METHODS:
            raise Failure(f"{name}: there is no such method here")
    raise Failure(f"no method works here of: {' '.join(names)}")


def _count(parsed: Parsed, option: str, default: int) -> int:
    text = parsed.value(option)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit():
        raise Failure(f"Option '{option}' requires an integer argument")
    return int(text)


def _timed(client: Any, what: str, start: float | None) -> None:
    if client.rank == 0:
        took = "" if start is None else f" in {time.monotonic() - start:.3f}s"
        show(f"{client.kvsname}: completed {what} on {client.size} task{'s' if client.size > 1 else ''}{took}.")


def _barrier(client: Any, parsed: Parsed) -> None:
    if _count(parsed, "test-abort", -1) == client.rank:
        client.abort(f"flux-pmi: rank {client.rank} is aborting")
        raise Failure(f"rank {client.rank} is aborting")
    start = None
    if parsed.has("test-timing"):
        client.barrier()
        start = time.monotonic()
    for _ in range(_count(parsed, "test-count", 1)):
        client.barrier()
    _timed(client, "barrier", start)


def _get(client: Any, parsed: Parsed) -> None:
    from flux.idset import IDset

    ranks = parsed.value("ranks") or "0"
    try:
        wanted = ranks == "all" or client.rank in IDset(ranks)
    except ValueError:
        raise Failure(f"could not parse --ranks argument: '{ranks}'") from None
    if not wanted:
        return
    for key in parsed.words:
        value = client.get(key)
        if value is None:
            raise Failure(f"get {key}: there is no such key")
        show(value)


def _exchange(client: Any, parsed: Parsed) -> None:
    client.barrier()
    start = time.monotonic()
    for turn in range(_count(parsed, "count", 1)):
        client.put(f"flux-pmi.{turn}.{client.rank}", str(client.rank))
        client.barrier()
        for rank in range(client.size):
            found = client.get(f"flux-pmi.{turn}.{rank}")
            if found != str(rank):
                raise Failure(f"rank {client.rank}: what rank {rank} has put is {found!r}")
        client.barrier()
    _timed(client, "exchange", start)


_ACTIONS: dict[str, Callable[[Any, Parsed], None]] = {"barrier": _barrier, "get": _get, "exchange": _exchange}


def _limit(text: str) -> None:
    """Ends with an error when the time is over."""
    from flux.util import parse_fsd

    def over(*args: Any) -> NoReturn:
        raise Failure("timed out")

    try:
        seconds = parse_fsd(text)
    except ValueError:
        raise Failure(f"Invalid argument for option 'timeout': '{text}'") from None
    signal.signal(signal.SIGALRM, over)
    if 0.0 < seconds < float("inf"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _body(parsed: Parsed) -> int:
    options = parsed.outer
    assert options is not None  # it has subcommands
    if (timeout := options.value("timeout")) is not None:
        _limit(timeout)
    environ = {**os.environ, "FLUX_PMI_DEBUG": "1"} if options.has("verbose") else dict(os.environ)
    try:
        client = _client(options, environ)
        client.init()
        _ACTIONS[parsed.command.name.split()[-1]](client, parsed)
        client.finalize()
    except PmiError as exc:
        raise Failure(str(exc)) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
    return 0


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
