"""One process: its streams, its end, and who hears of them (spec 04, section 5).

    running --exit--> exited --last stream ends--> complete

Rules:
- In the foreground it belongs to a client, who hears everything until it is complete. In the background it belongs to
  nobody: it is recorded, and a client may listen for a while.
- What it has left behind in its process group is known to the guardian until it is gone, and signaled like itself: not
  by the group's number, which may be another's by then, but by what /proc says of who is in it.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flux.message import Message
from fluxlet.broker.guardian import members
from fluxlet.broker.process_end import ProcessEnd
from fluxlet.modules.rexec.command import Command
from fluxlet.modules.rexec.launch import NO_GROUP, Launched
from fluxlet.modules.rexec.listeners import Listener, Record
from fluxlet.modules.rexec.output import Pieces
from fluxlet.modules.rexec.streams import Input, Output

if TYPE_CHECKING:
    from fluxlet.modules.rexec.server import Host


class Process:
    """A process that has been started.

    Args:
        host: of the server.
        command: what runs.
        environ: its environment.
        launched: what there is of it.
        local_flags: with NO_GROUP it has no process group of its own.
        changed: called with this when it has ended, and when it is complete.
        later: called with an output that cannot go on now.

    Raises OSError if there are no descriptors left to watch it; it has been ended then.
    """

    def __init__(
        self,
        host: Host,
        command: Command,
        environ: dict[str, str],
        launched: Launched,
        local_flags: int,
        changed: Callable[[Process], None],
        later: Callable[[Output], None],
    ) -> None:
        self.pid = launched.pid
        self.command = command
        self.environ = environ
        self.status: int | None = None
        """As of wait(2); None while it runs."""
        self.client: Listener | None = None
        """Who hears of it now."""
        self.record: Record | None = None
        """Of one in the background."""
        self.waitable = False
        self.waiter: Message | None = None
        self.collected = False
        """Somebody has got its status; or nobody ever will."""
        self.noted = False
        """The server knows of its end."""
        self.key: tuple[bytes, int] | None = None
        """Sender and matchtag of the request that it belongs to, in the foreground."""
        self.credit = False
        """The client hears what its input buffers have room for."""
        self.outputs: dict[str, Output] = {}
        self.inputs: dict[str, Input] = {}
        self._host = host
        self._group = not local_flags & NO_GROUP
        self._changed = changed
        self._later = later
        for name, fd in launched.outputs.items():
            self._listen(name, fd, lambda fd=fd: os.close(fd))  # type: ignore[misc]  # bound at once
        if launched.stdin is not None:
            self.inputs["stdin"] = self._input("stdin", launched.stdin)
        for name, sock in launched.channels.items():
            self.inputs[name] = self._input(name, sock, shared=True)
            self._listen(name, sock.fileno(), sock.close)
        try:
            self.end = ProcessEnd(host.reactor, host.guardian, self.pid, self._ended)
        except OSError:
            # Nobody would ever know of its end.
            self.hang_up()
            os.kill(self.pid, signal.SIGKILL)
            if host.guardian is not None:
                host.guardian.remove_process(self.pid)
                host.guardian.remove_group(self.pid)
            os.waitpid(self.pid, 0)
            raise

    def _listen(self, name: str, fd: int, close: Callable[[], None]) -> None:
        options = self.command.stream(name)
        self.outputs[name] = Output(
            self._host.reactor,
            fd,
            Pieces(options.size, options.lines),
            lambda piece: self._output(name, piece),
            lambda: self._stream_ended(name),
            self._may_go_on,
            self._later,
            close,
        )

    def _input(self, name: str, sock: Any, shared: bool = False) -> Input:
        size = self.command.stream(name).size
        return Input(self._host.reactor, sock, size, lambda count: self._credit(name, count), shared)

    @property
    def label(self) -> str | None:
        """By which it may be called."""
        return self.command.label

    @property
    def background(self) -> bool:
        """It belongs to nobody."""
        return self.record is not None

    @property
    def complete(self) -> bool:
        """Nothing more will be heard of it."""
        return self.status is not None and all(output.closed for output in self.outputs.values())

    @property
    def state(self) -> str:
        """For lists: Z for one whose status is to be collected, else R."""
        return "Z" if self.waitable and self.status is not None else "R"

    # What comes from it.

    def _may_go_on(self) -> bool:
        return self.client is None or self.client.over or not self._host.congested(self.client.request)

    def _output(self, stream: str, piece: bytes) -> None:
        if self.client is not None:
            self.client.output(stream, piece)
        if self.record is not None and stream in ("stdout", "stderr"):
            self.record.output(stream, piece)

    def _stream_ended(self, stream: str) -> None:
        if self.client is not None:
            self.client.eof(stream)
        if stream in self.inputs:
            self.inputs[stream].close()
        if self.status is not None:
            self._settle()

    def _credit(self, stream: str, count: int) -> None:
        if self.credit and self.client is not None:
            self.client.tell({"type": "add-credit", "channels": {stream: count}})

    def grant(self) -> None:
        """From now on the client hears what its input buffers have room for; first, of their size."""
        self.credit = True
        for name, stream in self.inputs.items():
            self._credit(name, stream.size)

    def _ended(self, status: int) -> None:
        if self.record is not None:
            # Before anybody is told of the end.
            for output in tuple(self.outputs.values()):
                output.drain()
        self.status = status
        if self.client is not None:
            self.client.finish(status)
        self._settle()

    def _settle(self) -> None:
        """It has ended, and perhaps its streams have, too."""
        if self.record is None and (self.client is None or not self.client.open):
            self.hang_up()  # nobody listens to what is left
        self._changed(self)

    def leave(self) -> None:
        """The client has gone."""
        if self.client is not None:
            self.client.leave()
            self.client = None
        if self.status is not None:
            self._settle()

    # What goes to it.

    def signal(self, signum: int) -> None:
        """Sends a signal to it, and all in its group. Raises OSError with the text for the requestor."""
        name = "killpg" if self._group else "kill"
        try:
            if self.status is not None:
                self._signal_left_behind(signum)
            elif self._group:
                os.killpg(self.pid, signum)
            else:
                os.kill(self.pid, signum)
        except OSError as exc:
            raise OSError(exc.errno, f"{name}: {os.strerror(exc.errno or errno.EIO)}") from None

    def _signal_left_behind(self, signum: int) -> None:
        found = members(self.pid, self.environ["FLUX_URI"]) if self._group else set()
        if not found:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        for pid in found:
            os.kill(pid, signum)

    def hang_up(self) -> None:
        """Lets go of its streams, and of what refers to it."""
        for stream in self.inputs.values():
            stream.close()
        for output in self.outputs.values():
            output.close()
        self.inputs, self.outputs = {}, {}

    @property
    def has_left_somebody(self) -> bool:
        """After its end: there are still others in its process group."""
        if not self._group:
            return False
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
