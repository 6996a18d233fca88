"""Submitting several jobs at once, and following them (spec 08, 6.3): ``flux submit``.

With ``--cc=IDSET`` there is a job for each id: ``{cc}`` in the command and in most options stands for it. Other braces
are left as they are: ``{{id}}`` is for the job's shell to replace.
"""

from __future__ import annotations

import itertools
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from flux.cli.base import SubmitBaseCmd
from flux.cli.xcmd import Variant, Xcmd, mentions_id, replaced
from flux.job.JobID import JobID
from flux.job.submit import SubmitFuture

if TYPE_CHECKING:
    from flux.progress import ProgressBar

#: Submissions that have been sent and not been answered.
WINDOW = 500
#: Seconds between two drawings of the bar.
_REDRAW = 0.1
#: What has no part in a jobspec.
_OUTSIDE = ("command", "urgency", "flags", "log", "log_stderr", "wait_event", "cc", "bcc")

LOGGER = logging.getLogger("flux")


class SubmitBulkCmd(SubmitBaseCmd):
    """A command that submits several jobs. Arguments as of MiniCmd."""

    def __init__(self, prog: str, usage: str | None = None, description: str | None = None) -> None:
        super().__init__(prog, usage, description)
        add = self.parser.add_argument
        add("--cc", metavar="IDSET", help="Submit a copy of the job for each id; {cc} and $FLUX_JOB_CC are the id")
        add("--bcc", metavar="IDSET", help="As --cc, without $FLUX_JOB_CC")
        add("--wait-event", metavar="NAME", help="Wait for the event NAME of all jobs")
        add("--wait", action="store_true", help="Wait for all jobs to end")
        add("--watch", action="store_true", help="Show the output of all jobs, and wait for them to end")
        add("--log", metavar="FILE", help="Write ids and output of jobs to FILE")
        add("--log-stderr", metavar="FILE", help="Write stderr of jobs to FILE")
        add("--progress", action="store_true", help="Show a progress bar")
        add("--jps", action="store_true", help="With --progress, show jobs per second")
        self._logs: dict[str, TextIO] = {}
        self._watcher: Any = None
        self._bar: ProgressBar | None = None
        self._more: Iterator[None] = iter(())
        self._begun = 0.0
        self._submitted = 0
        self._sent = False
        self._last: tuple[Any, dict[str, Any], Any, dict[str, str]] | None = None

    @staticmethod
    def cc_list(args: Any) -> Sequence[str]:
        """The ids for which there is to be a job; one empty one without ``--cc``. Raises ValueError."""
        from flux.idset import IDset

        if args.cc and args.bcc:
            raise ValueError("specify only one of --cc or --bcc")
        if not args.cc and not args.bcc:
            return [""]
        return [str(number) for number in IDset(args.cc or args.bcc)]

    def openlog(self, filename: str) -> TextIO:
        """A log file; each is opened once."""
        if filename not in self._logs:
            self._logs[filename] = open(filename, "w", buffering=1, encoding="utf-8", errors="surrogateescape")  # noqa: SIM115  # closed by the end of the program
        return self._logs[filename]

    def _check_input(self, args: Any) -> None:
        from flux.idset import IDset

        if args.input is None:
            return
        try:
            ranks = len(IDset(args.input)) > 0
        except ValueError:
            return
        if ranks:
            LOGGER.error(f"per-task input not supported for {self.progname}")
            sys.exit(1)

    def _waits_for(self, args: Any) -> str | None:
        """The event after which a job is left alone; None: nobody waits."""
        if args.wait_event:
            event: str = args.wait_event
            return event
        return "clean" if args.wait or args.watch else None

    def watcher_start(self, args: Any) -> None:
        """Begins to follow jobs, if they are to be waited for."""
        if self._waits_for(args) is None or self._watcher is not None:
            return
        from flux.job.watcher import JobWatcher  # takes as long to read as all the rest

        self._watcher = JobWatcher(
            self.handle(),
            progress=args.progress,
            jps=args.jps,
            watch=args.watch,
            log_events=args.verbose > 1,
            log_status=args.verbose > 0,
            labelio=args.label_io,
            starttime=None,
        )
        self._watcher.start()

    def jobs_per_sec(self) -> float:
        """Submissions a second, so far."""
        elapsed = time.monotonic() - self._begun
        return self._submitted / elapsed if elapsed > 0 else 0.0

    def progress_start(self, args: Any, total: int) -> None:
        """Shows a bar of submissions, where that is wanted and no bar of jobs is shown."""
        self._begun = time.monotonic()
        if args.progress and not sys.stdout.isatty():
            LOGGER.warning("stdout is not a tty. Ignoring --progress option")
            args.progress = args.jps = False
        if args.progress and self._waits_for(args) is None:
            after = " {percent:5.1f}% {jps:4.1f} job/s" if args.jps else " {percent:5.1f}% {elapsed.hms}"
            before = f"Submitting {total} jobs: "
            from flux.progress import ProgressBar

            self._bar = ProgressBar(total=total, before=before, after=after, autostop=True, jps=0.0)
            self._bar.start()

    def _expect(self, more: int) -> None:
        """Tells the bar of jobs, if there is one, that there will be `more` of them, or that there will not."""
        if self._watcher is not None:
            self._watcher.progress.expect(more)

    def progress_update(self, jobinfo: Any = None, submit: bool = False, submit_failed: bool = False) -> None:
        """One more job was submitted, or refused."""
        self._submitted += submit or submit_failed
        if submit_failed:
            self._expect(-1)
        bar = self._bar
        if bar is not None:
            bar.count += 1
            if bar.count >= bar.total or bar.is_stale(_REDRAW):
                bar.update(advance=0, jps=self.jobs_per_sec())

    def _files(self, args: Any) -> tuple[TextIO, TextIO]:
        """Where the output of a job goes, and what is said of it."""
        stdout = self.openlog(args.log) if args.log else sys.stdout
        return stdout, self.openlog(args.log_stderr) if args.log_stderr else stdout if args.log else sys.stderr

    def _refused(self, stderr: TextIO, text: str) -> None:
        print(text, file=stderr, flush=True)
        self.exitcode = max(self.exitcode, 1)
        self.progress_update(submit_failed=True)

    def submit_cb(self, future: SubmitFuture, args: Any, label: str = "") -> None:
        """A submission was answered."""
        stdout, stderr = self._files(args)
        try:
            jobid: JobID = future.get_id()
        except OSError as exc:
            self._refused(stderr, f"{label}{exc}")
            return
        if not args.quiet:
            print(jobid, file=stdout, flush=True)
        self.progress_update(submit=True)
        if self._watcher is not None:
            self._watcher.add_jobid(jobid, stdout=stdout, stderr=stderr, wait=self._waits_for(args))

    def submit_async_with_cc(self, args: Any, cclist: Sequence[str] | None = None) -> None:
        """Submits a job for each of some ids: the first WINDOW now, each of the others when one has been answered."""
        self._submit_all(self._submissions(args, self.cc_list(args) if cclist is None else cclist))

    def _submit_all(self, submissions: Iterator[None]) -> None:
        self._more = submissions
        for _ in itertools.islice(submissions, WINDOW):
            pass

    def _submissions(self, args: Any, ids: Sequence[str]) -> Iterator[None]:
        """Submits one after the other. Raises what is wrong with the options of the first job of all."""
        changing = self._mentioning(args) if any(ids) else {}
        for cc in ids:
            mine = Variant(args, {name: replaced(value, cc) for name, value in changing.items()}) if changing else args
            label = f"cc={cc}: " if cc else ""
            try:
                future = self._submission(mine, cc if args.cc else "")
            except ValueError as exc:
                if not self._sent:
                    raise
                # Others have been submitted: this one is as one that was refused.
                self._refused(sys.stderr, f"{label}{exc}")
                continue
            self._sent = True
            if future is not None:
                future.then(self._answered, mine, label)
            yield

    def _submission(self, args: Any, cc: str) -> SubmitFuture | None:
        try:
            self._files(args)  # a job whose log cannot be written would be lost
        except OSError as exc:
            raise ValueError(f"--log: {exc}") from exc
        jobspec, environment = self._jobspec(args)
        if cc:
            jobspec.environment = {**environment, "FLUX_JOB_CC": cc}
        return self.submit_async(args, jobspec)

    @staticmethod
    def _mentioning(args: Any) -> dict[str, Any]:
        """The options, and perhaps the command, that ``{cc}`` is in."""
        names = [name for name in Xcmd.mutable_args if name not in ("cc", "bcc")]
        return {name: value for name in (*names, "command") if mentions_id(value := getattr(args, name))}

    def _jobspec(self, args: Any) -> tuple[Any, dict[str, str]]:
        """The jobspec that options stand for, and its environment. Raises ValueError for what is wrong with them.

        Where only the command differs it is the last one, with another: submitting a jobspec does not change it.
        Plugins of others may want to see each.
        """
        base, changes = (args.base, args.changes) if isinstance(args, Variant) else (args, {})
        changes = {name: value for name, value in changes.items() if name not in _OUTSIDE}
        same = self._last is not None and self._last[0] is base and self._last[1] == changes
        if self._last is None or not same or self.plugins.foreign:
            jobspec = self.jobspec_create(args)
            self._last = base, changes, jobspec, jobspec.environment
            return jobspec, jobspec.environment
        _, _, jobspec, environment = self._last
        jobspec.tasks[0]["command"] = args.command
        jobspec.environment = environment
        return jobspec, environment

    def _answered(self, future: SubmitFuture, args: Any, label: str) -> None:
        next(self._more, None)
        self.submit_cb(future, args, label)

    def main(self, args: Any) -> int:
        """Runs the command; its exit code."""
        self._check_input(args)
        ids = self.cc_list(args)
        return self._run(args, self._submissions(args, ids), len(ids))

    def _run(self, args: Any, submissions: Iterator[None], total: int) -> int:
        """Submits jobs, and follows them; the exit code."""
        if not args.dry_run:
            self.progress_start(args, total)
            self.watcher_start(args)
            self._expect(total)
        self._submit_all(submissions)
        self.handle().reactor_run()
        if self._watcher is not None:
            self._watcher.stop()
            self.exitcode = max(self.exitcode, self._watcher.exitcode)
        return self.exitcode
