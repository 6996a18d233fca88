"""What the commands that are C programs in the reference have in common: connecting, failing, being ended.

    def main(argv: list[str]) -> int:
        return run(COMMAND, argv, _body)

Rules (spec 03, 2.2): errors are one line ``flux-NAME: TEXT`` on stderr and exit code 1, a failure to connect says
``flux_open``. A signal that ends the command ends it as it would a C program: no traceback, and the shell sees it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from errno import errorcode
from typing import Any, NoReturn

from flux.cli.options import Command, Parsed, UsageError
from flux.constants import FLUX_NODEID_ANY
from flux.core.handle import Flux


class Failure(Exception):
    """The command cannot do what it was asked to.

    Args:
        text: why, for ``flux-NAME: TEXT``.
        program: instead of ``flux-NAME``.
        hints: further lines, on what the user can do.
    """

    def __init__(self, text: str, program: str | None = None, hints: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.text = text
        self.program = program
        self.hints = hints


class OutputClosed(Exception):  # the reader has seen enough, which is no error of ours
    """Nobody reads stdout any more."""


def show(line: str, flush: bool = True) -> None:
    """Prints a line, at once for whoever follows the output. Raises OutputClosed."""
    try:
        print(line, flush=flush)
    except BrokenPipeError:
        raise OutputClosed from None


def text_of(error: OSError) -> str:
    """What a failed call says: the broker's words, or the errno's."""
    plain = os.strerror(error.errno or 0)
    if not error.strerror or error.strerror == f"{errorcode.get(error.errno or 0)}: {plain}":
        return plain
    return error.strerror


def connect(command: Command, uri: str | None = None) -> Flux:
    """A handle on the instance at `uri`, by default that of the environment. Raises Failure."""
    try:
        return Flux(uri)
    except OSError as exc:
        program = "flux" if command.builtin else None
        hints = tuple(getattr(exc, "__notes__", ()))
        where = uri or os.environ.get("FLUX_URI", "")
        if where.startswith("ssh://"):
            # What ssh says is the only clue to why it failed: the errno is that of the broken pipe.
            hints = (text_of(exc).removeprefix("Unable to connect to Flux: "), *hints)
        raise Failure(f"flux_open: {os.strerror(exc.errno or 0)}", program, hints) from None


def call(handle: Flux, topic: str, payload: Any = None, context: str = "", nodeid: int = FLUX_NODEID_ANY) -> Any:
    """The answer to a request. Raises Failure, with `context` before what the broker says."""
    try:
        return handle.rpc(topic, payload, nodeid).get()
    except OSError as exc:
        raise Failure(f"{context}: {text_of(exc)}" if context else text_of(exc)) from None


def use_color(parsed: Parsed) -> bool:
    """Whether the option ``--color[=WHEN]`` asks for escape sequences: by default on a terminal. Raises Failure."""
    when = "auto"
    if parsed.has("color"):
        value = parsed.value("color")
        when = "always" if value is None else value
    if when not in ("always", "never", "auto"):
        raise Failure(f"invalid argument for --color: '{when}': use always, never or auto")
    return when == "always" or (when == "auto" and sys.stdout.isatty() and not os.environ.get("NO_COLOR"))


def run(command: Command, argv: list[str], body: Callable[[Parsed], int]) -> int:
    """Parses `argv`, calls `body`, reports what goes wrong. Returns the exit code."""
    name = command.name
    try:
        status = body(command.parse(argv))
        _flush()
        return status
    except UsageError as exc:
        print(exc.text, file=sys.stderr)
        return exc.status
    except Failure as exc:
        return _failed(exc.program or f"flux-{name}", exc.text, *exc.hints)
    except OSError as exc:
        return _failed(f"flux-{name}", text_of(exc))
    except KeyboardInterrupt:
        end_by(signal.SIGINT)
    except OutputClosed:
        end_by(signal.SIGPIPE)


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise OutputClosed from None


def _failed(program: str, *lines: str) -> int:
    """Reports an error, behind what was printed before it."""
    with suppress(OutputClosed):
        _flush()
    for line in lines:
        print(f"{program}: {line}", file=sys.stderr)
    return 1


def end_by(signum: int) -> NoReturn:
    """Ends the process as a program that does not handle the signal."""
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)
    raise SystemExit(128 + signum)  # only if the signal is blocked
