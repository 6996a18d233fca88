"""Watching a job's jobspec or R: all who watch it share one object, and one watch of the eventlog (spec 08, 1.4)."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flux.constants import FLUX_KVS_WATCH, FLUX_KVS_WATCH_APPEND, FLUX_KVS_WATCH_INITIAL_SENTINEL
from flux.core import fluid, kvs_rpc
from flux.core.future_state import RpcState
from flux.message import Message
from fluxlet.modules.job_info.eventlog import apply_update, owner_of, parse
from fluxlet.modules.job_info.reading import Lines, Outcome, follow, outcome
from fluxlet.service import authorized

if TYPE_CHECKING:
    from fluxlet.modules.job_info.module import JobInfo

_FLAGS = FLUX_KVS_WATCH | FLUX_KVS_WATCH_APPEND | FLUX_KVS_WATCH_INITIAL_SENTINEL


class Update:
    """What is at a key of a job, with all updates, and who is told of them.

    Args:
        service: the service.
        jobid: of the job.
        key: ``R`` or ``jobspec``.
        on_end: called when nobody is told any more.

    Attributes:
        requests: the requests of those who are told.
    """

    def __init__(self, service: JobInfo, jobid: int, key: str, on_end: Callable[[], Any]) -> None:
        self._service = service
        self._jobid = jobid
        self._key = key
        self._on_end = on_end
        self.requests: list[Message] = []
        self._owner: int | None = None
        self._lines: list[bytes] = []  # of the eventlog, until the first object can be made
        self._splitter = Lines()
        self._complete = False  # the eventlog as it was at first has been read
        self._base: bytes | None = None
        self._object: Any = None
        self._ended = False
        self._state: RpcState | None = None

    def begin(self) -> None:
        """Begins to read."""
        directory = fluid.kvs(self._jobid)
        self._state = follow(self._service.handle, "primary", f"{directory}.eventlog", _FLAGS)
        self._state.add_hook(self._heard)
        self._service.fetch(f"{directory}.{self._key}", self._fetched)
        self._heard()

    def add(self, request: Message) -> None:
        """One more to tell. Raises OSError(EPERM) if it is not for him to know."""
        if self._object is not None:
            if self._owner is not None and not authorized(request, self._owner):
                raise OSError(errno.EPERM, None)
            self._tell(request)
        self.requests.append(request)

    def remove(self, request: Message) -> None:
        """One less."""
        self.requests.remove(request)
        if not self.requests:
            self.stop()

    def stop(self) -> None:
        """Reads no more."""
        self._ended = True
        state, self._state = self._state, None
        if state is not None:
            state.remove_hook(self._heard)
            if not state.done:
                kvs_rpc.cancel_lookup(state)
        self._on_end()

    def _end(self, errnum: int, text: str | None = None) -> None:
        requests, self.requests = self.requests, []
        self.stop()
        for request in requests:
            self._service.handle.respond_error(request, errnum, text)

    def _tell(self, request: Message) -> None:
        self._service.handle.respond(request, {self._key: self._object})

    # What is heard.

    def _fetched(self, state: RpcState) -> None:
        if self._ended:
            return
        found = outcome(state)
        if found.errnum:
            self._failed(found)
        else:
            self._base = found.value
            self._settle()

    def _failed(self, found: Outcome) -> None:
        self._end(found.errnum, found.text if found.errnum != errno.ENOENT else None)

    def _heard(self) -> None:
        while not self._ended and self._state is not None and self._state.ready:
            state = self._state
            found = outcome(state)
            if found.errnum:
                self._failed(found)
                return
            state.reset()
            if found.sentinel:
                self._complete = True
                self._settle()
            else:
                self._lines += self._splitter.add(found.value)
                if self._object is not None:
                    self._apply()

    def _settle(self) -> None:
        """Makes the first object, when all for it is there."""
        if not self._complete or self._base is None or self._object is not None:
            return
        try:
            self._owner = owner_of(self._lines[0] if self._lines else b"")
            self._service.remember(self._jobid, self._owner)
            self._object = json.loads(self._base)
        except (ValueError, RecursionError) as exc:
            self._end(errno.EPROTO, str(exc))
            return
        for request in [request for request in self.requests if not authorized(request, self._owner)]:
            self.requests.remove(request)
            self._service.handle.respond_error(request, errno.EPERM)
        if not self.requests:
            self.stop()
            return
        self._apply(first=True)

    def _apply(self, first: bool = False) -> None:
        """Applies the lines that have come, and tells."""
        lines, self._lines = self._lines, []
        over = False
        try:
            for line in lines:
                if apply_update(self._key, self._object, line) and not first:
                    for request in self.requests:
                        self._tell(request)
                over = over or (b'"clean"' in line and parse(line).name == "clean")
        except (ValueError, TypeError) as exc:
            self._end(errno.EINVAL, f"{self._key}: error applying eventlog to original value: {exc}")
            return
        if first:
            for request in self.requests:
                self._tell(request)
        if over:
            self._end(errno.ENODATA)
