"""``flux alloc``: starts an instance, for a command or a shell, or to be used from outside (spec 08, 6.4).

In the foreground the user is attached to the job, with a terminal if there is one. With ``--bg`` nothing runs in the
instance; the command ends when it is ready for jobs.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from flux.cli.nest import BatchAllocCmd

if TYPE_CHECKING:
    from flux.eventlog import EventLogEvent
    from flux.job.event import JobEventWatchFuture
    from flux.job.JobID import JobID
    from flux.job.Jobspec import JobspecV1

__all__ = ["AllocCmd"]

#: What ``-v`` says when an event comes. The instance is ready later than the last of them.
_STEPS = {"submit": "waiting for resources", "alloc": "resources allocated", "start": "waiting for instance"}


class AllocCmd(BatchAllocCmd):
    """The command. Arguments as of MiniCmd."""

    def __init__(self, prog: str, usage: str | None = None, description: str | None = None) -> None:
        super().__init__(prog, usage or "flux alloc [OPTIONS...] [COMMAND] [ARGS...]", description)
        add = self.parser.add_argument
        add("-v", "--verbose", action="count", default=0, help="Increase verbosity (may be repeated)")
        add("--bg", action="store_true", help="Wait until the instance is ready, print its id, and leave it running")
        add("COMMAND", nargs=argparse.REMAINDER, help="The initial program and its arguments; by default a shell")
        self._started: float | None = None
        self._uri: str | None = None

    def init_jobspec(self, args: Any) -> JobspecV1:
        """The resources and the command."""
        from flux.job.Jobspec import JobspecV1

        self.init_common(args)
        # Accepted as those of flux batch, but streams are those of the terminal.
        args.input = args.output = args.error = None
        if args.bg and not args.COMMAND:
            args.broker_opts.append("-Sbroker.rc2_none=1")
        jobspec: JobspecV1 = JobspecV1.from_nest_command(args.COMMAND, **self.layout(args))
        if args.bg:
            jobspec.setattr_shell_option("pty.capture", 1)
        elif sys.stdin.isatty():
            jobspec.setattr_shell_option("pty.interactive", 1)
        self.update_jobspec_common(args, jobspec)
        return jobspec

    @staticmethod
    def log(jobid: JobID, ts: float, msg: str) -> None:
        """Says how far the instance is, `ts` seconds after it was submitted."""
        print(f"{jobid}: {ts:6.3f}s: {msg}", file=sys.stderr, flush=True)

    def bg_wait_cb(self, future: JobEventWatchFuture, args: Any, jobid: JobID) -> None:
        """An event of the job: waits for the one that says where the instance is."""
        event = future.get_event()
        if event is None:
            return
        if self._started is None:
            self._started = event.timestamp
        if args.verbose and event.name in _STEPS:
            self.log(jobid, event.timestamp - self._started, _STEPS[event.name])
        if event.name == "memo" and "uri" in event.context:
            self._uri = event.context["uri"]
        if self._uri is not None or event.name == "finish" or _is_fatal(event):
            future.cancel(stop=True)

    def _fail(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)
        self.exitcode = 1

    def background(self, args: Any, jobid: JobID) -> None:
        """Waits until the instance is ready for jobs, and prints its id; `exitcode` is 1 if it never is."""
        from flux.job.event import event_watch_async
        from flux.job.kill import cancel

        try:
            event_watch_async(self.handle(), jobid).then(self.bg_wait_cb, args, jobid)
            self.handle().reactor_run()
            if self._uri is not None:
                self._wait_until_ready(args, jobid, self._uri)
            else:
                self._show_end(jobid)
                self._fail(f"{jobid}: unexpectedly exited")
        except KeyboardInterrupt:
            self._fail(f"{jobid}: Interrupt: canceling job")
            cancel(self.handle(), jobid)

    def _show_end(self, jobid: JobID) -> None:
        """Shows what a job that has ended has to say for itself."""
        from contextlib import redirect_stdout

        from flux.cli.attach import Attach, Options

        with redirect_stdout(sys.stderr):
            Attach(self.handle(), jobid, str(jobid), Options(read_only=True)).run()

    def _wait_until_ready(self, args: Any, jobid: JobID, uri: str) -> None:
        from flux.core.handle import Flux
        from flux.uri import JobURI

        try:
            instance = Flux(JobURI(uri).nearest)
        except OSError as exc:
            self._fail(f"Unable to connect to {jobid}: {exc.strerror}")
            return
        with instance:
            try:
                instance.rpc("state-machine.wait").get()
            except OSError:
                self._fail(f"{jobid}: instance startup failed")
                return
        if args.verbose:
            self.log(jobid, time.time() - (self._started or time.time()), "ready")
        if not args.quiet:
            print(jobid, flush=True)

    def main(self, args: Any) -> int:
        """Runs the command; its exit code is that of the job, or tells whether the instance is ready."""
        from flux.cli.attach import Attach, Options

        jobid = self.submit(args)
        if args.bg:
            self.background(args, jobid)
            return self.exitcode
        if args.verbose:
            print(f"jobid: {jobid}", file=sys.stderr, flush=True)
        return Attach(self.handle(), jobid, str(jobid), Options()).run()


def _is_fatal(event: EventLogEvent) -> bool:
    return event.name == "exception" and event.context["severity"] == 0
