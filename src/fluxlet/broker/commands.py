"""The programs that a broker runs one after the other: rc1 and rc3 of the user's, cleanup (spec 03, section 7)."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Collection
from syslog import LOG_WARNING
from typing import TYPE_CHECKING

from fluxlet.broker.program import Outcome, Program, Run, command_line, program_environment, usable_shell

if TYPE_CHECKING:
    from fluxlet.broker.broker import Broker
    from fluxlet.broker.guardian import Guardian


class Commands:
    """Runs programs, one list of them at a time.

    Args:
        broker: whose they are.
        guardian: told of the processes.
    """

    def __init__(self, broker: Broker, guardian: Guardian) -> None:
        self._broker = broker
        self._guardian = guardian
        self._current: Run | None = None
        self._left: deque[tuple[str, Program]] = deque()

    @property
    def running(self) -> bool:
        """A program runs."""
        return self._current is not None

    def environment(self) -> dict[str, str]:
        """The environment of the instance's programs."""
        attributes = self._broker.attributes.visible
        return program_environment(os.environ, attributes["local-uri"], attributes.get("jobid"))

    def of(self, name: str, lines: Collection[str]) -> list[tuple[str, Program]]:
        """Programs for `run`: lines that the user's shell runs, labelled NAME.0 and so on."""
        shell, warning = usable_shell(os.environ)
        if lines and warning:
            self._broker.log.write(LOG_WARNING, warning)
        return [(f"{name}.{number}", command_line(line, shell)) for number, line in enumerate(lines)]

    def run(self, commands: list[tuple[str, Program]], done: Callable[[int], None], all_of_them: bool) -> None:
        """Runs (label, program) in order; `done` gets the first exit code that is not 0.

        Args:
            all_of_them: also those after one that has failed.
        """
        self._left = deque(commands)
        failed = 0

        def ended(outcome: Outcome) -> None:
            nonlocal failed
            self._current = None
            self._broker.log.write(outcome.severity, outcome.text)
            failed = failed or outcome.code
            if failed and not all_of_them:
                self._left.clear()
            step()

        def step() -> None:
            if not self._left:
                done(failed)
                return
            label, program = self._left.popleft()
            reactor, log = self._broker.reactor, self._broker.log.write
            self._current = Run(reactor, self._guardian, label, program, self.environment(), ended, log)
            self._current.start()

        step()

    def run_flux(self, label: str, words: list[str], done: Callable[[int], None]) -> None:
        """Runs one of our own commands."""
        program = Program([sys.executable, "-P", "-m", "fluxlet", *words], f"flux {' '.join(words)}")
        self.run([(label, program)], done, all_of_them=True)

    def stop(self, signum: int) -> None:
        """Ends the current program; those after it are not run."""
        self._left.clear()
        if self._current is not None:
            self._current.signal(signum)


def rc_scripts(name: str) -> list[tuple[str, Program]]:
    """What the user has us run besides: his tasks (`flux.modprobe`), which run his scripts, too; or only those."""
    if os.environ.get("FLUX_MODPROBE_PATH") or os.environ.get("FLUX_MODPROBE_PATH_APPEND"):
        # But for what we have done already.
        disabled = f"FLUX_MODPROBE_DISABLE=startlog,{os.environ.get('FLUX_MODPROBE_DISABLE', '')}"
        words = ["env", disabled, sys.executable, "-P", "-m", "fluxlet", "modprobe", name]
        return [(f"{name}.0", Program(words, f"flux modprobe {name}"))]
    scripts = []
    for directory in os.environ.get("FLUX_RC_EXTRA", "").split(":"):
        scripts += _executables(os.path.join(directory, f"{name}.d")) if directory else []
    return [(f"{name}.0", Program([script], script)) for script in scripts]


def _executables(directory: str) -> list[str]:
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return []
    paths = [os.path.join(directory, name) for name in names]
    return [path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)]
