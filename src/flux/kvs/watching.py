"""Following a key: futures that are fulfilled with each of its values (spec 05, 12.5; what is sent when: 9.3)."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Any

from flux.constants import FLUX_KVS_WAITCREATE, FLUX_KVS_WATCH, FLUX_KVS_WATCH_FULL, FLUX_KVS_WATCH_UNIQ
from flux.core import kvs_rpc
from flux.core.handle import Flux
from flux.future import Future
from flux.kvs.values import decode_value, key_text


class WatchImplementation(Future, ABC):
    """A future that is fulfilled again and again: what watchers of keys and of jobs' events have in common.

    Args:
        future_handle: the opaque future of a streaming request.

    One that goes before its stream has ended cancels that.
    """

    def __init__(self, future_handle: Any) -> None:
        self.needs_cancel = False  # should the next line fail
        super().__init__(future_handle)
        self.needs_cancel = True

    def __del__(self) -> None:
        # Nobody is there to be told that the connection is lost, closed, or at work in another thread: where it
        # ends, the stream does too.
        if self.__dict__.get("needs_cancel"):
            with suppress(OSError, ValueError, RuntimeError):
                self.cancel(stop=True)

    @abstractmethod
    def watch_get(self, future: Future) -> Any:
        """What `future` is fulfilled with. Raises OSError."""

    @abstractmethod
    def watch_cancel(self, future: Future) -> None:
        """Asks for the end of the stream of `future`."""

    def get(self, autoreset: bool = True) -> Any:
        """Waits for the next value; None when the stream has ended.

        Args:
            autoreset: go on to the next; False: another `get` returns the same.

        Raises OSError of what else ends the stream, with the service's text.
        """
        self.wait_for()
        try:
            self.raise_if_handle_exception()
            value = self.watch_get(self)
        except OSError as exc:
            if not self._state.errnum:
                raise  # of this value, not of the stream
            self.needs_cancel = False
            if exc.errno == errno.ENODATA:
                return None
            raise OSError(exc.errno, self.error_string()) from None
        if autoreset:
            self.reset()
        return value

    def cancel(self, stop: bool = False) -> None:
        """Asks for the end of the stream, which comes as its last value (None); once.

        Args:
            stop: no callback is called any more.
        """
        if self.needs_cancel:
            self.needs_cancel = False
            self.watch_cancel(self)
        if stop:
            self.stop()


class KVSWatchFuture(WatchImplementation):
    """The future of `kvs_watch_async`: `get` returns a value as `flux.kvs.get` does, ``""`` for an empty one."""

    def __init__(self, future_handle: Any) -> None:
        super().__init__(future_handle)

    def watch_get(self, future: Future) -> Any:
        """The value that `future` is fulfilled with."""
        data = kvs_rpc.value(future._state).partition(b"\0")[0]
        # None would be the end.
        return decode_value(data) if data else ""

    def watch_cancel(self, future: Future) -> None:
        """Sends kvs-watch.cancel."""
        if not future._state.done:
            kvs_rpc.cancel_lookup(future._state)


def kvs_watch_async(
    flux_handle: Flux,
    key: str | bytes,
    namespace: str | None = None,
    waitcreate: bool = False,
    uniq: bool = False,
    full: bool = False,
) -> KVSWatchFuture:
    """Follows a key: a future that is fulfilled with its value now, and with that of each commit to it.

    Args:
        waitcreate: wait for a key that is not there yet, rather than fail with ENOENT.
        uniq: only values that differ from the one before.
        full: notice also what changes the value otherwise, as the removal of a directory above it does.
    """
    flags = FLUX_KVS_WATCH
    flags |= FLUX_KVS_WAITCREATE if waitcreate else 0
    flags |= FLUX_KVS_WATCH_UNIQ if uniq else 0
    flags |= FLUX_KVS_WATCH_FULL if full else 0
    future = KVSWatchFuture(kvs_rpc.lookup(kvs_rpc.core_of(flux_handle), namespace, flags, key_text(key)))
    future._flux = flux_handle
    return future
