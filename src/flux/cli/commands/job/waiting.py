"""flux job: attach, status, wait."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from flux.cli.commands.job.common import Failure, compact, handle, jobid, number, show, text_of
from flux.cli.options import Parsed
from flux.constants import FLUX_JOBID_ANY


def attach_command(parsed: Parsed) -> int:
    """Attaches to a job."""
    from flux.cli.attach import Attach, Options

    (word,) = parsed.words
    options = Options(
        show_events=parsed.has("show-events"),
        show_exec=parsed.has("show-exec"),
        show_status=parsed.has("show-status"),
        wait_event=parsed.value("wait-event"),
        label_io=parsed.has("label-io"),
        verbose=len(parsed.values("verbose")),
        quiet=parsed.has("quiet"),
        read_only=parsed.has("read-only"),
        unbuffered=parsed.has("unbuffered"),
        stdin_ranks=parsed.value("stdin-ranks") or "all",
    )
    if parsed.has("tail"):
        tail = 10 if parsed.value("tail") is None else number(parsed, "tail", 10)
        options = options._replace(tail=tail)
    target = jobid(word)
    with handle() as h:
        return Attach(h, target, word, options).run()


def _say(text: str) -> None:
    print(f"flux-job: {text}", file=sys.stderr)


class _Status:
    """How a job did, for people and for the exit code."""

    def __init__(self, word: str, found: dict[str, Any], exception_code: int) -> None:
        self.word = word
        self.found = found
        self._waitstatus = found.get("waitstatus", 0)
        self.fatal = bool(found.get("exception_occurred")) and found.get("exception_severity") == 0
        self.code = os.waitstatus_to_exitcode(self._waitstatus)
        self.exit = self.code if self.code >= 0 else 128 - self.code
        if self.fatal:
            self.exit = max(self.exit, exception_code)

    def tell(self, verbose: int) -> None:
        """Says it on stderr."""
        if self.code < 0:
            _say(f"{self.word}: job shell died by signal {signal.Signals(-self.code).value}")
        elif self.exit or verbose > 1:
            if self.fatal:
                _say(f"{self.word}: exception type={self.found['exception_type']}")
            else:
                _say(f"{self.word}: exited with exit code {self.code}")


def status_command(parsed: Parsed) -> int:
    """Waits for jobs; the exit code is the highest of theirs."""
    from flux.job.wait import result_async

    verbose = len(parsed.values("verbose"))
    code = number(parsed, "exception-exit-code", 1)
    targets = [(word, jobid(word)) for word in parsed.words]
    status = 0
    with handle() as h:
        futures = [(word, result_async(h, target)) for word, target in targets]
        if verbose and len(futures) > 1:
            _say(f"fetching status for {len(futures)} jobs")
        results = []
        for word, future in futures:
            try:
                results.append(_Status(word, future.get_dict(), code))
            except FileNotFoundError:
                raise Failure(f"{word}: No such job") from None
            except OSError as exc:
                raise Failure(f"{word}: {text_of(exc)}") from None
        if verbose and len(futures) > 1:
            _say("all done.")
    for result in results:
        status = max(status, result.exit)
        if parsed.has("json"):
            show(compact(result.found))
        if verbose:
            result.tell(verbose)
    return status


def wait_command(parsed: Parsed) -> int:
    """Waits for a waitable job, or for all of them."""
    from flux.job.JobID import JobID
    from flux.job.wait import wait

    target = jobid(parsed.words[0]) if parsed.words else FLUX_JOBID_ANY
    status = 0
    with handle() as h:
        while True:
            try:
                ended = wait(h, target)
            except ChildProcessError as exc:
                if parsed.has("all"):
                    return status
                _say(text_of(exc))
                return 2
            name, why = JobID(ended.jobid), ended.errstr.decode("utf-8", "replace")
            if not parsed.has("all"):
                if not parsed.words:
                    show(str(name))
                if not ended.success:
                    raise Failure(why)
                return 0
            if not ended.success:
                _say(f"{name}: {why}")
                status = 1
            elif parsed.has("verbose"):
                _say(f"{name}: job completed successfully")
