"""One lookup of values of a job: what to fetch, and the answer that this makes (spec 08, 1.2). Pure."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from typing import Any

from fluxlet.modules.job_info.eventlog import UPDATES, apply_update, owner_of

JSON_DECODE = 1
CURRENT = 2


class Lookup:
    """A lookup.

    Args:
        jobid: of the job.
        keys: below its directory.
        flags: JSON_DECODE, CURRENT.
        may_read: tells whether the client may see a job of this user; None if it may in any case.
        on_owner: called with the job's user when that turns out.
    """

    def __init__(
        self,
        jobid: int,
        keys: list[str],
        flags: int,
        may_read: Callable[[int], bool] | None,
        on_owner: Callable[[int], None],
    ) -> None:
        self._jobid = jobid
        self._keys = list(dict.fromkeys(keys))
        self._flags = flags
        self._may_read = may_read
        self._on_owner = on_owner
        #: That there is such a job is known, and whose it is.
        self.known = False
        self._values: dict[str, bytes] = {}
        self._errors: dict[str, tuple[int, str | None]] = {}
        self._missing: set[str] = set()

    def wanted(self) -> list[str]:
        """The keys to fetch."""
        wanted = dict.fromkeys(self._keys)
        if not self.known or self._may_read is not None or self._flags & CURRENT:
            wanted["eventlog"] = None
        self._missing = set(wanted)
        return list(wanted)

    def found(self, key: str, value: bytes, errnum: int, text: str | None) -> bool:
        """What has been fetched; True when that is all."""
        if errnum:
            self._errors[key] = (errnum, text)
        else:
            self._values[key] = value.partition(b"\0")[0]
        self._missing.discard(key)
        return not self._missing

    def answer(self) -> dict[str, Any]:
        """The payload of the response. Raises OSError with the reason if there is none."""
        if "eventlog" in self._errors:
            errnum, text = self._errors["eventlog"]
            raise OSError(errnum, "invalid job id" if errnum == errno.ENOENT else text)
        eventlog = self._values.get("eventlog")
        if eventlog is not None:
            self._authorize(eventlog)
        found: dict[str, Any] = {"id": self._jobid}
        for key in self._keys:
            if key in self._errors:
                errnum, text = self._errors[key]
                raise OSError(errnum, f"{key}: {_reason(errnum)}")
            value = self._values[key]
            if not value:
                raise OSError(errno.EPROTO, f"{key}: value is unexpectedly empty")
            found[key] = self._told(key, value, eventlog)
        return found

    def _authorize(self, eventlog: bytes) -> None:
        try:
            owner = owner_of(eventlog.partition(b"\n")[0])
        except ValueError as exc:
            raise OSError(errno.EPROTO, f"eventlog: {exc}") from None
        self._on_owner(owner)
        if self._may_read is not None and not self._may_read(owner):
            raise OSError(errno.EPERM, "access is restricted to job/instance owner")

    def _told(self, key: str, value: bytes, eventlog: bytes | None) -> Any:
        text = value.decode("utf-8", "surrogateescape")
        if key not in UPDATES or not self._flags:
            return text
        try:
            content = json.loads(text)
            if self._flags & CURRENT:
                for line in (eventlog or b"").splitlines():
                    apply_update(key, content, line)
        except (ValueError, TypeError) as exc:
            raise OSError(errno.EINVAL, f"{key}: error applying eventlog to original value: {exc}") from None
        return content if self._flags & JSON_DECODE else json.dumps(content, ensure_ascii=False)


def _reason(errnum: int) -> str:
    return "key not found" if errnum == errno.ENOENT else os.strerror(errnum)
