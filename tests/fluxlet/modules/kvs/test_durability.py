"""What a commit with SYNC promises: the broker is killed at random points under load, and nothing of it is lost."""

from __future__ import annotations

import os
import random
import signal
import threading
from binascii import a2b_base64
from pathlib import Path
from typing import Any

import pytest

import flux
import flux.kvs
from flux.cli.commands import fsck
from flux.constants import FLUX_KVS_APPEND, FLUX_KVS_READDIR, FLUX_KVS_SYNC
from flux.core.kvs_txn import Txn
from fluxlet.testing import Instance

#: What has nothing to do with it, and would take its time to start.
WITHOUT = "resource,sched-simple,job-ingest,job-manager,job-info,job-list,job-exec,cron,rexec,barrier"
ENV = {"FLUX_MODPROBE_DISABLE": WITHOUT, "SHELL": "/bin/sh"}


class Writer:
    """Commits until the connection breaks off; knows what was acknowledged."""

    def __init__(self, handle: flux.Flux, run: int, chance: random.Random) -> None:
        self.handle = handle
        self.run = run
        self.chance = chance
        self.acknowledged: dict[str, bytes] = {}
        self.lines = 0  # of the log, that were acknowledged

    def write(self) -> None:
        """Returns when the broker is gone."""
        number = 0
        try:
            while True:
                batch: list[tuple[dict[str, bytes], Any]] = []
                for _ in range(self.chance.randint(1, 4)):
                    values = {}
                    txn = Txn()
                    for _ in range(self.chance.randint(1, 3)):
                        number += 1
                        value = os.urandom(self.chance.choice((3, 40, 60, 700)))
                        values[f"k{number}"] = value
                        txn.put(f"w.r{self.run}.k{number}", value)
                    txn.put(f"log{self.run}", b"x\n", FLUX_KVS_APPEND)
                    batch.append((values, flux.kvs.commit_async(self.handle, FLUX_KVS_SYNC, _kvstxn=txn)))
                for values, future in batch:
                    future.get()
                    self.acknowledged |= values
                    self.lines += 1
        except OSError:
            return


def check(handle: flux.Flux, writer: Writer) -> None:
    """All that was acknowledged is there."""
    if writer.acknowledged:
        lookup = {"namespace": "primary", "key": f"w.r{writer.run}", "flags": FLUX_KVS_READDIR}
        entries = handle.rpc("kvs.lookup", lookup).get()["val"]["data"]
        assert writer.acknowledged.keys() <= entries.keys()
        for name in random.sample(sorted(writer.acknowledged), min(5, len(writer.acknowledged))):
            lookup = {"namespace": "primary", "key": f"w.r{writer.run}.{name}", "flags": 0}
            assert a2b_base64(handle.rpc("kvs.lookup", lookup).get()["val"]["data"]) == writer.acknowledged[name]
        log = flux.kvs.get_key_direct(handle, f"log{writer.run}")
        assert log.count("x\n") >= writer.lines


@pytest.mark.parametrize("points", [15, pytest.param(100, marks=pytest.mark.nightly)])
def test_nothing_acknowledged_is_lost_when_the_broker_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, points: int
) -> None:
    chance = random.Random(4)
    longest = 0.15  # that it may write, in seconds; more where that has been too short
    instance = Instance(attributes={"statedir": str(tmp_path)}, env=ENV)
    writers: list[Writer] = []
    total = 0
    for run in range(points + 1):
        instance.start()
        try:
            with instance.handle() as handle:
                for writer in writers[-2:]:
                    check(handle, writer)
                monkeypatch.setenv("FLUX_URI", instance.uri)
                assert fsck.main(["-q"]) == 0
                if run == points:
                    for writer in writers:
                        check(handle, writer)
                    break
                killer = threading.Timer(chance.uniform(0.0, longest), os.kill, (instance.pid, signal.SIGKILL))
                writers.append(Writer(handle, run, chance))
                killer.start()
                writers[-1].write()
                killer.join()
                total += writers[-1].lines
                longest *= 1.0 if writers[-1].lines else 1.5
        finally:
            instance.kill()
    assert total > points  # else nothing was tested
