"""flux.kvs, and the same under asyncio (spec 05, section 12)."""

from __future__ import annotations

import asyncio
import errno
import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from in_process import BrokerThread

import flux
import flux.aio
import flux.kvs
from flux.constants import FLUX_KVS_APPEND, FLUX_KVS_NO_MERGE, FLUX_KVS_SYNC, FLUX_KVS_TXN_COMPACT
from flux.kvs import RAW


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerThread]:
    running = BrokerThread()
    yield running
    running.stop()


@pytest.fixture
def h(broker: BrokerThread) -> Iterator[flux.Flux]:
    with broker.open() as handle:
        yield handle


def error(call: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[int, str]:
    with pytest.raises(OSError) as info:  # noqa: PT011  # it is compared
        call(*args, **kwargs)
    return info.value.errno or 0, info.value.strerror or ""


@pytest.mark.parametrize(
    "value", [1, -2.5, None, True, "text", "é", "", [1, [2]], {"a": {"b": None}}, {}, "x" * 1000, 1 << 60]
)
def test_values_are_json(value: Any, h: flux.Flux) -> None:
    flux.kvs.put(h, "json.v", value)
    flux.kvs.commit(h)
    assert flux.kvs.get(h, "json.v") == value
    assert flux.kvs.get_key_direct(h, "json.v") == value


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"", None),
        (b"123", 123),
        (b'"q"', "q"),
        (b" 12 ", 12),
        (b"true", True),
        (b"plain", "plain"),
        (b"\xff\xfe", b"\xff\xfe"),
        ("str", "str"),
        (b"x" * 100_000, "x" * 100_000),
    ],
)
def test_raw_values_are_decoded_as_far_as_they_can_be(data: Any, value: Any, h: flux.Flux) -> None:
    flux.kvs.put(h, "raw.v", data, raw=True)
    flux.kvs.commit(h)
    assert flux.kvs.get(h, "raw.v") == value


def test_odd_values(h: flux.Flux) -> None:
    flux.kvs.put(h, "odd.nan", b"NaN", raw=True)
    flux.kvs.put(h, "odd.bytes", b"\xff\x01")
    flux.kvs.commit(h)
    assert math.isnan(flux.kvs.get(h, "odd.nan"))
    assert flux.kvs.get(h, "odd.bytes") == b"\xff\x01"
    with pytest.raises(TypeError):
        flux.kvs.put(h, "odd.set", {1, 2})
    with pytest.raises(AttributeError):
        flux.kvs.put(h, "odd.raw", 1, raw=True)
    assert error(flux.kvs.put, h, "", 1)[0] == errno.EINVAL
    with pytest.raises(ValueError):  # noqa: PT011  # InvalidArguments
        flux.kvs.get(h, 1)  # type: ignore[arg-type]


def test_errors_are_named(h: flux.Flux) -> None:
    assert error(flux.kvs.get_key_direct, h, "nosuch") == (errno.ENOENT, "ENOENT: No such file or directory")
    flux.kvs.put_mkdir(h, "named.d")
    flux.kvs.commit(h)
    with pytest.raises(IsADirectoryError):
        flux.kvs.get_key_direct(h, "named.d")
    flux.kvs.put(h, "named.v", 1)
    flux.kvs.commit(h)
    with pytest.raises(NotADirectoryError):
        flux.kvs.get_dir(h, "named.v")
    assert error(flux.kvs.exists, h, "a", namespace="nons")[0] == errno.ENOTSUP
    with pytest.raises(FileExistsError):
        flux.kvs.namespace_create(h, "primary")
    assert error(flux.kvs.namespace_create, h, "flagged", flags=1)[0] == errno.EINVAL


def test_what_is_there(h: flux.Flux) -> None:
    flux.kvs.put(h, "there.v", 1)
    flux.kvs.put_mkdir(h, "there.d")
    flux.kvs.put_symlink(h, "there.l", "there.d")
    flux.kvs.put_symlink(h, "there.dangling", "nowhere")
    flux.kvs.commit(h)
    assert [flux.kvs.exists(h, f"there.{name}") for name in ("v", "d", "l", "dangling", "no")] == [True] * 3 + [
        False
    ] * 2
    assert [flux.kvs.isdir(h, f"there.{name}") for name in ("v", "d", "l", "dangling", "no")] == [
        False,
        True,
        True,
        False,
        False,
    ]
    flux.kvs.put_unlink(h, "there")
    flux.kvs.commit(h)
    assert not flux.kvs.exists(h, "there")


def test_the_transaction_of_a_handle(h: flux.Flux) -> None:
    before = h.rpc("kvs.getroot", {"namespace": "primary"}).get()["rootseq"]
    flux.kvs.commit(h)  # nothing is staged: nothing is sent
    assert h.rpc("kvs.getroot", {"namespace": "primary"}).get()["rootseq"] == before
    flux.kvs.put(h, ".", 1)
    assert error(flux.kvs.commit, h)[0] == errno.EINVAL
    assert h.aux_txn is None  # it was discarded all the same
    flux.kvs.commit_async(h).get()  # an empty commit
    assert h.rpc("kvs.getroot", {"namespace": "primary"}).get()["rootseq"] == before + 1


def test_transactions_of_ones_own(h: flux.Flux) -> None:
    txn = flux.kvs.KVSTxn(h, "own")
    txn.put("a", 1)
    txn.mkdir("d")
    txn.symlink("l", "own.a")
    txn.commit()
    txn.commit()  # empty
    assert flux.kvs.get(h, "own.l") == 1
    txn.unlink("a")
    txn.clear()
    txn.commit()
    assert flux.kvs.exists(h, "own.a")
    txn = flux.kvs.KVSTxn(h, "own.")
    txn.put("b", 2)
    assert not txn.__exit__(RuntimeError, RuntimeError("on the way"), None)
    assert flux.kvs.get(h, "own.b") == 2
    # One that is given stays as it is, and can be committed again.
    txn = flux.kvs.KVSTxn(h)
    flux.kvs.put(h, "own.c", 3, _kvstxn=txn)
    flux.kvs.commit(h, FLUX_KVS_NO_MERGE, _kvstxn=txn)
    flux.kvs.commit(h, _kvstxn=txn)
    assert flux.kvs.get(h, "own.c") == 3


def test_directories_are_mappings(h: flux.Flux) -> None:
    with flux.kvs.get_dir(h) as root:
        root.mkdir("dir.sub", {"x": 1, "y": "two"})
        root["dir.z"] = [3]
    d = flux.kvs.get(h, "dir")
    assert isinstance(d, flux.kvs.KVSDir)
    assert (list(d), len(d), d.list_all()) == (["sub", "z"], 2, (["z"], ["sub"]))
    assert (d["sub.x"], d["sub"]["y"], d["z"]) == (1, "two", [3])
    assert ("z" in d, "no" in d, d.get("no", 5)) == (True, False, 5)
    with pytest.raises(KeyError, match=r"no not found under directory dir\."):
        d["no"]
    assert (d.key_at("z"), d.exists("z"), d.exists("no")) == ("dir.z", True, False)
    del d["z"]
    d.commit()
    assert not d.exists("z")
    d.fill({"a": 1, "b": 2})
    d.mkdir("deep", {"c": 3})
    assert flux.kvs.get(h, "dir.deep.c") == 3
    assert sorted(flux.kvs.get_dir(h, "dir").keys()) == ["a", "b", "deep", "sub"]
    with pytest.raises(ValueError, match="contents must be non-None"):
        d.fill(None)
    with pytest.raises(ValueError):  # noqa: PT011
        flux.kvs.KVSDir()
    walked = [(path, sorted(dirs), sorted(files)) for path, dirs, files in flux.kvs.walk("dir", True, h)]
    assert walked == [("", ["deep", "sub"], ["a", "b"]), ("deep", [], ["c"]), ("sub", [], ["x", "y"])]
    assert [path for path, _, _ in flux.kvs.walk("dir", flux_handle=h)] == ["deep", "sub", ""]
    with pytest.raises(ValueError, match="If directory is a key, flux_handle must be specified"):
        flux.kvs.walk("dir")
    assert flux.kvs.join("a", "", "b.c", "d") == "a.b.c.d"


def test_namespaces(h: flux.Flux, monkeypatch: pytest.MonkeyPatch) -> None:
    flux.kvs.namespace_create(h, "space")
    assert "space" in flux.kvs.namespace_list(h)
    flux.kvs.put(h, "a", 1)
    flux.kvs.commit(h, namespace="space")
    assert flux.kvs.get(h, "a", namespace="space") == 1
    assert not flux.kvs.exists(h, "a")
    monkeypatch.setenv("FLUX_KVS_NAMESPACE", "space")
    assert flux.kvs.get(h, "a") == 1
    flux.kvs.namespace_remove(h, "space")
    assert error(flux.kvs.get, h, "a")[0] == errno.ENOTSUP


def test_watching(h: flux.Flux) -> None:
    watch = flux.kvs.kvs_watch_async(h, "watched", waitcreate=True)
    for value in (1, "two", None, [3]):
        flux.kvs.put(h, "watched", value)
        flux.kvs.commit(h)
        assert watch.get(autoreset=False) == value
        assert watch.get() == value
    flux.kvs.put(h, "watched", b"", raw=True)
    flux.kvs.commit(h)
    assert watch.get() == ""
    watch.cancel()
    assert watch.get() is None
    assert error(flux.kvs.kvs_watch_async(h, "nosuch").get)[0] == errno.ENOENT
    heard: list[Any] = []

    def changed(future: Any) -> None:
        heard.append(future.get())
        if len(heard) < 3:
            flux.kvs.put(h, "watched", len(heard))
            flux.kvs.commit(h)
        elif len(heard) == 3:
            future.cancel()

    flux.kvs.put(h, "watched", 0)
    flux.kvs.commit(h)
    flux.kvs.kvs_watch_async(h, "watched", uniq=True).then(changed)
    h.reactor_run()
    assert heard == [0, 1, 2, None]


def test_checkpoints(h: flux.Flux) -> None:
    flux.kvs.put(h, "checked", 1)
    flux.kvs.commit(h, FLUX_KVS_SYNC)
    newest = flux.kvs.kvs_checkpoint_lookup(h)[0]
    assert newest["rootref"] == h.rpc("kvs.getroot", {"namespace": "primary"}).get()["rootref"]


def test_the_functions_of_c(h: flux.Flux) -> None:
    txn = RAW.flux_kvs_txn_create()
    assert RAW.flux_kvs_txn_is_empty(txn)
    for piece in (b"a", b"b", b"c"):
        RAW.flux_kvs_txn_put_raw(txn, FLUX_KVS_APPEND, "c.log", piece, 1)
    future = RAW.flux_kvs_commit(h, None, FLUX_KVS_TXN_COMPACT, txn)
    seq = flux.core.ffi.ffi.new("int *")
    RAW.flux_kvs_commit_get_sequence(future, seq)
    assert seq[0] > 0
    assert flux.kvs.get(h, "c.log") == "abc"
    lookup = RAW.flux_kvs_lookup(h, None, 16, "c.log")
    out = flux.core.ffi.ffi.new("char *[1]")
    RAW.flux_kvs_lookup_get_treeobj(lookup, out)
    assert b'"type":"val"' in flux.core.ffi.ffi.string(out[0])
    assert error(RAW.flux_kvs_lookup, h, None, 1 << 8, "a")[0] == errno.EINVAL


# asyncio


def test_under_asyncio(broker: BrokerThread) -> None:
    async def main() -> None:
        async with flux.aio.connect(broker.uri) as h:
            await h.kvs.put("aio.a", {"x": 1})
            await h.kvs.put_all({"aio.b": 2, "aio.c": "three"})
            await h.kvs.append("aio.log", b"one\n")
            await h.kvs.append("aio.log", b"two\n")
            await h.kvs.mkdir("aio.d")
            await h.kvs.symlink("aio.l", "aio.a")
            assert await h.kvs.get("aio.l") == {"x": 1}
            assert await h.kvs.get_raw("aio.log") == b"one\ntwo\n"
            assert (await h.kvs.list_dir("aio"))[1] == ["d"]
            assert await h.kvs.readlink("aio.l") == (None, "aio.a")
            assert [await h.kvs.exists(key) for key in ("aio.a", "aio.no")] == [True, False]
            assert [await h.kvs.isdir(key) for key in ("aio.a", "aio.d")] == [False, True]
            async with h.kvs.transaction("aio.t") as txn:
                txn.put("x", 1)
                txn.put("y", 2)
            assert await asyncio.gather(h.kvs.get("aio.t.x"), h.kvs.get("aio.t.y")) == [1, 2]
            root = await h.kvs.getroot()
            await h.kvs.wait_version(root["rootseq"])
            await h.kvs.unlink("aio.t")
            with pytest.raises(FileNotFoundError):
                await h.kvs.get("aio.t.x")
            await h.kvs.namespace_create("aio-space", os.getuid())
            await h.kvs.put("k", 1, namespace="aio-space")
            assert await h.kvs.get("k", "aio-space") == 1
            assert "aio-space" in await h.kvs.namespace_list()
            await h.kvs.namespace_remove("aio-space")
            await h.kvs.put("aio.s", 1, flags=FLUX_KVS_SYNC)
            assert (await h.kvs.checkpoint_lookup())[0]["rootref"] == (await h.kvs.getroot())["rootref"]

    asyncio.run(main())


def test_following_under_asyncio(broker: BrokerThread) -> None:
    async def main() -> None:
        async with flux.aio.connect(broker.uri) as h:
            heard = []
            await h.kvs.put("aio-watched", 0)
            async for value in h.kvs.watch("aio-watched"):
                heard.append(value)
                if value == 5:
                    break
                await h.kvs.put("aio-watched", value + 1)
            assert heard == [0, 1, 2, 3, 4, 5]
            stats = await h.rpc("kvs-watch.stats-get")
            while stats["namespaces"].get("primary", {}).get("watchers", 0) > watchers:
                stats = await h.rpc("kvs-watch.stats-get")

    with broker.open() as handle:
        stats = handle.rpc("kvs-watch.stats-get").get()
        watchers = stats["namespaces"].get("primary", {}).get("watchers", 0)
    asyncio.run(asyncio.wait_for(main(), 20))
