"""The service `kvs-watch`: lookups that are repeated when the KVS changes (spec 05, section 9).

    kvs-watch.lookup -> Watcher -> kvs.lookup-plus (in the namespace) -> answers
    kvs.namespace-NS-setroot -> the watchers of its keys -> kvs.lookup-plus (in the commit's root) -> answers

Rules:
- A lookup is made with the credentials of its client: what that may see is for the kvs module to say.
- Watchers that look for the same thing share one lookup of each commit, and one load of each blob.
- What a client is sent is the business of `sending`.
- A namespace's events are subscribed to while it has watchers.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from syslog import LOG_ERR
from typing import TypeAlias

import msgspec

from flux.brokermod import request_handler
from flux.constants import FLUX_MSGTYPE_EVENT, FLUX_ROLE_OWNER
from flux.core.future_state import RpcState
from flux.core.handle import Flux
from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.modules.kvs.keys import normalize
from fluxlet.modules.kvs_watch.sending import Sender, Watch
from fluxlet.modules.kvs_watch.watcher import Outcome, Ticket, Watcher, check_flags
from fluxlet.payload import UNREADABLE, cut, decode
from fluxlet.service import Service, authorized, sender


class LookupRequest(msgspec.Struct):
    """Payload of kvs-watch.lookup.

    `refs` is ours: in place of blobs, `valref` objects with the references of those that have come.
    """

    key: str
    namespace: str
    flags: int
    refs: bool = False


class CancelRequest(msgspec.Struct):
    """Payload of kvs-watch.cancel."""

    matchtag: int


class LookupResponse(msgspec.Struct):
    """Payload of a kvs.lookup-plus response."""

    rootseq: int
    rootref: str
    val: msgspec.Raw = msgspec.Raw()
    errno: int = 0


class SetrootEvent(msgspec.Struct):
    """Payload of kvs.namespace-NS-setroot."""

    namespace: str
    rootseq: int
    rootref: str
    owner: int
    keys: dict[str, None]


class NamespaceEvent(msgspec.Struct):
    """As much of the payload of the other kvs.namespace events as is needed."""

    namespace: str


class GetrootResponse(msgspec.Struct):
    """Payload of a kvs.getroot response."""

    owner: int
    rootseq: int
    rootref: str


_lookup_response = msgspec.json.Decoder(LookupResponse).decode
_getroot_response = msgspec.json.Decoder(GetrootResponse).decode
_encode = msgspec.json.Encoder().encode

#: What distinguishes lookups from each other: key, flags, userid and roles of who asks.
_Identity: TypeAlias = tuple[str, int, int, int]


class _Namespace:
    """The watches of one namespace."""

    def __init__(self) -> None:
        self.by_key: dict[str, dict[Watch, None]] = {}
        self.always: dict[Watch, None] = {}  # those that look at every commit; they are in `by_key` as well
        self.count = 0

    def add(self, watch: Watch) -> None:
        self.by_key.setdefault(watch.watcher.key, {})[watch] = None
        if watch.watcher.looks_always:
            self.always[watch] = None
        self.count += 1

    def remove(self, watch: Watch) -> None:
        watches = self.by_key[watch.watcher.key]
        del watches[watch]
        if not watches:
            del self.by_key[watch.watcher.key]
        self.always.pop(watch, None)
        self.count -= 1

    def all(self) -> list[Watch]:
        return [watch for watches in self.by_key.values() for watch in watches]

    def heeds(self, keys: Iterable[str]) -> bool:
        """Whether there are any such."""
        return bool(self.always) or not self.by_key.keys().isdisjoint(keys)

    def concerned(self, keys: dict[str, None]) -> list[Watch]:
        """The watches that a commit of `keys` concerns."""
        by_key = self.by_key
        # Whichever is fewer.
        hit = [key for key in by_key if key in keys] if len(by_key) < len(keys) else [k for k in keys if k in by_key]
        always = self.always
        found = [watch for key in hit for watch in by_key[key] if watch not in always]
        return [*found, *always]


class KvsWatch(Service):
    """The watchers of one broker's clients."""

    def __init__(self, handle: Flux, broker: Broker) -> None:
        super().__init__(handle, broker)
        self._namespaces: dict[str, _Namespace] = {}
        self._watches: dict[tuple[bytes, int], Watch] = {}  # by sender and matchtag
        self._of_sender: dict[bytes, dict[Watch, None]] = {}
        self._sender = Sender(self, self._end)
        # Of all namespaces that are subscribed to.
        events = handle.msg_watcher_create(self._callback(self._event), FLUX_MSGTYPE_EVENT, "kvs.namespace-*")
        events.start()
        self._watchers.append(events)

    def stop_service(self) -> None:
        """Nobody will be told anything any more."""
        for watch in list(self._watches.values()):
            self._end(watch, errno.ENOSYS)
        self._sender.pace.stop()

    # Requests.

    @request_handler("lookup", allow_guest=True)
    def lookup(self, msg: Message) -> None:
        """Payload: `LookupRequest`; answered by tree objects, as often as its flags say (spec 05, 9.1 to 9.3)."""
        request = decode(msg, LookupRequest)
        check_flags(request.flags, msg.flags)
        identity = (sender(msg), msg.aux2)
        if identity in self._watches:
            raise OSError(errno.EINVAL, f"matchtag {msg.aux2} is in use by another lookup of this client")
        namespace = cut(request.namespace)
        watcher = Watcher(msg, namespace, normalize(cut(request.key)), request.flags)
        watch = Watch(watcher, request.refs)
        self._watches[identity] = watch
        self._of_sender.setdefault(identity[0], {})[watch] = None
        if watcher.lasting:
            space = self._namespaces.get(namespace)
            if space is None:
                space = self._namespaces[namespace] = _Namespace()
                self.handle.event_subscribe(_prefix(namespace))
            space.add(watch)
        self._look_first(watch)

    @request_handler("cancel", allow_guest=True)
    def cancel(self, msg: Message) -> None:
        """Payload: `CancelRequest`: ends a lookup of the same client; there is no response."""
        watch = self._watches.get((sender(msg), decode(msg, CancelRequest).matchtag))
        if watch is not None and authorized(msg, watch.watcher.request.userid):
            self._end(watch, errno.ENODATA)

    @request_handler("disconnect", allow_guest=True)
    def disconnect(self, msg: Message) -> None:
        """A client has gone."""
        for watch in list(self._of_sender.get(sender(msg), ())):
            if authorized(msg, watch.watcher.request.userid):
                self._forget(watch)
        self._sender.pace.gone(msg)

    @request_handler("stats-get", allow_guest=True)
    async def stats_get(self, msg: Message) -> None:
        """How many watchers there are, and the roots of their namespaces."""
        namespaces = {}
        for name, space in list(self._namespaces.items()):
            try:
                root = await self.handle.rpc("kvs.getroot", {"namespace": name, "flags": 0})
            except OSError:
                continue  # it does not exist, and its watchers wait for that
            roots = {member: root[member] for member in ("owner", "rootseq", "rootref")}
            namespaces[name] = {**roots, "watchers": space.count}
        stats = {
            "watchers": sum(space.count for space in self._namespaces.values()),
            "namespace-count": len(self._namespaces),
            "namespaces": namespaces,
        }
        self.handle.respond(msg, stats)

    # Events.

    def _event(self, msg: Message) -> None:
        """An event of a namespace. Anybody could publish one: only those of the instance count."""
        if not msg.rolemask & FLUX_ROLE_OWNER:
            return
        react = {"setroot": self._setroot, "created": self._created, "removed": self._removed}
        kind = msg.topic.rpartition("-")[2]
        if kind in react:
            try:
                react[kind](msg)
            except OSError as exc:
                self.broker.log.write(LOG_ERR, f"{msg.topic}: {exc.strerror}", self.name)

    def heeds(self, namespace: str, keys: Iterable[str]) -> bool:
        """True if there are watches that a commit of these keys concerns: else it need not be told here."""
        space = self._namespaces.get(namespace)
        return space is not None and space.heeds(keys)

    def _setroot(self, msg: Message) -> None:
        """A commit has been made."""
        event = decode(msg, SetrootEvent)
        space = self._namespaces.get(event.namespace)
        if space is None:
            return
        groups: dict[_Identity, list[tuple[Watch, Ticket]]] = {}
        for watch in space.concerned(event.keys):
            group = groups.setdefault(_identity(watch.watcher), [])
            group.append((watch, watch.watcher.announce()))
        root = {"data": [event.rootref], "type": "dirref", "ver": 1}
        for group in groups.values():
            first = group[0][0].watcher
            payload = {
                "key": first.key,
                "flags": first.lookup_flags,
                "namespace": event.namespace,
                "rootdir": root,
                "rootseq": event.rootseq,
            }
            self._look(group, payload, event.rootseq)

    def _created(self, msg: Message) -> None:
        """A namespace has been made."""
        space = self._namespaces.get(decode(msg, NamespaceEvent).namespace)
        for watch in space.all() if space is not None else ():
            watch.watcher.created = True
            if watch.watcher.no_namespace:
                watch.watcher.no_namespace = False
                self._look_first(watch)

    def _removed(self, msg: Message) -> None:
        """A namespace is gone."""
        space = self._namespaces.get(decode(msg, NamespaceEvent).namespace)
        for watch in space.all() if space is not None else ():
            if not watch.watcher.no_namespace:
                self._sender.answer(watch, watch.watcher.removed())

    # Lookups.

    def _look_first(self, watch: Watch) -> None:
        """Looks in the namespace as it is."""
        watcher = watch.watcher
        watcher.created = False
        payload = {"key": watcher.key, "flags": watcher.lookup_flags, "namespace": watcher.namespace}
        self._look([(watch, watcher.announce(first=True))], payload, -1)

    def _look(self, group: list[tuple[Watch, Ticket]], payload: dict[str, object], rootseq: int) -> None:
        """Looks once for all watches of `group`, which look for the same; errors are those of version `rootseq`."""
        request = group[0][0].watcher.request

        def found(state: RpcState) -> None:
            outcome = _outcome(state, rootseq)
            for watch, ticket in group:
                watcher = watch.watcher
                if outcome.errnum == errno.EOPNOTSUPP and ticket.first and watcher.created and not watcher.ended:
                    # The namespace has come into being while we were told that there is none.
                    self._retry(watch, ticket)
                else:
                    self._sender.answer(watch, watcher.settle(ticket, outcome))

        user = None if request.rolemask & FLUX_ROLE_OWNER else request
        self.ask(b"kvs.lookup-plus", _encode(payload) + b"\0", found, user)

    def _retry(self, watch: Watch, ticket: Ticket) -> None:
        watcher = watch.watcher
        watcher.created = False
        payload = {"key": watcher.key, "flags": watcher.lookup_flags, "namespace": watcher.namespace}
        self._look([(watch, ticket)], payload, -1)

    # Ends.

    def _end(self, watch: Watch, errnum: int, text: str | None = None) -> None:
        """The last answer, if there is one."""
        self._forget(watch)
        if errnum:
            self.handle.respond_error(watch.watcher.request, errnum, text)

    def _forget(self, watch: Watch) -> None:
        """Nothing more is sent."""
        watcher = watch.watcher
        watcher.ended = True
        self._sender.forget(watch)
        client = sender(watcher.request)
        del self._watches[client, watcher.request.aux2]
        watches = self._of_sender[client]
        del watches[watch]
        if not watches:
            del self._of_sender[client]
        if watcher.lasting:
            space = self._namespaces[watcher.namespace]
            space.remove(watch)
            if not space.count:
                del self._namespaces[watcher.namespace]
                self.handle.event_unsubscribe(_prefix(watcher.namespace))


def _prefix(namespace: str) -> str:
    """What the topics of a namespace's events begin with."""
    return f"kvs.namespace-{namespace}-"


def _identity(watcher: Watcher) -> _Identity:
    request = watcher.request
    if request.rolemask & FLUX_ROLE_OWNER:
        return watcher.key, watcher.lookup_flags, 0, FLUX_ROLE_OWNER
    return watcher.key, watcher.lookup_flags, request.userid, request.rolemask


def _outcome(state: RpcState, rootseq: int) -> Outcome:
    """What a kvs.lookup-plus has found. An error's version is `rootseq`."""
    if state.errnum:
        return Outcome(rootseq, errnum=state.errnum, text=state.errtext)
    try:
        response = _lookup_response((state.value.raw or b"")[:-1])
    except UNREADABLE as exc:
        return Outcome(rootseq, errnum=errno.EPROTO, text=f"kvs.lookup-plus: {exc}")
    if response.errno:
        return Outcome(response.rootseq, errnum=response.errno)
    return Outcome(response.rootseq, bytes(response.val))
