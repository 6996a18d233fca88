"""The service `job-info` (spec 08, section 1).

Rules:
- It reads the KVS with the rights of the instance owner, and shows what is in a job's directory to the job's user,
  and to the instance owner.
- Nothing is kept but whose job is whose, of the last jobs asked for.
"""

from __future__ import annotations

import errno
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial

import msgspec

from flux.brokermod import request_handler
from flux.constants import (
    FLUX_KVS_WAITCREATE,
    FLUX_KVS_WATCH,
    FLUX_KVS_WATCH_APPEND,
    FLUX_KVS_WATCH_INITIAL_SENTINEL,
)
from flux.core import fluid, kvs_rpc
from flux.core.future_state import RpcState
from flux.core.handle import Flux
from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.modules.content.digest import Hash
from fluxlet.modules.job_info import live
from fluxlet.modules.job_info.lookup import CURRENT, JSON_DECODE, Lookup
from fluxlet.modules.job_info.lookups import Lookups
from fluxlet.modules.job_info.pieces import Blob, Pieces, Taken, blobs_of
from fluxlet.modules.job_info.reading import Outcome, follow, lookup_payload, namespace_payload, outcome, quoted
from fluxlet.modules.job_info.update import Update
from fluxlet.modules.job_info.watch import Action, End, Read, Send, Sentinel, Source, Watch
from fluxlet.pace import Pace
from fluxlet.payload import decode
from fluxlet.service import Service, authorized, may_end, require_streaming, sender

_KNOWN_OWNERS = 1000
_APPEND = FLUX_KVS_WATCH | FLUX_KVS_WATCH_APPEND


class LookupRequest(msgspec.Struct):
    """Payload of job-info.lookup."""

    id: int
    keys: list[str]
    flags: int


class UpdateRequest(msgspec.Struct):
    """Payload of job-info.update-watch and update-lookup."""

    id: int
    key: str
    flags: int


class WatchRequest(msgspec.Struct):
    """Payload of job-info.eventlog-watch."""

    id: int
    path: str
    flags: int


class CancelRequest(msgspec.Struct):
    """Payload of the cancel methods."""

    matchtag: int


class _Open:
    """A client's watch that is open: its request, and what is being read for it."""

    def __init__(self, request: Message, jobid: int, watch: Watch) -> None:
        self.request = request
        self.jobid = jobid
        self.watch = watch
        self.reading: RpcState | None = None
        self.hook: Callable[[], None] | None = None
        self.pieces: Pieces | None = None
        self.tap: live.Tap | None = None


class JobInfo(Service):
    """Shows what there is of jobs."""

    def __init__(self, handle: Flux, broker: Broker, *args: str) -> None:
        self._owners: OrderedDict[int, int] = OrderedDict()
        self._watches: dict[int, _Open] = {}  # by id() of the request
        self._updates: dict[tuple[int, str], Update] = {}
        super().__init__(handle, broker, *args)
        self._pace = Pace(self)
        self._lookups = Lookups(self, self._pace)
        self._hash = Hash(broker.attributes.visible.get("content.hash", "sha1"))

    def stop_service(self) -> None:
        """Ends all streams."""
        self._pace.stop()
        for opened in list(self._watches.values()):
            self._stop_reading(opened)
            self.handle.respond_error(opened.request, errno.ENOSYS)
        self._lookups.stop()
        for update in list(self._updates.values()):
            update.stop()
            for request in update.requests:
                self.handle.respond_error(request, errno.ENOSYS)

    # Whose job it is.

    def remember(self, jobid: int, userid: int) -> None:
        """Whose job it is has turned out."""
        owners = self._owners
        owners[jobid] = userid
        owners.move_to_end(jobid)
        if len(owners) > _KNOWN_OWNERS:
            owners.popitem(last=False)

    def _check(self, request: Message, jobid: int, text: str | None = None) -> Callable[[int], bool] | None:
        """What is to be asked about the job's user, once known; None if the client may see the job in any case.

        Raises OSError(EPERM) if it may not.
        """
        if request.rolemask & 1:
            return None
        owner = self._owners.get(jobid)
        if owner is None:
            return lambda userid: authorized(request, userid)
        if not authorized(request, owner):
            raise OSError(errno.EPERM, text)
        return None

    # Lookups.

    @request_handler("lookup", allow_guest=True)
    def lookup(self, msg: Message) -> None:
        """Payload `{"id": i, "keys": [s], "flags": i}`; answers `{"id": i, KEY: value, ...}`."""
        asked = decode(msg, LookupRequest)
        if asked.flags & ~(JSON_DECODE | CURRENT):
            raise OSError(errno.EPROTO, "lookup request rejected with invalid flag")
        self._look_up(msg, asked.id, asked.keys, asked.flags)

    @request_handler("update-lookup", allow_guest=True)
    def update_lookup(self, msg: Message) -> None:
        """As `lookup` of R with all updates. For old clients."""
        asked = decode(msg, UpdateRequest)
        if asked.key != "R":
            raise OSError(errno.EINVAL, "update-lookup unsupported key specified")
        if asked.flags:
            raise OSError(errno.EPROTO, "update-lookup request rejected with invalid flag")
        self._look_up(msg, asked.id, ["R"], JSON_DECODE | CURRENT)

    def _look_up(self, msg: Message, jobid: int, keys: list[str], flags: int) -> None:
        if jobid < 0:
            raise OSError(errno.ENOENT, "invalid job id")
        may_read = self._check(msg, jobid, "access is restricted to job/instance owner")
        lookup = Lookup(jobid, keys, flags, may_read, lambda userid: self.remember(jobid, userid))
        lookup.known = jobid in self._owners
        self._lookups.begin(msg, jobid, lookup)

    def fetch(self, key: str, then: Callable[[RpcState], None]) -> None:
        """Looks a key of the primary namespace up."""
        self.ask(b"kvs.lookup", lookup_payload(key), then)

    # Watching eventlogs.

    @request_handler("eventlog-watch", allow_guest=True)
    def eventlog_watch(self, msg: Message) -> None:
        """Payload `{"id": i, "path": s, "flags": i}`; answers `{"event": s}` for each event, then ENODATA."""
        asked = decode(msg, WatchRequest)
        if asked.flags & ~3:
            raise OSError(errno.EPROTO, "eventlog-watch request rejected with invalid flag")
        require_streaming(msg, "eventlog-watch request rejected without streaming RPC flag")
        if asked.id < 0:
            raise OSError(errno.ENOENT, None)
        jobid = asked.id
        may_read = self._check(msg, jobid)
        watch = Watch(asked.path, asked.flags, may_read, lambda userid: self.remember(jobid, userid))
        opened = self._watches[id(msg)] = _Open(msg, jobid, watch)
        self._act(opened, watch.begin())

    def _act(self, opened: _Open, actions: Iterator[Action]) -> None:
        """Does what a watch wants done."""
        request = opened.request
        events: list[bytes] = []
        for action in actions:
            kind = type(action)
            if kind is Send:
                line = action.line.decode("utf-8", "replace")  # type: ignore[union-attr]
                events.append(b'{"event":%b}\0' % quoted(line))
                continue
            self._send(request, events)
            if kind is Read:
                self._read(opened, action)  # type: ignore[arg-type]
            elif kind is Sentinel:
                self.answer(request, None)
            elif isinstance(action, End):
                self._stop_reading(opened)
                self._watches.pop(id(request), None)
                self.handle.respond_error(request, action.errnum, action.text)
        self._send(request, events)

    def _send(self, request: Message, events: list[bytes]) -> None:
        """Sends events, and forgets them."""
        if events:
            self.answer_all(request, events)
            self._pace.spend(request, sum(map(len, events)), len(events))
            events.clear()

    def _read(self, opened: _Open, action: Read) -> None:
        """Begins to read what a watch wants to be read."""
        before = opened.pieces.taken if opened.pieces is not None else None
        self._stop_reading(opened)
        directory, path, source = fluid.kvs(opened.jobid), opened.watch.path, action.source
        if source is Source.LOOK:
            self.fetch(f"{directory}.eventlog", partial(self._fetched, opened))
            return
        pieces = opened.pieces = Pieces(self, partial(self._may_tell, opened), partial(self._told, opened))
        if source is Source.COPY:
            pieces.copy(f"{directory}.{path}", partial(self._known, opened, before))
            return
        namespace = "primary"
        if source is Source.GUEST:
            namespace, key = f"job-{opened.jobid}", path.removeprefix("guest.")
        else:
            key = f"{directory}.{'eventlog' if source is Source.START else path}"
            if (path == "eventlog" or source is Source.START) and self._tap(opened, key, pieces, action.sentinel):
                return
        flags = _APPEND
        flags |= FLUX_KVS_WAITCREATE if action.waitcreate else 0
        flags |= FLUX_KVS_WATCH_INITIAL_SENTINEL if action.sentinel else 0
        state = follow(self.handle, namespace, key, flags, refs=True)

        def heard() -> None:
            while opened.reading is state and state.ready:
                self._heard(opened, state, pieces)

        opened.reading, opened.hook = state, heard
        state.add_hook(heard)
        heard()
        if source is Source.GUEST and action.waitcreate:
            # That would wait for a namespace, too, and this one may just have been removed.
            self.ask(b"kvs.getroot", namespace_payload(namespace), partial(self._checked, pieces))

    def _tap(self, opened: _Open, key: str, pieces: Pieces, sentinel: bool) -> bool:
        """Follows a main eventlog the short way; False if there is none."""
        followed = live.follow(self.broker, key, pieces)
        if followed is None:
            return False
        opened.tap, there = followed
        pieces.add(Blob(b"", there), *([Outcome(b"", sentinel=True)] if sentinel else []))
        return True

    @staticmethod
    def _checked(pieces: Pieces, state: RpcState) -> None:
        """Whether the namespace that is followed is there has turned out."""
        if state.errnum:
            pieces.add(Outcome(b"", state.errnum, state.errtext))

    def _heard(self, opened: _Open, state: RpcState, pieces: Pieces) -> None:
        """Takes in one response of what is being followed."""
        items: list[Blob | Outcome] = []
        try:
            if state.errnum or state.value.raw is None:
                items.append(outcome(state))
            else:
                treeobj = kvs_rpc.tree_object(state)
                if treeobj["type"] == "valref":
                    items += blobs_of(treeobj["data"])
                else:
                    data = kvs_rpc.value(state)
                    items.append(Blob(self._hash.digest(data), data))
        except OSError as exc:
            items.append(Outcome(b"", exc.errno or errno.EPROTO, exc.strerror))
        if state.errnum:
            opened.reading = None
        else:
            state.reset()
        pieces.add(*items)

    @staticmethod
    def _known(opened: _Open, before: Taken | None, blobs: list[Blob]) -> int:
        """How many of a copy's blobs need not be told: all that were where it was followed, if it begins with them."""
        if before is None or not before.begins(blobs):
            return 0
        opened.watch.resume()
        return before.count

    def _may_tell(self, opened: _Open, pieces: Pieces) -> bool:
        return self._pace.may_send(opened.request, pieces, Pieces.go_on)

    def _told(self, opened: _Open, found: Outcome | None) -> None:
        """Takes in a piece; None: there are no more."""
        watch = opened.watch
        if found is None:
            actions = watch.complete()
        elif found.errnum:
            actions = watch.failed(found.errnum, found.text)
        elif found.sentinel:
            actions = watch.sentinel()
        else:
            actions = watch.data(found.value)
        self._act(opened, actions)

    def _fetched(self, opened: _Open, state: RpcState) -> None:
        if id(opened.request) not in self._watches:
            return
        found, watch = outcome(state), opened.watch
        self._act(opened, watch.failed(found.errnum, found.text) if found.errnum else watch.data(found.value))

    def _stop_reading(self, opened: _Open) -> None:
        state, opened.reading = opened.reading, None
        if state is not None:
            if opened.hook is not None:
                state.remove_hook(opened.hook)
            if not state.done:
                kvs_rpc.cancel_lookup(state)
        tap, opened.tap = opened.tap, None
        if tap is not None:
            tap.close()
        pieces, opened.pieces = opened.pieces, None
        if pieces is not None:
            pieces.stop()
            self._pace.forget(pieces)

    @request_handler("eventlog-watch-cancel", allow_guest=True)
    def eventlog_watch_cancel(self, msg: Message) -> None:
        """Payload `{"matchtag": i}`: the stream of this client with that matchtag ends with ENODATA."""
        matchtag = decode(msg, CancelRequest).matchtag
        for opened in list(self._watches.values()):
            if opened.request.aux2 == matchtag and may_end(opened.request, msg):
                self._act(opened, opened.watch.cancel())

    # Watching a jobspec, or resources.

    @request_handler("update-watch", allow_guest=True)
    def update_watch(self, msg: Message) -> None:
        """Payload `{"id": i, "key": "R" or "jobspec", "flags": 0}`; answers `{KEY: {}}` now and after each update."""
        asked = decode(msg, UpdateRequest)
        if asked.key not in ("R", "jobspec"):
            raise OSError(errno.EINVAL, "update-watch unsupported key specified")
        if asked.flags:
            raise OSError(errno.EPROTO, "update-watch request rejected with invalid flag")
        require_streaming(msg, "update-watch request rejected without streaming RPC flag")
        if asked.id < 0:
            raise OSError(errno.ENOENT, None)
        self._check(msg, asked.id)
        place = (asked.id, asked.key)
        update = self._updates.get(place)
        if update is None:
            update = self._updates[place] = Update(self, asked.id, asked.key, partial(self._updates.pop, place, None))
            update.add(msg)
            update.begin()
        else:
            update.add(msg)

    @request_handler("update-watch-cancel", allow_guest=True)
    def update_watch_cancel(self, msg: Message) -> None:
        """As eventlog-watch-cancel."""
        matchtag = decode(msg, CancelRequest).matchtag
        for update in list(self._updates.values()):
            for request in list(update.requests):
                if request.aux2 == matchtag and may_end(request, msg):
                    update.remove(request)
                    self.handle.respond_error(request, errno.ENODATA)

    # Clients and counts.

    @request_handler("disconnect", allow_guest=True)
    def disconnect(self, msg: Message) -> None:
        """A client has gone: its streams end."""
        gone = sender(msg)
        for opened in list(self._watches.values()):
            if sender(opened.request) == gone:
                self._stop_reading(opened)
                del self._watches[id(opened.request)]
        self._lookups.disconnect(gone)
        self._pace.gone(msg)
        for update in list(self._updates.values()):
            for request in list(update.requests):
                if sender(request) == gone:
                    update.remove(request)

    @request_handler("stats-get")
    def stats_get(self, msg: Message) -> None:
        """Answers with how much is under way. For the instance owner."""
        guests = sum(opened.watch.guest for opened in self._watches.values())
        opened = self._watches.values()
        watchers = sum(one.reading is not None or one.tap is not None for one in opened) + len(self._updates)
        update_watchers = sum(len(update.requests) for update in self._updates.values())
        stats = {"lookups": self._lookups.count, "watchers": watchers, "guest_watchers": guests}
        self.handle.respond(msg, {**stats, "update_lookups": 0, "update_watchers": update_watchers})
