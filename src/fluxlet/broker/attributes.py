"""Attributes of a broker: names and texts, and who may change which (spec 03, section 9).

Pure: no messages, no I/O. The service `attr` serves them; the broker's own parts read `visible`.

Rules:
- One table says which attributes exist. What is not in it does not, and cannot be made.
- Values are text, or None: such an attribute is listed, and reading it is ENOENT.
- An attribute that is not there yet may be set, whatever the table says about updates; then it has the table's flags.
- Whoever depends on a value watches it; a watcher hears of every change, whoever makes it.
"""

from __future__ import annotations

import errno
import fnmatch
from collections.abc import Callable, Mapping
from types import MappingProxyType

from flux.conf_builtin import conf_builtin_get

#: May be given on the command line.
COMMAND_LINE = 4
#: May be updated once it is there.
RUNTIME = 2
#: Never changes once it is there: flags bit 0 of the protocol, clients keep the value.
IMMUTABLE = 1

_C, _R, _I = COMMAND_LINE, RUNTIME, IMMUTABLE
_CI, _CR = _C | _I, _C | _R

#: All attributes there are.
TABLE: dict[str, int] = {
    "rank": _I,
    "size": _I,
    "version": 0,
    "hostname": _CI,
    "hostlist": _CI,
    "security.owner": _I,
    "local-uri": _CI,
    "parent-uri": _I,
    "instance-level": _I,
    "jobid": _I,
    "jobid-path": _I,
    "parent-kvs-namespace": _I,
    "rundir": _C,
    "statedir": _C,
    "rundir-cleanup": _CI,
    "statedir-cleanup": _CI,
    "config.path": _CI,
    "broker.boot-method": _CI,
    "broker.critical-ranks": _CI,
    "broker.mapping": _I,
    "broker.pid": _I,
    "broker.uuid": _I,
    "broker.starttime": _I,
    "broker.quorum": _CI,
    "broker.quorum-warn": _CI,
    "broker.shutdown-warn": _CI,
    "broker.shutdown-timeout": _CI,
    "broker.cleanup-timeout": _C,
    "broker.unload-builtins-timeout": _C,
    "broker.sd-stop-timeout": _CI,
    "broker.rc1_path": _C,
    "broker.rc3_path": _C,
    "broker.rc2_none": _C,
    "broker.rc2_pgrp": _C,
    "broker.recovery-mode": _C,
    "broker.sd-notify": _C,
    "broker.exit-norestart": _C,
    "broker.exit-restart": _CR,
    "broker.module-nopanic": _CR,
    "conf.shell_initrc": _CR,
    "conf.shell_pluginpath": _CR,
    "log-ring-size": _CI,
    "log-level": _CI,
    "log-stderr-level": _CR,
    "log-stderr-mode": _CI,
    "log-forward-level": _CI,
    "log-critical-level": _CI,
    "log-filename": _C,
    "log-syslog-enable": _CI,
    "log-syslog-level": _CI,
    "content.backing-module": _C,
    "content.hash": _CI,
    "content.dump": _CR,
    "content.restore": _CR,
    "cron.directory": _C,
    "tbon.topo": _C,
    "tbon.level": 0,
    "tbon.maxlevel": 0,
    "tbon.descendants": 0,
    "tbon.endpoint": 0,
    "tbon.parent-endpoint": 0,
    "tbon.zmqdebug": _C,
    "tbon.child_rcvhwm": _C,
    "tbon.prefertcp": _C,
    "tbon.zmq_io_threads": _C,
    "tbon.torpid_min": _C,
    "tbon.torpid_max": _C,
    "tbon.tcp_user_timeout": _C,
    "tbon.connect_timeout": _C,
    "tbon.interface-hint": _CR | _I,
    "tbon.fanout": _C,
}

#: Families of names, for tests and vendors.
PATTERNS: dict[str, int] = {
    "test.*": _CR,
    "test-ro.*": 0,
    "test-nr.*": _C,
    "test-im.*": _CI,
    "test-rd.*": _CR,
    "vendor.*": _CR | _I,
}

#: What an instance has if nobody says otherwise, as far as it is the same everywhere.
DEFAULTS: dict[str, str | None] = {
    # That of the release whose protocol we speak: its tools compare (spec 03, 14.7).
    "version": "0.88.0",
    "parent-uri": None,
    "instance-level": "0",
    "jobid-path": "/",
    "rundir-cleanup": "1",
    "statedir-cleanup": "1",
    "broker.boot-method": "single",
    "broker.critical-ranks": "0",
    "broker.mapping": "[[0,1,1,1]]",
    "broker.quorum": "1",
    "broker.quorum-warn": "1m",
    "broker.shutdown-warn": "1m",
    "broker.shutdown-timeout": "none",
    "broker.cleanup-timeout": "none",
    "broker.unload-builtins-timeout": "1m",
    "broker.sd-stop-timeout": "none",
    "broker.rc1_path": "flux modprobe rc1",
    "broker.rc3_path": "flux modprobe rc3",
    "conf.shell_initrc": conf_builtin_get("shell_initrc"),
    "conf.shell_pluginpath": conf_builtin_get("shell_pluginpath"),
    "log-ring-size": "1024",
    "log-level": "7",
    "log-stderr-level": "3",
    "log-stderr-mode": "leader",
    "log-forward-level": "3",
    "log-critical-level": "2",
    "log-syslog-enable": "0",
    "log-syslog-level": "3",
    "content.backing-module": "content-sqlite",
    "content.hash": "sha1",
    "tbon.topo": "kary:32",
    "tbon.level": "0",
    "tbon.maxlevel": "0",
    "tbon.descendants": "0",
    "tbon.zmqdebug": "0",
    "tbon.child_rcvhwm": "0",
    "tbon.prefertcp": "0",
    "tbon.zmq_io_threads": "1",
    "tbon.torpid_min": "5s",
    "tbon.torpid_max": "30s",
    "tbon.tcp_user_timeout": "20s",
    "tbon.connect_timeout": "30s",
    "tbon.interface-hint": "default-route",
}


def entry(name: str) -> int | None:
    """What the table says of a name, COMMAND_LINE, RUNTIME and IMMUTABLE bits; None if there is no such attribute."""
    flags = TABLE.get(name)
    if flags is None:
        for pattern, flags in PATTERNS.items():
            if fnmatch.fnmatchcase(name, pattern):
                return flags
        return None
    return flags


def parse_level(text: str) -> int:
    """A log level: an integer of at most 7. Raises ValueError for anything else."""
    level = int(text)
    if level > 7:
        raise ValueError(f"log level {level} is above 7")
    return level


class Attributes:
    """The attributes of one broker.

    Args:
        settings: values for a start, over the defaults; None for an attribute without value.

    Raises ValueError for a name that is not in the table.
    """

    def __init__(self, settings: Mapping[str, str | None]) -> None:
        self._values: dict[str, str | None] = {}
        self._visible: dict[str, str] = {}
        self._watchers: dict[str, list[Callable[[], None]]] = {}
        #: Live, read-only: the attributes that have a value.
        self.visible: Mapping[str, str] = MappingProxyType(self._visible)
        for name, value in {**DEFAULTS, **settings}.items():
            self.set_internal(name, value)

    @staticmethod
    def check_command_line(name: str) -> None:
        """Raises ValueError, with the text for the user, unless an attribute may be set on the command line."""
        flags = entry(name)
        if flags is None:
            raise ValueError(f"{name}: unknown attribute")
        if not flags & COMMAND_LINE:
            raise ValueError(f"{name}: attribute may not be set on the command line")

    def names(self) -> list[str]:
        """All attributes that are there, those without value too; in no order."""
        return list(self._values)

    def get(self, name: str) -> tuple[str, int]:
        """(value, flags) of an attribute; flags bit 0: it never changes. Raises OSError(ENOENT)."""
        value = self._visible.get(name)
        if value is None:
            raise OSError(errno.ENOENT, None)
        return value, (entry(name) or 0) & IMMUTABLE

    def watch(self, name: str, callback: Callable[[], None]) -> None:
        """Has `callback` called after every change of an attribute."""
        self._watchers.setdefault(name, []).append(callback)

    def check(self, name: str, value: str, force: bool = False) -> None:
        """Raises what `set` raises, and changes nothing."""
        flags = entry(name)
        if flags is None:
            raise OSError(errno.ENOENT, "unknown attribute")
        if name in self._values:
            if not (force or flags & RUNTIME):
                raise OSError(errno.EINVAL, "attribute may not be updated")
            if flags & IMMUTABLE:
                raise OSError(errno.EPERM, None)
        if name == "log-stderr-level":
            try:
                parse_level(value)
            except ValueError:
                raise OSError(errno.EINVAL, "invalid level") from None

    def set(self, name: str, value: str, force: bool = False) -> None:
        """Sets an attribute for a user.

        Args:
            force: also if the table says that it is not updated at run time.

        Raises OSError ENOENT for a name that is not in the table, EINVAL if it is not to be updated or the value
        will not do, EPERM if it never changes (spec 03, 9.1).
        """
        self.check(name, value, force)
        self.set_internal(name, value)

    def remove(self, name: str) -> None:
        """Removes an attribute for a user, if it is there. Raises OSError(EPERM) if it never changes."""
        if name not in self._values:
            return
        if (entry(name) or 0) & IMMUTABLE:
            raise OSError(errno.EPERM, None)
        del self._values[name]
        self._visible.pop(name, None)
        self._changed(name)

    def set_internal(self, name: str, value: str | None) -> None:
        """Sets an attribute in the broker's own name. Raises ValueError for a name that is not in the table."""
        if entry(name) is None:
            raise ValueError(f"{name}: unknown attribute")
        self._values[name] = value
        if value is None:
            self._visible.pop(name, None)
        else:
            self._visible[name] = value
        self._changed(name)

    def _changed(self, name: str) -> None:
        for callback in self._watchers.get(name, ()):
            callback()
