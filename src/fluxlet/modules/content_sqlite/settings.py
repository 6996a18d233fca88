"""How the database is to be kept: the table `[content-sqlite]`, and the module's arguments (spec 05, 3.2)."""

from __future__ import annotations

import errno
from typing import Any

from fluxlet.config_table import read_table

JOURNAL_MODES = ("DELETE", "TRUNCATE", "PERSIST", "MEMORY", "WAL", "OFF")
SYNCHRONOUS = ("EXTRA", "FULL", "NORMAL", "OFF")

#: Argument of the module -> key of the table.
_ARGUMENTS = {"journal_mode": "journal_mode", "synchronous": "synchronous", "max-checkpoints": "max_checkpoints"}


class Settings:
    """What configuration and arguments say; the latter win. Raises OSError(EINVAL) for what will not do.

    Attributes:
        journal_mode: as SQLite's pragma; a journal in memory if the instance keeps nothing: it needs none after a
            crash, and without any, a write that fails half-way would leave half of it behind.
        synchronous: as SQLite's pragma.
        max_checkpoints: how many are kept.
        truncate: begin anew.
    """

    def __init__(self, config: dict[str, Any], args: tuple[str, ...], temporary: bool) -> None:
        try:
            types = {"journal_mode": str, "synchronous": str, "max_checkpoints": int}
            table = read_table(config.get("content-sqlite", {}), types, strict=True)
        except ValueError as exc:
            raise OSError(errno.EINVAL, f"[content-sqlite]: {exc}") from None
        self.truncate = False
        for arg in args:
            name, _, value = arg.partition("=")
            if arg == "truncate":
                self.truncate = True
            elif name in _ARGUMENTS:
                number = name == "max-checkpoints" and value.isascii() and value.isdigit()
                table[_ARGUMENTS[name]] = int(value) if number else value
            else:
                raise OSError(errno.EINVAL, f"{arg}: unknown argument")
        self.explicit = bool(table.keys() & {"journal_mode", "synchronous"})
        self.journal_mode: str = table.get("journal_mode", "MEMORY" if temporary else "WAL")
        self.synchronous: str = table.get("synchronous", "OFF" if temporary else "NORMAL")
        self.max_checkpoints: int = table.get("max_checkpoints", 5)
        for name, found, known in (
            ("journal_mode", self.journal_mode, JOURNAL_MODES),
            ("synchronous", self.synchronous, SYNCHRONOUS),
        ):
            if found not in known:
                raise OSError(errno.EINVAL, f"content-sqlite: {name} '{found}' is none of {', '.join(known)}")
        if not isinstance(self.max_checkpoints, int) or self.max_checkpoints <= 0:
            text = f"content-sqlite: max_checkpoints must be greater than zero, not {self.max_checkpoints!r}"
            raise OSError(errno.EINVAL, text)
