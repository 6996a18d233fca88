"""The line that tells an attached user what his job is waiting for (spec 08, section 7)."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

from flux.core.handle import Flux
from flux.eventlog import EventLogEvent

if TYPE_CHECKING:
    from flux.cli.attach import Attach

_MESSAGES = {
    "submit": "submitted",
    "validate": "resolving dependencies",
    "depend": "waiting for priority assignment",
    "priority": "waiting for resources",
    "alloc": "starting",
    "prolog-start": "waiting for prolog",
    "prolog-finish": "starting",
    "start": "started",
    "exception": "canceling due to exception",
}
#: Seconds before it appears.
_DELAY = 2.0


class StatusLine:
    """The line; there is none unless a user looks at it, or asks for it."""

    def __init__(self, attach: Attach) -> None:
        options = attach.options
        interactive = all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))
        wanted = options.show_status or (interactive and not options.show_events)
        self._wanted = wanted and "FLUX_ATTACH_NONINTERACTIVE" not in os.environ
        self._attach = attach
        self._delay = 0.0 if options.show_status else _DELAY
        self._message = ""
        self._begun = time.monotonic()
        self._shown = False
        self._timer: Any = None

    def start(self) -> None:
        """Shows it from now on, once it has something to say."""
        if self._wanted:
            self._timer = self._attach.handle.timer_watcher_create(max(self._delay, 0.01), self._tick, repeat=1.0)
            self._timer.start()
            self._timer.unref()

    def stop(self) -> None:
        """Takes it away."""
        self.clear()
        if self._timer is not None:
            self._timer.destroy()
            self._timer = None

    def event(self, event: EventLogEvent) -> None:
        """Something has happened to the job."""
        if not self._wanted or self._timer is None:
            return
        self._message = _MESSAGES.get(event.name, self._message)
        if event.name in ("start", "clean"):
            self.stop()
        elif self._shown:
            self._draw()

    def _tick(self, handle: Flux, watcher: Any, revents: int, args: Any) -> None:
        self._draw()

    def _draw(self) -> None:
        if not self._message:
            return
        from shutil import get_terminal_size

        name = self._attach.name
        seconds = int(time.monotonic() - self._begun)
        clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        width = max(0, get_terminal_size().columns - 20 - len(name))
        sys.stderr.write(f"\rflux-job: {name} {self._message:<{width}} {clock}\r")
        sys.stderr.flush()
        self._shown = True

    def clear(self) -> None:
        """Makes room for a line of output."""
        if self._shown:
            self._shown = False
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
