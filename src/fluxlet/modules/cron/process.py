"""The process of a task, run by the service `rexec` of some rank (spec 04, section 5).

A task has ended when its process has: what that has left behind may keep the output open for as long as it likes,
and is listened to. Its standard input is at its end.
"""

from __future__ import annotations

import errno
import signal
from base64 import b64decode
from collections.abc import Callable
from typing import Any

from flux.constants import FLUX_RPC_NORESPONSE, FLUX_RPC_STREAMING
from flux.core.handle import Flux
from flux.reactor import Reactor
from flux.rpc import RPC

_STDOUT, _STDERR = 1, 2
#: Seconds from the request to end until the demand.
_GRACE = 5.0


class Process:
    """A command on its way, or running.

    Args:
        handle: that of the module.
        reactor: for the time between SIGTERM and SIGKILL.
        rank: where it runs.
        command: a line for the shell.
        cwd: its directory; None: that of the rank's broker.
        environ: its environment; None: that of the rank's broker.
        on_started: called with its process id.
        on_line: called with `stdout` or `stderr` and a line of output, without its end.
        on_finished: called once, with its status as of wait(2).
        on_lost: called instead, with errno and text: it could not be started, or its rank has gone.
    """

    def __init__(
        self,
        handle: Flux,
        reactor: Reactor,
        rank: int,
        command: str,
        cwd: str | None,
        environ: dict[str, str] | None,
        on_started: Callable[[int], None],
        on_line: Callable[[str, str], None],
        on_finished: Callable[[int], None],
        on_lost: Callable[[int, str], None],
    ) -> None:
        self._handle = handle
        self._rank = rank
        self._on_started = on_started
        self._on_line = on_line
        self._on_finished = on_finished
        self._on_lost = on_lost
        self.pid = 0
        self.ended = False
        self._to_end = False
        self._kill_timer = reactor.timer(_GRACE, 0.0, lambda: self.kill(signal.SIGKILL))
        # The empty environment stands for the server's.
        cmd: dict[str, Any] = {"cmdline": ["/bin/sh", "-c", command], "env": environ or {}, "opts": {}, "channels": []}
        if cwd is not None:
            cmd["cwd"] = cwd
        request = {"cmd": cmd, "flags": _STDOUT | _STDERR, "local_flags": 0}
        self._rpc = RPC(handle, "rexec.exec", request, rank, FLUX_RPC_STREAMING)
        self._rpc.then(self._answered)

    def end(self) -> None:
        """Asks the process to end, as soon as it runs; makes it end if it does not."""
        self._to_end = True
        if self.pid and not self.ended:
            self.kill(signal.SIGTERM)
            self._kill_timer.reset(_GRACE, 0.0)

    def kill(self, signum: int) -> None:
        """Sends a signal to the process, and all in its group."""
        self._send("kill", {"pid": self.pid, "signum": int(signum)})

    def close(self) -> None:
        """Nobody is interested any more."""
        self._kill_timer.stop()
        self._rpc.stop()

    def _send(self, method: str, payload: dict[str, Any]) -> None:
        RPC(self._handle, f"rexec.{method}", payload, self._rank, FLUX_RPC_NORESPONSE)

    def _answered(self, rpc: RPC) -> None:
        try:
            answer = rpc.get()
        except OSError as exc:
            self._over(exc)
            return
        kind = answer["type"]
        if kind == "started":
            self.pid = answer["pid"]
            end_of_file = {"stream": "stdin", "rank": str(self._rank), "eof": True}
            self._send("write", {"matchtag": rpc.handle.matchtag, "io": end_of_file})  # type: ignore[union-attr]
            self._on_started(self.pid)
            if self._to_end:
                self.end()
        elif kind == "output":
            self._output(answer["io"])
        elif kind == "finished":
            self.ended = True
            self._kill_timer.stop()
            self._on_finished(answer["status"])
        rpc.reset()

    def _output(self, io: dict[str, Any]) -> None:
        text = io.get("data", "")
        if io.get("encoding") == "base64":
            text = b64decode(text).decode("utf-8", "replace")
        text = text.rstrip("\r\n")
        if text:
            self._on_line(io["stream"], text)

    def _over(self, exc: OSError) -> None:
        """The stream has ended."""
        if not self.ended:
            self.ended = True
            self._kill_timer.stop()
            if exc.errno == errno.ENODATA:
                self._on_lost(errno.EPROTO, "the end of the process was not told")
            else:
                self._on_lost(exc.errno or errno.EIO, exc.strerror or "")
