"""The service `job-info` over a socket, on a KVS that the test fills as jobs would."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from typing import Any

import pytest
from in_process import BrokerThread, error_of
from job_kvs import SUBMIT, append, event, finish, happen, key, start, write
from service_recordings import records, replay

import flux
import flux.job
import flux.kvs
from flux.constants import FLUX_RPC_STREAMING
from flux.message import Message
from flux.rpc import RPC
from fluxlet.modules.job_info import live
from fluxlet.modules.job_info.module import JobInfo
from fluxlet.modules.job_info.watch import End, Source, Watch

JOB = 5553258496


@pytest.fixture(scope="module", params=["short", "long"])
def thread(request: pytest.FixtureRequest) -> Iterator[BrokerThread]:
    """Main eventlogs are followed where they are committed, or as on other ranks, by way of kvs-watch."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "long":
            patch.setattr(live, "follow", lambda broker, key, pieces: None)
        started = BrokerThread()
        yield started
        started.stop()


@pytest.fixture(scope="module")
def jobids() -> Iterator[int]:
    """Ids of jobs that no other test uses."""
    return iter(range(1000, 2000))


@pytest.fixture
def h(thread: BrokerThread) -> Iterator[flux.Flux]:
    with thread.open() as opened:
        yield opened


def watch(h: flux.Flux, jobid: int, path: str = "eventlog", flags: int = 0) -> RPC:
    return h.rpc("job-info.eventlog-watch", {"id": jobid, "path": path, "flags": flags}, flags=FLUX_RPC_STREAMING)


def told(rpc: RPC) -> Any:
    """The next of a stream: an event's name, None for the sentinel, or the errno that ends it."""
    try:
        answer = rpc.get()
    except OSError as exc:
        return exc.errno
    rpc.reset()
    return None if answer is None else json.loads(answer["event"])["name"]


def all_told(rpc: RPC) -> list[Any]:
    found = [told(rpc)]
    while not isinstance(found[-1], int):
        found.append(told(rpc))
    return found


# The recordings.


def fill(h: flux.Flux, jobid: int, values: dict[str, str]) -> None:
    for name, value in values.items():
        append(h, key(jobid, name), *value.splitlines(keepends=True))


def test_lookups_as_recorded(thread: BrokerThread, h: flux.Flux) -> None:
    lines = records("jobinfo-lookup")
    values: dict[str, str] = {}
    for line in lines:
        if line["dir"] == "b>c" and not line["errnum"] and "id" in line["payload"]:
            values.update({k: v for k, v in line["payload"].items() if isinstance(v, str) and k not in values})
    # As it was in the KVS: the first time that it was looked up, nothing had been applied to it.
    fill(h, JOB, values)
    replay(lines, thread.open)


def test_watches_of_a_finished_job_as_recorded(thread: BrokerThread, h: flux.Flux) -> None:
    lines = records("jobinfo-watch-inactive")
    values: dict[str, str] = {"R": "{}"}
    paths: dict[int, str] = {}
    for line in lines:
        if line["dir"] == "c>b":
            paths[line["matchtag"]] = line["payload"].get("path", "")
        elif line.get("payload", {}).get("event"):
            path = paths[line["matchtag"]]
            text = values.get(path, "")
            if line["payload"]["event"] not in text:
                values[path] = text + line["payload"]["event"]
    fill(h, 5117050880, values)
    replay(lines, thread.open)


def test_guests_as_recorded(thread: BrokerThread, h: flux.Flux) -> None:
    happen(h, 5721030656, SUBMIT, event("clean"))
    fill(h, 5721030656, {"R": "{}"})

    def connect() -> flux.Flux:
        return thread.open()

    replay(records("jobinfo-guest")[:12], connect)


# Watching.


def test_a_guest_with_no_right_gets_an_answer_though_the_owner_is_not_known_yet(
    thread: BrokerThread, h: flux.Flux, monkeypatch: pytest.MonkeyPatch
) -> None:
    happen(h, 11, SUBMIT)
    happen(h, 12, event("submit", userid=1234, urgency=16, flags=0, version=1))
    monkeypatch.setenv("FLUX_HANDLE_USERID", "1234")
    monkeypatch.setenv("FLUX_HANDLE_ROLEMASK", "2")
    with thread.open() as guest:
        for path in ("eventlog", "guest.output", "R", "eventlog"):
            assert told(watch(guest, 11, path)) == errno.EPERM
        mine = watch(guest, 12)
        assert told(mine) == "submit"
        happen(h, 12, event("clean"))
        assert all_told(mine) == ["clean", errno.ENODATA]
        assert told(watch(guest, 12, "R")) == errno.ENOENT


def test_the_main_eventlog_ends_with_clean(h: flux.Flux) -> None:
    happen(h, 21, SUBMIT, event("validate"))
    rpc = watch(h, 21, flags=2)
    assert [told(rpc) for _ in range(3)] == ["submit", "validate", None]
    happen(h, 21, event("finish", status=0), event("clean"), event("late"))
    assert all_told(rpc) == ["finish", "clean", errno.ENODATA]
    assert all_told(watch(h, 21, flags=2)) == ["submit", "validate", "finish", "clean", None, errno.ENODATA]


@pytest.mark.parametrize("long", [False, True])
def test_what_is_overwritten_or_unlinked_is_the_end_of_a_watch(h: flux.Flux, jobids: Iterator[int], long: bool) -> None:
    jobid = next(jobids)
    happen(h, jobid, SUBMIT)
    happen(h, jobid, event("validate"))
    rpc = watch(h, jobid)
    assert [told(rpc), told(rpc)] == ["submit", "validate"]
    flux.kvs.put(h, key(jobid, "eventlog"), "x" * (1000 if long else 1))
    flux.kvs.commit(h)
    with pytest.raises(OSError, match="illegal append of zero bytes") as error:
        rpc.get()
    assert error.value.errno == errno.EINVAL
    flux.kvs.put_unlink(h, key(jobid, "eventlog"))
    flux.kvs.commit(h)
    happen(h, jobid, SUBMIT)
    rpc = watch(h, jobid)
    assert told(rpc) == "submit"
    flux.kvs.put_unlink(h, key(jobid, "eventlog"))
    flux.kvs.commit(h)
    assert told(rpc) == errno.ENOENT


def test_keys_with_dots_that_mean_nothing_are_followed(h: flux.Flux, jobids: Iterator[int]) -> None:
    jobid = next(jobids)
    happen(h, jobid, SUBMIT)
    rpc = watch(h, jobid)
    append(h, key(jobid, "eventlog").replace(".", "..") + ".", event("clean"))
    assert all_told(rpc) == ["submit", "clean", errno.ENODATA]


def test_many_watch_one_job_and_leave_nothing_behind(thread: BrokerThread, h: flux.Flux, jobids: Iterator[int]) -> None:
    jobid = next(jobids)
    happen(h, jobid, SUBMIT)
    watches = [watch(h, jobid, path) for path in ("eventlog", "eventlog", "guest.output") for _ in range(3)]
    watches[0].cancel()
    happen(h, jobid, event("exception", type="cancel", severity=0), event("clean"), event("late"))
    assert all_told(watches[0])[-1] == errno.ENODATA
    for rpc in watches[1:]:
        assert all_told(rpc)[:-1] in ([], ["submit", "exception", "clean"])
    assert not thread.broker.modules["kvs"].instance.taps


def test_who_traces_the_module_sees_every_event(thread: BrokerThread, h: flux.Flux, jobids: Iterator[int]) -> None:
    jobid, seen = next(jobids), []

    def tracer(prefix: str, message: Message) -> None:
        if (prefix, message.topic) == ("tx", "job-info.eventlog-watch"):
            seen.append(message.payload["event"] if message.raw else None)

    happen(h, jobid, SUBMIT, event("validate"), event("depend"))
    module = thread.broker.modules["job-info"]
    thread.call(lambda: module.trace(tracer))
    rpc = watch(h, jobid)
    assert [told(rpc) for _ in range(3)] == ["submit", "validate", "depend"]
    thread.call(lambda: module.trace(None))
    assert [json.loads(line)["name"] for line in seen] == ["submit", "validate", "depend"]


def test_a_line_may_come_in_pieces(h: flux.Flux) -> None:
    text = json.dumps(SUBMIT)
    happen(h, 22, text[:20])
    rpc = watch(h, 22)
    happen(h, 22, text[20:] + "\n" + '{"timestamp":2.0,', '"name":"clean"}\n')
    assert all_told(rpc) == ["submit", "clean", errno.ENODATA]


def test_what_is_nested_too_deeply_ends_a_stream_and_not_the_service(h: flux.Flux) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    happen(h, 23, SUBMIT, f'{{"timestamp":1.0,"name":"clean","context":{{"a":{deep}}}}}\n')
    rpc = watch(h, 23)
    assert told(rpc) == "submit"
    assert deep in rpc.get()["event"]
    rpc.reset()
    assert told(rpc) == errno.EPROTO
    happen(h, 24, SUBMIT)
    fill(h, 24, {"jobspec": deep})
    request = {"id": 24, "keys": ["jobspec"], "flags": 1}
    assert error_of(h.rpc("job-info.lookup", request).get)[0] == errno.EINVAL
    assert error_of(updates(h, 24, "jobspec").get)[0] == errno.EPROTO
    assert told(watch(h, 24)) == "submit"


def test_output_is_followed_into_the_namespace_and_out_of_it(h: flux.Flux) -> None:
    happen(h, 31, SUBMIT)
    early, late_flagged = watch(h, 31, "guest.output"), watch(h, 31, "guest.output", flags=2)
    missing, waiting = watch(h, 31, "guest.nosuch"), watch(h, 31, "guest.nosuch", flags=1)
    stats = h.rpc("job-info.stats-get", {}).get()
    assert stats["guest_watchers"] == 4
    start(h, 31)
    assert told(missing) == errno.ENOENT
    write(h, 31, "output", event("header"), event("one"))
    assert [told(early), told(early)] == ["header", "one"]
    while (first := told(late_flagged)) is not None:  # where it comes depends on when it was written
        assert first in ("header", "one")
    finish(h, 31)
    append(h, key(31, "guest.output"), event("last"))
    happen(h, 31, event("clean"))
    assert all_told(early)[-1] == errno.ENODATA
    assert told(waiting) == errno.ENOENT
    again = watch(h, 31, "guest.output", flags=2)
    assert all_told(again) == ["header", "one", "last", None, errno.ENODATA]
    assert h.rpc("job-info.stats-get", {}).get()["guest_watchers"] == 0


def test_a_namespace_that_goes_at_the_wrong_moment_is_not_waited_for(h: flux.Flux) -> None:
    """The job has started, is not released, and its namespace is no more: as between two steps of its end."""
    happen(h, 33, SUBMIT, event("start"))
    append(h, key(33, "guest.output"), event("one"))
    assert all_told(watch(h, 33, "guest.output")) == ["one", errno.ENODATA]
    assert all_told(watch(h, 33, "guest.output", flags=1)) == ["one", errno.ENODATA]
    assert all_told(watch(h, 33, "guest.nosuch", flags=1)) == [errno.ENOENT]


def test_guest_watches_of_a_job_that_never_starts_end_with_it(h: flux.Flux) -> None:
    happen(h, 32, SUBMIT)
    rpc = watch(h, 32, "guest.exec.eventlog", flags=2)
    happen(h, 32, event("exception", type="cancel", severity=0, note=""), event("clean"))
    assert all_told(rpc) == [None, errno.ENODATA]
    assert all_told(watch(h, 32, "guest.output")) == [errno.ENODATA]


def test_a_watch_can_be_cancelled(h: flux.Flux) -> None:
    happen(h, 41, SUBMIT)
    for path in ("eventlog", "guest.output"):
        rpc = watch(h, 41, path)
        if path == "eventlog":
            assert told(rpc) == "submit"
        rpc.cancel()
        assert told(rpc) == errno.ENODATA
    assert h.rpc("job-info.stats-get", {}).get() == {
        "lookups": 0,
        "watchers": 0,
        "guest_watchers": 0,
        "update_lookups": 0,
        "update_watchers": 0,
    }


def test_watches_of_a_client_that_has_gone_are_dropped(thread: BrokerThread, h: flux.Flux) -> None:
    happen(h, 42, SUBMIT)
    fill(h, 42, {"jobspec": "{}"})
    with thread.open() as other:
        assert told(watch(other, 42)) == "submit"
        watch(other, 42, "guest.output")
        request = {"id": 42, "key": "jobspec", "flags": 0}
        assert other.rpc("job-info.update-watch", request, flags=FLUX_RPC_STREAMING).get() == {"jobspec": {}}
        assert h.rpc("job-info.stats-get", {}).get()["update_watchers"] == 1
    stats: dict[str, int] = {"watchers": 1}
    while any(stats.values()):
        stats = h.rpc("job-info.stats-get", {}).get()


def test_the_python_functions(h: flux.Flux) -> None:
    spec = {"version": 1, "attributes": {"system": {"duration": 1}}}
    happen(h, 51, SUBMIT, event("jobspec-update", **{"attributes.system.duration": 9}))
    fill(h, 51, {"jobspec": json.dumps(spec), "J": flux.job._sign.sign(b'{"all":1}').decode()})  # type: ignore[attr-defined]
    current = flux.job.job_kvs_lookup(h, 51)
    assert current == {"id": 51, "jobspec": {"version": 1, "attributes": {"system": {"duration": 9}}}}
    assert flux.job.job_kvs_lookup(h, 51, base=True) == {"id": 51, "jobspec": spec}
    assert flux.job.job_kvs_lookup(h, 51, original=True, decode=False) == {"id": 51, "jobspec": '{"all":1}'}
    assert flux.job.job_kvs_lookup(h, 51, keys=["R"]) is None
    assert flux.job.job_kvs_lookup(h, 52) is None
    several = flux.job.JobKVSLookup(h, ids=[51, 52])
    assert several.data() == [current]
    assert several.errors == ["JobID 52 unknown"]
    assert sorted(flux.job.job_kvs(h, 51)) == ["J", "eventlog", "jobspec"]
    with pytest.raises(FileNotFoundError):
        flux.job.job_kvs_guest(h, 51)


# Updates.


def updates(h: flux.Flux, jobid: int, name: str) -> RPC:
    return h.rpc("job-info.update-watch", {"id": jobid, "key": name, "flags": 0}, flags=FLUX_RPC_STREAMING)


def test_updates_are_told_to_all_who_watch(h: flux.Flux) -> None:
    happen(h, 61, SUBMIT, event("jobspec-update", **{"attributes.system.duration": 2}))
    fill(h, 61, {"jobspec": '{"attributes":{"system":{"duration":1}}}'})
    first, no_r = updates(h, 61, "jobspec"), updates(h, 61, "R")
    assert error_of(no_r.get)[0] == errno.ENOENT
    assert first.get() == {"jobspec": {"attributes": {"system": {"duration": 2}}}}
    second = updates(h, 61, "jobspec")
    assert second.get() == first.get()
    first.reset()
    second.reset()
    fill(h, 61, {"R": '{"execution":{"expiration":5.0}}'})
    resources = updates(h, 61, "R")
    assert resources.get() == {"R": {"execution": {"expiration": 5.0}}}
    resources.reset()
    happen(
        h, 61, event("jobspec-update", **{"attributes.system.duration": 3}), event("resource-update", expiration=7.5)
    )
    assert first.get() == second.get() == {"jobspec": {"attributes": {"system": {"duration": 3}}}}
    assert resources.get() == {"R": {"execution": {"expiration": 7.5}}}
    first.cancel("job-info.update-watch-cancel")
    first.reset()
    assert error_of(first.get)[0] == errno.ENODATA
    second.reset()
    resources.reset()
    happen(h, 61, event("clean"))
    assert error_of(second.get)[0] == error_of(resources.get)[0] == errno.ENODATA
    ended = updates(h, 61, "R")
    assert ended.get() == {"R": {"execution": {"expiration": 7.5}}}
    ended.reset()
    assert error_of(ended.get)[0] == errno.ENODATA


@pytest.mark.parametrize(
    ("payload", "flags", "error"),
    [
        ({"id": 71, "key": "eventlog", "flags": 0}, 2, (errno.EINVAL, "update-watch unsupported key specified")),
        ({"id": 71, "key": "R", "flags": 1}, 2, (errno.EPROTO, "update-watch request rejected with invalid flag")),
    ],
)
def test_bad_requests_for_updates(h: flux.Flux, payload: Any, flags: int, error: Any) -> None:
    assert error_of(h.rpc("job-info.update-watch", payload, flags=flags).get) == error
    plain = h.rpc("job-info.update-watch", {"id": 71, "key": "R", "flags": 0})
    assert error_of(plain.get) == (errno.EPROTO, "update-watch request rejected without streaming RPC flag")
    assert error_of(updates(h, 71, "R").get)[0] == errno.ENOENT


def test_unloading_ends_the_streams(thread: BrokerThread, h: flux.Flux) -> None:
    happen(h, 81, SUBMIT)
    fill(h, 81, {"jobspec": "{}"})
    rpcs = [watch(h, 81), watch(h, 81, "guest.output"), updates(h, 81, "jobspec")]
    assert told(rpcs[0]) == "submit"
    assert rpcs[2].get() == {"jobspec": {}}
    rpcs[2].reset()
    thread.call(lambda: thread.broker.unload("job-info"))
    assert [error_of(rpc.get)[0] for rpc in rpcs] == [errno.ENOSYS] * 3
    thread.call(lambda: thread.broker.load("job-info", JobInfo))


def test_a_log_that_moves_while_it_is_followed_comes_whole_and_in_pieces() -> None:
    watch = Watch("guest.output", 0, None, lambda userid: None)
    entry = b'{"timestamp":1.0,"name":"%b"}\n'
    main = entry % b"submit" + entry % b"start"
    assert [action.source for action in watch.begin()] == [Source.LOOK]
    assert [action.source for action in watch.data(main)] == [Source.GUEST]
    lines = [entry % b"n%d" % n for n in range(6)]
    sent = [action.line for action in watch.data(lines[0] + lines[1] + lines[2][:5])]
    assert [action.source for action in watch.failed(errno.ENOTSUP, None)] == [Source.COPY]
    copy = b"".join(lines)
    for at in range(0, len(copy), 7):
        sent += [action.line for action in watch.data(copy[at : at + 7])]
    assert sent == lines
    assert list(watch.complete()) == [End()]
    assert list(watch.complete()) == []
