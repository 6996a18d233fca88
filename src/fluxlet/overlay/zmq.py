"""The connections between brokers: ZeroMQ sockets with CURVE (spec 04, 2.1).

    transport -> handler.from_child(uuid, message), from_parent(message), child_gone(uuid), parent_gone()
    transport <- to_child(uuid, message), to_parent(message)

It moves messages and tells when a connection is broken; what they mean is the business of `neighbours`.

Rules:
- A ROUTER is bound for the children, a DEALER connected to the parent. Both are watched by the broker's loop; nothing
  here waits.
- Who may connect is a set of public keys, asked for by ZeroMQ's authentication protocol (ZAP). Nothing of anybody else
  ever gets to us.
- The end of a connection is seen at once, by the socket's monitor: it names a descriptor, and messages tell which
  descriptor they came over. What came over a connection is handled before its end.

Facts about ZeroMQ that shape this file:
- The descriptor of a socket is a bell, not a readiness: it rings once, and any use of the socket, a send too, may
  silence it. So after every use the socket itself is asked, before the loop waits.
- A context has threads: it is made after the last fork.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from struct import Struct
from syslog import LOG_ERR
from typing import Any, Protocol, TypeAlias

import zmq
from zmq.utils import z85

from flux.constants import FLUX_MSGTYPE_EVENT, FLUX_POLLIN
from flux.message import Message
from flux.reactor import Reactor
from flux.reactor.events import Event, SourceEvent
from fluxlet.overlay.certificate import Certificate
from fluxlet.overlay.framing import Unpacker, from_parts, pack, to_parts
from fluxlet.overlay.settings import Settings

#: Messages taken from one socket before the loop looks after everybody else.
_BATCH = 256
#: How often to look for messages of a connection that has ended, while there are any of others.
_ROUNDS = 64
#: How long unsent messages may keep a broker from ending, in milliseconds.
_LINGER = 500
#: Lines in the log about connections that fail, a minute.
_MAX_REPORTS = 20

_MORE = zmq.SNDMORE | zmq.DONTWAIT
_monitored = Struct("=Hi").unpack
_FAILED = {
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "no handshake",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "it does not keep to the protocol",
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "not authorized",
}
_WATCHED = zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
_WATCHED |= zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_CONNECT_RETRIED


Socket: TypeAlias = "zmq.Socket[bytes]"


class _Watched:
    """A socket that is read, by whom, and whether it was used since it was asked last."""

    def __init__(self, sock: Socket, read: Callable[[Socket], None]) -> None:
        self.sock = sock
        self.read = read
        self.used = True


class Handler(Protocol):
    """Who gets what comes in."""

    def from_child(self, uuid: bytes, message: Message) -> None:
        """A message has come over the connection with this identity."""

    def from_parent(self, message: Message) -> None:
        """A message has come from the parent."""

    def child_gone(self, uuid: bytes) -> None:
        """The connection with this identity has ended."""

    def parent_gone(self) -> None:
        """The connection with the parent has ended."""

    def parent_unreachable(self) -> None:
        """An attempt to connect to the parent has failed; it will be made again."""


class Transport:
    """The sockets of one broker.

    Args:
        certificate: its own keys.
        settings: options.
    """

    def __init__(self, certificate: Certificate, settings: Settings) -> None:
        self.certificate = certificate
        self.settings = settings
        self.authorized: set[bytes] = set()
        """The public keys of those who may connect, 32 bytes each."""
        self._context: zmq.Context[Socket] = zmq.Context(settings.io_threads)
        self._router: Socket | None = None
        self._dealer: Socket | None = None
        self._zap: Socket | None = None
        self._monitors: list[tuple[Socket, bool]] = []
        self._handler: Handler | None = None
        self._log: Callable[[int, str], None] = lambda severity, text: None
        self._source: SourceEvent | None = None
        self._events: list[Event] = []
        self._watched: list[_Watched] = []
        self._of_children: _Watched | None = None
        self._of_parent: _Watched | None = None
        self._connected = False
        self._reports = 0
        self._by_fd: dict[int, bytes] = {}
        self._fds: dict[bytes, int] = {}
        self._unreachable: deque[bytes] = deque()
        self._ending: dict[int, int] = {}  # descriptors of ended connections, and for how long to look for messages
        self._unpack = Unpacker().unpack
        self._packed: set[bytes] = set()  # children that take messages in one part
        self._parent_packed = False
        self._event: Message | None = None  # sent to the last child, and how it was
        self._event_parts: list[bytes] = []
        self._event_frame = b""

    # Sockets.

    def bind(self, endpoints: Iterable[str]) -> list[str]:
        """Listens for children; returns the endpoints with what stood for `*` filled in. Raises OSError."""
        settings = self.settings
        self._zap = self._context.socket(zmq.ROUTER)
        self._zap.setsockopt(zmq.LINGER, 0)
        self._zap.bind("inproc://zeromq.zap.01")
        router = self._router = self._context.socket(zmq.ROUTER)
        self._prepare(router, zmq.ROUTER_MANDATORY)
        router.setsockopt(zmq.SNDHWM, settings.waiting)
        router.setsockopt(zmq.RCVHWM, settings.child_rcvhwm)
        router.setsockopt(zmq.CURVE_SERVER, 1)
        router.setsockopt(zmq.ZAP_DOMAIN, b"flux")
        self._monitor(router, False)
        bound = []
        for endpoint in endpoints:
            try:
                router.bind(endpoint)
            except zmq.ZMQError as exc:
                raise OSError(exc.errno or errno.EIO, f"cannot bind to {endpoint}: {exc.strerror}") from None
            endpoint_bytes = router.getsockopt(zmq.LAST_ENDPOINT)
            assert isinstance(endpoint_bytes, bytes)
            bound.append(endpoint_bytes.rstrip(b"\0").decode())
        return bound

    def connect(self, endpoint: str, server_key: str, identity: bytes) -> None:
        """Connects to the parent, sooner or later. Raises OSError for an endpoint that will not do.

        Args:
            server_key: the public key of the parent, in Z85.
            identity: the uuid of this broker.
        """
        dealer = self._dealer = self._context.socket(zmq.DEALER)
        self._prepare(dealer, zmq.IDENTITY, identity)
        dealer.setsockopt(zmq.SNDHWM, 0)
        dealer.setsockopt(zmq.RCVHWM, 0)
        dealer.setsockopt(zmq.CURVE_SERVERKEY, server_key.encode())
        if self.settings.connect_timeout > 0:
            dealer.setsockopt(zmq.CONNECT_TIMEOUT, int(self.settings.connect_timeout * 1000))
        self._monitor(dealer, True)
        try:
            dealer.connect(endpoint)
        except zmq.ZMQError as exc:
            raise OSError(exc.errno or errno.EIO, f"cannot connect to {endpoint}: {exc.strerror}") from None

    def _prepare(self, sock: Socket, option: int, value: Any = 1) -> None:
        sock.setsockopt(option, value)
        sock.setsockopt(zmq.LINGER, _LINGER)
        sock.setsockopt(zmq.IPV6, int(self.settings.ipv6))
        sock.setsockopt(zmq.CURVE_PUBLICKEY, self.certificate.public.encode())
        sock.setsockopt(zmq.CURVE_SECRETKEY, self.certificate.secret.encode())
        if self.settings.tcp_user_timeout > 0:
            sock.setsockopt(zmq.TCP_MAXRT, int(self.settings.tcp_user_timeout * 1000))

    def _monitor(self, sock: Socket, is_parent: bool) -> None:
        monitor = sock.get_monitor_socket(_WATCHED)
        monitor.setsockopt(zmq.LINGER, 0)
        self._monitors.append((monitor, is_parent))

    # The loop.

    def watch(self, reactor: Reactor, handler: Handler, log: Callable[[int, str], None]) -> None:
        """From now on what comes in goes to `handler`; `log` gets (severity, text)."""
        self._handler, self._log = handler, log
        self._source = reactor.source(self)
        self._source.start()
        if self._zap is not None:
            self._watch(reactor, self._zap, self._authenticate)
        if self._router is not None:
            self._of_children = self._watch(reactor, self._router, self._read_children)
        if self._dealer is not None:
            self._of_parent = self._watch(reactor, self._dealer, self._read_parent)
        # After the messages: those that came over a connection which has ended are not lost.
        for monitor, is_parent in self._monitors:
            self._watch(reactor, monitor, partial(self._read_monitor, is_parent=is_parent))

    def _watch(self, reactor: Reactor, sock: Socket, read: Callable[[Socket], None]) -> _Watched:
        watched = _Watched(sock, read)
        fd = sock.getsockopt(zmq.FD)
        assert isinstance(fd, int)
        event = reactor.reader(fd, FLUX_POLLIN, partial(self._rings, watched))
        event.start()
        self._events.append(event)
        self._watched.append(watched)
        return watched

    def _rings(self, watched: _Watched, fd: int, revents: int) -> None:
        watched.used = True
        if self._source is not None:
            self._source.reactor.source_ready(self._source)

    def fileno(self) -> int:
        """There is nothing to poll: the sockets' bells are watched."""
        return -1

    def read_ready(self) -> bool:
        """Never called."""
        return False

    def before_poll(self) -> None:
        """If a socket was used, something may be there to read, and no bell rings for it."""
        source = self._source
        if source is None or source.ready:
            return
        something = bool(self._unreachable)
        for watched in self._watched:
            if watched.used:
                watched.used = bool(int(watched.sock.getsockopt(zmq.EVENTS)) & zmq.POLLIN)
                something |= watched.used
        if something:
            source.reactor.source_ready(source)

    def dispatch(self) -> bool:
        """Takes what has come in."""
        for watched in self._watched:
            if watched.used:
                watched.read(watched.sock)
        if self._ending:
            self._end_connections()
        while self._unreachable and self._handler is not None:
            self._ended(self._unreachable.popleft())
        return bool(self._ending)

    def _end_connections(self) -> None:
        """Connections have ended; what came over them may still wait to be read."""
        watched = self._of_children
        assert watched is not None
        watched.used = True
        waiting = int(watched.sock.getsockopt(zmq.EVENTS)) & zmq.POLLIN
        for fd, rounds in list(self._ending.items()):
            if waiting and rounds:
                self._ending[fd] = rounds - 1
            else:
                del self._ending[fd]
                uuid = self._by_fd.get(fd)
                if uuid is not None:
                    self._ended(uuid)

    def _read_children(self, router: Socket) -> None:
        handler, fds = self._handler, self._fds
        assert handler is not None
        receive = router.recv
        for _ in range(_BATCH):
            try:
                uuid = receive(zmq.DONTWAIT)
            except zmq.Again:
                return
            if uuid in fds:
                parts = [receive()]  # there is always one more
                if router.getsockopt(zmq.RCVMORE):
                    parts += router.recv_multipart()
            else:
                parts = self._read_first(router, uuid)
            try:
                message = self._unpack(parts[0]) if len(parts) == 1 else from_parts(parts)
            except OSError as exc:
                self._report(f"bad message of {_printable(uuid)}: {exc.strerror}")
                continue
            handler.from_child(uuid, message)

    def _read_first(self, router: Socket, uuid: bytes) -> list[bytes]:
        """The first message over a connection tells which one it is."""
        frames: list[zmq.Frame] = router.recv_multipart(copy=False)
        # What ended before this one has begun is known by now, and shall not be taken for the end of this one.
        for monitor, is_parent in self._monitors:
            self._read_monitor(monitor, is_parent)
        fd = int(str(frames[0].get("__fd")))
        if self._ending.pop(fd, None) is not None and fd in self._by_fd:
            self._ended(self._by_fd[fd])  # the number is another connection's now
        self._by_fd[fd] = uuid
        self._fds[uuid] = fd
        return [frame.bytes for frame in frames]

    def _read_parent(self, dealer: Socket) -> None:
        handler = self._handler
        assert handler is not None
        receive = dealer.recv
        for _ in range(_BATCH):
            try:
                parts = [receive(zmq.DONTWAIT)]
            except zmq.Again:
                return
            if dealer.getsockopt(zmq.RCVMORE):
                parts += dealer.recv_multipart()
            try:
                message = self._unpack(parts[0]) if len(parts) == 1 else from_parts(parts)
            except OSError as exc:
                self._report(f"bad message of the parent: {exc.strerror}")
                continue
            handler.from_parent(message)

    def _read_monitor(self, monitor: Socket, is_parent: bool) -> None:
        while True:
            try:
                parts = monitor.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            kind, fd = _monitored(parts[0])
            if kind in _FAILED:
                who = "the parent" if is_parent else "somebody"
                self._report(f"connection with {who} at {parts[1].decode('utf-8', 'replace')} failed: {_FAILED[kind]}")
            if is_parent:
                self._parent_event(kind)
            elif kind == zmq.EVENT_DISCONNECTED and fd in self._by_fd:
                self._ending[fd] = _ROUNDS

    def _parent_event(self, kind: int) -> None:
        """Something has become of the connection with the parent."""
        handler = self._handler
        if kind == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._connected = True
        elif handler is None:
            return
        elif self._connected and kind == zmq.EVENT_DISCONNECTED:
            self._connected = False
            handler.parent_gone()
        elif not self._connected:
            handler.parent_unreachable()

    def _ended(self, uuid: bytes) -> None:
        fd = self._fds.pop(uuid, None)
        self._packed.discard(uuid)
        if fd is not None:
            del self._by_fd[fd]
            if self._handler is not None:
                self._handler.child_gone(uuid)

    def _report(self, text: str) -> None:
        """Logs what strangers do, but not for ever."""
        self._reports += 1
        if self._reports <= _MAX_REPORTS:
            self._log(LOG_ERR, f"overlay: {text}")
        if self._reports == _MAX_REPORTS:
            self._log(LOG_ERR, "overlay: further lines of this kind are left out for a while")

    def forget_reports(self) -> None:
        """A while is over: see `_MAX_REPORTS`."""
        self._reports = 0

    def _authenticate(self, zap: Socket) -> None:
        while True:
            try:
                request = zap.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            if len(request) < 8 or request[2] != b"1.0":
                continue
            back, version, number, mechanism = request[:2], request[2], request[3], request[7]
            if mechanism == b"CURVE" and len(request) > 8 and request[8] in self.authorized:
                key = z85.encode(request[8])
                zap.send_multipart([*back, version, number, b"200", b"OK", key, b""])
            else:
                self._report("auth No access")
                zap.send_multipart([*back, version, number, b"400", b"No access", b"", b""])

    # Sending.

    def to_child(self, uuid: bytes, message: Message) -> None:
        """Sends a message to whoever has this identity. One that cannot be sent to is soon reported as gone."""
        packed = uuid in self._packed
        if message._type == FLUX_MSGTYPE_EVENT:
            # Events go to all children, one after the other.
            if message is not self._event:
                message.routes = ()
                self._event, self._event_parts, self._event_frame = message, to_parts(message), pack(message)
            parts = [self._event_frame] if packed else self._event_parts
        else:
            parts = [pack(message)] if packed else to_parts(message)
        watched = self._of_children
        if watched is None:
            return
        watched.used = True
        send = watched.sock.send
        try:
            send(uuid, _MORE)
            for part in parts[:-1]:
                send(part, _MORE)
            send(parts[-1], zmq.DONTWAIT)
        except zmq.ZMQError as exc:
            if exc.errno == errno.EAGAIN:
                self._report(f"{_printable(uuid)} does not read, {self.settings.waiting} messages wait for it")
            self._unreachable.append(uuid)

    def to_parent(self, message: Message) -> None:
        """Sends a message to the parent."""
        watched = self._of_parent
        if watched is None:
            return
        watched.used = True
        if message._type == FLUX_MSGTYPE_EVENT:
            message.routes = ()
        parts = [pack(message)] if self._parent_packed else to_parts(message)
        send = watched.sock.send
        for part in parts[:-1]:
            send(part, _MORE)
        send(parts[-1], zmq.DONTWAIT)

    def pack(self, uuid: bytes | None) -> None:
        """From now on messages for this child, None: the parent, go in one part."""
        if uuid is None:
            self._parent_packed = True
        else:
            self._packed.add(uuid)

    def close(self) -> None:
        """Ends all connections; what was sent may go out for a moment still."""
        for event in self._events:
            event.stop()
        self._events.clear()
        if self._source is not None:
            self._source.stop()
            self._source = None
        self._handler = self._of_children = self._of_parent = None
        self._watched.clear()
        for sock in (self._router, self._dealer):
            if sock is not None:
                sock.disable_monitor()
        for monitor, _ in self._monitors:
            monitor.close()
        for sock in (self._router, self._dealer, self._zap):
            if sock is not None:
                sock.close()
        self._router = self._dealer = self._zap = None
        self._monitors.clear()
        self._context.term()


def _printable(uuid: bytes) -> str:
    return uuid[:36].decode("ascii", "backslashreplace")
