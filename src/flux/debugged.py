"""The MPIR flag "a debugger is attached" of this process (spec 02, section 16).

A parallel debugger that starts a tool under MPIR sets ``MPIR_being_debugged`` in it; tools that launch jobs
ask here whether to stop the tasks for the debugger. The reference keeps the flag in its C library, where a
debugger can find it by symbol; here it is Python state, set by those who speak to the debugger.
"""

from __future__ import annotations

from operator import index

_being_debugged = 0


def get_mpir_being_debugged() -> int:
    """The flag: 0, or what was set last."""
    return _being_debugged


def set_mpir_being_debugged(value: int) -> None:
    """Sets the flag. TypeError if `value` is not an integer."""
    global _being_debugged
    _being_debugged = index(value)
