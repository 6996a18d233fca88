"""Requests that ask about jobs: list, getattr, getinfo, stats-get, the journal, history (spec 06, section 7)."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from typing import Any

import msgspec

from flux.brokermod import request_handler
from flux.core.coroutine import spawn
from flux.core.handle import Flux
from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.modules.job_manager.base import AT_ONCE, Base
from fluxlet.modules.job_manager.entries import entry
from fluxlet.modules.job_manager.job import Job
from fluxlet.modules.job_manager.journal import Listener
from fluxlet.modules.job_manager.machine import RUNNING
from fluxlet.modules.job_manager.past import Past
from fluxlet.modules.job_manager.waits import Zombie
from fluxlet.payload import decode, read_object
from fluxlet.service import authorized, may_end, require_streaming, sender

_encode = msgspec.json.Encoder().encode
_slice = re.compile(r"\[\s*([+-]?\d+)?\s*:\s*([+-]?\d+)?\s*(?::\s*([+-]?\d+)?\s*)?\]").fullmatch


class ListRequest(msgspec.Struct):
    """Payload of job-manager.list."""

    max_entries: int


class GetattrRequest(msgspec.Struct):
    """Payload of job-manager.getattr."""

    id: int
    attrs: list[Any]


class JournalRequest(msgspec.Struct):
    """Payload of job-manager.events-journal."""

    full: bool = False
    allow: Any = msgspec.UNSET
    deny: Any = msgspec.UNSET


class CancelRequest(msgspec.Struct):
    """Payload of job-manager.events-journal-cancel."""

    matchtag: int


class HistoryRequest(msgspec.Struct):
    """Payload of job-manager.history.get."""

    slice: str


def _names(value: Any, key: str) -> dict[str, Any] | None:
    if value is msgspec.UNSET:
        return None
    if not isinstance(value, dict):
        raise OSError(errno.EPROTO, f"job-manager.events {key} should be an object")
    return value


class Information(Base):
    """See the module."""

    def __init__(self, handle: Flux, broker: Broker, *args: str) -> None:
        self._early_listeners: list[Listener] = []  # they are being told of the past
        super().__init__(handle, broker, *args)

    @request_handler("list")
    def list_jobs(self, msg: Message) -> None:
        """Payload `{"max_entries": i}`, 0 for all. Answers `{"jobs": [...]}`.

        Jobs that wait for the scheduler come first, in order, then other active ones, then zombies.
        """
        limit = decode(msg, ListRequest).max_entries
        if limit < 0:
            raise OSError(errno.EPROTO, "max_entries must not be negative")
        queued = self.alloc.in_order()
        others = [job for job in self.engine.jobs.values() if not job.queued]
        jobs: list[Job | Zombie] = [*queued, *others, *self.waits.zombies.values()]
        self.handle.respond(msg, {"jobs": [self._summary(job) for job in jobs[: limit or None]]})

    @staticmethod
    def _summary(job: Job | Zombie) -> dict[str, Any]:
        summary: dict[str, Any] = {
            "id": job.id,
            "userid": job.userid,
            "urgency": job.urgency,
            "priority": job.priority,
            "t_submit": job.t_submit,
            "state": int(job.state),
        }
        if job.annotations:
            summary["annotations"] = job.annotations
        if job.dependencies:
            summary["dependencies"] = list(job.dependencies)
        return summary

    @request_handler("getattr", allow_guest=True)
    def get_attributes(self, msg: Message) -> None:
        """Payload `{"id", "attrs": [s, ...]}`. Answers an object with jobspec, R and eventlog, as asked for."""
        request = decode(msg, GetattrRequest)
        job = self.engine.jobs.get(request.id) or self.pasts.jobs.get(request.id)
        if job is None:
            raise OSError(errno.EINVAL, "unknown job")
        if not authorized(msg, job.userid):
            if self.private:
                raise OSError(errno.EINVAL, "unknown job")
            raise OSError(errno.EPERM, "guests can only access their own jobs")
        found: dict[str, msgspec.Raw] = {}
        for name in request.attrs:
            if not isinstance(name, str):
                raise OSError(errno.EPROTO, "attribute list contains non-string")
            if name == "jobspec":
                found[name] = msgspec.Raw(job.jobspec)
            elif name == "R":
                if job.R is None:
                    raise OSError(errno.ENOENT, "R is NULL")
                found[name] = msgspec.Raw(job.R)
            elif name == "eventlog":
                entries = job.events if isinstance(job, Job) else [job.log]
                found[name] = msgspec.Raw(b"[" + b",".join(entries) + b"]")
            else:
                raise OSError(errno.ENOENT, f"unknown attr {name}")
        self.answer(msg, _encode(found) + b"\0")

    @property
    def private(self) -> bool:
        """Whether guests are not to know of the jobs of others."""
        return bool(self.engine.config.get("access", {}).get("private-mode", False))

    def _check_private(self, msg: Message) -> None:
        if self.private and not msg.rolemask & 1:
            raise OSError(errno.EPERM, "the instance is in private mode")

    @request_handler("getinfo", allow_guest=True)
    def getinfo(self, msg: Message) -> None:
        """Answers `{"max_jobid": i}`: the largest id there was."""
        self._check_private(msg)
        self.handle.respond(msg, {"max_jobid": self.max_jobid})

    @request_handler("stats-get", allow_guest=True)
    def stats_get(self, msg: Message) -> None:
        """Answers numbers of jobs and listeners."""
        self._check_private(msg)
        self.handle.respond(
            msg,
            {
                "journal": {"listeners": len(self.journal.listeners), "events": self.journal.count},
                "active_jobs": len(self.engine.jobs),
                "inactive_jobs": len(self.pasts.jobs),
                "max_jobid": self.max_jobid,
                "housekeeping": self.housekeeping_stats(),
            },
        )

    def housekeeping_stats(self) -> dict[str, Any]:
        """Of housekeeping, for stats-get."""
        return {"running": {}, "config": {"release-after": -1.0, "command": ""}}

    @request_handler("alloc-query", allow_guest=True)
    def alloc_query(self, msg: Message) -> None:
        """Answers `{"queue_length": i, "alloc_pending": i, "running": i}`."""
        running = sum(1 for job in self.engine.jobs.values() if job.state & RUNNING)
        counts = {
            "queue_length": len(self.alloc.queue),
            "alloc_pending": len(self.alloc.pending),
            "running": running,
        }
        self.handle.respond(msg, counts)

    # The journal.

    @request_handler("events-journal")
    def events_journal(self, msg: Message) -> None:
        """Payload `{"full"?: b, "allow"?: {...}, "deny"?: {...}}`, streaming. See spec 06, 7.2."""
        require_streaming(msg, "job-manager.events requires streaming RPC flag")
        request = decode(msg, JournalRequest) if msg.raw is not None else JournalRequest()
        listener = Listener(msg, _names(request.allow, "allow"), _names(request.deny, "deny"))
        if request.full and self.pasts.jobs:
            self._early_listeners.append(listener)
            spawn(self.handle, self._tell_past(listener))
        else:
            self._begin_journal(listener)

    def _begin_journal(self, listener: Listener) -> None:
        """Tells of the active jobs, and from here on of what happens."""
        self.journal.flush()
        for job in self.engine.jobs.values():
            events = job.events
            if job.annotations and not job.state & RUNNING:
                # They are not in the log; what a job has been given resources with is.
                events = [*events, entry("annotations", {"annotations": job.annotations})]
            self.journal.show(listener, job.id, events, job.jobspec, job.R)
        self.journal.begin(listener)

    async def _tell_past(self, listener: Listener) -> None:
        """Tells of the jobs that have ended: many, so that others have their turn in between. Until he goes."""
        told: set[int] = set()
        left = list(self.pasts.jobs.values())
        while left:
            for number, past in enumerate(left, 1):
                if past.id in self.pasts.jobs:  # not purged meanwhile
                    entries = [past.log] if listener.allow is listener.deny is None else past.entries
                    self.journal.show(listener, past.id, entries, past.jobspec, past.R)
                if number % AT_ONCE == 0:
                    await self.next_pass()
                    if listener not in self._early_listeners:
                        return
            told.update(past.id for past in left)
            left = [past for past in self.pasts.jobs.values() if past.id not in told]
        self._early_listeners.remove(listener)
        self._begin_journal(listener)

    @request_handler("events-journal-cancel")
    def events_journal_cancel(self, msg: Message) -> None:
        """Payload `{"matchtag": i}`: ends a stream of the sender's."""
        matchtag = decode(msg, CancelRequest).matchtag

        def chosen(request: Message) -> bool:
            return request.aux2 == matchtag and may_end(request, msg)

        for request in self._leave_early(chosen):
            self.handle.respond_error(request, errno.ENODATA)
        self.journal.end(chosen)

    def end_journals(self) -> None:
        """Ends all streams."""
        for request in self._leave_early(lambda request: True):
            self.handle.respond_error(request, errno.ENODATA)
        self.journal.end(lambda request: True)

    def _leave_early(self, chosen: Callable[[Message], bool]) -> list[Message]:
        """Listeners who are still being told of the past go. Returns their requests."""
        gone = [listener for listener in self._early_listeners if chosen(listener.request)]
        self._early_listeners = [listener for listener in self._early_listeners if listener not in gone]
        return [listener.request for listener in gone]

    @request_handler("disconnect")
    def disconnect(self, msg: Message) -> None:
        """Somebody has gone: his waits and journals, and what he did for us."""
        who = sender(msg)
        self._leave_early(lambda request: sender(request) == who)
        self.journal.leave(lambda request: sender(request) == who)
        self.waits.leave(lambda request: sender(request) == who)
        self.gone(who)

    def gone(self, who: bytes) -> None:
        """Somebody has gone who may have been the scheduler, or the execution service."""

    # History.

    @request_handler("history.get", allow_guest=True)
    def history(self, msg: Message) -> None:
        """Payload `{"slice": "[a:b:c]"}`. Answers `{"jobs": [id, ...]}`: the sender's, newest submission first."""
        match = _slice(decode(msg, HistoryRequest).slice)
        if match is None or match[3] in ("0", "+0", "-0"):
            raise OSError(errno.EINVAL, "could not parse python-style slice expression")
        start, stop, by = (None if part is None else int(part) for part in match.groups())
        jobs: list[Past | Job] = [*self.pasts.jobs.values(), *self.engine.jobs.values()]
        own = sorted((job for job in jobs if job.userid == msg.userid), key=lambda job: (-job.t_submit, -job.id))
        self.handle.respond(msg, {"jobs": [job.id for job in own[start:stop:by]]})

    @request_handler("config-reload")
    def config_reload(self, msg: Message) -> None:
        """Payload: the configuration."""
        self.reconfigure(read_object(msg))
        self.handle.respond(msg)

    def reconfigure(self, config: dict[str, Any]) -> None:
        """Follows a new configuration. Raises OSError(EINVAL)."""
        self.settings = self._read_config(config)
