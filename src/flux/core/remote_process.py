"""A process in the foreground on any rank: its input and output are the caller's, and it ends with the caller.

`RemoteProcess` is one such process by callbacks (RFC 42; spec 04, 5.2). `flux exec` and `AsyncFlux.subprocess` are made
of it. Nothing here is imported that a small command would not need.
"""

from __future__ import annotations

import errno
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from flux.constants import FLUX_NODEID_ANY, FLUX_RPC_NORESPONSE, FLUX_RPC_STREAMING
from flux.rpc import RPC

if TYPE_CHECKING:
    from flux.core.handle import Flux

#: Flags of rexec.exec.
STDOUT, STDERR, CHANNELS, CREDIT = 1, 2, 4, 8

#: What may be written before the server says how much, where it does not say at all.
_UNLIMITED = 1 << 62


class RemoteProcess:
    """A process on some rank; or, with `attach`, one in the background that the caller listens to.

    Args:
        handle: a connection to the instance.
        command: its command object, as `flux.subprocess.command_create` makes it.
        nodeid: the rank.
        service: what runs it.
        flags: STDOUT, STDERR, CHANNELS: what is heard of; CREDIT: `credit` is kept.
        attach: instead of a command: ``{"pid": i}`` or ``{"pid": -1, "label": s}``.

    Set the callbacks before the handle's reactor runs:

        on_started(): `pid` is known.
        on_output(stream, data): data is bytes; empty: the stream has ended.
        on_credit(): more may be written.
        on_stopped(): it was stopped by a signal.
        on_finished(): `status` is known; there may still be output.
        on_end(): nothing more will be heard: it is complete, or `error` says why not.
    """

    def __init__(
        self,
        handle: Flux,
        command: Mapping[str, Any] | None,
        nodeid: int = FLUX_NODEID_ANY,
        service: str = "rexec",
        flags: int = STDOUT | STDERR | CREDIT,
        attach: Mapping[str, Any] | None = None,
    ) -> None:
        self.handle = handle
        self.nodeid = nodeid
        self.service = service
        self.pid = 0
        self.status: int | None = None
        """As of wait(2); None as long as it runs."""
        self.error: OSError | None = None
        self.ended = False
        """`on_end` has been called."""
        self.credit: dict[str, int] = {}
        """Bytes that may be written, by stream."""
        self.on_started: Callable[[], None] = _nothing
        self.on_output: Callable[[str, bytes], None] = lambda stream, data: None
        self.on_credit: Callable[[], None] = _nothing
        self.on_stopped: Callable[[], None] = _nothing
        self.on_finished: Callable[[], None] = _nothing
        self.on_end: Callable[[], None] = _nothing
        self._attached = attach is not None
        if not flags & CREDIT:
            self.credit["stdin"] = _UNLIMITED
        if attach is None:
            topic, request = "exec", {"cmd": command, "flags": flags, "local_flags": 0}
        else:
            topic, request = "attach", {**attach, "flags": flags}
        self._rpc = RPC(handle, f"{service}.{topic}", request, nodeid, FLUX_RPC_STREAMING)
        self._rpc.then(self._answered)

    @property
    def running(self) -> bool:
        """It has been started and, so far as is known, not ended."""
        return bool(self.pid) and self.status is None and not self.ended

    def write(self, data: bytes, eof: bool = False, stream: str = "stdin") -> None:
        """Sends input; not more than `credit`, or the process is ended. May be called before it has started."""
        self.write_io(io_object(stream, data, eof), len(data), stream)

    def write_io(self, io: str, size: int, stream: str = "stdin") -> None:
        """As `write`: what `io_object` has made of `size` bytes. For input that goes to several processes."""
        if self.ended or self._attached:
            return
        if stream in self.credit:
            self.credit[stream] -= size
        text = f'{{"matchtag": {self._rpc._state.matchtag}, "io": {io}}}'
        RPC(self.handle, f"{self.service}.write", text, self.nodeid, FLUX_RPC_NORESPONSE)

    def kill(self, signum: int) -> RPC:
        """Sends a signal to it and its group: a future."""
        return RPC(self.handle, f"{self.service}.kill", {"pid": self.pid, "signum": int(signum)}, self.nodeid)

    def forget(self) -> None:
        """No callback is called any more. The process goes on: it ends by a signal, or with the connection."""
        self.ended = True
        self._rpc.stop()

    def _answered(self, rpc: RPC) -> None:
        try:
            answer = rpc.get()
        except OSError as exc:
            self.ended = True
            if exc.errno != errno.ENODATA:
                self.error = exc
            self.on_end()
            return
        kind = answer["type"]
        if kind == "output":
            io = answer["io"]
            data = io.get("data")
            if data:
                raw = b64decode(data) if io.get("encoding") == "base64" else data.encode("utf-8", "surrogateescape")
                self.on_output(io["stream"], raw)
            if io.get("eof"):
                self.on_output(io["stream"], b"")
        elif kind == "add-credit":
            for stream, count in answer["channels"].items():
                self.credit[stream] = self.credit.get(stream, 0) + count
            self.on_credit()
        elif kind in ("started", "attached"):
            self.pid = answer["pid"]
            self.on_started()
        elif kind == "finished":
            self.status = answer["status"]
            self.on_finished()
        elif kind == "stopped":
            self.on_stopped()
        if not self.ended:
            rpc.reset()


def _nothing() -> None:
    """What a callback does that nobody has set."""


def io_object(stream: str, data: bytes, eof: bool = False) -> str:
    """An IO object (RFC 24) as JSON text: its data as text if it is UTF-8, else base64."""
    io: dict[str, Any] = {"stream": stream, "rank": "0"}
    if data:
        try:
            io["data"] = data.decode()
        except UnicodeDecodeError:
            io["data"] = b64encode(data).decode()
            io["encoding"] = "base64"
    if eof:
        io["eof"] = True
    return json.dumps(io, ensure_ascii=False)
