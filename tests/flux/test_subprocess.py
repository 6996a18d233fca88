"""flux.subprocess, plain and under asyncio (spec 02, section 17), on two ranks in a process of their own."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flux
import flux.aio
import flux.subprocess
from flux.subprocess.asynchronous import Completed

pytest_plugins = ["linked_instance"]


@pytest.fixture
def handle(linked_instance: Path) -> Iterator[flux.Flux]:
    with flux.Flux(f"local://{linked_instance}/local-0") as opened:
        yield opened


def test_a_command_has_the_caller_s_directory_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARK", "x")
    command = flux.subprocess.command_create(["true"])
    assert list(command) == ["cmdline", "cwd", "env", "opts", "channels"]
    assert (command["cwd"], command["env"]["MARK"]) == (os.getcwd(), "x")
    assert flux.subprocess.command_create(["a"], "l", "/", {}, {"stdin_BUFSIZE": "1k"}) == {
        "cmdline": ["a"],
        "label": "l",
        "cwd": "/",
        "env": {},
        "opts": {"stdin_BUFSIZE": "1k"},
        "channels": [],
    }


def test_a_process_in_the_background_is_waited_for(handle: flux.Flux) -> None:
    script = "echo out; printf '\\377'; echo err >&2; exit 5"
    started = flux.subprocess.rexec_bg(handle, ["sh", "-c", script], label="w", waitable=True, nodeid=1)
    assert started.get_rank() == 1
    assert started.get_pid() == started.get()["pid"] > 0
    done = flux.subprocess.wait(handle, label="w", nodeid=1)
    assert os.waitstatus_to_exitcode(done.get_status()) == 5
    assert (done.stdout, done.stderr) == (b"out\n\xff", b"err\n")
    assert {io["rank"] for io in done.get_output()} == {"1"}


def test_processes_are_listed_and_ended(handle: flux.Flux) -> None:
    started = flux.subprocess.rexec_bg(handle, ["sleep", "1000"])
    pid = started.get_pid()
    assert started.get_rank() == 0
    listed = flux.subprocess.list(handle).get_processes()
    assert listed == [flux.subprocess.Subprocess(pid, 0, "R", "-", "sleep")]
    assert flux.subprocess.list(handle, nodeid=1).get_processes() == []
    assert flux.subprocess.kill(handle, 9, pid=pid).get() is None
    while flux.subprocess.list(handle).get_processes():
        pass  # it is about to end
    with pytest.raises(ProcessLookupError, match="does not belong to any subprocess"):
        flux.subprocess.kill(handle, 9, pid=pid).get()


def test_what_will_not_do(handle: flux.Flux) -> None:
    for function in (flux.subprocess.wait, flux.subprocess.kill):
        with pytest.raises(ValueError, match="at least one of pid or label must be specified"):
            function(handle)
        with pytest.raises(ValueError, match="only one of pid or label may be specified"):
            function(handle, pid=1, label="x")
    with pytest.raises(OSError, match="flux-security is not available"):
        flux.subprocess.list(handle, sign=True)
    with pytest.raises(FileNotFoundError) as error:
        flux.subprocess.rexec_bg(handle, ["nosuch"]).get()
    assert error.value.strerror == "error launching process: No such file or directory"
    for command, errnum, text in (([], errno.EPROTO, "command string is empty"), ("true", errno.EINVAL, None)):
        with pytest.raises(OSError, match=text or "error parsing command string") as failed:
            flux.subprocess.rexec_bg(handle, command).get()
        assert failed.value.errno == errnum


def run(linked_instance: Path, body: Callable[[flux.aio.AsyncFlux], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with flux.aio.connect(f"local://{linked_instance}/local-0") as handle:
            return await asyncio.wait_for(body(handle), 60)

    return asyncio.run(main())


def test_under_asyncio_a_process_runs_to_its_end(linked_instance: Path) -> None:
    async def body(h: flux.aio.AsyncFlux) -> None:
        done = await h.subprocess.run(["sh", "-c", "cat; echo err >&2; exit 3"], rank=1, input=b"in" * 3_000_000)
        assert (done.returncode, done.stderr) == (3, b"err\n")
        assert done.stdout == b"in" * 3_000_000
        killed = await h.subprocess.run(["sh", "-c", "kill -9 $$"])
        assert killed == Completed(-9, b"", b"")
        ignored = await h.subprocess.run(["true"], input=b"x" * 10_000_000)
        assert ignored.returncode == 0
        with pytest.raises(FileNotFoundError):
            await h.subprocess.run(["nosuch"])

    run(linked_instance, body)


def test_under_asyncio_a_process_is_talked_to_and_ends_with_its_block(linked_instance: Path) -> None:
    async def body(h: flux.aio.AsyncFlux) -> None:
        async with await h.subprocess.start(["cat"], rank=1, label="cat") as process:
            for word in (b"one\n", b"two\n"):
                await process.write(word)
                assert await anext(process) == ("stdout", word)
            assert [entry.label for entry in await h.subprocess.list(rank=1)] == ["cat"]
            assert process.returncode is None
            # It does not end by itself.
        while await h.subprocess.list(rank=1):
            await asyncio.sleep(0)
        async with await h.subprocess.start(["sleep", "1000"]) as process:
            await process.signal(15)
            assert await process.wait() == -15
            with pytest.raises(BrokenPipeError):
                await process.write(b"x")
            with pytest.raises(ProcessLookupError):
                await process.signal(15)

    run(linked_instance, body)


def test_under_asyncio_in_the_background(linked_instance: Path) -> None:
    async def body(h: flux.aio.AsyncFlux) -> None:
        pid = await h.subprocess.background(["sh", "-c", "echo hi; sleep 1000"], waitable=True, label="bg")
        waiting = asyncio.ensure_future(h.subprocess.wait(label="bg"))
        await asyncio.sleep(0)
        await h.subprocess.kill(9, pid)
        done = await waiting
        assert done.returncode == -9
        with pytest.raises(ProcessLookupError):
            await h.subprocess.wait(pid)

    run(linked_instance, body)
