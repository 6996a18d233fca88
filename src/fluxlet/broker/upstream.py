"""A router hop in front of somebody else's broker: what `flux relay` and `flux proxy` are (spec 01, 2.5).

    client -> Clients.receive -> Upstream.receive -> handle -> the broker
           <- deliver <- Upstream <- handle <-

`Upstream` stands where `clients.Clients` has its router. Rules:

- A client's request gets the client's route on its way up, and its response loses it on its way down. Everything
  else passes as it is.
- Subscriptions and services are the clients' here and this hop's up there. Each request for one is passed on as a
  request of our own and answered when that is: so the broker's word is what counts, its order of things is kept, and
  it is the broker that counts how many subscriptions to one topic there are.
- What a client that goes has promised is taken back: its subscriptions and services end up there, and what its
  services have been asked and not answered fails.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from typing import Any

from flux.constants import (
    FLUX_MSGFLAG_NORESPONSE,
    FLUX_MSGFLAG_ROUTE,
    FLUX_MSGFLAG_STREAMING,
    FLUX_MSGTYPE_ANY,
    FLUX_MSGTYPE_EVENT,
    FLUX_MSGTYPE_REQUEST,
    FLUX_MSGTYPE_RESPONSE,
    FLUX_ROLE_ALL,
    FLUX_ROLE_NONE,
    FLUX_ROLE_OWNER,
    FLUX_RPC_NORESPONSE,
    FLUX_USERID_UNKNOWN,
)
from flux.core.handle import Flux
from flux.message import Message
from flux.rpc import RPC
from fluxlet.broker.clients import Client, Clients
from fluxlet.broker.router import Delivery, Endpoint, Router

_LOST = "lost connection to Flux, trying to reconnect"
_ABORTED = "RPC aborted due to broker reconnect"


def _text(topic: bytes) -> str:
    return topic.decode("utf-8", "surrogateescape")


def deliver(deliveries: list[Delivery]) -> None:
    """Makes deliveries."""
    for endpoint, message in deliveries:
        endpoint.deliver(message)


class Upstream(Router):
    """The router of a hop.

    Args:
        handle: the connection to the broker.
        userid: stamped on what clients send, so that the broker sees one user whatever they say of themselves;
            None: what they say is left to the broker to judge.
        track: keep what clients have asked, for `use` to fail it.
    """

    def __init__(self, handle: Flux, userid: int | None = None, track: bool = False) -> None:
        super().__init__(rank=0, uuid=b"", owner=os.getuid())
        self.by_uuid: dict[bytes, Endpoint] = {}
        self._userid = userid
        self._asked: dict[tuple[Endpoint, tuple[bytes, ...], int], Message] | None = {} if track else None
        self._take(handle)

    def _take(self, handle: Flux) -> None:
        self.handle: Flux | None = handle
        watcher = handle.msg_watcher_create(self._on_message, FLUX_MSGTYPE_ANY, "*", rolemask=FLUX_ROLE_ALL)
        watcher.start()

    def drop(self) -> None:
        """The connection is lost: lets go of it, so that it does not keep the loop busy."""
        handle, self.handle = self.handle, None
        if handle is not None:
            handle.__exit__(None, None, None)

    def use(self, handle: Flux) -> list[Delivery]:
        """Goes on with another connection after `drop`: what was asked over the one before fails."""
        deliveries = self.fail_asked()
        self._take(handle)
        for counts in self._subscriptions.values():
            for topic, count in counts.items():
                for _ in range(count):
                    self.tell("event.subscribe", {"topic": _text(topic)})
        for name in self.services:
            self.tell("service.add", {"service": _text(name)})
        return deliveries

    def fail_asked(self) -> list[Delivery]:
        """Answers all that clients have asked and nobody will answer any more."""
        asked, deliveries = self._asked or {}, []
        for (endpoint, _, _), request in asked.items():
            response = request.response(_ABORTED.encode() + b"\0", errno.ECONNRESET)
            response._rolemask = FLUX_ROLE_OWNER
            deliveries.append((endpoint, response))
        asked.clear()
        return deliveries

    # Our own requests.

    def ask(self, topic: str, payload: dict[str, Any]) -> RPC:
        """A request of our own to the broker. Raises BrokenPipeError if there is none."""
        if self.handle is None:
            raise BrokenPipeError(errno.EPIPE, _LOST)
        return self.handle.rpc(topic, payload)

    def tell(self, topic: str, payload: dict[str, Any]) -> None:
        """A request of our own whose answer would change nothing."""
        if self.handle is None:
            return  # nobody is left who remembers
        try:
            self.handle.rpc(topic, payload, flags=FLUX_RPC_NORESPONSE)
        except BrokenPipeError:
            return  # the same, and the handle's reader is about to notice

    # What `Clients` asks of a router.

    def attach(self, endpoint: Endpoint) -> None:
        self.by_uuid[endpoint.uuid] = endpoint
        endpoint.pending = {}
        if isinstance(endpoint, Client):
            # Who may do what is decided by the broker: nothing of ours is stamped on the way.
            endpoint.is_owner = True
            endpoint.userid = FLUX_USERID_UNKNOWN
            endpoint.rolemask = FLUX_ROLE_NONE

    def detach(self, endpoint: Endpoint, text: str | None = None) -> list[Delivery]:
        self.by_uuid.pop(endpoint.uuid, None)
        for name in [name for name, owner in self.services.items() if owner is endpoint]:
            del self.services[name]
            self.tell("service.remove", {"service": _text(name)})
        for topic, count in self._subscriptions.pop(endpoint, {}).items():
            for _ in range(count):
                self.tell("event.unsubscribe", {"topic": _text(topic)})
            self._forget_prefix(endpoint, topic)
        pending, endpoint.pending = endpoint.pending or {}, None
        for requests in pending.values():
            for request in requests.values():
                self._send(request.response(None, errno.EHOSTUNREACH))
        if self._asked is not None:
            for key in [key for key in self._asked if key[0] is endpoint]:
                del self._asked[key]
        return []

    def receive(self, message: Message, source: Endpoint) -> list[Delivery]:
        """What a client has sent goes up."""
        if self._userid is not None:
            message._userid = self._userid
            message._rolemask = FLUX_ROLE_NONE
        kind = message._type
        if kind == FLUX_MSGTYPE_REQUEST:
            routes = message.routes or ()
            if self._asked is not None and not message.flags & FLUX_MSGFLAG_NORESPONSE:
                self._asked[(source, routes, message.aux2)] = message.copy(payload=False)
            # A notice of `Clients` is the copy of a request that has been here.
            message.routes = (source.uuid, *routes)
            message.flags |= FLUX_MSGFLAG_ROUTE
        elif kind == FLUX_MSGTYPE_RESPONSE:
            self._answered(message, source, message.routes or ())
        elif kind != FLUX_MSGTYPE_EVENT:
            return []
        if self._send(message) or kind != FLUX_MSGTYPE_REQUEST:
            return []
        return self._unsent(message, source)

    def _send(self, message: Message) -> bool:
        if self.handle is None:
            return False
        try:
            self.handle.core.send(message)
        except BrokenPipeError:
            return False  # the handle's reader finds out as well, once it has read what there is
        return True

    def _unsent(self, request: Message, source: Endpoint) -> list[Delivery]:
        """The answer to a request that there is nobody to send to; without reconnecting, clients are about to go."""
        if self._asked is None or request.flags & FLUX_MSGFLAG_NORESPONSE:
            return []
        request.routes = (request.routes or ())[1:]
        self._asked.pop((source, request.routes, request.aux2), None)
        response = request.response(_LOST.encode() + b"\0", errno.EHOSTUNREACH)
        response._rolemask = FLUX_ROLE_OWNER
        return [(source, response)]

    # What comes down.

    def _on_message(self, handle: Flux, watcher: Any, message: Message, args: Any) -> None:
        deliver(self.from_broker(message))

    def from_broker(self, message: Message) -> list[Delivery]:
        """Where a message of the broker goes."""
        kind = message._type
        if kind == FLUX_MSGTYPE_RESPONSE:
            if not message.routes:
                return []
            endpoint = self.by_uuid.get(message.routes[0])
            if endpoint is None:
                return []
            message.routes = message.routes[1:]
            if self._asked is not None:
                key = (endpoint, message.routes, message.aux2)
                request = self._asked.get(key)
                if request is not None and (message.aux1 or not request.flags & FLUX_MSGFLAG_STREAMING):
                    del self._asked[key]
            return [(endpoint, message)]
        if kind == FLUX_MSGTYPE_EVENT:
            # Private ones, too: the broker has decided that they are for this user.
            return [(endpoint, message) for endpoint in self.subscribers(message.topic_bytes or b"")]
        if kind != FLUX_MSGTYPE_REQUEST:
            return []
        endpoint = self.services.get((message.topic_bytes or b"").partition(b".")[0])
        if endpoint is None:
            # It was on its way here when the service ended.
            if not message.flags & FLUX_MSGFLAG_NORESPONSE:
                self._send(message.response(None, errno.ENOSYS))
            return []
        if endpoint.pending is not None:
            self._remember(endpoint.pending, message)
        return [(endpoint, message)]


class RelayedClients(Clients):
    """The clients of a hop. Subscriptions and services are as the broker says."""

    router: Upstream

    def __init__(self, router: Upstream) -> None:
        super().__init__(router)
        self.router = router

    def _pass_on(
        self, client: Client, message: Message, payload: dict[str, Any], undo: Callable[[], object] | None = None
    ) -> list[Delivery]:
        """Asks the broker what the client has asked us, and answers when it does."""
        try:
            request = self.router.ask(message.topic, payload)
        except BrokenPipeError:
            if undo is not None:
                undo()
            return self._answer(client, message, errno.EHOSTUNREACH, _LOST)
        request.then(partial(self._passed_on, client, message, undo))
        return []

    def _passed_on(self, client: Client, message: Message, undo: Callable[[], object] | None, request: RPC) -> None:
        errnum, text = 0, ""
        try:
            request.get()
        except OSError as exc:
            if undo is not None:
                undo()
            errnum = exc.errno or errno.EIO
            text = "" if exc.strerror == os.strerror(errnum) else exc.strerror or ""
        deliver(self._answer(client, message, errnum, text))

    def _subscribe(self, client: Client, message: Message) -> list[Delivery]:
        topic = self._argument(message, "topic")
        if topic is None:
            return self._answer(client, message, errno.EPROTO)
        # From now on: an unsubscribe may come before the broker's answer.
        self.router.subscribe(client, topic)
        undo = partial(self.router.unsubscribe, client, topic)
        return self._pass_on(client, message, {"topic": _text(topic)}, undo)

    def _unsubscribe(self, client: Client, message: Message) -> list[Delivery]:
        topic = self._argument(message, "topic")
        if topic is None:
            return self._answer(client, message, errno.EPROTO)
        if not self.router.unsubscribe(client, topic):
            return self._answer(client, message, errno.ENOENT)
        return self._pass_on(client, message, {"topic": _text(topic)})

    def _service_add(self, client: Client, message: Message) -> list[Delivery]:
        name = self._argument(message, "service")
        if name is None:
            return self._answer(client, message, errno.EPROTO)
        if name in self.router.services:
            return self._answer(client, message, errno.EEXIST, f"service name {_text(name)} is in use")
        self.router.services[name] = client
        client.services.add(name)
        return self._pass_on(client, message, {"service": _text(name)}, partial(self._drop_service, client, name))

    def _service_remove(self, client: Client, message: Message) -> list[Delivery]:
        name = self._argument(message, "service")
        if name is None:
            return self._answer(client, message, errno.EPROTO)
        if name not in client.services:
            return self._answer(client, message, errno.ENOENT)
        self._drop_service(client, name)
        return self._pass_on(client, message, {"service": _text(name)})

    def _drop_service(self, client: Client, name: bytes) -> None:
        client.services.discard(name)
        if self.router.services.get(name) is client:
            del self.router.services[name]
