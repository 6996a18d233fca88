"""The module content-files."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from in_process import BrokerThread, error_of

import flux
import flux.kvs
from flux.constants import FLUX_KVS_SYNC
from fluxlet.modules.content import batch


@pytest.fixture
def start(start_broker: Callable[..., BrokerThread], tmp_path: Path) -> Callable[[], BrokerThread]:
    """Starts a broker whose blobs are files."""

    def start() -> BrokerThread:
        settings = {"statedir": str(tmp_path), "statedir-cleanup": "0"}
        broker = start_broker({**settings, "content.backing-module": "content-files"})
        with broker.open() as handle:
            for name in ("kvs-watch", "kvs"):
                handle.rpc("module.remove", {"name": name}).get()
            if "content-sqlite" in broker.broker.modules:
                handle.rpc("module.remove", {"name": "content-sqlite"}).get()
            for name in ("content-files", "kvs", "kvs-watch"):
                handle.rpc("module.load", {"path": name, "args": []}).get()
        return broker

    return start


def test_blobs_are_files_and_survive(start: Callable[[], BrokerThread], tmp_path: Path) -> None:
    broker = start()
    with broker.open() as handle:
        flux.kvs.put(handle, "a", b"x" * 100, raw=True)
        flux.kvs.put(handle, "d.b", 2)
        flux.kvs.commit(handle, FLUX_KVS_SYNC)
        root = handle.rpc("kvs.getroot", {"namespace": "primary"}).get()
    broker.stop()
    files = tmp_path / "content.files"
    assert (files / root["rootref"]).read_bytes().startswith(b'{"data":{')
    assert (files / "kvs-primary").read_bytes().startswith(b'{"version":1,"rootref":"sha1-')
    assert not list(files.glob("*.new"))
    broker = start()
    with broker.open() as handle:
        assert flux.kvs.get(handle, "d.b") == 2
        handle.rpc("content.dropcache").get()
        assert flux.kvs.get(handle, "a") == "x" * 100
        assert len(handle.rpc("content.checkpoint-get").get()["value"]) == 1
        handle.rpc("content.dropcache").get()
        digest = hashlib.sha1(b"x" * 100).digest()
        state = handle.core.rpc(b"content.load-many", digest + digest, 0xFFFFFFFF, 0)
        state.wait(60.0)
        assert batch.decode_blobs(state.value.raw) == [b"x" * 100] * 2
        state = handle.core.rpc(b"content.load", bytes(20), 0xFFFFFFFF, 0)
        state.wait(60.0)
        assert state.errnum == errno.ENOENT


def test_a_file_that_was_changed_is_an_error(start: Callable[[], BrokerThread], tmp_path: Path) -> None:
    broker = start()
    with broker.open() as handle:
        flux.kvs.put(handle, "a", b"y" * 100, raw=True)
        flux.kvs.commit(handle, FLUX_KVS_SYNC)
        for file in (tmp_path / "content.files").iterdir():
            if file.read_bytes() == b"y" * 100:
                file.write_bytes(b"z" * 100)
        handle.rpc("content.dropcache").get()
        lookup = {"namespace": "primary", "key": "a", "flags": 0}
        found, text = error_of(handle.rpc("kvs.lookup", lookup).get)
        assert found == errno.EIO
        assert "is damaged" in text
