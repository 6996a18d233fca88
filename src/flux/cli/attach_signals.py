"""Signals to a program that is attached to a job (spec 08, section 7)."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

from flux.core.handle import Flux

if TYPE_CHECKING:
    from flux.cli.attach import Attach

#: Seconds within which the second of two Ctrl-C counts.
_WINDOW = 2.0
_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2)


class Signals:
    """Ctrl-C twice cancels the job, Ctrl-C and Ctrl-Z detaches; other signals go to the job."""

    def __init__(self, attach: Attach) -> None:
        self._attach = attach
        self._watchers: list[Any] = []
        self._interrupted = 0.0
        self._suspended = 0.0

    def start(self) -> None:
        """Handles signals from now on."""
        for signum in (signal.SIGINT, signal.SIGTSTP, *_FORWARDED):
            watcher = self._attach.handle.signal_watcher_create(signum, self._received)
            watcher.start()
            watcher.unref()
            self._watchers.append(watcher)

    def stop(self) -> None:
        """Handles them no more."""
        for watcher in self._watchers:
            watcher.destroy()
        self._watchers.clear()

    def _received(self, handle: Flux, watcher: Any, signum: int, args: Any) -> None:
        attach, now = self._attach, time.monotonic()
        if signum == signal.SIGINT:
            if now - self._interrupted < _WINDOW:
                from flux.job.kill import cancel_async

                cancel_async(handle, attach.jobid, "interrupted by ctrl-C").then(lambda future: None)
            else:
                attach.say("one more ctrl-C within 2s to cancel or ctrl-Z to detach")
            self._interrupted = now
        elif signum == signal.SIGTSTP:
            if now - self._interrupted < _WINDOW:
                attach.detach()
            elif now - self._suspended < _WINDOW:
                self._suspend()
            else:
                attach.say("one more ctrl-Z to suspend")
                self._suspended = now
        else:
            from flux.job.kill import kill_async

            kill_async(handle, attach.jobid, signum).then(lambda future: None)

    def _suspend(self) -> None:
        """Stops this program, as if nobody had handled the signal."""
        import os

        os.kill(os.getpid(), signal.SIGSTOP)
