"""How far a command is that moves many keys: a line on stderr, and a word to systemd through the broker.

On a terminal the line is written over as the counts change; elsewhere it is written once, at the end.
"""

from __future__ import annotations

import sys
import time

from flux.cli.options import Parsed
from flux.cli.tool import Failure
from flux.constants import FLUX_NODEID_ANY, FLUX_RPC_NORESPONSE
from flux.core.codec import dump_payload
from flux.core.flux_t import FluxT

#: Seconds between two changes of the line.
_INTERVAL = 0.1


class ProgressLine:
    """The line.

    Args:
        program: what it begins with.
        parsed: with --quiet or --verbose there is none.
        text: with a place ``{}`` for each count.
        ctx: the handle over which systemd is told, with --sd-notify.
    """

    def __init__(self, program: str, parsed: Parsed, text: str, ctx: FluxT) -> None:
        self._notified = ctx if parsed.has("sd-notify") else None
        self._program = program
        self._shown = not (parsed.has("quiet") or parsed.has("verbose"))
        self._live = self._shown and sys.stderr.isatty()
        self._text = text
        self._counts = [0] * text.count("{}")
        self._next = 0.0

    def advance(self, which: int = 0) -> None:
        """One more."""
        self._counts[which] += 1
        if (self._live or self._notified is not None) and time.monotonic() >= self._next:
            self._next = time.monotonic() + _INTERVAL
            if self._live:
                self._print()
            self._notify()

    def _line(self) -> str:
        return f"{self._program}: {self._text.format(*self._counts)}"

    def _print(self, end: str = "") -> None:
        print(f"\r{self._line()}", end=end, file=sys.stderr, flush=True)

    def _notify(self) -> None:
        if self._notified is not None:
            request = dump_payload({"status": self._line()})
            self._notified.rpc(b"state-machine.sd-notify", request, FLUX_NODEID_ANY, FLUX_RPC_NORESPONSE)

    def message(self, text: str) -> None:
        """Prints a line of its own, about what has been left out."""
        print(f"{chr(10) if self._live else ''}{self._program}: {text}", file=sys.stderr)

    def end(self) -> None:
        """Prints the final counts."""
        self._notify()
        if self._shown:
            self._print("\n")


def maxreqs(parsed: Parsed, default: int) -> int:
    """The argument of --maxreqs. Raises Failure."""
    given = parsed.value("maxreqs")
    if given is None:
        return default
    if not (given.isascii() and given.isdigit()) or int(given) == 0:
        raise Failure(f"invalid --maxreqs value '{given}': it must be a positive number")
    return int(given)
