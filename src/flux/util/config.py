"""Configuration files of users and sites for Flux's tools (spec 02, 13.6; spec 08, 4.2).

They are ``<dir>/flux/<name>.{toml,json,yaml}`` in the directories of the XDG base directory specification,
merged so that the user's own override the site's.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flux.util.treedict import dict_merge

if TYPE_CHECKING:
    from pathlib import Path  # as long to read as all the rest; most users have no such files


def xdg_searchpath(subdir: str = "") -> list[Path]:
    """The directories ``<dir>/flux/<subdir>``, highest precedence first: the user's, then the site's.

    From XDG_CONFIG_HOME (default ~/.config) and XDG_CONFIG_DIRS (default /etc/xdg, separated by ``:``).
    """
    from pathlib import Path

    return [Path(path, subdir) for path in _directories()]


def _directories() -> list[str]:
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    dirs = os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    return [os.path.join(path, "flux") for path in (home, *dirs.split(":")) if path]


def _load_toml(path: Path) -> Any:
    import tomllib

    with path.open("rb") as file:
        return tomllib.load(file)


def _load_json(path: Path) -> Any:
    with path.open("rb") as file:
        return json.load(file)


def _load_yaml(path: Path) -> Any:
    try:
        import yaml
    except ImportError as exc:
        raise ImportError(f"reading {path} needs PyYAML: pip install PyYAML", name="yaml") from exc
    with path.open("rb") as file:
        try:
            return yaml.safe_load(file)
        except yaml.YAMLError as exc:
            raise ValueError(exc) from exc


class UtilConfig:
    """The configuration of a tool: its built-in one, and after `load` that of the files over it.

    Args:
        name: base name of the files.
        toolname: name of the tool in messages and environment variables; by default `name`.
        subcommand: if the configuration has a table of this name, that is the tool's.
        initial_dict: the built-in configuration.

    Keys of the configuration can be read as attributes; a missing one is a KeyError.
    """

    #: Reader of each kind of file, by suffix.
    extension_handlers: dict[str, Callable[[Path], Any]] = {
        ".toml": _load_toml,
        ".json": _load_json,
        ".yaml": _load_yaml,
    }
    #: Formats of the tool that users may add to but not replace: names to ``{"description":, "format":}``.
    builtin_formats: dict[str, Any] = {}

    def __init__(
        self,
        name: str,
        toolname: str | None = None,
        subcommand: str | None = None,
        initial_dict: dict[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.toolname = toolname or name
        self.subcommand = subcommand
        # A copy: what files add must not end up in a table that other objects share.
        self._whole = dict_merge({}, initial_dict or {})

    @property
    def config(self) -> dict[str, Any]:
        """The configuration; with a subcommand, its table."""
        if self.subcommand is None:
            return self._whole
        table: dict[str, Any] = self._whole.get(self.subcommand, self._whole)
        return table

    def load(self) -> UtilConfig:
        """Merges the configuration files over what there is, and returns this object.

        Raises ValueError for a file that does not parse or is not valid, OSError for one that cannot be read.
        """
        if not any(os.path.isdir(directory) for directory in _directories()):
            return self
        for directory in reversed(xdg_searchpath()):
            for suffix, handler in sorted(self.extension_handlers.items()):
                path = directory / f"{self.name}{suffix}"
                if not path.exists():
                    continue
                try:
                    conf = handler(path)
                except ValueError as exc:
                    raise ValueError(f"{path}: {exc}") from exc
                if conf is None:
                    continue  # an empty YAML file
                if not isinstance(conf, dict):
                    raise ValueError(f"{path}: the configuration must be a mapping")
                self.validate(path, conf)
                dict_merge(self._whole, conf)
        return self

    def validate(self, path: str | os.PathLike[str], conf: Any) -> None:
        """Called with the content of each file; subclasses raise ValueError for what they do not accept."""

    def validate_formats(self, path: str | os.PathLike[str], formats: Any) -> None:
        """Checks a table ``formats`` of the file `path`. Raises ValueError saying what is wrong where."""
        if not isinstance(formats, dict):
            raise ValueError(f"{path}: the 'formats' key must be a mapping")
        for name, entry in formats.items():
            if name in self.builtin_formats:
                raise ValueError(f"{path}: override of builtin format '{name}' not permitted")
            if not isinstance(entry, dict):
                raise ValueError(f"{path}: 'formats.{name}' must be a mapping")
            if "format" not in entry:
                raise ValueError(f"{path}: formats.{name}: required key 'format' missing")
            if not isinstance(entry["format"], str):
                raise ValueError(f"{path}: formats.{name}: 'format' key must be a string")

    def get_format_string(self, format_name: str) -> str:
        """The output format that the argument of a tool's option --format means.

        A text with ``{`` is a format itself; others are names. ``help`` prints the names, ``get-config=NAME``
        the format's configuration in TOML, and both end the program. ``default`` may be redirected by the
        environment: ``<TOOL>[_<SUBCOMMAND>]_FORMAT_DEFAULT``. Raises ValueError for an unknown name.
        """
        if format_name == "default":
            words = [self.toolname, *([self.subcommand] if self.subcommand else []), "FORMAT_DEFAULT"]
            format_name = os.environ.get("_".join(words).upper().replace("-", "_")) or format_name
        if "{" in format_name:
            return format_name
        formats = self.config.get("formats", {})
        if format_name == "help":
            self._print_formats(formats)
            sys.exit(0)
        if format_name.startswith("get-config="):
            self._print_format_config(formats, format_name.removeprefix("get-config="))
            sys.exit(0)
        if format_name not in formats:
            braced = " ".join([f"{{{word}}}" for word in format_name.split()])
            raise ValueError(f"--format: No such format {format_name} (Did you mean '{braced}'?)")
        fmt: str = formats[format_name]["format"]
        return fmt

    def _print_formats(self, formats: dict[str, Any]) -> None:
        print(f"\nConfigured {self.toolname} output formats:\n")
        for name, entry in formats.items():
            print(f"  {name:<12} {entry.get('description', '')}".rstrip())

    def _print_format_config(self, formats: dict[str, Any], name: str) -> None:
        if name not in formats:
            raise ValueError(f"--format: No such format {name}")
        table = [*([self.subcommand] if self.subcommand else []), "formats", name]
        print(f"[{'.'.join(table)}]")
        for key in ("description", "format"):
            if key in formats[name]:
                # A JSON string is also a basic string of TOML.
                print(f"{key} = {json.dumps(formats[name][key], ensure_ascii=False)}")

    def __getattr__(self, attr: str) -> Any:
        # Python itself asks objects for names with underscores (copy, pickle), and expects AttributeError.
        if attr.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {attr!r}")
        return self.config[attr]
