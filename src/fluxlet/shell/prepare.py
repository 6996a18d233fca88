"""What a job has before its tasks are started: place, directory, environment, output, input (spec 07, 5.1 to 5.3)."""

from __future__ import annotations

import os
import stat
from time import time
from typing import TYPE_CHECKING

from fluxlet.shell import environment, events, options
from fluxlet.shell.options import ShellError
from fluxlet.shell.output import Output

if TYPE_CHECKING:
    from fluxlet.shell.job import Job, StartJob


def prepare(job: Job, start: StartJob) -> None:
    """Finds out all there is to know of a job, and makes what its tasks need. Raises ShellError, ValueError.

    In this order, so that what goes wrong is told by those means that are there already.
    """
    server = job.server
    plan = job.plan = server.plans.of(start.J, start.R.execution)
    job.jobspec = plan.jobspec
    system = plan.system
    job.options = plan.options
    job.rank = plan.rank
    job.size = len(plan.nodes)
    job.leader = job.rank == 0
    job.verbose = plan.verbose
    job.cwd = system.cwd or server.cwd
    if not job.leader:
        from fluxlet.shell.remote import RemoteOutput

        low = options.integer(job.options, "output.client.lwm", 100)
        high = options.integer(job.options, "output.client.hwm", 1000, 1)
        service, leader = job.service, plan.nodes[0].rank
        job.remote = RemoteOutput(server.connection, service, leader, job.rank, low, high, job.drained)
    job.layout = plan.layout
    for node, before, after in job.layout.adjusted:
        if node == job.rank:
            job.log(4, f"{job.hostname}: adjusted cores from {before} to {after}")
    _make_tmpdir(job)
    if "FLUX_F58_FORCE_ASCII" in system.environment and job.f58.startswith("ƒ"):
        job.f58 = "f" + job.f58[1:]  # as its tasks are to see it
    job.env = environment.of_job(plan.environment, server.place, job.id, job.f58, job.tmpdir, plan.mpi)
    warning = environment.usable_tmpdir(job.env)
    if warning:
        job.log(4, warning)
    job.own_groups = plan.own_groups
    job.output = Output(job)
    job.output_log.delay = plan.output_delay
    if job.leader:
        now = time()
        job.head(job.layout.ntasks)
        job.input_header = events.input_header(now) if plan.simple else job.need_leader().header(now)
        for context in job.output.redirects():
            job.output_log.add("redirect", context)
    job.output.open(range(job.ntasks))
    if plan.input_is_file:
        _open_input(job)


def _make_tmpdir(job: Job) -> None:
    try:
        job.tmpdir = job.server.tmpdirs.make(f"jobtmp-{job.rank}-{job.f58}")
    except OSError as exc:
        raise ShellError(f"error creating FLUX_JOB_TMPDIR: {exc.strerror}") from None


def _open_input(job: Job) -> None:
    path = job.expand(options.text(job.options, "input.stdin.path") or "")
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        fd = os.open(os.path.join(job.cwd, path), flags)
    except OSError as exc:
        raise ShellError(f"error opening input file '{path}': {exc.strerror}", "input") from None
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        from fluxlet.shell.feeder import Feeder

        job.feeder = Feeder(job, fd)
    else:
        os.set_blocking(fd, True)
        job.input_fd = fd
