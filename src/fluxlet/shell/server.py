"""The shell process: all jobs of one rank, one connection to the broker, one thread.

    commands (a stream from the module job-shell) -> jobs -> reports (requests to that module)

Rules:
- Reports of all jobs that come about in one pass of the loop travel as one message.
- A job's tasks are not watched for the first few milliseconds of their lives, and not reported for some more. What has
  ended by then, and most of what is short has, is read once, and reported as started and ended at once.
- Tasks are waited for by SIGCHLD, all that have ended together. A child that is no task is an orphan of a job's:
  it is ended when its job has.
- When the broker goes, so do we, and nothing of ours stays.
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

import msgspec

from flux.constants import FLUX_MSGTYPE_EVENT, FLUX_MSGTYPE_REQUEST, FLUX_ROLE_ALL
from flux.core import fluid
from flux.core.handle import Flux
from flux.message import Message
from flux.reactor import tls
from fluxlet.shell import events, methods
from fluxlet.shell.affinity import discover
from fluxlet.shell.connection import Connection
from fluxlet.shell.environment import Place
from fluxlet.shell.guestlog import Committer
from fluxlet.shell.job import Job, StartJob
from fluxlet.shell.keeper import children
from fluxlet.shell.later import Later
from fluxlet.shell.options import ShellError
from fluxlet.shell.plan import Plans
from fluxlet.shell.rlimits import own, raise_descriptors
from fluxlet.shell.spawn import Spawner, kill_group
from fluxlet.shell.tmpdirs import TmpDirs

if TYPE_CHECKING:
    from flux.core.future_state import RpcState
    from fluxlet.shell.task import Task

#: How long a job's tasks are not watched, and how long their start is not reported, in seconds.
_UNWATCHED = 0.003
_UNREPORTED = 0.01
#: How long tasks that have ended are taken note of before others get their turn, in seconds.
_REAPING = 0.008
#: When, after the end of a job, its orphans are looked for.
_SWEEP = 0.1


class Commands(msgspec.Struct):
    """What the module job-shell sends: what is to be done, for any number of jobs."""

    jobs: list[StartJob] = []
    go: list[int] = []
    """all ranks are ready"""
    signal: list[tuple[int, int]] = []
    drop: list[int] = []
    expire: list[tuple[int, float]] = []
    heard: list[int] = []
    """it is known that these have started"""


_decode_commands = msgspec.json.Decoder(Commands).decode


class ShellServer:
    """All jobs of one rank.

    Args:
        handle: a connection to the broker, for this alone.
        token: says to the module that we are the shell it has started.
    """

    def __init__(self, handle: Flux, token: str) -> None:
        self.handle = handle
        self.token = token
        self.reactor = handle.reactor
        self.connection = Connection(handle)
        self.committer = Committer(self.connection, self.reactor, self.complain)
        self.rank = handle.get_rank()
        self.rundir = handle.attr_get("rundir")
        self.cwd = os.getcwd()
        uri = os.environ["FLUX_URI"]
        self.place = Place(uri, self._attribute("jobid-path", "/"), self._attribute("hostname", socket.gethostname()))
        level = int(self._attribute("instance-level", "0"))
        self.pmi_preset = {"flux.instance-level": str(level + 1)}
        hint = self._attribute("tbon.interface-hint", "")
        if hint:
            self.pmi_preset["flux.tbon-interface-hint"] = hint
        guests = handle.conf_get("access.allow-guest-user", False)
        self.output_limit = "10M" if guests else "1G"
        self.topology = discover()
        self._f58 = fluid.f58(0)[0]  # the locale is what it is
        self.plans = Plans(self)
        self.spawner = Spawner()
        self.tmpdirs = TmpDirs(self.rundir)
        self.rlimits = own()
        self.own_rlimits = raise_descriptors(self.rlimits)
        self.jobs: dict[int, Job] = {}
        self.services: dict[str, Job] = {}
        self.tasks: dict[int, Task] = {}
        self.others: set[Job] = set()
        """Jobs with children of ours that are no tasks."""
        self._starting: deque[StartJob] = deque()
        self._launching: deque[Job] = deque()
        self._launch = self.reactor.timer(0.0, 0.0, self._launch_some)
        self._unwatched: Later[Job] = Later(self.reactor, _UNWATCHED, self._watch)
        self._unreported: Later[Job] = Later(self.reactor, _UNREPORTED, Job.report_start)
        self._reap_more = self.reactor.timer(0.0, 0.0, self._reap)
        self._reports: list[str] = []
        self._gone: list[str] = []
        self._lines: dict[int, Job] = {}
        self._sweep = self.reactor.timer(_SWEEP, 0.0, self._sweep_orphans)
        self._reactor_events: list[Any] = []

    def _attribute(self, name: str, default: str) -> str:
        try:
            return self.handle.attr_get(name)
        except OSError:
            return default  # an attribute that this broker does not have

    def start(self) -> None:
        """Begins to serve."""
        handle = self.handle
        handle.event_subscribe("shell-")
        self._reactor_events = [
            handle.msg_watcher_create(self._on_event, FLUX_MSGTYPE_EVENT, "shell-*"),
            handle.msg_watcher_create(self._on_request, FLUX_MSGTYPE_REQUEST, "*", rolemask=FLUX_ROLE_ALL),
            self.reactor.signal(signal.SIGCHLD, lambda signum: self._reap()),
            self.reactor.signal(signal.SIGTERM, lambda signum: self.stop()),
            self.reactor.prepare(self._send_reports),
        ]
        for event in self._reactor_events:
            event.start()
        signal.signal(signal.SIGXCPU, signal.SIG_IGN)  # a task's limit may be below what we have used
        request = events.payload({"token": self.token})
        self.connection.stream(b"job-shell.attach", request, self._on_commands)

    def stop(self) -> None:
        """Ends all tasks, and the loop. What they leave behind is the keeper's."""
        for job in tuple(self.others):
            job.subprocesses.kill()
        for task in self.tasks.values():
            if not kill_group(task.pid, signal.SIGKILL):
                with suppress(ProcessLookupError):
                    os.kill(task.pid, signal.SIGKILL)
        for job in self.jobs.values():
            if job.tmpdir:
                self.tmpdirs.remove(job.tmpdir)
        self.tmpdirs.close()
        self.reactor.stop()

    # What jobs use.

    def f58(self, jobid: int) -> str:
        """A job's id as people see it."""
        return self._f58 + fluid.f58plain(jobid)[1:]

    def report(self, text: str) -> None:
        """Adds a report, JSON text; it is sent when the loop is about to wait."""
        self._reports.append(text)

    def complain(self, text: str) -> None:
        """What nobody but the broker's log has an ear for."""
        with suppress(OSError):
            self.handle.log(3, text)

    def fresh(self, job: Job) -> None:
        """A job's tasks have just been started."""
        if not job.ended:
            self._unwatched.add(job)
            self._unreported.add(job)

    def not_fresh(self, job: Job) -> None:
        """Its tasks have ended already."""
        self._unwatched.discard(job)
        self._unreported.discard(job)

    def lines_soon(self, job: Job) -> None:
        """The job has lines for exec.eventlog, unless its end comes first."""
        self._lines[job.id] = job

    def forget(self, job: Job) -> None:
        """A job has ended here."""
        self.jobs.pop(job.id, None)
        if self.services.pop(job.service, None) is not None:
            self._gone.append(job.service)
        self._unwatched.discard(job)
        self._unreported.discard(job)
        self._lines.pop(job.id, None)
        self.others.discard(job)
        self.sweep_soon()

    def sweep_soon(self) -> None:
        """There may be orphans."""
        if not self._sweep.active:
            self._sweep.start()

    # Commands.

    def _on_commands(self, state: RpcState) -> None:
        if state.errnum:
            self.stop()  # the broker, or its module, has gone
            return
        raw = state.value.raw or b"{}\0"
        commands = _decode_commands(raw[:-1])
        self._starting.extend(commands.jobs)
        if self._starting and not self._launch.active:
            self._launch_some()  # one now, the others after the next look at who else has something to do
        for jobid in commands.go:
            job = self.jobs.get(jobid)
            if job is not None and not job.started and not job.failed:
                job.start_tasks()
        for jobid, signum in commands.signal:
            self._for_job(jobid, lambda job, signum=signum: job.signal(signum))
        for jobid in commands.drop:
            self._for_job(jobid, Job.drop)
        for jobid, expiration in commands.expire:
            job = self.jobs.get(jobid)
            if job is not None and job.duties is not None:
                job.duties.expires(expiration)
        for jobid in commands.heard:
            job = self.jobs.get(jobid)
            if job is not None:
                job.start_known()

    def _for_job(self, jobid: int, action: Any) -> None:
        """Does something to a job; one that has not been begun is, so that it comes to its end in the usual way."""
        while jobid not in self.jobs and any(start.id == jobid for start in self._starting):
            self._begin(self._starting.popleft())
        job = self.jobs.get(jobid)
        if job is not None:
            action(job)

    def launching(self, job: Job) -> None:
        """Not all of a job's tasks are started yet."""
        self._launching.append(job)
        self._launch.start()

    def _launch_some(self) -> None:
        """Starts one job, and more of another's tasks; looks after everybody else before the next."""
        if self._launching:
            self._launching.popleft().launch_more()
        if self._starting:
            self._begin(self._starting.popleft())
        if self._starting or self._launching:
            self._launch.start()

    def _begin(self, start: StartJob) -> None:
        job = Job(self, start)
        self.jobs[job.id] = job
        self.services[job.service] = job
        job.begin()

    # Events and requests.

    def _on_event(self, handle: Flux, watcher: Any, msg: Message, args: Any) -> None:
        """shell-ID.kill {"signum": i}"""
        name, _, method = msg.topic.partition(".")
        number = name.removeprefix("shell-")
        job = self.jobs.get(int(number)) if number.isdigit() else None
        if job is None or method != "kill":
            return
        try:
            signum = msg.payload["signum"]
        except (ValueError, KeyError, TypeError):
            signum = None
        if type(signum) is not int or not 0 < signum < signal.NSIG:
            job.log(3, f"malformed event {msg.topic}")
            return
        job.signal(signum)

    def _on_request(self, handle: Flux, watcher: Any, msg: Message, args: Any) -> None:
        name, _, method = msg.topic.partition(".")
        job = self.services.get(name)
        try:
            if job is None:
                raise OSError(errno.ENOSYS, f"Unknown service method '{msg.topic}'")
            if not methods.allowed(job, msg):
                raise OSError(errno.EPERM, "only the owner of a job may use the service of its shell")
            methods.serve(job, method, msg)
        except ShellError as exc:
            self.connection.refuse(msg, errno.EINVAL, exc.text)
        except OSError as exc:
            if not msg.flags & 0x10:
                self.connection.refuse(msg, exc.errno or errno.EIO, exc.strerror or "")

    # Time passes.

    def _watch(self, job: Job) -> None:
        for task in job.tasks:
            task.watch(self.reactor)

    def _send_reports(self) -> None:
        if self._lines:
            lines, self._lines = self._lines, {}
            for job in lines.values():
                job.report_lines()
        if self._reports:
            gone = ",".join(f'"{service}"' for service in self._gone)
            text = f'{{"gone":[{gone}],"reports":[{",".join(self._reports)}]}}\0'
            self._reports.clear()
            self._gone.clear()
            try:
                self.connection.tell(b"job-shell.report", text.encode("utf-8", "surrogateescape"))
            except OSError:
                self.stop()

    def _reap(self) -> None:
        """Processes have ended."""
        if self.others:
            self._reap_tasks()
            return
        orphans = False
        end = monotonic() + _REAPING
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            task = self.tasks.pop(pid, None)
            if task is not None:
                task.job.task_exited(task, status)
                if monotonic() > end:
                    self._reap_more.start()
                    break
            else:
                orphans = True
        if orphans:
            self.sweep_soon()

    def _reap_tasks(self) -> None:
        """As above, but leaves those alone that somebody else waits for (`subprocesses`)."""
        for pid, task in list(self.tasks.items()):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                del self.tasks[pid]
                task.job.task_exited(task, status)
        for job in tuple(self.others):
            job.check()
        self.sweep_soon()

    def _sweep_orphans(self) -> None:
        """Ends what jobs that are over have left behind."""
        theirs = {pid for job in self.others for pid in job.subprocesses.pids}
        found = [pid for pid in children() or () if pid not in self.tasks and pid not in theirs]
        left = False
        for pid in found:
            owner = _job_of(pid)
            if owner is None and self.jobs:
                left = True  # whose it is nobody can tell: it has until the last job ends
            elif owner is None or owner not in self.jobs or self.jobs[owner].failed:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
                left = True  # its own children are ours then
        if left:
            self.sweep_soon()


def _job_of(pid: int) -> int | None:
    """The id of the job that a process says it belongs to."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environ = b"\0" + file.read()
    except OSError:
        return None
    _, found, rest = environ.partition(b"\0FLUX_KVS_NAMESPACE=job-")
    number = rest.partition(b"\0")[0]
    return int(number) if found and number.isdigit() else None


def serve(uri: str, token: str) -> int:
    """Serves the broker at `uri` until it goes. Returns the exit code."""
    with suppress(OSError), open("/proc/self/comm", "w") as comm:
        comm.write("flux-shell")
    with Flux(uri) as handle:
        handle.log_set_appname("job-shell")
        server = ShellServer(handle, token)
        server.start()
        gc.freeze()
        gc.enable()
        server.reactor.run()
        # It is over: what is still to be answered is nobody's loss, and there is no handle to complain with.
        server.connection.forget()
        if tls.exception is not None:
            raise tls.exception
    return 0
