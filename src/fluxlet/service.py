"""Service: the base class of the built-in modules.

It is a `flux.brokermod.BrokerModule` like any user's, with two conveniences. The broker is at hand as `broker`
(what only the broker itself can know or do). And a handler that raises OSError has answered its request with that
errno and text: validation is one call that raises.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flux.brokermod import BrokerModule
from flux.constants import FLUX_MSGFLAG_NORESPONSE, FLUX_MSGFLAG_STREAMING, FLUX_MSGTYPE_REQUEST
from flux.core.handle import Flux
from flux.message import Message

if TYPE_CHECKING:
    from fluxlet.broker.broker import Broker


class Service(BrokerModule):
    """A built-in module. Subclasses decorate their methods with `request_handler` and `event_handler`."""

    def __init__(self, handle: Flux, broker: Broker, *args: str) -> None:
        self.broker = broker
        super().__init__(handle, *args)

    def _callback(self, method: Callable[[Message], Any]) -> Callable[[Flux, Any, Message, Any], Any]:
        def call(handle: Flux, watcher: Any, message: Message, args: Any) -> Any:
            try:
                return method(message)
            except OSError as exc:
                if message._type != FLUX_MSGTYPE_REQUEST:
                    raise
                if not message.flags & FLUX_MSGFLAG_NORESPONSE:
                    handle.respond_error(message, exc.errno or errno.EIO, exc.strerror)
                return None

        return call

    def stop_service(self) -> None:
        """Called when the module is unloaded: let go of timers, pending requests and whatever else it holds."""


def sender(message: Message) -> bytes:
    """The identity of a request's sender: its connection's route; empty for the broker itself (spec 01, 3.6)."""
    return message.routes[-1] if message.routes else b""


def may_end(request: Message, notice: Message) -> bool:
    """True if a disconnect notice or cancel request may end `request`: same sender, and the right (spec 01, 7.6)."""
    if sender(request) != sender(notice):
        return False
    return authorized(notice, request.userid)


def authorized(message: Message, userid: int) -> bool:
    """True if the sender of `message` is the instance owner, or the user `userid` (spec 01, 7.6)."""
    if message.rolemask & 1:
        return True
    return bool(message.rolemask & 2) and message.userid != 0xFFFFFFFF and message.userid == userid


def require_streaming(message: Message, text: str | None = None) -> None:
    """Raises OSError(EPROTO) for a request that does not ask for a stream."""
    if not message.flags & FLUX_MSGFLAG_STREAMING:
        raise OSError(errno.EPROTO, text)
