"""What users write for a job's options, and what of a jobspec they mean (spec 06, 15.8).

Every function takes the text of one option and gives the value that goes into the jobspec; ValueError has the
sentence for the user. The functions know neither jobspecs nor commands, but for `jobspec_add_file`.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import resource
import signal
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

from flux.constraint.parser import ConstraintParser
from flux.util import dict_merge, parse_fsd, set_treedict

if TYPE_CHECKING:
    from flux.job.Jobspec import Jobspec

#: Limits that are the machine's business rather than the user's: not taken along unless they are named.
_UNWANTED_RLIMITS = ("memlock", "ofile", "msgqueue", "nice", "rtprio", "rttime", "sigpending")


class MiniConstraintParser(ConstraintParser):
    """What ``--requires`` takes: properties, ``host:`` and ``rank:``, with and, or, not."""

    operator_map: ClassVar[dict[str | None, str]] = {
        None: "properties",
        "hosts": "hostlist",
        "host": "hostlist",
        "rank": "ranks",
    }
    split_values: ClassVar[dict[str, str]] = {"properties": ","}
    combined_terms: ClassVar[set[str]] = {"properties"}


class URIArg:
    """An argument ``scheme:value?key=value&...``; `name` is what errors call it.

    Raises ValueError if it has no scheme.
    """

    def __init__(self, uri: str, name: str) -> None:
        from urllib.parse import parse_qs, urlparse  # few jobs have such arguments

        if ":" not in uri:
            uri += ":"  # a scheme alone
        self.uri = urlparse(uri)
        if not self.uri.scheme:
            raise ValueError(f'Invalid {name} URI "{uri}"')
        self.path = self.uri.path
        self.scheme = self.uri.scheme
        self.params: dict[str, Any] = {}
        for key, values in parse_qs(self.uri.query).items():
            numbers = [_number(value) for value in values]
            self.params[key] = numbers[0] if len(numbers) == 1 else numbers

    @property
    def entry(self) -> dict[str, Any]:
        """As it goes into a jobspec: scheme, value, and the parameters."""
        return {"scheme": self.scheme, "value": self.path, **self.params}


def _number(text: str) -> int | float | str:
    """`text` as an int or float if it is one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def dependency_array_create(uris: Iterable[str]) -> list[dict[str, Any]]:
    """Dependencies as they go into a jobspec (spec 06, section 8)."""
    return [URIArg(uri, "dependency").entry for uri in uris]


def list_split(opts: Iterable[str] | None) -> list[str]:
    """Option values that may be lists with commas, one by one."""
    return list(chain.from_iterable(value.split(",") for value in opts)) if opts else []


def _read(path: str | os.PathLike[str]) -> str:
    """The text of a file. Raises OSError."""
    with open(path) as file:
        return file.read()


# The environment.


def filter_dict(env: Mapping[str, str], pattern: str, reverseMatch: bool = True) -> dict[str, str]:
    """The entries of `env` whose names do not match a pattern: a glob, or ``/regex/``.

    Args:
        env: names and values.
        pattern: what to look for, matched from the start.
        reverseMatch: False: the entries that do match.
    """
    if len(pattern) > 1 and pattern.startswith("/") and pattern.endswith("/"):
        matches = re.compile(pattern[1:-1]).match
    else:
        matches = re.compile(fnmatch.translate(pattern)).match
    return {name: value for name, value in env.items() if bool(matches(name)) != reverseMatch}


def get_filtered_environment(
    rules: str | Iterable[str], environ: Mapping[str, str] | None = None
) -> tuple[dict[str, str], dict[str, str]]:
    """The environment of a job, by rules (spec 06, 15.8).

    Args:
        rules: ``-PATTERN``, ``VAR=VALUE``, ``VAR`` or a glob, ``^FILE`` with more of them.
        environ: what to begin with; None: os.environ.

    Returns the variables, and those whose values have ``{{tags}}``, which are for the shell to expand.
    Raises ValueError, which says --env.
    """
    base = os.environ
    result = dict(base if environ is None else environ)
    expand: dict[str, str] = {}
    for rule in [rules] if isinstance(rules, str) else rules:
        result = _apply_env_rule(rule, result, expand, base)
    return result, expand


def _apply_env_rule(
    rule: str, result: dict[str, str], expand: dict[str, str], base: Mapping[str, str]
) -> dict[str, str]:
    rule = rule.rstrip("\n")
    if rule.startswith("#") or not rule.strip():
        return result
    if rule.startswith("^"):
        try:
            lines = _read(os.path.expanduser(rule[1:])).splitlines()
        except OSError as exc:
            raise ValueError(f"--env: {exc}") from exc
        for line in lines:
            result = _apply_env_rule(line, result, expand, base)
        return result
    if rule.startswith("-"):
        return filter_dict(result, rule[1:])
    name, equals, value = rule.partition("=")
    if not equals:
        imported = filter_dict(base, rule, reverseMatch=False)
        return {**imported, **result}
    if "{{" in value:
        expand[name] = value
        return result
    from string import Template  # few jobs have such rules

    try:
        result[name] = Template(value).substitute({**base, **result})
    except ValueError:
        raise ValueError(f"--env: Unable to substitute {rule}") from None
    except KeyError as exc:
        raise ValueError(f"--env: Variable {exc} not found in {rule}") from None
    return result


# Resource limits.

_RLIMITS = {full[7:].lower(): getattr(resource, full) for full in dir(resource) if full.startswith("RLIMIT_")}


def get_rlimits(name: str = "*") -> dict[str, int]:
    """The soft limits of this process whose names match a glob, as the shell's option ``rlimit`` has them.

    Raises ValueError if there are none.
    """
    wanted = _RLIMITS if name == "*" else [short for short in _RLIMITS if fnmatch.fnmatch(short, name)]
    found = {short: resource.getrlimit(_RLIMITS[short])[0] for short in wanted}
    if not found:
        raise ValueError(f'No corresponding rlimit matching "{name}"')
    return found


def get_filtered_rlimits(user_rules: Iterable[str] | None = None) -> dict[str, int]:
    """The limits of a job, by rules: ``-NAME``, ``NAME``, ``NAME=VALUE``, over this process' own.

    Raises ValueError for a limit there is not, or a value that is none.
    """
    limits = {name: soft for name, soft in get_rlimits().items() if name not in _UNWANTED_RLIMITS}
    for rule in list_split(user_rules):
        name, equals, value = rule.partition("=")
        if rule.startswith("-"):
            limits = {limit: soft for limit, soft in limits.items() if not fnmatch.fnmatch(limit, rule[1:])}
        elif not equals:
            limits.update(get_rlimits(name))
        else:
            known = get_rlimits()
            if name not in known:
                raise ValueError(f'Invalid rlimit "{name}"')
            limits[name] = _limit(rule, value)
    return limits


def _limit(rule: str, value: str) -> int:
    if value in ("unlimited", "infinity", "inf"):
        return int(resource.RLIM_INFINITY)
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"Invalid value in {rule}") from None


# Signals and durations.


def decode_signal(val: str | int) -> int:
    """The number of a signal: ``10``, ``USR1`` or ``SIGUSR1``. Raises ValueError."""
    if isinstance(val, int):
        return val
    text = val.upper()
    if text.isdecimal():
        number = int(text)
        if number > 0:
            return number
        raise ValueError("signal must be > 0")
    try:
        return int(signal.Signals[text if text.startswith("SIG") else f"SIG{text}"])
    except KeyError:
        raise ValueError(f"signal '{val}' is invalid") from None


def decode_duration(val: str | float) -> float:
    """Seconds: a number, or a Flux standard duration. Raises ValueError."""
    return float(val) if isinstance(val, int | float) else parse_fsd(val)


def parse_signal_option(arg: str) -> dict[str, Any]:
    """``[SIG][@TIME]`` as the shell's option ``signal``: SIGUSR1 and 60 seconds where nothing is said.

    Raises ValueError, which says --signal.
    """
    number: int = signal.SIGUSR1
    timeleft: float = 60
    name, _, duration = arg.partition("@")
    try:
        if name:
            number = decode_signal(name)
        if duration:
            timeleft = decode_duration(duration)
    except ValueError as exc:
        raise ValueError(f"--signal={arg}: {exc}") from exc
    return {"signum": int(number), "timeleft": timeleft}


# Attributes and files.


def parse_jobspec_keyval(label: str, keyval: str) -> tuple[str, Any]:
    """``KEY=VALUE`` with a JSON value, or text; a key alone is 1; ``^KEY=FILE``: JSON from a file.

    Raises ValueError, which says `label`, for a file that cannot be read.
    """
    key, equals, text = keyval.partition("=")
    if key.startswith("^"):
        key, path = key[1:], text
        try:
            text = _read(path)
        except OSError as exc:
            raise ValueError(f"{label}: {exc}") from exc
        try:
            return key, json.loads(text)
        except json.JSONDecodeError as exc:
            raise ValueError(f"{label}: {path}: {exc}") from exc
    if not equals:
        return key, 1
    try:
        return key, json.loads(text)
    except json.JSONDecodeError:
        return key, text


def jobspec_add_file(jobspec: Jobspec, arg: str) -> None:
    """Adds a file to a jobspec: ``PATH``, ``NAME[:PERMS]=PATH``, or ``NAME[:PERMS]=text`` with a line break in it.

    Raises ValueError, which says --add-file.
    """
    perms: int | None = None
    name, equals, data = arg.partition("=")
    if not equals:
        data, name = arg, os.path.basename(arg)
        if "\n" in data:
            raise ValueError("--add-file: file name missing")
    else:
        name, colon, mode = name.partition(":")
        if colon:
            try:
                perms = int(mode, base=8)
            except ValueError as exc:
                raise ValueError(f"--add-file={arg}: {mode} are no octal permissions") from exc
        if "\\n" in data and "\n" not in data:
            data = data.replace("\\n", "\n")
    try:
        jobspec.add_file(name, data, perms=perms)
    except (TypeError, ValueError, OSError) as exc:
        raise ValueError(f"--add-file={arg}: {exc}") from exc


# The configuration of a batch job's instance.


def _toml(text: str) -> Any:
    import tomllib

    return tomllib.loads(text)


class BatchConfig:
    """The configuration of an instance that runs as a job, put together from ``--conf`` options."""

    #: How files are read, by suffix.
    loaders: ClassVar[dict[str, Callable[[str], Any]]] = {".toml": _toml, ".json": json.loads}

    def __init__(self) -> None:
        self.config: dict[str, Any] | None = None

    def _merge(self, new: Mapping[str, Any]) -> BatchConfig:
        self.config = dict_merge(self.config or {}, new)
        return self

    def update_string(self, value: str) -> BatchConfig:
        """Adds the tables of several lines of JSON or TOML. Raises ValueError."""
        for load in (json.loads, _toml):
            try:
                conf = load(value)
            except ValueError:
                continue
            if isinstance(conf, dict):
                return self._merge(conf)
        raise ValueError("--conf: failed to parse multiline as TOML or JSON")

    def update_keyval(self, keyval: str) -> BatchConfig:
        """Sets one dotted key: ``a.b=VALUE``, JSON or text."""
        key, _, text = keyval.partition("=")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        conf: dict[str, Any] = {}
        set_treedict(conf, key, value)
        return self._merge(conf)

    def update_file(self, path: str | os.PathLike[str], extension: str = ".toml") -> BatchConfig:
        """Adds a file's tables; `extension` says how it is read. Raises ValueError, OSError."""
        text = _read(path)
        try:
            conf = self.loaders[extension](text)
        except ValueError as exc:
            raise ValueError(f"--conf: parse error: {path}: {exc}") from exc
        return self._merge(conf)

    def update_named_config(self, name: str) -> BatchConfig:
        """Adds the file NAME.toml or NAME.json of the user's or the site's configuration. Raises ValueError."""
        from flux.util import xdg_searchpath  # few jobs have one

        for directory in xdg_searchpath("config"):
            for extension in self.loaders:
                path = directory / f"{name}{extension}"
                if path.exists():
                    return self.update_file(path, extension)
        raise ValueError(f"--conf: named config '{name}' not found")

    def update(self, value: str) -> BatchConfig:
        """Adds what a ``--conf`` option says: lines of JSON or TOML, KEY=VALUE, a file, or a name."""
        if "\n" in value:
            return self.update_string(value)
        if "=" in value:
            return self.update_keyval(value)
        extension = os.path.splitext(value)[1]
        if extension in self.loaders:
            return self.update_file(value, extension)
        return self.update_named_config(value)

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a dotted key."""
        node: Any = self.config
        for name in key.split("."):
            if not isinstance(node, Mapping) or name not in node:
                return default
            node = node[name]
        return node


def normalize_conf(conf: BatchConfig | Mapping[str, Any] | str | None) -> dict[str, Any] | None:
    """The configuration that a builder's argument `conf` means; None for none. Raises ValueError, TypeError."""
    if conf is None:
        return None
    if isinstance(conf, BatchConfig):
        return conf.config
    if isinstance(conf, str):
        return BatchConfig().update(conf).config
    if isinstance(conf, Mapping):
        return dict(conf)
    raise TypeError(f"conf must be a dict, a str or a BatchConfig, not {type(conf).__name__}")
