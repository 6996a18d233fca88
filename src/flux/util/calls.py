"""Decorators around calls that wait or that fail with a future's error (spec 02, 13.6; internal)."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")


def check_future_error(func: Callable[..., _R]) -> Callable[..., _R]:
    """Decorates a function of a future: its OSError gets the future's own error text, if it has one."""

    @wraps(func)
    def checked(future: Any, *args: Any, **kwargs: Any) -> _R:
        try:
            return func(future, *args, **kwargs)
        except OSError as exc:
            text = future.error_string()
            if not text:
                raise
            raise OSError(exc.errno, text) from exc

    return checked


def interruptible(func: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorates a function that waits: while it runs, Ctrl-C raises KeyboardInterrupt.

    Whatever handler SIGINT had is put back, however the function ends. Only the main thread may set handlers:
    in others the function is just called.
    """

    @wraps(func)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if threading.current_thread() is not threading.main_thread():
            return func(*args, **kwargs)
        before = signal.getsignal(signal.SIGINT)
        # None is a handler that was not set from Python and could not be put back.
        if before is None or before is signal.default_int_handler:
            return func(*args, **kwargs)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return func(*args, **kwargs)
        finally:
            signal.signal(signal.SIGINT, before)

    return wrapped
