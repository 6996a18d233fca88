"""The module `resource` (spec 07, section 2).

Rank 0 has the inventory, the eventlog, and who is up; the others tell it what they have, and answer for their own
node. In order: the store is read, drains are restored, `restart` is posted, R is found, `resource-define` is posted.
Who asks for R before that waits (resource.acquire) or is told so (resource.get).
"""

from __future__ import annotations

import errno
import json
from syslog import LOG_ERR
from time import time
from typing import Any

from flux.brokermod import request_handler
from flux.constants import FLUX_MSGFLAG_NORESPONSE, FLUX_RPC_NORESPONSE
from flux.core.codec import dump_payload
from flux.core.future_state import RpcState
from flux.core.handle import Flux
from flux.hostlist import Hostlist
from flux.idset import IDset
from flux.message import Message
from flux.resource.Rv1Set import Rv1Set, unmask
from fluxlet.broker.broker import Broker
from fluxlet.modules.resource.acquirer import Acquirer
from fluxlet.modules.resource.acquisition import mask_of, ranks_of
from fluxlet.modules.resource.discovery import local_topology
from fluxlet.modules.resource.drains import OVERWRITES, Drains, idset
from fluxlet.modules.resource.hosts import Hosts
from fluxlet.modules.resource.inventory import Inventory, read_topologies
from fluxlet.modules.resource.journal import Journal
from fluxlet.modules.resource.monitor import Monitor
from fluxlet.modules.resource.requests import (
    CancelRequest,
    DrainRequest,
    ExpirationRequest,
    RanksRequest,
    ReduceRequest,
    ReloadRequest,
    WaitupRequest,
)
from fluxlet.modules.resource.settings import Settings, read_r, read_text
from fluxlet.modules.resource.store import (
    CHECKPOINT_KEY,
    EVENTLOG_KEY,
    R_KEY,
    Store,
    event_line,
    operation,
    read_events,
)
from fluxlet.payload import cut, decode, read_object
from fluxlet.service import Service, may_end, require_streaming, sender


class Resource(Service):
    """The resources of an instance.

    Args:
        args: `monitor-force-up`, `noverify`, `notruncate`.

    Raises OSError(EINVAL) for other arguments, and for a configuration that will not do.
    """

    def __init__(self, handle: Flux, broker: Broker, *args: str) -> None:
        for arg in args:
            if arg not in ("monitor-force-up", "noverify", "notruncate"):
                raise OSError(errno.EINVAL, f"unknown argument '{arg}'")
        super().__init__(handle, broker, *args)
        self.leader = broker.rank == 0
        self.settings = self._settings(broker.config)
        self.journal = Journal(self.settings.journal_max)
        self.store = Store(self)
        self.drains = Drains()
        self.r: Rv1Set | None = None
        self.method = ""
        self.size = max(int(broker.attributes.visible["size"]), self._fake_size())
        self.hosts = Hosts(self._host_names(), self.size)
        self.monitor = Monitor(self, self.size, self._happened, self._changed)
        self.inventory = Inventory(self, self._define, self._expires)
        self._started = False
        self._acquirer = Acquirer(self.handle.respond, self._end)
        self._journal_watchers: list[Message] = []
        self._status_waiters: list[Message] = []

    async def start_service(self) -> None:
        """Rank 0 looks up what was before; the others tell it what they have."""
        if self.leader:
            self._loaded(*await self.store.load())
        else:
            self._start_follower()

    def _settings(self, config: dict[str, Any]) -> Settings:
        try:
            settings = Settings(config)
        except ValueError as exc:
            raise OSError(errno.EINVAL, str(exc)) from None
        if "noverify" in self.args:
            settings.verify = None
        return settings

    def _fake_size(self) -> int:
        return 0 if self.settings.fake is None else int(self.settings.fake["nnodes"])

    def _host_names(self) -> list[str]:
        if self.settings.pretended is not None:
            return [str(host) for host in self.settings.pretended.nodelist()]
        visible = self.broker.attributes.visible
        hosts = [str(host) for host in Hostlist(visible.get("hostlist", ""))]
        return hosts or [visible.get("hostname", "localhost")]

    def stop_service(self) -> None:
        """The scheduler hears of it."""
        self._acquirer.stop()
        self.abandon(self._journal_watchers)
        self.abandon(self.monitor.waiting())
        self.abandon(self._status_waiters)
        self.inventory.close()

    async def finish_service(self) -> None:
        """The drains are written down."""
        if self.leader and self._started:
            text = self.drains.checkpoint(time(), self.hosts)
            payload = {"namespace": "primary", "flags": 0, "ops": [operation(CHECKPOINT_KEY, text)]}
            try:
                await self.handle.rpc("kvs.commit", payload)
            except OSError as exc:
                if exc.errno != errno.ENOSYS:
                    raise

    def _end(self, request: Message, number: int, text: str | None = None) -> None:
        if not request.flags & FLUX_MSGFLAG_NORESPONSE:
            self.handle.respond_error(request, number, text)

    # The start: other ranks.

    def _start_follower(self) -> None:
        found = self.inventory.local()
        self.inventory.reduce(1, found)
        reason = self.inventory.mismatch(found)
        if reason is not None:
            self.broker.log.write(LOG_ERR, reason, "resource")
            payload = {"targets": str(self.broker.rank), "reason": reason, "mode": "update"}
            self.handle.rpc("resource.drain", payload, 0, FLUX_RPC_NORESPONSE)

    # The start: rank 0.

    def _loaded(self, r: str, eventlog: str, checkpoint: str) -> None:
        """The store has been read."""
        now = time()
        try:
            self._restore(eventlog, checkpoint, now)
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            self.broker.log.write(LOG_ERR, f"drains of before are lost: {exc}", "resource")
        self._started = True
        if "monitor-force-up" in self.args and r:
            self._include(r)
        everybody = idset(set(range(self.size)))
        context = {"ranks": everybody, "online": "", "nodelist": Hostlist(self.hosts.names).encode()}
        self._happened("restart", context)
        self._set_excluded(self.settings)
        self.monitor.start("monitor-force-up" in self.args or self.settings.fake is not None)
        self.inventory.find(r)

    def _include(self, stored: str) -> None:
        """All that R says is there, brokers or not."""
        try:
            self.hosts.include(Rv1Set(stored))
        except (ValueError, TypeError, KeyError):
            return  # the inventory is to complain
        self.size = self.monitor.size = self.hosts.size

    def _restore(self, eventlog: str, checkpoint: str, now: float) -> None:
        since = self.drains.restore(checkpoint, self.hosts) if checkpoint else 0.0
        events = read_events(eventlog)
        left = []
        for event in events:
            if event.name == "resource-define":
                continue
            if event.timestamp >= since and "idset" in event.context:
                ranks = self.hosts.now(event.context.get("nodelist", ""), set(IDset(event.context["idset"])))
                self.drains.apply(event.name, event.timestamp, event.context, ranks)
            old = event.timestamp < since and event.timestamp < now - self.settings.history
            if not old or "notruncate" in self.args:
                left.append(event)
                self.journal.append(dict(event))
        if len(left) < len(events):
            lines = "".join(map(event_line, left))
            self.store.commit([operation(EVENTLOG_KEY, lines)], lambda number, text: None)

    @request_handler("topo-reduce")
    def topo_reduce(self, msg: Message) -> None:
        """Payload: `ReduceRequest`, from below; goes on upwards. No response."""
        request = decode(msg, ReduceRequest)
        try:
            r = Rv1Set(request.resource)
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            raise OSError(errno.EPROTO, f"bad payload of {msg.topic}: {exc}") from None
        self.inventory.reduce(request.count, r)

    def _define(self, r: Rv1Set, method: str) -> None:
        self.r = r
        self.method = method
        self._set_excluded(self.settings)
        for rank in ranks_of(self.monitor.excluded) & self.drains.ranks.keys():
            self._undrained({rank}, "excluded by configuration", 0, lambda number, text: None)
        context = {"method": method}
        event = self._happened("resource-define", context, r.to_dict())
        operations = [operation(R_KEY, json.dumps(r.to_dict())), operation(EVENTLOG_KEY, event_line(event), True)]
        self.store.commit(operations, lambda number, text: None)
        if self._acquirer.there:
            self._acquirer.begin(self._usable(), self.up)
        if self.settings.verify is not None and method == "configuration":
            reason = self.inventory.mismatch(self.inventory.local())
            if reason is not None:
                self.broker.log.write(LOG_ERR, reason, "resource")
                self._drained({self.broker.rank}, reason, 0, lambda number, text: None)

    # Events.

    def _happened(self, name: str, context: dict[str, Any], r: dict[str, Any] | None = None) -> dict[str, Any]:
        """An event: into the journal, and to those who watch it. Returns it."""
        event = {"timestamp": time(), "name": name, "context": context}
        self._tell(event, r)
        return event

    def _tell(self, event: dict[str, Any], r: dict[str, Any] | None = None) -> None:
        told = self.journal.append(event, r)
        for request in self._journal_watchers:
            self.handle.respond(request, told)

    @request_handler("journal")
    def watch_journal(self, msg: Message) -> None:
        """A stream of `{"events": [...]}`: history, an empty one, then what happens."""
        self._require_leader(msg)
        require_streaming(msg, "journal requires streaming RPC flag")
        for payload in self.journal.history():
            self.handle.respond(msg, payload)
        self._journal_watchers.append(msg)

    @request_handler("journal-cancel")
    def journal_cancel(self, msg: Message) -> None:
        """Payload: `CancelRequest`; ends a stream with ENODATA. No response."""
        matchtag = decode(msg, CancelRequest).matchtag
        for request in tuple(self._journal_watchers):
            if request.aux2 == matchtag and may_end(request, msg):
                self._journal_watchers.remove(request)
                self._end(request, errno.ENODATA)

    # Who is up.

    @property
    def up(self) -> int:
        """The ranks that jobs may use, as bits."""
        monitor = self.monitor
        return monitor.online & ~monitor.torpid & ~monitor.excluded & ~mask_of(set(self.drains.ranks))

    def _changed(self, gone: int = 0) -> None:
        """Ranks have come or gone, `gone` have gone offline: the scheduler hears of it."""
        # Those of the configuration are there, and will be back.
        self._acquirer.change(self.up, 0 if self.method == "configuration" else gone)

    @request_handler("monitor-waitup")
    def waitup(self, msg: Message) -> None:
        """Payload: `WaitupRequest`; answered once so many ranks are online."""
        self._require_leader(msg)
        self.monitor.wait(msg, decode(msg, WaitupRequest).up)

    @request_handler("monitor-force-down")
    def force_down(self, msg: Message) -> None:
        """Payload: `RanksRequest`: these count as offline, for tests."""
        self._require_leader(msg)
        try:
            ranks = mask_of(set(IDset(decode(msg, RanksRequest).ranks)))
        except ValueError as exc:
            raise OSError(errno.EPROTO, str(exc)) from None
        self.answer(msg)
        self.monitor.force_down(ranks)

    # The scheduler.

    @request_handler("acquire")
    def acquire(self, msg: Message) -> None:
        """A stream: the resources, then what changes about them. EBUSY while somebody has them."""
        self._require_leader(msg)
        require_streaming(msg)
        self._acquirer.take(msg)
        if self.r is not None:
            self._acquirer.begin(self._usable(), self.up)

    def _usable(self) -> Rv1Set:
        """R without the ranks that are excluded."""
        assert self.r is not None
        if not self.monitor.excluded:
            return self.r
        usable = self.r.copy_ranks([rank for rank in self.r.nodes if not self.monitor.excluded >> rank & 1])
        usable.scheduling = self.r.scheduling
        return usable

    @request_handler("acquire-cancel")
    def acquire_cancel(self, msg: Message) -> None:
        """Payload: `CancelRequest`; the stream ends with ENODATA. No response."""
        self._acquirer.cancel(decode(msg, CancelRequest).matchtag, msg)

    @request_handler("acquire-mute")
    def acquire_mute(self, msg: Message) -> None:
        """Nothing is told to the scheduler any more."""
        self._require_leader(msg)
        self._acquirer.mute()
        self.answer(msg)

    @request_handler("disconnect", allow_guest=True)
    def disconnect(self, msg: Message) -> None:
        """A client has gone: its streams end."""
        self._acquirer.disconnect(msg)
        self._journal_watchers = [request for request in self._journal_watchers if not may_end(request, msg)]
        self.monitor.forget(lambda request: may_end(request, msg))
        self._status_waiters = [request for request in self._status_waiters if sender(request) != sender(msg)]

    # Drains.

    @request_handler("drain")
    def drain(self, msg: Message) -> None:
        """Payload: `DrainRequest`; answered when it is in the eventlog."""
        self._require_leader(msg)
        request = decode(msg, DrainRequest)
        ranks = self.hosts.targets(request.targets)
        reason = None if request.reason is None else cut(request.reason)
        ranks = self.drains.drain(ranks, reason, request.mode, ranks_of(self.monitor.excluded))
        self._drained(ranks, reason, OVERWRITES[request.mode], self._answering(msg))

    @request_handler("undrain")
    def undrain(self, msg: Message) -> None:
        """Payload: `DrainRequest`; answered when it is in the eventlog."""
        self._require_leader(msg)
        request = decode(msg, DrainRequest)
        ranks = self.drains.undrain(self.hosts.targets(request.targets), request.mode)
        reason = None if request.reason is None else cut(request.reason)
        self._undrained(ranks, reason, OVERWRITES[request.mode], self._answering(msg))

    def _answering(self, msg: Message) -> Any:
        def done(number: int, text: str | None) -> None:
            if number:
                self._end(msg, number, text)
            else:
                self.answer(msg)

        return done

    def _drained(self, ranks: set[int], reason: str | None, overwrite: int, then: Any) -> None:
        context: dict[str, Any] = {"idset": idset(ranks), "nodelist": self.hosts.on(ranks)}
        if reason is not None:
            context["reason"] = reason
        self._drain_event("drain", ranks, {**context, "overwrite": overwrite}, then)

    def _undrained(self, ranks: set[int], reason: str | None, overwrite: int, then: Any) -> None:
        context: dict[str, Any] = {"idset": idset(ranks), "nodelist": self.hosts.on(ranks), "overwrite": overwrite}
        if reason is not None:
            context["reason"] = reason
        self._drain_event("undrain", ranks, context, then)

    def _drain_event(self, name: str, ranks: set[int], context: dict[str, Any], then: Any) -> None:
        if not ranks:
            then(0, None)
            return
        now = time()
        event = {"timestamp": now, "name": name, "context": context}
        self.drains.apply(name, now, context, ranks)

        def committed(number: int, text: str | None) -> None:
            then(number, text)
            self._tell(event)
            self._changed()

        self.store.commit([operation(EVENTLOG_KEY, event_line(event), True)], committed)

    # What can be asked.

    def _require_leader(self, msg: Message) -> None:
        if not self.leader:
            raise OSError(errno.ENOSYS, f"Unknown service method '{msg.topic}'")

    @request_handler("status", allow_guest=True)
    def status(self, msg: Message) -> None:
        """Answers R, and which ranks are drained, online, offline, excluded, torpid."""
        if not self.leader:
            raise OSError(errno.EPROTO, "this RPC only works on rank 0")
        r = Rv1Set().to_dict() if self.r is None else self.r.to_dict()
        r.pop("scheduling", None)
        everybody = (1 << self.size) - 1
        payload = {
            "R": r,
            "drain": self.drains.describe(),
            "online": unmask(self.monitor.online),
            "offline": unmask(everybody & ~self.monitor.online),
            "exclude": unmask(self.monitor.excluded),
            "torpid": unmask(self.monitor.torpid),
        }
        self.handle.respond(msg, payload)

    @request_handler("sched-status", allow_guest=True)
    def sched_status(self, msg: Message) -> None:
        """Answers `{"all": R, "down": R, "allocated": R}`; those who ask at the same time share one answer."""
        if not self.leader:
            raise OSError(errno.EPROTO, "this RPC only works on rank 0")
        self._status_waiters.append(msg)
        if len(self._status_waiters) == 1:
            self.ask(b"job-manager.resource-status", None, self._allocated)

    def _allocated(self, state: RpcState) -> None:
        waiting, self._status_waiters = self._status_waiters, []
        none = Rv1Set()
        none.name_ranks()
        allocated = none.to_dict()
        if state.errnum and state.errnum != errno.ENOSYS:
            for request in waiting:
                self._end(request, state.errnum, state.error_text())
            return
        if not state.errnum:
            assert isinstance(state.value, Message)
            allocated = state.value.payload["allocated"]
        everything = none if self.r is None else self._usable()
        up = self.up
        down = everything.copy_ranks([rank for rank in everything.nodes if not up >> rank & 1])
        down.name_ranks()
        raw = dump_payload({"all": _plain(everything), "down": _plain(down), "allocated": allocated})
        for request in waiting:
            self.answer(request, raw)

    @request_handler("get")
    async def get(self, msg: Message) -> None:
        """Answers `{"R": R, "method": s}`; ENOENT before there is one."""
        if not self.leader:
            self.handle.respond(msg, await self.handle.rpc("resource.get", None, 0))
            return
        if self.r is None:
            raise OSError(errno.ENOENT, None)
        self.handle.respond(msg, {"R": self.r.to_dict(), "method": self.method})

    @request_handler("topo-get", allow_guest=True)
    def topo_get(self, msg: Message) -> None:
        """Answers this node's topology, as XML of hwloc."""
        fake = self.settings.fake or {}
        if "hwloc-xml-path" in fake:
            text = read_text(fake["hwloc-xml-path"])
        else:
            text = local_topology(self.broker.attributes.visible["hostname"], not self.settings.norestrict)
        self.answer(msg, text.encode() + b"\0")

    # What can be changed.

    @request_handler("reload")
    def reload(self, msg: Message) -> None:
        """Payload: `ReloadRequest`: another R. EBUSY while a scheduler has the present one."""
        if not self.leader:
            raise OSError(errno.ENOSYS, "resource.reload is only available on rank 0")
        request = decode(msg, ReloadRequest)
        if self._acquirer.there:
            raise OSError(errno.EBUSY, "resources are busy (unload scheduler?)")
        try:
            r = read_topologies(request.path, self.hosts.names) if request.xml else read_r(request.path)
        except ValueError as exc:
            raise OSError(errno.EINVAL, str(exc)) from None
        if max(r.nodes) >= self.size and not request.force:
            raise OSError(
                errno.EINVAL, f"resource object contains ranks execeeding size={self.size} (override with -f))"
            )
        self._define(r, "reload")
        self.answer(msg)

    @request_handler("expiration-update")
    def expiration_update(self, msg: Message) -> None:
        """Payload: `ExpirationRequest`: when the instance loses its resources."""
        self._require_leader(msg)
        expiration = decode(msg, ExpirationRequest).expiration
        self.answer(msg)
        self._expires(expiration)

    def _expires(self, expiration: float) -> None:
        if self.r is not None:
            self.r.set_expiration(expiration)
        self._happened("resource-update", {"expiration": expiration})
        self._acquirer.tell({"expiration": expiration})

    @request_handler("config-reload")
    def config_reload(self, msg: Message) -> None:
        """Payload: the configuration. `exclude` and `journal-max` take effect at once."""
        settings = self._settings(read_object(msg))
        if self.leader:
            self._set_excluded(settings)
        self.settings.exclude = settings.exclude
        self.settings.journal_max = self.journal.most = settings.journal_max
        self.answer(msg)

    def _set_excluded(self, settings: Settings) -> None:
        text = settings.exclude
        try:
            ranks = set(IDset(text))
        except ValueError:
            ranks = self.hosts.ranks(text, "resource.exclude")
        self.monitor.exclude(ranks)


def _plain(r: Rv1Set) -> dict[str, Any]:
    plain = r.to_dict()
    plain.pop("scheduling", None)
    return plain
