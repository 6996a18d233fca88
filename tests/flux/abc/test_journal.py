"""flux.abc.journal: reading a journal by poll() and by callback (spec 02, section 19).

Each behaviour is tested twice: over a scripted stream, without I/O, and over a service that a second handle
serves in a thread, in an instance (fixture `instance_handle`: a connected handle on rank 0). The second is
the judge of what the first takes for granted about RPCs.
"""

from __future__ import annotations

import errno
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

import flux.abc
from flux.abc.journal import JournalConsumerBase, JournalEventBase
from flux.constants import (
    FLUX_MSGTYPE_REQUEST,
    FLUX_RPC_NORESPONSE,
    FLUX_RPC_STREAMING,
)

SENTINEL = {"id": -1, "events": []}
# Job 1's events come before job 2's although they are younger: history is grouped by job.
HISTORY = [
    {"id": 1, "events": [{"timestamp": 3.0, "name": "c"}, {"timestamp": 5.0, "name": "e"}]},
    {"id": 2, "events": [{"timestamp": 1.0, "name": "a"}]},
    {"id": 3, "events": [{"timestamp": 4.0, "name": "d"}, {"timestamp": 2.0, "name": "b"}]},
    SENTINEL,
]


class Event(JournalEventBase):
    def __init__(self, entry: dict[str, Any], source: int) -> None:
        super().__init__(entry)
        self.source = source


class Consumer(JournalConsumerBase):
    def process_response(self, resp: dict[str, Any]) -> Mapping[str, Any]:
        return {"source": resp["id"]}

    def create_event(self, entry: dict[str, Any], source: int = -1) -> Event:
        return Event(entry, source)

    @property
    def request_payload(self) -> dict[str, Any]:
        return {"full": self.full}


# --- events -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (
            {"timestamp": 1.5, "name": "name", "context": {"b": 1, "a": "ƒ"}},
            '1.50000 name {"a":"ƒ","b":1}',
        ),
        ('{"timestamp": 1.5, "name": "name"}', "1.50000 name"),
        ({"timestamp": 2}, "2.00000 End of historical data stream"),
    ],
)
def test_event_as_text(event: Any, text: str) -> None:
    assert str(JournalEventBase(event)) == text


def test_event_without_timestamp_gets_the_time_also_in_the_dict_passed() -> None:
    entry: dict[str, Any] = {"name": "n"}
    event = JournalEventBase(entry)
    assert event.timestamp > 1.7e9
    assert entry["timestamp"] == event.timestamp
    assert JournalEventBase('{"name": "n"}').timestamp > 1.7e9


def test_event_without_a_name_is_empty() -> None:
    assert JournalEventBase({}).is_empty()
    assert not JournalEventBase({"name": "n"}).is_empty()


def test_package_exports_both_classes() -> None:
    assert flux.abc.JournalConsumerBase is JournalConsumerBase
    assert flux.abc.JournalEventBase is JournalEventBase


def test_base_class_is_abstract() -> None:
    with pytest.raises(TypeError, match=r"create_event.*process_response"):
        JournalConsumerBase(None, "t")  # type: ignore[abstract,arg-type]


# --- the two kinds of journal -----------------------------------------------------------------------------


class Journal(ABC):
    """A journal service as the tests see it: what it was asked, and what it shall answer."""

    handle: Any
    history = HISTORY  # sent to each new stream
    logged: list[tuple[int, str]] | None = None  # None: not known

    @abstractmethod
    def push(self, response: dict[str, Any]) -> None:
        """Sends a response to all open streams."""

    @abstractmethod
    def fail(self, errnum: int, text: str) -> None:
        """Ends all streams with an error."""

    @abstractmethod
    def requests(self) -> list[tuple[str, Any]]:
        """(method, payload) of the requests so far."""

    @abstractmethod
    def close(self) -> None: ...


class ScriptedRPC:
    """A streaming RPC whose answers are in a list."""

    def __init__(self, matchtag: int) -> None:
        self.answers: list[Any] = []
        self.matchtag = matchtag
        self.pimpl = self
        self.callback: Callable[[Any], None] | None = None

    def get_matchtag(self) -> int:
        return self.matchtag

    def wait_for(self, timeout: float = -1.0) -> ScriptedRPC:
        if not self.answers:
            assert timeout >= 0.0, "waits for ever"
            raise TimeoutError(errno.ETIMEDOUT, "ETIMEDOUT: Connection timed out")
        return self

    def get(self) -> Any:
        if isinstance(self.answers[0], OSError):
            raise self.answers[0]
        return self.answers[0]

    def reset(self) -> None:
        del self.answers[0]

    def then(self, callback: Callable[[Any], None]) -> ScriptedRPC:
        assert self.callback is None
        self.callback = callback
        return self

    def stop(self) -> None:
        self.callback = None


class ScriptedJournal(Journal):
    """Handle and service in one; the reactor runs until nothing is left to be delivered."""

    def __init__(self) -> None:
        self.handle = self
        self.logged = []
        self._requests: list[tuple[str, Any]] = []
        self._streams: list[ScriptedRPC] = []
        self._all: list[ScriptedRPC] = []
        self._timers: list[Callable[..., None]] = []

    # the handle

    def rpc(self, topic: str, payload: Any, nodeid: int, flags: int) -> ScriptedRPC:
        assert nodeid == 0
        rpc = ScriptedRPC(matchtag=len(self._all) + 1)
        service, _, method = topic.partition(".")
        assert service == "testjournal"
        self._requests.append((method, payload))
        if method == "events":
            assert flags == FLUX_RPC_STREAMING
            self._all.append(rpc)
            self._streams.append(rpc)
            rpc.answers += self.history
        else:
            assert flags == FLUX_RPC_NORESPONSE
            self._end(OSError(errno.ENODATA, "No data available"), matchtag=payload["matchtag"])
        return rpc

    def log(self, level: int, text: str) -> None:
        assert self.logged is not None
        self.logged.append((level, text))

    def timer_watcher_create(self, after: float, callback: Callable[..., None]) -> Any:
        journal = self

        class Timer:
            def start(self) -> None:
                journal._timers.append(lambda: callback(journal, self, 0, None))

            def destroy(self) -> None: ...

        return Timer()

    def reactor_run(self) -> int:
        while True:
            if self._timers:
                self._timers.pop(0)()
                continue
            ready = [rpc for rpc in self._all if rpc.callback is not None and rpc.answers]
            if not ready:
                return 0
            before = ready[0].answers[:]
            assert ready[0].callback is not None
            ready[0].callback(ready[0])
            if ready[0].answers == before:  # not reset: not called again
                ready[0].callback = None

    # the service

    def push(self, response: dict[str, Any]) -> None:
        for rpc in self._streams:
            rpc.answers.append(response)

    def fail(self, errnum: int, text: str) -> None:
        self._end(OSError(errnum, text))

    def _end(self, error: OSError, matchtag: int | None = None) -> None:
        for rpc in self._streams[:]:
            if matchtag in (None, rpc.matchtag):
                rpc.answers.append(error)
                self._streams.remove(rpc)

    def requests(self) -> list[tuple[str, Any]]:
        return self._requests

    def close(self) -> None: ...


class ServedJournal(Journal):
    """A service of a second handle, in a thread. Orders to it are requests, in order with all others."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self._uri = handle.attr_get("local-uri")
        self._ready = threading.Event()
        self._failure: list[BaseException] = []
        self._thread = threading.Thread(target=self._main)
        self._thread.start()
        self._ready.wait()
        self._raise()

    def _main(self) -> None:
        try:
            with flux.Flux(self._uri) as handle:
                handle.service_register("testjournal").get()
                requests: list[tuple[str, Any]] = []
                streams: list[Any] = []

                def serve(handle: Any, watcher: Any, message: Any, args: Any) -> None:
                    method = message.topic.partition(".")[2]
                    payload = message.payload if message.payload_str else None
                    if method == "events":
                        requests.append((method, payload))
                        streams.append(message)
                        for response in self.history:
                            handle.respond(message, response)
                    elif method in ("events-cancel", "stop-it"):
                        requests.append((method, payload))
                        # The tests have one stream at a time, but for a restart: there the oldest is meant.
                        handle.respond_error(streams.pop(0), errno.ENODATA, None)
                    elif method == "push":
                        for stream in streams:
                            handle.respond(stream, payload)
                        handle.respond(message)
                    elif method == "fail":
                        for stream in streams:
                            handle.respond_error(stream, payload["errnum"], payload["text"])
                        streams.clear()
                        handle.respond(message)
                    elif method == "requests":
                        handle.respond(message, {"requests": requests})
                    elif method == "quit":
                        handle.respond(message)
                        handle.reactor_stop()

                watcher = handle.msg_watcher_create(serve, FLUX_MSGTYPE_REQUEST, "testjournal.*")
                watcher.start()
                self._ready.set()
                handle.reactor_run()
                watcher.stop()
        except BaseException as exc:  # for the test's thread to raise
            self._failure.append(exc)
            raise
        finally:
            self._ready.set()

    def _raise(self) -> None:
        if self._failure:
            raise self._failure[0]

    def _order(self, method: str, payload: Any = None) -> Any:
        return self.handle.rpc(f"testjournal.{method}", payload).get()

    def push(self, response: dict[str, Any]) -> None:
        self._order("push", response)

    def fail(self, errnum: int, text: str) -> None:
        self._order("fail", {"errnum": errnum, "text": text})

    def requests(self) -> list[tuple[str, Any]]:
        return [(method, payload) for method, payload in self._order("requests")["requests"]]

    def close(self) -> None:
        self._order("quit")
        self._thread.join()
        self._raise()


@pytest.fixture(params=["scripted", "instance"])
def journal(request: pytest.FixtureRequest) -> Iterator[Journal]:
    if request.param == "scripted":
        journal: Journal = ScriptedJournal()
    else:
        journal = ServedJournal(request.getfixturevalue("instance_handle"))
    yield journal
    journal.close()


def consumer(journal: Journal, **options: Any) -> Consumer:
    return Consumer(journal.handle, "testjournal.events", **options)


def live(name: str, timestamp: float) -> dict[str, Any]:
    return {"id": 9, "events": [{"timestamp": timestamp, "name": name}]}


def poll_names(reader: Consumer, count: int) -> list[str]:
    events = [reader.poll(timeout=30.0) for _ in range(count)]
    return [event if event is None else event.get("name", "SENTINEL") for event in events]


class Collector:
    """A callback that keeps names, None and the arguments it was given."""

    def __init__(self) -> None:
        self.names: list[str | None] = []
        self.arguments: set[Any] = set()

    def __call__(self, event: Event | None, *args: Any, **kwargs: Any) -> None:
        self.names.append(None if event is None else event.get("name", "SENTINEL"))
        self.arguments.add((*args, *kwargs.items()))


# --- poll -------------------------------------------------------------------------------------------------


def test_poll_before_start_is_a_runtime_error(journal: Journal) -> None:
    with pytest.raises(RuntimeError, match=r"^poll\(\) called before start\(\)$"):
        consumer(journal).poll()


def test_history_is_sorted_by_time_and_live_events_follow(journal: Journal) -> None:
    reader = consumer(journal)
    assert reader.start() is reader
    assert poll_names(reader, 5) == ["a", "b", "c", "d", "e"]
    journal.push(live("old but live", 0.5))
    journal.push(live("x", 6.0))
    assert poll_names(reader, 2) == ["old but live", "x"]


def test_events_know_what_came_with_their_response(journal: Journal) -> None:
    reader = consumer(journal).start()
    assert [reader.poll(timeout=30.0).source for _ in range(5)] == [2, 3, 1, 3, 1]


def test_without_full_events_come_as_they_are_sent(journal: Journal) -> None:
    reader = consumer(journal, full=False).start()
    assert poll_names(reader, 5) == ["c", "e", "a", "d", "b"]
    assert journal.requests() == [("events", {"full": False})]


def test_events_not_after_since_are_skipped(journal: Journal) -> None:
    reader = consumer(journal, since=3.0).start()
    journal.push(live("too old", 3.0))
    journal.push(live("x", 3.5))
    assert poll_names(reader, 3) == ["d", "e", "x"]


@pytest.mark.parametrize("full", [True, False])
def test_sentinel_is_handed_out_if_asked_for(journal: Journal, full: bool) -> None:
    reader = consumer(journal, full=full, include_sentinel=True).start()
    poll_names(reader, 5)
    sentinel = reader.poll(timeout=30.0)
    assert sentinel is Consumer.SENTINEL_EVENT
    assert sentinel.is_empty()


def test_poll_may_be_repeated_after_a_timeout(journal: Journal) -> None:
    reader = consumer(journal).start()
    poll_names(reader, 5)
    with pytest.raises(TimeoutError):
        reader.poll(timeout=0.01)
    journal.push(live("x", 6.0))
    assert poll_names(reader, 1) == ["x"]


def test_stop_ends_the_stream_with_none_once(journal: Journal) -> None:
    reader = consumer(journal).start()
    assert reader.rpc is not None
    matchtag = reader.rpc.pimpl.get_matchtag()
    reader.stop()
    assert poll_names(reader, 6) == ["a", "b", "c", "d", "e", None]
    with pytest.raises(TimeoutError):
        reader.poll(timeout=0.01)
    assert journal.requests() == [("events", {"full": True}), ("events-cancel", {"matchtag": matchtag})]


def test_stop_is_sent_to_the_topic_given_and_only_once(journal: Journal) -> None:
    reader = consumer(journal, cancel_topic="testjournal.stop-it")
    reader.stop()
    reader.start()
    reader.stop()
    reader.stop()
    assert [method for method, _ in journal.requests()] == ["events", "stop-it"]


def test_stream_that_has_ended_is_not_cancelled(journal: Journal) -> None:
    reader = consumer(journal).start()
    journal.fail(errno.ENODATA, "No data available")
    assert poll_names(reader, 6)[-1] is None
    reader.stop()
    assert [method for method, _ in journal.requests()] == ["events"]


def test_history_that_ends_early_is_handed_out_before_the_end(journal: Journal) -> None:
    journal.history = HISTORY[:-1]  # no sentinel
    reader = consumer(journal).start()
    reader.stop()
    assert poll_names(reader, 6) == ["a", "b", "c", "d", "e", None]


def test_start_again_reads_from_the_beginning(journal: Journal) -> None:
    reader = consumer(journal).start()
    assert poll_names(reader, 2) == ["a", "b"]
    reader.start()
    journal.push(live("x", 6.0))
    assert poll_names(reader, 6) == ["a", "b", "c", "d", "e", "x"]
    assert [method for method, _ in journal.requests()] == ["events", "events-cancel", "events"]


def test_error_of_the_service_is_raised(journal: Journal) -> None:
    reader = consumer(journal).start()
    poll_names(reader, 5)
    journal.fail(errno.EPERM, "journal is closed to you")
    for _ in range(2):
        with pytest.raises(PermissionError, match="journal is closed to you"):
            reader.poll(timeout=30.0)


# --- callback ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before_start", [True, False])
def test_callback_sees_what_poll_would_with_its_arguments(journal: Journal, before_start: bool) -> None:
    seen = Collector()
    reader = consumer(journal, include_sentinel=True)
    if before_start:
        assert reader.set_callback(seen, 1, key="value") is reader
        reader.start()
    else:
        assert reader.start().set_callback(seen, 1, key="value") is reader
    journal.push(live("x", 6.0))
    reader.stop()
    assert journal.handle.reactor_run() == 0
    assert seen.names == ["a", "b", "c", "d", "e", "SENTINEL", "x", None]
    assert seen.arguments == {(1, ("key", "value"))}


def test_callback_may_stop_the_stream(journal: Journal) -> None:
    seen = Collector()
    reader = consumer(journal)

    def stop_at_c(event: Event | None) -> None:
        seen(event)
        if event is not None and event.name == "c":
            reader.stop()

    reader.set_callback(stop_at_c).start()
    assert journal.handle.reactor_run() == 0
    assert seen.names == ["a", "b", "c", "d", "e", None]


def test_callback_may_start_anew(journal: Journal) -> None:
    seen = Collector()
    reader = consumer(journal)

    def restart_at_b(event: Event | None) -> None:
        first_round = "b" not in seen.names
        seen(event)
        if event is not None and event.name == "b":
            if first_round:
                reader.start()
            else:
                reader.stop()

    reader.set_callback(restart_at_b).start()
    assert journal.handle.reactor_run() == 0
    assert seen.names == ["a", "b", "a", "b", "c", "d", "e", None]


def test_callback_gets_what_poll_left(journal: Journal) -> None:
    seen = Collector()
    reader = consumer(journal).start()
    assert poll_names(reader, 2) == ["a", "b"]

    def stop_at_e(event: Event | None) -> None:
        seen(event)
        if event is not None and event.name == "e":
            reader.stop()

    reader.set_callback(stop_at_e)
    assert journal.handle.reactor_run() == 0
    assert seen.names == ["c", "d", "e", None]


def test_callback_can_be_replaced(journal: Journal) -> None:
    first, second = Collector(), Collector()
    reader = consumer(journal).set_callback(first).start().set_callback(second)
    reader.stop()
    assert journal.handle.reactor_run() == 0
    assert first.names == []
    assert second.names == ["a", "b", "c", "d", "e", None]


def test_error_in_callback_mode_ends_with_none_and_is_logged(journal: Journal) -> None:
    seen = Collector()
    consumer(journal).set_callback(seen).start()
    journal.fail(errno.EPERM, "journal is closed to you")
    assert journal.handle.reactor_run() == 0
    assert seen.names == ["a", "b", "c", "d", "e", None]
    if journal.logged is not None:
        assert journal.logged == [(3, "testjournal.events: journal ended: journal is closed to you")]


def test_no_callback_is_a_value_error(journal: Journal) -> None:
    with pytest.raises(ValueError, match="Callback cannot be None"):
        consumer(journal).set_callback(None)  # type: ignore[arg-type]
