"""Service: the base class of the built-in modules.

It is a `flux.brokermod.BrokerModule` like any user's, with two conveniences. The broker is at hand as `broker`
(what only the broker itself can know or do). And a handler that raises OSError has answered its request with that
errno and text: validation is one call that raises.
"""

from __future__ import annotations

import errno
from binascii import b2a_base64
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from flux.brokermod import BrokerModule
from flux.constants import (
    FLUX_MSGFLAG_NORESPONSE,
    FLUX_MSGFLAG_STREAMING,
    FLUX_MSGTYPE_REQUEST,
    FLUX_NODEID_ANY,
    FLUX_ROLE_ALL,
)
from flux.core.codec import dump_payload
from flux.core.future_state import RpcState
from flux.core.handle import Flux
from flux.message import Message

if TYPE_CHECKING:
    from fluxlet.broker.broker import Broker
    from fluxlet.broker.host import Module


class Service(BrokerModule):
    """A built-in module. Subclasses decorate their methods with `request_handler` and `event_handler`."""

    def __init__(self, handle: Flux, broker: Broker, *args: str) -> None:
        self.broker = broker
        self.module: Module = handle.core.aux[b"fluxlet::module"]  # type: ignore[assignment]  # set by the Module
        self._asked: set[RpcState] = set()  # what `ask` waits for
        super().__init__(handle, *args)

    def _loaded_as(self, h: Flux) -> str:
        # Without the C library's names, whose tables take a millisecond or two to load.
        return self.module.name

    def debug_test(self, flag: int, clear: bool = False) -> bool:
        """As BrokerModule's; it is asked for every client that connects."""
        flags = self.module.debug_flags
        if clear:
            self.module.debug_flags = flags & ~flag
        return bool(flags & flag)

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

    def serve_all(self, topic: str, method: Callable[[Message], Any]) -> None:
        """Makes `method` the handler of NAME.`topic` for every role: for what connected guests may always ask."""
        watcher = self.handle.msg_watcher_create(
            self._callback(method), FLUX_MSGTYPE_REQUEST, f"{self.name}.{topic}", rolemask=FLUX_ROLE_ALL
        )
        watcher.start()
        self._watchers.append(watcher)

    def answer(self, request: Message, raw: bytes | None = None) -> None:
        """Answers a request with success; `raw` is the payload as it goes on the wire. The shortest way."""
        if not request.flags & FLUX_MSGFLAG_NORESPONSE:
            self.module.post(request.response(raw))

    def answer_all(self, request: Message, raws: list[bytes]) -> None:
        """As `answer` for each payload, in less time: the next of a stream."""
        if len(raws) == 1:
            self.answer(request, raws[0])
        elif raws and not request.flags & FLUX_MSGFLAG_NORESPONSE:
            self.module.post_stream(request.response(), raws)

    def abandon(self, requests: Iterable[Message]) -> None:
        """Fails the requests that a module leaves open when it ends (spec 03, 13.4)."""
        for request in requests:
            self.handle.respond_error(request, errno.EHOSTUNREACH, "module disconnect")

    def ask(
        self,
        topic: bytes,
        raw: bytes | None,
        then: Callable[[RpcState], None],
        user: Message | None = None,
        nodeid: int = FLUX_NODEID_ANY,
    ) -> None:
        """Sends a request and calls `then` with its outcome at once when the response arrives: the shortest way.

        Args:
            topic: the method.
            raw: the payload as it goes on the wire.
            then: called with what `errnum`, `errtext` and the response message `value` are in.
            user: the request of somebody for whom we ask: this one has his userid and roles; None: our own.
            nodeid: where it goes.
        """
        if user is not None:
            self.module.connector.credentials = (user.userid, user.rolemask)
        state = self.handle.core.rpc(topic, raw, nodeid, 0)
        if state.ready:
            then(state)
            return
        asked = self._asked
        asked.add(state)

        def answered() -> None:
            asked.discard(state)
            state.hooks = None  # no reference cycle
            then(state)

        state.add_hook(answered)

    def forget_asked(self) -> None:
        """The module ends: nobody is told any more what has been asked."""
        for state in self._asked:
            state.hooks = None
        self._asked.clear()

    async def publish(self, topic: str, payload: Any = None) -> int:
        """Publishes an event, and returns its sequence number when it is on its way to all (spec 01, 5.3).

        Raises OSError, EHOSTUNREACH if rank 0 cannot be reached.
        """
        request: dict[str, Any] = {"topic": topic, "flags": 0}
        raw = dump_payload(payload)
        if raw is not None:
            request["payload"] = b2a_base64(raw, newline=False).decode()
        answer = await self.handle.rpc("event.publish", request, 0)
        return int(answer["seq"])

    async def start_service(self) -> None:
        """Called when the handlers are registered: for what takes awaiting others before the module runs.

        Until it has returned the module is being loaded, and rc1 does not go on. OSError: it cannot be loaded.
        """

    def by_messages(self) -> None:
        """Called when other modules of the broker may no longer call this one, in place of sending it messages."""

    async def finish_service(self) -> None:
        """Called before the module is removed in an orderly way: for what takes awaiting others at the end.

        It still serves meanwhile. An OSError is logged, and the module is removed all the same.
        """

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


def check_no_payload(message: Message) -> None:
    """For methods without arguments: any text is ignored, what is no text is OSError(EPROTO) (spec 01, 1.7)."""
    if message.raw is not None and message.raw[-1:] != b"\0":
        raise OSError(errno.EPROTO, None)
