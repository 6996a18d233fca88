"""Router: where a message goes (spec 01, section 3; spec 04, 1.3 to 1.6). Pure: a message in, deliveries out.

    router.receive(message, source) -> [(destination, message), ...]

Rules:

- It knows its rank, its parent and its children, and nothing of sockets, clocks or payloads.
- Sources and destinations are `Endpoint`s: clients, modules, and the brokers next to this one.
- A request collects routes on its way and its response goes back along them. Every route of a response is
  compared: one that does not lead back to where a request came from is dropped (spec 01, 9 item 15).
- Routing never looks at credentials, except that the LOCAL role ends where a message crosses to another broker.
- A message handed over belongs to the router: it changes routes in place. An event goes to many, who share it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TypeAlias

from flux.constants import (
    FLUX_MSGFLAG_NORESPONSE,
    FLUX_MSGFLAG_PRIVATE,
    FLUX_MSGFLAG_ROUTE,
    FLUX_MSGFLAG_STREAMING,
    FLUX_MSGFLAG_UPSTREAM,
    FLUX_MSGTYPE_EVENT,
    FLUX_MSGTYPE_REQUEST,
    FLUX_MSGTYPE_RESPONSE,
    FLUX_NODEID_ANY,
    FLUX_ROLE_LOCAL,
    FLUX_ROLE_OWNER,
)
from flux.message import Message

#: Role of what a broker and its modules send themselves.
LOCAL_OWNER = FLUX_ROLE_OWNER | FLUX_ROLE_LOCAL

Delivery: TypeAlias = "tuple[Endpoint, Message]"

#: Requests handed to somebody who may vanish, by routes and matchtag: enough to answer in its place.
_Pending: TypeAlias = dict[tuple[bytes, ...], dict[int, Message]]


class Endpoint:
    """Somebody messages come from and go to.

    Args:
        uuid: identity as a route.
        path: the routes its requests get on entering this broker, in frame order.
    """

    is_peer = False  # a broker: LOCAL ends here
    is_client = False  # a service of its own answers to NAME.method only, not to the bare NAME

    def __init__(self, uuid: bytes, path: tuple[bytes, ...]) -> None:
        self.uuid = uuid
        self.path = path
        self.local_path: tuple[bytes, ...] = path  # with the broker's own route in front; set by `Router.attach`
        # Requests given to this endpoint and not answered yet, where they shall fail if it goes.
        self.pending: _Pending | None = None

    def deliver(self, message: Message) -> None:
        """Takes a message that the router has addressed to this endpoint."""
        raise NotImplementedError

    def deliver_stream(self, message: Message, raws: list[bytes]) -> None:
        """Takes a message for each payload; they differ in nothing else."""
        for raw in raws:
            copied = message.copy()
            copied.set_raw(raw)
            self.deliver(copied)

    @property
    def backlog(self) -> int:
        """Bytes that wait to be sent to this endpoint."""
        return 0

    def may_see(self, event: Message) -> bool:
        """True if a private event may be delivered here."""
        return True


class Services(dict[bytes, Endpoint]):
    """The services of a broker by name, and by the topics that were asked for lately."""

    def __init__(self) -> None:
        super().__init__()
        self.by_topic: dict[bytes, Endpoint] = {}
        self._asked: set[bytes] = set()  # names that topics in there begin with: those of jobs' shells mostly do not

    def __setitem__(self, name: bytes, endpoint: Endpoint) -> None:
        self._forget(name)
        super().__setitem__(name, endpoint)

    def __delitem__(self, name: bytes) -> None:
        self._forget(name)
        super().__delitem__(name)

    def _forget(self, name: bytes) -> None:
        if name in self._asked:
            self._asked.clear()
            self.by_topic.clear()

    def serving(self, topic: bytes) -> Endpoint | None:
        """The endpoint that requests with this topic go to."""
        name = topic.partition(b".")[0]
        endpoint = self.get(name)
        if endpoint is not None:
            if len(self.by_topic) >= 4096:
                self._asked.clear()
                self.by_topic.clear()
            self._asked.add(name)
            self.by_topic[topic] = endpoint
        return endpoint


class Peer(Endpoint):
    """The parent or a child broker."""

    is_peer = True

    def __init__(self, rank: int, uuid: bytes, is_parent: bool) -> None:
        super().__init__(uuid, () if is_parent else (uuid,))
        self.rank = rank
        self.pending = {}


class Router:
    """The routing of one broker.

    Args:
        rank: of this broker.
        uuid: of this broker, as a route.
        owner: userid of the instance owner.
        child_towards: the child on the way to a rank below this broker, None for all other ranks.
    """

    def __init__(
        self,
        rank: int,
        uuid: bytes,
        owner: int,
        child_towards: Callable[[int], int | None] = lambda rank: None,
    ) -> None:
        self.rank = rank
        self.uuid = uuid
        self.owner = owner
        self.child_towards = child_towards
        self.parent: Peer | None = None
        self.children: dict[int, Peer] = {}
        self.services = Services()
        self.sequence = 0
        self._origins: dict[bytes, Endpoint] = {}  # modules and children by uuid
        self._paths: dict[tuple[bytes, ...], Endpoint] = {}  # by the whole stack of a request of theirs
        self._subscriptions: dict[Endpoint, dict[bytes, int]] = {}
        self._prefixes: dict[int, dict[bytes, list[Endpoint]]] = {}  # who has subscribed to what, by length
        # Emptied when subscriptions change: the subscribers of topics, and of whole families of them.
        self._matches: dict[bytes, list[Endpoint]] = {}
        self._alike: dict[bytes, bool] = {}  # by the beginning of topics, up to a dash

    # Who is there.

    def attach(self, endpoint: Endpoint) -> None:
        """Makes an endpoint known: requests are taken from it, and responses find it."""
        if isinstance(endpoint, Peer):
            if endpoint.path:
                self.children[endpoint.rank] = endpoint
            else:
                self.parent = endpoint
        endpoint.local_path = (self.uuid, *endpoint.path)
        if endpoint.path:
            self._paths[endpoint.local_path] = endpoint
        if len(endpoint.path) == 1:
            self._origins[endpoint.uuid] = endpoint

    def detach(self, endpoint: Endpoint, text: str | None = None) -> list[Delivery]:
        """Forgets an endpoint, its services and subscriptions; the requests it leaves unanswered fail.

        Args:
            text: error text that goes with their EHOSTUNREACH.
        """
        pending, endpoint.pending = endpoint.pending, None
        deliveries: list[Delivery] = []
        self._paths.pop(endpoint.local_path, None)
        if self._origins.get(endpoint.uuid) is endpoint:
            del self._origins[endpoint.uuid]
        # Before a parent is forgotten: what comes from there is routed differently.
        for requests in (pending or {}).values():
            for request in requests.values():
                deliveries += self.receive(self.error(request, errno.EHOSTUNREACH, text), endpoint)
        if isinstance(endpoint, Peer):
            if endpoint is self.parent:
                self.parent = None
            elif self.children.get(endpoint.rank) is endpoint:
                del self.children[endpoint.rank]
        for name in [name for name, owner in self.services.items() if owner is endpoint]:
            del self.services[name]
        for topic in self._subscriptions.pop(endpoint, ()):
            self._forget_prefix(endpoint, topic)
        return deliveries

    # Subscriptions: by prefix, counted (spec 01, 5.2).

    def subscribe(self, endpoint: Endpoint, topic: bytes) -> None:
        """Adds one subscription to the events whose topic begins with `topic`."""
        counts = self._subscriptions.setdefault(endpoint, {})
        count = counts.get(topic, 0)
        counts[topic] = count + 1
        if not count:
            self._prefixes.setdefault(len(topic), {}).setdefault(topic, []).append(endpoint)
            self._matches.clear()
            self._alike.clear()

    def unsubscribe(self, endpoint: Endpoint, topic: bytes) -> bool:
        """Takes one subscription away; False if there is none."""
        counts = self._subscriptions.get(endpoint, {})
        if topic not in counts:
            return False
        counts[topic] -= 1
        if not counts[topic]:
            del counts[topic]
            self._forget_prefix(endpoint, topic)
        return True

    def _forget_prefix(self, endpoint: Endpoint, topic: bytes) -> None:
        """A subscription is gone, counted as often as it was."""
        self._matches.clear()
        self._alike.clear()
        prefixes = self._prefixes[len(topic)]
        prefixes[topic].remove(endpoint)
        if not prefixes[topic]:
            del prefixes[topic]
            if not prefixes:
                del self._prefixes[len(topic)]

    def subscribers(self, topic: bytes) -> list[Endpoint]:
        """The endpoints with a subscription that matches."""
        dash = topic.find(b"-") + 1
        if dash and self._are_alike(topic[:dash]):
            topic = topic[:dash]  # those of jobs' namespaces come once, and never again
        found = self._matches.get(topic)
        if found is None:
            found = []
            for length, prefixes in self._prefixes.items():
                if length <= len(topic):
                    found += prefixes.get(topic[:length], ())
            if len(found) > 1:  # each once, in order of their first subscriptions
                matching = set(found)
                found = [endpoint for endpoint in self._subscriptions if endpoint in matching]
            if len(self._matches) >= 1024:
                self._matches.clear()
            self._matches[topic] = found
        return found

    def _are_alike(self, beginning: bytes) -> bool:
        """Whether all topics that begin like this have the same subscribers: nobody has asked for more than that."""
        alike = self._alike.get(beginning)
        if alike is None:
            alike = not any(
                prefix.startswith(beginning)
                for length, prefixes in self._prefixes.items()
                if length > len(beginning)
                for prefix in prefixes
            )
            if len(self._alike) >= 1024:
                self._alike.clear()
            self._alike[beginning] = alike
        return alike

    # Routing.

    def receive(self, message: Message, source: Endpoint) -> list[Delivery]:
        """Where a message from `source` goes. Useless messages go nowhere."""
        if source.is_peer:
            message._rolemask &= ~FLUX_ROLE_LOCAL
        kind = message._type
        if kind == FLUX_MSGTYPE_REQUEST:
            topic = message.topic_bytes or b""
            nodeid = message.aux1
            if (nodeid == FLUX_NODEID_ANY or nodeid == self.rank) and not message.flags & FLUX_MSGFLAG_UPSTREAM:
                services = self.services
                endpoint = services.by_topic.get(topic) or services.serving(topic)
                if endpoint is not None:
                    if endpoint.pending is None:  # nobody who may vanish: a module
                        routes = message.routes
                        message.routes = source.local_path + routes if routes else source.local_path
                        message.flags |= FLUX_MSGFLAG_ROUTE
                        return [(endpoint, message)]
                    return self._to_service(message, source, endpoint)
                if nodeid == self.rank:
                    return self._no_service(message, source)
                return self._up(message, source)
            return self._request_elsewhere(message, source)
        if kind == FLUX_MSGTYPE_RESPONSE:
            return self._response(message, source)
        if kind == FLUX_MSGTYPE_EVENT:
            if self.rank == 0:
                return self.publish(message)
            if source is self.parent:
                return self._distribute(message)
            if self.parent is not None:
                message.routes = None
                message.flags &= ~FLUX_MSGFLAG_ROUTE
                return [(self.parent, message)]
        return []

    def _to_service(self, message: Message, source: Endpoint, endpoint: Endpoint) -> list[Delivery]:
        routes = message.routes
        if endpoint.is_client and b"." not in (message.topic_bytes or b""):
            return self._refuse(message, source, errno.ENOSYS)
        message.routes = source.local_path + routes if routes else source.local_path
        message.flags |= FLUX_MSGFLAG_ROUTE
        if endpoint.pending is not None:
            self._remember(endpoint.pending, message)
        return [(endpoint, message)]

    @staticmethod
    def _remember(pending: _Pending, message: Message) -> None:
        """A request goes to somebody who may vanish; or the notice that its sender does not wait any longer."""
        routes = message.routes or ()
        if not message.flags & FLUX_MSGFLAG_NORESPONSE:
            requests = pending.get(routes)
            if requests is None:
                pending[routes] = {message.aux2: message.copy(payload=False)}
            else:
                requests[message.aux2] = message.copy(payload=False)
        elif routes in pending and (message.topic_bytes or b"").endswith(b".disconnect"):
            del pending[routes]

    def _refuse(self, message: Message, source: Endpoint, errnum: int) -> list[Delivery]:
        """The error that ends a request here, without text; nothing for one that wants no answer."""
        if message.flags & FLUX_MSGFLAG_NORESPONSE:
            return []
        return [(source, self.error(message, errnum))]

    def _up(self, message: Message, source: Endpoint) -> list[Delivery]:
        """To the parent, for want of a local service."""
        parent = self.parent
        if parent is None:
            return self._no_service(message, source)
        if source is parent:
            # It was sent down to this rank's subtree on purpose, and nobody is here for it.
            return self._no_service(message, source)
        return self._to_peer(message, source, parent)

    def _to_peer(self, message: Message, source: Endpoint, peer: Peer) -> list[Delivery]:
        # A parent adds its child's route itself on receipt; to a child we add our own (spec 04, 1.4).
        path = source.path if peer is self.parent else source.local_path
        message.routes = path + (message.routes or ())
        message.flags |= FLUX_MSGFLAG_ROUTE
        if peer.pending is not None:
            self._remember(peer.pending, message)
        return [(peer, message)]

    def _request_elsewhere(self, message: Message, source: Endpoint) -> list[Delivery]:
        """A request for another rank, or upstream (spec 01, 3.2)."""
        nodeid = message.aux1
        if message.flags & FLUX_MSGFLAG_UPSTREAM:
            if nodeid == self.rank:
                if self.parent is None or source is self.parent:
                    return self._refuse(message, source, errno.EHOSTUNREACH)
                return self._to_peer(message, source, self.parent)
            endpoint = self.services.serving(message.topic_bytes or b"")
            if endpoint is not None:
                return self._to_service(message, source, endpoint)
            return self._up(message, source)
        child = self.child_towards(nodeid)
        if child is not None:
            peer = self.children.get(child)
            if peer is not None and peer is not source:
                return self._to_peer(message, source, peer)
        elif self.parent is not None and source is not self.parent:
            return self._to_peer(message, source, self.parent)
        return self._refuse(message, source, errno.EHOSTUNREACH)

    def _no_service(self, message: Message, source: Endpoint) -> list[Delivery]:
        if message.flags & FLUX_MSGFLAG_NORESPONSE:
            return []
        topic = message.topic_bytes or b""
        response = self.error(message, errno.ENOSYS)
        response.set_raw((b"No service matching " + topic + b" is registered")[:63] + b"\0")
        return [(source, response)]

    def error(self, request: Message, errnum: int, text: str | None = None) -> Message:
        """This broker's error response to a request, with the routes that the request has."""
        raw = None if text is None else text.encode("utf-8", "surrogateescape") + b"\0"
        response = request.response(raw, errnum)
        response._userid = self.owner
        response._rolemask = LOCAL_OWNER
        return response

    def _response(self, message: Message, source: Endpoint) -> list[Delivery]:
        routes = message.routes
        if not routes:
            return []
        if source.pending is not None:
            self._answered(message, source, routes)
        endpoint = self._paths.get(routes)
        if endpoint is not None and source is not self.parent:
            message.routes = ()
            return [(endpoint, message)]
        if source is not self.parent:
            # We put our route on top when we handed the request to a local service or to a child.
            if routes[0] != self.uuid:
                return []
            routes = routes[1:]
        if not routes:
            return []
        if self.parent is not None and routes[0] == self.parent.uuid:
            if source is self.parent:
                return []
            message.routes = routes
            return [(self.parent, message)]
        origin = self._origins.get(routes[0])
        if origin is None:
            # A client: its connector's route and its own.
            origin = self._paths.get((self.uuid, *routes[:2]))
            if origin is None or len(origin.path) != 2:
                return []
            message.routes = routes[2:]
            return [(origin, message)]
        message.routes = routes[1:]
        return [(origin, message)]

    def next_hop(self, routes: tuple[bytes, ...]) -> Endpoint | None:
        """Who is next on the way of a local service's responses; None if they lead nowhere.

        Args:
            routes: of the request.
        """
        endpoint = self._paths.get(routes)
        if endpoint is None and len(routes) > 1:
            parent = self.parent
            endpoint = parent if parent is not None and routes[1] == parent.uuid else self._origins.get(routes[1])
        return endpoint

    def client_awaiting(self, message: Message, source: Endpoint) -> Endpoint | None:
        """The client that a response goes to, its routes taken off; None unless that is plain to see.

        What `receive` would find, the shortest way: for the answers of modules to requests of clients.
        """
        endpoint = self._paths.get(message.routes)  # type: ignore[arg-type]  # None is in no dict
        if endpoint is None or not endpoint.is_client or source.pending is not None:
            return None
        message.routes = ()
        return endpoint

    def _answered(self, message: Message, source: Endpoint, routes: tuple[bytes, ...]) -> None:
        """A response by `source`: the request it ends is no longer pending there."""
        assert source.pending is not None
        requests = source.pending.get(routes)
        if requests is None:
            return
        request = requests.get(message.aux2)
        if request is not None and (message.aux1 or not request.flags & FLUX_MSGFLAG_STREAMING):
            del requests[message.aux2]
            if not requests:
                del source.pending[routes]

    # Events (spec 01, section 5).

    def publish(self, message: Message) -> list[Delivery]:
        """Numbers an event and sends it to all who are to see it. Rank 0 only."""
        self.sequence += 1
        message.aux1 = self.sequence
        return self._distribute(message)

    def unheard(self, topic: bytes, deaf: Endpoint | None = None) -> bool:
        """True if nobody would get an event with this topic, which need not be made: it is numbered. Rank 0 only.

        Args:
            deaf: a subscriber that would do nothing with it.
        """
        if self.children:
            return False
        found = self.subscribers(topic)
        if found and (len(found) > 1 or found[0] is not deaf):
            return False
        self.sequence += 1
        return True

    def _distribute(self, message: Message) -> list[Delivery]:
        """To the children first, then to local subscribers."""
        message.routes = (self.uuid,)
        message.flags |= FLUX_MSGFLAG_ROUTE
        deliveries: list[Delivery] = [(child, message) for child in self.children.values()]
        found = self.subscribers(message.topic_bytes or b"")
        if message.flags & FLUX_MSGFLAG_PRIVATE:
            found = [endpoint for endpoint in found if endpoint.may_see(message)]
        deliveries += [(endpoint, message) for endpoint in found]
        return deliveries
