"""Jobs in our own shells: one process a rank, commands and reports of many jobs in one message.

It takes the place of spec 07, 4.2 step 3. A shell's loss is that of all jobs there. Each job has its shell on a rank as
if it were a process of its own: it starts, it ends with a status, it is killed.
"""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from flux.constants import FLUX_RPC_NORESPONSE, FLUX_RPC_STREAMING
from flux.core.codec import dump_payload
from flux.core.future_state import RpcState
from fluxlet.modules.job_exec.job import Barrier, ExecJob

if TYPE_CHECKING:
    from fluxlet.modules.job_exec.module import JobExec


class Report(msgspec.Struct):
    """What a shell reports of a job."""

    id: int
    type: str
    exec: str = ""
    input: str = ""
    output: str = ""
    status: int = 0


class Lost(msgspec.Struct):
    """Why there is no shell any more."""

    status: int
    text: str


class Reports(msgspec.Struct):
    """A message of the module job-shell."""

    reports: list[Report] = []
    lost: Lost | None = None


_decode = msgspec.json.Decoder(Reports).decode


class Link:
    """The shell of one rank."""

    def __init__(self, resident: Resident, rank: int) -> None:
        self._resident = resident
        self.rank = rank
        self.jobs: dict[int, ExecJob] = {}
        """Those that have not ended here."""
        self._core = resident.service.handle.core
        self._commands: dict[str, list[str]] = {}
        self._stream = self._core.rpc(b"job-shell.connect", None, rank, FLUX_RPC_STREAMING)
        self._stream.add_hook(self._answered)
        reactor = resident.service.module.reactor
        self._soon = reactor.prepare(self.flush)  # before what is to be sent goes out
        self._early = reactor.timer(0.0, 0.0, self._answered)
        if self._stream.ready:
            self._early.start()  # on this rank it may have been answered at once: we are not known to anybody yet

    def tell(self, kind: str, command: str) -> None:
        """Adds a command, JSON text; all of a pass of the loop travel together."""
        self._commands.setdefault(kind, []).append(command)
        self._soon.start()

    def flush(self) -> None:
        """Sends what there is."""
        self._soon.stop()
        if self._commands:
            text = ",".join(f'"{kind}":[{",".join(items)}]' for kind, items in self._commands.items())
            self._commands.clear()
            raw = f"{{{text}}}\0".encode("utf-8", "surrogateescape")
            self._core.rpc(b"job-shell.run", raw, self.rank, FLUX_RPC_NORESPONSE)

    def close(self) -> None:
        """Lets go."""
        self._soon.stop()
        self._early.stop()
        self._stream.hooks = None

    def _answered(self) -> None:
        state = self._stream
        if state.errnum:
            self.close()
            self._resident.rank_lost(self, state)
            return
        reports = _decode((state.value.raw or b"{}\0")[:-1])
        state.reset()
        if reports.lost is not None:
            self._resident.shell_lost(self, reports.lost)
        for report in reports.reports:
            job = self.jobs.get(report.id)
            if job is not None:
                self._resident.reported(self, job, report)
        if reports.reports:
            self._resident.flush()


class Resident:
    """The runner of jobs in our own shells."""

    def __init__(self, service: JobExec) -> None:
        self.service = service
        self.links: dict[int, Link] = {}
        self._dirty: dict[int, ExecJob] = {}
        self._methods: dict[str, Callable[[Link, ExecJob, Report], None]] = {
            "start": self._started,
            "ready": self._ready,
            "events": self._texts,
            "raising": self._raising,
            "done": self._done,
        }

    def stop(self) -> None:
        """Lets go of the shells."""
        for link in self.links.values():
            link.close()

    # Runner.

    def start(self, job: ExecJob) -> None:
        """Sends the job to the shells of its ranks; J is in `job.data`."""
        names = f'"id":{job.id},"userid":{job.userid},"service":"{job.service}"'
        raw = f'{{{names},"J":{job.data},"R":{bytes(job.R).decode()}}}'
        job.data = None
        if len(job.nodes) > 1:
            job.barrier = Barrier(len(job.nodes))
            self.service.arm_barrier(job)
        for node in job.nodes:
            link = self.link(node.rank)
            link.jobs[job.id] = job
            link.tell("jobs", raw)

    def link(self, rank: int) -> Link:
        """The shell of a rank; what it runs for a job-exec before us is ended when we first ask."""
        link = self.links.get(rank)
        if link is None:
            link = self.links[rank] = Link(self, rank)
        return link

    def signal(self, job: ExecJob, signum: int) -> None:
        """Has the tasks signaled."""
        for shell in job.active:
            self._tell(job, shell, "signal", f"[{job.id},{signum}]")

    def kill(self, job: ExecJob, signum: int) -> None:
        """Has the tasks killed; what does not end then is not waited for."""
        for shell in job.active:
            self._tell(job, shell, "drop", str(job.id))

    def expires(self, job: ExecJob) -> None:
        """Its shells hear of the new time limit."""
        for shell in job.active:
            self._tell(job, shell, "expire", f"[{job.id},{job.expiration}]")

    def forget(self, job: ExecJob) -> None:
        """It is over."""
        for node in job.nodes:
            link = self.links.get(node.rank)
            if link is not None:
                link.jobs.pop(job.id, None)

    def _tell(self, job: ExecJob, shell: int, kind: str, command: str) -> None:
        link = self.links.get(job.nodes[shell].rank)
        if link is not None and job.id in link.jobs:
            link.tell(kind, command)

    # Reports.

    def reported(self, link: Link, job: ExecJob, report: Report) -> None:
        """A shell has something to say."""
        method = self._methods.get(report.type)
        if method is not None:
            method(link, job, report)

    def flush(self) -> None:
        """All reports of a message have been looked at: what they have for the KVS is committed."""
        dirty, self._dirty = self._dirty, {}
        for job in dirty.values():
            self.service.guests.flush(job)

    def _texts(self, link: Link, job: ExecJob, report: Report) -> None:
        if report.exec:
            job.exec_lines.append(report.exec)
        job.input_text += report.input
        job.output_text += report.output
        if job.committed:
            self._dirty[job.id] = job
        else:
            self.service.flush_soon(job)

    def _started(self, link: Link, job: ExecJob, report: Report) -> None:
        if len(job.nodes) == 1:
            self.service.started(job)
        self._texts(link, job, report)

    def _ready(self, link: Link, job: ExecJob, report: Report) -> None:
        assert job.barrier is not None
        shell = _shell_of(job, link.rank)
        if job.barrier.enter(shell):
            self.service.barrier_over(job)
            self.service.started(job)
            for other in job.active:
                self._tell(job, other, "go", str(job.id))

    def _raising(self, link: Link, job: ExecJob, report: Report) -> None:
        """There is an exception to be raised: of a job that runs, for those who watch it."""
        self.service.started(job)
        link.tell("heard", str(job.id))

    def _done(self, link: Link, job: ExecJob, report: Report) -> None:
        if not job.started_at:
            self.service.started(job)  # it has failed before the others were ready
        self._texts(link, job, report)
        del link.jobs[job.id]
        shell = _shell_of(job, link.rank)
        if len(job.nodes) == 1:
            self._dirty.pop(job.id, None)  # the last commit has it all
        self.service.shell_ended(job, shell, report.status)

    # Losses.

    def shell_lost(self, link: Link, lost: Lost) -> None:
        """The process has ended: what it ran has been killed."""
        jobs, link.jobs = link.jobs, {}
        for job in jobs.values():
            if lost.status >= 256 and not job.started_at:
                self.service.exception(job, "exec", lost.text)
            self.service.shell_ended(job, _shell_of(job, link.rank), lost.status or int(signal.SIGKILL))
        if jobs:
            # By their name in every locale.
            names = [
                f"jobtmp-{_shell_of(job, link.rank)}-{first}{job.f58[1:]}" for job in jobs.values() for first in "fƒ"
            ]
            raw = dump_payload({"names": names})
            self.service.handle.core.rpc(b"job-shell.clean", raw, link.rank, FLUX_RPC_NORESPONSE)

    def rank_lost(self, link: Link, state: RpcState) -> None:
        """The rank cannot be reached, or not any more; or it has no such module."""
        if self.links.get(link.rank) is link:
            del self.links[link.rank]
        jobs, link.jobs = link.jobs, {}
        for job in jobs.values():
            shell = _shell_of(job, link.rank)
            if state.errnum == errno.EHOSTUNREACH:
                self.service.node_lost(job, shell)
            else:
                text = f"error launching job shell on {job.where({shell})}: {state.error_text()}"
                self.service.exception(job, "exec", text)
                self.service.shell_ended(job, shell, 256)


def _shell_of(job: ExecJob, rank: int) -> int:
    for shell, node in enumerate(job.nodes):
        if node.rank == rank:
            return shell
    raise AssertionError(f"rank {rank} has no shell of {job.f58}")
