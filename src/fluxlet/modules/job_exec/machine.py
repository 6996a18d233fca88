"""The life of a job in job-exec, as a table (spec 07, 4.1 and 4.2).

    init --ready--> starting --started--> running --ended--> saving --saved--> released

Pure: `step` says which state follows and what is to be done. An exception changes no state by itself: it has the shells
killed, and their end is what counts.
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Where a job is."""

    INIT = "init"
    """its namespace is being made"""
    STARTING = "starting"
    """its shells are being started"""
    RUNNING = "running"
    SAVING = "saving"
    """what it leaves is being written"""
    RELEASED = "released"

    __hash__ = object.__hash__  # as there is one object of each; that of Enum is a call of Python


class Event(Enum):
    """What happens to it."""

    READY = "ready"
    """the namespace is there"""
    STARTED = "started"
    """all shells are"""
    EXCEPTION = "exception"
    """a fatal one"""
    ENDED = "ended"
    """no shell is left, or there never was one"""
    SAVED = "saved"
    """its guest directory is final"""

    __hash__ = object.__hash__  # as there is one object of each; that of Enum is a call of Python


class Action(Enum):
    """What is to be done."""

    START_SHELLS = "start shells"
    RESPOND_START = "respond start"
    KILL = "kill"
    RESPOND_FINISH = "respond finish"
    SAVE = "save"
    RELEASE = "respond release"


_S, _E, _A = State, Event, Action
TABLE: dict[tuple[State, Event], tuple[State, tuple[Action, ...]]] = {
    (_S.INIT, _E.READY): (_S.STARTING, (_A.START_SHELLS,)),
    (_S.INIT, _E.EXCEPTION): (_S.INIT, ()),  # ended as soon as the namespace is there
    (_S.INIT, _E.ENDED): (_S.SAVING, (_A.SAVE,)),
    (_S.STARTING, _E.STARTED): (_S.RUNNING, (_A.RESPOND_START,)),
    (_S.STARTING, _E.EXCEPTION): (_S.STARTING, (_A.KILL,)),
    (_S.STARTING, _E.ENDED): (_S.SAVING, (_A.SAVE,)),
    (_S.RUNNING, _E.EXCEPTION): (_S.RUNNING, (_A.KILL,)),
    (_S.RUNNING, _E.ENDED): (_S.SAVING, (_A.RESPOND_FINISH, _A.SAVE)),
    # What comes after the end changes nothing any more.
    (_S.SAVING, _E.READY): (_S.SAVING, ()),
    (_S.SAVING, _E.STARTED): (_S.SAVING, ()),
    (_S.SAVING, _E.EXCEPTION): (_S.SAVING, ()),
    (_S.SAVING, _E.ENDED): (_S.SAVING, ()),
    (_S.SAVING, _E.SAVED): (_S.RELEASED, (_A.RELEASE,)),
}


def step(state: State, event: Event) -> tuple[State, tuple[Action, ...]]:
    """The next state, and what is to be done. What cannot happen raises KeyError."""
    return TABLE[state, event]


def final_status(shells: int, fatal: bool, wait_status: int | None) -> int:
    """The status of a job.

    Args:
        shells: the largest wait status of its shells.
        fatal: a fatal exception has come.
        wait_status: the one that the exception carries; of a signal, it is as if a task had died of that.
    """
    if fatal:
        if wait_status is not None:
            signum = wait_status & 0x7F
            return (128 + signum) << 8 if signum else wait_status
        return shells or 256
    return shells
