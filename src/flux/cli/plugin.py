"""Plugins of the commands that submit jobs: options of a site's or a user's own (spec 08, 6.7).

    class Account(CLIPlugin):
        def __init__(self, prog):
            super().__init__(prog, prefix="site")
            self.add_option("--account", metavar="NAME", help="Whom to charge")   # flux run --site-account=NAME

        def modify_jobspec(self, args, jobspec):
            if args.account is not None:
                jobspec.setattr("site.account", args.account)

Rules:
- A plugin is a Python file in one of the directories of `plugin_directories`, or a module of `flux.cli.plugins`. Each
  of its classes derived from CLIPlugin counts.
- One that cannot be loaded is an error of the command: a job without what it does is not what was asked for.
- Of two that want an option of the same name, the first one gets it, and the other is dropped, with a warning.
"""

from __future__ import annotations

import logging
import os
from abc import ABC
from collections.abc import Iterator
from functools import lru_cache
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import argparse

    from flux.job.Jobspec import Jobspec

__all__ = ["CLIPlugin", "CLIPluginOption", "CLIPluginRegistry", "PluginArgsProxy"]

LOGGER = logging.getLogger("flux")


class CLIPluginOption:
    """An option of a plugin.

    Args:
        name: with its dashes, without the prefix.
        prefix: what comes in front of the name; "": nothing.
        kwargs: as of argparse's `add_argument`.

    Attributes:
        name: with dashes and prefix.
    """

    def __init__(self, name: str, prefix: str, **kwargs: Any) -> None:
        bare = name.lstrip("-")
        self.name = f"--{prefix}-{bare}" if prefix else f"--{bare}"
        self.kwargs = kwargs
        self._bare: str = kwargs.pop("dest", bare).replace("-", "_")
        self._prefix = prefix.replace("-", "_")

    @property
    def dest(self) -> str:
        """The attribute of parsed options that has the value."""
        return f"{self._prefix}_{self._bare}" if self._prefix else self._bare

    @property
    def short_dest(self) -> str:
        """The same without the prefix, as the plugin may call it."""
        return self._bare

    @property
    def default(self) -> Any:
        """The value of an option that is not given."""
        return self.kwargs.get("default", {"store_true": False, "store_false": True}.get(self.kwargs.get("action", "")))


class PluginArgsProxy:
    """Parsed options as a plugin sees them: its own ones also without the prefix.

    Args:
        args: the options.
        alias: other name of an attribute -> name.
    """

    def __init__(self, args: Any, alias: dict[str, str]) -> None:
        self.__dict__.update(_args=args, _alias=alias)

    def _name(self, name: str) -> str:
        # The command's own options have the first say.
        alias: str | None = None if hasattr(self._args, name) else self._alias.get(name)
        return alias or name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._args, self._name(name))

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._args, self._name(name), value)


class CLIPlugin(ABC):  # noqa: B024  # nothing must be overridden
    """The base class of plugins. Callbacks raise ValueError, with a sentence for the user, to end the command.

    Args:
        prog: the command: submit, run, alloc, batch or bulksubmit; also an attribute.
        prefix: of all of its options: ``--PREFIX-NAME``; "": none.
        version: text, for --list-plugins.
    """

    def __init__(self, prog: str, prefix: str = "ex", version: str | None = None) -> None:
        self.prog = prog
        self.prefix = prefix
        self.version = version
        self.options: list[CLIPluginOption] = []

    def add_option(self, name: str, **kwargs: Any) -> None:
        """Adds an option, in the constructor. `name` begins with ``--``; `kwargs` are argparse's."""
        self.options.append(CLIPluginOption(name, self.prefix, **kwargs))

    def help(self, option: str) -> str | None:
        """The long help of an option (``--help=OPTION``), or None: its help text is all there is."""
        return None

    def preinit(self, args: Any) -> None:  # noqa: B027
        """Called with the options before a jobspec is made of them: may change them."""

    def modify_jobspec(self, args: Any, jobspec: Jobspec) -> None:  # noqa: B027
        """Called with the options and what has been made of them: may change the jobspec."""

    def validate(self, jobspec: Jobspec) -> None:  # noqa: B027
        """Called with the jobspec as it is to be submitted: raises ValueError to refuse it."""


def plugin_directories() -> list[str]:
    """Where files are looked for: FLUX_CLI_PLUGINPATH, then those of the site and of this installation."""
    override = os.environ.get("FLUX_CLI_PLUGINPATH_OVERRIDE")
    if override is not None:
        return [path for path in override.split(":") if path]
    from flux.conf_builtin import conf_builtin_get

    first = [path for path in os.environ.get("FLUX_CLI_PLUGINPATH", "").split(":") if path]
    return [*first, *(os.path.join(conf_builtin_get(name), "cli", "plugins") for name in ("confdir", "libexecdir"))]


class CLIPluginRegistry:
    """The plugins of a command. Raises ImportError for one that cannot be loaded.

    Args:
        prog: the command.

    Attributes:
        plugins: list of CLIPlugin, in order.
    """

    default_plugins: ClassVar[list[str]] = ["shape"]
    plugin_namespace: ClassVar[str] = "flux.cli.plugins"

    def __init__(self, prog: str) -> None:
        self.prog = prog
        self.plugins: list[CLIPlugin] = []
        self._where: dict[CLIPlugin, str] = {}
        taken: set[str] = set()
        for where, module in self._modules():
            for plugin in _plugins_of(module, prog):
                names = {option.name for option in plugin.options} | {option.dest for option in plugin.options}
                if names & taken:
                    LOGGER.warning(f"{where}: {type(plugin).__name__}: an option is another plugin's: ignored")
                    continue
                taken |= names
                self.plugins.append(plugin)
                self._where[plugin] = where

    def _modules(self) -> Iterator[tuple[str, ModuleType]]:
        for directory in plugin_directories():
            try:
                names = sorted(os.listdir(directory))
            except OSError:
                continue  # search paths name directories that do not exist
            for name in names:
                if name.endswith(".py"):
                    path = os.path.join(directory, name)
                    yield path, _load(path)
        from importlib import import_module

        package = import_module(self.plugin_namespace)
        found = {name[:-3] for path in package.__path__ for name in os.listdir(path) if name.endswith(".py")}
        for name in [*self.default_plugins, *sorted(found - {*self.default_plugins, "__init__"})]:
            yield f"{self.plugin_namespace}.{name}", import_module(f"{self.plugin_namespace}.{name}")

    @property
    def foreign(self) -> bool:
        """Whether there are others than those that everybody has."""
        own = {f"{self.plugin_namespace}.{name}" for name in self.default_plugins}
        return any(self._where[plugin] not in own for plugin in self.plugins)

    def options(self) -> Iterator[tuple[CLIPlugin, CLIPluginOption]]:
        """All options, and whose they are."""
        for plugin in self.plugins:
            for option in plugin.options:
                yield plugin, option

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Adds the options to a parser that has all of the command's; a plugin that wants one of those is dropped."""
        group = None
        for plugin in [*self.plugins]:
            if any(option.name in parser._option_string_actions for option in plugin.options):
                where = self._where[plugin]
                LOGGER.warning(f"{where}: {type(plugin).__name__}: an option is the command's: ignored")
                self.plugins.remove(plugin)
                continue
            for option in plugin.options:
                group = group or parser.add_argument_group("Options provided by plugins")
                group.add_argument(option.name, dest=option.dest, **option.kwargs)

    def print_help(self, name: str) -> None:
        """Prints the help of an option, which may be named without dashes and prefix. Raises ValueError."""
        wanted = name.lstrip("-").replace("-", "_")
        for plugin, option in self.options():
            if wanted in (option.dest, option.short_dest, option.name.lstrip("-").replace("-", "_")):
                text = plugin.help(option.name) or option.kwargs.get("help") or ""
                metavar = option.kwargs.get("metavar")
                print(f"{option.name}={metavar}" if metavar else option.name)
                print("\n".join(f"    {line}".rstrip() for line in text.splitlines()))
                return
        raise ValueError(f"--help: no such option {name}")

    def print_plugins(self) -> None:
        """Prints the plugins, a line each: name, version, options, and where it comes from."""
        for plugin in self.plugins:
            options = ",".join(option.name for option in plugin.options)
            print(f"{type(plugin).__name__} {plugin.version or '-'} {options or '-'} {self._where[plugin]}")

    def preinit(self, args: Any) -> None:
        """Calls `preinit` of all."""
        for plugin in self.plugins:
            plugin.preinit(_seen_by(plugin, args))

    def modify_jobspec(self, args: Any, jobspec: Jobspec) -> None:
        """Calls `modify_jobspec` of all."""
        for plugin in self.plugins:
            plugin.modify_jobspec(_seen_by(plugin, args), jobspec)

    def validate(self, jobspec: Jobspec) -> None:
        """Calls `validate` of all."""
        for plugin in self.plugins:
            plugin.validate(jobspec)


def _load(path: str) -> ModuleType:
    from flux.importer import import_path  # few have plugins of their own

    try:
        return import_path(path)
    except Exception as exc:
        raise ImportError(f"{path}: {type(exc).__name__}: {exc}") from exc


def _plugins_of(module: ModuleType, prog: str) -> Iterator[CLIPlugin]:
    for thing in vars(module).values():
        # Not those that it has imported.
        if isinstance(thing, type) and issubclass(thing, CLIPlugin) and thing.__module__ == module.__name__:
            yield thing(prog)


def _seen_by(plugin: CLIPlugin, args: Any) -> PluginArgsProxy:
    return PluginArgsProxy(args, {option.short_dest: option.dest for option in plugin.options})


@lru_cache(maxsize=8)
def _registry(prog: str, directories: tuple[str, ...]) -> CLIPluginRegistry:
    return CLIPluginRegistry(prog)


def registry_for_api(prog: str) -> CLIPluginRegistry:
    """The plugins of a command, for programs that make many jobspecs: they are loaded once."""
    return _registry(prog, tuple(plugin_directories()))


def options_for_api(registry: CLIPluginRegistry, args: Any, given: dict[str, Any]) -> SimpleNamespace:
    """Options as a program gives them: those of plugins have their defaults, and `given` comes before `args`.

    Raises TypeError for what is no plugin's option.
    """
    known = {option.dest: option.default for _, option in registry.options()}
    unknown = ", ".join(f"'{name}'" for name in sorted(set(given) - set(known)))
    if unknown:
        raise TypeError(f"apply_options() got unexpected keyword argument(s): {unknown}")
    return SimpleNamespace(**{**known, **(vars(args) if args is not None else {}), **given})
