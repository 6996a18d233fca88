"""Where an instance's configuration comes from (spec 03, 10.1 and 10.2): files, directories, `--conf` values.

Pure but for reading the files. The result is what `config.get` answers: one JSON object.

Rules:
- Sources are merged recursively by key, later ones over earlier ones.
- What JSON cannot say is not let in: dates become `{"iso-8601-ts": ...}`, NaN, infinities and integers beyond
  64 bits are errors.
- Every error is a ConfigError whose text says where: `FILE:LINE: TEXT`, or `LINE: TEXT` for text without a file.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

_INT64 = 1 << 63
_DEPTH = 256
_TOO_DEEP = "nested too deeply"


class ConfigError(ValueError):
    """The configuration cannot be used; the text says why."""


def load(path: str | None, updates: list[str]) -> dict[str, Any]:
    """The configuration of a broker.

    Args:
        path: a file or a directory; None: nothing.
        updates: the values of `--conf`, in order.

    Raises ConfigError with the text that goes to the log, also for a value that its key cannot have: it names the
    source, the table and the key.
    """
    sources: list[tuple[str, dict[str, Any]]] = []
    try:
        if path is not None:
            sources += [(f"Config file error: {file}", table) for file, table in _load_files(path)]
    except ConfigError as exc:
        raise ConfigError(f"Config file error: {exc}") from None
    for value in updates:
        try:
            sources.append(("--conf", parse_update(value)))
        except ConfigError as exc:
            raise ConfigError(f"--conf: {exc}") from None
    config: dict[str, Any] = {}
    for _, table in sources:
        merge(config, table)
    if config:
        _check(config, sources)
    return config


def _check(config: dict[str, Any], sources: list[tuple[str, dict[str, Any]]]) -> None:
    """Raises ConfigError for a value that its key cannot have."""
    from fluxlet.broker.configuration_keys import problem  # only who has a configuration pays for it

    found = problem(config)
    if found is not None:
        path, text = found
        source = next(source for source, table in reversed(sources) if _has(table, path))
        raise ConfigError(f"{source}: {'.'.join(path)}: {text}")


def _has(table: Any, path: tuple[str, ...]) -> bool:
    for key in path:
        if not isinstance(table, dict) or key not in table:
            return False
        table = table[key]
    return True


def load_path(path: str) -> dict[str, Any]:
    """What a file says, or all `*.toml` of a directory, in the order of their names. Raises ConfigError."""
    config: dict[str, Any] = {}
    for _, table in _load_files(path):
        merge(config, table)
    return config


def _load_files(path: str) -> list[tuple[str, dict[str, Any]]]:
    try:
        names = sorted(os.listdir(path)) if os.path.isdir(path) else None
        if names is None:
            return [(path, _load_file(path))]
    except OSError as exc:
        raise ConfigError(f"stat: {path}: {exc.strerror}") from None
    files: list[tuple[str, dict[str, Any]]] = []
    for name in names:
        # As a shell's *.toml would: hidden files do not count.
        if name.endswith(".toml") and not name.startswith("."):
            file = os.path.join(path, name)
            try:
                files.append((file, _load_file(file)))
            except OSError as exc:
                raise ConfigError(f"{file}: {exc.strerror}") from None
    return files


def _load_file(path: str) -> dict[str, Any]:
    with open(path, "rb") as file:
        data = file.read()
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text") from None
    return parse_json(text, path) if path.endswith(".json") else parse_toml(text, path)


def parse_toml(text: str, name: str = "") -> dict[str, Any]:
    """A TOML 1.0 document as a JSON object. Raises ConfigError; `name` is its file."""
    import tomllib  # only who has a configuration pays for it

    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        what = str(exc)
        place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", what)
        line = text.rstrip("\n").count("\n") + 1 if place is None or place[1] is None else int(place[1])
        raise ConfigError(_at(name, line, what if place is None else what[: place.start()])) from None
    except RecursionError:
        raise ConfigError(_at(name, 1, _TOO_DEEP)) from None
    except ValueError as exc:  # an integer with thousands of digits
        raise ConfigError(_at(name, 1, str(exc))) from None
    return _jsonable(table, name)


def parse_json(text: str, name: str = "") -> dict[str, Any]:
    """A JSON object. Raises ConfigError; `name` is its file."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as exc:
        raise ConfigError(_at(name, exc.lineno, exc.msg)) from None
    except RecursionError:
        raise ConfigError(_at(name, 1, _TOO_DEEP)) from None
    except ValueError as exc:  # an integer with thousands of digits
        raise ConfigError(_at(name, 1, str(exc))) from None
    if not isinstance(value, dict):
        raise ConfigError(_at(name, 1, "configuration is not a JSON object"))
    return _jsonable(value, name)


def _at(name: str, line: int, text: str) -> str:
    return f"{name}:{line}: {text}" if name else f"{line}: {text}"


def parse_update(value: str) -> dict[str, Any]:
    """What a `--conf` value stands for: inline TOML or JSON, KEY=VAL, or a file. Raises ConfigError."""
    if "\n" in value:
        return parse_json(value) if value.lstrip().startswith("{") else parse_toml(value)
    if value.startswith("{"):
        return parse_json(value)
    key, equals, word = value.partition("=")
    if not equals:
        return load_path(value)
    path = key.split(".")
    if not all(path):
        raise ConfigError("value must have a key in KEY=VAL")
    result: Any
    try:
        result = json.loads(word)
    except (ValueError, RecursionError):
        result = word
    for part in reversed(path):
        result = {part: result}
    return _jsonable(result, "")


def merge(config: dict[str, Any], update: dict[str, Any]) -> None:
    """Merges `update` into `config`: tables key by key, anything else replaces what was there."""
    for key, value in update.items():
        old = config.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merge(old, value)
        else:
            config[key] = value


def _jsonable(table: dict[str, Any], name: str) -> dict[str, Any]:
    try:
        result = {key: _value(value, key, name, 1) for key, value in table.items()}
        json.dumps(result, ensure_ascii=False).encode()
        return result
    except UnicodeEncodeError as exc:
        text = ascii(exc.object[exc.start : exc.end])
        raise ConfigError(_at(name, 1, f"{text} is no text that UTF-8 can hold")) from None
    except RecursionError:
        raise ConfigError(_at(name, 1, _TOO_DEEP)) from None


def _value(value: Any, key: str, name: str, depth: int) -> Any:
    match value:
        # The services could not read it back (`fluxlet.payload`), whatever this Python's parser can take.
        case dict() | list() if depth >= _DEPTH:
            raise ConfigError(_at(name, 1, _TOO_DEEP))
        case dict():
            return {sub: _value(item, f"{key}.{sub}", name, depth + 1) for sub, item in value.items()}
        case list():
            return [_value(item, key, name, depth + 1) for item in value]
        case int() if not -_INT64 <= value < _INT64:
            problem = f"integer {value} does not fit 64 bits"
        case float() if value != value or value in (float("inf"), float("-inf")):
            problem = f"{value} is not a number that JSON has"
        case bool() | int() | float() | str() | None:
            return value
        case _:  # a date, a time, or both, of the datetime module
            # TOML's UTC is Z; isoformat spells it as an offset.
            return {"iso-8601-ts": re.sub(r"\+00:00$", "Z", value.isoformat())}
    raise ConfigError(f"{name}: {key}: {problem}" if name else f"{key}: {problem}")
