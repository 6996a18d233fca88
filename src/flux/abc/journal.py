"""What consumers of a journal share: a streaming RPC that sends history, then events as they happen
(spec 02, section 19; spec 06, 7.2 and spec 07, 2.3 for the two services).

A journal's responses hold lists of entries. The history comes first, grouped as suits the service, and ends
with an empty response, the sentinel; live events follow until the service answers ENODATA.

    start() -> response, response, ..., empty response | response, response, ... | ENODATA
               history, collected and sorted           | live, handed out        | None, once

Rules that hold here:
- `backlog` holds what is ready to be handed out, in order, or, while `processing_inactive`, the history
  collected so far. None in it stands for the end of the stream.
- Both ways of consuming, poll() and callback, see the same sequence.
- A stream is cancelled at most once, and never after its end: its matchtag may belong to another RPC by then.
"""

from __future__ import annotations

import errno
import json
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from flux.constants import FLUX_RPC_NORESPONSE, FLUX_RPC_STREAMING
from flux.eventlog import EventLogEvent

if TYPE_CHECKING:
    from flux.core.handle import Flux
    from flux.rpc import RPC

_LOG_ERR = 3  # syslog's LOG_ERR

ConsumerT = TypeVar("ConsumerT", bound="JournalConsumerBase")


class JournalEventBase(EventLogEvent):
    """An event of a journal: an EventLogEvent, or, if empty, the mark between history and live events.

    Args:
        event: as EventLogEvent; an entry without timestamp gets the current time, in a dict passed too.
    """

    def __init__(self, event: dict[str, Any] | str | bytes) -> None:
        if isinstance(event, (str, bytes)):
            event = json.loads(event)
        if isinstance(event, dict):
            event.setdefault("timestamp", time.time())
        super().__init__(event)

    def is_empty(self) -> bool:
        """True for the sentinel: an event without a name."""
        return "name" not in self

    def __str__(self) -> str:
        if self.is_empty():
            return f"{self.timestamp:.5f} End of historical data stream"
        return f"{self.timestamp:.5f} {self.name} {self.context_string}".rstrip()


class JournalConsumerBase(ABC):
    """Reads one journal; subclasses say which and what its entries mean.

    Args:
        flux_handle: a connected handle; the journal is asked on rank 0.
        topic: the service method to stream from.
        cancel_topic: the method that ends the stream, by default ``<topic>-cancel``.
        full: history comes first, and is handed out sorted by time. If not, everything is handed out as it
            comes.
        since: skip events whose timestamp (seconds since the epoch) is not greater.
        include_sentinel: hand out SENTINEL_EVENT itself between history and live events.
    """

    #: Handed out at the end of history with `include_sentinel`; compare with ``is``.
    SENTINEL_EVENT: EventLogEvent = JournalEventBase({})

    def __init__(
        self,
        flux_handle: Flux,
        topic: str,
        cancel_topic: str | None = None,
        full: bool = True,
        since: float = 0.0,
        include_sentinel: bool = False,
    ) -> None:
        self.handle = flux_handle
        self.topic = topic
        self.cancel_topic = cancel_topic or f"{topic}-cancel"
        self.backlog: deque[Any] = deque()
        self.full = full
        self.since = since
        self.rpc: RPC | None = None
        self.cb: Callable[..., Any] | None = None
        self.cb_args: tuple[Any, ...] = ()
        self.cb_kwargs: dict[str, Any] = {}
        self.processing_inactive = full
        self.include_sentinel = include_sentinel
        self._streaming = False  # the service has a stream of ours that nobody has cancelled
        self._continued = False  # the present RPC has its continuation

    @abstractmethod
    def process_response(self, resp: dict[str, Any]) -> Mapping[str, Any]:
        """Keyword arguments for create_event() that come with a response, such as the job id."""

    @abstractmethod
    def create_event(self, entry: dict[str, Any], **kwargs: Any) -> EventLogEvent:
        """The event for one entry of a response; `kwargs` are what process_response() returned for it."""

    def is_empty_response(self, resp: dict[str, Any]) -> bool:
        """True for the response that ends the history; by default one without events."""
        return not resp["events"]

    @property
    def request_payload(self) -> dict[str, Any]:
        """The payload of the request that opens the stream."""
        return {}

    def start(self: ConsumerT) -> ConsumerT:
        """Opens the stream, anew if there is one; returns self."""
        self.stop()
        if self.rpc is not None:
            self.rpc.stop()
        self.backlog.clear()
        self.processing_inactive = self.full
        self.rpc = self.handle.rpc(self.topic, self.request_payload, nodeid=0, flags=FLUX_RPC_STREAMING)
        self._streaming = True
        self._continued = False
        if self.cb is not None:
            self._continue()
        return self

    def stop(self) -> None:
        """Asks the service to end the stream; what it sent before still comes, then None.

        Before start(), or after the end, there is nothing to stop and nothing is sent.
        """
        if self.rpc is None or not self._streaming:
            return
        self._streaming = False
        payload = {"matchtag": self.rpc.pimpl.get_matchtag()}
        self.handle.rpc(self.cancel_topic, payload, nodeid=0, flags=FLUX_RPC_NORESPONSE)

    def poll(self, timeout: float = -1.0) -> Any:
        """The next event; None once when the stream has ended. After that it waits again.

        Args:
            timeout: seconds to wait for each response (there may be many before the first event); negative:
                no limit.

        Raises:
            RuntimeError: not started.
            TimeoutError: no response in time; poll() may be called again.
            OSError: the service's error.
        """
        if self.rpc is None:
            raise RuntimeError("poll() called before start()")
        while self.processing_inactive or not self.backlog:
            self.rpc.wait_for(timeout)
            try:
                resp = self.rpc.get()
            except OSError as exc:
                self._streaming = False
                if exc.errno != errno.ENODATA:
                    raise
                self._end()
            else:
                self._collect(resp)
            self.rpc.reset()
        return self.backlog.popleft()

    def set_callback(self: ConsumerT, event_cb: Callable[..., Any], *args: Any, **kwargs: Any) -> ConsumerT:
        """Has each event delivered by the reactor as ``event_cb(event, *args, **kwargs)``; returns self.

        The last call gets None instead of an event: at the end of the stream, and also if the service fails,
        which is then logged through the handle. May be called before or after start().

        Raises:
            ValueError: `event_cb` is None.
        """
        if event_cb is None:
            raise ValueError("Callback cannot be None")
        self.cb, self.cb_args, self.cb_kwargs = event_cb, args, kwargs
        if self.rpc is not None and not self._continued:
            self._continue()
        return self

    def _continue(self) -> None:
        assert self.rpc is not None
        self._continued = True
        self.rpc.then(self._respond_cb)
        if self.backlog and not self.processing_inactive:
            # Left over from poll(); its events must not wait for a response that may be long in coming.
            self.handle.timer_watcher_create(0.0, self._leftover_cb).start()

    def _leftover_cb(self, handle: Flux, watcher: Any, revents: int, args: Any) -> None:
        watcher.destroy()
        self._deliver()

    def _respond_cb(self, rpc: RPC) -> None:
        try:
            resp = rpc.get()
        except OSError as exc:
            # Not reset: a stream that has ended must not hold the reactor.
            self._streaming = False
            if exc.errno != errno.ENODATA:
                self.handle.log(_LOG_ERR, f"{self.topic}: journal ended: {exc.strerror}")
            self._end()
        else:
            rpc.reset()
            self._collect(resp)
        self._deliver()

    def _deliver(self) -> None:
        # The callback may replace itself, stop, or start anew, hence no state is kept over the call.
        while self.backlog and not self.processing_inactive and self.cb is not None:
            self.cb(self.backlog.popleft(), *self.cb_args, **self.cb_kwargs)

    def _collect(self, resp: dict[str, Any]) -> None:
        if self.is_empty_response(resp):
            self._finish_history()
            if self.include_sentinel:
                self.backlog.append(self.SENTINEL_EVENT)
            return
        kwargs = self.process_response(resp)
        events = (self.create_event(entry, **kwargs) for entry in resp["events"])
        self.backlog.extend(event for event in events if event.timestamp > self.since)

    def _end(self) -> None:
        self._finish_history()
        self.backlog.append(None)

    def _finish_history(self) -> None:
        if self.processing_inactive:
            self.processing_inactive = False
            self.backlog = deque(sorted(self.backlog, key=lambda event: event.timestamp))
