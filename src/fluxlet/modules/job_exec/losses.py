"""Shells and nodes that are lost, or do not come, or do not go (spec 07, 4.3 and 4.4)."""

from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING

from flux.core.codec import dump_payload
from flux.core.future_state import RpcState
from flux.core.signal_text import signal_text
from fluxlet.modules.job_exec.job import ExecJob
from fluxlet.modules.job_exec.machine import State

if TYPE_CHECKING:
    from fluxlet.modules.job_exec.module import JobExec


class Losses:
    """What is to be done about them."""

    def __init__(self, service: JobExec) -> None:
        self.service = service

    def shell_ended(self, job: ExecJob, shell: int, status: int) -> None:
        """A shell has ended; was that to be?"""
        service = self.service
        if job.barrier is not None and not job.barrier.passed and not job.fatal and job.active:
            node = job.nodes[shell]
            service.exception(job, "exec", f"{node.host} (rank {shell}) terminated before first barrier")
        if job.barrier is not None and job.barrier.requests:
            requests, job.barrier.requests = job.barrier.requests, []
            for request in requests:
                service.module.post(request.response(None, errno.EIO))
        if os.WIFSIGNALED(status):
            self._killed(job, shell, status)
        if shell == 0 and job.active and not job.fatal:
            self._arm_exit_timeout(job)

    def _killed(self, job: ExecJob, shell: int, status: int) -> None:
        service = self.service
        what = signal_text(os.WTERMSIG(status)) or f"Signal {os.WTERMSIG(status)}"
        text = f"shell rank {shell} (on {job.nodes[shell].host}): {what}"
        if shell == 0:
            if not job.fatal:
                service.exception(job, "exec", text)
        elif job.is_critical(shell):
            if not job.fatal or not job.leader_exited:
                self._tell_leader(job, shell, 0, text)
        else:
            service.exception(job, "node-failure", text, 2)
            self._tell_leader(job, shell, 2, "")

    def _tell_leader(self, job: ExecJob, shell: int, severity: int, message: str) -> None:
        if job.leader_exited or 0 not in job.active:
            return
        request = {"type": "lost-shell", "severity": severity, "shell_rank": shell, "message": message}

        def told(state: RpcState) -> None:
            if state.errnum and 0 in job.active:
                self.service.complain(f"{job.f58}: error telling the leader of a lost shell: {state.error_text()}")

        topic = f"{job.service}.exception".encode()
        self.service.ask(topic, dump_payload(request), told, nodeid=job.nodes[0].rank)

    def node_lost(self, job: ExecJob, shell: int) -> None:
        """A node is gone, and its shell with it."""
        if shell not in job.active or job.state in (State.SAVING, State.RELEASED):
            return
        service, node = self.service, job.nodes[shell]
        critical = shell == 0 or job.is_critical(shell)
        job.active.discard(shell)
        message = f"node failure on {node.host} (shell rank {shell})"
        if shell == 0:
            job.leader_exited = True
        if critical:
            job.status = max(job.status, 256)
            self._tell_leader(job, shell, 0, message)
            if not job.fatal:
                service.exception(job, "exec", f"node failure on {node.host} (rank {node.rank})")
        else:
            service.exception(job, "node-failure", message, 2)
            self._tell_leader(job, shell, 2, "")
        if not job.active:
            service.all_ended(job, 0)

    # Those that do not come.

    def arm_barrier(self, job: ExecJob) -> None:
        """All shells are to be there in time."""
        barrier, limit = job.barrier, self.service.settings.barrier_timeout
        own = (job.system.exec.bulkexec or {}).get("barrier-timeout")
        if isinstance(own, (int, float)) and own >= 0:
            limit = float(own) or None
        if barrier is None or limit is None or barrier.timer is not None:
            return

        def late() -> None:
            missing = barrier.missing & job.active
            if not missing or job.fatal:
                return
            note = f"start barrier timeout waiting for {len(missing)}/{len(job.nodes)} nodes ({_ranks(missing)})"
            self.drain(job, missing, f"job {job.f58} start timeout: possible node hang")
            self.service.exception(job, "exec", note)

        barrier.timer = self.service.module.reactor.timer(limit, 0.0, late)
        barrier.timer.start()

    # Those that do not go.

    def _arm_exit_timeout(self, job: ExecJob) -> None:
        limit = self.service.settings.shell_exit_timeout
        if limit is None:
            return

        def late() -> None:
            if job.active and not job.fatal:
                note = f"job shells still active on {job.where(job.active)} {limit:g}s after leader shell exit"
                self.service.exception(job, "exec", note)

        job.exit_timer = self.service.module.reactor.timer(limit, 0.0, late)
        job.exit_timer.start()

    def give_up(self, job: ExecJob) -> None:
        """Nothing has ended what is left of a job: its nodes are drained, and it counts as ended."""
        self.drain(job, job.active, f"unkillable user processes for job {job.f58}")
        self.service.all_ended(job, int(signal.SIGKILL))

    def drain(self, job: ExecJob, shells: set[int], reason: str) -> None:
        """Has the nodes of shells drained."""
        targets = job.ranks(shells)
        service = self.service

        def drained(state: RpcState) -> None:
            if state.errnum:
                service.complain(f"error draining ranks {targets}: {state.error_text()}")

        request = dump_payload({"targets": targets, "reason": reason, "mode": "update"})
        service.ask(b"resource.drain", request, drained, nodeid=0)


def _ranks(shells: set[int]) -> str:
    from flux.idset import IDset

    return f"rank{'s' if len(shells) > 1 else ''} {IDset(sorted(shells))}"
