"""The plugins that are loaded, and calling them. What a plugin raises never ends the job manager."""

from __future__ import annotations

import errno
import fnmatch
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from fluxlet.modules.job_manager.machine import State
from fluxlet.modules.job_manager.plugin import HOOKS, UNAVAILABLE, PastJob, PluginJob, Unavailable

if TYPE_CHECKING:
    from fluxlet.modules.job_manager.engine import Engine
    from fluxlet.modules.job_manager.entries import Entry
    from fluxlet.modules.job_manager.job import Job
    from fluxlet.modules.job_manager.past import Past
    from fluxlet.modules.job_manager.plugin_manager import Manager


class Loaded(NamedTuple):
    """A plugin that is loaded."""

    name: str
    path: str
    plugin: Any
    manager: Manager


#: Plugins that flux-core comes with and scripts load -> where ours are.
OURS = {"alloc-bypass.so": "fluxlet.modules.job_manager.alloc_bypass"}


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
        found = module.Plugin
        return getattr(found, "name", os.path.basename(name).removesuffix(".py")), name, found
    place, _, cls = name.partition(":")
    module = importlib.import_module(place)
    found = getattr(module, cls or "Plugin")
    return getattr(found, "name", name), getattr(module, "__file__", None) or place, found


def make(cls: Callable[..., Any], manager: Manager, conf: Any) -> Any:
    """Makes a plugin's object, with as many of the manager and its configuration as it takes."""
    import inspect

    takes = len([p for p in inspect.signature(cls).parameters.values() if p.default is p.empty or p.name == "conf"])
    return cls(*(manager, conf)[:takes])


class Permission(NamedTuple):
    """What a plugin says to an update: `validated`: limits and other plugins do not matter; `feasibility`: the
    scheduler is to be asked whether the job could still run; `updates`: what else is to be changed."""

    validated: bool = False
    feasibility: bool = False
    updates: Mapping[str, Any] = {}


class Plugins:
    """See the module.

    Args:
        engine: whose plugins they are.
        builtins: those that are always there, by name; they are code of the engine, listed for who asks.
        manager: makes what the plugin of a name sees of the job manager.
    """

    def __init__(
        self, engine: Engine, builtins: dict[str, Callable[[], dict[str, Any]]], manager: Callable[[str], Manager]
    ) -> None:
        self.engine = engine
        self.builtins = builtins
        self.manager = manager
        self.loaded: dict[str, Loaded] = {}
        self.hooks: dict[str, list[tuple[str, Callable[..., Any]]]] = {}
        self._find_hooks()

    def _find_hooks(self) -> None:
        self.hooks = {
            hook: [(p.name, getattr(p.plugin, hook)) for p in self.loaded.values() if hasattr(p.plugin, hook)]
            for hook in HOOKS
        }
        # The engine looks at these for every event of every job.
        self.watches = bool(self.hooks["on_event"] or self.hooks["on_state"] or self.hooks["on_update"])

    def names(self) -> list[str]:
        """Of all plugins, in order."""
        return [*self.builtins, *self.loaded]

    def load(self, name: str, conf: Any = None) -> None:
        """Loads a plugin; jobs that there are are new to it. Raises OSError."""
        if name in self.loaded or name in self.builtins:
            raise OSError(errno.EEXIST, f"{name} already loaded")
        missing = OSError(errno.ENOENT, f"{name}: No such plugin found")
        name = OURS.get(name.rpartition("/")[2], name)
        if name.endswith(".so"):
            raise missing
        try:
            short, path, cls = find(name)
        except (ModuleNotFoundError, FileNotFoundError, AttributeError):
            raise missing from None
        except Exception as exc:  # noqa: BLE001  # code of others
            raise OSError(errno.EINVAL, f"{name}: {type(exc).__name__}: {exc}") from None
        if short in self.loaded or short in self.builtins:
            raise OSError(errno.EEXIST, f"{short} already loaded")
        manager = self.manager(short)
        try:
            plugin = make(cls, manager, conf)
            if hasattr(plugin, "conf_update"):
                plugin.conf_update(self.engine.config)
        except Exception as exc:  # noqa: BLE001  # code of others
            manager.close()
            raise OSError(errno.EINVAL, f"{name}: {str(exc) or type(exc).__name__}") from None
        self.loaded[short] = Loaded(short, path, plugin, manager)
        self._find_hooks()
        for job in list(self.engine.jobs.values()):
            for hook in ("create", "new"):
                if hasattr(plugin, hook):
                    self._call(short, getattr(plugin, hook), PluginJob(self.engine, job))

    def remove(self, name: str) -> None:
        """Removes a plugin, those that match, or "all" but those whose names begin with a dot. Raises OSError.

        Jobs whose priority was not known to it are asked about again.
        """
        if name == "all":
            gone = list(self.loaded)
        else:
            # As file names do, those with a dot in front match only what has one.
            dotted = name.startswith(".")
            gone = [each for each in self.names() if each == name or fnmatch.fnmatchcase(each, name)]
            gone = [each for each in gone if each.startswith(".") == dotted]
            if not gone:
                raise OSError(errno.ENOENT, "Failed to find plugin to remove")
        for each in gone:
            if each in self.builtins:
                raise OSError(errno.EPERM, f"{each} is part of the job manager and cannot be removed")
        for each in gone:
            self._close(self.loaded.pop(each))
        self._find_hooks()
        for job in list(self.engine.jobs.values()):
            if job.state is State.PRIORITY:
                self.engine.ask_priority(job)

    def close(self) -> None:
        """The job manager ends."""
        for loaded in self.loaded.values():
            self._close(loaded)

    def _close(self, loaded: Loaded) -> None:
        if hasattr(loaded.plugin, "close"):
            self._call(loaded.name, loaded.plugin.close)
        loaded.manager.close()

    def query(self, name: str) -> dict[str, Any]:
        """What a plugin tells about itself. Raises OSError."""
        builtin = self.builtins.get(name)
        if builtin is not None:
            return {"name": name, "path": "builtin", **builtin()}
        loaded = self.loaded.get(name)
        if loaded is None:
            raise OSError(errno.EINVAL, f"{name}: plugin not found")
        answer = self._call(name, loaded.plugin.query) if hasattr(loaded.plugin, "query") else None
        return {"name": name, "path": loaded.path, **(answer if isinstance(answer, dict) else {})}

    # Calling them.

    def _call(self, name: str, method: Callable[..., Any], *args: Any) -> Any:
        """Calls a method that may not refuse: what it raises is logged."""
        try:
            return method(*args)
        except Exception as exc:  # noqa: BLE001  # code of others
            self.engine.log(3, f"plugin {name}: {method.__name__}: {type(exc).__name__}: {exc}")
            return None

    def tell(self, hook: str, job: Job, *args: Any) -> None:
        """Tells all plugins."""
        for name, method in self.hooks[hook]:
            self._call(name, method, PluginJob(self.engine, job), *args)

    def ask(self, hook: str, job: Job, *args: Any) -> bool:
        """Asks plugins until one says yes. Raises ValueError with the text of one that refuses."""
        for name, method in self.hooks[hook]:
            try:
                if method(PluginJob(self.engine, job), *args):
                    return True
            except Exception as exc:  # noqa: BLE001  # code of others
                raise ValueError(str(exc) or f"rejected by job-manager plugin '{name}'") from None
        return False

    def check(self, hook: str, job: Job, jobspec: bytes | None = None) -> None:
        """Asks all plugins. Raises ValueError with the text of the first that refuses.

        Args:
            hook: whose plugins.
            job: about it.
            jobspec: what it would have; None: what it has.
        """
        for name, method in self.hooks[hook]:
            try:
                method(PluginJob(self.engine, job, jobspec=jobspec))
            except Exception as exc:  # noqa: BLE001  # code of others
                raise ValueError(str(exc) or f"rejected by job-manager plugin '{name}'") from None

    def allow_update(self, job: Job, key: str, value: Any, cred: dict[str, int]) -> Permission | None:
        """Asks plugins about an update; None: nobody allows it. Raises ValueError with the text of one that refuses.

        One that allows it returns True, or an object with `validated`, `feasibility` and `updates`, see Permission.
        """
        for name, method in self.hooks["allow_update"]:
            try:
                answer = method(PluginJob(self.engine, job), key, value, cred)
                if answer:
                    return Permission(**answer) if isinstance(answer, dict) else Permission()
            except Exception as exc:  # noqa: BLE001  # code of others
                raise ValueError(str(exc) or f"rejected by job-manager plugin '{name}'") from None
        return None

    def priority(self, job: Job) -> int | Unavailable | None:
        """The priority that a plugin gives a job; None: they have no opinion; UNAVAILABLE: it is not known yet."""
        for name, method in self.hooks["priority"]:
            value = self._call(name, method, PluginJob(self.engine, job))
            if isinstance(value, int) or value is UNAVAILABLE:
                return value
        return None

    def configure(self, config: dict[str, Any]) -> None:
        """The configuration has changed. Raises ValueError with the text of a plugin that refuses."""
        for name, method in self.hooks["conf_update"]:
            try:
                method(config)
            except Exception as exc:  # noqa: BLE001  # code of others
                raise ValueError(f"{name}: {exc}") from None

    def accepted(self, job: Job) -> None:
        """A job of a former life is there again."""
        self.tell("create", job)
        self.tell("new", job)

    def forgotten(self, past: Past) -> None:
        """A job that has ended is purged."""
        for hook in ("inactive_remove", "destroy"):
            for name, method in self.hooks[hook]:
                self._call(name, method, PastJob(past))

    def watch(self, job: Job, entry: Entry, before: State) -> None:
        """An event has been posted; `before`: the state that the job was in."""
        self.tell("on_event", job, entry)
        if job.state is not before and entry.name != "invalidate":
            for name, method in self.hooks["on_state"]:
                self._call(name, method, PluginJob(self.engine, job, before.name), job.state.name, entry)
        if entry.name == "jobspec-update":
            self.tell("on_update", job, entry.context or {})
