"""Plugins of the job manager: classes with methods that it calls when something happens to a job (spec 06, section 16).

    class Plugin:
        def validate(self, job):
            if "bank" not in job.jobspec["attributes"]["system"]:
                raise ValueError("say which bank this is for: --setattr=bank=NAME")

Every method may be left out:

    create(job)          a new job, before it is validated; raise to refuse it. Also, before `new`, for jobs that there
                         are after a restart, or when the plugin is loaded
    validate(job)        a new job, or one as an update would have it; raise to refuse
    dependency(job, dep) each dependency whose scheme nobody else knows: True if it is yours; raise to refuse the job
    new(job)             the job is accepted; also after a restart, and for the jobs there are when a plugin is loaded
    on_state(job, state, event)  the job has come into `state` ("DEPEND", ..., "INACTIVE") by `event`
    priority(job)        the priority of a job that is neither held nor expedited; None: ask the next plugin;
                         UNAVAILABLE: not known yet, see `PluginJob.set_priority`
    on_event(job, event) every event of every job: `event` has timestamp, name and context
    allow_update(job, key, value, cred)  a user wants to change `key` of the jobspec: True to allow, or an object, see
                         `Plugins.allow_update`; raise to refuse
    on_update(job, updates)  the jobspec has been changed
    inactive(job)        the job has ended
    inactive_remove(job) a job that has ended is forgotten
    destroy(job)         nothing will happen to the job any more: it is forgotten, or was refused after `create`
    conf_update(conf)    the instance's configuration, when loaded and when it changes; raise to refuse it
    query()              an object for `job-manager.jobtap-query`
    close()              the plugin is removed, or the job manager ends

The constructor takes nothing, or the `Manager`, or that and the `conf` the plugin was loaded with. An attribute `name`
of the class is what the plugin is called. What is raised to refuse is the text the submitter gets, with EINVAL. What
the other methods raise is logged; the job goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from fluxlet.modules.job_manager.job import EXPEDITE, HOLD, IDLE, MAX_PRIORITY
from fluxlet.modules.job_manager.machine import State

if TYPE_CHECKING:
    from fluxlet.modules.job_manager.engine import Engine
    from fluxlet.modules.job_manager.job import Job
    from fluxlet.modules.job_manager.past import Past

HOOKS = (
    "create",
    "validate",
    "dependency",
    "new",
    "on_state",
    "priority",
    "on_event",
    "allow_update",
    "on_update",
    "inactive",
    "inactive_remove",
    "destroy",
    "conf_update",
    "query",
    "close",
)


class Unavailable:
    """The type of UNAVAILABLE."""

    def __repr__(self) -> str:
        return "UNAVAILABLE"


#: What `priority` returns for a job whose priority is not known yet: it waits for it in PRIORITY.
UNAVAILABLE: Final = Unavailable()

_FLAGS = ("alloc-bypass", "debug", "immutable")
_BEFORE_START = State.DEPEND | State.PRIORITY | State.SCHED | State.RUN


class PluginJob:
    """A job, as plugins see it. Methods raise ValueError for what cannot be done to it, or not any more."""

    __slots__ = ("_engine", "_job", "_jobspec", "previous_state")

    def __init__(
        self, engine: Engine, job: Job, previous_state: str | None = None, jobspec: bytes | None = None
    ) -> None:
        self._engine = engine
        self._job = job
        self._jobspec = jobspec  # that it would have after an update; None: its own
        self.previous_state = previous_state
        """In `on_state`: the name of the state that it was in before."""

    @property
    def id(self) -> int:
        """The job's id."""
        return self._job.id

    @property
    def userid(self) -> int:
        """Of who has submitted it."""
        return self._job.userid

    @property
    def urgency(self) -> int:
        """0 to 31."""
        return self._job.urgency

    @property
    def priority(self) -> int:
        """-1 while there is none yet."""
        return self._job.priority

    @property
    def state(self) -> str:
        """The name of its state."""
        return self._job.state.name

    @property
    def t_submit(self) -> float:
        """Seconds since the epoch."""
        return self._job.t_submit

    @property
    def jobspec(self) -> dict[str, Any]:
        """Its jobspec, without the environment; a copy."""
        return msgspec.json.decode(self._job.jobspec if self._jobspec is None else self._jobspec)  # type: ignore[no-any-return]

    @property
    def R(self) -> dict[str, Any] | None:
        """Its resources, once it has had some; a copy."""
        return None if self._job.R is None else msgspec.json.decode(self._job.R)

    @property
    def annotations(self) -> dict[str, Any]:
        """Its annotations."""
        return self._job.annotations or {}

    @property
    def dependencies(self) -> list[str]:
        """The descriptions of what it waits for."""
        return list(self._job.dependencies)

    @property
    def result(self) -> str | None:
        """COMPLETED, FAILED, CANCELED or TIMEOUT, once it has ended."""
        return None if self._job.active else self._job.result

    @property
    def aux(self) -> dict[Any, Any]:
        """Room for what plugins keep about the job."""
        if self._job.aux is None:
            self._job.aux = {}
        return self._job.aux

    def has_event(self, name: str) -> bool:
        """Whether an event of that name has been posted."""
        return name in self._job.seen or self._engine.is_waiting(self._job, name)

    def _only_active(self) -> None:
        if not self._job.active:
            raise ValueError("the job has ended")

    def _only_in(self, states: int, what: str) -> None:
        if not self._job.state & states:
            raise ValueError(f"{what}: the job is in {self.state}")

    def add_dependency(self, description: str) -> None:
        """The job is not to run before `remove_dependency`. For jobs in NEW and DEPEND."""
        self._only_in(State.NEW | State.DEPEND, "it is too late for a dependency")
        self._engine.add_dependency(self._job, description)

    def remove_dependency(self, description: str) -> None:
        """Takes back `add_dependency`; nothing happens if there is no such dependency (any more)."""
        self._engine.remove_dependency(self._job, description)

    def raise_exception(self, type: str, severity: int, note: str = "") -> None:
        """Raises an exception; of severity 0 it is the job's end: not for new jobs, which `validate` can refuse."""
        if not 0 <= severity <= 7:
            raise ValueError(f"the severity of an exception is 0 to 7, not {severity}")
        if not type or "=" in type or any(char.isspace() for char in type):
            raise ValueError(f"{type!r} is no type of an exception")
        self._only_active()
        if not severity:
            self._only_in(~State.NEW, "a fatal exception cannot be raised")
        self._engine.exception(self._job, type, severity, note)

    def post_event(self, name: str, context: dict[str, Any] | None = None) -> None:
        """Logs an event of the plugin's own."""
        self._only_active()
        self._engine.post_foreign(self._job, name, context)

    def set_priority(self, priority: int) -> None:
        """Gives the job a priority, 0 (held) to 4294967295, unless its urgency does. For jobs in PRIORITY and SCHED."""
        if isinstance(priority, bool) or not isinstance(priority, int) or not 0 <= priority <= MAX_PRIORITY:
            raise ValueError(f"a priority is a number from 0 to {MAX_PRIORITY}, not {priority!r}")
        self._only_in(State.PRIORITY | State.SCHED, "it is too late for a priority, or too early")
        if self._job.urgency not in (HOLD, EXPEDITE):
            self._engine.reprioritize(self._job, priority)

    def reprioritize(self) -> None:
        """Asks plugins for the priority of the job, if it waits for one, or for resources."""
        self._engine.ask_priority(self._job)

    def update(self, updates: dict[str, Any]) -> None:
        """Changes the jobspec: dotted keys (`attributes.system.duration`) and values."""
        self._only_active()
        self._engine.update(self._job, updates)

    def set_flag(self, name: str) -> None:
        """Sets a flag: "immutable" (its user cannot update it any more) or "debug"."""
        if name not in _FLAGS:
            raise ValueError(f"{name!r} is no flag: {', '.join(_FLAGS)}")
        self._only_active()
        self._engine.post(self._job, "set-flags", {"flags": [name]})

    def use_resources(self, R: dict[str, Any]) -> None:
        """The job is to have R, and not what the scheduler would give it. For jobs that have not asked it yet."""
        self._only_in(State.NEW | State.DEPEND | State.PRIORITY, "it is too late for other resources")
        self._job.R = msgspec.json.encode(R)
        self.set_flag("alloc-bypass")

    def annotate(self, annotations: dict[str, Any]) -> None:
        """Merges annotations, which `flux jobs` can show; None deletes."""
        self._only_active()
        self._engine.annotate(self._job, annotations)

    def prolog_start(self, description: str) -> None:
        """The job is not to start before `prolog_finish`. For jobs that have not been started."""
        if self._job.exec != IDLE or not self._job.state & _BEFORE_START:
            raise ValueError(f"it is too late for a prolog: the job is in {self.state}")
        self._engine.post(self._job, "prolog-start", {"description": description})

    def prolog_finish(self, description: str, status: int = 0) -> None:
        """Ends what `prolog_start` has begun; `status` is a wait status."""
        self._finish("prolog", description, status)

    def epilog_start(self, description: str) -> None:
        """The job's resources are not to be freed before `epilog_finish`. For jobs that have some, at their end."""
        if self._job.free_posted or not self._job.has_resources:
            raise ValueError("an epilog is for jobs that have resources: it is too late, or too early")
        self._engine.post(self._job, "epilog-start", {"description": description})

    def epilog_finish(self, description: str, status: int = 0) -> None:
        """Ends what `epilog_start` has begun; `status` is a wait status."""
        self._finish("epilog", description, status)

    def _finish(self, kind: str, description: str, status: int) -> None:
        if self._job.perilogs.get(description) != kind:
            raise ValueError(f"no {kind} '{description}' has been started")
        self._engine.post(self._job, f"{kind}-finish", {"description": description, "status": status})


class PastJob:
    """A job that has ended some time ago: what is left of it."""

    __slots__ = ("_past",)

    def __init__(self, past: Past) -> None:
        self._past = past

    @property
    def id(self) -> int:
        """The job's id."""
        return self._past.id

    @property
    def userid(self) -> int:
        """Of who had submitted it."""
        return self._past.userid

    @property
    def state(self) -> str:
        """INACTIVE."""
        return State.INACTIVE.name

    @property
    def t_submit(self) -> float:
        """Seconds since the epoch."""
        return self._past.t_submit

    @property
    def jobspec(self) -> dict[str, Any]:
        """Its jobspec, without the environment; a copy."""
        return msgspec.json.decode(self._past.jobspec)  # type: ignore[no-any-return]

    @property
    def R(self) -> dict[str, Any] | None:
        """The resources that it had; a copy."""
        return None if self._past.R is None else msgspec.json.decode(self._past.R)

    @property
    def result(self) -> str:
        """COMPLETED, FAILED, CANCELED or TIMEOUT."""
        return self._past.result

    def has_event(self, name: str) -> bool:
        """Whether an event of that name had been posted."""
        return any(msgspec.json.decode(entry)["name"] == name for entry in self._past.entries)
