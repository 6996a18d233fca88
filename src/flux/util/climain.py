"""`CLIMain`: the frame of a command-line program (spec 02, 13.6)."""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

#: As a shell reports a program that SIGINT ended.
_EXIT_INTERRUPTED = 130


class CLIMain:
    """Runs a program's main function and ends the program: ``@CLIMain(LOGGER)`` before ``def main():``.

    Args:
        logger: logs the error that the program ends with; by default the root logger.

    The exit code is 0 when the function returns, that of SystemExit if it raises it, 130 after Ctrl-C, and 1
    after any other exception. That is logged as one line, its traceback at level DEBUG. Messages go to
    standard error as ``NAME: LEVEL: TEXT``, from the level on that FLUX_PYCLI_LOGLEVEL gives as a number
    (default INFO, 20).
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self.logger = logging.getLogger() if logger is None else logger

    def __call__(self, main_func: Callable[[], object]) -> NoReturn:
        logging.basicConfig(level=_log_level(), format="%(name)s: %(levelname)s: %(message)s")
        try:
            try:
                main_func()
            finally:
                if sys.stdout is not None and not sys.stdout.closed:
                    sys.stdout.flush()
        except KeyboardInterrupt:
            sys.exit(_EXIT_INTERRUPTED)
        except Exception as exc:  # noqa: BLE001 - the last frame of a program: there is nobody else to tell the user
            if isinstance(exc, BrokenPipeError) and _nobody_reads():
                _end_by_sigpipe()
            self.logger.error(_one_line(exc))
            self.logger.debug(traceback.format_exc())
            sys.exit(1)
        sys.exit(0)


def _nobody_reads() -> bool:
    """Whether standard output is a pipe or socket whose reader has gone (and not, say, the connection to a broker)."""
    poll = select.poll()
    poll.register(1, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def _end_by_sigpipe() -> NoReturn:
    """Ends the program in silence, as one that does not handle the signal: its reader has seen enough."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
    raise SystemExit(128 + signal.SIGPIPE)  # only if the signal is blocked


def _log_level() -> int:
    text = os.environ.get("FLUX_PYCLI_LOGLEVEL", str(logging.INFO))
    try:
        return int(text)
    except ValueError:
        sys.exit(f"FLUX_PYCLI_LOGLEVEL must be a number such as 10 (DEBUG) or 20 (INFO), not {text!r}")


def _one_line(exc: Exception) -> str:
    text = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
    filename = getattr(exc, "filename", None)
    return f"{text}: {filename!r}" if filename else str(text)
