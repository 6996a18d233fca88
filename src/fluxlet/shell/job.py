"""Job: what this rank does for one job, from its start to the report of its end (spec 07, 5.1 to 5.6).

    begin -> (ready: all ranks are) -> start_tasks -> ... task_done ... -> (leader: all ranks are done) -> end

Rules:
- What goes wrong is a ShellError: logged as FATAL, raised as the job's exception, and the end of what runs here.
- exec.eventlog is written by job-exec: we report lines. Output is written by the leader's shell, its last piece goes
  with the report of the end.
- Whoever produces output looks at `full`, and comes back through `paused`.
"""

from __future__ import annotations

import errno
import os
import signal
from binascii import a2b_base64
from collections.abc import Callable, Sequence
from contextlib import suppress
from json.encoder import encode_basestring as quoted
from time import time
from typing import TYPE_CHECKING, Any

import msgspec

from fluxlet.shell import allocation, events, layout, tags
from fluxlet.shell.guestlog import GuestLog
from fluxlet.shell.jobspec import Jobspec
from fluxlet.shell.launch import Launch
from fluxlet.shell.mustache import TemplateError, expand
from fluxlet.shell.options import ShellError
from fluxlet.shell.output import Output
from fluxlet.shell.plan import Plan
from fluxlet.shell.prepare import prepare
from fluxlet.shell.task import Stream, Task

if TYPE_CHECKING:
    from fluxlet.shell.feeder import Feeder
    from fluxlet.shell.leader import Leader
    from fluxlet.shell.outputfile import OutputFile
    from fluxlet.shell.pmi_service import PmiService
    from fluxlet.shell.pty import Terminal
    from fluxlet.shell.remote import RemoteOutput
    from fluxlet.shell.server import ShellServer
    from fluxlet.shell.subprocesses import Subprocesses

#: The most output that goes with the report of the end, in bytes.
_LAST_PIECE = 64 << 10


class StartJob(msgspec.Struct):
    """What job-exec sends: the job's id, its owner, J (in base64), its resources, and the name of its service."""

    id: int
    userid: int
    J: str
    R: allocation.R
    service: str


class Job:
    """One job on one rank."""

    # What most jobs never change is here, once: thousands of them come and go.
    plan: Plan
    jobspec: Jobspec
    layout: layout.Layout
    output: Output
    # Until more is known, for what may go wrong before that.
    rank = 0
    size = 1
    leader = True
    tmpdir = ""
    cwd = "/"
    verbose = 0
    own_groups = True
    remote: RemoteOutput | None = None
    duties: Leader | None = None
    terminals: Sequence[Terminal] = ()
    paused: Sequence[Stream | Terminal] = ()
    slow: Sequence[OutputFile] = ()
    """Those that its output goes to and that have a reader who may take his time."""
    input_fd = -1
    feeder: Feeder | None = None
    code = 0
    running = 0
    """Tasks that are not done."""
    started = False
    failed = False
    ended = False
    _exit_reported = False
    _start_reported = False
    _headed = False
    _fail_code: int | None = None
    _raises = 0
    """Exceptions of ours that are on their way."""
    _start_known = False
    """Whether job-exec has heard of it, and has passed it on."""
    _unraised: Sequence[bytes] = ()
    """What waits for that."""
    input_header = ""
    """What `input` begins with, until it is reported."""
    _launch: Launch | None = None
    """While not all tasks are started."""
    _early: Sequence[Callable[[], object]] = ()
    """What is to be done then."""
    _when_drained: Sequence[Callable[[], None]] = ()
    _pmi: PmiService | None = None
    _subprocesses: Subprocesses | None = None

    def __init__(self, server: ShellServer, start: StartJob) -> None:
        self.server = server
        self.id = start.id
        self.userid = start.userid
        self.service = start.service
        self._command = start
        self.expiration = start.R.execution.expiration
        self.f58 = server.f58(start.id)
        self.hostname = server.place.hostname
        self.output_log = GuestLog(server.committer, f"job-{start.id}", "output", None, self.drained)
        self.options: dict[str, Any] = {}
        self.env: dict[str, str] = {}
        self.tasks: list[Task] = []
        self.created = time()
        self._lines: list[str] = []  # for exec.eventlog

    # What others ask.

    @property
    def full(self) -> bool:
        """True if whoever produces output is to pause."""
        if self.slow and any(file.full for file in self.slow):
            return True
        return self.remote.full if self.remote is not None else self.output_log.full

    @property
    def ntasks(self) -> int:
        """The number of tasks on this rank."""
        return len(self.layout.tasks[self.rank])

    @property
    def program(self) -> str:
        """The name of its program, for messages."""
        return self.jobspec.tasks[0].command[0].rpartition("/")[2]

    def expand(self, template: str, index: int | None = None) -> str:
        """`template` with its tags replaced, for the task with this local id. A bad one stays as it is."""
        if "{{" not in template:
            return template
        try:
            return expand(template, lambda tag: tags.value(self, tag, index))
        except TemplateError as exc:
            self.log(3, str(exc), "mustache")
            return template

    @property
    def subprocesses(self) -> Subprocesses:
        """What debuggers and `flux exec --jobid` run beside the tasks; made when first needed."""
        if self._subprocesses is None:
            from fluxlet.shell.subprocesses import Subprocesses

            self._subprocesses = Subprocesses(self)
        return self._subprocesses

    @property
    def has_subprocesses(self) -> bool:
        """Whether `subprocesses` was ever asked for."""
        return self._subprocesses is not None

    # Messages for the user.

    def log(self, level: int, message: str, component: str | None = None) -> None:
        """A message of this shell: 0 fatal, 3 error, 4 warning, 5 plain, 6 debug, 7 trace."""
        if level > 5 and level - 5 > self.verbose:
            return
        if self.remote is not None:
            self.remote.write("log", events.log_context(self.rank, level, message, component))
        else:
            self.log_of(self.rank, level, message, events.log_context(self.rank, level, message, component))

    def log_of(self, rank: int, level: int, message: str, context: str) -> None:
        """At the leader: a message of any shell of the job."""
        output = getattr(self, "output", None)
        if output is None or not output.log(rank, level, message):
            self.output_log.add("log", context)

    def raise_exception(self, note: str, wait_status: int | None = None, severity: int = 0) -> None:
        """Raises the exception `exec` on this job; the report of its end waits until that is known (spec 07, 5.5).

        In the job's eventlog it comes after `start`, as shells are there before anything can go wrong in them.
        """
        request: dict[str, Any] = {"id": self.id, "type": "exec", "severity": severity, "note": note}
        if wait_status is not None:
            request["wait_status"] = wait_status
        self._raises += 1
        if self._start_known:
            self._raise(events.payload(request))
            return
        if not self._unraised:
            self.server.report(f'{{"id":{self.id},"type":"raising"}}')
        self._unraised = (*self._unraised, events.payload(request))

    def start_known(self) -> None:
        """Who watches the job hears of its start first now."""
        self._start_known = True
        unraised, self._unraised = self._unraised, ()
        for raw in unraised:
            self._raise(raw)

    def _raise(self, raw: bytes) -> None:
        def answered(state: Any) -> None:
            self._raises -= 1
            if state.errnum:
                self.server.complain(f"{self.f58}: job-manager.raise: {state.error_text()}")
            self._end_if_done()

        self.server.connection.ask(b"job-manager.raise", raw, answered, 0)

    def fail(self, error: ShellError, wait_status: int | None = None) -> None:
        """The job cannot go on: it is told why, what runs here is killed."""
        if self.failed or self.ended:
            return
        self.failed = True
        for task in self.tasks:
            for stream in task.streams:
                stream.drain()  # what was written before that is not to be lost
        self.log(0, error.text, error.component)
        self._fail_code = error.code
        self.raise_exception(error.text, wait_status)
        for task in self.tasks:
            task.signal(signal.SIGKILL)
        self._release_streams()
        self._end_if_done()

    # The start.

    def begin(self) -> None:
        """Reads what there is to know, and starts the tasks; of several ranks, when all of them are ready."""
        try:
            prepare(self, self._command)
            if self.plan.files or not self.options.keys().isdisjoint(("stage-in", "hwloc")):
                from fluxlet.shell.staging import stage

                stage(self, self._ready)
            else:
                self._ready()
        except ShellError as exc:
            self._begin_failed(exc)
        except ValueError as exc:
            self._begin_failed(ShellError(str(exc)))

    def _ready(self) -> None:
        """All that the tasks need is there."""
        if self.size == 1:
            self.start_tasks()
        else:
            self.server.report(f'{{"id":{self.id},"type":"ready"}}')

    def _begin_failed(self, error: ShellError) -> None:
        if not self._headed:
            self.head(self.layout.ntasks if hasattr(self, "layout") else 0)
        self.fail(error)

    def head(self, ntasks: int) -> None:
        """Begins the output; what has been said before comes behind that."""
        if self.leader:
            self._headed = True
            self.output_log.begin(events.output_header(time(), ntasks))

    # Tasks.

    def start_tasks(self) -> None:
        """Starts the tasks of this rank."""
        self.started = True
        if self.leader:
            now = time()
            context = f'{{"service":"{self.service}","leader-rank":{self.server.rank},"size":{self.size}'
            if self.duties is not None:
                context += self.duties.pty_context()
            self._lines.append(events.entry(now, "shell.init", context + "}"))
            self._lines.append(events.entry(now, "shell.start", self.plan.taskmap))
        try:
            if "coprocess" in self.options:
                from fluxlet.shell.coprocess import start_coprocesses

                start_coprocesses(self)
            self._launch = Launch(self)
        except ShellError as exc:
            self.fail(exc)
        except ValueError as exc:
            self.fail(ShellError(str(exc)))
        self.launch_more()

    def launch_more(self) -> None:
        """Starts more of its tasks; what has come for all of them meanwhile is theirs when all are there."""
        if self._launch is not None:
            try:
                if not self._launch.go_on():
                    self.server.launching(self)
                    return
            except ShellError as exc:
                self.fail(exc)
            except ValueError as exc:  # a word or a variable that no process can have
                self.fail(ShellError(str(exc)))
            self._launch = None
        self.server.fresh(self)
        if self.feeder is not None and not self.failed:
            self.feeder.start()
        early, self._early = self._early, ()
        for action in early:
            action()
        if self.running:
            self._end_if_done()
        else:
            self._all_done()

    @property
    def pmi(self) -> PmiService:
        """PMI for the tasks of this rank. Raises ShellError for bad options."""
        if self._pmi is None:
            from fluxlet.shell.pmi_service import PmiService

            self._pmi = PmiService(self)
        return self._pmi

    def pmi_line(self, task: Task, line: str) -> None:
        """A task says something to PMI."""
        try:
            self.pmi.line(task, line)
        except ShellError as exc:
            self.fail(exc)

    # What tasks do.

    def task_exited(self, task: Task, status: int) -> None:
        """A process has ended."""
        task.exited(status)
        self.first_exit(task)
        if task.terminal is not None:
            task.terminal.exited(status)
        elif task.done:
            self.task_done(task)
        else:
            task.watch(self.server.reactor)

    def first_exit(self, task: Task) -> None:
        """Says that a task has ended, if it is the first; the leader knows what then."""
        if self._exit_reported:
            return
        self._exit_reported = True
        status = task.status
        signaled = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0
        state = "Signaled" if signaled else "Exited"
        context = (
            f'{{"localid":{task.index},"rank":{task.rank},"state":"{state}","pid":{task.pid},'
            f'"wait_status":{status},"signaled":{signaled},"exitcode":{code}}}'
        )
        if self.remote is not None:
            leader = self.layout.nodes[0].rank
            self.server.connection.tell(f"{self.service}.doom".encode(), context.encode() + b"\0", leader)
        else:
            self.task_exit_event(context)
            if self.duties is not None:
                self.duties.first_exit(task.rank, status, self.hostname)

    def task_exit_event(self, context: str) -> None:
        """At the leader: the first task of the job has ended."""
        self._lines.append(events.entry(time(), "shell.task-exit", context))
        if self._start_reported:
            self.server.lines_soon(self)

    def other_exit(self, context: str) -> None:
        """At the leader: the first task of a follower has ended."""
        if not self._exit_reported:
            self._exit_reported = True
            self.task_exit_event(context)

    def need_leader(self) -> Leader:
        """The leader's duties, which most jobs never have. Raises ShellError for bad options."""
        if self.duties is None:
            from fluxlet.shell.leader import Leader

            self.duties = Leader(self)
        return self.duties

    def written(self, name: Any, context: dict[str, Any]) -> None:
        """At the leader: a follower's entry of the output. Raises OSError(EPROTO)."""
        if name == "log":
            message, level, rank = context.get("message"), context.get("level"), context.get("rank")
            if not isinstance(message, str) or type(level) is not int or type(rank) is not int:
                raise OSError(errno.EPROTO, "bad log entry")
            self.log_of(rank, level, message, events.compact(context))
            return
        stream, task, data = context.get("stream"), context.get("rank"), context.get("data")
        if name != "data" or stream not in ("stdout", "stderr") or not isinstance(task, str):
            raise OSError(errno.EPROTO, "bad output")
        if isinstance(data, str):
            try:
                raw = data.encode("utf-8", "surrogateescape")
                if context.get("encoding") == "base64":
                    raw = a2b_base64(raw)
            except ValueError:
                raise OSError(errno.EPROTO, "bad output") from None
            self.output.collect(stream, task, raw)
        if context.get("eof"):
            self.output_log.add("data", events.eof_context(stream, task))

    def when_drained(self, then: Callable[[], None]) -> None:
        """Calls `then` when there is room for output."""
        if self.full:
            self._when_drained = (*self._when_drained, then)
        else:
            then()

    def check(self) -> None:
        """Something has ended that the end of the job waits for."""
        self._end_if_done()

    def task_done(self, task: Task) -> None:
        """A task has ended, and its output has."""
        self.code = max(self.code, task.code)
        self.running -= 1
        task.close()
        if self.running == 0 and self._launch is None:
            self._all_done()

    def _all_done(self) -> None:
        for task in self.tasks:
            task.end_group()
        self._end_if_done()

    def drained(self) -> None:
        """There is room for output again, or all of it is on its way."""
        if self.paused and not self.full:
            paused, self.paused = self.paused, ()
            for stream in paused:
                stream.resume()
        if self._when_drained and not self.full:
            waiting, self._when_drained = self._when_drained, ()
            for then in waiting:
                then()
        self._end_if_done()

    def _release_streams(self) -> None:
        """What reads no more because there was no room is not what its end waits for."""
        for stream in self.paused:
            stream.resume()
        self.paused = ()

    def feed(self, ranks: frozenset[int] | None, data: bytes, eof: bool) -> bool:
        """stdin for tasks of this rank (None: all). False if there is none of them that still has one."""
        if self._launch is not None:
            self._early = (*self._early, lambda: self.feed(ranks, data, eof))
            return True
        found = False
        for task in self.tasks:
            if ranks is not None and task.rank not in ranks:
                continue
            if task.terminal is not None:
                with suppress(OSError):
                    task.terminal.type(data or b"\4")
                found = True
            elif task.stdin is not None and not task.stdin.eof:
                task.stdin.write(data)
                if eof:
                    task.stdin.end()
                found = True
        return found

    def signal(self, signum: int) -> None:
        """Signals all tasks here, when all are started."""
        if self._launch is not None:
            self._early = (*self._early, lambda: self.signal(signum))
            return
        for task in self.tasks:
            task.signal(signum)
            if task.terminal is not None:
                task.terminal.no_client()
        if signum == signal.SIGKILL:
            self._abandon_output()
            self.server.sweep_soon()
        if not self.started and not self.ended:
            # It waits for other ranks, which will not come to it any more.
            self.code = max(self.code, 1)
            self.failed = True
            if not self._headed:
                self.head(0)
            self._end_if_done()

    def drop(self) -> None:
        """This shell is to end as if it were killed: its tasks are."""
        for task in self.tasks:
            task.signal(signal.SIGKILL)
            for stream in task.streams:
                stream.close()
            if task.terminal is not None:
                task.terminal.close()
        self.failed = True
        self._abandon_output()
        self.server.sweep_soon()
        self._end_if_done()

    def _abandon_output(self) -> None:
        """It is killed: nobody waits for the readers of its output any more."""
        for file in self.slow:
            file.abandon()
        if self.slow:
            self.drained()

    # Reports and the end.

    def report_start(self) -> None:
        """The tasks run: job-exec is told, with what there is for exec.eventlog and input."""
        self._start_reported = True
        texts = f'"exec":{quoted("".join(self._lines))},"input":{quoted(self.input_header)}'
        self.server.report(f'{{"id":{self.id},"type":"start",{texts}}}')
        self._lines.clear()
        self.input_header = ""
        self.output_log.touch()

    def report_lines(self) -> None:
        """What has come for exec.eventlog since then."""
        if self._lines:
            self.server.report(f'{{"id":{self.id},"type":"events","exec":{quoted("".join(self._lines))}}}')
            self._lines.clear()

    def _end_if_done(self) -> None:
        """Ends if nothing is left to be waited for."""
        if self.ended or self.running or self._raises or not (self.started or self.failed):
            return
        if self._launch is not None:
            return
        if self._subprocesses is not None and not self._subprocesses.end():
            return
        if self.duties is not None and not self.duties.done:
            self.duties.flush()
            return
        if any(file.size for file in self.slow):
            return
        if self.remote is not None:
            if self.remote.idle:
                self._end()
        elif not self.output_log.busy:
            if self.output_log.size > _LAST_PIECE:
                self.output_log.commit()
            else:
                self._end()

    def _end(self) -> None:
        self.ended = True
        if self.remote is not None and self.started:
            raw = b'{"shell_rank":%d}\0' % self.rank
            leader = self.layout.nodes[0].rank
            self.server.connection.tell(f"{self.service}.tasks-complete".encode(), raw, leader)
        if self.duties is not None:
            self.duties.close()
        output = getattr(self, "output", None)
        if output is not None:
            output.summary()
            output.close()
        for terminal in self.terminals:
            terminal.close()
        if not self._start_reported:
            self.server.not_fresh(self)
            self.report_start()
        last = self.output_log.take()
        code = self.code if self._fail_code is None else self._fail_code
        self.server.report(
            f'{{"id":{self.id},"type":"done","status":{code << 8},'
            f'"exec":{quoted("".join(self._lines))},"output":{quoted(last)}}}'
        )
        if self.input_fd >= 0:
            os.close(self.input_fd)
        if self.feeder is not None:
            self.feeder.close()
        if self.tmpdir:
            self.server.tmpdirs.remove(self.tmpdir)
        self.server.forget(self)
