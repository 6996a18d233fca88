"""Processes on any rank under asyncio: what `AsyncFlux.subprocess` is.

    async with flux.aio.connect() as h:
        done = await h.subprocess.run(["hostname"], rank=3)
        print(done.stdout.decode(), done.returncode)

        async with await h.subprocess.start(["cat"], rank=1) as process:
            await process.write(b"hello\\n", eof=True)
            async for stream, data in process:
                print(stream, data)

A process that `start` gives ends with the block, or with the connection. What is written waits for room at the other
end; what is read has no bound but the one that the caller's own speed sets: of a process whose output nobody takes, it
is kept here.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal as signals
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from flux import subprocess
from flux.constants import FLUX_NODEID_ANY
from flux.core.remote_process import RemoteProcess

if TYPE_CHECKING:
    import builtins

    from flux.aio import AsyncFlux

__all__ = ["AsyncSubprocess", "Completed", "Process"]


@dataclass
class Completed:
    """A process that has ended.

    Args:
        returncode: its exit code; negative: the signal that has ended it.
        stdout, stderr: all that it has written.
    """

    returncode: int
    stdout: bytes
    stderr: bytes


class Process:
    """A process in the foreground: an async iterator over (stream, data), both of `stdout` and `stderr`."""

    def __init__(self, remote: RemoteProcess) -> None:
        self._remote = remote
        self._news = asyncio.Event()
        self._output: deque[tuple[str, bytes]] = deque()
        remote.on_started = remote.on_credit = remote.on_finished = remote.on_end = self._news.set
        remote.on_output = self._take

    def _take(self, stream: str, data: bytes) -> None:
        if data:
            self._output.append((stream, data))
            self._news.set()

    async def _change(self) -> None:
        self._news.clear()
        await self._news.wait()

    @property
    def pid(self) -> int:
        """Its process id, on its rank."""
        return self._remote.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative: the signal that has ended it; None as long as it runs."""
        status = self._remote.status
        return None if status is None else os.waitstatus_to_exitcode(status)

    async def _started(self) -> Self:
        while not self._remote.pid and not self._remote.ended:
            await self._change()
        self._check()
        return self

    def _check(self) -> None:
        if self._remote.error is not None:
            raise self._remote.error

    async def write(self, data: bytes, eof: bool = False) -> None:
        """Writes to its standard input, as there is room; with `eof`, that is its end.

        Raises BrokenPipeError if the process has ended.
        """
        remote = self._remote
        view = memoryview(data)
        while True:
            if remote.ended or remote.status is not None:
                self._check()
                raise BrokenPipeError(errno.EPIPE, "the process has ended")
            room = remote.credit.get("stdin", 0)
            piece = view[:room]
            view = view[len(piece) :]
            if piece or not view:
                remote.write(bytes(piece), eof and not view)
            if not view:
                return
            await self._change()

    async def signal(self, signum: int) -> None:
        """Sends a signal to it and its group. Raises OSError, ESRCH if it has ended."""
        await self._remote.kill(signum)

    async def wait(self) -> int:
        """Waits until it has ended and nothing more can come; its exit code, negative for a signal. Raises OSError."""
        while not self._remote.ended:
            await self._change()
        self._check()
        assert self.returncode is not None
        return self.returncode

    def __aiter__(self) -> AsyncIterator[tuple[str, bytes]]:
        return self

    async def __anext__(self) -> tuple[str, bytes]:
        while not self._output:
            if self._remote.ended:
                self._check()
                raise StopAsyncIteration
            await self._change()
        return self._output.popleft()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Ends it, if it has not."""
        remote = self._remote
        if remote.ended or not remote.pid:
            return
        try:
            await remote.kill(signals.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended meanwhile
        finally:
            remote.forget()


class AsyncSubprocess:
    """The processes of the instance that `owner` is connected to. Ranks: FLUX_NODEID_ANY is the caller's."""

    def __init__(self, owner: AsyncFlux) -> None:
        self._owner = owner

    async def start(
        self,
        command: Sequence[str],
        *,
        rank: int = FLUX_NODEID_ANY,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        label: str | None = None,
        service: str = "rexec",
    ) -> Process:
        """Starts a process in the foreground. Arguments as of `flux.subprocess.rexec_bg`.

        Raises OSError if it cannot be started.
        """
        created = subprocess.command_create(command, label, cwd, env)
        return await Process(RemoteProcess(self._owner.flux, created, rank, service))._started()

    async def run(self, command: Sequence[str], *, input: bytes = b"", **kwargs: Any) -> Completed:
        """Runs a process to its end. Arguments as of `start`; `input` is what it reads."""
        async with await self.start(command, **kwargs) as process:
            feeding = asyncio.ensure_future(_feed(process, input))
            try:
                output: dict[str, builtins.list[bytes]] = {"stdout": [], "stderr": []}
                async for stream, data in process:
                    output[stream].append(data)
                code = await process.wait()
                await feeding
            finally:
                feeding.cancel()
            return Completed(code, b"".join(output["stdout"]), b"".join(output["stderr"]))

    async def background(
        self,
        command: Sequence[str],
        *,
        rank: int = FLUX_NODEID_ANY,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        label: str | None = None,
        waitable: bool = False,
        service: str = "rexec",
    ) -> int:
        """Starts a process in the background; its process id. As `flux.subprocess.rexec_bg`."""
        rpc = subprocess.rexec_bg(self._owner.flux, command, cwd, env, label, waitable, service, rank, sign=False)
        return int((await rpc)["pid"])

    async def wait(
        self,
        pid: int | None = None,
        label: str | None = None,
        *,
        rank: int = FLUX_NODEID_ANY,
        service: str = "rexec",
    ) -> Completed:
        """Waits for a waitable process; of its output there is the end. As `flux.subprocess.wait`."""
        rpc = subprocess.wait(self._owner.flux, pid, label, service, rank, sign=False)
        await rpc
        return Completed(os.waitstatus_to_exitcode(rpc.get_status()), rpc.stdout, rpc.stderr)

    async def kill(
        self,
        signum: int = signals.SIGTERM,
        pid: int | None = None,
        label: str | None = None,
        *,
        rank: int = FLUX_NODEID_ANY,
        service: str = "rexec",
    ) -> None:
        """Sends a signal. As `flux.subprocess.kill`."""
        await subprocess.kill(self._owner.flux, int(signum), pid, label, service, rank, sign=False)

    async def list(
        self, *, rank: int = FLUX_NODEID_ANY, service: str = "rexec"
    ) -> builtins.list[subprocess.Subprocess]:
        """The processes of a rank."""
        rpc = subprocess.list(self._owner.flux, service, rank, sign=False)
        await rpc
        return rpc.get_processes()


async def _feed(process: Process, data: bytes) -> None:
    """Writes all that a process is to read, unless it does not want to."""
    try:
        await process.write(data, eof=True)
    except BrokenPipeError:
        return
