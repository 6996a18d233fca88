"""What a task is given: the instance, options of modules, and what other tasks have left for it (flux-modprobe(1))."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from flux.core.handle import Flux

if TYPE_CHECKING:
    from flux.modprobe.runner import Modprobe


class ModuleList:
    """The modules that are loaded.

    Args:
        handle: asks the instance.
    """

    def __init__(self, handle: Flux) -> None:
        self._by_service: dict[str, str] = {}
        self._names: list[str] = []
        for module in handle.rpc("module.list").get()["mods"]:
            self._names.append(module["name"])
            for service in (module["name"], *module["services"]):
                self._by_service[service] = module["name"]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def lookup(self, name: str) -> str | None:
        """The module that a name or service stands for; None if none that is loaded."""
        return self._by_service.get(name)


class Context:
    """See the module. Tasks run in several threads: each has a handle of its own.

    Args:
        modprobe: whose tasks they are.
        verbose: `print` prints.
        dry_run: nothing is done; it is said what would be.
    """

    tls = threading.local()

    def __init__(self, modprobe: Modprobe, verbose: bool = False, dry_run: bool = False) -> None:
        self.modprobe = modprobe
        self.verbose = verbose
        self.dry_run = dry_run
        self._data: dict[str, Any] = {}
        self._options: dict[str, list[str]] = {}
        self._replaced: set[str] = set()  # modules whose own arguments do not count any more
        self._environ: dict[str, str | None] = {}
        self._rank: int | None = None

    def print(self, *args: Any) -> None:
        """Prints a message if the user wants to see everything."""
        if self.verbose:
            self.modprobe.print(*args)

    @property
    def handle(self) -> Flux:
        """This thread's handle, opened when it is first asked for. Raises OSError."""
        handles: dict[Context, Flux] = self.tls.__dict__.setdefault("handles", {})
        if self not in handles:
            handles[self] = Flux()
        return handles[self]

    def forget_handle(self) -> None:
        """This thread does no more: its handle closes."""
        self.tls.__dict__.get("handles", {}).pop(self, None)

    @property
    def rank(self) -> int:
        """The broker's rank. Raises OSError."""
        if self._rank is None:
            self._rank = int(self.handle.attr_get("rank"))
        return self._rank

    def set(self, key: str, value: Any) -> None:
        """Leaves something for other tasks."""
        self._data[key] = value

    def get(self, key: str, default: Any = None) -> Any:
        """What another task has left under `key`."""
        return self._data.get(key, default)

    def attr_get(self, attr: str, default: Any = None) -> Any:
        """A broker attribute; `default` if it is not set."""
        try:
            return self.handle.attr_get(attr)
        except FileNotFoundError:
            return default

    def conf_get(self, key: str, default: Any = None) -> Any:
        """A value of the configuration by its dotted key; `default` if it is not set."""
        return self.handle.conf_get(key, default=default)

    def getenv(self, var: str, default: Any = None) -> Any:
        """An environment variable, of this process or else of the broker; `default` if neither has it."""
        if var in os.environ:
            return os.environ[var]
        if var not in self._environ:
            answer = self.rpc("broker.getenv", {"names": [var]}).get()
            self._environ[var] = answer["env"].get(var)
        value = self._environ[var]
        return default if value is None else value

    def setenv(self, name_or_env: str | Mapping[str, str | None], value: str | None = None) -> None:
        """Sets variables here and in the broker, for what it starts from now on.

        Args:
            name_or_env: a name, or a mapping of several to their values.
            value: None removes the variable.

        Raises ValueError for a value that is no string, OSError for a name that cannot be one.
        """
        env = {name_or_env: value} if isinstance(name_or_env, str) else dict(name_or_env)
        for name, text in env.items():
            if text is not None and not isinstance(text, str):
                raise ValueError(f"setenv: the value of {name} must be a string or None")
        self.rpc("broker.setenv", {"env": env}).get()
        for name, text in env.items():
            self._environ[name] = text
            if text is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = text

    def rpc(self, topic: str, *args: Any, **kwargs: Any) -> Any:
        """As `Flux.rpc`, with this thread's handle."""
        return self.handle.rpc(topic, *args, **kwargs)

    def setopt(self, module: str, options: str, overwrite: bool = False) -> None:
        """Adds arguments for a module.

        Args:
            module: its name, or a service that it provides.
            options: one or several, with white space between them.
            overwrite: they replace all others.
        """
        if overwrite:
            self._replaced.add(module)
            self._options[module] = []
        self._options.setdefault(module, []).extend(options.split())

    def getopts(self, name: str, default: Iterable[str] | None = None, also: Iterable[str] | None = None) -> list[str]:
        """The arguments for a module.

        Args:
            default: its own ones.
            also: services, whose options count as well.
        """
        names = [name, *(also or ())]
        own = [] if any(service in self._replaced for service in names) else list(default or ())
        return own + [option for service in names for option in self._options.get(service, ())]

    def bash(self, command: str) -> None:
        """Runs a line with bash. Raises subprocess.CalledProcessError if it fails."""
        self.print(f"bash -c {command}")
        subprocess.run(["bash", "-c", command], check=True)

    def load_modules(self, modules: Iterable[str]) -> None:
        """Has modules loaded, by name or service, and what they require."""
        self.modprobe.activate_modules(list(modules))

    def remove_modules(self, modules: Iterable[str] | None = None) -> None:
        """Has modules removed; None: all."""
        self.modprobe.set_remove(None if modules is None else list(modules))

    def set_alternative(self, name: str, alternative: str | None) -> None:
        """Chooses who provides a service."""
        self.modprobe.set_alternative(name, alternative)

    def enable(self, name: str) -> None:
        """Enables a module, service or task whatever its conditions are."""
        self.modprobe.taskdb.enable(name)
