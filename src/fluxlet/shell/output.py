"""Where the output of a job's tasks goes: to the KVS through the leader, or to files (spec 07, 5.6)."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fluxlet.shell import events
from fluxlet.shell.mustache import TemplateError, tags
from fluxlet.shell.options import ShellError, get, text
from fluxlet.shell.outputfile import OutputFile
from fluxlet.shell.streams import Characters, Limit, Lines, labeled, parse_size

if TYPE_CHECKING:
    from fluxlet.shell.job import Job

STREAMS = ("stdout", "stderr")

#: Tags whose value depends on the task, and on the node.
_OF_TASK = re.compile(r"task(id|\.)")
_OF_NODE = re.compile(r"node\.|tmpdir$")
_LEVELS = {0: "FATAL: ", 1: "FATAL: ", 2: "FATAL: ", 3: "ERROR: ", 4: "WARN: ", 5: "", 6: "DEBUG: ", 7: "TRACE: "}


@dataclass(frozen=True)
class Target:
    """Where one stream goes.

    Args:
        path: template of a file; None: to the KVS.
        label: lines get their task's id in front.
        lines: it is buffered by lines.
        append: the file is not truncated.
        per: "job", "node" or "task": for what there is a file of its own.
    """

    path: str | None = None
    label: bool = False
    lines: bool = True
    append: bool = False
    per: str = "job"


@dataclass(frozen=True)
class Targets:
    """Where the streams of a job go, by its options.

    Args:
        streams: by name.
        to_files: whether any of them goes to a file.
        limit: how much of each may go to the KVS, in bytes; `limit_text` as it was given.
        warnings: for the user.
    """

    streams: dict[str, Target]
    to_files: bool
    limit: int
    limit_text: str
    warnings: tuple[str, ...] = ()


_DEFAULT = {"stdout": Target(), "stderr": Target(lines=False)}


def targets(options: dict[str, Any], limit: str) -> Targets:
    """Where stdout and stderr go; `limit` if the options have none. Raises ShellError."""
    limit_text = str(get(options, "output.limit", limit))
    try:
        size = parse_size(limit_text)
    except ValueError:
        raise ShellError(f"invalid output.limit: {limit_text}", "output") from None
    warnings: list[str] = []
    streams = _streams(options, warnings)
    return Targets(
        streams, any(target.path is not None for target in streams.values()), size, limit_text, tuple(warnings)
    )


def _streams(options: dict[str, Any], warn: list[str]) -> dict[str, Target]:
    given = options.get("output")
    if not isinstance(given, dict):
        return _DEFAULT
    append = False
    mode = given.get("mode", "truncate")
    if mode == "append":
        append = True
    elif mode != "truncate":
        warn.append(f"ignoring invalid output.mode={mode}")
    found = {}
    for stream in STREAMS:
        own = given.get(stream)
        source = stream if isinstance(own, dict) and "type" in own else "stdout"
        path = text(options, f"output.{source}.path") if get(options, f"output.{source}.type") == "file" else None
        if path is None and get(options, f"output.{source}.type") == "file":
            raise ShellError(f"output file for {stream} has no path", "output")
        buffer = get(options, f"output.{stream}.buffer.type", "line" if stream == "stdout" else "none")
        if buffer not in ("line", "none"):
            raise ShellError(f"invalid value for option output.{stream}.buffer.type: {buffer}", "output")
        per = "job"
        if path is not None:
            try:
                names = tags(path)
            except TemplateError:
                names = []
            if any(_OF_TASK.match(name) for name in names):
                per = "task"
            elif any(_OF_NODE.match(name) for name in names):
                per = "node"
        label = bool(get(options, f"output.{source}.label", False))
        found[stream] = Target(path, label, buffer == "line", append, per)
    return found


class Output:
    """The output of one job on one rank.

    Raises ShellError for bad options, and from `open` if a file cannot be opened.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        given = job.plan.targets
        self.targets = given.streams
        self._limit_text = given.limit_text
        self._limits = {"stdout": Limit(given.limit), "stderr": Limit(given.limit)} if job.leader else {}
        self._files: dict[str, OutputFile] = {}
        self._of_task: dict[tuple[int, str], OutputFile] = {}
        for warning in given.warnings:
            job.log(4, warning)

    def open(self, indexes: Sequence[int]) -> None:
        """Opens the files of this rank. `indexes`: local ids of its tasks."""
        if not self.job.plan.targets.to_files:
            return
        for stream, target in self.targets.items():
            if target.path is None or (target.per == "job" and not self.job.leader):
                continue
            if target.per == "task":
                for index in indexes:
                    path = self.job.expand(target.path, index)
                    self._of_task[index, stream] = self._open(path, target.append)
            else:
                file = self._open(self.job.expand(target.path), target.append)
                for index in indexes:
                    self._of_task[index, stream] = file

    def _open(self, path: str, append: bool) -> OutputFile:
        job = self.job
        full = os.path.join(job.cwd, path)
        file = self._files.get(full)
        if file is None:
            try:
                file = OutputFile(job.server.reactor, full, append, job.drained, self._failed)
            except OSError as exc:
                raise ShellError(f"open: {path}: {exc.strerror}", "output") from None
            self._files[full] = file
            if not file.regular:
                job.slow = (*job.slow, file)
        return file

    def redirects(self) -> list[str]:
        """The contexts of the events that say which streams go to files."""
        ranks = range(self.job.layout.ntasks)
        return [
            events.redirect_context(stream, ranks, self.job.expand(target.path))
            for stream, target in self.targets.items()
            if target.path is not None
        ]

    def buffer(self, stream: str) -> Lines | Characters:
        """What a task's stream is to be put through."""
        return Lines() if self.targets[stream].lines else Characters()

    def data(self, index: int, rank: int, stream: str, data: bytes) -> None:
        """A task of this rank has written."""
        target = self.targets[stream]
        if target.path is not None:
            file = self._of_task.get((index, stream))
            if file is not None:
                self._put(file, labeled(data, b"%d: " % rank) if target.label else data)
                return
        job = self.job
        if job.remote is not None:
            job.remote.write("data", events.data_context(stream, str(rank), data))
        else:
            self.collect(stream, str(rank), data)

    def collect(self, stream: str, rank: str, data: bytes) -> None:
        """At the leader: output of any task that no other shell has written to a file."""
        target = self.targets[stream]
        if target.path is not None:
            file = self._open(self.job.expand(target.path), target.append)
            self._put(file, labeled(data, rank.encode() + b": ") if target.label else data)
            return
        limit = self._limits[stream]
        room = limit.limit - limit.total
        if not limit.admits(len(data)):
            # The lines that fit still go.
            data = data[: data.rfind(b"\n", 0, room) + 1] if room > 0 else b""
            if data:
                self.job.output_log.data(stream, rank, data)
            if not limit.warned:
                limit.warned = True
                self.job.log(4, f"{stream} will be truncated, {self._limit_text} limit exceeded")
            return
        self.job.output_log.data(stream, rank, data)

    def _put(self, file: OutputFile, data: bytes) -> None:
        try:
            file.write(data)
        except OSError as exc:
            file.abandon()
            self._failed(exc)

    def _failed(self, error: OSError) -> None:
        self.job.fail(ShellError(f"error writing to an output file: {error.strerror}", "output"))

    def eof(self, rank: int, stream: str) -> None:
        """A task of this rank has closed a stream."""
        if self.targets[stream].path is not None:
            return
        context = events.eof_context(stream, str(rank))
        if self.job.remote is not None:
            self.job.remote.write("data", context)
        else:
            self.job.output_log.add("data", context)

    def log(self, rank: int, level: int, message: str) -> bool:
        """A message of a shell, if it goes to a file. At the leader."""
        target = self.targets["stderr"]
        if target.path is None or target.per == "task":
            return False
        line = f"flux-shell[{rank}]: {_LEVELS.get(level, '')}{message}\n"
        try:
            file = self._open(self.job.expand(target.path), target.append)
            if file.abandoned:
                return False  # it is this message that tells why, perhaps: the KVS takes it
            file.write(line.encode())
        except (ShellError, OSError):
            return False
        return True

    def summary(self) -> None:
        """At the leader, at the end: how much was lost to the limit."""
        for stream, limit in self._limits.items():
            if limit.truncated:
                self.job.log(4, f"{stream}: {limit.truncated} of {limit.total} bytes truncated")

    def close(self) -> None:
        """Closes the files."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        self._of_task.clear()
