"""The table [ingest] of the configuration (spec 06, section 17). Pure."""

from __future__ import annotations

import shlex
from typing import Any

import msgspec

from fluxlet.config_table import read_named_table, read_size
from fluxlet.modules.job_manager.policy import Settings as Policies
from fluxlet.modules.job_manager.policy import read as read_policies

#: What the pipeline runs that needs no process of its own.
VALIDATORS = ("jobspec", "feasibility", "require-instance")
FROBNICATORS = ("defaults", "constraints")


class Stage(msgspec.Struct):
    """[ingest.validator] or [ingest.frobnicator]. `plugins` None: nothing is done."""

    plugins: list[str] | None
    args: list[str]


class RequireInstance(msgspec.Struct):
    """Jobs of so many nodes or cores must be instances; 0: no such bound, None: not set."""

    minnodes: int | None = None
    mincores: int | None = None


class Settings(msgspec.Struct):
    """What job-ingest goes by."""

    policies: Policies
    validator: Stage
    frobnicator: Stage
    require_instance: RequireInstance
    require_version: int | None = 1
    batch_count: int = 0
    buffer_size: int = 10 << 20


def read(config: dict[str, Any]) -> Settings:
    """Reads the configuration. Raises ValueError with the text for the user."""
    policies = read_policies(config)
    types: dict[str, type] = {"batch-count": int, "buffer-size": object, "validator": dict, "frobnicator": dict}
    table = read_named_table(config.get("ingest", {}), types, "ingest")
    validator, extra = _stage(table.get("validator", {}), "validator", ["jobspec"])
    frobnicator, _ = _stage(table.get("frobnicator", {}), "frobnicator", list(FROBNICATORS))
    if "plugins" not in table.get("frobnicator", {}) and policies.queues is None and not policies.policy.defaults:
        frobnicator.plugins = None
    settings = Settings(policies, validator, frobnicator, _require_instance(extra))
    _read_args(settings)
    settings.batch_count = table.get("batch-count", 0)
    if "buffer-size" in table:
        try:
            settings.buffer_size = read_size(table["buffer-size"])
        except ValueError as exc:
            raise ValueError(f"error parsing [ingest] config table: buffer-size: {exc}") from None
    return settings


def _stage(table: Any, name: str, default: list[str]) -> tuple[Stage, dict[str, Any]]:
    types = {"disable": bool, "plugins": list, "args": list, "require-instance": dict}
    values = read_named_table(table, types, f"ingest.{name}")
    for key in ("plugins", "args"):
        if not all(isinstance(item, str) for item in values.get(key, [])):
            raise ValueError(f"error parsing [ingest.{name}] config table: '{key}' must be an array of strings")
    plugins = None if values.get("disable") else values.get("plugins", default)
    return Stage(plugins, values.get("args", [])), values.get("require-instance", {})


def _require_instance(table: dict[str, Any]) -> RequireInstance:
    values = read_named_table(table, {"minnodes": int, "mincores": int}, "ingest.validator.require-instance")
    return RequireInstance(values.get("minnodes"), values.get("mincores"))


def _read_args(settings: Settings) -> None:
    """Arguments of the validators that are ours."""
    words = [word for arg in settings.validator.args for word in shlex.split(arg)]
    pairs = iter(words)
    for word in pairs:
        key, equals, value = word.partition("=")
        if not equals:
            value = next(pairs, "")
        if key == "--require-version":
            if value not in ("1", "any"):
                raise ValueError(f"error parsing [ingest.validator] config table: --require-version={value}: 1 or any")
            settings.require_version = 1 if value == "1" else None
        elif key in ("--require-instance-minnodes", "--require-instance-mincores"):
            if not value.isdecimal():
                raise ValueError(f"error parsing [ingest.validator] config table: {key}={value}: not a number")
            setattr(settings.require_instance, key.rpartition("-")[2], int(value))
