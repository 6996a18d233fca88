"""Plugins of the job manager: classes with methods that it calls when something happens to a job (spec 06, section 16).

    class Plugin:
        def validate(self, job):
            if "bank" not in job.jobspec["attributes"]["system"]:
                raise ValueError("say which bank this is for: --setattr=bank=NAME")

Every method may be left out:

    create(job)          a new job, before it is validated; raise to refuse it
    validate(job)        a new job, or an updated one; raise to refuse it
    dependency(job, dep) each dependency whose scheme nobody else knows: True if it is yours; raise to refuse the job
    new(job)             the job is accepted; also after a restart, and for the jobs there are when a plugin is loaded
    on_state(job, state, event)  the job has come into `state` ("DEPEND", ..., "INACTIVE") by `event`
    priority(job)        the priority of a job that is neither held nor expedited; None: ask the next plugin
    on_event(job, event) every event of every job: `event` has timestamp, name and context
    allow_update(job, key, value, cred)  a user wants to change `key` of the jobspec: True to allow; raise to refuse
    inactive(job)        the job has ended
    conf_update(conf)    the instance's configuration, when loaded and when it changes; raise to refuse it
    query()              an object for `job-manager.jobtap-query`

The constructor takes nothing, or the `Manager`, or that and the `conf` the plugin was loaded with. What is raised to
refuse is the text the submitter gets, with EINVAL. What the other methods raise is logged; the job goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from fluxlet.modules.job_manager.engine import Engine
    from fluxlet.modules.job_manager.job import Job

HOOKS = (
    "create",
    "validate",
    "dependency",
    "new",
    "on_state",
    "priority",
    "on_event",
    "allow_update",
    "inactive",
    "conf_update",
    "query",
)


class PluginJob:
    """A job, as plugins see it."""

    __slots__ = ("_engine", "_job")

    def __init__(self, engine: Engine, job: Job) -> None:
        self._engine = engine
        self._job = job

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
        return msgspec.json.decode(self._job.jobspec)  # type: ignore[no-any-return]

    @property
    def R(self) -> dict[str, Any] | None:
        """Its resources, once it has had some; a copy."""
        return None if self._job.R is None else msgspec.json.decode(self._job.R)

    @property
    def annotations(self) -> dict[str, Any]:
        """Its annotations."""
        return self._job.annotations or {}

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
        return name in self._job.seen

    def add_dependency(self, description: str) -> None:
        """The job is not to run before `remove_dependency`. For jobs in NEW and DEPEND."""
        self._engine.add_dependency(self._job, description)

    def remove_dependency(self, description: str) -> None:
        """Takes back `add_dependency`."""
        self._engine.remove_dependency(self._job, description)

    def raise_exception(self, type: str, severity: int, note: str = "") -> None:
        """Raises an exception; of severity 0 it is the job's end."""
        self._engine.exception(self._job, type, severity, note)

    def post_event(self, name: str, context: dict[str, Any] | None = None) -> None:
        """Logs an event of the plugin's own. Raises ValueError for a name that is none."""
        self._engine.post_foreign(self._job, name, context)

    def set_priority(self, priority: int) -> None:
        """Gives the job a priority, 0 (held) to 4294967295."""
        self._engine.reprioritize(self._job, priority)

    def update(self, updates: dict[str, Any]) -> None:
        """Changes the jobspec: dotted keys (`attributes.system.duration`) and values."""
        self._engine.post(self._job, "jobspec-update", updates)

    def annotate(self, annotations: dict[str, Any]) -> None:
        """Merges annotations, which `flux jobs` can show; None deletes."""
        self._engine.annotate(self._job, annotations)

    def prolog_start(self, description: str) -> None:
        """The job, which has resources, is not to start before `prolog_finish`."""
        self._engine.post(self._job, "prolog-start", {"description": description})

    def prolog_finish(self, description: str, status: int = 0) -> None:
        """Ends what `prolog_start` has begun; `status` is a wait status."""
        self._engine.post(self._job, "prolog-finish", {"description": description, "status": status})

    def epilog_start(self, description: str) -> None:
        """The job's resources are not to be freed before `epilog_finish`."""
        self._engine.post(self._job, "epilog-start", {"description": description})

    def epilog_finish(self, description: str, status: int = 0) -> None:
        """Ends what `epilog_start` has begun; `status` is a wait status."""
        self._engine.post(self._job, "epilog-finish", {"description": description, "status": status})


class Manager:
    """The job manager, as plugins see it. All of it may be used from callbacks of the loop only."""

    def __init__(self, engine: Engine, timer: Callable[[float, Callable[[], None]], Any]) -> None:
        self._engine = engine
        self._timer = timer

    def job(self, jobid: int) -> PluginJob:
        """An active job. Raises KeyError."""
        return PluginJob(self._engine, self._engine.jobs[jobid])

    def jobs(self) -> list[PluginJob]:
        """All active jobs."""
        return [PluginJob(self._engine, job) for job in self._engine.jobs.values()]

    def reprioritize(self) -> None:
        """Asks plugins for the priority of every job that waits."""
        self._engine.reprioritize_all()

    def timer(self, seconds: float, callback: Callable[[], None]) -> Any:
        """Calls back once, in `seconds`; the result has `stop()`."""
        return self._timer(seconds, callback)

    def log(self, text: str, severity: int = 6) -> None:
        """Logs."""
        self._engine.log(severity, text)


class Loaded:
    """A plugin that is loaded."""

    def __init__(self, name: str, path: str, plugin: Any) -> None:
        self.name = name
        self.path = path
        self.plugin = plugin


def find(name: str) -> tuple[str, str, Callable[..., Any]]:
    """The name, path and class of a plugin: a file `DIR/NAME.py` with a class `Plugin`, or `package.module:Class`.

    Raises ModuleNotFoundError, FileNotFoundError and AttributeError if it is not there, and whatever importing raises.
    """
    # Instances without plugins need none of this.
    import importlib
    import os

    if name.endswith(".py"):
        from flux.importer import import_path

        module = import_path(name)
        return os.path.basename(name).removesuffix(".py"), name, module.Plugin
    place, _, cls = name.partition(":")
    module = importlib.import_module(place)
    return name, getattr(module, "__file__", None) or place, getattr(module, cls or "Plugin")


def make(cls: Callable[..., Any], manager: Manager, conf: Any) -> Any:
    """Makes a plugin's object, with as many of the manager and its configuration as it takes."""
    import inspect

    takes = len([p for p in inspect.signature(cls).parameters.values() if p.default is p.empty or p.name == "conf"])
    return cls(*(manager, conf)[:takes])
