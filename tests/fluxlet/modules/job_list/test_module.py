"""The service `job-list`, over a socket; a client plays the job manager's journal."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from in_process import BrokerThread, error_of
from job_stories import jobspec, r
from service_thread import serving

import flux
from flux.constants import FLUX_RPC_STREAMING
from flux.message import Message
from fluxlet.modules.job_list.module import JobList

#: Modules that a broker may have loaded, and that these tests play, or load themselves.
JOBS = ("job-info", "job-list", "job-ingest", "job-exec", "sched", "sched-simple", "job-manager")


class Journal:
    """Plays job-manager.events-journal."""

    def __init__(self, held: bool = False) -> None:
        self.history: list[dict[str, Any]] = []
        self.opened = threading.Event()
        self.release = not held
        self._stream: tuple[flux.Flux, Message] | None = None

    def handler(self, handle: flux.Flux, message: Message) -> None:
        match message.topic:
            case "job-manager.events-journal":
                assert message.payload == {"full": True}
                self._stream = (handle, message)
                for response in self.history:
                    handle.respond(message, response)
                if self.release:
                    handle.respond(message, {"id": -1, "events": []})
                self.opened.set()
            case "job-manager.tell":
                assert self._stream is not None
                for response in message.payload["responses"]:
                    self._stream[0].respond(self._stream[1], response)
                handle.respond(message)
            case "job-manager.end":
                assert self._stream is not None
                self._stream[0].respond_error(self._stream[1], errno.ENODATA)
                handle.respond(message)


def job(jobid: int, *events: tuple[str, dict[str, Any]] | str, start: float = 1.0, **spec: Any) -> dict[str, Any]:
    """A response of the journal."""
    entries = []
    for number, event in enumerate(events):
        name, context = (event, None) if isinstance(event, str) else event
        entry = {"timestamp": start + number, "name": name}
        entries.append(entry if context is None else {**entry, "context": context})
    response = {"id": jobid, "events": entries}
    if events[0] == SUBMIT:
        response["jobspec"] = json.loads(jobspec(**spec))
    if "alloc" in events:
        response["R"] = json.loads(r(0))
    return response


SUBMIT = ("submit", {"userid": 0, "urgency": 16, "flags": 0, "version": 1})
SCHED = (SUBMIT, "validate", "depend", ("priority", {"priority": 16}))
DONE = (*SCHED, "alloc", "start", ("finish", {"status": 0}), "clean")


@pytest.fixture
def start(start_broker: Callable[..., BrokerThread]) -> Iterator[Callable[..., BrokerThread]]:
    """Starts a broker whose job-list reads a journal."""
    stacks = []

    def begin(journal: Journal, config: dict[str, Any] | None = None) -> BrokerThread:
        thread = start_broker(config=config)
        broker = thread.broker
        for name in JOBS:
            if name in broker.modules:
                thread.call(lambda name=name: broker.unload(name))  # type: ignore[misc]
        stack = serving(thread.uri, "job-manager", journal.handler)
        stack.__enter__()
        stacks.append((thread, stack))
        thread.call(lambda: broker.load("job-list", JobList))
        assert journal.opened.wait(60.0)
        return thread

    yield begin
    for thread, stack in stacks:
        if "job-list" in thread.broker.modules:
            thread.call(lambda thread=thread: thread.broker.unload("job-list"))  # type: ignore[misc]
        stack.__exit__(None, None, None)


def ids(answer: Any) -> list[int]:
    return [one["id"] for one in answer["jobs"]]


def test_requests_wait_for_the_history(start: Callable[..., BrokerThread]) -> None:
    journal = Journal(held=True)
    journal.history = [job(1, *DONE), job(2, *SCHED)]
    with start(journal).open() as h:
        waiting = h.rpc("job-list.list", {"max_entries": 0, "attrs": ["name"]})
        stats = h.rpc("job-list.job-stats", {})
        wrong = h.rpc("job-list.list", {"max_entries": 0})
        assert h.rpc("job-list.stats-get", {}).get()["jobs"] == {"pending": 1, "running": 0, "inactive": 1}
        assert not waiting.is_ready()
        h.rpc("job-manager.tell", {"responses": [job(3, *SCHED), {"id": -1, "events": []}]}).get()
        assert waiting.get() == {"jobs": [{"id": i, "name": "app"} for i in (2, 3, 1)]}
        assert stats.get()["job_states"]["total"] == 3
        assert error_of(wrong.get) == (errno.EPROTO, "invalid payload: Object item not found: attrs")


def test_a_stream_has_a_job_in_each_response(start: Callable[..., BrokerThread]) -> None:
    journal = Journal()
    journal.history = [job(i, *SCHED) for i in (1, 2, 3)]
    with start(journal).open() as h:
        rpc = h.rpc("job-list.list", {"max_entries": 2, "attrs": []}, flags=FLUX_RPC_STREAMING)
        assert rpc.get() == {"jobs": [{"id": 1}], "version": 1}
        rpc.reset()
        assert rpc.get() == {"jobs": [{"id": 2}]}
        rpc.reset()
        assert error_of(rpc.get)[0] == errno.ENODATA
        none = h.rpc(
            "job-list.list", {"max_entries": 0, "attrs": [], "constraint": {"name": ["x"]}}, flags=FLUX_RPC_STREAMING
        )
        assert error_of(none.get)[0] == errno.ENODATA
        bad = h.rpc("job-list.list", {"max_entries": 0, "attrs": ["bogus"]})
        assert error_of(bad.get) == (errno.EINVAL, "bogus is not a valid attribute")


def test_a_long_list_does_not_keep_others_waiting(start: Callable[..., BrokerThread]) -> None:
    journal = Journal()
    journal.history = [job(i, *SCHED) for i in range(1, 3001)]
    with start(journal).open() as h:
        order: list[str] = []
        rpc = h.rpc("job-list.list", {"max_entries": 0, "attrs": ["all"]})
        rpc.then(lambda future: order.append("list"))
        h.rpc("job-list.list-attrs").then(lambda future: order.append("attrs"))
        h.reactor_run()
        assert order == ["attrs", "list"]
        assert ids(rpc.get()) == list(range(1, 3001))


def test_a_job_is_told_of_when_it_has_been_in_the_state(start: Callable[..., BrokerThread]) -> None:
    journal = Journal()
    journal.history = [job(1, *SCHED), job(2, SUBMIT)]
    with start(journal).open() as h:
        run = h.rpc("job-list.list-id", {"id": 1, "attrs": ["state"], "state": 16})
        valid = h.rpc("job-list.list-id", {"id": 2, "attrs": ["state"]})
        end = h.rpc("job-list.list-id", {"id": 1, "attrs": ["state", "result"], "state": 64})
        assert h.rpc("job-list.stats-get", {}).get()["idsync"] == {"lookups": 0, "waits": 3}
        responses = [job(1, "alloc", start=9.0), job(2, "invalidate", start=9.0)]
        h.rpc("job-manager.tell", {"responses": responses}).get()
        assert run.get() == {"job": {"id": 1, "state": 16}}
        assert error_of(valid.get)[0] == errno.ENOENT
        h.rpc("job-manager.tell", {"responses": [job(1, ("finish", {"status": 0}), "clean", start=10.0)]}).get()
        assert end.get() == {"job": {"id": 1, "state": 64, "result": 1}}
        again = h.rpc("job-list.list-id", {"id": 1, "attrs": ["state"], "state": 8})
        assert again.get() == {"job": {"id": 1, "state": 64}}


def test_counts_are_told_when_they_change(start: Callable[..., BrokerThread]) -> None:
    journal = Journal()
    journal.history = [job(1, *DONE, queue="batch"), job(2, *SCHED)]
    with start(journal, {"queues": {"debug": {}, "batch": {}}}).open() as h:
        rpc = h.rpc("job-list.job-stats", {}, flags=FLUX_RPC_STREAMING)
        first = rpc.get()
        assert first["job_states"] | {"x": 0} == {
            "depend": 0,
            "priority": 0,
            "sched": 1,
            "run": 0,
            "cleanup": 0,
            "inactive": 1,
            "total": 2,
            "x": 0,
        }
        assert (first["successful"], first["inactive_purged"]) == (1, 0)
        assert [(queue["name"], queue["successful"]) for queue in first["queues"]] == [("debug", 0), ("batch", 1)]
        rpc.reset()
        h.rpc("job-manager.tell", {"responses": [job(2, "alloc", start=9.0)]}).get()
        assert rpc.get()["job_states"]["run"] == 1
        rpc.reset()
        h.event_send("job-purge-inactive", {"jobs": [1]})
        assert rpc.get()["inactive_purged"] == 1
        assert ids(h.rpc("job-list.list", {"max_entries": 0, "attrs": []}).get()) == [2]


def test_pause_keeps_what_the_journal_says(start: Callable[..., BrokerThread]) -> None:
    with start(Journal()).open() as h:
        h.rpc("job-list.job-state-pause").get()
        h.rpc("job-manager.tell", {"responses": [job(1, *SCHED)]}).get()
        listed = h.rpc("job-list.list", {"max_entries": 0, "attrs": []})
        assert ids(listed.get()) == []
        h.rpc("job-list.job-state-unpause").get()
        assert ids(h.rpc("job-list.list", {"max_entries": 0, "attrs": []}).get()) == [1]


def test_an_event_that_is_none_is_no_end(start: Callable[..., BrokerThread]) -> None:
    journal = Journal()
    journal.history = [job(1, SUBMIT, "validate", ("priority", {}), ("finish", {})), {"id": 1, "events": 3}]
    with start(journal).open() as h:
        assert ids(h.rpc("job-list.list", {"max_entries": 0, "attrs": []}).get()) == [1]


@pytest.mark.parametrize(("private", "seen"), [(False, [1, 2]), (True, [2])])
def test_what_guests_see(
    start: Callable[..., BrokerThread], monkeypatch: pytest.MonkeyPatch, private: bool, seen: list[int]
) -> None:
    journal = Journal()
    mine = ("submit", {"userid": 1234, "urgency": 16, "flags": 0, "version": 1})
    other = job(1, *SCHED)
    journal.history = [other, {**job(2, mine, *SCHED[1:]), "jobspec": other["jobspec"]}]
    thread = start(journal, {"access": {"private-mode": private}})
    monkeypatch.setenv("FLUX_HANDLE_USERID", "1234")
    monkeypatch.setenv("FLUX_HANDLE_ROLEMASK", "2")
    with thread.open() as h:
        assert ids(h.rpc("job-list.list", {"max_entries": 0, "attrs": []}).get()) == seen
        assert h.rpc("job-list.list-id", {"id": 2, "attrs": []}).get() == {"job": {"id": 2}}
        other_id = h.rpc("job-list.list-id", {"id": 1, "attrs": []})
        stats, gauges = h.rpc("job-list.job-stats", {}), h.rpc("job-list.stats-get", {})
        if private:
            assert error_of(other_id.get) == (errno.ENOENT, "job not found")
            assert [error_of(rpc.get)[0] for rpc in (stats, gauges)] == [errno.EPERM, errno.EPERM]
        else:
            assert other_id.get() == {"job": {"id": 1}}
            assert stats.get()["job_states"]["total"] == 2


def test_the_limit_of_comparisons_is_configured(start: Callable[..., BrokerThread]) -> None:
    journal = Journal()
    journal.history = [job(i, *SCHED) for i in range(1, 101)]
    with start(journal, {"job-list": {"max_comparisons": 50}}).open() as h:
        request = {"max_entries": 0, "attrs": [], "constraint": {"t_submit": [">0"]}}
        text = "Excessive comparisons made, limit search via states or since"
        assert error_of(h.rpc("job-list.list", request).get) == (errno.EINVAL, text)
        wrong = h.rpc("job-list.config-reload", {"job-list": {"max_comparisons": -1}})
        assert error_of(wrong.get) == (errno.EINVAL, "job-list.max_comparisons must be >= 0")
        h.rpc("job-list.config-reload", {}).get()
        assert len(ids(h.rpc("job-list.list", request).get())) == 100


def test_what_the_journal_of_another_job_manager_says_is_what_there_is(start: Callable[..., BrokerThread]) -> None:
    journal = Journal()
    journal.history = [job(1, *DONE), job(2, *SCHED)]
    request = {"max_entries": 0, "attrs": []}
    with start(journal).open() as h:
        assert ids(h.rpc("job-list.list", request).get()) == [2, 1]
        h.rpc("job-manager.end").get()
        h.rpc("job-list.list-attrs").get()
        assert ids(h.rpc("job-list.list", request).get()) == [2, 1]
        journal.history = [job(2, *DONE), job(3, *SCHED)]
        journal.opened.clear()
        h.event_send("job-manager.hello", {})
        assert journal.opened.wait(60.0)
        assert ids(h.rpc("job-list.list", request).get()) == [3, 2]
        h.rpc("job-manager.tell", {"responses": [job(4, *SCHED)]}).get()
        assert ids(h.rpc("job-list.list", request).get()) == [3, 4, 2]
        assert h.rpc("job-list.job-stats").get()["job_states"]["total"] == 3
