"""Plugins of users, in a process of their own: they may block, and cannot harm the broker (spec 06, 4.3)."""

from __future__ import annotations

import errno
import sys
from collections import deque
from collections.abc import Callable
from syslog import LOG_ERR
from typing import Any

import msgspec

from flux.core.remote_process import STDERR, STDOUT, RemoteProcess
from flux.subprocess import command_create
from fluxlet.payload import UNREADABLE
from fluxlet.service import Service

#: Seconds without work after which the process ends.
_IDLE = 5.0
_EXITED = "Unrecoverable error: worker unexpectedly exited"


class Answer(msgspec.Struct):
    """What the process says of a job; `data` is the changed jobspec."""

    errnum: int
    errstr: str | None = None
    data: msgspec.Raw = msgspec.Raw()


#: Called with an answer.
Then = Callable[[Answer], None]

_decode = msgspec.json.Decoder(Answer).decode


class Worker:
    """See the module.

    Args:
        service: whose worker it is.
        stage: validator or frobnicator.
        plugins: their names, or paths.
        args: their options.
    """

    def __init__(self, service: Service, stage: str, plugins: list[str], args: list[str]) -> None:
        self.service = service
        self.stage = stage
        words = [sys.executable, "-m", "flux.job.validator.worker", stage, f"--plugins={','.join(plugins)}", *args]
        self.command = command_create(words, env={}, opts={"stdin_BUFSIZE": "64M", "stdout_BUFSIZE": "64M"})
        self.process: RemoteProcess | None = None
        self.waiting: deque[Then] = deque()
        self._timer = service.module.reactor.timer(_IDLE, 0.0, self.stop)

    def ask(self, job: bytes, then: Then) -> None:
        """Has a job looked at: an object in JSON."""
        self._timer.stop()
        if self.process is None:
            self.process = process = RemoteProcess(self.service.handle, self.command, flags=STDOUT | STDERR)
            process.on_output = self._output
            process.on_end = lambda: self._ended(process)
        self.waiting.append(then)
        self.process.write(job + b"\n")

    def _output(self, stream: str, data: bytes) -> None:
        if not data:
            return
        if stream == "stderr":
            self._complain(data.decode(errors="replace").rstrip())
            return
        try:
            answer = _decode(data)
        except UNREADABLE as exc:
            answer = Answer(errno.EPROTO, f"bad answer of the {self.stage}: {exc}")
        if self.waiting:
            self.waiting.popleft()(answer)
        if not self.waiting:
            self._timer.reset(_IDLE, 0.0)

    def _ended(self, process: RemoteProcess) -> None:
        if process is not self.process:
            return
        self.process = None
        if process.error is not None:
            self._complain(process.error.strerror or str(process.error))
        waiting, self.waiting = self.waiting, deque()
        for then in waiting:
            then(Answer(errno.EPROTO, _EXITED))

    def _complain(self, text: str) -> None:
        self.service.broker.log.write(LOG_ERR, f"{self.stage}: {text}", self.service.name)

    def stop(self) -> None:
        """Ends the process; there will be another one for the next job."""
        self._timer.stop()
        process, self.process = self.process, None
        if process is not None and process.running:
            process.write(b"", eof=True)


def job_text(jobspec: bytes, **fields: Any) -> bytes:
    """A line of input: a jobspec and what else is known of the job."""
    return b'{"jobspec":%b,%b' % (jobspec, msgspec.json.encode(fields)[1:])
