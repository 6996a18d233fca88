"""The database: that of the reference, and what happens when it fails."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from in_process import BrokerThread, error_of

import flux
import flux.kvs
from flux.cli.commands import dump, fsck, restore
from flux.constants import FLUX_KVS_READDIR, FLUX_KVS_READLINK, FLUX_KVS_SYNC
from fluxlet.modules.content.digest import Hash
from fluxlet.modules.content_sqlite.database import Database
from fluxlet.modules.content_sqlite.settings import Settings

VECTORS = Path(__file__).parents[3] / "vectors"
WHAT: dict[str, Any] = json.loads((VECTORS / "kvs-reference.json").read_text())

Start = Callable[..., BrokerThread]


def kept(directory: Path) -> dict[str, str]:
    """Attributes of a broker whose state stays."""
    return {"statedir": str(directory), "statedir-cleanup": "0"}


def check_reference(handle: flux.Flux, below: str = "", directories: bool = True) -> None:
    """What the reference wrote is there."""

    def get(key: str) -> bytes:
        answer = handle.rpc("kvs.lookup", {"namespace": "primary", "key": below + key, "flags": 0}).get()
        return base64.b64decode(answer["val"]["data"])

    def look(key: str, flags: int) -> Any:
        return handle.rpc("kvs.lookup", {"namespace": "primary", "key": below + key, "flags": flags}).get()["val"][
            "data"
        ]

    for key, value in WHAT["values"].items():
        assert get(key).decode() == value
    assert hashlib.sha1(get("big") + b"\n").hexdigest() == WHAT["sha1_of_values"]["big"]
    assert hashlib.sha1(get("bin")).hexdigest() == WHAT["sha1_of_values"]["bin"]
    for key, target in WHAT["symlinks"].items():
        assert look(key, FLUX_KVS_READLINK) == {"target": target}
    for key in WHAT["empty_directories"] if directories else ():
        assert look(key, FLUX_KVS_READDIR) == {}
    for key, names in WHAT["eventlogs"].items():
        assert [json.loads(line)["name"] for line in get(key).splitlines()] == names


def test_a_database_of_the_reference_is_opened(start_broker: Start, tmp_path: Path, monkeypatch: Any) -> None:
    shutil.copy(VECTORS / "kvs-reference-content.sqlite", tmp_path / "content.sqlite")
    with start_broker(kept(tmp_path)).open() as handle:
        assert handle.rpc("content.checkpoint-get").get()["value"][0]["rootref"] == WHAT["final_root"]
        check_reference(handle)
        root = handle.rpc("kvs.getroot", {"namespace": "primary"}).get()
        assert root["rootseq"] >= WHAT["final_sequence"]


def test_an_archive_of_the_reference_is_restored(start_broker: Start, tmp_path: Path, monkeypatch: Any) -> None:
    broker = start_broker()
    monkeypatch.setenv("FLUX_URI", broker.uri)
    assert restore.main(["--quiet", "--key=old", str(VECTORS / "kvs-reference-dump.tar")]) == 0
    with broker.open() as handle:
        check_reference(handle, "old.", directories=False)
    assert dump.main(["--quiet", str(tmp_path / "again.tar")]) == 0
    assert restore.main(["--quiet", "--key=again", str(tmp_path / "again.tar")]) == 0
    with broker.open() as handle:
        check_reference(handle, "again.old.", directories=False)


def test_ours_has_the_schema_of_the_reference(start_broker: Start, tmp_path: Path) -> None:
    broker = start_broker(kept(tmp_path))
    with broker.open() as handle:
        flux.kvs.put(handle, "a", b"x" * 300, raw=True)
        flux.kvs.put(handle, "b", b"y" * 100, raw=True)
        flux.kvs.commit(handle, FLUX_KVS_SYNC)
    broker.stop()

    def rows(path: Path, query: str) -> list[Any]:
        with closing(sqlite3.connect(path)) as connection:
            connection.text_factory = bytes
            return connection.execute(query).fetchall()

    ours, theirs = tmp_path / "content.sqlite", VECTORS / "kvs-reference-content.sqlite"
    query = "SELECT name, sql FROM sqlite_master ORDER BY name"
    assert rows(ours, query) == rows(theirs, query)
    kinds = "SELECT DISTINCT typeof(hash), typeof(size), typeof(object), typeof(epoch), size = -1 FROM objects"
    assert set(rows(ours, kinds)) <= set(rows(theirs, kinds)) | {(b"text", b"integer", b"null", b"integer", 1)}
    digest = hashlib.sha1(b"x" * 300).digest()
    with closing(sqlite3.connect(ours)) as connection:
        found = connection.execute("SELECT size, length(object) FROM objects WHERE hash = CAST(? AS TEXT)", (digest,))
        size, length = found.fetchone()
    assert size == 300
    assert length < 30


def test_what_was_committed_is_there_after_a_restart(start_broker: Start, tmp_path: Path) -> None:
    last = 0
    for run in range(3):
        broker = start_broker(kept(tmp_path))
        with broker.open() as handle:
            before = handle.rpc("kvs.getroot", {"namespace": "primary"}).get()["rootseq"]
            for earlier in range(run):
                assert flux.kvs.get(handle, f"run{earlier}") == "x" * 100 * (earlier + 1)
            flux.kvs.put(handle, f"run{run}", "x" * 100 * (run + 1))
            flux.kvs.commit(handle)
            after = handle.rpc("kvs.getroot", {"namespace": "primary"}).get()["rootseq"]
        # An orderly end, as rc3 makes it.
        with broker.open() as handle:
            for name in ("kvs-watch", "kvs"):
                handle.rpc("module.remove", {"name": name}).get()
            handle.rpc("module.remove", {"name": "content-sqlite"}).get()
        broker.stop()
        assert after > before
        assert before >= last
        last = after


@pytest.fixture
def full(start_broker: Start, tmp_path: Path) -> tuple[BrokerThread, Callable[[str], None]]:
    """A broker, and a function that executes a pragma in its database."""
    broker = start_broker(kept(tmp_path))

    def pragma(text: str) -> None:
        database = broker.broker.modules["content-sqlite"].instance._database  # type: ignore[union-attr]
        broker.call(lambda: database.connection.execute(f"PRAGMA {text}").fetchall())

    return broker, pragma


def logged(broker: BrokerThread) -> str:
    """The log so far."""
    return "\n".join(broker.call(lambda: [str(entry) for entry in broker.broker.log.ring]))


@pytest.mark.parametrize(
    ("broken", "mended", "number"),
    [
        ("max_page_count = 1", "max_page_count = 1000000", errno.ENOSPC),
        ("query_only = 1", "query_only = 0", errno.EPERM),
    ],
    ids=["disk full", "read-only"],
)
def test_a_database_that_cannot_be_written(
    broken: str, mended: str, number: int, full: tuple[BrokerThread, Callable[[str], None]]
) -> None:
    broker, pragma = full
    with broker.open() as handle:
        flux.kvs.put(handle, "before", 1)
        flux.kvs.commit(handle, FLUX_KVS_SYNC)
        pragma(broken)
        # In memory there is room.
        flux.kvs.put(handle, "meanwhile", os.urandom(50_000).hex())
        flux.kvs.commit(handle)
        value = flux.kvs.get(handle, "meanwhile")
        flux.kvs.put(handle, "lasting", 2)
        found, text = error_of(lambda: flux.kvs.commit(handle, FLUX_KVS_SYNC))
        assert found == number
        assert "content.sqlite" in text
        assert error_of(handle.rpc("content.flush").get)[0] == number
        assert "content.sqlite" in logged(broker)
        # A commit that has failed has not happened; all else goes on.
        assert not flux.kvs.exists(handle, "lasting")
        assert handle.rpc("broker.ping", {}).get()["rank"] == 0
        pragma(mended)
        flux.kvs.put(handle, "lasting", 3)
        flux.kvs.commit(handle, FLUX_KVS_SYNC)
        handle.rpc("content.flush").get()
        handle.rpc("content.dropcache").get()
        broker.call(lambda: broker.broker.modules["kvs"].instance.directories.clear())  # type: ignore[union-attr]
        assert flux.kvs.get(handle, "meanwhile") == value
        assert flux.kvs.get(handle, "lasting") == 3


def test_a_blob_that_is_damaged_is_an_error_and_found_by_fsck(
    full: tuple[BrokerThread, Callable[[str], None]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broker, _ = full
    with broker.open() as handle:
        flux.kvs.put(handle, "d.bad", "x" * 500)
        flux.kvs.put(handle, "d.good", "y" * 500)
        flux.kvs.commit(handle, FLUX_KVS_SYNC)
        database = broker.broker.modules["content-sqlite"].instance._database  # type: ignore[union-attr]
        digest = hashlib.sha1(b'"' + b"x" * 500 + b'"').digest()
        damage = "UPDATE objects SET object = CAST('damaged' AS BLOB) WHERE hash = CAST(? AS TEXT)"
        broker.call(lambda: database.connection.execute(damage, (digest,)).rowcount)
        handle.rpc("content.dropcache").get()
        lookup = {"namespace": "primary", "key": "d.bad", "flags": 0}
        found, text = error_of(handle.rpc("kvs.lookup", lookup).get)
        assert found == errno.EIO
        assert "is damaged" in text
        assert flux.kvs.get(handle, "d.good") == "y" * 500
        monkeypatch.setenv("FLUX_URI", broker.uri)
        assert fsck.main(["-v"]) == 1
        said = capsys.readouterr().err
        assert "d.bad: 1 of its blobs cannot be read" in said
        assert "Total errors: 1" in said
        # Without the KVS it can be taken out.
        handle.rpc("module.remove", {"name": "kvs-watch"}).get()
        handle.rpc("module.remove", {"name": "kvs"}).get()
        assert fsck.main(["--repair"]) == 1
        assert fsck.main(["-q"]) == 0
        handle.rpc("module.load", {"path": "kvs", "args": []}).get()
        assert not flux.kvs.exists(handle, "d.bad")
        assert flux.kvs.get(handle, "d.good") == "y" * 500


def test_half_of_a_log_goes_to_lost_and_found(
    full: tuple[BrokerThread, Callable[[str], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, _ = full
    job = "job.0000.0001.0002.0003"
    with broker.open() as handle:
        for line in (b"one\n", b"two\n", b"three\n"):
            for key in ("log", f"{job}.eventlog"):
                txn = flux.kvs.KVSTxn(handle)
                flux.kvs.RAW.flux_kvs_txn_put_raw(txn.txn, 32, key, line, len(line))
                flux.kvs.commit(handle, _kvstxn=txn)
        flux.kvs.put(handle, f"{job}.R", "{}")
        flux.kvs.commit(handle, FLUX_KVS_SYNC)
        database = broker.broker.modules["content-sqlite"].instance._database  # type: ignore[union-attr]
        digest = hashlib.sha1(b"two\n").digest()
        delete = "DELETE FROM objects WHERE hash = CAST(? AS TEXT)"
        broker.call(lambda: database.connection.execute(delete, (digest,)).rowcount)
        handle.rpc("content.dropcache").get()
        for name in ("kvs-watch", "kvs"):
            handle.rpc("module.remove", {"name": name}).get()
        monkeypatch.setenv("FLUX_URI", broker.uri)
        assert fsck.main(["--repair", "--job-aware", "--quiet"]) == 1
        handle.rpc("module.load", {"path": "kvs", "args": []}).get()
        assert not flux.kvs.exists(handle, "log")
        assert flux.kvs.get(handle, "lost+found.log") == "one\nthree\n"
        assert not flux.kvs.exists(handle, job)
        assert flux.kvs.get(handle, f"lost+found.{job}.eventlog") == "one\nthree\n"
        assert flux.kvs.exists(handle, f"lost+found.{job}.R")


@pytest.mark.parametrize("content", [b"this is no database, and long enough to be told so " * 100, bytes(8192)])
def test_a_file_that_is_no_database_is_an_error_that_names_it(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "content.sqlite"
    path.write_bytes(content)
    found, text = error_of(lambda: Database(str(path), Hash("sha1"), Settings({}, (), False)))
    assert found == errno.EINVAL
    assert str(path) in text
    assert path.read_bytes() == content


def test_a_database_in_use_is_an_error_that_says_so(tmp_path: Path) -> None:
    path = str(tmp_path / "content.sqlite")
    first = Database(path, Hash("sha1"), Settings({}, (), False))
    first.store([(hashlib.sha1(b"a").digest(), b"a")])
    _, text = error_of(lambda: Database(path, Hash("sha1"), Settings({}, (), False)))
    assert "is another instance using it?" in text
    first.close()


@pytest.mark.parametrize(
    ("config", "args"),
    [
        ({"journal_mode": "wal"}, ()),
        ({"synchronous": "MAYBE"}, ()),
        ({"max_checkpoints": 0}, ()),
        ({"max_checkpoints": "5"}, ()),
        ({"nosuch": 1}, ()),
        ({}, ("journal_mode=x",)),
        ({}, ("max-checkpoints=-1",)),
        ({}, ("nosuch=1",)),
    ],
)
def test_settings_that_will_not_do(config: dict[str, Any], args: tuple[str, ...]) -> None:
    assert error_of(lambda: Settings({"content-sqlite": config}, args, False))[0] == errno.EINVAL


def test_checkpoints_are_pruned(full: tuple[BrokerThread, Callable[[str], None]]) -> None:
    broker, _ = full
    with broker.open() as handle:
        for _ in range(8):
            flux.kvs.put(handle, "a", 1)
            flux.kvs.commit(handle, FLUX_KVS_SYNC)
        checkpoints = flux.kvs.kvs_checkpoint_lookup(handle)
        sequences = [checkpoint["sequence"] for checkpoint in checkpoints]
        assert len(sequences) == 5
        assert sequences == sorted(sequences, reverse=True)
        assert flux.kvs.kvs_checkpoint_lookup(handle, cache_bypass=True) == checkpoints
        stats = handle.rpc("content-sqlite.stats-get").get()
        assert [entry["value"] for entry in stats["checkpoints"]] == checkpoints
