"""flux uri — the URI of an instance (spec 03, 14.12; spec 04, section 6)."""

from __future__ import annotations

import logging
from functools import partial
from typing import NoReturn

from flux.cli.argparse import FluxArgumentParser
from flux.uri import FluxURIResolver
from flux.util import CLIMain

LOGGER = logging.getLogger("flux-uri")

#: For the manual.
EXAMPLES = (
    ("flux uri --remote local:///tmp/flux-a1b2c3/local-0", "How to name an instance of this machine on another one."),
    ("flux uri pid:1234", "The instance that a process belongs to."),
)
SEE_ALSO = ("proxy", "start")


def parser(resolver: FluxURIResolver | None = None) -> FluxArgumentParser:
    """The options. Help lists what `resolver`, by default a new one, can resolve."""
    resolver = resolver or FluxURIResolver()
    schemes = "\n".join(f"  {name:<10}  {text}" for name, text in resolver.plugins().items())
    result = FluxArgumentParser(
        prog="flux-uri",
        description="Resolve TARGET to a Flux URI",
        epilog=f"Schemes of TARGET (default: jobid):\n{schemes}",
        raw_description=True,
    )
    form = result.add_mutually_exclusive_group()
    form.add_argument("--remote", action="store_true", help="convert a local URI to a remote one")
    form.add_argument("--local", action="store_true", help="convert a remote URI to a local one")
    result.add_argument("--wait", action="store_true", help="wait for the URI of a job that has none yet")
    result.add_argument("TARGET", help="job, path of jobs, or SCHEME:ARGUMENT to find a URI for")
    return result


def _run(argv: list[str]) -> None:
    resolver = FluxURIResolver()
    args = parser(resolver).parse_args(argv)
    target = args.TARGET
    if args.wait:
        target += "&wait" if "?" in target else "?wait"
    uri = resolver.resolve(target)
    # Not as words of the query: they would also say how to connect to what is on the way.
    print(uri.remote if args.remote else uri.local if args.local else uri)


def main(argv: list[str]) -> NoReturn:
    """Runs the command, and ends the program with its exit code."""
    CLIMain(LOGGER)(partial(_run, argv))
