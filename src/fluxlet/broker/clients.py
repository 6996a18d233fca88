"""Clients of a socket: what the router must know and do for each of them (spec 01, 2.1, 3.1, 3.7, 4, 5, 7.3).

Pure, like the router behind it: `receive` takes a message of a client and says where what goes.

- A message is stamped with the credentials of its connection before anything else looks at it.
- Four methods are the connector's own: event.subscribe, event.unsubscribe, service.add, service.remove.
- When a client goes, services that it used are told by a disconnect notice; then its services and
  subscriptions end, and what others asked of its services fails.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

from flux.constants import (
    FLUX_MSGFLAG_NORESPONSE,
    FLUX_MSGFLAG_UPSTREAM,
    FLUX_MSGTYPE_REQUEST,
    FLUX_MSGTYPE_RESPONSE,
    FLUX_ROLE_NONE,
    FLUX_ROLE_OWNER,
    FLUX_ROLE_USER,
    FLUX_USERID_UNKNOWN,
)
from flux.message import Message
from fluxlet.broker.notices import Notices
from fluxlet.broker.router import Delivery, Endpoint, Router
from fluxlet.payload import cut, read_object

if TYPE_CHECKING:
    from typing import Any


class Client(Endpoint):
    """A connection.

    Args:
        uuid: its identity, as a route.
        connector: the identity of the connector it belongs to.
        userid, rolemask: its credentials, by the kernel's word.
    """

    is_client = True

    def __init__(self, uuid: bytes, connector: bytes, userid: int, rolemask: int) -> None:
        super().__init__(uuid, (connector, uuid))
        self.userid = userid
        self.rolemask = rolemask
        self.is_owner = bool(rolemask & FLUX_ROLE_OWNER)
        self.services: set[bytes] = set()
        self.received = 0
        self.sent = 0
        self.notices = Notices()
        self.known_topics = self.notices.known  # a shorter way to look there for each request
        self.pending = {}

    def may_see(self, event: Message) -> bool:
        """Private events are for the instance owner and their sender (spec 01, 5.5)."""
        return self.is_owner or self.userid == event._userid


class Clients:
    """The clients of one connector, in front of a router."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self.all: dict[bytes, Client] = {}
        self.total = 0
        self._methods: dict[bytes, Callable[[Client, Message], list[Delivery]]] = {
            b"event.subscribe": self._subscribe,
            b"event.unsubscribe": self._unsubscribe,
            b"service.add": self._service_add,
            b"service.remove": self._service_remove,
        }

    def add(self, client: Client) -> None:
        """A client has connected."""
        self.all[client.uuid] = client
        self.total += 1
        self.router.attach(client)

    def remove(self, client: Client) -> list[Delivery]:
        """A client has gone."""
        if self.all.pop(client.uuid, None) is None:
            return []
        deliveries: list[Delivery] = []
        for notice in client.notices.take():
            deliveries += self.router.receive(notice, client)
        return deliveries + self.router.detach(client)

    def receive(self, client: Client, message: Message) -> list[Delivery]:
        """Takes a message that a client has sent."""
        client.received += 1
        if client.is_owner:
            # The owner may speak for anybody (spec 01, 7.3).
            if message._userid == FLUX_USERID_UNKNOWN:
                message._userid = client.userid
            if message._rolemask == FLUX_ROLE_NONE:
                message._rolemask = client.rolemask
        else:
            message._userid = client.userid
            message._rolemask = client.rolemask
        topic = message.topic_bytes
        if topic is None:
            return []
        kind = message._type
        if kind == FLUX_MSGTYPE_REQUEST:
            method = self._methods.get(topic)
            if method is not None:
                return method(client, message)
            # The service is to hear when this client goes.
            known = (topic, message.aux1) in client.known_topics and not message.flags & FLUX_MSGFLAG_UPSTREAM
            if not known and not client.notices.keep(message, topic):
                response = message.response(b"service name is too long\0", errno.EINVAL)
                response._rolemask = FLUX_ROLE_OWNER
                return [(client, response)]
        elif kind == FLUX_MSGTYPE_RESPONSE and not message.routes:
            return []
        return self.router.receive(message, client)

    # The connector's own methods. Their responses have these credentials and an empty route stack.

    def _answer(self, client: Client, request: Message, errnum: int = 0, text: str = "") -> list[Delivery]:
        if request.flags & FLUX_MSGFLAG_NORESPONSE:
            return []
        response = request.response(text.encode() + b"\0" if text else None, errnum)
        response.routes = ()
        response._userid = FLUX_USERID_UNKNOWN
        response._rolemask = FLUX_ROLE_OWNER
        return [(client, response)]

    def _argument(self, message: Message, key: str) -> bytes | None:
        """A string of the request's payload; None if it is not there."""
        try:
            value: Any = read_object(message).get(key)
        except OSError:
            return None
        return cut(value).encode("utf-8", "surrogateescape") if isinstance(value, str) else None

    def _subscribe(self, client: Client, message: Message) -> list[Delivery]:
        topic = self._argument(message, "topic")
        if topic is None:
            return self._answer(client, message, errno.EPROTO)
        self.router.subscribe(client, topic)
        return self._answer(client, message)

    def _unsubscribe(self, client: Client, message: Message) -> list[Delivery]:
        topic = self._argument(message, "topic")
        if topic is None:
            return self._answer(client, message, errno.EPROTO)
        if not self.router.unsubscribe(client, topic):
            return self._answer(client, message, errno.ENOENT)
        return self._answer(client, message)

    @staticmethod
    def _may_name(message: Message, name: bytes) -> bool:
        """The owner may register any name, a guest those that begin with its userid and a dash."""
        if message._rolemask & FLUX_ROLE_OWNER:
            return True
        return bool(message._rolemask & FLUX_ROLE_USER) and name.startswith(b"%d-" % message._userid)

    def _service_add(self, client: Client, message: Message) -> list[Delivery]:
        name = self._argument(message, "service")
        if name is None:
            return self._answer(client, message, errno.EPROTO)
        if not self._may_name(message, name):
            text = f"a guest's service name must begin with {message._userid}-"
            return self._answer(client, message, errno.EPERM, text)
        if b"." in name:
            return self._answer(client, message, errno.EINVAL)
        if name in self.router.services:
            return self._answer(client, message, errno.EEXIST)
        self.router.services[name] = client
        client.services.add(name)
        return self._answer(client, message)

    def _service_remove(self, client: Client, message: Message) -> list[Delivery]:
        name = self._argument(message, "service")
        if name is None:
            return self._answer(client, message, errno.EPROTO)
        if name not in client.services:
            return self._answer(client, message, errno.ENOENT)
        if not self._may_name(message, name):
            return self._answer(client, message, errno.EPERM)
        client.services.discard(name)
        del self.router.services[name]
        return self._answer(client, message)
