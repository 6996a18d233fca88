"""Log messages to the instance: the request `log.append` with an RFC 5424 text (spec 02, 2.4; spec 03, section 8)."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flux.message import Message

if TYPE_CHECKING:
    from flux.core.flux_t import FluxT

_AUX = b"flux::log"
_APPNAME_MAX = 48


class LogIdentity:
    """Who log messages of a handle are from; None stands for what is true of the process."""

    def __init__(self) -> None:
        self.appname: str | None = None
        self.procid: str | None = None
        self.hostname: str | None = None  # the reference puts the broker's rank in this place

    @property
    def shown_appname(self) -> str:
        """The program name as it is sent: the interpreter's, as in the reference, unless set."""
        return (self.appname or os.path.basename(sys.executable or "python3"))[:_APPNAME_MAX]


def identity(ctx: FluxT) -> LogIdentity:
    """The identity of a handle, to be read or changed."""
    found = ctx.aux.get(_AUX)
    if not isinstance(found, LogIdentity):
        found = ctx.aux[_AUX] = LogIdentity()
    return found


def append(ctx: FluxT, level: int, text: bytes) -> None:
    """Logs `text`, each line as a message of its own; silent once the connection is gone."""
    if not ctx.subscribes and ctx.link.connector.attributes is not None:
        return  # a loop: the message would come back to its sender
    who = identity(ctx)
    try:
        host = who.hostname or ctx.attr_get("rank")
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        head = f"<{8 * level}>1 {stamp} {host} {who.shown_appname} {who.procid or os.getpid()} - - ".encode()
        lines = text.rstrip(b"\r\n").replace(b"\r", b"\n").split(b"\n")
        for line in [line for line in lines if line] or [b""]:
            ctx.send(Message.request(b"log.append", head + line))
    except OSError:
        return  # documented: logging is silent once the broker is gone
