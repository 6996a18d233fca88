"""`strsignal`: the reference's stand-in for `signal.strsignal` of Python 3.8 (spec 02, section 16).

Its names are fixed: unlike those of the C library they depend on neither platform nor language.
"""

from __future__ import annotations

import signal

_TEXTS = {
    "SIGHUP": "Hangup",
    "SIGINT": "Interrupt",
    "SIGQUIT": "Quit",
    "SIGILL": "Illegal instruction",
    "SIGTRAP": "Trace/breakpoint trap",
    "SIGABRT": "Aborted",
    "SIGBUS": "Bus error",
    "SIGFPE": "Floating point exception",
    "SIGKILL": "Killed",
    "SIGUSR1": "User defined signal 1",
    "SIGSEGV": "Segmentation Fault",
    "SIGUSR2": "User defined signal 2",
    "SIGPIPE": "Broken pipe",
    "SIGALRM": "Alarm clock",
    "SIGTERM": "Terminated",
    "SIGSTKFLT": "Stack fault",
    "SIGCHLD": "Child exited",
    "SIGCONT": "Continued",
    "SIGSTOP": "Stopped (signal)",
    "SIGTSTP": "Stopped",
    "SIGTTIN": "Stopped (tty input)",
    "SIGTTOU": "Stopped (tty output)",
    "SIGURG": "Urgent I/O condition",
    "SIGXCPU": "CPU time limit exceeded",
    "SIGXFSZ": "File size limit exceeded",
    "SIGVTALRM": "Virtual timer expired",
    "SIGPROF": "Profiling timer expired",
    "SIGWINCH": "Window changed",
    "SIGIO": "I/O possible",
    "SIGPWR": "Power failure",
    "SIGSYS": "Bad system call",
}

# Platforms differ in the signals they have, and in the numbers of those.
_BY_NUMBER = {int(getattr(signal, name)): text for name, text in _TEXTS.items() if hasattr(signal, name)}


def strsignal(signum: int) -> str:
    """The name of a signal in words. Raises ValueError for a number that is none of the named signals."""
    try:
        return _BY_NUMBER[signum]
    except KeyError:
        raise ValueError(f"{signum} is not a named signal") from None
