"""A command run on some ranks for a job: prologs, epilogs, housekeeping. The processes are the rexec service's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from flux.core.handle import Flux
from flux.core.remote_process import STDERR, STDOUT, RemoteProcess
from flux.subprocess import command_create

TERM, KILL = 15, 9


class Run:
    """See the module.

    Args:
        handle: of the module.
        command: its words.
        env: variables besides the broker's own.
        ranks: where it runs.
        on_output: called with (rank, line).
        on_rank: called with (rank, wait status) when it has ended there.
        on_end: called with the largest wait status when it has ended everywhere.
    """

    def __init__(
        self,
        handle: Flux,
        command: list[str],
        env: dict[str, str],
        ranks: Iterable[int],
        on_output: Callable[[int, str], None],
        on_rank: Callable[[int, int], None],
        on_end: Callable[[int], None],
    ) -> None:
        self.on_output, self.on_rank, self.on_end = on_output, on_rank, on_end
        self.status = 0
        self.failed_rank = -1
        self.trouble: str | None = None
        """Why it could not be run on a rank, or was lost there."""
        self.pending: dict[int, RemoteProcess] = {}
        cmd = command_create(command, env={**os.environ, **env})
        for rank in ranks:
            self.pending[rank] = RemoteProcess(handle, cmd, rank, flags=STDOUT | STDERR)
        for rank, process in self.pending.items():
            self._listen(rank, process)

    def _listen(self, rank: int, process: RemoteProcess) -> None:
        def output(stream: str, data: bytes) -> None:
            if data:
                self.on_output(rank, f"{stream}: {data.decode(errors='replace').rstrip()}")

        def ended() -> None:
            status = process.status
            if status is None:
                self.trouble = str(process.error.strerror if process.error else "it has been lost")
                self.on_output(rank, self.trouble)
                status = 1 << 8
            self._ended(rank, status)

        process.on_output = output
        process.on_end = ended

    def _ended(self, rank: int, status: int) -> None:
        if self.pending.pop(rank, None) is None:
            return
        if status > self.status:
            self.status, self.failed_rank = status, rank
        self.on_rank(rank, status)
        if not self.pending:
            self.on_end(self.status)

    def kill(self, signum: int, ranks: Iterable[int] | None = None) -> None:
        """Sends a signal to the processes that still run, on some ranks or all."""
        chosen = self.pending if ranks is None else set(ranks) & self.pending.keys()
        for rank in list(chosen):
            if self.pending[rank].running:
                self.pending[rank].kill(signum)

    def forget(self) -> None:
        """Nobody is interested any more."""
        for process in self.pending.values():
            process.forget()
        self.pending.clear()


def ranks_of(R: bytes | None) -> list[int]:
    """The ranks of an R."""
    from flux.resource.Rv1Set import Rv1Set

    return sorted(Rv1Set(R).nodes) if R else []


def job_environment(jobid: int, userid: int, **more: str) -> dict[str, str]:
    """What such commands find in their environment (spec 06, section 12)."""
    return {"FLUX_JOB_ID": str(jobid), "FLUX_JOB_USERID": str(userid), **more}
