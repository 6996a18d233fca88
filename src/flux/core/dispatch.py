"""Which handler gets a message: match rules and order of dispatch (spec 01, 6.1 and 6.5)."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from flux.constants import (
    FLUX_MSGFLAG_NORESPONSE,
    FLUX_MSGTYPE_ANY,
    FLUX_MSGTYPE_EVENT,
    FLUX_MSGTYPE_REQUEST,
    FLUX_MSGTYPE_RESPONSE,
    FLUX_ROLE_OWNER,
)
from flux.reactor import tls
from flux.wrapper import local_error

if TYPE_CHECKING:
    from flux.core.flux_t import FluxT
    from flux.message import Message

_SPECIAL = re.compile(rb"[*?[]").search

#: POSIX character classes inside brackets, for the ASCII topics that globs with classes are about.
_CLASSES = {
    "alpha": "a-zA-Z",
    "digit": "0-9",
    "alnum": "a-zA-Z0-9",
    "upper": "A-Z",
    "lower": "a-z",
    "space": r"\s",
    "blank": r" \t",
    "punct": r"!-/:-@\[-`{-~",
    "xdigit": "0-9A-Fa-f",
    "cntrl": r"\x00-\x1f\x7f",
    "print": r"\x20-\x7e",
    "graph": r"\x21-\x7e",
}


def is_glob(topic: bytes) -> bool:
    """True if the text is a pattern; without `*`, `?` and `[` it is an exact topic."""
    return _SPECIAL(topic) is not None


def _bracket(glob: str, start: int) -> tuple[str, int] | None:
    """The regular expression of the bracket that opens at `start`, and where it ends; None if it never closes."""
    pos = start + 1
    negate = glob[pos : pos + 1] in ("!", "^")
    pos += negate
    items = []
    first = pos
    while pos < len(glob) and (glob[pos] != "]" or pos == first):
        if glob.startswith("[:", pos) and (end := glob.find(":]", pos)) > 0:
            name = glob[pos + 2 : end]
            if name not in _CLASSES:
                return None
            items.append(_CLASSES[name])
            pos = end + 2
            continue
        if glob[pos] == "\\" and pos + 1 < len(glob):
            pos += 1
        low = glob[pos]
        pos += 1
        if glob[pos : pos + 1] == "-" and glob[pos + 1 : pos + 2] not in ("", "]"):
            high = glob[pos + 1]
            pos += 2
            if low <= high:
                items.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            items.append(re.escape(low))
    if pos >= len(glob):
        return None
    if not items:
        return ("." if negate else "(?!)"), pos + 1
    return f"[{'^' if negate else ''}{''.join(items)}]", pos + 1


@lru_cache(maxsize=1024)
def glob_matcher(glob: bytes) -> Callable[[bytes], bool]:
    """A function that tells whether a topic matches a glob, as fnmatch(3) without flags does."""
    if not is_glob(glob):
        return glob.__eq__
    if glob.endswith(b"*") and not is_glob(glob[:-1]) and b"\\" not in glob:
        prefix = glob[:-1]
        return lambda topic: topic.startswith(prefix)
    text = glob.decode("utf-8", "surrogateescape")
    out = []
    pos = 0
    while pos < len(text):
        char = text[pos]
        pos += 1
        if char == "*":
            out.append(".*")
        elif char == "?":
            out.append(".")
        elif char == "[" and (bracket := _bracket(text, pos - 1)) is not None:
            out.append(bracket[0])
            pos = bracket[1]
        elif char == "\\" and pos < len(text):
            out.append(re.escape(text[pos]))
            pos += 1
        else:
            out.append(re.escape(char))
    match = re.compile("".join(out), re.DOTALL).fullmatch
    return lambda topic: match(topic.decode("utf-8", "surrogateescape")) is not None


class Match:
    """typemask, matchtag and topic glob that a message must meet (spec 01, 6.1).

    Args:
        typemask: FLUX_MSGTYPE_* bits, 0 for any.
        matchtag: FLUX_MATCHTAG_NONE for any.
        glob: pattern or exact topic; None, empty or ``*`` for any message, even without topic.
    """

    __slots__ = ("_accepts", "glob", "matchtag", "typemask")

    def __init__(self, typemask: int = FLUX_MSGTYPE_ANY, matchtag: int = 0, glob: bytes | None = None) -> None:
        self.typemask = typemask
        self.matchtag = matchtag
        self.glob = glob
        self._accepts = None if glob in (None, b"", b"*") else glob_matcher(glob or b"")

    def accepts(self, message: Message) -> bool:
        """True if `message` matches."""
        if self.typemask and not message._type & self.typemask:
            return False
        if self.matchtag and (
            message._type not in (FLUX_MSGTYPE_REQUEST, FLUX_MSGTYPE_RESPONSE)
            or message.aux2 != self.matchtag
            or message.routes
        ):
            return False
        if self._accepts is None:
            return True
        return message.topic_bytes is not None and self._accepts(message.topic_bytes)

    @property
    def exact_request(self) -> bool:
        """True for the requests of one topic: such handlers are found by lookup, before all others."""
        return (
            self.typemask == FLUX_MSGTYPE_REQUEST
            and not self.matchtag
            and self._accepts is not None
            and not is_glob(self.glob or b"")
        )


class Handler:
    """A message handler of a handle: created stopped, allowed for the instance owner and `rolemask`.

    Raises OSError(EEXIST) for a second handler of the same response matchtag.
    """

    __slots__ = ("active", "callback", "ctx", "destroyed", "match", "referenced", "rolemask")

    def __init__(self, ctx: FluxT, match: Match, callback: Callable[[Message], None], rolemask: int) -> None:
        self.ctx = ctx
        self.match = match
        self.callback = callback
        self.rolemask = rolemask | FLUX_ROLE_OWNER
        self.active = False
        self.referenced = True
        self.destroyed = False
        ctx.dispatcher.add(self)

    def start(self) -> None:
        """Begins to receive; no-op if it does, or after destroy."""
        if not self.active and not self.destroyed:
            self.active = True
            self.ctx.handler_started(self.referenced, 1)

    def stop(self) -> None:
        """Stops receiving."""
        if self.active:
            self.active = False
            self.ctx.handler_started(self.referenced, -1)

    def ref(self) -> None:
        """Undoes `unref`."""
        self._set_referenced(True)

    def unref(self) -> None:
        """This handler does not keep the loop running."""
        self._set_referenced(False)

    def _set_referenced(self, referenced: bool) -> None:
        if self.referenced != referenced:
            active = self.active
            self.stop()
            self.referenced = referenced
            if active:
                self.start()

    def destroy(self) -> None:
        """Stops for good, and uncovers what this handler covered."""
        self.stop()
        if not self.destroyed:
            self.destroyed = True
            self.ctx.dispatcher.remove(self)


class Dispatcher:
    """The handlers of one handle, and the choice among them."""

    __slots__ = ("exact", "general", "tagged")

    def __init__(self) -> None:
        self.exact: dict[bytes, list[Handler]] = {}  # requests of one topic; newest last
        self.general: list[Handler] = []  # all others; newest first
        self.tagged: dict[int, Handler] = {}  # responses of one matchtag

    def add(self, handler: Handler) -> None:
        """Takes in a new handler."""
        match = handler.match
        if match.exact_request:
            self.exact.setdefault(match.glob or b"", []).append(handler)
        elif match.typemask == FLUX_MSGTYPE_RESPONSE and match.matchtag:
            if match.matchtag in self.tagged:
                raise local_error(errno.EEXIST)
            self.tagged[match.matchtag] = handler
        else:
            # A new list: dispatch may be walking over the old one.
            self.general = [handler, *self.general]

    def remove(self, handler: Handler) -> None:
        """Forgets a handler."""
        match = handler.match
        stack = self.exact.get(match.glob or b"")
        if match.exact_request and stack is not None:
            stack.remove(handler)
            if not stack:
                del self.exact[match.glob or b""]
        elif self.tagged.get(match.matchtag) is handler:
            del self.tagged[match.matchtag]
        else:
            self.general = [other for other in self.general if other is not handler]

    def takes(self, message: Message) -> bool:
        """True if there is a handler for the message, if only to refuse it."""
        stack = self.exact.get(message.topic_bytes or b"") if message._type == FLUX_MSGTYPE_REQUEST else None
        if stack and stack[-1].active:
            return True
        if message._type == FLUX_MSGTYPE_RESPONSE and message.aux2 in self.tagged and message.routes == ():
            return self.tagged[message.aux2].active
        return any(handler.active and handler.match.accepts(message) for handler in self.general)

    def dispatch(self, ctx: FluxT, message: Message) -> None:
        """Hands a message to the handlers it is for; answers a request that none takes or that is refused."""
        kind = message._type
        if kind == FLUX_MSGTYPE_REQUEST:
            stack = self.exact.get(message.topic_bytes)  # type: ignore[arg-type]  # None is in no dict
            if stack and stack[-1].active:
                handler = stack[-1]
                if message._rolemask & handler.rolemask:
                    handler.callback(message)
                else:
                    _refuse(ctx, handler, message)
                return
        elif kind == FLUX_MSGTYPE_EVENT:
            self._dispatch_event(ctx, message)
            return
        elif kind == FLUX_MSGTYPE_RESPONSE and message.aux2 and message.routes == ():
            tagged = self.tagged.get(message.aux2)
            if tagged is not None and tagged.active:
                if message._rolemask & tagged.rolemask:
                    tagged.callback(message)
                return
        for handler in self.general:
            if handler.active and handler.match.accepts(message):
                if message._rolemask & handler.rolemask:
                    handler.callback(message)
                elif kind == FLUX_MSGTYPE_REQUEST:
                    _refuse(ctx, handler, message)
                return
        if kind == FLUX_MSGTYPE_REQUEST and not message.flags & FLUX_MSGFLAG_NORESPONSE:
            topic = message.topic_bytes or b""
            ctx.send(message.response((b"Unknown service method '" + topic + b"'")[:255] + b"\0", errno.ENOSYS))

    def _dispatch_event(self, ctx: FluxT, message: Message) -> None:
        """All matches get it, newest first; one that raises does not keep it from the others."""
        for handler in self.general:
            if not (handler.active and handler.match.accepts(message)):
                continue
            if message._rolemask & handler.rolemask:
                try:
                    handler.callback(message)
                except Exception as exc:  # noqa: BLE001  # kept for reactor_run to raise (spec 02, 4.3)
                    tls.exception = exc
                    ctx.stop_error()


def _refuse(ctx: FluxT, handler: Handler, message: Message) -> None:
    """Answers a request whose sender lacks the role (spec 01, 6.5)."""
    if not message.flags & FLUX_MSGFLAG_NORESPONSE:
        owner_only = handler.rolemask == FLUX_ROLE_OWNER
        text = b"Request requires owner credentials\0"
        if not owner_only:
            text = b"Request rejected due to insufficient privilege\0"
        ctx.send(message.response(text, errno.EPERM))
