"""Per-thread state of the reactor (spec 02, 4.5): every thread has it without any setup."""

from __future__ import annotations

import threading


class ThreadState(threading.local):
    """How many `reactor_run` calls this thread is inside of, and the exception the next one to end raises."""

    reactor_depth: int = 0
    exception: BaseException | None = None


tls = ThreadState()
"""The one instance; `Flux.tls` is this object."""
