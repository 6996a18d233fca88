"""A thread that looks after the broker's one: a module that keeps it for itself is named while it still does.

What the log says of it comes when it is over (`fluxlet.broker.host`), and until then the broker answers nobody: this is
what somebody sees on stderr who wonders why.

Rules:
- It costs the modules nothing: it looks at the stack of the broker's thread now and then.
- It touches nothing of the broker's: it reads, and writes a line to stderr.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple

from fluxlet.broker.host import Module, ModuleHandle
from fluxlet.broker.log import Log, long_text
from fluxlet.broker.module_reactor import PATIENCE

if TYPE_CHECKING:
    from fluxlet.broker.broker import Broker

#: Seconds between two looks.
PERIOD = 0.5
#: A module that has been named is named again when it has taken so many times as long.
_AGAIN = 10.0
_ERROR = 3

#: The functions of the broker that call a module's code. All have a local `started`.
_DELIVER = Module.deliver.__code__
_DISPATCH = ModuleHandle.dispatch.__code__
_WATCHED = "ModuleReactor._watched.<locals>.call"


class Busy(NamedTuple):
    """What a module does.

    Args:
        module: which one.
        started: when it was called, by the monotonic clock.
        what: what of it was called.
        where: file, line and function that are running.
    """

    module: Module
    started: float
    what: str
    where: str


def busy(frame: FrameType | None) -> Busy | None:
    """What module runs in a thread, by its innermost frame; None if none does."""
    innermost = frame
    inner: list[FrameType] = []
    while frame is not None:
        code = frame.f_code
        if code is _DELIVER or code is _DISPATCH or code.co_qualname == _WATCHED:
            values = frame.f_locals
            if "started" not in values or innermost is None:
                return None  # it is about to be called, or has returned
            if code is _DELIVER:
                module, what = values["self"], f"handler of {values['message'].topic}"
            elif code is _DISPATCH:
                module, what = values["self"]._module, "a callback"
            else:
                module, what = values["module"], values["what"]
            own = next((one for one in inner if one.f_code.co_filename == module.path_name), innermost)
            place = f"{own.f_code.co_filename}:{own.f_lineno} in {own.f_code.co_name}"
            return Busy(module, values["started"], what, place)
        inner.append(frame)
        frame = frame.f_back
    return None


class Watchdog:
    """See the module; it begins at once.

    Args:
        broker: whose log the lines are like.
        thread: the broker's, by its ident.
    """

    def __init__(self, broker: Broker, thread: int) -> None:
        self._broker = broker
        self._log: Log = broker.log
        self._watched = thread
        self._named = 0.0  # when that was called that was named last
        self._next = 0.0  # how long it may take until it is named again
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends it."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(min(PERIOD, PATIENCE)):
            self._look()

    def _look(self) -> None:
        life = self._broker.life
        if life is not None and life.loading:
            return  # reading our own code takes as long as it takes on a busy machine, and nobody is let in yet
        found = busy(sys._current_frames().get(self._watched))
        if found is None:
            return
        seconds = monotonic() - found.started
        if seconds < (self._next if found.started == self._named else PATIENCE):
            return
        self._named, self._next = found.started, seconds * _AGAIN
        text = f"{found.what} has been keeping the broker for {seconds:.1f}s, at {found.where}"
        line = long_text(self._log.message(_ERROR, text, found.module.name)) + "\n"
        with suppress(OSError):  # nobody reads it
            os.write(2, line.encode("utf-8", "replace"))
