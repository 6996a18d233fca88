"""The keys of the configuration that mean something to an instance, and what their values must be (spec 03, 10.4).

Looked at when an instance starts or reads its files again, so that a mistake is reported with the file in which it is;
what values mean together, and what changes later, the modules look at.

Rules:
- Pure. A key that is not known is an error in those tables only that the reference is strict about; others, and other
  tables, belong to whoever asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flux.util.durations import parse_fsd
from fluxlet.config_table import read_size, type_name

#: Says what is wrong with a value, or "".
Check = Callable[[Any], str]


def _is(kind: type, wanted: str) -> Check:
    # An exact match: a bool is an int in Python, and none in TOML.
    return lambda value: "" if type(value) is kind else f"expected {wanted}, got {_shown(value)}"


def _shown(value: Any) -> str:
    return (
        f"'{value}'" if isinstance(value, str) else f"{type_name(value)} {value}" if _short(value) else type_name(value)
    )


def _short(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


STRING = _is(str, "a string")
INTEGER = _is(int, "an integer")
BOOL = _is(bool, "true or false")
TABLE = _is(dict, "a table")
ARRAY = _is(list, "an array")


def ANY(value: Any) -> str:
    """Whatever it is."""
    return ""


def DURATION(value: Any) -> str:
    """A Flux Standard Duration."""
    try:
        parse_fsd(value)
    except (TypeError, ValueError):
        return f'expected a duration such as "5s" or "1.5m", got {_shown(value)}'
    return ""


def SIZE(value: Any) -> str:
    """A number of bytes, perhaps with a unit."""
    try:
        read_size(value)
    except ValueError:
        return f'expected a number of bytes, or one with a unit such as "10M", got {_shown(value)}'
    return ""


def STRINGS(value: Any) -> str:
    """An array of strings."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ""
    return f"expected an array of strings, got {_shown(value)}" if not isinstance(value, list) else _odd_one(value)


def _odd_one(values: list[Any]) -> str:
    odd = next(value for value in values if not isinstance(value, str))
    return f"expected an array of strings, which holds {_shown(odd)}"


class Keys:
    """A table.

    Args:
        keys: what each must be; a Keys is a table again.
        strict: others are errors.
        each: what the value of every other key must be.
    """

    def __init__(
        self, keys: Mapping[str, Check | Keys] | None = None, strict: bool = False, each: Check | Keys | None = None
    ) -> None:
        self.keys = dict(keys or {})
        self.strict = strict
        self.each = each

    def problems(self, table: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
        """What is wrong: the path of a key, and a text."""
        if not isinstance(table, dict):
            yield path, TABLE(table)
            return
        for key, value in table.items():
            rule = self.keys.get(key, self.each)
            if isinstance(rule, Keys):
                yield from rule.problems(value, (*path, key))
            elif rule is not None:
                text = rule(value)
                if text:
                    yield (*path, key), text
            elif self.strict:
                yield (*path, key), f"unknown key; known are {', '.join(self.keys)}"


_SIZES = Keys({"nnodes": INTEGER, "ncores": INTEGER, "ngpus": INTEGER}, strict=True)
_POLICY = Keys(
    {
        "jobspec": Keys(
            {"defaults": Keys({"system": Keys({"duration": DURATION, "queue": STRING})}, strict=True)}, strict=True
        ),
        "limits": Keys(
            {"duration": DURATION, "job-size": Keys({"max": _SIZES, "min": _SIZES}, strict=True)}, strict=True
        ),
        "access": Keys({"allow-user": STRINGS, "allow-group": STRINGS}, strict=True),
        "scheduler": ANY,
    },
    strict=True,
)
_WORKERS = Keys({"disable": BOOL, "plugins": STRINGS, "args": STRINGS})

#: All that is known, by table.
TABLES = Keys(
    {
        "access": Keys(
            {
                "allow-guest-user": BOOL,
                "allow-root-owner": BOOL,
                "private-mode": BOOL,
                "roles": Keys({"admin": Keys({"users": STRINGS, "groups": STRINGS}, strict=True)}, strict=True),
            },
            strict=True,
        ),
        "bootstrap": Keys(
            {
                "hosts": ARRAY,
                "curve_cert": STRING,
                "default_port": INTEGER,
                "default_bind": STRING,
                "default_connect": STRING,
                "enable_ipv6": BOOL,
            }
        ),
        "connector-local": Keys({"sendq-max": SIZE}, strict=True),
        "content-sqlite": Keys(
            {"journal_mode": STRING, "synchronous": STRING, "max_checkpoints": INTEGER}, strict=True
        ),
        "exec": Keys(
            {
                "kill-timeout": DURATION,
                "term-signal": STRING,
                "kill-signal": STRING,
                "max-kill-count": INTEGER,
                "max-kill-timeout": DURATION,
                "job-shell": STRING,
                "imp": STRING,
                "service": STRING,
                "method": STRING,
                "barrier-timeout": DURATION,
                "shell-exit-timeout": DURATION,
                "max-start-delay-percent": INTEGER,
                "testexec": Keys({"allow-guests": BOOL}),
            }
        ),
        "fake-resources": Keys(
            {
                "nnodes": INTEGER,
                "cores-per-node": INTEGER,
                "gpus-per-node": INTEGER,
                "host-prefix": STRING,
                "hwloc-xml-path": STRING,
                "amend-r": ANY,
            }
        ),
        "heartbeat": Keys({"period": DURATION, "timeout": DURATION, "warn_thresh": INTEGER}, strict=True),
        "ingest": Keys({"batch-count": INTEGER, "buffer-size": SIZE, "frobnicator": _WORKERS, "validator": _WORKERS}),
        "job-list": Keys({"max_comparisons": INTEGER}),
        "job-manager": Keys(
            {
                "inactive-age-limit": DURATION,
                "inactive-num-limit": INTEGER,
                "stop-queues-on-restart": BOOL,
                "plugins": ARRAY,
                "housekeeping": TABLE,
                "prolog": TABLE,
                "epilog": TABLE,
                "perilog": TABLE,
            }
        ),
        "kvs": Keys({"checkpoint-period": DURATION, "gc-threshold": INTEGER}),
        "modules": Keys(
            {"alternatives": Keys(each=STRING)},
            each=Keys({"args": STRINGS, "disabled": BOOL, "ranks": STRING, "priority": INTEGER, "exec": BOOL}),
        ),
        "policy": _POLICY,
        "queues": Keys(each=Keys({"requires": STRINGS, "policy": _POLICY, "parent": STRING}, strict=True)),
        "resource": Keys(
            {
                "path": STRING,
                "scheduling": STRING,
                "config": ARRAY,
                "exclude": STRING,
                "norestrict": BOOL,
                "verify": ANY,
                "noverify": BOOL,
                "rediscover": BOOL,
                "journal-max": INTEGER,
                "history": DURATION,
                "no-update-watch": BOOL,
            },
            strict=True,
        ),
        "tbon": Keys(
            {
                "topo": STRING,
                "torpid_min": DURATION,
                "torpid_max": DURATION,
                "tcp_user_timeout": DURATION,
                "connect_timeout": DURATION,
                "zmqdebug": INTEGER,
                "zmq_io_threads": INTEGER,
                "child_rcvhwm": INTEGER,
                "interface-hint": STRING,
            }
        ),
    }
)


def problem(config: Mapping[str, Any]) -> tuple[tuple[str, ...], str] | None:
    """The first thing that is wrong with a configuration: the path of its key, and a text; None: nothing is."""
    return next(TABLES.problems(config, ()), None)
