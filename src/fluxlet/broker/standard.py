"""The methods that every module answers, and `broker` too (spec 03, 12.2); the same in all processes."""

from __future__ import annotations

import errno
import resource
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from flux.constants import (
    FLUX_MSGFLAG_NORESPONSE,
    FLUX_MSGTYPE_EVENT,
    FLUX_MSGTYPE_REQUEST,
    FLUX_ROLE_ALL,
    FLUX_ROLE_OWNER,
    FLUX_ROLE_USER,
)
from flux.core.dispatch import Handler, Match
from flux.message import Message
from fluxlet.payload import decode, read_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux.core.handle import Flux

_encode = msgspec.json.Encoder().encode
_USERS = FLUX_ROLE_OWNER | FLUX_ROLE_USER

_WHO = {"self": resource.RUSAGE_SELF, "children": resource.RUSAGE_CHILDREN}
if hasattr(resource, "RUSAGE_THREAD"):
    _WHO["thread"] = resource.RUSAGE_THREAD

_TYPES = {"request": 1, "response": 2, "event": 4, "control": 8}

_RUSAGE_FIELDS = (
    "maxrss",
    "ixrss",
    "idrss",
    "isrss",
    "minflt",
    "majflt",
    "nswap",
    "inblock",
    "oublock",
    "msgsnd",
    "msgrcv",
    "nsignals",
    "nvcsw",
    "nivcsw",
)


class DebugRequest(msgspec.Struct):
    """Payload of NAME.debug."""

    op: str
    flags: int


def _signed(number: int) -> int:
    """As the reference prints an unsigned 32-bit number."""
    return number - (1 << 32) if number >= 1 << 31 else number


@lru_cache(maxsize=4096)
def route_text(routes: tuple[bytes, ...]) -> str:
    """The route string of a request: oldest hop first, each cut to 8 characters."""
    return "!".join([route[:8].decode("utf-8", "replace") for route in reversed(routes)])


class StandardModule(Protocol):
    """What is to be known of a module."""

    name: str
    flux: Flux
    debug_flags: int
    #: Messages by their type number.
    sent: list[int]
    received: list[int]

    @property
    def rank(self) -> int:
        """Of its broker."""
        ...

    def post(self, message: Message) -> None:
        """Sends a message."""
        ...

    def leave(self) -> None:
        """Ends the module, as if it was removed."""
        ...


class StandardMethods:
    """Registers the standard methods on a module's handle; the module's own methods go before them.

    Args:
        module: whose methods they are.
        hop: the identity that ends the route in answers to ping; "" for the broker itself, which does not leave.
    """

    def __init__(self, module: StandardModule, hop: str) -> None:
        self.module = module
        methods: list[tuple[str, Callable[[Message], Any], int]] = [
            ("ping", self._ping, _USERS),
            ("stats-get", self._stats_get, FLUX_ROLE_ALL),
            ("stats-clear", self._stats_clear, FLUX_ROLE_OWNER),
            ("rusage", self._rusage, _USERS),
            ("debug", self._debug, FLUX_ROLE_OWNER),
            ("config-reload", self._acknowledge, FLUX_ROLE_OWNER),
            ("config-update", self._acknowledge, FLUX_ROLE_OWNER),
        ]
        if hop:
            methods.append(("shutdown", self._shutdown, FLUX_ROLE_OWNER))
        for name, method, roles in methods:
            match = Match(FLUX_MSGTYPE_REQUEST, 0, f"{module.name}.{name}".encode())
            Handler(module.flux.core, match, partial(self._answer, method), roles).start()
        # All ranks at once are told by an event.
        clear = f"{module.name}.stats-clear"
        module.flux.event_subscribe(clear)
        Handler(
            module.flux.core, Match(FLUX_MSGTYPE_EVENT, 0, clear.encode()), self._stats_clear, FLUX_ROLE_OWNER
        ).start()
        # What does not change is worked out once: ping is what everybody measures.
        self._route_suffix = f"!{hop[:8]}" if hop else ""

    def _answer(self, method: Callable[[Message], Any], message: Message) -> None:
        try:
            answer = method(message)
        except OSError as exc:
            self.module.flux.respond_error(message, exc.errno or errno.EIO, exc.strerror)
            return
        if not message.flags & FLUX_MSGFLAG_NORESPONSE:
            self.module.post(message.response(None if answer is None else _encode(answer) + b"\0"))

    def _ping(self, message: Message) -> dict[str, Any]:
        try:
            answer = read_object(message)
        except OSError:
            raise OSError(errno.EPROTO, None) from None
        answer["route"] = route_text(message.routes or ()) + self._route_suffix
        answer["userid"] = _signed(message._userid)
        answer["rolemask"] = _signed(message._rolemask)
        answer["rank"] = self.module.rank
        return answer

    def _stats_get(self, message: Message) -> dict[str, Any]:
        counts = {"tx": self.module.sent, "rx": self.module.received}
        return {way: {name: count[kind] for name, kind in _TYPES.items()} for way, count in counts.items()}

    def _stats_clear(self, message: Message) -> None:
        self.module.sent[:] = self.module.received[:] = [0] * 9

    def _rusage(self, message: Message) -> dict[str, Any]:
        who = "self"
        if message.raw is not None:
            try:
                who = read_object(message).get("who", "self")
            except OSError:
                who = "self"  # its key is optional: what does not decode means the default (spec 01, 1.7)
        if not isinstance(who, str):
            who = "self"
        if who not in _WHO:
            raise OSError(errno.EINVAL, f"{who} is unsupported")
        usage = resource.getrusage(_WHO[who])
        return {
            "utime": usage.ru_utime,
            "stime": usage.ru_stime,
            **{name: getattr(usage, "ru_" + name) for name in _RUSAGE_FIELDS},
        }

    def _debug(self, message: Message) -> dict[str, int]:
        request = decode(message, DebugRequest)
        flags = self.module.debug_flags
        match request.op:
            case "setbit":
                flags |= request.flags
            case "clrbit":
                flags &= ~request.flags
            case "set":
                flags = request.flags
            case "clr":
                flags = 0
            case _:
                raise OSError(errno.EPROTO, None)
        self.module.debug_flags = flags
        return {"flags": flags}

    def _shutdown(self, message: Message) -> None:
        self.module.leave()

    def _acknowledge(self, message: Message) -> None:
        """A module that has no configuration accepts every one."""
