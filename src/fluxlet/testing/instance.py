"""A real instance for tests: a broker in a process of its own, whose life is part of the test's.

Rules:
- The instance ends with the process that started it, however that ends: its initial program holds one end of a
  socket, we hold the other (`lifeline.py`). A forked child of ours is a user of the instance, not its owner.
- It knows nothing of an instance, job or launcher around the test, and signals from the test's terminal
  do not reach it.
- What goes wrong is an InstanceError that shows what the broker has written.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from flux.aio import AsyncFlux
    from flux.core.handle import Flux

#: Of whatever is around the test: an instance, a job, a launcher of parallel programs.
_FOREIGN = ("FLUX_", "PMI_", "PMIX_", "SLURM_", "PALS_")
_LIFELINE = str(Path(__file__).with_name("lifeline.py"))


class InstanceError(RuntimeError):
    """The instance does not start, or has not ended as it should; the text says why, with the broker's own words."""


class Instance:
    """A Flux instance, from `start` to `stop`, or as a context manager.

    Args:
        size: the number of brokers: that many processes on this host.
        config: the instance's configuration: a dict, or the path of a TOML or JSON file or of a directory of
            TOML files. None: none, whatever FLUX_CONF_DIR says.
        attributes: broker attributes to set (spec 03, 9.2), e.g. ``{"log-stderr-level": "7"}``.
        env: changes to the environment that the broker and its programs get: None removes a variable.
            FLUX_* variables and those of launchers (PMI, Slurm) are removed before.
        timeout: for how long to wait, in seconds, until the instance is up, and until it has ended.

    Raises ValueError for a `size` or attribute that cannot be, TypeError for a `config` that is neither.
    """

    def __init__(
        self,
        size: int = 1,
        config: Mapping[str, Any] | str | os.PathLike[str] | None = None,
        attributes: Mapping[str, str] | None = None,
        env: Mapping[str, str | None] | None = None,
        *,
        timeout: float = 60.0,
    ) -> None:
        if size < 1:
            raise ValueError(f"size={size}: an instance has at least one broker")
        if size > 1:
            for name, value in (attributes or {}).items():
                if "," in value:
                    raise ValueError(f"{name}={value}: with several brokers, attributes cannot have commas")
        self.size = size
        self.timeout = timeout
        self._words = _options(config, attributes or {})
        own = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        self._broker_environ = _changed(own, env)
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: socket.socket | None = None
        self._written: IO[bytes] | None = None
        self._last_words = ""
        self._environ: dict[str, str] = {}
        self._rundir = ""

    # From start to stop.

    def start(self) -> Self:
        """Starts the instance and returns it once it is in state "run". It may be started again after its end.

        Raises InstanceError if it does not come up, RuntimeError if it is running.
        """
        if self._lifeline is not None:
            raise RuntimeError("the instance is running already")
        self._environ = {}
        # Not by `flux start` if there is one broker: it is the same, but attributes are split at commas.
        command = ["broker"]
        if self.size > 1:
            # A rank that a test kills does not end the others.
            command = ["start", f"--test-size={self.size}", "--test-exit-mode=leader"]
        fluxlet = [sys.executable, "-P", "-m", "fluxlet", *command, *self._words]
        words = [*fluxlet, sys.executable, "-I", "-S", _LIFELINE]
        with ExitStack() as undo:
            ours, theirs = socket.socketpair()
            undo.enter_context(ours)
            # Not a pipe: somebody would have to read it for the broker to go on.
            written = undo.enter_context(tempfile.TemporaryFile())
            with theirs:
                self._process = subprocess.Popen(
                    words,
                    env=self._broker_environ,
                    stdin=theirs.fileno(),
                    stdout=written,
                    stderr=written,
                    # A session of its own: Ctrl-C and the end of a terminal are for the test to handle.
                    start_new_session=True,
                )
            undo.pop_all()
        self._lifeline, self._written = ours, written
        _running.add(self)
        try:
            self._environ = self._report()
            with self.handle() as handle:
                self._rundir = handle.attr_get("rundir")
        except BaseException:
            self.kill()
            raise
        return self

    def _report(self) -> dict[str, str]:
        """What the initial program says when it starts: its environment."""
        assert self._lifeline is not None
        assert self._process is not None
        self._lifeline.settimeout(self.timeout)
        report = b""
        while not report.endswith(b"\0\0"):
            try:
                data = self._lifeline.recv(65536)
            except TimeoutError:
                raise self._error(f"the instance has not started within {self.timeout:g} seconds") from None
            except ConnectionResetError:
                data = b""
            if not data:
                raise self._error(f"the instance does not start: {self._end()}")
            report += data
        entries = (os.fsdecode(entry).partition("=") for entry in report[:-2].split(b"\0"))
        return {name: value for name, _, value in entries}

    def _end(self) -> str:
        """Waits for the end, and describes it."""
        assert self._process is not None
        try:
            code = self._process.wait(self.timeout)
        except subprocess.TimeoutExpired:
            return "its initial program has ended, the broker has not"
        return _how(code)

    def stop(self) -> None:
        """Ends the instance in good order; has no effect if it does not run.

        Raises InstanceError if it has ended by itself, does not end in time (it is killed then), or fails at it.
        A test that ends the instance by other means says so by `wait` or `kill`.
        """
        if self._lifeline is None or self._process is None:
            return
        by_itself = self._process.poll() is not None
        self._lifeline.close()
        try:
            code = self._process.wait(self.timeout)
        except subprocess.TimeoutExpired:
            error = self._error(f"the instance has not ended within {self.timeout:g} seconds and was killed")
            self.kill()
            raise error from None
        except BaseException:
            self.kill()
            raise
        self._release()
        if by_itself:
            raise self._error(f"the instance has ended by itself: {_how(code)}")
        if code:
            raise self._error(f"the instance has failed at its end: {_how(code)}")

    def wait(self, timeout: float | None = None) -> int:
        """Waits until the instance, which somebody else has told to end, has done so; returns its exit code.

        Args:
            timeout: in seconds; None: that of the instance.

        Raises TimeoutError; the instance then still runs.
        """
        if self._process is None:
            raise InstanceError("the instance has not been started")
        patience = self.timeout if timeout is None else timeout
        try:
            code = self._process.wait(patience)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"the instance has not ended within {patience:g} seconds") from None
        self._release()
        return code

    def kill(self) -> None:
        """Ends the broker without warning (SIGKILL), as a crash would: its clients lose their connections."""
        if self._lifeline is not None and self._process is not None:
            self._process.kill()
            self._process.wait()
            self._release()

    def _release(self) -> None:
        """Lets go of what there is to hold while it runs."""
        self._last_words = self.output
        for held in (self._lifeline, self._written):
            if held is not None:
                held.close()
        self._lifeline = self._written = None
        _running.discard(self)

    def _disown(self) -> None:
        """In a forked child."""
        if self._lifeline is not None:
            self._lifeline.close()
            self._lifeline = None

    def _error(self, text: str) -> InstanceError:
        output = self.output.strip()
        return InstanceError(f"{text}\n{output}" if output else f"{text} (it has written nothing to stderr)")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except InstanceError as error:
            if exc is None:
                raise
            exc.add_note(str(error))  # what went wrong first is what matters; this may be why

    # What there is to know.

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or not self._environ:
            raise InstanceError("the instance has not been started")
        return self._process

    @property
    def uri(self) -> str:
        """What FLUX_URI is in the instance: for `flux.Flux` and `flux.aio.connect`."""
        self._started()
        return self._environ["FLUX_URI"]

    @property
    def rundir(self) -> str:
        """The path of the broker's run directory."""
        self._started()
        return self._rundir

    @property
    def pid(self) -> int:
        """The process of the broker; with several brokers, that of `flux start`, which they end with."""
        return self._started().pid

    def rank_uri(self, rank: int) -> str:
        """The URI of the broker of a rank. Raises ValueError if there is no such rank."""
        if not 0 <= rank < self.size:
            raise ValueError(f"rank={rank}: the instance has {self.size} brokers")
        return self.uri if rank == 0 else f"local://{self.rundir}/local-{rank}"

    def rank_pid(self, rank: int) -> int:
        """The process of the broker of a rank. Raises OSError if it cannot be asked."""
        with self.handle(rank) as handle:
            return int(handle.attr_get("broker.pid"))

    def kill_rank(self, rank: int, signum: int = signal.SIGKILL) -> None:
        """Sends a signal to the broker of a rank; by default it ends without warning, as a crash would have it."""
        os.kill(self.rank_pid(rank), signum)

    @property
    def environ(self) -> dict[str, str]:
        """The environment of programs in the instance, a copy: FLUX_URI, a PATH with `flux`, a PYTHONPATH."""
        self._started()
        return dict(self._environ)

    @property
    def output(self) -> str:
        """What the broker has written to its stdout and stderr: errors, and what `log-stderr-level` lets through."""
        if self._written is None:
            return self._last_words
        fd = self._written.fileno()
        # The place in the file is the broker's as well: it must stay.
        return os.pread(fd, os.fstat(fd).st_size, 0).decode("utf-8", "replace")

    def log(self) -> str:
        """The instance's log, the lines of `flux dmesg`. Raises OSError if the instance does not run."""
        from flux.cli.commands.dmesg import Printer
        from flux.constants import FLUX_RPC_STREAMING

        printer = Printer()
        lines: list[str] = []
        with self.handle() as handle:
            messages = handle.rpc("log.dmesg", {"follow": False}, flags=FLUX_RPC_STREAMING)
            try:
                while True:
                    lines.append(printer.line((messages.get_str() or "").rstrip("\r\n")) + "\n")
                    messages.reset()
            except OSError as exc:
                if exc.errno != errno.ENODATA:
                    raise
        return "".join(lines)

    # What to do with it.

    def handle(self, rank: int = 0) -> Flux:
        """A new connection, with the broker of a rank. Raises OSError if that does not run."""
        from flux.core.handle import Flux

        return Flux(self.rank_uri(rank))

    def aio(self) -> AsyncFlux:
        """A new connection for asyncio: ``async with instance.aio() as h``."""
        from flux.aio import connect

        return connect(self.uri)

    def run(
        self, *argv: str | os.PathLike[str], env: Mapping[str, str | None] | None = None, **kw: Any
    ) -> subprocess.CompletedProcess[Any]:
        """Runs a program in the instance to its end: `subprocess.run` with the instance's environment.

        Args:
            argv: the program and its arguments; programs are found by the instance's PATH.
            env: changes to the environment; None removes a variable.
            kw: for `subprocess.run`, which also says what is raised.
        """
        return subprocess.run(argv, env=_changed(self.environ, env), **kw)


def _options(config: Mapping[str, Any] | str | os.PathLike[str] | None, attributes: Mapping[str, str]) -> list[str]:
    """The options of `flux broker`."""
    if "broker.rc2_none" in attributes:
        raise ValueError("broker.rc2_none: an instance for tests needs its initial program, which ties it to the test")
    words = [f"--setattr={name}={value}" for name, value in attributes.items()]
    if isinstance(config, Mapping):
        words.append(f"--conf={json.dumps(dict(config))}")
    elif isinstance(config, str | os.PathLike):
        # The broker reads it again when told to (`flux config reload`), wherever we are by then.
        words.append(f"--config-path={os.path.abspath(config)}")
    elif config is not None:
        raise TypeError(f"config: expected a dict or a path, not {type(config).__name__}")
    return words


def _changed(environ: Mapping[str, str], changes: Mapping[str, str | None] | None) -> dict[str, str]:
    merged: dict[str, str | None] = {**environ, **(changes or {})}
    return {name: value for name, value in merged.items() if value is not None}


def _how(code: int) -> str:
    """How a process has ended."""
    return f"exit code {code}" if code >= 0 else f"signal {-code} ({signal.strsignal(-code)})"


# Forked children.

_running: weakref.WeakSet[Instance] = weakref.WeakSet()


def _forked() -> None:
    """A child that outlives us must not keep our instances alive, nor end them when it is done."""
    for instance in list(_running):
        instance._disown()
    _running.clear()


os.register_at_fork(after_in_child=_forked)
