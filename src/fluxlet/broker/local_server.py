"""The local socket: clients connect here (spec 01, 2.1). Thin I/O; what messages mean is `clients` business.

Rules:

- Who a client is, the kernel says (SO_PEERCRED), once, when it connects; what it may do is decided then.
- Nothing blocks: input is read while it is there, output is queued per client and written when the loop is about
  to wait, all of a client's frames in one call.
- A client that sends a bad frame is disconnected; so is one that does not read, once what waits for it passes
  `Limits.queue`. Neither costs anybody else more than the memory of that bound.

The bound is set by the configuration, and another one is in force as soon as it has been loaded:

    [connector-local]
    sendq-max = "256M"

It is a number of bytes, or a string with a unit (k, M, G: `config_table.read_size`). What counts is the frames that
wait in the broker, not what the kernel holds for the client already. A single message may be larger: it is sent,
and only what comes behind it may be too much. The bytes of many small messages take about three times as much memory.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from flux.constants import FLUX_MSGTYPE_EVENT, FLUX_POLLIN
from flux.message import Message
from flux.reactor import FdEvent, Reactor, Timer
from flux.wire import DEFAULT_LIMIT, Framer, encode, encode_stream
from fluxlet.broker.clients import Client, Clients
from fluxlet.broker.configuration import ConfigError
from fluxlet.broker.long_response import LongResponse
from fluxlet.broker.router import Delivery
from fluxlet.broker.writer import Writer
from fluxlet.config_table import read_size, read_table

#: Bytes read at once. Not more: for larger buffers malloc goes to the kernel each time, which costs 15 us.
_READ_SIZE = 65536
_NOT_LOGGED = frozenset((errno.EPROTO, errno.EPIPE, errno.ECONNRESET))
_OUT_OF_DESCRIPTORS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_PAUSE = 0.01
_BACKLOG = 512


class Limits(msgspec.Struct):
    """Bounds on what one client may cost, in bytes; the connections share them, so that a change is in force at once.

    Args:
        frame: the longest frame that a client may send; for the connections to come.
        queue: what may wait for a client that does not read.
    """

    frame: int = DEFAULT_LIMIT
    queue: int = 256 << 20

    @classmethod
    def parse(cls, config: dict[str, Any]) -> Limits:
        """The bounds that a configuration sets. Raises ConfigError with the text for the user."""
        try:
            table = read_table(config.get("connector-local", {}), {"sendq-max": object}, strict=True)
        except ValueError as exc:
            raise ConfigError(f"error parsing [connector-local] configuration: {exc}") from None
        if "sendq-max" not in table:
            return cls()
        try:
            return cls(queue=read_size(table["sendq-max"]))
        except ValueError as exc:
            raise ConfigError(f"error parsing [connector-local] configuration: sendq-max: {exc}") from None


def peer_credentials(sock: socket.socket) -> tuple[int, int]:
    """(pid, uid) of the process at the other end of a connected UNIX socket, by the kernel's word."""
    if hasattr(socket, "SO_PEERCRED"):
        pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return pid, uid & 0xFFFFFFFF
    # BSD and macOS: struct xucred, whose second word is the uid (LOCAL_PEERCRED is 1 at level 0).
    xucred = sock.getsockopt(0, 1, 76)
    return 0, struct.unpack_from("I", xucred, 4)[0]


class Connection(Client, Writer):
    """One connected client."""

    def __init__(self, server: LocalServer, sock: socket.socket, pid: int, userid: int, rolemask: int) -> None:
        Client.__init__(self, str(uuid.uuid4()).encode(), server.uuid, userid, rolemask)
        event = server.reactor.reader(sock.fileno(), FLUX_POLLIN, self._on_event)
        Writer.__init__(self, sock, event)
        self.server = server
        self.sock = sock
        self.pid = pid
        self.framer = Framer(server.limits.frame)
        self._recv = sock.recv
        self._receive = server.receive
        self.limits = server.limits
        event.start()

    @property
    def backlog(self) -> int:
        """Bytes that wait to be sent to the client."""
        return self.out_size

    def deliver(self, message: Message) -> None:
        """Queues a message for the client; it is written when the loop is about to wait."""
        if message.__class__ is LongResponse:
            self._deliver_long(message)
            return
        # An event goes to many clients in turn: it is encoded for the first of them.
        frame = encode(message) if message._type != FLUX_MSGTYPE_EVENT else self.server.event_frame(message)
        self.sent += 1
        out = self.out
        if not out:
            self.server.dirty.append(self)
        elif self.out_size + len(frame) > self.limits.queue:
            self.server.drop(self, self._too_much())
            return
        out.append(frame)
        self.out_size += len(frame)

    def deliver_stream(self, message: Message, raws: list[bytes]) -> None:
        """As `deliver` of a message for each payload."""
        frames = encode_stream(message, raws)
        size = sum(map(len, frames))
        if len(raws) > 1 and self.out_size + size > self.limits.queue:
            for raw in raws:  # as far as it goes
                copied = message.copy()
                copied.set_raw(raw)
                self.deliver(copied)
                if self not in self.server.connections:
                    break
            return
        self.sent += len(frames)
        if not self.out:
            self.server.dirty.append(self)
        self.out += frames
        self.out_size += size

    def _deliver_long(self, message: LongResponse) -> None:
        """Queues what is not in one piece."""
        frame = message.frame()
        size = sum(map(len, frame))
        self.sent += 1
        if not self.out:
            self.server.dirty.append(self)
        elif self.out_size + size > self.limits.queue:
            self.server.drop(self, self._too_much())
            return
        self.out += frame
        self.out_size += size

    def _too_much(self) -> str:
        queue = self.limits.queue
        return f"it does not read, and more than {queue} bytes wait for it ([connector-local] sendq-max)"

    def _on_event(self, fd: int, revents: int) -> None:
        if revents != FLUX_POLLIN:
            self.flush()
            if not revents & FLUX_POLLIN:
                return
        try:
            data = self._recv(_READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.server.close(self)
            return
        try:
            self._receive(self, self.framer, data)
        except OSError as exc:
            if exc.errno not in _NOT_LOGGED:
                text = os.strerror(exc.errno or errno.EIO)
                self.server.log(3, f"client={self.uuid[:5].decode()} userid={self.userid}: {text}")
            self.server.close(self)


class LocalServer:
    """Listens on a UNIX socket and serves the clients that connect.

    Args:
        reactor: the loop it lives on.
        clients: what their messages are handed to.
        uuid: the connector's identity, as a route.
        authorize: gives the roles of a uid; 0: refused.
        receive: called with a client, its framer and what it has sent; raises OSError for a bad frame.
        route: takes deliveries to be made.
        log: called with (severity, text).
        limits: bounds on a client.
    """

    def __init__(
        self,
        reactor: Reactor,
        clients: Clients,
        uuid: bytes,
        authorize: Callable[[int], int],
        receive: Callable[[Connection, Framer, bytes], None],
        route: Callable[[list[Delivery]], None],
        log: Callable[[int, str], None],
        limits: Limits,
    ) -> None:
        self.reactor = reactor
        self.clients = clients
        self.uuid = uuid
        self.authorize = authorize
        self.receive = receive
        self.route = route
        self.log = log
        self.limits = limits
        self.dirty: list[Writer] = []
        self.connections: set[Connection] = set()
        self._sock: socket.socket | None = None
        self._encoded_event: Message | None = None
        self._event_frame = b""
        self._event: FdEvent | None = None
        self._pause: Timer = reactor.timer(_PAUSE, 0.0, self._resume)
        self._path = ""

    def listen(self, path: str) -> None:
        """Binds to `path`, replacing what is there. Raises OSError if that cannot be done."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            if os.path.lexists(path):
                os.unlink(path)
            sock.bind(path)
            self._path = path
            # Who may connect is decided by the directory's mode and by the uid check (spec 01, 2.1).
            os.chmod(path, 0o777)
            sock.listen(_BACKLOG)
            sock.setblocking(False)
            self._sock = sock
            self._event = self.reactor.fd(sock.fileno(), FLUX_POLLIN, self._on_connect)
            self._event.start()
        except BaseException:
            sock.close()
            raise

    def hold(self) -> None:
        """Lets nobody in, until `release`: who connects waits."""
        if self._event is not None:
            self._event.stop()

    def release(self) -> None:
        """Lets in who has connected meanwhile, and everybody else."""
        if self._sock is not None:
            self._resume()

    @property
    def awaited(self) -> bool:
        """Whether somebody waits to be let in."""
        if self._sock is None:
            return False
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))

    def _resume(self) -> None:
        if self._event is not None:
            self._event.start()

    def _on_connect(self, fd: int, revents: int) -> None:
        assert self._sock is not None
        assert self._event is not None
        for _ in range(64):
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                if exc.errno not in _OUT_OF_DESCRIPTORS:
                    raise
                # Clients that go give descriptors back; until then there is no use in asking.
                self._event.stop()
                self._pause.reset(_PAUSE, 0.0)
                return
            self.add(sock)

    def add(self, sock: socket.socket) -> Connection | None:
        """Serves a connected socket, if its peer's uid has a role here; else closes it with EPERM."""
        sock.setblocking(False)
        pid, uid = peer_credentials(sock)
        rolemask = self.authorize(uid)
        try:
            sock.send(b"\0" if rolemask else bytes([errno.EPERM]))
        except OSError:
            rolemask = 0  # gone already
        else:
            if not rolemask:
                self.log(3, f"client_authenticate: uid={uid} no assigned roles")
        if not rolemask:
            sock.close()
            return None
        connection = Connection(self, sock, pid, uid, rolemask)
        self.connections.add(connection)
        self.clients.add(connection)
        return connection

    def drop(self, connection: Connection, why: str) -> None:
        """Disconnects a client for what it did."""
        self.log(4, f"client={connection.uuid[:5].decode()} userid={connection.userid}: disconnected: {why}")
        self.close(connection)

    def close(self, connection: Connection) -> None:
        """A client has gone, or has to."""
        if connection not in self.connections:
            return
        self.connections.discard(connection)
        connection.event.stop()
        connection.sock.close()
        connection.out.clear()
        connection.out_size = 0
        connection.framer.clear()
        self.route(self.clients.remove(connection))

    def event_frame(self, event: Message) -> bytes:
        """The frame of an event, encoded once for all clients that it is delivered to in a row."""
        if self._encoded_event is not event:
            self._encoded_event, self._event_frame = event, encode(event)
        return self._event_frame

    def flush(self) -> None:
        """Writes what is queued for every client."""
        self._encoded_event = None
        while self.dirty:
            dirty, self.dirty = self.dirty, []
            for writer in dirty:
                # One that is blocked writes when it can; one that has closed has nothing left to write to.
                if not writer.blocked and writer.event.active:
                    writer.flush()

    def shutdown(self) -> None:
        """Stops listening, disconnects everybody, removes the socket."""
        if self._sock is not None and self._event is not None:
            self._event.stop()
            self._pause.stop()
            self._sock.close()
            self._sock = None
            if os.path.lexists(self._path):
                os.unlink(self._path)
        self.flush()
        for connection in list(self.connections):
            self.close(connection)
