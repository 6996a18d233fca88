"""The plugins that are loaded, and calling them. What a plugin raises never ends the job manager."""

from __future__ import annotations

import errno
import fnmatch
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fluxlet.modules.job_manager.plugin import HOOKS, Loaded, Manager, PluginJob, find, make

if TYPE_CHECKING:
    from fluxlet.modules.job_manager.engine import Engine
    from fluxlet.modules.job_manager.entries import Entry
    from fluxlet.modules.job_manager.job import Job


class Plugins:
    """See the module.

    Args:
        engine: whose plugins they are.
        builtins: those that are always there, by name; they are code of the engine, listed for who asks.
        manager: what plugins see of the engine.
    """

    def __init__(self, engine: Engine, builtins: dict[str, Callable[[], dict[str, Any]]], manager: Manager) -> None:
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
        self.watches = bool(self.hooks["on_event"] or self.hooks["on_state"])

    def names(self) -> list[str]:
        """Of all plugins, in order."""
        return [*self.builtins, *self.loaded]

    def load(self, name: str, conf: Any = None) -> None:
        """Loads a plugin; jobs that there are are new to it. Raises OSError."""
        if name in self.loaded or name in self.builtins:
            raise OSError(errno.EEXIST, f"{name} already loaded")
        missing = OSError(errno.ENOENT, f"{name}: No such plugin found")
        if name.endswith(".so"):
            raise missing
        try:
            short, path, cls = find(name)
        except (ModuleNotFoundError, FileNotFoundError, AttributeError):
            raise missing from None
        except Exception as exc:  # noqa: BLE001  # code of others
            raise OSError(errno.EINVAL, f"{name}: {type(exc).__name__}: {exc}") from None
        if short in self.loaded:
            raise OSError(errno.EEXIST, f"{short} already loaded")
        try:
            plugin = make(cls, self.manager, conf)
            if hasattr(plugin, "conf_update"):
                plugin.conf_update(self.engine.config)
        except Exception as exc:  # noqa: BLE001  # code of others
            raise OSError(errno.EINVAL, f"{name}: {exc}") from None
        self.loaded[short] = Loaded(short, path, plugin)
        self._find_hooks()
        if hasattr(plugin, "new"):
            for job in list(self.engine.jobs.values()):
                self._call(short, plugin.new, PluginJob(self.engine, job))

    def remove(self, name: str) -> None:
        """Removes a plugin, those that match, or "all" but those whose names begin with a dot. Raises OSError."""
        if name == "all":
            gone = [each for each in self.names() if not each.startswith(".")]
        else:
            gone = [each for each in self.names() if fnmatch.fnmatchcase(each, name)]
            if not gone:
                raise OSError(errno.ENOENT, "Failed to find plugin to remove")
        for each in gone:
            if each in self.builtins:
                raise OSError(errno.EPERM, f"{each} is part of the job manager and cannot be removed")
            del self.loaded[each]
        self._find_hooks()

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

    def check(self, hook: str, job: Job) -> None:
        """Asks all plugins. Raises ValueError with the text of the first that refuses."""
        for name, method in self.hooks[hook]:
            try:
                method(PluginJob(self.engine, job))
            except Exception as exc:  # noqa: BLE001  # code of others
                raise ValueError(str(exc) or f"rejected by job-manager plugin '{name}'") from None

    def priority(self, job: Job) -> int | None:
        """The priority that a plugin gives a job; None: they have no opinion."""
        for name, method in self.hooks["priority"]:
            value = self._call(name, method, PluginJob(self.engine, job))
            if isinstance(value, int):
                return value
        return None

    def configure(self, config: dict[str, Any]) -> None:
        """The configuration has changed. Raises ValueError with the text of a plugin that refuses."""
        for name, method in self.hooks["conf_update"]:
            try:
                method(config)
            except Exception as exc:  # noqa: BLE001  # code of others
                raise ValueError(f"{name}: {exc}") from None

    def watch(self, job: Job, entry: Entry, entered: bool) -> None:
        """An event has been posted; `entered`: by it the job has come into another state."""
        self.tell("on_event", job, entry)
        if entered:
            self.tell("on_state", job, job.state.name, entry)
