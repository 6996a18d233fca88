"""The engine: posts events, and does what the table of states calls for (spec 06, section 5).

Rules:
- `post` is the only way in which a job changes. An event is applied, told the journal, given to the KVS, shown to
  plugins and dependents, and then acted on, in this order; what is posted meanwhile for the same job waits its turn.
- The engine knows no messages: what it needs of the world are its ports.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from time import time
from typing import Any, Protocol

from fluxlet.modules.job_manager.alloc import Alloc
from fluxlet.modules.job_manager.batch import Batch
from fluxlet.modules.job_manager.entries import Entry, entry
from fluxlet.modules.job_manager.job import (
    AT_ONCE,
    EXPEDITE,
    HOLD,
    IDLE,
    MAX_PRIORITY,
    STARTING,
    Job,
    apply,
    merge,
)
from fluxlet.modules.job_manager.jobspec import check_keys, updated
from fluxlet.modules.job_manager.journal import Journal
from fluxlet.modules.job_manager.machine import Action, State
from fluxlet.modules.job_manager.plugins import Plugins


class Ports(Protocol):
    """What the engine needs of the world."""

    @property
    def in_view(self) -> bool:
        """True if what is not stored yet is as good as stored to whoever looks."""

    def start(self, job: Job) -> bool:
        """Has a job executed; False if there is nobody to do it, who will ask when he comes."""

    def free(self, job: Job) -> None:
        """Gives the resources of a job back."""

    def kept_back(self, job: Job) -> None:
        """A job in SCHED is not to ask for resources yet."""

    def retired(self, job: Job) -> None:
        """A job has ended."""

    def raised(self, job: Job, context: dict[str, Any]) -> None:
        """An exception is to be published."""

    def write_log(self, severity: int, text: str) -> None:
        """Logs."""


_is_name = re.compile(r"[A-Za-z0-9_.-]+").fullmatch

#: Events that say what the engine has done, and that those who follow a log go by.
_OWN = frozenset(
    (
        "submit",
        "validate",
        "invalidate",
        "depend",
        "alloc",
        "start",
        "finish",
        "release",
        "free",
        "clean",
        "flux-restart",
    )
)

#: Called with a job and the name of an event it has posted.
Watch = Callable[[Job, str], None]


class Engine:
    """See the module."""

    plugins: Plugins

    def __init__(self, ports: Ports, journal: Journal, batch: Batch, alloc: Alloc) -> None:
        self.ports = ports
        self.journal = journal
        self.batch = batch
        self.alloc = alloc
        self.jobs: dict[int, Job] = {}
        self.config: dict[str, Any] = {}
        self.log = ports.write_log
        self.watches: list[Watch] = []
        """Of built-in parts: called for every event."""
        self.dependents: Watch = lambda job, name: None
        """Called for events of jobs on which others depend."""
        self._do: dict[Action, Callable[[Job], None]] = {
            Action.DEPEND: self.depend,
            Action.PRIORITIZE: self.prioritize,
            Action.SCHEDULE: self.schedule,
            Action.REORDER: alloc.reorder,
            Action.START: self.start,
            Action.CLEAN: self.clean,
            Action.RETIRE: self._retire,
        }

    # Events.

    def post_foreign(self, job: Job, name: str, context: dict[str, Any] | None) -> None:
        """Posts an event that somebody else has made up. Raises ValueError for a name or context that will not do."""
        if not _is_name(name):
            raise ValueError(f"{name!r} is no name of an event: letters, digits, dots and dashes")
        if name in _OWN:
            raise ValueError(f"{name} is for the job manager to post: a job's log would contradict what it does")
        try:
            self.post(job, name, context)
        except (KeyError, TypeError) as exc:
            raise ValueError(f"the context is not that of {name}: {exc}") from None

    def post(
        self,
        job: Job,
        name: str,
        context: dict[str, Any] | None = None,
        committed: bool = True,
        timestamp: float | None = None,
    ) -> None:
        """Posts an event.

        Args:
            job: whose event it is.
            name: of the event.
            context: as it goes into the log; not changed any more.
            committed: False: for the journal only.
            timestamp: seconds since the epoch; None: now.
        """
        early = AT_ONCE.get(name)
        if early is not None:
            early(job, context or {})
        line = job.waiting
        if line is not None:
            line.append((name, context, committed))
            return
        job.waiting = line = []
        try:
            self._process(job, name, context, committed, timestamp)
            while line:
                name, context, committed = line.pop(0)
                self._process(job, name, context, committed, None)
        finally:
            job.waiting = None

    def _process(
        self, job: Job, name: str, context: dict[str, Any] | None, committed: bool, timestamp: float | None
    ) -> None:
        if timestamp is None:
            timestamp = time()
        data = entry(name, context, timestamp)
        before = job.state
        actions = apply(job, name, context)
        self.journal.add(job, name, data)
        if committed:
            job.events.append(data)
            self.batch.append(job, data)
        if name == "clean":
            job.t_clean = timestamp
        for watch in self.watches:
            watch(job, name)
        if self.plugins.watches:
            self.plugins.watch(job, Entry(timestamp, name, context), before)
        for action in actions:
            self._do[action](job)
        if job.dependents is not None:
            self.dependents(job, name)

    def is_waiting(self, job: Job, name: str) -> bool:
        """Whether an event of this name is posted, and not processed yet."""
        return job.waiting is not None and any(item[0] == name for item in job.waiting)

    # Actions.

    def depend(self, job: Job) -> None:
        """Posts `depend`, if nothing is left that a job in DEPEND waits for."""
        if job.state is State.DEPEND and not job.held and not job.dependencies and not self.is_waiting(job, "depend"):
            self.post(job, "depend")

    def priority_of(self, job: Job) -> int | None:
        """The priority that a job should have (spec 06, section 9); None: a plugin does not know it yet."""
        if job.urgency == HOLD:
            return 0
        if job.urgency == EXPEDITE:
            return MAX_PRIORITY
        given = self.plugins.priority(job) if self.plugins.hooks["priority"] else None
        if given is None:
            return job.urgency
        return min(max(given, 0), MAX_PRIORITY) if isinstance(given, int) else None

    def prioritize(self, job: Job) -> None:
        """Works out the priority of a job in PRIORITY; what the scheduler was asked is taken back.

        A job whose priority is not known yet stays there until somebody gives it one.
        """
        if self.is_waiting(job, "priority"):
            return  # a plugin has given it one on this occasion
        priority = self.priority_of(job)
        if priority is None:
            self.alloc.take_back(job)
            return
        if job.pending and 0 != priority != job.priority:
            self.alloc.prioritize(job.id, priority)
        self.alloc.take_back(job)
        self.post(job, "priority", {"priority": priority})

    def schedule(self, job: Job) -> None:
        """Asks the scheduler for resources, unless the job brings its own."""
        if job.bypass and job.stored and job.priority and job.R is not None:
            self.batch.add(job.path + ".R", job.R)
            self.post(job, "alloc", {"bypass": True})
        else:
            self.alloc.enqueue(job)
            if not job.queued and not job.pending:
                self.ports.kept_back(job)

    def start(self, job: Job) -> None:
        """Has a job in RUN executed, if no prolog is to end before.

        Not before it is stored that the job runs, and on what: where a restart may come upon it, it could run twice;
        where there are others that look, its tasks might.
        """
        if not self.ports.in_view:
            self.batch.after(lambda: self._start(job))
        else:
            self._start(job)

    def _start(self, job: Job) -> None:
        if job.state is not State.RUN or job.perilogs or job.exec != IDLE:
            return
        job.exec = STARTING  # before it is asked: it may answer at once
        if not self.ports.start(job):
            job.exec = IDLE
        elif job.debug:
            self.post(job, "debug.start-request")

    def clean(self, job: Job) -> None:
        """Does for a job in CLEANUP what can be done yet."""
        if job.state is not State.CLEANUP:
            return
        self.alloc.abandon(job)
        if job.exec == STARTING or job.perilogs:
            return
        if job.has_resources:
            if not job.free_posted:
                job.free_posted = True
                if not job.bypass:
                    self.ports.free(job)
                self.post(job, "free")
        elif not self.is_waiting(job, "clean"):
            self.post(job, "clean")

    def _retire(self, job: Job) -> None:
        del self.jobs[job.id]
        if self.plugins.hooks["inactive"]:
            self.plugins.tell("inactive", job)
        self.ports.retired(job)

    # What else happens to jobs.

    def exception(
        self,
        job: Job,
        type: str,
        severity: int,
        note: str,
        userid: int | None = None,
        wait_status: int | None = None,
    ) -> None:
        """Raises an exception, and has it published. `userid` None: the owner's of the job."""
        context = {"type": type, "severity": severity, "note": note}
        context["userid"] = job.userid if userid is None else userid
        if wait_status is not None:
            context["wait_status"] = wait_status
        self.post(job, "exception", context)
        self.ports.raised(job, context)

    def add_dependency(self, job: Job, description: str) -> None:
        """Posts dependency-add, unless the job has that dependency."""
        if description not in job.dependencies:
            self.post(job, "dependency-add", {"description": description})

    def remove_dependency(self, job: Job, description: str) -> None:
        """Posts dependency-remove, if the job has that dependency, and was neither refused nor has ended."""
        if description in job.dependencies and (job.state is State.DEPEND or job.state is State.NEW):
            self.post(job, "dependency-remove", {"description": description})

    def annotate(self, job: Job, changes: dict[str, Any]) -> None:
        """Merges annotations; posts them if that changes something."""
        merged = {key: value for key, value in merge(job.annotations or {}, changes).items() if value != {}} or None
        if merged != job.annotations:
            self.post(job, "annotations", {"annotations": merged}, committed=False)

    def reprioritize(self, job: Job, priority: int) -> None:
        """Gives a job in PRIORITY or SCHED a priority."""
        if job.state is State.PRIORITY or (job.state is State.SCHED and priority != job.priority):
            self.post(job, "priority", {"priority": priority})

    def ask_priority(self, job: Job) -> None:
        """Works out anew the priority of a job in PRIORITY or SCHED; one that is not known changes nothing."""
        if job.state is State.PRIORITY or job.state is State.SCHED:
            priority = self.priority_of(job)
            if priority is not None:
                self.reprioritize(job, priority)

    def reprioritize_all(self) -> None:
        """Works out the priority of every job that waits; the scheduler is told in one message."""
        with self.alloc.together():
            for job in list(self.jobs.values()):
                self.ask_priority(job)

    def update(self, job: Job, updates: dict[str, Any]) -> None:
        """Changes a jobspec: dotted keys and values. Raises ValueError for what would not leave it one."""
        check_keys(updates)
        updated(job.jobspec, updates)
        if updates:
            self.post(job, "jobspec-update", updates)

    def let_go(self, jobs: Iterable[Job]) -> None:
        """The submission of jobs is stored now: the scheduler may be asked."""
        for job in jobs:
            job.stored = True
            if job.state is State.SCHED:
                self.schedule(job)
