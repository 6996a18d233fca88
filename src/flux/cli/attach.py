"""Attaching to a job: what ``flux job attach`` and ``flux run`` do (spec 08, section 7).

    eventlog -- submit --> guest.exec.eventlog -- shell.init --> guest.output, and standard input

Each eventlog is followed as soon as it is known to be of use. What the job writes comes out as it came in; everything
else is on stderr.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from flux.cli.attach_input import Input, somebody_types
from flux.cli.attach_signals import Signals
from flux.cli.attach_status import StatusLine
from flux.cli.tool import Failure, OutputClosed, text_of
from flux.core.handle import Flux
from flux.core.signal_text import signal_text
from flux.eventlog import EventLogEvent
from flux.job._outputevents import JobExceptionEvent, LogEvent, OutputEvent, RedirectEvent, decode
from flux.job.event import JobEventWatchFuture, event_watch_async
from flux.job.JobID import JobID

_MAIN, _EXEC, _OUTPUT = "eventlog", "guest.exec.eventlog", "guest.output"


class Options(NamedTuple):
    """What the options ask for; names as of the long options."""

    show_events: bool = False
    show_exec: bool = False
    show_status: bool = False
    wait_event: str | None = None
    label_io: bool = False
    verbose: int = 0
    quiet: bool = False
    read_only: bool = False
    unbuffered: bool = False
    stdin_ranks: str = "all"
    tail: int | None = None


class Attach:
    """One attachment.

    Args:
        handle: a connection; its reactor is run.
        jobid: of the job.
        name: the job's id as the user wrote it.
        options: Options.
    """

    def __init__(self, handle: Flux, jobid: JobID, name: str, options: Options) -> None:
        self.handle = handle
        self.jobid = jobid
        self.name = name
        self.options = options if options.read_only or somebody_types() else options._replace(read_only=True)
        self.finished = False
        self._t0: float | None = None
        self._waitstatus: int | None = None
        self._fatal = False
        self._watches: dict[str, JobEventWatchFuture] = {}
        self._open = 0
        self._reached = False
        self._detached = False
        self._held: list[EventLogEvent] | None = [] if options.tail is not None else None
        self._input = Input(self)
        self._signals = Signals(self)
        self._status = StatusLine(self)

    def run(self) -> int:
        """Attaches until the job ends, or what the options say; the exit code."""
        self._watch(_MAIN, self._main)
        if not self.options.read_only:
            self._signals.start()
        self._status.start()
        try:
            if self.options.read_only:
                self.handle.reactor_run()
            else:
                # The bare loop: SIGINT is for `_signals`.
                self.handle.reactor.run()
                self.handle.raise_if_exception()
        finally:
            self._status.stop()
            self._signals.stop()
            self._input.stop()
        return self._exit_code()

    def _exit_code(self) -> int:
        if self._waitstatus is None:
            # What was waited for has come, and the job was well by then.
            return 0 if self._reached and not self._fatal and not self._detached else 1
        code = os.waitstatus_to_exitcode(self._waitstatus)
        code = code if code >= 0 else 128 - code
        return 1 if code == 0 and self._fatal else code

    # What others ask.

    def say(self, text: str) -> None:
        """Prints a message for the user."""
        self._status.clear()
        print(f"flux-job: {text}", file=sys.stderr, flush=True)

    def detach(self) -> None:
        """Follows the job no more, and leaves it running."""
        self.say("detaching...")
        self._detached = True
        for watch in self._watches.values():
            watch.cancel()
        self._input.detach()
        self._signals.stop()
        self._status.stop()

    def fail(self, text: str) -> NoReturn:
        """Ends the command with a message."""
        raise Failure(text, "flux-job")

    # Watches.

    def _watch(self, path: str, handler: Callable[[EventLogEvent], None], flags: int = 0) -> None:
        if path in self._watches:
            return
        from flux.job._requests import watch_eventlog, wire_id

        if flags:
            watch = JobEventWatchFuture(watch_eventlog(self.handle.core, wire_id(self.jobid), path, flags))
        else:
            watch = event_watch_async(self.handle, self.jobid, path)
        self._watches[path] = watch
        self._open += 1
        watch.then(self._heard, path, handler)

    def _heard(self, watch: JobEventWatchFuture, path: str, handler: Callable[[EventLogEvent], None]) -> None:
        try:
            event = watch.get_event()
        except OSError as exc:
            self._over(path, exc)
            return
        if event is not None:
            if self._reached and (path == _MAIN or not self.finished):
                return  # it was under way when the watch was cancelled
            self._first(event)
            handler(event)
        elif watch.needs_cancel:
            self._release_held()  # the sentinel
        else:
            self._over(path, None)

    def _first(self, event: EventLogEvent) -> None:
        if self._t0 is None:
            self._t0 = event.timestamp

    def _over(self, path: str, exc: OSError | None) -> None:
        """The end of an eventlog."""
        if exc is not None and exc.errno == errno.EPERM:
            self.fail(f"Failed to attach to {self.name}: that is not your job")
        if exc is not None and path == _MAIN:
            why = "No such job" if exc.errno == errno.ENOENT else text_of(exc)
            self.fail(f"Failed to attach to {self.name}: {why}")
        if exc is not None and path == _OUTPUT and exc.errno == errno.ENOENT:
            self.say("No job output found")
        if path == _OUTPUT:
            self._release_held()
        self._open -= 1
        if self._open == 0:
            self._status.stop()
            self._signals.stop()
            self._input.stop()

    def _when(self, event: EventLogEvent) -> str:
        return f"{event.timestamp - (self._t0 or event.timestamp):.3f}s"

    def _line(self, text: str) -> None:
        self._status.clear()
        print(text, file=sys.stderr, flush=True)

    # Events.

    def _main(self, event: EventLogEvent) -> None:
        name, context = event.name, event.context
        self._status.event(event)
        if name == "exception":
            self._fatal = self._fatal or (context["severity"] == 0 and self._waitstatus is None)
            note = f"type={context['type']} severity={context['severity']} {context.get('note', '')}"
            self._line(f"{self._when(event)}: job.exception {self.name} {note}")
        elif self.options.show_events:
            self._line(f"{self._when(event)}: job.{name} {_compact(event)}".rstrip())
        if name == "submit":
            self._watch(_EXEC, self._exec)
        elif name == "finish":
            self.finished = True
            self._waitstatus = context["status"]
            self._tell_end(context["status"])
            self._input.stop()
        if name == self.options.wait_event:
            self._reached = True
            for path, watch in self._watches.items():
                # Of a job that has finished, all output is shown: it ends by itself.
                if path == _MAIN or not self.finished:
                    watch.cancel()

    def _tell_end(self, status: int) -> None:
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            self.say(f"job shell {signal_text(number) or f'killed by signal {number}'}")
        elif (code := os.WEXITSTATUS(status)) > 128 and (text := signal_text(code - 128)):
            self.say(f"task(s) {text}")
        elif code:
            self.say(f"task(s) exited with exit code {code}")

    def _exec(self, event: EventLogEvent) -> None:
        name, context = event.name, event.context
        if name == "log":
            if not self.options.quiet:
                where = f"{context.get('component', 'exec')}[{context.get('rank', 0)}]: {context.get('stream', '')}"
                self._line(f"{self._when(event)}: {where}: {context.get('data', '')}".rstrip("\n"))
        elif self.options.show_exec:
            self._line(f"{self._when(event)}: exec.{name} {_compact(event)}".rstrip())
        if name == "shell.init":
            self._input.service = context.get("service")
            self._input.leader = context.get("leader-rank", 0)
            self._follow_output()
            if "pty" in context and not self.finished:
                self._input.attach_terminal(context["pty"], bool(context.get("capture")))
            elif not self.options.read_only:
                self._input.start()
        elif name == "shell.start":
            self._input.tasks_known(context)
        elif name == "complete":
            self._follow_output()

    def _follow_output(self) -> None:
        self._watch(_OUTPUT, self._output, 2 if self._held is not None else 0)

    # Output.

    def _output(self, event: EventLogEvent) -> None:
        if self._held is None:
            self._show(event)
        elif self.options.tail and (event.name != "data" or "data" in event.context) and event.name != "header":
            self._held.append(event)
            del self._held[: -self.options.tail]

    def _release_held(self) -> None:
        """All that there was at first has been read: the last of it is shown."""
        held, self._held = self._held, None
        for event in held or ():
            self._show(event)

    def _show(self, entry: EventLogEvent) -> None:
        event = decode(entry, self.options.label_io)
        if isinstance(event, OutputEvent):
            if event.data:
                self._status.clear()
                write(sys.stdout if event.stream == "stdout" else sys.stderr, event.data)
        elif isinstance(event, RedirectEvent):
            if not self.options.quiet:
                self._line(event.render())
        elif isinstance(event, LogEvent):
            if not self.options.quiet:
                self._line(f"{self._when(event)}: {event.render(include_file_and_line=self.options.verbose > 0)}")
        elif isinstance(event, JobExceptionEvent):
            self._line(event.render())


def write(stream: Any, data: str) -> None:
    """Writes what a job wrote, byte for byte. Raises OutputClosed if nobody reads it."""
    try:
        stream.flush()
        stream.buffer.write(data.encode("utf-8", "surrogateescape"))
        stream.buffer.flush()
    except BrokenPipeError:
        raise OutputClosed from None


def _compact(event: EventLogEvent) -> str:
    import json

    return json.dumps(event.context, separators=(",", ":"), ensure_ascii=False) if event.context else ""
