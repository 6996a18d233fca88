"""The handle: `flux.Flux`, a connection to a Flux instance (spec 02, sections 2 to 4).

The class is thin: connection, queue and dispatch are in `flux.core.flux_t`, the event loop in `flux.reactor`.
Names that it does not define are looked up among the C library's functions (`flux.core.dynamic`).
"""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

import flux.reactor
from flux.connector.opening import open_uri
from flux.constants import (
    FLUX_MATCHTAG_NONE,
    FLUX_MSGTYPE_ANY,
    FLUX_MSGTYPE_EVENT,
    FLUX_NODEID_ANY,
    FLUX_O_CLONE,
    FLUX_O_MATCHDEBUG,
    FLUX_O_NONBLOCK,
    FLUX_O_NOREQUEUE,
    FLUX_O_RPCTRACK,
    FLUX_O_TEST_NOSUB,
    FLUX_O_TRACE,
)
from flux.core.arguments import c_int, int32u, is_null, text_bytes
from flux.core.codec import dump_payload, load_text
from flux.core.dispatch import Match
from flux.core.ffi import CType
from flux.core.flux_t import FluxT, with_note
from flux.core.inner import ffi, lib
from flux.core.link import Link
from flux.core.watchers import (
    CheckWatcher,
    FDWatcher,
    IdleWatcher,
    PrepareWatcher,
    SignalWatcher,
    TimerWatcher,
    Watcher,
)
from flux.future import Future
from flux.message import Message, MessageWatcher, expect_message, terminated
from flux.reactor import Reactor
from flux.rpc import RPC
from flux.util import encode_topic, get_treedict
from flux.wrapper import NULL_HANDLE_TEXT, InvalidArguments, Wrapper, local_error

if TYPE_CHECKING:
    import threading

_OPEN_FLAGS = (
    FLUX_O_TRACE
    | FLUX_O_CLONE
    | FLUX_O_NONBLOCK
    | FLUX_O_MATCHDEBUG
    | FLUX_O_TEST_NOSUB
    | FLUX_O_RPCTRACK
    | FLUX_O_NOREQUEUE
)

_CLOSE_TEXT = (
    "Unnecessary manual invocation of a Flux handle's close method via the python bindings.  "
    "Handles are automatically closed when the Python object is deconstructed."
)


class _Closed:
    """Stands for the opaque handle of a Flux that has been closed: whatever needs it fails clearly."""

    def __getattr__(self, name: str) -> NoReturn:
        raise ValueError(NULL_HANDLE_TEXT)


_CLOSED: Any = _Closed()


def _attribute_at(uri: str, name: str) -> str:
    """An attribute of the instance at `uri`, over a connection of its own."""
    core = _open(uri, 0)
    try:
        return core.attr_get(name)
    finally:
        core.close()


def _open(url: str | None, flags: int) -> FluxT:
    """flux_open: a connected opaque handle. Raises OSError with the bare text (spec 01, 2.3)."""
    if flags & ~_OPEN_FLAGS:
        raise OSError(errno.EINVAL, "invalid flags specified")
    if "FLUX_HANDLE_TRACE" in os.environ:
        flags |= FLUX_O_TRACE
    if "FLUX_HANDLE_MATCHDEBUG" in os.environ:
        flags |= FLUX_O_MATCHDEBUG
    connector = open_uri(url, _attribute_at)
    if flags & FLUX_O_TRACE:
        from flux.connector.trace import TraceConnector

        connector = TraceConnector(connector)
    return FluxT(Link(connector, flags))


def open_handle(url: Any = None, flags: int = 0) -> FluxT:
    """A connected opaque handle; raises OSError of shape C: ``Unable to connect to Flux: ...``."""
    name = text_bytes("flux_open_ex", url)
    number = c_int("flux_open_ex", flags)
    try:
        return _open(None if name is None else name.decode("utf-8", "surrogateescape"), number)
    except OSError as exc:
        error = OSError(exc.errno, f"Unable to connect to Flux: {exc.strerror}")
        for note in getattr(exc, "__notes__", ()):
            error.add_note(note)
        raise error from None


class Flux(Wrapper):
    """A connection to a Flux instance. Not for two threads at once: open one per thread.

    Args:
        url: URI of the instance; None for the environment's FLUX_URI, else the system instance; ``.``, ``..``,
            ``/`` and the like for the enclosing instance and its ancestors.
        flags: FLUX_O_* bits.
        handle: an opaque handle to adopt instead of connecting, e.g. ``other.incref()``.

    Raises OSError if there is no connection to be had: its text says why, and what to do where that is known.
    The connection closes when the object goes, or at the end of its `with` block. Spec 02, section 2.
    """

    tls: ClassVar[threading.local] = flux.reactor.tls

    # What the lookup of other names goes by: `flux.wrapper.Wrapper`.
    ffi = ffi
    lib = lib
    match = CType("flux_t *")
    filter_match = False
    prefixes = ("flux_", "FLUX_")
    destructor = staticmethod(FluxT.decref)

    def __init__(self, url: Any = None, flags: int = 0, handle: FluxT | None = None) -> None:
        self._core: FluxT = _CLOSED
        if handle is not None:
            if not isinstance(handle, FluxT):
                raise TypeError(f"expected a flux handle, not {type(handle)}")
            core = handle
        else:
            core = open_handle(url, flags)
        self.aux_txn: Any = None
        self._active_watchers: set[Any] = set()
        self._cached_config: dict[str, Any] | None = None
        self._core = core
        if core.wrapper is None or core.wrapper() is None:
            core.wrapper = weakref.ref(self)

    # Lifetime.

    @property
    def core(self) -> FluxT:
        """The opaque handle; ValueError once it is closed."""
        if self._core is _CLOSED:
            raise ValueError(NULL_HANDLE_TEXT)
        return self._core

    @property
    def handle(self) -> FluxT | None:
        """The opaque handle, None once closed. Setting it closes the old one: to None, or to another handle."""
        return None if self._core is _CLOSED else self._core

    @handle.setter
    def handle(self, value: FluxT | None) -> None:
        if value is not None and not isinstance(value, FluxT):
            raise TypeError(f"expected a flux handle, not {type(value)}")
        old, self._core = self._core, _CLOSED if value is None else value
        if old is not _CLOSED and old is not value:
            old.decref()

    def close(self) -> NoReturn:
        """Always raises RuntimeError: handles close when the object goes; to close early, use `with`."""
        raise RuntimeError(_CLOSE_TEXT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, type_arg: object, value: object, unused: object) -> None:
        for watcher in list(self._active_watchers):
            if isinstance(watcher, Watcher):
                watcher.destroy()
        self.handle = None

    def __del__(self) -> None:
        core = self.__dict__.get("_core", _CLOSED)
        if core is not _CLOSED:
            self._core = _CLOSED
            core.decref()

    def __copy__(self) -> NoReturn:
        raise TypeError("a Flux handle cannot be copied: open another one, or use Flux(handle=h.incref())")

    def __deepcopy__(self, memo: object) -> NoReturn:
        self.__copy__()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Flux handle cannot be pickled: open another one in the other process")

    # Watchers.

    @property
    def reactor(self) -> Reactor:
        """The event loop of this handle."""
        return self._core.reactor

    def add_watcher(self, watcher: Any) -> Any:
        """Keeps a watcher alive as long as the handle lives; returns it."""
        self._active_watchers.add(watcher)
        return watcher

    def del_watcher(self, watcher: Any) -> None:
        """Undoes `add_watcher`; absent is fine."""
        self._active_watchers.discard(watcher)

    def msg_watcher_create(
        self,
        callback: Callable[..., Any],
        type_mask: int = FLUX_MSGTYPE_ANY,
        topic_glob: str | bytes | None = "*",
        args: Any = None,
        match_tag: int = FLUX_MATCHTAG_NONE,
        rolemask: int | None = None,
    ) -> MessageWatcher:
        """A stopped `MessageWatcher`; ``callback(handle, watcher, message, args)``."""
        return MessageWatcher(self, type_mask, callback, topic_glob, match_tag, rolemask, args)

    def timer_watcher_create(
        self, after: float, callback: Callable[..., Any], repeat: float = 0.0, args: Any = None
    ) -> TimerWatcher:
        """A stopped timer of `after` seconds, then every `repeat` seconds if that is not 0."""
        return TimerWatcher(self, after, callback, repeat=repeat, args=args)

    def prepare_watcher_create(self, callback: Callable[..., Any], args: Any = None) -> PrepareWatcher:
        """A stopped watcher called before the loop polls."""
        return PrepareWatcher(self, callback, args=args)

    def check_watcher_create(self, callback: Callable[..., Any], args: Any = None) -> CheckWatcher:
        """A stopped watcher called after the loop has polled."""
        return CheckWatcher(self, callback, args=args)

    def idle_watcher_create(self, callback: Callable[..., Any] | None = None, args: Any = None) -> IdleWatcher:
        """A stopped watcher that keeps the loop from waiting, called when nothing else is to do."""
        return IdleWatcher(self, callback, args=args)

    def signal_watcher_create(self, signum: int, callback: Callable[..., Any], args: Any = None) -> SignalWatcher:
        """A stopped watcher of a signal; ``callback(handle, watcher, signum, args)``."""
        return SignalWatcher(self, signum, callback, args=args)

    def fd_watcher_create(
        self, fd_int: int, callback: Callable[..., Any], events: int | None = None, args: Any = None
    ) -> FDWatcher:
        """A stopped watcher of a descriptor; ``callback(handle, watcher, fd, revents, args)``."""
        return FDWatcher(self, fd_int, 7 if events is None else events, callback, args=args)

    # Attributes and configuration.

    def get_rank(self) -> int:
        """The rank of the broker this handle is connected to."""
        return int(self.core.attr_get("rank"))

    def get_size(self, size_ptr: Any = None) -> int:
        """The number of brokers of the instance. With an out-parameter, as in C, sets that and returns 0."""
        size = int(self.core.attr_get("size"))
        if size_ptr is None:
            return size
        if not hasattr(size_ptr, "__setitem__"):
            raise InvalidArguments("flux_get_size", "int flux_get_size(flux_t *, uint32_t *)", (self, size_ptr))
        size_ptr[0] = size
        return 0

    def attr_get(self, attr_name: str | bytes) -> str:
        """The value of a broker attribute. Raises OSError(ENOENT) for an unknown one, EINVAL for None."""
        name = text_bytes("flux_attr_get", attr_name)
        if name is None:
            raise local_error(errno.EINVAL)
        return self.core.attr_get(name.decode("utf-8", "surrogateescape"))

    def attr_set(self, attr: str, value: str) -> None:
        """Sets a broker attribute.

        Raises ValueError unless both are `str`; OSError EINVAL if it may not be updated, ENOENT if unknown.
        """
        if not isinstance(attr, str):
            raise ValueError("Attribute name must be a string")
        if not isinstance(value, str):
            raise ValueError("Attribute value must be a string")
        try:
            self.core.call("attr.set", {"name": attr, "value": value})
        except OSError as exc:
            raise with_note(local_error(exc.errno or errno.EIO), exc) from None

    def attr_remove(self, attr: str) -> None:
        """Removes a broker attribute, if it exists. Raises ValueError unless `str`; OSError(EPERM) if immutable."""
        if not isinstance(attr, str):
            raise ValueError("Attribute name must be a string")
        self.core.call("attr.rm", {"name": attr})

    def conf_get(self, key: str | None = None, default: Any = None, update: bool = False) -> Any:
        """The instance's configuration, or what its dotted `key` holds (`default` if it is not there).

        Fetched once and kept; `update` fetches it again.
        """
        if self._cached_config is None or update:
            self._cached_config = load_text(self.core.call("config.get").text_bytes() or b"{}")
        if key is None:
            return self._cached_config
        if not isinstance(key, str):
            raise TypeError(f"key must be a str, not {type(key)}")
        return get_treedict(self._cached_config, key, default)

    # Log.

    def log(self, level: int, fstring: str | bytes) -> None:
        """Logs to the instance (`flux dmesg` shows it); never raises for a lost connection.

        Args:
            level: syslog priority, 0 (emergency) to 7 (debug).
            fstring: the text, sent literally; each line is a message of its own.
        """
        if not isinstance(level, int):
            raise TypeError(f"log level must be an int, not {type(level)}")
        if isinstance(fstring, str):
            fstring = fstring.encode("utf-8", "surrogateescape")
        elif not isinstance(fstring, bytes):
            raise TypeError(f"log text must be str or bytes, not {type(fstring)}")
        from flux.core import log

        log.append(self.core, level, fstring)

    @property
    def log_appname(self) -> str:
        """The program name in log messages: the interpreter's, as in the reference, unless set."""
        from flux.core import log

        return log.identity(self.core).shown_appname

    def log_set_appname(self, name: str | bytes) -> None:
        """Sets the program name in this handle's log messages."""
        from flux.core import log

        text = text_bytes("flux_log_set_appname", name)
        log.identity(self.core).appname = None if text is None else text.decode("utf-8", "surrogateescape")

    # Messages.

    def send(self, message: Message, flags: int = 0) -> int:
        """Sends a message; returns 0.

        Raises OSError EINVAL for None or flags other than FLUX_O_NONBLOCK, EPIPE without a connection, EAGAIN
        if it cannot be sent at once and may not block; InvalidArguments for what is no message.
        """
        msg = expect_message("flux_send", message)
        if c_int("flux_send", flags) & ~FLUX_O_NONBLOCK:
            raise local_error(errno.EINVAL)
        self.core.send(msg, bool(flags))
        return 0

    def recv(
        self,
        type_mask: int = FLUX_MSGTYPE_ANY,
        match_tag: int = FLUX_MATCHTAG_NONE,
        topic_glob: str | bytes | None = None,
        flags: int = 0,
    ) -> Message:
        """The next message that matches; those that do not stay queued, in order.

        Args:
            type_mask: FLUX_MSGTYPE_* bits.
            match_tag: only this response, unless FLUX_MATCHTAG_NONE.
            topic_glob: shell pattern or exact topic; None for any.
            flags: FLUX_O_NONBLOCK: raise OSError(EAGAIN) rather than wait.
        """
        if c_int("flux_recv", flags) & ~FLUX_O_NONBLOCK:
            raise local_error(errno.EINVAL)
        glob = text_bytes("flux_recv", topic_glob)
        match = Match(int32u("flux_recv", type_mask), int32u("flux_recv", match_tag), glob)
        return self.core.recv(match, bool(flags))

    def respond(self, message: Message, payload: Any = None) -> int:
        """Answers a request with success; returns 0. Does nothing for a request that wants no response."""
        request = expect_message("flux_respond", message)
        raw = dump_payload(payload)
        if not request.flags & 0x04:
            self.core.send(request.response(raw))
        return 0

    def respond_error(self, message: Message, errnum: int, errstr: str | bytes | None = None) -> int:
        """Answers a request with an error; returns 0. Does nothing for a request that wants no response.

        Args:
            errnum: errno; 0 sends EINVAL.
            errstr: text for the user, best one line of under 80 characters.
        """
        request = expect_message("flux_respond_error", message)
        number = c_int("flux_respond_error", errnum)
        text = terminated(text_bytes("flux_respond_error", errstr))
        if not request.flags & 0x04:
            self.core.send(request.response(text, number or errno.EINVAL))
        return 0

    def rpc(self, topic: str | bytes, payload: Any = None, nodeid: int = FLUX_NODEID_ANY, flags: int = 0) -> RPC:
        """Sends a request; returns the `RPC`, a future of its response.

        Args:
            topic: ``service.method``.
            payload: JSON-serializable value; text and bytes are sent as they are.
            nodeid: rank to send to, FLUX_NODEID_ANY or FLUX_NODEID_UPSTREAM.
            flags: FLUX_RPC_NORESPONSE, FLUX_RPC_STREAMING.
        """
        return RPC(self, topic, payload, nodeid, flags)

    def rpc_send(self, topic: str | bytes, payload: Any = None, nodeid: int = FLUX_NODEID_ANY, flags: int = 0) -> Any:
        """``rpc(...).get()``: the name of releases before 0.11."""
        return self.rpc(topic, payload, nodeid, flags).get()

    def rpc_create(self, topic: str | bytes, payload: Any = None, nodeid: int = FLUX_NODEID_ANY, flags: int = 0) -> RPC:
        """``rpc(...)``: the name of releases before 0.11."""
        return self.rpc(topic, payload, nodeid, flags)

    # Events.

    def event_create(self, topic: str | bytes, payload: Any = None) -> Message:
        """An event message, to be sent. Raises OSError(EINVAL) without a topic."""
        return Message.from_event_encode(topic, payload)

    def event_send(self, topic: str | bytes, payload: Any = None) -> int:
        """Publishes an event without waiting for its sequence number; returns 0."""
        return self.send(self.event_create(topic, payload))

    def event_recv(self, topic: str | bytes | None = None) -> Message:
        """The next event whose topic matches the glob `topic`."""
        return self.recv(type_mask=FLUX_MSGTYPE_EVENT, topic_glob=topic)

    def event_subscribe(self, topic: str | bytes) -> int:
        """Subscribes to the events whose topic begins with `topic`; returns 0 once the broker has agreed."""
        self.core.subscribe(encode_topic(topic), True)
        return 0

    def event_unsubscribe(self, topic: str | bytes) -> int:
        """Undoes one `event_subscribe`; returns 0. Raises OSError(ENOENT) if there is none."""
        name = text_bytes("flux_event_unsubscribe", topic)
        if name is None:
            raise local_error(errno.EINVAL)
        self.core.subscribe(name, False)
        return 0

    # Services.

    def service_register(self, name: str | bytes) -> Future:
        """Registers a service: requests ``name.*`` come to this handle. The future's get() is None.

        Its errors: EEXIST if taken, EINVAL if the name has a dot. Raises OSError(EINVAL) for None.
        """
        return self._service("service.add", name)

    def service_unregister(self, name: str | bytes) -> Future:
        """Undoes `service_register`; error ENOENT if there is none of this handle."""
        return self._service("service.remove", name)

    def _service(self, method: str, name: str | bytes) -> Future:
        text = text_bytes("flux_service_register", name)
        if text is None:
            raise local_error(errno.EINVAL)
        payload = {"service": text.decode("utf-8", "surrogateescape")}
        return Future(RPC(self, method, payload))

    def barrier(self, name: str | bytes | None, nprocs: int) -> Future:
        """Enters a barrier and waits until `nprocs` processes have; returns the completed future.

        Args:
            name: what the processes agree on; None: made from FLUX_JOB_ID or SLURM_STEPID and a counter.

        Raises OSError ECONNABORTED if another entrant goes away first, EEXIST if this handle is in it already,
        EINVAL if `nprocs` is below 1 or differs from what the others said. Spec 02, section 10.
        """
        future = self.barrier_async(name, nprocs)
        future.get()
        return future

    def barrier_async(self, name: str | bytes | None, nprocs: int) -> Future:
        """As `barrier`, but returns the pending future at once."""
        if not isinstance(nprocs, int) or isinstance(nprocs, bool):
            raise TypeError(f"nprocs must be an int, not {type(nprocs)}")
        text = text_bytes("flux_barrier", name)
        if text is None:
            prefix = os.environ.get("FLUX_JOB_ID") or os.environ.get("SLURM_STEPID")
            if prefix is None or nprocs < 1:
                raise local_error(errno.EINVAL)
            count = self.__dict__.get("_barriers", 0)
            self._barriers = count + 1
            text = f"{prefix}{count}".encode()
        if nprocs < 1:
            raise local_error(errno.EINVAL)
        payload = {"name": text.decode("utf-8", "surrogateescape"), "nprocs": nprocs}
        return Future(RPC(self, "barrier.enter", payload))

    # The reactor.

    @classmethod
    def reactor_running(cls) -> bool:
        """True inside `reactor_run`, in the thread that runs it."""
        return flux.reactor.tls.reactor_depth > 0

    @classmethod
    def reactor_enter(cls) -> None:
        """Counts this thread as inside a reactor."""
        flux.reactor.tls.reactor_depth += 1

    @classmethod
    def reactor_exit(cls) -> None:
        """Undoes `reactor_enter`."""
        flux.reactor.tls.reactor_depth -= 1

    @contextmanager
    def in_reactor(self) -> Iterator[None]:
        """`reactor_enter` and `reactor_exit` as a context."""
        self.reactor_enter()
        try:
            yield
        finally:
            self.reactor_exit()

    @classmethod
    def set_exception(cls, exception: BaseException | None) -> BaseException | None:
        """Stores the exception that the next `reactor_run` of this thread raises; returns the one before."""
        if exception is not None and not isinstance(exception, BaseException):
            raise TypeError(f"expected an exception, not {type(exception)}")
        old = flux.reactor.tls.exception
        flux.reactor.tls.exception = exception
        return old

    @classmethod
    def raise_if_exception(cls) -> None:
        """Raises and clears the stored exception, if there is one."""
        exception = cls.set_exception(None)
        if exception is not None:
            raise exception

    def _reactor(self, reactor: Reactor | None) -> Reactor:
        if is_null(reactor):
            return self.core.reactor
        if not isinstance(reactor, Reactor):
            raise InvalidArguments("flux_reactor_run", "int flux_reactor_run(flux_reactor_t *, int)", (reactor,))
        return reactor

    def get_reactor(self) -> Reactor:
        """This handle's reactor."""
        return self.core.reactor

    def reactor_run(self, reactor: Reactor | None = None, flags: int = 0) -> int:
        """Runs callbacks until nothing is left to wait for, `reactor_stop`, or an exception in a callback.

        Args:
            reactor: another handle's reactor instead of this one's.
            flags: FLUX_REACTOR_NOWAIT (one pass, no waiting), FLUX_REACTOR_ONCE (wait for one batch of events).

        Returns what spec 02, 4.1 says: 0 when nothing is left, more if something is, -1 after
        `reactor_stop_error`. Raises what a callback raised, and KeyboardInterrupt on SIGINT.
        """
        loop = self._reactor(reactor)
        number = c_int("flux_reactor_run", flags)
        link = self.core.link
        if not link.lock.acquire(False):
            raise link.busy()
        try:
            return flux.reactor.run_with_interrupt(loop, number)
        finally:
            link.lock.release()

    def reactor_stop(self, reactor: Reactor | None = None) -> None:
        """Ends the running `reactor_run` after the current pass."""
        self._reactor(reactor).stop()

    def reactor_stop_error(self, reactor: Reactor | None = None) -> None:
        """As `reactor_stop`, and `reactor_run` returns -1."""
        self._reactor(reactor).stop_error()
