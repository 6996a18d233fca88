"""Starting the tasks of a job on one rank: what each of them gets (spec 07, 5.3, 5.4, 5.7).

A job of many tasks starts them slice by slice: whoever else has something to do here gets his turn in between.
"""

from __future__ import annotations

import _socket
import errno
import os
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from fluxlet.shell import environment, options
from fluxlet.shell.affinity import AffinityError, visible_gpus
from fluxlet.shell.options import ShellError
from fluxlet.shell.rlimits import Borrowed
from fluxlet.shell.task import PmiLink, Stdin, Stream, Task

if TYPE_CHECKING:
    from fluxlet.shell.affinity import CpuAffinity
    from fluxlet.shell.job import Job

#: Seconds that a job's tasks are started for before others get their turn.
SLICE = 0.008


class Launch:
    """The start of the tasks of a job on this rank. Raises ShellError for bad options."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._ranks = job.layout.tasks[job.rank]
        self._next = 0
        self._limits: list[tuple[int, int]] = []
        self._affinity: CpuAffinity | None = None
        self._terminals: frozenset[int] = frozenset()
        self._warned = False
        if not self._ranks:
            return
        try:
            self._limits, warnings = job.plan.limits
        except ValueError as exc:
            job.log(3, str(exc), "rlimit")
            raise ShellError(str(exc), "rlimit") from None
        for warning in warnings:
            job.log(4, warning, "rlimit")
        self._affinity = _affinity(job)
        if job.duties is not None:
            self._terminals = job.duties.pty_ranks()
        elif "pty" in job.options:
            from fluxlet.shell.leader import pty_ranks

            self._terminals = pty_ranks(job.options, job.layout.ntasks)

    def go_on(self) -> bool:
        """Starts tasks for a slice of time. True if that was all. Raises ShellError, ValueError."""
        job, ranks = self._job, self._ranks
        if job.failed or not ranks:
            return True
        server = job.server
        error = server.spawner.enter(job.cwd)
        if error is not None and not self._warned:
            self._warned = True
            text = f"Could not change dir to {job.cwd}: {error.strerror}. Going to /tmp instead"
            job.log(3, f"host {job.hostname}: {text}")
        try:
            with Borrowed(self._limits, server.rlimits, server.own_rlimits):
                end = monotonic() + SLICE
                while self._next < len(ranks) and not job.failed:
                    index, self._next = self._next, self._next + 1
                    task = Task(job, ranks[index], index)
                    job.tasks.append(task)
                    _start(job, task, self._affinity, task.rank in self._terminals)
                    if monotonic() >= end:
                        break
        finally:
            os.chdir("/")  # nothing that we are in cannot be removed
        return self._next == len(ranks) or job.failed


def _affinity(job: Job) -> CpuAffinity | None:
    try:
        found = job.plan.affinity
    except AffinityError as exc:
        from flux.idset import IDset

        job.log(3, f"affinity: {exc}", "affinity")
        cores = IDset(list(job.layout.nodes[job.rank].cores))
        job.log(4, f"unable to get cpuset for cores {cores}. Disabling affinity", "affinity")
        return None
    except ValueError as exc:
        raise ShellError(str(exc), "affinity") from None
    if found.verbose:
        for index in range(job.ntasks):
            bound = found.of_task(index)
            job.log(5, f"affinity: task {index}: {'-' if bound is None else sorted(bound)}", "affinity")
    return None if found.dry_run else found


def _start(job: Job, task: Task, affinity: CpuAffinity | None, terminal: bool) -> None:
    """Starts one task. A program that cannot be started is the end of the job."""
    server, plan, index = job.server, job.plan, task.index
    env = job.env
    env["FLUX_TASK_RANK"] = str(task.rank)
    env["FLUX_TASK_LOCAL_ID"] = str(index)
    gpus = visible_gpus(job.options.get("gpu-affinity"), job.layout.nodes[job.rank].gpus, index, job.ntasks)
    if gpus is not None:
        env["CUDA_VISIBLE_DEVICES"] = gpus
        env.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    for name, template in plan.templates.items():
        env[name] = job.expand(str(template), index)
    argv: Sequence[str] = plan.argv or [job.expand(word, index) for word in plan.command]
    actions: list[tuple[Any, ...]] = []
    theirs: list[int] = []
    try:
        if terminal:
            _with_terminal(job, task, actions)
        else:
            _with_pipes(job, task, actions, theirs)
        if plan.pmi:
            _with_pmi(job, task, actions, theirs)
        bound = affinity.of_task(index) if affinity is not None else None
        path = environment.find_program(argv[0], env)
        task.pid = server.spawner.start(path, argv, env, actions, bound, job.own_groups or terminal)
    except ValueError:
        task.close()
        raise
    except OSError as exc:
        code = {errno.ENOENT: 127, errno.EACCES: 126, errno.EPERM: 126}.get(exc.errno or 0, 1)
        text = f"task {task.rank} (host {job.hostname}): start failed: {argv[0]}: {exc.strerror}"
        task.close()
        job.fail(ShellError(text, code=code), code << 8)
        return
    finally:
        for fd in theirs:
            os.close(fd)
    task.running = True
    job.running += 1
    server.tasks[task.pid] = task
    if terminal:
        job.terminals[-1].started()
    adjust = plan.oom_adjust
    if adjust is not None:
        try:
            with open(f"/proc/{task.pid}/oom_score_adj", "w") as file:
                file.write(str(adjust))
        except OSError as exc:
            job.log(6, f"oom.adjust: {exc.strerror}", "oom")


def _with_pipes(job: Job, task: Task, actions: list[tuple[Any, ...]], theirs: list[int]) -> None:
    if job.input_fd >= 0:
        _with_input_file(job, actions, theirs)
    else:
        child_in, own = os.pipe()
        theirs.append(child_in)
        task.stdin = Stdin(job.server.reactor, own)
        actions.append((os.POSIX_SPAWN_DUP2, child_in, 0))
    for fd, name in ((1, "stdout"), (2, "stderr")):
        own, child = os.pipe()
        theirs.append(child)
        os.set_blocking(own, False)
        task.streams.append(Stream(task, name, own, job.output.buffer(name)))
        actions.append((os.POSIX_SPAWN_DUP2, child, fd))


def _with_input_file(job: Job, actions: list[tuple[Any, ...]], theirs: list[int]) -> None:
    """Each task reads the file from its beginning: it has its own offset."""
    fd = os.open(f"/proc/self/fd/{job.input_fd}", os.O_RDONLY | os.O_CLOEXEC)
    theirs.append(fd)
    actions.append((os.POSIX_SPAWN_DUP2, fd, 0))


def _with_pmi(job: Job, task: Task, actions: list[tuple[Any, ...]], theirs: list[int]) -> None:
    own, child = _socket.socketpair()  # without what `socket` does for each: a third of the shell's part of PMI
    fd = child.detach()
    theirs.append(fd)
    task.pmi = PmiLink(task, own)
    # The child's number is one that none of what is still to be handed over has.
    number = max(theirs) + 1
    actions.append((os.POSIX_SPAWN_DUP2, fd, number))
    job.env["PMI_FD"] = str(number)
    job.env["PMI_RANK"] = str(task.rank)
    job.env["PMI_SIZE"] = str(job.layout.ntasks)


def _with_terminal(job: Job, task: Task, actions: list[tuple[Any, ...]]) -> None:
    from fluxlet.shell.pty import Terminal

    interactive = options.flag(job.options, "pty.interactive")
    capture = not interactive or options.flag(job.options, "pty.capture")
    wait = interactive and job.leader and task.index == 0
    captured = (lambda data: task.wrote("stdout", data)) if capture else None

    def held(terminal: Terminal) -> bool:
        if not capture or not job.full:
            return False
        job.paused = (*job.paused, terminal)
        return True

    def over() -> None:
        if capture:
            task.ended_stream("stdout")
        if task.done:
            job.task_done(task)

    terminal = Terminal(job.server.connection, task.index, captured, held, over, wait)
    job.terminals = (*job.terminals, terminal)
    task.terminal = terminal
    # The leader of a session gets the terminal that it opens for its controlling one.
    actions.append((os.POSIX_SPAWN_OPEN, 0, terminal.path, os.O_RDWR, 0))
    actions.append((os.POSIX_SPAWN_DUP2, 0, 1))
    actions.append((os.POSIX_SPAWN_DUP2, 0, 2))
    task.ended_stream("stderr")
    if not capture:
        task.ended_stream("stdout")
