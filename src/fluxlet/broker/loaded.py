"""What all modules of a broker are to it, those in its own process and those that are processes of their own.

Rules:
- What a module sends comes by `post`, what is for it by `deliver`.
- Messages may be held back (`module.debug`) and looked at (`module.trace`). Both put a method of the object in the
  place of that of its class, so that a module which nobody holds or looks at pays nothing for it.
- A module that ends is like a client that goes: the services that it has used are told, then its own ones vanish.
"""

from __future__ import annotations

import errno
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from flux.constants import (
    FLUX_MSGFLAG_NORESPONSE,
    FLUX_MSGFLAG_UPSTREAM,
    FLUX_MSGTYPE_EVENT,
    FLUX_MSGTYPE_REQUEST,
    FLUX_MSGTYPE_RESPONSE,
    FLUX_ROLE_NONE,
    FLUX_USERID_UNKNOWN,
)
from flux.message import Message
from fluxlet.broker.notices import Notices
from fluxlet.broker.router import LOCAL_OWNER, Delivery, Endpoint

if TYPE_CHECKING:
    from fluxlet.broker.broker import Broker

#: As `module.list` numbers them.
STATUS_INIT, STATUS_RUNNING, STATUS_FINALIZING, STATUS_EXITED = range(4)

#: Called with "rx" or "tx" and a message that the module gets or sends.
Tracer = Callable[[str, Message], None]


class LoadedModule(Endpoint):
    """A loaded module.

    Args:
        broker: that has loaded it.
        name: its service name.
        path: for `module.list`.
        internal: one of the broker's own services, which `module.list` does not show.
    """

    def __init__(self, broker: Broker, name: str, path: str = "builtin", internal: bool = False) -> None:
        identity = str(uuid.uuid4()).encode()
        super().__init__(identity, (identity,))
        self.broker = broker
        self.name = name
        self.path_name = path
        self.internal = internal
        self.has_standard_methods = not internal or name == "broker"
        self.status = STATUS_INIT
        self.last_used = broker.now
        # Messages sent and received, by their type number.
        self.sent = [0] * 9
        self.received = [0] * 9
        self.notices = Notices()
        self.held: list[Message] | None = None
        self._tracer: Tracer | None = None

    @property
    def may_be_called(self) -> bool:
        """True if what is asked of the module need not be messages: it runs, and nobody holds or looks at them."""
        return self.status == STATUS_RUNNING and self.held is None and self._tracer is None

    @property
    def waiting(self) -> int:
        """How many messages for the module the broker keeps."""
        return len(self.held or ())

    def stop(self) -> None:
        """Ends the module, at once."""
        raise NotImplementedError

    def post(self, message: Message) -> None:
        """Takes a message that the module sends."""
        if message._userid == FLUX_USERID_UNKNOWN and message._rolemask == FLUX_ROLE_NONE:
            message._userid = self.broker.owner
            message._rolemask = LOCAL_OWNER
        kind = message._type
        self.sent[kind] += 1
        if kind == FLUX_MSGTYPE_REQUEST:
            topic = message.topic_bytes or b""
            if (topic, message.aux1) not in self.notices.known or message.flags & FLUX_MSGFLAG_UPSTREAM:
                self.notices.keep(message, topic)
        self.broker.submit(self, message)

    def uses(self, topic: bytes) -> None:
        """Has the service of a topic hear of the module's end, as if it had been sent a request."""
        request = Message.request(topic)
        request._userid, request._rolemask = self.broker.owner, LOCAL_OWNER
        self.notices.keep(request, topic)

    def post_stream(self, response: Message, raws: list[bytes]) -> None:
        """As `post` of a response for each payload; they differ in nothing else."""
        if self._tracer is not None:
            for raw in raws:
                copied = response.copy()
                copied.set_raw(raw)
                self.post(copied)
            return
        response._userid = self.broker.owner
        response._rolemask = LOCAL_OWNER
        self.sent[FLUX_MSGTYPE_RESPONSE] += len(raws)
        self.broker.submit_stream(self, response, raws)

    def unheard(self, topic: bytes, deaf: LoadedModule | None = None) -> bool:
        """True if an event of the module's with this topic has been published, as nobody is to get it. Rank 0 only.

        Args:
            deaf: a module that would do nothing with it.
        """
        if self._tracer is not None or not self.broker.router.unheard(topic, deaf):
            return False
        self.sent[FLUX_MSGTYPE_EVENT] += 1
        return True

    def detach(self) -> None:
        """Takes the module out of the broker: notices to those it has used, then its services, then what it owes."""
        router = self.broker.router
        deliveries: list[Delivery] = []
        for notice in self.notices.take():
            deliveries += router.receive(notice, self)
        if self.pending is None:
            for message in self.held or ():
                if message._type == FLUX_MSGTYPE_REQUEST and not message.flags & FLUX_MSGFLAG_NORESPONSE:
                    error = router.error(message, errno.EHOSTUNREACH, "module disconnect")
                    deliveries += router.receive(error, self)
        self.held = None
        self.broker.route(deliveries + router.detach(self, "module disconnect"))

    # Holding messages back, and looking at them.

    def uncalled(self) -> None:
        """From now on it is not to be called any more (`may_be_called`)."""

    def hold(self, on: bool) -> None:
        """Holds back what is for the module; or lets it go, in order."""
        if on == (self.held is not None):
            return
        if on:
            self.uncalled()
        held, self.held = self.held or [], [] if on else None
        self._redirect()
        for message in held:
            self.deliver(message)

    def trace(self, tracer: Tracer | None) -> None:
        """Shows all that the module gets and sends to `tracer`, until that is None again."""
        if tracer is not None:
            self.uncalled()
        self._tracer = tracer
        self._redirect()

    def _redirect(self) -> None:
        for name in ("deliver", "post"):
            self.__dict__.pop(name, None)
        if self._tracer is not None:
            self.deliver = self._deliver_traced  # type: ignore[method-assign]
            self.post = self._post_traced  # type: ignore[method-assign]
        if self.held is not None:
            self.deliver = self._keep  # type: ignore[method-assign]

    def _keep(self, message: Message) -> None:
        if self.held is not None:
            self.held.append(message)

    def _deliver_traced(self, message: Message) -> None:
        if self._tracer is not None:
            self._tracer("rx", message)
        type(self).deliver(self, message)

    def _post_traced(self, message: Message) -> None:
        if self._tracer is not None:
            self._tracer("tx", message)
        type(self).post(self, message)
