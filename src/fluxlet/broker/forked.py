"""A process that begins as a copy of the broker: for code of ours, most of which the broker has read already.

A Python of its own takes 50 ms to get as far as that. What the copy inherits it lets go of: descriptors, signal
handlers, the environment. Its memory it keeps, and shares with the broker as long as neither of them writes to it.

Rules:
- Nothing of the broker's runs in the copy: no callback, no end of a `with` but that around the fork itself, and no
  object of it is collected.
- Only the broker's own process is copied, from its main thread; and not when it has become large: `may_fork`.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NoReturn

from flux.core import link
from flux.reactor import signals, tls
from fluxlet.broker.program import DEFAULT_SIGNALS

#: Above this many bytes it takes as long to copy the tables of a process as to start another one.
_LARGE = 256 << 20
#: What Python ignores when it starts.
_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)


def may_fork() -> bool:
    """Whether a copy of this process is cheaper than a new one."""
    return threading.current_thread() is threading.main_thread() and _size() < _LARGE


def _size() -> int:
    """The memory of this process, in bytes. On Linux not what getrusage says: there that counts what the program that
    started this one had."""
    with suppress(OSError), open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def fork(main: Callable[[], int], environ: Mapping[str, str]) -> int:
    """Starts a copy that runs `main` and ends with its exit code, in a process group of its own; returns its pid.

    It has nothing on stdin, our stdout and stderr, and `environ`. Raises OSError if there can be no more processes.
    """
    # A signal that comes in between would be taken for the broker's by the copy.
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        # From 3.12 on Python warns of threads that may hold what the copy needs. Ours, the watchdog's and ZeroMQ's,
        # hold nothing that it touches; and who runs an instance could do nothing about it.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if not pid:
            _run(main, environ)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
    # Both of us do, so that it is done for both when they go on. It may have ended already.
    with suppress(PermissionError, ProcessLookupError):
        os.setpgid(pid, pid)
    return pid


def _run(main: Callable[[], int], environ: Mapping[str, str]) -> NoReturn:
    """The life of the copy."""
    code = 1
    try:
        gc.freeze()
        os.setpgid(0, 0)
        _let_go(environ)
        code = main()
    except BaseException:  # noqa: BLE001  # whatever it is, it must not get back into the code of the broker
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _let_go(environ: Mapping[str, str]) -> None:
    """The copy is as a new process would be."""
    signal.set_wakeup_fd(-1)
    signals.forget_all()
    link.forget_all()
    for signum in DEFAULT_SIGNALS:
        signal.signal(signum, signal.SIG_IGN if signum in _IGNORED else signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.closerange(3, max(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 65536))
    os.environ.clear()
    os.environ.update(environ)
    tls.reactor_depth, tls.exception = 0, None
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
