"""flux config — the configuration of an instance, and how to change it (spec 03, 14.6).

It is here and not with the commands that only talk to an instance because it reads configuration files as the
broker does, with the same code.

A configuration is one JSON object, and a NAME the way into it: ``heartbeat.period``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from flux.cli.options import Command, Option, Parsed
from flux.cli.tool import Failure, call, connect, run, show
from flux.conf_builtin import conf_builtin_get
from flux.core.handle import Flux
from flux.util import parse_fsd
from fluxlet.broker.configuration import ConfigError, load_path, parse_json, parse_toml

_TYPES = "string|integer|real|boolean|object|array|any|fsd|fsd-integer|fsd-real"
_TYPE = Option(
    "t", "type", "Its type: string, integer, real, boolean, object, array, any, or fsd.", "TYPE", complete=_TYPES
)

COMMAND = Command(
    "config",
    "Query and manipulate Flux configuration",
    subcommands=[
        Command(
            "config load",
            "Replace the configuration by a file or stdin",
            (),
            "[PATH]",
            (0, 1),
            builtin=True,
            complete=("@file",),
        ),
        Command(
            "config reload",
            "Read the configuration's files again",
            [Option("", "follower-noop", "Do nothing on a broker of another rank than 0.")],
            builtin=True,
        ),
        Command(
            "config get",
            "Print configuration values",
            [
                Option(
                    "c",
                    "config-path",
                    "Read a file or a directory, or the files of a part of Flux, instead of asking the instance.",
                    "PATH|system|security|imp",
                ),
                _TYPE,
                Option("q", "quiet", "Say nothing if NAME is not set."),
                Option("d", "default", "Print VAL if NAME is not set.", "VAL"),
            ],
            "[NAME]",
            (0, 1),
            builtin=True,
        ),
        Command("config set", "Set a configuration value", [_TYPE], "NAME VALUE", (2, 2), builtin=True),
        Command("config unset", "Unset a configuration value", (), "NAME", (1, 1), builtin=True),
        Command(
            "config builtin",
            "Print compiled-in values",
            [
                Option("", "intree", "Those of a source tree."),
                Option("", "installed", "Those of an installation."),
            ],
            "NAME",
            (1, 1),
            builtin=True,
        ),
    ],
    builtin=True,
    description="The configuration is a tree of values, as a TOML file has it; NAME is the way to one, with dots "
    "between keys. It is the same on all brokers. A change takes effect at once, and lasts as long as the instance.",
    examples=(
        ("flux config get", "All of it, as JSON."),
        ("flux config get --type=fsd-real heartbeat.period", "One value, in seconds."),
        ("flux config set --type=integer my-tool.limit 5", "Set a value."),
    ),
    see_also=("start", "getattr"),
)

_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "real": (float,),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "any": (str, int, float, bool, dict, list, type(None)),
}
_DURATIONS: dict[str, Callable[[str], str]] = {
    "fsd": str,
    "fsd-integer": lambda text: str(int(parse_fsd(text))),
    "fsd-real": lambda text: f"{parse_fsd(text):f}",
}


def _check_type(name: str | None) -> None:
    if name is not None and name not in _JSON_TYPES and name not in _DURATIONS:
        raise Failure(f"Unknown type: {name}")


# The object.


class _Unset(Exception):
    """There is nothing of that name."""


def lookup(config: Any, name: str) -> Any:
    """The value of a dotted name. Raises _Unset."""
    for key in name.split("."):
        if not isinstance(config, dict) or key not in config:
            raise _Unset
        config = config[key]
    return config


def assign(config: dict[str, Any], name: str, value: Any) -> None:
    """Sets the value of a dotted name, with the tables it is in. Raises Failure."""
    *tables, last = keys = name.split(".")
    if not all(keys):
        raise Failure(f"invalid name '{name}': it must be words with points between them")
    for key in tables:
        config = config.setdefault(key, {})
        if not isinstance(config, dict):
            raise Failure(f"{name} cannot be set: {key} is a value, not a table")
    config[last] = value


def shown(value: Any, kind: str, name: str) -> str:
    """A value as it is printed. Raises Failure if it is not of the type."""
    problem = Failure(f"{name} does not have the requested type")
    if kind in _DURATIONS:
        try:
            parse_fsd(value)
            return _DURATIONS[kind](value)
        except (TypeError, ValueError, OverflowError):  # infinity is a duration, and no integer
            raise problem from None
    if type(value) not in _JSON_TYPES[kind]:
        raise problem
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def parsed_value(text: str, kind: str) -> Any:
    """The value that `text` is for a type. Raises Failure."""
    problem = Failure(f"Error parsing {kind} value")
    if kind == "string":
        return text
    try:
        if kind in _DURATIONS:
            parse_fsd(text)
            return text
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise problem from None
    if kind == "real" and type(value) is int:
        value = float(value)
    if type(value) not in _JSON_TYPES[kind]:
        raise problem
    return value


def _kind_of(value: Any) -> str:
    return next(kind for kind, types in _JSON_TYPES.items() if type(value) in types)


# The sub-commands.


def _fetch(handle: Flux) -> Any:
    return call(handle, "config.get", context="get")


def _from_files(path: str) -> dict[str, Any]:
    try:
        return load_path(path)
    except ConfigError as exc:
        raise Failure(f"Error parsing config: {exc}") from None


def _get(parsed: Parsed) -> int:
    kind = parsed.value("type") or "any"
    _check_type(kind)
    path = parsed.value("config-path")
    if path is not None:
        if path in ("system", "security", "imp"):
            path = f"{conf_builtin_get('confdir')}/{path}/conf.d"
        config = _from_files(path)
    else:
        with connect(COMMAND) as handle:
            config = _fetch(handle)
    if not parsed.words:
        show(shown(config, kind, "The configuration"))
        return 0
    name = parsed.words[0]
    try:
        value = lookup(config, name)
    except _Unset:
        default = parsed.value("default")
        if default is not None:
            show(default)
            return 0
        if parsed.has("quiet"):
            return 1
        raise Failure(f"{name} is not set") from None
    show(shown(value, kind, name))
    return 0


def _set(parsed: Parsed) -> int:
    name, text = parsed.words
    kind = parsed.value("type")
    _check_type(kind)
    with connect(COMMAND) as handle:
        config = _fetch(handle)
        if kind is None:
            try:
                kind = _kind_of(lookup(config, name))
            except _Unset:
                raise Failure("Type is unknown, please specify --type") from None
        assign(config, name, parsed_value(text, kind))
        call(handle, "config.load", config, context="load")
    return 0


def _unset(parsed: Parsed) -> int:
    table, _, key = parsed.words[0].rpartition(".")
    with connect(COMMAND) as handle:
        config = _fetch(handle)
        try:
            parent = lookup(config, table) if table else config
        except _Unset:
            parent = None
        if isinstance(parent, dict):
            parent.pop(key, None)
        call(handle, "config.load", config, context="load")
    return 0


def _from_stdin() -> dict[str, Any]:
    """What is there: JSON if it begins as an object, else TOML. Raises Failure."""
    text = sys.stdin.read()
    is_json = text.lstrip().startswith("{")
    try:
        return parse_json(text) if is_json else parse_toml(text)
    except ConfigError as exc:
        raise Failure(f"{'Error parsing config' if is_json else 'TOML parse error'}: {exc}") from None


def _load(parsed: Parsed) -> int:
    config = _from_files(parsed.words[0]) if parsed.words else _from_stdin()
    with connect(COMMAND) as handle:
        call(handle, "config.load", config, context="load")
    return 0


def _reload(parsed: Parsed) -> int:
    with connect(COMMAND) as handle:
        if not (parsed.has("follower-noop") and handle.get_rank() > 0):
            call(handle, "config.reload", context="reload")
    return 0


def _builtin(parsed: Parsed) -> int:
    if parsed.has("intree") and parsed.has("installed"):
        raise Failure("--intree and --installed cannot be used together")
    which = "intree" if parsed.has("intree") else "installed" if parsed.has("installed") else "auto"
    name = parsed.words[0]
    try:
        show(conf_builtin_get(name, which))
    except ValueError:
        raise Failure(f"{name} is invalid") from None
    return 0


_ACTIONS = {
    "config load": _load,
    "config reload": _reload,
    "config get": _get,
    "config set": _set,
    "config unset": _unset,
    "config builtin": _builtin,
}


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, lambda parsed: _ACTIONS[parsed.command.name](parsed))
