"""The recordings `kvs-*`: what the reference said about the KVS and the content store, said by our broker.

Roots differ from run to run, as they hold times: each recorded blobref that differs stands for one of ours, always the
same, and no two for the same. Sequence numbers are those of the recordings, but where that is in DEVIATIONS.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from in_process import BrokerThread, receive
from linked import LinkedInstance
from service_recordings import RECORDINGS, check, encoded, heard, message_of, records

import flux
import flux.kvs
from flux.constants import FLUX_KVS_SYNC, FLUX_KVS_WATCH, FLUX_RPC_STREAMING

#: Each was recorded after those before it, on the same instance.
CHAINS: list[tuple[str, ...]] = [
    ("kvs-put-get", "kvs-dir", "kvs-treeobj", "kvs-eventlog", "kvs-sync-checkpoint"),
    ("kvs-append",),
    ("kvs-commit3",),
    ("kvs-content",),
    ("kvs-errors",),
    ("kvs-guest",),
    ("kvs-lookup-plus",),
    ("kvs-merge",),
    ("kvs-namespace",),
    ("kvs-python",),
    ("kvs-stats",),
    ("kvs-stream",),
    ("kvs-symlinks",),
    ("kvs-wait-version",),
    ("kvs-waitcreate",),
    ("kvs-watch",),
    ("kvs-watch-append",),
    ("kvs-watch-errors",),
    ("kvs-watch-flags",),
]
#: Not replayed like that, but in tests of their own.
OTHERS = {"kvs-events", "kvs-rank1", "kvs-canonical"}

#: Members of payloads that have another value in every run.
FREE = {"timestamp", "sequence"}
#: Of whose responses only the names of members are compared.
SHAPES = {"kvs.stats-get", "kvs-watch.stats-get", "content.stats-get"}

#: Which commits are merged depends on what the broker has read when it begins (test_merging).
MERGED = "kvs-merge"

_is_blobref = re.compile(r"sha1-[0-9a-f]{40}").fullmatch


class Refs:
    """Recorded blobrefs, and ours."""

    def __init__(self) -> None:
        self.ours: dict[str, str] = {}

    def sent(self, payload: Any) -> Any:
        """What a client sends, with our blobrefs."""
        if isinstance(payload, dict):
            return {key: self.sent(value) for key, value in payload.items()}
        if isinstance(payload, list):
            return [self.sent(value) for value in payload]
        return self.ours.get(payload, payload) if isinstance(payload, str) else payload

    def expected(self, recorded: Any, told: Any) -> Any:
        """What is to come, with our blobrefs and free values."""
        if isinstance(recorded, dict) and isinstance(told, dict):
            return {
                key: told[key] if key in FREE and key in told else self.expected(value, told.get(key))
                for key, value in recorded.items()
            }
        if isinstance(recorded, list) and isinstance(told, list) and len(recorded) == len(told):
            return [self.expected(*pair) for pair in zip(recorded, told, strict=True)]
        if isinstance(recorded, str) and isinstance(told, str) and _is_blobref(recorded) and _is_blobref(told):
            if recorded not in self.ours and told in self.ours.values():
                return recorded  # it stands for another one
            return self.ours.setdefault(recorded, told)
        return recorded


def in_order(namespaces: Any) -> Any:
    """The answer of kvs.namespace-list, which has no order."""
    return sorted(namespaces["namespaces"], key=lambda entry: str(entry["namespace"]))


def shape(payload: Any) -> Any:
    """The names of members, at every level."""
    if isinstance(payload, dict):
        return {key: shape(value) for key, value in payload.items()}
    return None


def fill(handle: flux.Flux, seq: int = 3) -> None:
    """Brings the primary namespace to where the reference was."""
    while handle.rpc("kvs.getroot", {"namespace": "primary"}).get()["rootseq"] < seq:
        txn = flux.kvs.KVSTxn(handle)
        txn.put("admin.eventlog", "start")
        txn.commit(FLUX_KVS_SYNC)


def make_guest_space(handle: flux.Flux) -> None:
    """What the guest of `kvs-guest` has."""
    flux.kvs.namespace_create(handle, "gns", 9999)
    target = {"namespace": "primary", "target": "resource.R"}
    link = {"key": "tons", "flags": 0, "dirent": {"ver": 1, "type": "symlink", "data": target}}
    handle.rpc("kvs.commit", {"namespace": "gns", "flags": 0, "ops": [link]}).get()


def watch(handle: flux.Flux) -> None:
    """Somebody watches the primary namespace."""
    request = {"key": "admin.eventlog", "namespace": "primary", "flags": FLUX_KVS_WATCH}
    handle.rpc("kvs-watch.lookup", request, flags=FLUX_RPC_STREAMING).get()


#: What others did, or what was waited for, before a line of a recording.
BEFORE: dict[tuple[str, int], Callable[[flux.Flux], Any]] = {
    ("kvs-eventlog", 1): lambda handle: fill(handle, 19),
    ("kvs-namespace", 1): lambda handle: fill(handle, 18),
    ("kvs-guest", 1): make_guest_space,
    ("kvs-stats", 1): watch,
    ("kvs-content", 19): lambda handle: handle.rpc("content.flush").get(),
}


def replay(name: str, connect: Callable[[int], flux.Flux], refs: Refs) -> None:
    """Replays a recording; `connect` is called with the number of the connection, and its first record."""
    handles: dict[int, flux.Flux] = {}
    for number, record in enumerate(records(name), 1):
        conn = record["conn"]
        if conn not in handles:
            handles[conn] = connect(conn)
        handle = handles[conn]
        before = BEFORE.get((name, number))
        if before is not None:
            before(connect(-1))
        if record["dir"] == "c>b":
            message = message_of(record, ())
            if "payload" in record:
                message.set_raw(encoded(refs.sent(record["payload"])))
            handle.send(message)
            continue
        message = receive(handle)
        expected = dict(record)
        try:
            told = heard(message, record)
            if record["topic"] in SHAPES:
                assert shape(told) == shape(record["payload"])
                continue
            if name == MERGED and told is not None and "rootseq" in told:
                assert shape(told) == shape(record["payload"])
                continue
            if record["topic"] == "kvs.namespace-list" and not record["errnum"]:
                assert in_order(told) == in_order(record["payload"])
                continue
            if record["topic"].endswith("checkpoint-get"):
                # Older ones are from before what was recorded.
                newest = record["payload"]["value"][: 2 if name == "kvs-sync-checkpoint" else 1]
                assert refs.expected(newest, told["value"][: len(newest)]) == told["value"][: len(newest)]
                continue
            if "payload" in expected:
                expected["payload"] = refs.expected(expected["payload"], told)
            check(message, expected)
        except AssertionError as exc:
            exc.add_note(f"{name}, line {number}: {message!r} {message.raw!r}")
            raise


@contextmanager
def connections(broker: BrokerThread) -> Iterator[Callable[[int], flux.Flux]]:
    with ExitStack() as stack:
        yield lambda conn: stack.enter_context(broker.open())


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: "+".join(chain))
def test_clients_hear_what_the_reference_said(
    chain: tuple[str, ...], start_broker: Callable[..., BrokerThread]
) -> None:
    broker = start_broker({"security.owner": "0"})
    # Whatever is timed: a name of a namespace that has gone is free again with a heartbeat.
    broker.call(lambda: broker.broker.unload("heartbeat"))
    with broker.open() as handle:
        fill(handle)
    with connections(broker) as connect:
        refs = Refs()
        for name in chain:
            replay(name, connect, refs)


def test_every_recording_is_replayed() -> None:
    replayed = {name for chain in CHAINS for name in chain}
    assert replayed | OTHERS == {path.stem for path in Path(RECORDINGS).glob("kvs-*.jsonl")}


def test_subscribers_hear_what_the_reference_published(broker_thread: BrokerThread) -> None:
    with broker_thread.open() as handle, broker_thread.open() as listener:
        fill(handle)
        listener.event_subscribe("kvs.namespace")
        put = {"ver": 1, "type": "val", "data": "MQ=="}

        def commit(namespace: str, *keys: str) -> None:
            ops = [{"key": key, "flags": 0, "dirent": put} for key in keys]
            handle.rpc("kvs.commit", {"namespace": namespace, "flags": 0, "ops": ops}).get()

        commit("primary", "x.y", "b")
        with pytest.raises(OSError, match="root directory"):
            commit("primary", ".")
        flux.kvs.namespace_create(handle, "ens")
        commit("ens", "z")
        flux.kvs.namespace_remove(handle, "ens")
        commit("primary")
        refs = Refs()
        for record in records("kvs-events"):
            if record["type"] != "event":
                continue
            message = receive(listener)
            told = heard(message, record)
            recorded = {**record["payload"]}
            if "names" in recorded:
                assert all(re.fullmatch(r"transaction_req\.0\.\d+", name) for name in told["names"])
                recorded["names"] = told["names"]
            if "owner" in recorded:
                recorded["owner"] = os.getuid()
            check(message, {**record, "payload": refs.expected(recorded, told)})


def test_rank_1_says_what_the_reference_said_there(tmp_path: Path) -> None:
    instance = LinkedInstance(str(tmp_path), 0)
    instance.start()
    try:
        with flux.Flux(f"local://{tmp_path}/local-0") as leader, flux.Flux(f"local://{tmp_path}/local-1") as handle:
            fill(leader)
            refs = Refs()
            for number, record in enumerate(records("kvs-rank1"), 1):
                if record["dir"] == "c>b":
                    handle.send(message_of(record, ()))
                    continue
                message = receive(handle)
                told = heard(message, record)
                try:
                    if record["topic"] == "kvs.namespace-list":
                        assert in_order(told) == in_order(record["payload"])
                    elif record["topic"] == "kvs.commit" and not record["errnum"]:
                        # The reference tells the root before the commit: ours is that of the commit (05, 16 item 1).
                        assert told["rootseq"] == record["payload"]["rootseq"] + 1
                        latest = told
                    else:
                        if "payload" in record:
                            record["payload"] = refs.expected(record["payload"], told)
                        check(message, record)
                        if record["topic"] == "kvs.getroot" and number > 2:
                            assert told["rootref"] == latest["rootref"]
                except AssertionError as exc:
                    exc.add_note(f"line {number}: {message!r} {message.raw!r}")
                    raise
    finally:
        instance.stop()
