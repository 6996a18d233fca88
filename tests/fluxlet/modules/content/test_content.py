"""The module content: the cache, and the service."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from in_process import BrokerThread, error_of

import flux
from flux.constants import FLUX_MSGFLAG_USER1
from fluxlet.modules.content import batch, many
from fluxlet.modules.content.cache import Cache
from fluxlet.modules.content.digest import Hash

ANY = 0xFFFFFFFF


def digest(blob: bytes) -> bytes:
    return hashlib.sha1(blob).digest()


def ask(handle: flux.Flux, topic: str, raw: bytes | None = None) -> Any:
    """The response to a request with a raw payload; raises its error."""
    state = handle.core.rpc(topic.encode(), raw, ANY, 0)
    state.wait(60.0)
    state.raise_error()
    return state.value


# The cache.


def test_dirty_blobs_stay_and_clean_ones_go_the_least_used_first() -> None:
    cache = Cache(target=1000, age=10.0)
    blobs = [bytes([number]) * 500 for number in range(6)]
    for number, blob in enumerate(blobs):
        assert cache.store([(digest(blob), blob)], float(number))
        assert not cache.store([(digest(blob), blob)], float(number))
    assert (cache.size, cache.dirty_size, cache.lowest) == (3000, 3000, 1)
    cache.purge(1000.0)
    assert cache.size == 3000
    for blob in blobs[:4]:
        cache.stored([digest(blob)])
    assert cache.lowest == 5
    assert cache.find(digest(blobs[0]), 20.0) is not None
    cache.purge(25.0)
    # Those used within ten seconds stay, and those that nobody else has.
    assert {*cache.clean, *cache.dirty} == {digest(blob) for blob in (blobs[0], *blobs[4:])}
    assert cache.size == 1500
    cache.drop()
    assert (len(cache.clean), len(cache.dirty), cache.size) == (0, 2, 1000)
    cache.refused(digest(blobs[4]))
    assert (cache.size, cache.dirty_size) == (500, 500)


def test_memory_is_bounded_however_fast_blobs_come() -> None:
    cache = Cache(target=1000, age=10.0)
    for number in range(10_000):
        cache.insert(digest(b"%d" % number), b"x" * 20, 0.0)
        cache.purge(0.0, 2)
    assert cache.size <= 2000


def test_a_blob_that_is_stored_again_is_sent_on_again() -> None:
    cache = Cache(100, 10.0)
    cache.store([(digest(b"a"), b"a")], 0.0)
    cache.stored([digest(b"a")])
    assert cache.store([(digest(b"a"), b"a")], 1.0)
    assert (cache.size, cache.dirty_size, cache.number) == (1, 1, 2)


@pytest.mark.parametrize("blobs", [[], [b""], [b"a", b"", b"x" * 1000]])
def test_many_blobs_in_one_payload(blobs: list[bytes]) -> None:
    digests = [digest(blob) for blob in blobs]
    assert batch.decode(batch.encode(digests, blobs), 20) == list(zip(digests, blobs, strict=True))
    assert batch.decode_blobs(batch.encode_blobs(blobs)) == blobs


@pytest.mark.parametrize("raw", [None, b"", b"\0\0\0", b"\0\0\0\1", b"\0\0\0\1\0\0\0\5abc", b"\0\0\0\0x", b"\xff" * 8])
def test_payloads_that_are_not_as_long_as_they_say(raw: bytes | None) -> None:
    assert error_of(lambda: batch.decode_blobs(raw))[0] == errno.EPROTO


def test_hashes() -> None:
    assert error_of(lambda: Hash("md5"))[0] == errno.EINVAL
    sha256 = Hash("sha256")
    assert sha256.parse(sha256.blobref(sha256.digest(b"a"))) == hashlib.sha256(b"a").digest()
    for wrong in ("", "sha1-" + "0" * 40, "sha256-" + "0" * 63, "sha256-" + "G" * 64, "sha256-" + "A" * 64, 1):
        with pytest.raises(ValueError, match="is no blobref of sha256"):
            sha256.parse(wrong)


# The service.


def test_another_hash(start_broker: Callable[..., BrokerThread]) -> None:
    with start_broker({"content.hash": "sha256"}).open() as handle:
        assert ask(handle, "content.store", b"a").raw == hashlib.sha256(b"a").digest()
        assert handle.rpc("kvs.getroot", {"namespace": "primary"}).get()["rootref"].startswith("sha256-")
        import flux.kvs

        flux.kvs.put(handle, "a.b", "x" * 100)
        flux.kvs.commit(handle)
        assert flux.kvs.get(handle, "a.b") == "x" * 100
        flux.kvs.namespace_create(handle, "n")
        assert flux.kvs.get_dir(handle, namespace="n").list_all() == ([], [])


def test_pieces_of_files_are_blobs(start_broker: Callable[..., BrokerThread], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a" * 1000 + b"b" * 1000 + b"c" * 10)
    with start_broker().open() as handle:
        add = {"path": str(path), "chunksize": 1000, "tag": "t"}
        handle.rpc("content.mmap-add", add).get()
        stats = handle.rpc("content.stats-get").get()["mmap"]
        assert stats == {"tags": {"t": [str(path)]}, "blobs": 3}
        for piece in (b"a" * 1000, b"b" * 1000, b"c" * 10):
            response = ask(handle, "content.load", digest(piece))
            assert response.raw == piece
            assert response.flags & FLUX_MSGFLAG_USER1
        # What has become something else is not what was asked for.
        path.write_bytes(b"d" * 2010)
        assert error_of(lambda: ask(handle, "content.load", digest(b"a" * 1000)))[0] == errno.ENOENT
        handle.rpc("content.mmap-remove", {"tag": "t"}).get()
        handle.rpc("content.mmap-remove", {"tag": "never"}).get()
        assert handle.rpc("content.stats-get").get()["mmap"]["blobs"] == 0


def test_without_a_backing_store_blobs_wait_for_one(start_broker: Callable[..., BrokerThread]) -> None:
    broker = start_broker()
    with broker.open() as handle:
        for name in ("kvs-watch", "kvs", "content-sqlite"):
            handle.rpc("module.remove", {"name": name}).get()
        ref = ask(handle, "content.store", b"waiting").raw
        assert handle.rpc("content.stats-get").get()["dirty"] == 1
        handle.rpc("content.dropcache").get()
        assert ask(handle, "content.load", ref).raw == b"waiting"
        for topic, text in (
            ("content.flush", None),
            ("content.checkpoint-get", "checkpoint get unavailable, no backing store"),
        ):
            number, said = error_of(handle.rpc(topic).get)
            assert number == errno.ENOSYS
            assert text in (None, said)
        text = "checkpoint put unavailable, no backing store"
        assert error_of(handle.rpc("content.checkpoint-put", {"value": {}}).get) == (errno.ENOSYS, text)
        assert error_of(lambda: ask(handle, "content.load", bytes(20)))[0] == errno.ENOENT
        number, text = error_of(handle.rpc("content.register-backing", {"name": "another"}).get)
        assert (number, text) == (errno.EINVAL, "content backing store cannot be changed on the fly")
        text = "content backing store is not active"
        assert error_of(handle.rpc("content.unregister-backing").get) == (errno.EINVAL, text)
        handle.rpc("module.load", {"path": "content-sqlite", "args": []}).get()
        handle.rpc("content.flush").get()
        assert handle.rpc("content.stats-get").get()["dirty"] == 0
        handle.rpc("content.dropcache").get()
        assert ask(handle, "content.load", ref).raw == b"waiting"


def test_a_blob_that_is_too_big(start_broker: Callable[..., BrokerThread]) -> None:
    broker = start_broker()
    with broker.open() as handle:
        for name in ("kvs-watch", "kvs", "content-sqlite", "content"):
            handle.rpc("module.remove", {"name": name}).get()
        handle.rpc("module.load", {"path": "content", "args": ["blob-size-limit=1000"]}).get()
        assert len(ask(handle, "content.store", b"x" * 1000).raw) == 20
        assert error_of(lambda: ask(handle, "content.store", b"x" * 1001))[0] == errno.EFBIG
        assert (
            error_of(lambda: ask(handle, "content.store-many", batch.encode_blobs([b"a", b"x" * 1001])))[0]
            == errno.EFBIG
        )
        for bad in ("nosuch=1", "purge-old-entry=x", "flush-batch-limit=0"):
            handle.rpc("module.remove", {"name": "content"}).get()
            assert error_of(handle.rpc("module.load", {"path": "content", "args": [bad]}).get)[0] == errno.EINVAL
            handle.rpc("module.load", {"path": "content", "args": []}).get()


def test_an_unknown_hash_is_an_error_at_the_start(start_broker: Callable[..., BrokerThread]) -> None:
    assert error_of(lambda: start_broker({"content.hash": "md5"}))[0] == errno.EINVAL


# Loading many.


def load_many(handle: flux.Flux, *digests: bytes) -> list[bytes]:
    return batch.decode_blobs(ask(handle, "content.load-many", b"".join(digests)).raw)


def test_many_blobs_are_loaded_at_once(start_broker: Callable[..., BrokerThread]) -> None:
    broker = start_broker()
    blobs = [b"a", b"", b"b" * 1000, b"a"]
    with broker.open() as handle:
        for blob in blobs:
            ask(handle, "content.store", blob)
        handle.rpc("content.flush").get()
        digests = [digest(blob) for blob in blobs]
        assert load_many(handle, *digests) == blobs
        handle.rpc("content.dropcache").get()
        assert load_many(handle, *digests) == blobs
        ask(handle, "content.load", digests[2])  # some are in memory, others are not
        assert load_many(handle, *digests) == blobs
        assert error_of(lambda: load_many(handle, digests[0], bytes(20)))[0] == errno.ENOENT
        for raw in (None, b"x", digests[0] + b"x"):
            with pytest.raises(OSError, match="digests") as error:
                ask(handle, "content.load-many", raw)
            assert error.value.errno == errno.EPROTO


def test_of_many_large_blobs_the_first_are_loaded(start_broker: Callable[..., BrokerThread]) -> None:
    blobs = [bytes([number]) * (many.ENOUGH // 2) for number in range(4)]
    with start_broker().open() as handle:
        digests = [ask(handle, "content.store", blob).raw for blob in blobs]
        assert load_many(handle, *digests) == blobs[:2]
        handle.rpc("content.flush").get()
        handle.rpc("content.dropcache").get()
        ask(handle, "content.load", digests[1])
        assert load_many(handle, *digests) == blobs[:2]
        assert load_many(handle, *digests[2:]) == blobs[2:]


def test_without_a_backing_store_only_what_is_in_memory_is_loaded(start_broker: Callable[..., BrokerThread]) -> None:
    with start_broker().open() as handle:
        for name in ("kvs-watch", "kvs", "content-sqlite"):
            handle.rpc("module.remove", {"name": name}).get()
        ref = ask(handle, "content.store", b"here").raw
        assert load_many(handle, ref) == [b"here"]
        assert error_of(lambda: load_many(handle, ref, bytes(20)))[0] == errno.ENOSYS
