"""The options of `flux start` about test instances (spec 04, 3.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from flux.cli.options import Parsed, UsageError
from flux.util.durations import parse_fsd

_CHOICES = {"test-exit-mode": ("any", "leader"), "test-start-mode": ("all", "leader")}


class TestOptions(NamedTuple):
    """What `flux start` was told about a test instance.

    Args:
        size: number of brokers.
        hosts: the names of their hosts; none: that of this one.
        exit_timeout: how long the others may live on when one has ended, in seconds.
        exit_mode: "any" or "leader": whose end counts.
        start_mode: "all" or "leader": who is started.
        rundir: the run directory of all of them; None: a new one.
        cleanup: it is removed in the end although it was there before.
        clique: how they share hosts: "single", "per-broker", "none", or a taskmap.
    """

    size: int
    hosts: tuple[str, ...]
    exit_timeout: float
    exit_mode: str
    start_mode: str
    rundir: str | None
    cleanup: bool
    clique: str


def read(parsed: Parsed, fail: Callable[[str], UsageError]) -> TestOptions:
    """The options, of a command line that has --test-size. Raises what `fail` makes of a text."""
    text = parsed.value("test-size") or ""
    if not text.isascii() or not text.removeprefix("-").isdigit():
        raise fail(f"--test-size: '{text}' is not a number")
    size = int(text)
    if size <= 0:
        raise fail("--test-size argument must be > 0")
    for name, choices in _CHOICES.items():
        choice = parsed.value(name)
        if choice is not None and choice not in choices:
            raise fail(f"unknown --{name}: {choice}")
    hosts: tuple[str, ...] = ()
    if parsed.has("test-hosts"):
        from flux.hostlist import Hostlist  # rarely needed

        try:
            hosts = tuple(Hostlist(parsed.value("test-hosts") or ""))
        except ValueError as exc:
            raise fail(f"--test-hosts: {exc}") from None
        if len(hosts) != size:
            raise fail("--test-hosts hostlist has incorrect size")
    try:
        timeout = parse_fsd(parsed.value("test-exit-timeout") or "20s")
    except ValueError:
        raise fail("--test-exit-timeout: not a duration") from None
    return TestOptions(
        size,
        hosts,
        timeout,
        parsed.value("test-exit-mode") or "any",
        parsed.value("test-start-mode") or "all",
        parsed.value("test-rundir"),
        parsed.has("test-rundir-cleanup"),
        parsed.value("test-pmi-clique") or "single",
    )
