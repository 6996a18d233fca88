"""Floods of output in a whole instance, with a reader that stops for a while, and goes on. Nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from hashlib import md5
from pathlib import Path
from typing import IO

import pytest
from waiting import wait_until

import flux
import flux.job
from fluxlet.testing import Instance

FLUX = str(Path(sys.executable).parent / "flux")
MB = 1_000_000


def memory(pid: int) -> int:
    """Bytes that a process has in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def digest_of(stream: IO[bytes]) -> str:
    """The digest of what can be read."""
    digest = md5(usedforsecurity=False)
    while piece := stream.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


def numbers(count: int) -> list[str]:
    """A command that writes some lines, each another one."""
    return ["seq", "1", str(count)]


def expected(count: int) -> str:
    """The digest of what that writes."""
    with subprocess.Popen(numbers(count), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        return digest_of(process.stdout)


class Reader:
    """A command of Flux, and a program that reads its output and says what it was when there is no more."""

    def __init__(self, instance: Instance, *words: str) -> None:
        self.process = subprocess.Popen([FLUX, *words], stdout=subprocess.PIPE, env=instance.environ)
        assert self.process.stdout is not None
        self._sum = subprocess.Popen(["md5sum"], stdin=self.process.stdout, stdout=subprocess.PIPE, text=True)
        self.process.stdout.close()

    def digest(self) -> str:
        """Waits for the end."""
        told = self._sum.communicate()[0]
        assert self.process.wait() == 0
        return told.split()[0]


def the_job(handle: flux.Flux) -> flux.job.JobID:
    """The job that writes."""

    def found() -> list[int]:
        return [job["id"] for job in flux.job.job_list(handle).get_jobs() if job["name"] == "seq"]

    return flux.job.JobID(wait_until(found, "a job")[0])


def flood(instance: Instance, count: int) -> None:
    """A reader is stopped while a job writes, and nearly all of its output is read when the job is long over."""
    with instance.handle() as handle:
        broker = int(handle.attr_get("broker.pid"))
        instance.run("flux", "run", "true", check=True)
        before, worst, peak = memory(broker), 0.0, 0

        def look() -> None:
            nonlocal worst, peak
            began = time.monotonic()
            handle.rpc("broker.ping", {}).get()
            worst = max(worst, time.monotonic() - began)
            peak = max(peak, memory(broker))
            time.sleep(0.002)

        reader = Reader(instance, "run", *numbers(count))
        watch = flux.job.event_watch(handle, the_job(handle))
        assert any(event.name == "start" for event in watch)
        reader.process.send_signal(signal.SIGSTOP)
        ended = flux.job.event_watch_async(handle, the_job(handle))
        while ended.get_event() is not None:
            look()
        reader.process.send_signal(signal.SIGCONT)
        while reader.process.poll() is None:
            look()
        assert reader.digest() == expected(count)
        for words in (("job", "attach"), ("job", "attach", "--read-only")):
            again = Reader(instance, *words, str(the_job(handle)))
            while again.process.poll() is None:
                look()
            assert again.digest() == expected(count)
        print(f"worst ping {worst * 1e3:.1f} ms, broker grew by {(peak - before) / MB:.0f} MB")
        # What content keeps in memory, and what has not been read, for which there is a bound as well.
        assert peak - before < 120 * MB


def test_a_reader_that_stops_loses_nothing() -> None:
    with Instance() as instance:
        flood(instance, 2_000_000)


@pytest.mark.nightly
def test_a_gigabyte_that_is_read_later() -> None:
    with Instance() as instance:
        flood(instance, 112_000_000)
