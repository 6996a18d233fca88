"""A module that is a process of its own (spec 03, 13.4). It speaks the protocol of the local socket with us.

    we start LOADER PATH with FLUX_MODULE_URI=fd://N; we say `welcome`
    module.status {status: 1}: it runs
    we say NAME.shutdown, or it comes to its end by itself
    module.status {status: 2}: nothing new is sent to it; it still answers what it has got
    module.status {status: 3, errnum}: it is done, and the process ends

Rules:
- Nothing that the process does, or does not do, stops the broker: it may raise, hang, exit or be killed.
- It is gone when its process is. What it has not answered then fails with EHOSTUNREACH "module disconnect".
- An end that nobody has asked for and that is not a plain return is a failure of the module, and so one of the
  instance (`Broker.module_died`).
- A module that does not read is ended once more than a client's share of memory waits for it.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from syslog import LOG_ERR
from time import monotonic
from typing import TYPE_CHECKING, Any

from flux.constants import FLUX_MSGFLAG_NORESPONSE, FLUX_POLLIN
from flux.core.codec import dump_payload
from flux.message import Message
from flux.wire import Framer, encode
from fluxlet.broker.attributes import IMMUTABLE, entry
from fluxlet.broker.child import Child
from fluxlet.broker.loaded import STATUS_EXITED, STATUS_FINALIZING, LoadedModule
from fluxlet.broker.program import find_program, program_environment
from fluxlet.broker.router import LOCAL_OWNER
from fluxlet.broker.writer import Writer

if TYPE_CHECKING:
    from fluxlet.broker.broker import Broker

_READ_SIZE = 65536
#: Seconds that a process may take to end after its connection has.
_GRACE = 5.0
#: The same, when the broker itself is about to end.
_LAST_GRACE = 1.0


class ProcessModule(LoadedModule, Writer):
    """A module in a process of its own; started by construction.

    Args:
        broker: that loads it.
        name: its service name.
        path: of its file.
        argv: the command that runs it.
        label: what messages call that command.
        args: the module's arguments.
        changed: called with the module when its status has changed; the last time when it is gone.

    Raises OSError if the command cannot be started.
    """

    def __init__(
        self,
        broker: Broker,
        name: str,
        path: str,
        argv: list[str],
        label: str,
        args: list[str],
        changed: Callable[[ProcessModule], None],
    ) -> None:
        LoadedModule.__init__(self, broker, name, path)
        self.pending = {}
        self.argv = argv
        self.label = label
        self.errnum: int | None = None
        """What the module says of its end: 0 for a good one; None as long as it has not said."""
        self.exit_code: int | None = None
        """Of the process, as os.waitstatus_to_exitcode has it; None while it runs."""
        self.ending = False
        """It was told to end, and may do so in any way."""
        self._killed = False
        self._changed = changed
        self._framer = Framer(broker.server.limits.frame)
        ours, theirs = socket.socketpair()
        with theirs:
            self._sock = ours
            ours.setblocking(False)
            Writer.__init__(self, ours, broker.reactor.fd(ours.fileno(), FLUX_POLLIN, self._on_event))
            try:
                self._child = self._start(argv, theirs.fileno())
            except OSError:
                ours.close()
                raise
        self._grace = broker.reactor.timer(_GRACE, 0.0, self._child.kill)
        with suppress(BrokenPipeError):  # it may have ended already; that is found out in its turn
            ours.send(b"\0")
        self.event.start()
        broker.router.attach(self)
        broker.router.services[name.encode()] = self
        self._welcome(args)

    def _start(self, argv: list[str], fd: int) -> Child:
        number = 3 if fd != 3 else 4  # a copy is what passes to the child, so it must be another number
        attributes = self.broker.attributes.visible
        environ = program_environment(os.environ, attributes.get("local-uri", ""), attributes.get("jobid"))
        environ["FLUX_MODULE_URI"] = f"fd://{number}"
        guardian = self.broker.life.guardian if self.broker.life is not None else None
        program = find_program(argv[0], environ) or argv[0]
        return Child(self.broker.reactor, guardian, program, argv, environ, (fd, number), self._ended)

    def _welcome(self, args: list[str]) -> None:
        visible = self.broker.attributes.visible
        immutable = {name: value for name, value in visible.items() if (entry(name) or 0) & IMMUTABLE}
        welcome = {
            "args": args,
            "attrs": immutable,
            "conf": self.broker.config,
            "name": self.name,
            "uuid": self.uuid.decode(),
        }
        self._tell("welcome", welcome)

    def _tell(self, topic: str, payload: Any, flags: int = 0) -> None:
        """Sends the module a request of the broker itself."""
        request = Message.request(topic.encode(), dump_payload(payload), flags=flags)
        request._userid, request._rolemask = self.broker.owner, LOCAL_OWNER
        request.routes = ()
        # Not held back: it is about the module's life.
        ProcessModule.deliver(self, request)

    @property
    def pid(self) -> int:
        """Its process; 0 once that has ended."""
        return self._child.pid

    # Messages.

    @property
    def backlog(self) -> int:
        """Bytes that wait to be sent to the module."""
        return self.out_size

    @property
    def waiting(self) -> int:
        """How many messages for the module the broker keeps."""
        return super().waiting + len(self.out)

    def deliver(self, message: Message) -> None:
        """Queues a message for the module."""
        if self._killed or not self.event.active:
            return  # we wait for the process to end
        frame = encode(message)
        self.received[message._type] += 1
        self.last_used = monotonic()
        if not self.out:
            self.broker.server.dirty.append(self)
        elif self.out_size + len(frame) > self.broker.server.limits.queue:
            self._end(f"it does not read, and more than {self.broker.server.limits.queue} bytes wait for it")
            return
        self.out.append(frame)
        self.out_size += len(frame)

    def _on_event(self, fd: int, revents: int) -> None:
        if revents != FLUX_POLLIN:
            self.flush()
        if revents & FLUX_POLLIN:
            self._read()

    def _read(self) -> bool:
        """Takes what the module has sent; False if there is nothing more."""
        try:
            data = self._sock.recv(_READ_SIZE)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            # A process without a connection is no module any more, and about to end; with its end all is known.
            self._hang_up()
            self._grace.start()
            return False
        self.last_used = monotonic()
        messages = []
        try:
            message = self._framer.next(data)
            while message is not None:
                messages.append(message)
                message = self._framer.next()
        except OSError as exc:
            self._end(f"it has sent a bad frame: {os.strerror(exc.errno or errno.EPROTO)}")
            return False
        for message in messages:
            self.post(message)
        return True

    def _hang_up(self) -> None:
        """Ends the connection."""
        if self.event.active:
            self.event.stop()
            self.out.clear()
            self.out_size = 0
            self._sock.close()
            self._framer.clear()

    def _end(self, why: str) -> None:
        """Ends a module that does not keep to the rules."""
        self.broker.log.write(LOG_ERR, f"module {self.name} is ended: {why}")
        # The connection stays: this may be within the delivery of a message that others are still to get.
        self._killed = True
        self._child.kill()

    # Its life.

    def report(self, status: int, errnum: int) -> None:
        """The module says how it does (`module.status`)."""
        self.status = status
        if status == STATUS_FINALIZING:
            # No request is sent to it after the answer to this one.
            services = self.broker.router.services
            for name in [name for name, owner in services.items() if owner is self]:
                del services[name]
        elif status == STATUS_EXITED:
            self.errnum = errnum
        self._changed(self)

    def leave(self, force: bool = False) -> None:
        """Has the module end, in its own time; or at once."""
        self.ending = True
        if force:
            self._child.kill()
        else:
            self._tell(f"{self.name}.shutdown", None, FLUX_MSGFLAG_NORESPONSE)

    def stop(self) -> None:
        """Ends the module and waits for it; for when the broker ends, its loop does not run any more."""
        self.ending = True
        self._hang_up()
        self._child.finish(_LAST_GRACE)

    def _ended(self, code: int) -> None:
        """The process has ended."""
        while self.event.active and self._read():
            continue  # its last words
        self._grace.stop()
        self._hang_up()
        self.detach()
        self.exit_code = code
        self.status = STATUS_EXITED
        if self.broker.modules.get(self.name) is self:
            del self.broker.modules[self.name]
        self._changed(self)

    @property
    def failed(self) -> bool:
        """True if the module has ended and should not have."""
        return self.exit_code is not None and not self.ending and self.errnum != 0

    @property
    def end_text(self) -> str:
        """How the process has ended, for the user."""
        code = self.exit_code or 0
        if code < 0:
            names = [known.name for known in signal.Signals if known == -code]
            return f"loader ({self.label}) killed by {names[0] if names else f'signal {-code}'}"
        return f"loader ({self.label}) exited with exit code {code}"
