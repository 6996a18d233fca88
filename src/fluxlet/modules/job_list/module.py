"""The service `job-list`: lists, counts, and single jobs (spec 08, section 2).

    job-manager.events-journal -> Table
    job-list.list -> Listing -> responses, a slice of work at a time

Rules:
- It runs on rank 0. Requests that come before the journal's history has been read wait for that.
- A listing looks at some hundred jobs at a time, and lets others be served in between.
- Guests see all jobs, or in private mode their own.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterator
from syslog import LOG_ERR
from typing import Any

import msgspec

from flux.brokermod import event_handler, request_handler
from flux.constants import (
    FLUX_KVS_READDIR,
    FLUX_MSGFLAG_STREAMING,
    FLUX_ROLE_ADMIN,
    FLUX_ROLE_OWNER,
    FLUX_RPC_STREAMING,
)
from flux.core import fluid
from flux.core.codec import dump_payload
from flux.core.future_state import RpcState
from flux.core.handle import Flux
from flux.core.watchers import TimerWatcher
from flux.message import Message
from fluxlet.broker.access import Access
from fluxlet.broker.broker import Broker
from fluxlet.modules.job_list.constraint import Surroundings
from fluxlet.modules.job_list.job import ATTRIBUTES, INACTIVE, NEW, Job, Teller
from fluxlet.modules.job_list.request import ListIdRequest, ListRequest
from fluxlet.modules.job_list.table import Event, ExcessiveError, Table
from fluxlet.payload import UNREADABLE, read_object
from fluxlet.service import Service, may_end, sender

#: Seconds between two answers of a stream of counts.
_STATS_PERIOD = 0.2


class JournalResponse(msgspec.Struct):
    """Payload of a response of job-manager.events-journal."""

    id: int
    events: list[Event]
    jobspec: msgspec.Raw = msgspec.Raw()
    R: msgspec.Raw = msgspec.Raw()


class PurgeEvent(msgspec.Struct):
    """Payload of the event job-purge-inactive."""

    jobs: list[int]


_response = msgspec.json.Decoder(JournalResponse).decode
_purge = msgspec.json.Decoder(PurgeEvent).decode


class _Listing:
    """A request for a list that is being answered."""

    def __init__(self, request: Message, jobs: Iterator[Job | None], teller: Teller) -> None:
        self.request = request
        self.jobs = jobs
        self.teller = teller
        self.streaming = bool(request.flags & FLUX_MSGFLAG_STREAMING)
        self.told: list[bytes] = []
        self.count = 0


class _Waiting:
    """A request for a job that is not there yet, or not yet in the state it asks for."""

    def __init__(self, request: Message, wanted: ListIdRequest, teller: Teller) -> None:
        self.request = request
        self.wanted = wanted
        self.teller = teller

    def satisfied(self, job: Job) -> bool:
        if job.state == NEW:
            return False
        return not self.wanted.states or bool(job.been & self.wanted.states) or job.state == INACTIVE


class JobList(Service):
    """Lists jobs. Raises OSError(EINVAL) for a configuration that will not do."""

    def __init__(self, handle: Flux, broker: Broker, *args: str) -> None:
        self.table = Table()
        self.private = False
        self.comparisons = 0
        self.around = Surroundings()
        self._early: deque[tuple[Callable[[Message], None], Message]] | None = deque()
        self._paused: list[bytes] | None = None
        self._listings: deque[_Listing] = deque()
        self._waiting: dict[int, list[_Waiting]] = {}
        self._lookups = 0
        self._stats_watchers: list[Message] = []
        self._stats_told = 0
        self._work: TimerWatcher | None = None
        self._stats_timer: TimerWatcher | None = None
        super().__init__(handle, broker, *args)
        self._configure(broker.config)
        self._work = handle.timer_watcher_create(0.0, self._continue)
        self._stats_timer = handle.timer_watcher_create(_STATS_PERIOD, self._tell_stats)
        self._journal = self._follow()
        self._heard()

    def stop_service(self) -> None:
        """Ends what is under way."""
        self._journal.remove_hook(self._heard)
        for watcher in (self._work, self._stats_timer):
            if watcher is not None:
                watcher.destroy()
        waiting = [entry.request for entries in self._waiting.values() for entry in entries]
        self.abandon([*waiting, *(listing.request for listing in self._listings), *self._stats_watchers])

    # Configuration.

    def _configure(self, config: dict[str, Any]) -> None:
        table = config.get("job-list", {})
        limit = table.get("max_comparisons", 0) if isinstance(table, dict) else None
        if type(limit) is not int or isinstance(limit, bool):
            raise OSError(errno.EINVAL, "job-list.max_comparisons must be an integer")
        if limit < 0:
            raise OSError(errno.EINVAL, "job-list.max_comparisons must be >= 0")
        queues = config.get("queues", {})
        queues = queues if isinstance(queues, dict) else {}
        parents = {
            name: queue["parent"]
            for name, queue in queues.items()
            if isinstance(queue, dict) and isinstance(queue.get("parent"), str)
        }
        self.private = Access.parse(config).private_mode
        self.comparisons = limit
        self.around = Surroundings(int(self.handle.attr_get("size")), parents)
        self._queues = queues
        self.table.counts.configure(queues)

    @request_handler("config-reload")
    def config_reload(self, msg: Message) -> None:
        """Payload: the configuration."""
        self._configure(read_object(msg))
        self.handle.respond(msg)

    # The journal.

    def _follow(self) -> RpcState:
        """Asks for the journal from its beginning."""
        state = self.handle.core.rpc(b"job-manager.events-journal", dump_payload({"full": True}), 0, FLUX_RPC_STREAMING)
        state.add_hook(self._heard)
        return state

    @event_handler("job-manager.hello", prefix=False)
    def manager_came(self, msg: Message) -> None:
        """There is another job manager: what it knows of is what there is. Until we have heard, requests wait."""
        self._journal.remove_hook(self._heard)
        counts, self.table = self.table.counts, Table()
        self.table.counts.configure(self._queues)
        self.table.counts.changes = counts.changes + 1
        if self._early is None:
            self._early = deque()
        self._journal = self._follow()
        self._heard()

    def _heard(self) -> None:
        """Takes in what the journal has said."""
        state = self._journal
        while state.ready:
            if state.errnum:
                if state.errnum != errno.ENODATA:
                    self.log(LOG_ERR, f"job-manager.events-journal: {state.error_text()}")
                # It has gone. Its jobs are still told of; if another one comes, it says so.
                state.remove_hook(self._heard)
                return
            raw = state.value.raw
            state.reset()
            if self._paused is not None:
                self._paused.append(raw)
            else:
                self._take(raw)

    def _take(self, raw: bytes | None) -> None:
        """One response."""
        try:
            response = _response((raw or b"")[:-1])
        except UNREADABLE as exc:
            self.log(LOG_ERR, f"job-manager.events-journal: {exc}")
            return
        if response.id == -1:
            self._initialized()
            return
        # Copies: what is kept must not keep the message.
        jobspec, resources = bytes(response.jobspec) or None, bytes(response.R) or None
        changed = False
        for event in response.events:
            try:
                if self.table.apply(response.id, event, jobspec, resources) is not None:
                    changed = True
            except (LookupError, TypeError, ValueError) as exc:
                self.log(LOG_ERR, f"{fluid.f58plain(response.id)}: event {event.name}: {exc!r}")
        if self._waiting and response.id in self._waiting:
            self._look_at_waiting(response.id)
        if changed and self._stats_watchers and self._stats_timer is not None:
            self._stats_timer.start()

    def _initialized(self) -> None:
        early, self._early = self._early, None
        for handler, request in early or ():
            try:
                handler(request)
            except OSError as exc:
                self.handle.respond_error(request, exc.errno or errno.EIO, exc.strerror)

    def _is_early(self, handler: Callable[[Message], None], request: Message) -> bool:
        """True, and the request waits, until the history has been read."""
        if self._early is None:
            return False
        self._early.append((handler, request))
        return True

    @event_handler("job-purge-inactive", prefix=False)
    def purge(self, msg: Message) -> None:
        """The job manager has forgotten jobs. Payload `{"jobs": [ids]}`."""
        try:
            jobs = _purge((msg.raw or b"")[:-1]).jobs
        except UNREADABLE as exc:
            self.log(LOG_ERR, f"job-purge-inactive: {exc}")
            return
        self.table.purge(jobs)
        if self._stats_watchers and self._stats_timer is not None:
            self._stats_timer.start()

    @request_handler("job-state-pause")
    def pause(self, msg: Message) -> None:
        """What the journal says is kept, not taken in: for tests."""
        if self._paused is None:
            self._paused = []
        self.handle.respond(msg)

    @request_handler("job-state-unpause")
    def unpause(self, msg: Message) -> None:
        """Ends that."""
        kept, self._paused = self._paused, None
        for raw in kept or ():
            self._take(raw)
        self.handle.respond(msg)

    # Lists.

    def _is_guest(self, msg: Message) -> bool:
        """True for those who see only what is theirs."""
        return self.private and not msg.rolemask & (FLUX_ROLE_OWNER | FLUX_ROLE_ADMIN)

    @request_handler("list", allow_guest=True)
    def list(self, msg: Message) -> None:
        """Payload `{"max_entries": i, "attrs": [s], "since"?: s, "constraint"?: {}}`; answers `{"jobs": [{}]}`.

        A stream has one job in each response, and ends with ENODATA.
        """
        if self._is_early(self.list, msg):
            return
        request = ListRequest(read_object(msg), self.around, msg.userid if self._is_guest(msg) else None)
        jobs = self.table.matching(request.term, request.max_entries, request.since, self.comparisons)
        teller = Teller(request.attrs)
        listing = _Listing(msg, jobs, teller)
        if not self._slice(listing):
            self._listings.append(listing)
            if self._work is not None:
                self._work.start()

    def _continue(self, handle: Flux, watcher: TimerWatcher, revents: int, args: Any) -> None:
        """The next slice of the listing that has waited longest."""
        if self._listings:
            listing = self._listings.popleft()
            if not self._slice(listing):
                self._listings.append(listing)
        if self._listings:
            watcher.start()

    def _slice(self, listing: _Listing) -> bool:
        """Works on a listing for a while; True if it is done."""
        request = listing.request
        try:
            for job in listing.jobs:
                if job is None:
                    return False
                self._tell(listing, listing.teller.tell(job))
        except ExcessiveError:
            text = "Excessive comparisons made, limit search via states or since"
            self.handle.respond_error(request, errno.EINVAL, text)
        except ValueError as exc:  # an attribute that there is not
            self.handle.respond_error(request, errno.EINVAL, str(exc))
        else:
            if listing.streaming:
                self.handle.respond_error(request, errno.ENODATA)
            else:
                self.answer(request, b'{"jobs":[%b]}\0' % b",".join(listing.told))
        return True

    def _tell(self, listing: _Listing, job: bytes) -> None:
        if not listing.streaming:
            listing.told.append(job)
        elif listing.count == 0:
            self.answer(listing.request, b'{"jobs":[%b],"version":1}\0' % job)
        else:
            self.answer(listing.request, b'{"jobs":[%b]}\0' % job)
        listing.count += 1

    # One job.

    @request_handler("list-id", allow_guest=True)
    def list_id(self, msg: Message) -> None:
        """Payload `{"id": i, "attrs": [s], "state"?: i}`; answers `{"job": {}}`, once it has been in that state."""
        if self._is_early(self.list_id, msg):
            return
        wanted = ListIdRequest(read_object(msg))
        entry = _Waiting(msg, wanted, Teller(wanted.attrs))
        job = self.table.jobs.get(wanted.jobid)
        if job is None:
            self._look_up(entry)
        elif entry.satisfied(job):
            self._answer_id(entry, job)
        else:
            self._waiting.setdefault(wanted.jobid, []).append(entry)

    def _answer_id(self, entry: _Waiting, job: Job) -> None:
        request = entry.request
        if self._is_guest(request) and job.userid != request.userid:
            self.handle.respond_error(request, errno.ENOENT, "job not found")
            return
        try:
            self.answer(request, b'{"job":%b}\0' % entry.teller.tell(job))
        except ValueError as exc:
            self.handle.respond_error(request, errno.EINVAL, str(exc))

    def _look_up(self, entry: _Waiting) -> None:
        """Asks the KVS whether there is such a job: then it will be heard of here."""
        jobid = entry.wanted.jobid
        if jobid < 0:
            raise OSError(errno.ENOENT, None)
        self._lookups += 1

        def found(state: RpcState) -> None:
            self._lookups -= 1
            job = self.table.jobs.get(jobid)
            if job is not None and entry.satisfied(job):
                self._answer_id(entry, job)
            elif state.errnum and job is None:
                self.handle.respond_error(entry.request, state.errnum, state.errtext)
            else:
                self._waiting.setdefault(jobid, []).append(entry)

        key = {"key": fluid.kvs(jobid), "namespace": "primary", "flags": FLUX_KVS_READDIR}
        self.ask(b"kvs.lookup", dump_payload(key), found)

    def _look_at_waiting(self, jobid: int) -> None:
        """Something has happened to a job that is waited for."""
        entries, left = self._waiting.pop(jobid), []
        job = self.table.jobs.get(jobid)
        for entry in entries:
            if job is None:  # it was refused
                self.handle.respond_error(entry.request, errno.ENOENT)
            elif entry.satisfied(job):
                self._answer_id(entry, job)
            else:
                left.append(entry)
        if left:
            self._waiting[jobid] = left

    @request_handler("list-attrs", allow_guest=True)
    def list_attrs(self, msg: Message) -> None:
        """Answers `{"attrs": [s]}`: what can be asked for."""
        self.handle.respond(msg, {"attrs": [*ATTRIBUTES, "all"]})

    # Counts.

    @request_handler("job-stats", allow_guest=True)
    def job_stats(self, msg: Message) -> None:
        """Answers with the counts; a stream does so when they change, not more often than five times a second."""
        if self._is_early(self.job_stats, msg):
            return
        if self._is_guest(msg):
            raise OSError(errno.EPERM, None)
        self.handle.respond(msg, self.table.counts.told())
        if msg.flags & FLUX_MSGFLAG_STREAMING:
            self._stats_watchers.append(msg)
            self._stats_told = self.table.counts.changes

    def _tell_stats(self, handle: Flux, watcher: TimerWatcher, revents: int, args: Any) -> None:
        if self.table.counts.changes != self._stats_told:
            self._stats_told = self.table.counts.changes
            told = self.table.counts.told()
            for request in self._stats_watchers:
                self.handle.respond(request, told)

    @request_handler("stats-get", allow_guest=True)
    def stats_get(self, msg: Message) -> None:
        """Answers with how much there is of everything."""
        if self._is_guest(msg):
            raise OSError(errno.EPERM, None)
        table = self.table
        jobs = {"pending": len(table.pending), "running": len(table.running), "inactive": len(table.inactive)}
        waits = sum(map(len, self._waiting.values()))
        idsync = {"lookups": self._lookups, "waits": waits}
        self.handle.respond(msg, {"jobs": jobs, "idsync": idsync, "stats_watchers": len(self._stats_watchers)})

    @request_handler("disconnect", allow_guest=True)
    def disconnect(self, msg: Message) -> None:
        """A client has gone: what it has asked for is not done."""
        self._stats_watchers = [request for request in self._stats_watchers if not may_end(request, msg)]
        self._listings = deque(listing for listing in self._listings if sender(listing.request) != sender(msg))
        if self._early is not None:
            self._early = deque(entry for entry in self._early if sender(entry[1]) != sender(msg))
        for jobid, entries in list(self._waiting.items()):
            left = [entry for entry in entries if sender(entry.request) != sender(msg)]
            if left:
                self._waiting[jobid] = left
            else:
                del self._waiting[jobid]
