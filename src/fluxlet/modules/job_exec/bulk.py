"""Jobs in shells of the user's choice: a process for each job and rank, started through rexec (spec 07, 4.2 step 3).

The shell gets the job's id as its argument and speaks for itself to the broker; we see its exit status, and what it
writes becomes `log` events.
"""

from __future__ import annotations

import errno
import os
from base64 import b64decode
from typing import TYPE_CHECKING, Any

from flux.constants import FLUX_RPC_STREAMING
from flux.core.codec import dump_payload
from flux.core.future_state import RpcState
from flux.rpc import RPC
from fluxlet.modules.job_exec.job import Barrier, ExecJob

if TYPE_CHECKING:
    from fluxlet.modules.job_exec.module import JobExec

_STDOUT_STDERR = 3


class Process:
    """The shell of a job on one rank."""

    def __init__(self, bulk: Bulk, job: ExecJob, shell: int, request: dict[str, Any]) -> None:
        self._bulk = bulk
        self._job = job
        self.shell = shell
        self.rank = job.nodes[shell].rank
        self.pid = 0
        self.ended = False
        self._status = 0
        topic = f"{bulk.service.settings.service}.exec"
        self._rpc = RPC(bulk.service.handle, topic, request, self.rank, FLUX_RPC_STREAMING)
        self._rpc.then(self._answered)

    def _answered(self, rpc: RPC) -> None:
        try:
            value = rpc.get()
        except OSError as exc:
            self._over(exc)
            return
        rpc.reset()
        match value.get("type"):
            case "started":
                self.pid = value["pid"]
                self._bulk.one_started(self._job)
            case "output":
                self._wrote(value.get("io", {}))
            case "finished":
                self._status = value["status"]

    def _wrote(self, io: dict[str, Any]) -> None:
        data = io.get("data")
        if not data:
            return
        text = b64decode(data).decode("utf-8", "replace") if io.get("encoding") == "base64" else str(data)
        self._job.log_output("flux-shell", str(io.get("stream")), str(self.rank), text)
        self._bulk.service.flush_soon(self._job)

    def _over(self, exc: OSError) -> None:
        self.ended = True
        service, job = self._bulk.service, self._job
        if exc.errno == errno.ENODATA:
            service.shell_ended(job, self.shell, self._status)
        elif exc.errno == errno.EHOSTUNREACH:
            service.node_lost(job, self.shell)
        else:
            where = job.where({self.shell})
            service.exception(job, "exec", f"error launching job shell on {where}: {exc.strerror}")
            service.shell_ended(job, self.shell, 256)


class Bulk:
    """The runner of such jobs."""

    def __init__(self, service: JobExec) -> None:
        self.service = service

    def start(self, job: ExecJob) -> None:
        """Starts a process on each of its ranks."""
        service = self.service
        shell = job.system.exec.job_shell or service.settings.job_shell
        assert shell is not None
        cmdline = [shell, str(job.id)]
        env = {name: value for name, value in os.environ.items() if name != "FLUX_URI"}
        env["FLUX_KVS_NAMESPACE"] = job.namespace
        if job.userid != service.broker.owner:
            if service.settings.imp is None:
                service.exception(job, "exec", "unable run multiuser job with no IMP configured!")
                service.all_ended(job, 256)
                return
            cmdline = [service.settings.imp, "exec", *cmdline]
            env["FLUX_IMP_EXEC_HELPER"] = f"flux imp_exec_helper {job.id}"
        if len(job.nodes) > 1:
            job.barrier = Barrier(len(job.nodes))
            service.arm_barrier(job)
        cmd = {"cmdline": cmdline, "env": env, "opts": {}, "channels": [], "msgchan": []}
        request = {"cmd": cmd, "flags": _STDOUT_STDERR, "local_flags": 0}
        job.data = []
        for place in range(len(job.nodes)):
            job.data.append(Process(self, job, place, request))

    def one_started(self, job: ExecJob) -> None:
        """A process runs; when all do, the job has started."""
        if all(process.pid for process in job.data):
            self.service.started(job)
            self.service.flush_soon(job)

    def signal(self, job: ExecJob, signum: int) -> None:
        """Signals the processes, which pass it on."""
        self.kill(job, signum)

    def kill(self, job: ExecJob, signum: int) -> None:
        """Signals the processes."""
        service = self.service

        def killed(state: RpcState) -> None:
            if state.errnum and state.errnum != errno.ESRCH:
                service.complain(f"{job.f58}: rexec.kill: {state.error_text()}")

        topic = f"{service.settings.service}.kill".encode()
        for process in job.data or ():
            if process.pid and not process.ended:
                service.ask(topic, dump_payload({"pid": process.pid, "signum": signum}), killed, nodeid=process.rank)

    def expires(self, job: ExecJob) -> None:
        """They watch R themselves."""

    def forget(self, job: ExecJob) -> None:
        """It is over."""
        job.data = None
