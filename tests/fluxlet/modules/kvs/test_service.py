"""The services kvs and kvs-watch: what they refuse, in which order things happen, on one rank and on several."""

from __future__ import annotations

import base64
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from in_process import BrokerThread, error_of
from linked import LinkedInstance

import flux
import flux.kvs
from flux.constants import (
    FLUX_KVS_NO_MERGE,
    FLUX_KVS_READDIR,
    FLUX_KVS_STREAM,
    FLUX_KVS_SYNC,
    FLUX_KVS_WAITCREATE,
    FLUX_KVS_WATCH,
    FLUX_KVS_WATCH_APPEND,
    FLUX_KVS_WATCH_FULL,
    FLUX_RPC_STREAMING,
)
from flux.message import Message

OWNER = os.getuid()
EMPTY = "sha1-c0a9faf907dda6216fd73bf81d0b3b21a1a8cb91"
MISSING = "sha1-" + "0" * 40
ONE = {"ver": 1, "type": "val", "data": "MQ=="}


def put(key: str, value: bytes = b"1") -> dict[str, Any]:
    return {"key": key, "flags": 0, "dirent": {**ONE, "data": base64.b64encode(value).decode()}}


def commit(handle: flux.Flux, *ops: Any, namespace: str = "primary", flags: int = 0) -> Any:
    return handle.rpc("kvs.commit", {"namespace": namespace, "flags": flags, "ops": list(ops)})


def lookup(handle: flux.Flux, key: str, namespace: str = "primary", flags: int = 0) -> Any:
    return handle.rpc("kvs.lookup", {"key": key, "namespace": namespace, "flags": flags}).get()["val"]["data"]


def dirref(ref: str) -> dict[str, Any]:
    return {"ver": 1, "type": "dirref", "data": [ref]}


PRIMARY = {"namespace": "primary"}
SWEEP = {"epoch": 1, "cursor": 0, "high_water": 1, "delete_cap": 1, "window": 1}
LOOK = {**PRIMARY, "key": "a", "flags": 0}
SNAPSHOT = {"key": "a", "flags": 0, "rootdir": dirref(EMPTY)}


@pytest.mark.parametrize(
    ("topic", "payload", "number"),
    [
        ("kvs.lookup", None, errno.EPROTO),
        ("kvs.lookup", {}, errno.EPROTO),
        ("kvs.lookup", {**LOOK, "flags": "0"}, errno.EPROTO),
        ("kvs.lookup", {**LOOK, "flags": 0.0}, errno.EPROTO),
        ("kvs.lookup", {**LOOK, "flags": True}, errno.EPROTO),
        ("kvs.lookup", {**LOOK, "key": 1}, errno.EPROTO),
        ("kvs.lookup", {**LOOK, "rootseq": "1"}, errno.EPROTO),
        ("kvs.lookup", {"key": "a", "flags": 0}, errno.EPROTO),
        ("kvs.lookup", {**LOOK, "namespace": "nons"}, errno.ENOTSUP),
        ("kvs.lookup", {**LOOK, "flags": 1 << 20}, errno.ENOENT),
        ("kvs.lookup", {**SNAPSHOT, "rootdir": 1}, errno.EINVAL),
        ("kvs.lookup", {**SNAPSHOT, "rootdir": ONE}, errno.EINVAL),
        ("kvs.lookup", {**SNAPSHOT, "rootdir": {"ver": 1, "type": "dirref", "data": ["x"]}}, errno.EINVAL),
        ("kvs.lookup", {**SNAPSHOT, "rootdir": {"ver": 1, "type": "dirref", "data": [MISSING]}}, errno.ENOENT),
        (
            "kvs.lookup",
            {**SNAPSHOT, "rootdir": {"ver": 1, "type": "dirref", "data": ["sha256-" + "0" * 64]}},
            errno.EINVAL,
        ),
        ("kvs.lookup-plus", {"key": "a", "flags": 0}, errno.EPROTO),
        ("kvs.lookup-plus", {**LOOK, "namespace": "nons"}, errno.ENOTSUP),
        ("kvs.commit", {}, errno.EPROTO),
        ("kvs.commit", {**PRIMARY, "flags": 0}, errno.EPROTO),
        ("kvs.commit", {**PRIMARY, "flags": 0.5, "ops": []}, errno.EPROTO),
        ("kvs.commit", {**PRIMARY, "flags": 0, "ops": [1]}, errno.EPROTO),
        ("kvs.commit", {"namespace": "nons", "flags": 0, "ops": []}, errno.ENOTSUP),
        ("kvs.getroot", {}, errno.EPROTO),
        ("kvs.getroot", {"namespace": "nons"}, errno.ENOTSUP),
        ("kvs.wait-version", {**PRIMARY}, errno.EPROTO),
        ("kvs.wait-version", {**PRIMARY, "rootseq": "1"}, errno.EPROTO),
        ("kvs.wait-version", {"namespace": "nons", "rootseq": 1}, errno.ENOTSUP),
        ("kvs.namespace-create", {"namespace": "x"}, errno.EPROTO),
        ("kvs.namespace-create", {"namespace": "primary", "rootref": EMPTY, "owner": 0, "flags": 0}, errno.EEXIST),
        ("kvs.namespace-remove", {}, errno.EPROTO),
        ("kvs.namespace-remove", {"namespace": "PRIMARY"}, errno.ENOTSUP),
        ("kvs.setroot-pause", {"namespace": "nons"}, errno.ENOTSUP),
        ("kvs.config-reload", {"kvs": {"checkpoint-period": "x"}}, errno.EINVAL),
        ("kvs.fence", {}, errno.ENOSYS),
        ("kvs-watch.lookup", LOOK, errno.ENOENT),
        ("kvs-watch.getroot", {}, errno.ENOSYS),
        ("content.load", b"short", errno.EPROTO),
        ("content.mmap-add", {"path": "x", "chunksize": 0, "tag": "t"}, errno.EINVAL),
        ("content.mmap-add", {"path": "/nonexistent/x", "chunksize": 0, "tag": "t"}, errno.ENOENT),
        ("content.mmap-add", {"path": "/dev/null", "chunksize": 0, "tag": "t"}, errno.EINVAL),
        ("content.checkpoint-put", {}, errno.EPROTO),
        ("content.checkpoint-put", {"value": 1}, errno.EINVAL),
        ("content.register-backing", {"name": "other"}, errno.EBUSY),
        ("content.store-many", b"\0\0\0\2\0", errno.EPROTO),
        ("content.validate", None, errno.ENOSYS),
        ("content-backing.store-many", b"", errno.EPROTO),
        ("content-backing.store-many", b"\xff\xff\xff\xff", errno.EPROTO),
        ("content-backing.validate", b"x", errno.EPROTO),
        ("content-backing.mark", {"epoch": 1, "hashes": ["x"]}, errno.EPROTO),
        ("content-backing.mark", {"epoch": 1, "hashes": [EMPTY] * 16385}, errno.EINVAL),
        (
            "content-backing.sweep",
            {"epoch": 1, "cursor": 0, "high_water": 1, "delete_cap": 0, "window": 1},
            errno.EINVAL,
        ),
    ],
    ids=str,
)
def test_bad_requests(topic: str, payload: Any, number: int, shared: flux.Flux) -> None:
    if isinstance(payload, bytes):
        request = Message.request(topic.encode(), payload, 0xFFFFFFFF, 0, 0)
        assert _raw_error(shared, request) == number
    else:
        assert error_of(shared.rpc(topic, payload).get)[0] == number
    assert shared.rpc("broker.ping", {}).get()["rank"] == 0


def _raw_error(handle: flux.Flux, request: Message) -> int:
    """The errno that a request with a raw payload is answered with."""
    state = handle.core.rpc(request.topic_bytes, request.raw, 0xFFFFFFFF, 0)
    state.wait(60.0)
    return int(state.errnum)


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerThread]:
    running = BrokerThread()
    yield running
    running.stop()


@pytest.fixture
def shared(broker: BrokerThread) -> Iterator[flux.Flux]:
    with broker.open() as handle:
        yield handle


def test_what_crashes_the_reference_harms_nobody(shared: flux.Flux) -> None:
    commit(shared, *[{"key": a, "flags": 0, "dirent": _link(b)} for a, b in (("l1", "l2"), ("l2", "l1"))]).get()
    assert error_of(commit(shared, put("l1.x")).get)[0] == errno.ELOOP
    answer = shared.rpc("kvs.lookup-plus", SNAPSHOT).get()
    assert answer == {"errno": errno.ENOENT, "rootseq": 0, "rootref": EMPTY}
    assert error_of(commit(shared, put("")).get)[0] == errno.EINVAL


def _link(target: str) -> dict[str, Any]:
    return {"ver": 1, "type": "symlink", "data": {"target": target}}


def test_a_root_that_is_no_directory(shared: flux.Flux) -> None:
    state = shared.core.rpc(b"content.store", b"no directory", 0xFFFFFFFF, 0)
    state.wait(60.0)
    ref = "sha1-" + state.value.raw.hex()
    rootdir = dirref(ref)
    assert error_of(shared.rpc("kvs.lookup", {**SNAPSHOT, "rootdir": rootdir}).get)[0] == errno.EINVAL
    commit(shared, {"key": "bad", "flags": 0, "dirent": rootdir}).get()
    assert error_of(lambda: lookup(shared, "bad.x"))[0] == errno.ENOTRECOVERABLE
    assert error_of(commit(shared, put("bad.x")).get)[0] == errno.ENOTRECOVERABLE
    commit(shared, {"key": "bad", "flags": 0, "dirent": None}).get()


def test_a_content_module_that_is_traced_is_asked_by_messages(broker: BrokerThread) -> None:
    """Without somebody who looks, kvs takes a shorter way, and all other tests with it."""
    with broker.open() as handle:
        request = {"typemask": 15, "topic_glob": "content.*", "names": ["content"], "full": False}
        trace = handle.rpc("module.trace", request, flags=FLUX_RPC_STREAMING)
        commit(handle, put("traced", b"x" * 200)).get()
        assert base64.b64decode(lookup(handle, "traced")) == b"x" * 200
        seen = []
        while "content.load" not in seen:
            seen.append(trace.get()["topic"])
            trace.reset()
        assert "content.store-many" in seen


def test_commits_that_come_together_are_one(broker: BrokerThread) -> None:
    def send_all(handle: flux.Flux, flags: int, *bad: int) -> list[Any]:
        # In one piece: the broker reads all of them before it begins.
        futures: list[Any] = []

        def send() -> None:
            for n in range(5):
                futures.append(commit(handle, put("." if n in bad else f"m.k{n}"), flags=flags))

        broker.call(send)
        return futures

    with broker.open() as handle:
        before = handle.rpc("kvs.getroot", PRIMARY).get()["rootseq"]
        roots = [future.get() for future in send_all(handle, 0)]
        assert [root["rootseq"] for root in roots] == [before + 1] * 5
        assert len({root["rootref"] for root in roots}) == 1
        seqs = [future.get()["rootseq"] for future in send_all(handle, FLUX_KVS_NO_MERGE)]
        assert seqs == list(range(before + 2, before + 7))
        # Only the guilty one fails.
        futures = send_all(handle, 0, 2)
        for n, future in enumerate(futures):
            if n == 2:
                assert error_of(future.get)[0] == errno.EINVAL
            else:
                assert future.get()["rootseq"] > before + 6


def test_a_commit_of_many_operations_lets_others_in(broker: BrokerThread) -> None:
    with broker.open() as big, broker.open() as small:
        future = commit(big, *[put(f"many.k{n}") for n in range(20_000)])
        big.rpc("broker.ping", {}).get()  # the commit has been read
        assert small.rpc("broker.ping", {}).get()["rank"] == 0
        future.get()
        assert len(lookup(small, "many", flags=FLUX_KVS_READDIR)) == 20_000
        commit(small, {"key": "many", "flags": 0, "dirent": None}).get()


def test_a_long_value_is_looked_up_piece_by_piece_and_lets_others_in(broker: BrokerThread) -> None:
    pieces = [os.urandom(700_001) for _ in range(10)]
    with broker.open() as big, broker.open() as small:
        for piece in pieces:
            commit(big, {**put("long", piece), "flags": 32}).get()
        future = big.rpc("kvs.lookup", {**LOOK, "key": "long"})
        big.rpc("broker.ping", {}).get()  # the lookup has been read, and more of it is to come
        assert small.rpc("broker.ping", {}).get()["rank"] == 0
        assert base64.b64decode(future.get()["val"]["data"]) == b"".join(pieces)
        commit(small, {"key": "long", "flags": 0, "dirent": None}).get()


def test_guests(broker: BrokerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    with broker.open() as owner:
        flux.kvs.namespace_create(owner, "guests", 9999)
        commit(owner, put("a"), {"key": "out", "flags": 0, "dirent": _into("primary", "x")}, namespace="guests").get()
        root = owner.rpc("kvs.getroot", {"namespace": "guests"}).get()
        monkeypatch.setenv("FLUX_HANDLE_USERID", "9999")
        monkeypatch.setenv("FLUX_HANDLE_ROLEMASK", "0x2")
        with broker.open() as guest:
            assert lookup(guest, "a", "guests") == "MQ=="
            assert commit(guest, put("b"), namespace="guests").get()["rootseq"] == root["rootseq"] + 1
            for call in (
                lambda: lookup(guest, "a"),
                lambda: lookup(guest, "out", "guests"),
                commit(guest, put("x")).get,
                guest.rpc("kvs.getroot", PRIMARY).get,
                guest.rpc("kvs.wait-version", {**PRIMARY, "rootseq": 0}).get,
                guest.rpc("kvs-watch.lookup", {**LOOK, "flags": FLUX_KVS_WAITCREATE}).get,
            ):
                assert error_of(call)[0] == errno.EPERM
            for topic in ("content.flush", "kvs.namespace-list", "kvs.relaycommit", "content-backing.checkpoint-get"):
                assert error_of(guest.rpc(topic).get) == (errno.EPERM, "Request requires owner credentials")
            # What is in the operations is looked at first.
            bad = commit(guest, {"key": "x", "flags": 0, "dirent": _link("a")}, namespace="nons")
            assert error_of(bad.get) == (errno.EPERM, "guests may not commit symlink objects")
            assert error_of(commit(guest, 1, namespace="nons").get)[0] == errno.EPROTO
        monkeypatch.delenv("FLUX_HANDLE_USERID")
        monkeypatch.delenv("FLUX_HANDLE_ROLEMASK")
        flux.kvs.namespace_remove(owner, "guests")


def _into(namespace: str, target: str) -> dict[str, Any]:
    return {"ver": 1, "type": "symlink", "data": {"namespace": namespace, "target": target}}


def test_waiting_for_a_version(broker: BrokerThread) -> None:
    with broker.open() as handle, broker.open() as other:
        flux.kvs.namespace_create(handle, "versions")
        waiting = [other.rpc("kvs.wait-version", {"namespace": "versions", "rootseq": seq}) for seq in (2, 1)]
        first = commit(handle, namespace="versions").get()
        assert waiting[1].get() == first
        assert not waiting[0].is_ready()
        second = commit(handle, namespace="versions").get()
        assert waiting[0].get() == second
        late = other.rpc("kvs.wait-version", {"namespace": "versions", "rootseq": 9})
        watch = other.rpc("kvs-watch.lookup", {"key": "a", "namespace": "versions", "flags": FLUX_KVS_WAITCREATE})
        other.rpc("broker.ping", {}).get()
        flux.kvs.namespace_remove(handle, "versions")
        for future in (late, watch):
            assert error_of(future.get)[0] == errno.ENOTSUP
        text = "namespace with identical name in process of being removed. Try again later"
        again = {"namespace": "versions", "rootref": EMPTY, "owner": -1, "flags": 0}
        assert error_of(handle.rpc("kvs.namespace-create", again).get) == (errno.EEXIST, text)


def test_a_watcher_that_waits_survives_commits_of_other_keys(shared: flux.Flux, broker: BrokerThread) -> None:
    flags = FLUX_KVS_WATCH | FLUX_KVS_WATCH_FULL | FLUX_KVS_WAITCREATE
    watch = shared.rpc("kvs-watch.lookup", {**PRIMARY, "key": "later", "flags": flags}, flags=FLUX_RPC_STREAMING)
    commit(shared, put("unrelated")).get()
    assert not watch.is_ready()
    commit(shared, put("later")).get()
    assert watch.get()["val"]["data"] == "MQ=="


def test_a_plain_lookup_by_kvs_watch_is_answered_once(shared: flux.Flux) -> None:
    commit(shared, put("once")).get()
    future = shared.rpc("kvs-watch.lookup", {**PRIMARY, "key": "once", "flags": 0})
    assert future.get()["val"]["data"] == "MQ=="
    assert shared.rpc("kvs-watch.stats-get").get()["watchers"] == _watchers(shared)


def _watchers(handle: flux.Flux) -> int:
    stats = handle.rpc("kvs-watch.stats-get").get()
    return sum(space["watchers"] for space in stats["namespaces"].values())


def test_an_eventlog_is_followed_from_its_beginning(broker: BrokerThread) -> None:
    def append(handle: flux.Flux, *lines: bytes) -> None:
        ops = [{**put("elog", line), "flags": 32} for line in lines]
        commit(handle, *ops).get()

    with broker.open() as handle, broker.open() as reader:
        append(handle, b"1", b"2")
        flags = FLUX_KVS_WATCH | FLUX_KVS_WATCH_APPEND
        watch = reader.rpc("kvs-watch.lookup", {**PRIMARY, "key": "elog", "flags": flags}, flags=FLUX_RPC_STREAMING)
        for n in range(3, 200):
            append(handle, b"%d" % n)
        for n in range(1, 200):
            assert base64.b64decode(watch.get()["val"]["data"]) == b"%d" % n
            watch.reset()
        request = {**PRIMARY, "key": "elog", "flags": FLUX_KVS_STREAM}
        stream = reader.rpc("kvs-watch.lookup", request, flags=FLUX_RPC_STREAMING)
        for n in range(1, 200):
            assert base64.b64decode(stream.get()["val"]["data"]) == b"%d" % n
            stream.reset()
        assert error_of(stream.get)[0] == errno.ENODATA


def test_what_is_open_when_the_modules_go_is_answered(start_broker: Callable[..., BrokerThread]) -> None:
    broker = start_broker()
    with broker.open() as handle:
        version = handle.rpc("kvs.wait-version", {**PRIMARY, "rootseq": 1000})
        watch = handle.rpc("kvs-watch.lookup", {**LOOK, "key": "never", "flags": FLUX_KVS_WAITCREATE})
        handle.rpc("broker.ping", {}).get()
        for name, future in (("kvs-watch", watch), ("kvs", version)):
            handle.rpc("module.remove", {"name": name}).get()
            assert error_of(future.get)[0] == errno.ENOSYS
        # And what was committed is there when they come back.
        handle.rpc("module.load", {"path": "kvs", "args": []}).get()
        assert handle.rpc("kvs.getroot", PRIMARY).get()["rootseq"] > 0


def test_what_is_answered_when_the_module_goes_is_there_when_it_is_back(
    start_broker: Callable[..., BrokerThread],
) -> None:
    broker = start_broker()
    with broker.open() as handle, broker.open() as admin:
        futures: list[Any] = []

        def send() -> None:
            futures.extend(commit(handle, put(f"going.k{n}"), flags=FLUX_KVS_NO_MERGE) for n in range(200))

        broker.call(send)
        removal = admin.rpc("module.remove", {"name": "kvs"})
        futures += [commit(handle, put(f"going.late{n}")) for n in range(20)]
        answered, errors = [], set()
        for n, future in enumerate(futures):
            try:
                future.get()
                answered.append(f"k{n}" if n < 200 else f"late{n - 200}")
            except OSError as exc:
                errors.add(exc.errno)
        removal.get()
        assert answered
        assert errors <= {errno.ENOSYS}
        admin.rpc("module.load", {"path": "kvs", "args": []}).get()
        assert set(answered) <= lookup(admin, "going", flags=FLUX_KVS_READDIR).keys()


@pytest.mark.parametrize("args", [["nosuch=1"], ["initial-rootref=x"], ["transaction-merge=x"]])
def test_arguments_that_will_not_do(args: list[str], start_broker: Callable[..., BrokerThread]) -> None:
    broker = start_broker()
    with broker.open() as handle:
        handle.rpc("module.remove", {"name": "kvs"}).get()
        assert error_of(handle.rpc("module.load", {"path": "kvs", "args": args}).get)[0] == errno.EINVAL


def test_merging_can_be_turned_off_and_the_first_root_given(start_broker: Callable[..., BrokerThread]) -> None:
    broker = start_broker()
    with broker.open() as handle:
        commit(handle, put("kept")).get()
        root = handle.rpc("kvs.getroot", PRIMARY).get()["rootref"]
        handle.rpc("module.remove", {"name": "kvs"}).get()
        args = [f"initial-rootref={root}", "transaction-merge=0"]
        handle.rpc("module.load", {"path": "kvs", "args": args}).get()
        assert lookup(handle, "kept") == "MQ=="
        futures = [commit(handle, put(f"k{n}")) for n in range(4)]
        assert [future.get()["rootseq"] for future in futures] == [1, 2, 3, 4]


# Several ranks.


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Three ranks in a row."""
    directory = tmp_path_factory.mktemp("linked")
    instance = LinkedInstance(str(directory), 0, 1)
    instance.start()
    yield directory
    instance.stop()


def on(ranks: Path, rank: int) -> flux.Flux:
    return flux.Flux(f"local://{ranks}/local-{rank}")


def test_what_a_rank_commits_it_reads_and_others_after_waiting(ranks: Path) -> None:
    handles = [on(ranks, rank) for rank in range(3)]
    for turn in range(12):
        writer, reader = handles[turn % 3], handles[(turn + 1) % 3]
        root = commit(writer, put("turn", b"%d" % turn)).get()
        assert lookup(writer, "turn") == base64.b64encode(b"%d" % turn).decode()
        version = reader.rpc("kvs.wait-version", {**PRIMARY, "rootseq": root["rootseq"]}).get()
        assert version == root
        assert lookup(reader, "turn") == base64.b64encode(b"%d" % turn).decode()


def test_versions_of_a_rank_only_grow(ranks: Path) -> None:
    with on(ranks, 0) as writer, on(ranks, 2) as reader:
        futures = [commit(writer, put(f"grow.k{n}"), flags=FLUX_KVS_NO_MERGE) for n in range(50)]
        seen = [reader.rpc("kvs.getroot", PRIMARY).get()["rootseq"] for _ in range(50)]
        assert seen == sorted(seen)
        last = futures[-1].get()
        assert reader.rpc("kvs.wait-version", {**PRIMARY, "rootseq": last["rootseq"]}).get() == last


def test_large_values_and_namespaces_from_a_far_rank(ranks: Path) -> None:
    value = os.urandom(200_000)
    with on(ranks, 0) as leader, on(ranks, 2) as far:
        flux.kvs.namespace_create(far, "far")
        assert commit(far, put("big", value), namespace="far").get()["rootseq"] == 1
        assert base64.b64decode(lookup(leader, "big", "far")) == value
        leader.rpc("content.dropcache").get()
        assert base64.b64decode(lookup(far, "big", "far")) == value
        assert error_of(commit(far, put("."), namespace="far").get)[0] == errno.EINVAL
        assert error_of(commit(far, flags=FLUX_KVS_SYNC, namespace="far").get)[0] == errno.EINVAL
        assert commit(far, put("sync"), flags=FLUX_KVS_SYNC).get()["rootseq"] > 0
        waiting = far.rpc("kvs.wait-version", {"namespace": "far", "rootseq": 5})
        far.rpc("kvs.getroot", {"namespace": "far"}).get()
        flux.kvs.namespace_remove(far, "far")
        assert error_of(waiting.get)[0] == errno.ENOTSUP
        assert error_of(lambda: lookup(far, "big", "far"))[0] == errno.ENOTSUP
        # A request that is for rank 0, sent to another one: the reference aborts.
        there = {"namespace": "sent", "rootref": EMPTY, "owner": -1, "flags": 0}
        far.rpc("kvs.namespace-create", there, 2).get()
        far.rpc("kvs.namespace-remove", {"namespace": "sent"}, 1).get()


def test_watching_on_a_far_rank(ranks: Path) -> None:
    with on(ranks, 0) as writer, on(ranks, 2) as reader:
        commit(writer, put("far-watch", b"0")).get()
        seq = writer.rpc("kvs.getroot", PRIMARY).get()["rootseq"]
        reader.rpc("kvs.wait-version", {**PRIMARY, "rootseq": seq}).get()
        request = {**PRIMARY, "key": "far-watch", "flags": FLUX_KVS_WATCH}
        watch = reader.rpc("kvs-watch.lookup", request, flags=FLUX_RPC_STREAMING)
        for n in range(5):
            assert base64.b64decode(watch.get()["val"]["data"]) == b"%d" % n
            watch.reset()
            commit(writer, put("far-watch", b"%d" % (n + 1))).get()


def test_content_of_a_far_rank(ranks: Path) -> None:
    with on(ranks, 0) as leader, on(ranks, 2) as far:
        states = []
        for handle, blob in ((far, b"from afar"), (leader, b"from the leader")):
            state = handle.core.rpc(b"content.store", blob, 0xFFFFFFFF, 0)
            state.wait(60.0)
            states.append((blob, state.value.raw))
        for handle in (leader, far):
            for blob, digest in states:
                state = handle.core.rpc(b"content.load", digest, 0xFFFFFFFF, 0)
                state.wait(60.0)
                assert state.value.raw == blob
        far.rpc("content.flush").get()
        state = far.core.rpc(b"content.load", bytes(20), 0xFFFFFFFF, 0)
        state.wait(60.0)
        assert state.errnum == errno.ENOENT
        assert error_of(far.rpc("content.register-backing", {"name": "x"}).get)[0] == errno.EINVAL


def test_roots_are_held_back_while_paused(ranks: Path) -> None:
    with on(ranks, 0) as leader, on(ranks, 1) as paused:
        before = paused.rpc("kvs.getroot", PRIMARY).get()["rootseq"]
        paused.rpc("kvs.setroot-pause", PRIMARY).get()
        root = commit(leader, put("paused")).get()
        assert paused.rpc("kvs.getroot", PRIMARY).get()["rootseq"] <= max(before, root["rootseq"] - 1)
        paused.rpc("kvs.setroot-unpause", PRIMARY).get()
        assert paused.rpc("kvs.wait-version", {**PRIMARY, "rootseq": root["rootseq"]}).get() == root
