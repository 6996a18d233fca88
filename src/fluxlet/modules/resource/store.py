"""What of the resources is in the KVS: R, the eventlog, the checkpoint of drains (spec 07, 2.1 and 2.3).

A broker without the service `kvs` has a store that keeps nothing: its resources are there while it is.
"""

from __future__ import annotations

import errno
import json
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from syslog import LOG_ERR
from typing import Any

from flux.core.codec import dump_payload
from flux.core.future_state import RpcState
from flux.eventlog import EventLogEvent
from fluxlet.service import Service

_APPEND = 32
#: Keys in the primary namespace.
R_KEY, EVENTLOG_KEY, CHECKPOINT_KEY = "resource.R", "resource.eventlog", "checkpoint.resource"


def operation(key: str, text: str, append: bool = False) -> dict[str, Any]:
    """An operation of kvs.commit that puts or appends a value."""
    data = b2a_base64(text.encode(), newline=False).decode()
    return {"key": key, "flags": _APPEND if append else 0, "dirent": {"ver": 1, "type": "val", "data": data}}


def event_line(event: dict[str, Any]) -> str:
    """An event as a line of the eventlog."""
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False) + "\n"


class Store:
    """The keys of the resource module; `service` asks on its behalf."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def load(self) -> tuple[str, str, str]:
        """The texts of R, the eventlog and the checkpoint; "" for what is not there."""
        handle = self._service.handle
        asked = [
            (key, handle.rpc("kvs.lookup", {"key": key, "namespace": "primary", "flags": 0}))
            for key in (R_KEY, EVENTLOG_KEY, CHECKPOINT_KEY)
        ]
        found = []
        for key, rpc in asked:
            try:
                value = (await rpc)["val"]["data"]
                found.append(a2b_base64(value).decode("utf-8", "replace"))
            except OSError as exc:
                if exc.errno not in (errno.ENOENT, errno.ENOSYS):
                    self._service.broker.log.write(LOG_ERR, f"reading {key}: {exc.strerror}", "resource")
                found.append("")
        return found[0], found[1], found[2]

    def commit(self, operations: list[dict[str, Any]], then: Callable[[int, str | None], None]) -> None:
        """Commits, and calls `then` with errno (0: done) and text."""

        def done(state: RpcState) -> None:
            if state.errnum and state.errnum != errno.ENOSYS:
                self._service.broker.log.write(LOG_ERR, f"kvs.commit: {state.error_text()}", "resource")
                then(state.errnum, state.error_text())
            else:
                then(0, None)

        payload = {"namespace": "primary", "flags": 0, "ops": operations}
        self._service.ask(b"kvs.commit", dump_payload(payload), done)


def read_events(text: str) -> list[EventLogEvent]:
    """The events of an eventlog. Raises ValueError for a line that is none."""
    return [EventLogEvent(line) for line in text.splitlines() if line]
