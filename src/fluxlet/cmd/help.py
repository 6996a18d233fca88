"""flux help — what a command does and takes (spec 03, 2.4).

The reference shows manual pages. Where one is installed, so do we; else the command's own table says it all, in the
form of a manual page: through a pager on a terminal, as plain text otherwise.
"""

from __future__ import annotations

import os
import sys

from flux.cli.options import Command, Parsed
from flux.cli.tool import Failure, run, show
from fluxlet.cmd.builtins import BUILTINS

COMMAND = Command(
    "help",
    "Display help information for Flux commands",
    arguments="[COMMAND...]",
    words=(0, None),
    builtin=True,
    complete=("@command",),
    description="Shows the manual of a command, or of one of its sub-commands; without COMMAND, the list of commands. "
    "On a terminal the text goes through $PAGER, or else less.",
    examples=(("flux help start", "The manual of flux start."), ("flux help module load", "Of one sub-command.")),
    see_also=("version", "completion"),
)

_DEFAULT_PAGERS = ("less", "more")


def pager() -> list[str] | None:
    """The words of the pager for a terminal on stdout; None: none is wanted, there is none, or it is no terminal."""
    from shutil import which

    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return None
    chosen = os.environ.get("PAGER")
    if chosen is not None:
        return None if chosen in ("", "cat") else ["/bin/sh", "-c", chosen]
    found = next(filter(None, map(which, _DEFAULT_PAGERS)), None)
    return None if found is None else [found]


def page_text(text: str) -> None:
    """Shows a text: one screen after the other on a terminal. Raises OutputClosed, Failure."""
    from subprocess import PIPE, Popen

    words = pager()
    if words is None:
        show(text)
        return
    # For less, as git has it: a text that fits the screen is just printed, and colours are colours.
    environ = {"LESS": "FRX", **os.environ}
    try:
        with Popen(words, stdin=PIPE, env=environ, text=True) as process:
            try:
                process.communicate(text + "\n")
            except KeyboardInterrupt:
                process.wait()  # the pager decides what Ctrl-C means
    except OSError as exc:
        raise Failure(f"{words[-1]}: {os.strerror(exc.errno or 0)}") from None


def _width() -> int:
    from shutil import get_terminal_size

    return min(get_terminal_size((80, 24)).columns, 100)


def _body(parsed: Parsed) -> int:
    # The driver that runs us has seen to it that this is the `flux` of its PATH (spec 03, 2.3).
    flux = "flux"
    if not parsed.words:
        _exec(flux, [flux, "--help"])
    first, *rest = parsed.words
    topic = first if first.startswith("flux") else f"flux-{first}"
    if _has_manual(topic):
        _exec("man", ["man", topic])
    name = topic.removeprefix("flux-")
    if name not in BUILTINS:
        _exec(flux, [flux, *([] if topic == flux else [name]), "--help"])
    from fluxlet.cmd.manual import manual, page

    found = page(name)
    if found is None:
        raise Failure(f"{name}: run by Flux itself, there is nothing to know for using it")
    for word in rest:
        sub = next((sub for sub in found.subcommands if sub.name.rpartition(" ")[2] == word), None)
        if sub is None:
            raise Failure(f"{found.name} has no sub-command {word}")
        found = sub
    bold = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    page_text(manual(found, _width(), bold))
    return 0


def _has_manual(page: str) -> bool:
    from shutil import which
    from subprocess import DEVNULL, run

    return which("man") is not None and run(["man", "-w", page], stdout=DEVNULL, stderr=DEVNULL).returncode == 0


def _exec(file: str, argv: list[str]) -> None:
    sys.stdout.flush()
    try:
        os.execvp(file, argv)
    except OSError as exc:
        raise Failure(f"{file}: {os.strerror(exc.errno or 0)}") from None


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
