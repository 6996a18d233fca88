"""Instances for tests: `flux start` in a process of its own, with a program that waits for the end of its input."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FLUX = str(Path(sys.executable).parent / "flux")
_PATIENCE = 30.0
_PROGRAM = "echo $FLUX_URI; read x; exit 0"


class StartedInstance:
    """A running instance of one broker.

    Its end is tied to ours: its program reads from a pipe of this process, which closes with it, however that ends.
    """

    def __init__(self) -> None:
        foreign = ("FLUX_", "PMI_", "SLURM_")
        environ = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        self.process = subprocess.Popen(
            [FLUX, "start", "sh", "-c", _PROGRAM],
            env={**environ, "SHELL": "/bin/sh"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.uri = self.process.stdout.readline().strip()
        assert self.uri, "the instance does not start"

    def stop(self) -> None:
        """Has the instance end in good order; idempotent."""
        self._finish(0, 1)

    def kill(self) -> None:
        """Ends the broker without warning: its clients lose their connections."""
        self.process.kill()
        self._finish(-9)

    def _finish(self, *codes: int) -> None:
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdin.closed:
            return
        process.stdin.close()
        try:
            code = process.wait(_PATIENCE)
        finally:
            process.kill()
            process.stdout.close()
        assert code in codes
