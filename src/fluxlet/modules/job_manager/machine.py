"""The states of a job as a table: (state, event) -> (state, actions). Pure (RFC 21; spec 06, section 5).

An event that has no line for the state a job is in changes nothing, and nothing is done about it; it is logged all
the same. Actions say what to look after, not what to do: whether a job in CLEANUP can be freed yet, say, depends on
what it holds. `fluxlet.modules.job_manager.engine` does that.
"""

from __future__ import annotations

from enum import Enum, IntEnum


class State(IntEnum):
    """States, with the numbers they have on the wire."""

    NEW = 1
    DEPEND = 2
    PRIORITY = 4
    SCHED = 8
    RUN = 16
    CLEANUP = 32
    INACTIVE = 64


class Action(Enum):
    """What an event calls for."""

    DEPEND = "post depend, if nothing is left that the job depends on"
    PRIORITIZE = "work out the priority, take back what the scheduler was asked, post priority"
    SCHEDULE = "ask the scheduler for resources, unless the job is held or its queue is stopped"
    REORDER = "put the job where its priority says, in our queue or the scheduler's"
    START = "have it executed, if no prolog is to end before"
    CLEAN = "take back what the scheduler was asked; give resources back; post clean when nothing is left"
    RETIRE = "answer those who wait; the job is history"

    __hash__ = object.__hash__  # there is one object of each; that of Enum is a call of Python


NEW, DEPEND, PRIORITY, SCHED, RUN, CLEANUP, INACTIVE = State

#: `exception` of severity 0 is the event `FATAL` to the table; others change nothing.
FATAL = "exception severity=0"

Step = tuple[State, tuple[Action, ...]]

TABLE: dict[tuple[State, str], Step] = {
    (NEW, "validate"): (DEPEND, (Action.DEPEND,)),
    (NEW, "invalidate"): (INACTIVE, ()),
    (DEPEND, "dependency-remove"): (DEPEND, (Action.DEPEND,)),
    (DEPEND, "depend"): (PRIORITY, (Action.PRIORITIZE,)),
    (PRIORITY, "priority"): (SCHED, (Action.SCHEDULE,)),
    (PRIORITY, "urgency"): (PRIORITY, (Action.PRIORITIZE,)),
    (PRIORITY, "jobspec-update"): (PRIORITY, (Action.PRIORITIZE,)),
    (SCHED, "priority"): (SCHED, (Action.REORDER,)),
    (SCHED, "urgency"): (PRIORITY, (Action.PRIORITIZE,)),
    (SCHED, "jobspec-update"): (PRIORITY, (Action.PRIORITIZE,)),
    (SCHED, "flux-restart"): (PRIORITY, (Action.PRIORITIZE,)),
    (SCHED, "alloc"): (RUN, (Action.START,)),
    (RUN, "prolog-finish"): (RUN, (Action.START,)),
    (RUN, "finish"): (CLEANUP, (Action.CLEAN,)),
    (DEPEND, FATAL): (CLEANUP, (Action.CLEAN,)),
    (PRIORITY, FATAL): (CLEANUP, (Action.CLEAN,)),
    (SCHED, FATAL): (CLEANUP, (Action.CLEAN,)),
    (RUN, FATAL): (CLEANUP, (Action.CLEAN,)),
    (CLEANUP, FATAL): (CLEANUP, (Action.CLEAN,)),
    (CLEANUP, "finish"): (CLEANUP, (Action.CLEAN,)),
    (CLEANUP, "release"): (CLEANUP, (Action.CLEAN,)),
    (CLEANUP, "prolog-finish"): (CLEANUP, (Action.CLEAN,)),
    (CLEANUP, "epilog-finish"): (CLEANUP, (Action.CLEAN,)),
    (CLEANUP, "free"): (CLEANUP, (Action.CLEAN,)),
    (CLEANUP, "clean"): (INACTIVE, (Action.RETIRE,)),
}

PENDING = DEPEND | PRIORITY | SCHED
RUNNING = RUN | CLEANUP
ACTIVE = PENDING | RUNNING


def step(state: State, event: str) -> Step:
    """The state that an event leads to, and what it calls for."""
    return TABLE.get((state, event)) or (state, ())
