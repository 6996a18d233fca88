"""Asks an instance what ``flux top`` shows of it, again and again: counts of jobs when they change, resources with each
heartbeat, and the jobs that run after either, at most every two seconds (spec 08, 10.6).
"""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from flux.cli.commands.top.state import State
from flux.cli.tool import text_of
from flux.constants import FLUX_MSGTYPE_EVENT, FLUX_RPC_STREAMING
from flux.core.handle import Flux
from flux.job.info import JobInfo
from flux.resource.list import resource_list

_PULSE = "heartbeat.pulse"
_ATTRS = ["annotations", "userid", "state", "name", "queue", "nnodes", "ntasks", "t_run", "t_cleanup"]
_LIST_EVERY = 2.0


class Feed:
    """Keeps what is known of an instance up to date, while the handle's reactor runs.

    Args:
        handle: on the instance.
        state: what is known.
        changed: called after it has changed.
        room: how many jobs are of interest.

    Attributes:
        error: why the instance can no longer be asked.
    """

    def __init__(self, handle: Flux, state: State, changed: Callable[[], None], room: int) -> None:
        self._handle = handle
        self._state = state
        self._changed = changed
        self._room = room
        self.error: OSError | None = None
        self._asked = 0.0
        self._listing: Any = None
        self._again = False
        self._later = handle.timer_watcher_create(_LIST_EVERY, lambda *args: self.list_jobs())

    def start(self) -> None:
        """Asks for everything. Raises OSError, and ValueError for a queue that there is not."""
        handle, state = self._handle, self._state
        attr = handle.attr_get
        state.size, state.level = int(attr("size")), int(attr("instance-level"))
        state.version, state.started = attr("version"), float(attr("broker.starttime"))
        with suppress(FileNotFoundError):  # it is no job
            state.title = attr("jobid")
        state.take_config(handle.rpc("config.get").get() or {})
        state.expiration = self._expiration()
        handle.event_subscribe(_PULSE)
        handle.msg_watcher_create(self._pulse, FLUX_MSGTYPE_EVENT, _PULSE).start()
        handle.rpc("job-list.job-stats", {}, nodeid=0, flags=FLUX_RPC_STREAMING).then(self._counted)
        resource_list(handle).then(self._have)

    def _expiration(self) -> float:
        """When the instance has to end; 0.0 if it has not, or if that is not told to this user."""
        from flux.kvs import get

        try:
            found = get(self._handle, "resource.R")
        except OSError as exc:
            if exc.errno in (errno.ENOENT, errno.EPERM, errno.ENOSYS):
                return 0.0
            raise
        R = json.loads(found) if isinstance(found, str) else found
        return float(R["execution"].get("expiration", 0.0))

    def _fail(self, exc: OSError) -> None:
        self.error = exc
        self._handle.reactor_stop()

    def _pulse(self, *args: Any) -> None:
        self._state.beats += 1
        resource_list(self._handle).then(self._have)
        self.list_jobs()
        self._changed()

    def _counted(self, rpc: Any) -> None:
        try:
            self._state.take_stats(rpc.get())
        except OSError as exc:
            self._fail(exc)
            return
        rpc.reset()
        self.list_jobs()
        self._changed()

    def _have(self, future: Any) -> None:
        try:
            self._state.take_resources(future.get())
        except OSError as exc:
            self._fail(exc)
            return
        self._changed()

    # Jobs.

    def resize(self, room: int) -> None:
        """There is room for more jobs, or for less."""
        self._room = room
        self.list_jobs(now=True)

    def list_jobs(self, now: bool = False) -> None:
        """Asks for the jobs that run, unless that was done just now; then a little later. `now`: at once."""
        if self._listing is not None:
            self._again |= now
            return
        self._later.stop()
        wait = 0.0 if now else self._asked + _LIST_EVERY - time.monotonic()
        if wait > 0.0:
            self._later.reset(wait, 0.0)
            return
        self._asked = time.monotonic()
        wanted = {"max_entries": max(1, self._room), "attrs": _ATTRS, "constraint": self._state.constraint()}
        self._listing = self._handle.rpc("job-list.list", wanted, nodeid=0, flags=FLUX_RPC_STREAMING)
        self._listing.then(self._listed, [])

    def _listed(self, rpc: Any, jobs: list[JobInfo]) -> None:
        try:
            jobs += map(JobInfo, rpc.get()["jobs"])
            rpc.reset()
            return
        except OSError as exc:
            self._listing = None
            if exc.errno != errno.ENODATA:
                self._fail(exc)
                return
        if self._again:  # another queue was chosen meanwhile, say
            self._again = False
            self.list_jobs(now=True)
            return
        self._state.take_jobs(jobs)
        self._changed()


def lost(exc: OSError) -> str:
    """What an error of the feed is called."""
    return f"lost connection to Flux: {text_of(exc)}"
