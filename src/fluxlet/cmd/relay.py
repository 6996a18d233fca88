"""flux relay — the far end of an ssh connection: stdin and stdout as a client's socket (spec 01, 2.5).

Rules:

- stdout carries one NUL byte, then frames, and nothing else; what goes wrong is said on stderr.
- stdin and stdout may be anything: one socket, two pipes. They are used without blocking, and given back as they were.
- The end of stdin is the client's disconnect: its services learn of it before we go.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from flux.cli.options import Command, Parsed
from flux.cli.tool import Failure, run
from flux.constants import FLUX_POLLIN, FLUX_POLLOUT, FLUX_USERID_UNKNOWN
from flux.core.handle import Flux
from flux.message import Message
from flux.wire import Framer, encode
from fluxlet.broker.clients import Client
from fluxlet.broker.router import LOCAL_OWNER
from fluxlet.broker.upstream import RelayedClients, Upstream, deliver

COMMAND = Command(
    "relay",
    "Relay messages between stdin/stdout and a local instance",
    arguments="path",
    words=(1, 1),
    builtin=True,
    complete=("@file",),
    description="What ssh runs on the machine of an instance whose URI begins with ssh://. It connects to the socket "
    "and passes messages between it and its standard input and output.",
    examples=(("flux relay /tmp/flux-a1b2c3/local-0", "Run by clients, not by people."),),
    see_also=("proxy",),
)

_READ_SIZE = 262144
_WRITE_AT_MOST = 1 << 20
#: Bytes that may wait for a client that does not read.
_QUEUE_LIMIT = 256 << 20


class StreamClient(Client):
    """The client behind two descriptors.

    Args:
        clients: what its messages are handed to.
        handle: the connection to the broker, whose loop is used.
        fd_in, fd_out: what it writes to and what it reads from. Both in non-blocking mode.
    """

    def __init__(self, clients: RelayedClients, handle: Flux, fd_in: int, fd_out: int) -> None:
        super().__init__(str(uuid.uuid4()).encode(), b"", FLUX_USERID_UNKNOWN, LOCAL_OWNER)
        self.error: str | None = None  # why it ended, if that was not by itself
        self._clients = clients
        self._reactor = handle.reactor
        self._fd_in = fd_in
        self._fd_out = fd_out
        self._framer = Framer()
        self._out: list[bytes] = []
        self._out_size = 0
        self._blocked = False
        self._readable = self._reactor.fd(fd_in, FLUX_POLLIN, self._on_input)
        self._writable = self._reactor.fd(fd_out, FLUX_POLLOUT, self._on_room)
        self._before_poll = self._reactor.prepare(self.flush)
        self._readable.start()
        self._before_poll.start()

    def deliver(self, message: Message) -> None:
        """Queues a message for the client; it is written when the loop is about to wait."""
        frame = encode(message)
        self._out.append(frame)
        self._out_size += len(frame)
        if self._out_size > _QUEUE_LIMIT:
            self._stop("the client does not read what it asked for")

    def _on_input(self, fd: int, revents: int) -> None:
        try:
            data = os.read(self._fd_in, _READ_SIZE)
        except BlockingIOError:
            return
        except OSError as exc:
            self._stop(f"stdin: {os.strerror(exc.errno or errno.EIO)}")
            return
        if not data:
            self._stop(None)
            return
        self._framer.feed(data)
        try:
            while (message := self._framer.next()) is not None:
                deliver(self._clients.receive(self, message))
        except OSError as exc:
            self._stop(f"bad message on stdin: {os.strerror(exc.errno or errno.EPROTO)}")

    def _on_room(self, fd: int, revents: int) -> None:
        self._writable.stop()
        self._blocked = False
        self.flush()

    def flush(self) -> None:
        """Writes what is queued, as far as it is taken."""
        while self._out and not self._blocked:
            data = b"".join(self._out)
            view, done = memoryview(data), 0
            try:
                while done < len(data):
                    done += os.write(self._fd_out, view[done : done + _WRITE_AT_MOST])
            except BlockingIOError:
                self._blocked = True
                self._writable.start()
            except OSError as exc:
                self._out, self._out_size = [], 0
                # A client that has gone is seen on stdin; one that only does not listen is of no use either.
                self._stop(None if exc.errno == errno.EPIPE else f"stdout: {os.strerror(exc.errno or errno.EIO)}")
                return
            self._out = [data[done:]] if done < len(data) else []
            self._out_size = len(data) - done

    def _stop(self, error: str | None) -> None:
        self.error = self.error or error
        self.close()
        self._reactor.stop()

    def close(self) -> None:
        """Reads and writes no more."""
        for event in (self._readable, self._writable, self._before_poll):
            event.stop()


@contextmanager
def _nonblocking(*fds: int) -> Iterator[None]:
    """Descriptors in non-blocking mode: which others who have them open see as well, so it does not stay."""
    before = [(fd, os.get_blocking(fd)) for fd in fds]
    try:
        for fd in fds:
            os.set_blocking(fd, False)
        yield
    finally:
        for fd, blocking in before:
            os.set_blocking(fd, blocking)


def relay(connector_uri: str, fd_in: int, fd_out: int) -> None:
    """Relays between two descriptors and the instance at a URI, until the first ends. Raises Failure."""
    program = socket.gethostname()
    try:
        handle = Flux(connector_uri)
    except OSError as exc:
        raise Failure(f"{connector_uri}: {os.strerror(exc.errno or errno.EIO)}", program) from None
    with handle, _nonblocking(fd_in, fd_out):
        clients = RelayedClients(Upstream(handle, userid=os.getuid()))
        client = StreamClient(clients, handle, fd_in, fd_out)
        clients.add(client)
        os.write(fd_out, b"\0")
        lost = handle.reactor_run() < 0
        client.flush()
        client.close()
        if lost:
            raise Failure(f"{connector_uri}: lost connection to Flux", program)
        # The client has gone, the broker not: its services hear of it.
        deliver(clients.remove(client))
        if client.error is not None:
            raise Failure(client.error, program)


def _body(parsed: Parsed) -> int:
    relay(f"local://{parsed.words[0]}", sys.stdin.fileno(), sys.stdout.fileno())
    return 0


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
