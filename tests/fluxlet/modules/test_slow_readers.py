"""Who reads a long log slowly, or not at all, costs the broker next to nothing, and the others no time.

The logs are of the KVS, and are followed by way of kvs-watch and of job-info. A reader that has stopped is a handle
that is not asked for anything.
"""

from __future__ import annotations

import errno
import json
from base64 import b64decode
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from in_process import BrokerThread, error_of, until
from job_kvs import SUBMIT, append, event, happen, key, start

import flux
import flux.kvs
from flux.constants import FLUX_KVS_STREAM, FLUX_KVS_TREEOBJ, FLUX_KVS_WATCH, FLUX_KVS_WATCH_APPEND, FLUX_RPC_STREAMING
from flux.rpc import RPC
from fluxlet.broker.local_server import Connection
from fluxlet.modules.job_info.lookup import Lookup, Text
from fluxlet.modules.job_info.pieces import Blob, Taken
from fluxlet.modules.job_info.watch import End, Source, Watch

MB = 1 << 20
#: Larger than what may wait for a reader, and what content keeps in memory.
LINES = 12 * 16
#: What may wait for a reader, and one blob more, in what JSON and base64 make of it.
BOUND = 4 * MB


@pytest.fixture
def thread(start_broker: Callable[..., BrokerThread]) -> BrokerThread:
    return start_broker()


@pytest.fixture
def h(thread: BrokerThread) -> Iterator[flux.Flux]:
    with thread.open() as opened:
        yield opened


def lines(begin: int, end: int) -> list[str]:
    """Lines of 64 KiB, each with its number."""
    return [json.dumps(event(f"n{number}", data="x" * 65400)) + "\n" for number in range(begin, end)]


def write(h: flux.Flux, where: str, namespace: str | None = None, begin: int = 0, end: int = LINES) -> None:
    """Appends lines, sixteen to a commit."""
    for first in range(begin, end, 16):
        append(h, where, *lines(first, min(first + 16, end)), namespace=namespace)


def follow(handle: flux.Flux, namespace: str, flags: int) -> RPC:
    payload = {"key": "log", "namespace": namespace, "flags": flags}
    return handle.rpc("kvs-watch.lookup", payload, flags=FLUX_RPC_STREAMING)


def watch(handle: flux.Flux, jobid: int, path: str) -> RPC:
    payload = {"id": jobid, "path": path, "flags": 0}
    return handle.rpc("job-info.eventlog-watch", payload, flags=FLUX_RPC_STREAMING)


def numbers_of_blobs(rpc: RPC, count: int) -> list[int]:
    """The numbers in the lines of the next blobs, of one line each."""
    found = []
    for _ in range(count):
        found.append(int(json.loads(b64decode(rpc.get()["val"]["data"]))["name"][1:]))
        rpc.reset()
    return found


def numbers_of_events(rpc: RPC, count: int) -> list[int]:
    """The numbers in the next events."""
    found = []
    for _ in range(count):
        found.append(int(json.loads(rpc.get()["event"])["name"][1:]))
        rpc.reset()
    return found


def backlog(thread: BrokerThread) -> int:
    """What waits for the client for which most does."""
    connections: set[Connection] = thread.broker.server.connections
    return thread.call(lambda: max(connection.backlog for connection in connections))


def stalls(thread: BrokerThread, other: flux.Flux) -> None:
    """Waits until something waits for a reader; then, however much the broker goes on, it does not grow to much."""
    until(lambda: backlog(thread) > MB // 2)
    for _ in range(100):
        other.rpc("broker.ping", {}).get()
        assert backlog(thread) < BOUND


@pytest.mark.parametrize("flags", [FLUX_KVS_WATCH | FLUX_KVS_WATCH_APPEND, FLUX_KVS_STREAM])
def test_a_long_value_is_sent_as_fast_as_it_is_read(thread: BrokerThread, h: flux.Flux, flags: int) -> None:
    write(h, "log")
    with thread.open() as slow, thread.open() as quick:
        stopped, other = follow(slow, "primary", flags), follow(quick, "primary", flags)
        assert numbers_of_blobs(other, LINES) == list(range(LINES))  # who reads does not wait for who does not
        stalls(thread, h)
        if flags & FLUX_KVS_WATCH:
            write(h, "log", None, LINES, LINES + 16)
            stalls(thread, h)
            assert numbers_of_blobs(stopped, LINES + 16) == list(range(LINES + 16))
            assert numbers_of_blobs(other, 16) == list(range(LINES, LINES + 16))
        else:
            assert numbers_of_blobs(stopped, LINES) == list(range(LINES))
            assert error_of(stopped.get)[0] == errno.ENODATA


def test_readers_that_have_gone_are_not_waited_for(thread: BrokerThread, h: flux.Flux) -> None:
    before = h.rpc("kvs-watch.stats-get").get()["watchers"]
    write(h, "log")
    happen(h, 1, SUBMIT, event("release", ranks="all", final=True), event("clean"))
    write(h, key(1, "guest.output"))
    with thread.open() as slow:
        follow(slow, "primary", FLUX_KVS_WATCH | FLUX_KVS_WATCH_APPEND)
        watch(slow, 1, "guest.output")
        stalls(thread, h)
    until(lambda: h.rpc("kvs-watch.stats-get").get()["watchers"] == before)
    until(lambda: h.rpc("job-info.stats-get", {}).get()["guest_watchers"] == 0)
    assert numbers_of_blobs(follow(h, "primary", FLUX_KVS_STREAM), LINES) == list(range(LINES))


def test_references_for_those_who_load_blobs_themselves(h: flux.Flux) -> None:
    append(h, "log", "one\n")
    payload = {"key": "log", "namespace": "primary", "flags": FLUX_KVS_WATCH | FLUX_KVS_WATCH_APPEND, "refs": True}
    rpc = h.rpc("kvs-watch.lookup", payload, flags=FLUX_RPC_STREAMING)

    def told() -> Any:
        found = rpc.get()["val"]
        rpc.reset()
        return found

    first = told()
    assert b64decode(first["data"]) == b"one\n"
    append(h, "log", "two\n", "three\n")
    more = told()
    whole = h.rpc("kvs.lookup", {"key": "log", "namespace": "primary", "flags": FLUX_KVS_TREEOBJ}).get()["val"]
    assert more == {"data": whole["data"][1:], "type": "valref", "ver": 1}
    payload["flags"] = FLUX_KVS_STREAM
    assert h.rpc("kvs-watch.lookup", payload, flags=FLUX_RPC_STREAMING).get()["val"] == whole


def test_the_output_of_a_running_job_is_told_as_fast_as_it_is_read(thread: BrokerThread, h: flux.Flux) -> None:
    happen(h, 2, SUBMIT)
    start(h, 2)
    with thread.open() as slow, thread.open() as quick:
        stopped, other = watch(slow, 2, "guest.output"), watch(quick, 2, "guest.output")
        write(h, "output", "job-2")
        assert numbers_of_events(other, LINES) == list(range(LINES))
        stalls(thread, h)
        # It ends before anybody has read that: what was followed goes to the job's directory, as job-exec does it.
        payload = {"key": ".", "namespace": "job-2", "flags": FLUX_KVS_TREEOBJ}
        tree = h.rpc("kvs.lookup", payload).get()["val"]
        flux.kvs.put_unlink(h, key(2, "guest"))
        flux.kvs.commit(h)
        txn = flux.kvs.KVSTxn(h)
        txn.txn.put_treeobj(key(2, "guest"), json.dumps(tree).encode())
        flux.kvs.commit(h, _kvstxn=txn)
        write(h, key(2, "guest.output"), None, LINES, LINES + 3)
        flux.kvs.namespace_remove(h, "job-2")
        happen(h, 2, event("release", ranks="all", final=True), event("clean"))
        stalls(thread, h)
        for rpc, first in ((other, LINES), (stopped, 0)):
            assert numbers_of_events(rpc, LINES + 3 - first) == list(range(first, LINES + 3))
            assert error_of(rpc.get)[0] == errno.ENODATA


def test_the_output_of_a_job_that_has_ended_is_told_as_fast_as_it_is_read(thread: BrokerThread, h: flux.Flux) -> None:
    happen(h, 3, SUBMIT, event("start"), event("release", ranks="all", final=True), event("clean"))
    write(h, key(3, "guest.output"))
    with thread.open() as slow:
        stopped = watch(slow, 3, "guest.output")
        stalls(thread, h)
        assert numbers_of_events(stopped, LINES) == list(range(LINES))


# What was followed is not read again.


def test_a_copy_goes_on_where_following_has_ended() -> None:
    watch = Watch("guest.output", 0, None, lambda userid: None)
    entry = b'{"timestamp":1.0,"name":"%b"}\n'
    list(watch.begin())
    list(watch.data(entry % b"submit" + entry % b"start"))
    sent = [action.line for action in watch.data(entry % b"one" + b'{"timestamp":1.0,')]  # type: ignore[union-attr]
    assert [action.source for action in watch.failed(errno.ENOTSUP, None)] == [Source.COPY]  # type: ignore[union-attr]
    watch.resume()
    sent += [action.line for action in watch.data(b'"name":"two"}\n' + entry % b"three")]  # type: ignore[union-attr]
    assert sent == [entry % b"one", entry % b"two", entry % b"three"]
    assert list(watch.complete()) == [End()]


def test_what_has_been_taken_is_told_from_what_has_not() -> None:
    a, b, c = (Blob(letter * 20) for letter in (b"a", b"b", b"c"))
    taken = Taken()
    assert not taken.begins([])
    assert not taken.begins([a])
    taken.add(a)
    taken.add(Blob(b.digest, b"known"))
    assert taken.begins([a, b])
    assert taken.begins([a, b, c])
    assert not taken.begins([a])
    assert not taken.begins([b, a, c])
    assert not taken.begins([a, c, b])


# Lookups of what is long.


def look_up(handle: flux.Flux, jobid: int, *keys: str) -> RPC:
    return handle.rpc("job-info.lookup", {"id": jobid, "keys": list(keys), "flags": 0})


def test_a_long_value_is_looked_up_in_pieces(thread: BrokerThread, h: flux.Flux) -> None:
    happen(h, 4, SUBMIT)
    write(h, key(4, "guest.output"))
    append(h, key(4, "guest.exec.eventlog"), event("init"))
    with thread.open() as slow:
        stopped = look_up(slow, 4, "guest.output", "eventlog", "guest.exec.eventlog")
        until(lambda: backlog(thread) > MB)
        found = look_up(h, 4, "guest.exec.eventlog", "guest.output").get()  # nobody waits for who does not read
        whole = stopped.get()
        assert whole.pop("eventlog") == json.dumps(SUBMIT) + "\n"
        assert whole == found
        assert found["id"] == 4
        assert found["guest.exec.eventlog"] == json.dumps(event("init")) + "\n"
        assert found["guest.output"] == "".join(lines(0, LINES))
    assert error_of(look_up(h, 4, "guest.output", "guest.nosuch").get)[0] == errno.ENOENT
    assert error_of(look_up(h, 44, "guest.output").get)[0] == errno.ENOENT
    with thread.open() as gone:
        look_up(gone, 4, "guest.output")
    until(lambda: h.rpc("job-info.stats-get", {}).get()["lookups"] == 0)


@pytest.mark.parametrize(
    "value",
    [
        "é€😀\n".encode() * 9000,
        b"\xff\xfe\x80\n" * 9000,
        b'"\\\x01\x1f\x7f\t\r\n' * 9000,
        b"x" * 20_000 + "€".encode() + b"\0 what is behind a NUL",
        b"a" * 16_383 + "€".encode(),
        b"ends within a character \xe2\x82",
    ],
)
def test_text_in_pieces_is_the_text(value: bytes) -> None:
    text = Text()
    for at in range(0, len(value), 1000):
        text.add(value[at : at + 1000])
    text.add(b"", final=True)
    found = b'"' + b"".join(text.pieces) + b'"'
    expected = value.partition(b"\0")[0].decode("utf-8", "surrogateescape")
    assert json.loads(found.decode("utf-8", "surrogateescape")) == expected
    assert text.size == len(found) - 2


def test_what_is_too_long_for_a_message_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fluxlet.modules.job_info.lookup._MOST", 1000)
    lookup = Lookup(1, ["guest.output"], 0, None, lambda userid: None)
    lookup.known = True
    assert lookup.wanted() == ["guest.output"]
    lookup.add("guest.output", b"x" * 2000)
    assert lookup.found("guest.output", b"", 0, None)
    assert error_of(lookup.answer)[0] == errno.EOVERFLOW
