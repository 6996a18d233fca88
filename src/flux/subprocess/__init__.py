"""Processes on any rank of an instance, run by the service `rexec` (spec 02, section 17; spec 04, 5.8; RFC 42).

    h = flux.Flux()
    started = flux.subprocess.rexec_bg(h, ["sh", "-c", "date; exit 3"], label="when", waitable=True, nodeid=2)
    print(started.get_pid(), "on rank", started.get_rank())
    done = flux.subprocess.wait(h, label="when", nodeid=2)
    print(os.waitstatus_to_exitcode(done.get_status()), done.stdout)

These are processes in the background: they outlive their starter. Those in the foreground, whose input and output are
the caller's and which end with it, are `RemoteProcess`; under asyncio both are at
`AsyncFlux.subprocess` (`flux.subprocess.asynchronous`). The command for shells is `flux exec`.
"""

from __future__ import annotations

import os
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flux.constants import FLUX_NODEID_ANY
from flux.core.remote_process import RemoteProcess
from flux.rpc import RPC

if TYPE_CHECKING:
    import builtins

    from flux.core.handle import Flux

__all__ = [
    "SUBPROCESS_REXEC_WAITABLE",
    "RemoteProcess",
    "Subprocess",
    "SubprocessBackgroundRexecRPC",
    "SubprocessListRPC",
    "SubprocessWaitRPC",
    "command_create",
    "io_data",
    "kill",
    "list",
    "rexec_bg",
    "wait",
]

#: Flag of rexec.exec: the process stays as a zombie until somebody has waited for it.
SUBPROCESS_REXEC_WAITABLE = 16

#: Requests can be signed, as instances of another user demand: with flux-security, which is not part of this.
_have_security = False


@dataclass
class Subprocess:
    """A process, as `list` gives it.

    Args:
        pid: its process id.
        rank: of the broker that runs it.
        state: "R" running, "Z" ended and not waited for.
        label: by which it may be called; "-" if it has none.
        cmd: its command.
    """

    pid: int
    rank: int
    state: str
    label: str
    cmd: str

    def __post_init__(self) -> None:
        self.label = self.label or "-"


class SubprocessBackgroundRexecRPC(RPC):
    """The future of a process's start. `get` gives ``{"type": "started", "pid": i}``."""

    def __init__(self, handle: Flux, *args: Any, **kwargs: Any) -> None:
        super().__init__(handle, *args, **kwargs)
        self._nodeid = kwargs.get("nodeid", args[2] if len(args) > 2 else FLUX_NODEID_ANY)

    def get_pid(self) -> int:
        """Waits; the process id. Raises OSError if the process could not be started."""
        return int(self.get()["pid"])

    def get_rank(self) -> int:
        """The rank that runs it."""
        if self._nodeid != FLUX_NODEID_ANY:
            return int(self._nodeid)
        return int(self.flux_handle.get_rank())  # type: ignore[union-attr]  # made with a Flux


class SubprocessListRPC(RPC):
    """The future of a list of processes."""

    def get_processes(self) -> builtins.list[Subprocess]:
        """Waits; the processes. Raises OSError."""
        answer = self.get()
        return [
            Subprocess(entry["pid"], answer["rank"], entry["state"], entry["label"], entry["cmd"])
            for entry in answer["procs"]
        ]


class SubprocessWaitRPC(RPC):
    """The future of a process's end."""

    def get_status(self) -> int:
        """Waits; the status of wait(2), for `os.waitstatus_to_exitcode`. Raises OSError."""
        return int(self.get()["status"])

    def get_output(self) -> builtins.list[dict[str, Any]]:
        """Waits; the last pieces of its output, as IO objects (RFC 24). Raises OSError."""
        output: builtins.list[dict[str, Any]] = self.get().get("output", [])
        return output

    def _stream(self, name: str) -> bytes:
        return b"".join(io_data(io) for io in self.get_output() if io["stream"] == name)

    @property
    def stdout(self) -> bytes:
        """Waits; the end of what it has written to stdout. Raises OSError."""
        return self._stream("stdout")

    @property
    def stderr(self) -> bytes:
        """Waits; the end of what it has written to stderr. Raises OSError."""
        return self._stream("stderr")


def io_data(io: Mapping[str, Any]) -> bytes:
    """The bytes that an IO object carries; empty for the end of a stream."""
    data = io.get("data", "")
    return b64decode(data) if io.get("encoding") == "base64" else data.encode("utf-8", "surrogateescape")


def command_create(
    command: Sequence[str],
    label: str | None = None,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    opts: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A command object of RFC 42.

    Args:
        command: its words.
        label: by which it may be called.
        cwd: its directory; None: the caller's.
        env: its environment; None: the caller's, a copy. An empty one stands for that of the broker.
        opts: options, such as ``{"stdout_LINE_BUFFER": "false"}``.
    """
    created: dict[str, Any] = {"cmdline": command}
    if label is not None:
        created["label"] = label
    created["cwd"] = os.getcwd() if cwd is None else cwd
    created["env"] = dict(os.environ) if env is None else env
    created["opts"] = {} if opts is None else opts
    created["channels"] = []
    return created


def _signed(handle: Flux, topic: str, payload: dict[str, Any], sign: bool | None) -> dict[str, Any]:
    """The payload, signed if that is wanted; None: if the instance is another user's. Raises OSError."""
    if sign is None:
        sign = handle.attr_get("security.owner") != str(os.getuid())
    if sign:
        raise OSError("flux-security is not available")
    return payload


def _target(pid: int | None, label: str | None) -> dict[str, Any]:
    """The part of a payload that says which process. Raises ValueError unless one of the two is given."""
    if pid is None and label is None:
        raise ValueError("at least one of pid or label must be specified")
    if pid is not None and label is not None:
        raise ValueError("only one of pid or label may be specified")
    return {"pid": pid} if label is None else {"pid": -1, "label": label}


def rexec_bg(
    handle: Flux,
    command: Sequence[str],
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    label: str | None = None,
    waitable: bool = False,
    service: str = "rexec",
    nodeid: int = FLUX_NODEID_ANY,
    sign: bool | None = None,
) -> SubprocessBackgroundRexecRPC:
    """Starts a process in the background: it survives its starter, and its output is logged.

    Args:
        handle: a connection to the instance.
        command: its words.
        cwd, env, label: as for `command_create`.
        waitable: it stays as a zombie until somebody calls `wait`.
        service: what runs it: `rexec`, or the one of a job's shell.
        nodeid: the rank; any: the caller's.
        sign: sign the request; None: if the instance belongs to another user.

    Its `get` raises OSError: ENOENT, EACCES... if it cannot be started, EINVAL for a label that is in use.
    """
    flags = SUBPROCESS_REXEC_WAITABLE if waitable else 0
    topic = f"{service}.exec"
    payload = {"cmd": command_create(command, label, cwd, env), "flags": flags}
    return SubprocessBackgroundRexecRPC(handle, topic, _signed(handle, topic, payload, sign), nodeid=int(nodeid))


def kill(
    handle: Flux,
    signum: int = 15,
    pid: int | None = None,
    label: str | None = None,
    service: str = "rexec",
    nodeid: int = FLUX_NODEID_ANY,
    sign: bool | None = None,
) -> RPC:
    """Sends a signal to a process and its group. Arguments as above.

    Raises ValueError unless one of `pid` and `label` is given; its `get` raises OSError, ESRCH for no such process.
    """
    payload = {**_target(pid, label), "signum": signum}
    topic = f"{service}.kill"
    return RPC(handle, topic, _signed(handle, topic, payload, sign), int(nodeid))


def wait(
    handle: Flux,
    pid: int | None = None,
    label: str | None = None,
    service: str = "rexec",
    nodeid: int = FLUX_NODEID_ANY,
    sign: bool | None = None,
) -> SubprocessWaitRPC:
    """Waits for the end of a waitable process, which is forgotten then. Arguments as above.

    Raises ValueError unless one of `pid` and `label` is given; its methods raise OSError: ESRCH for no such process,
    EINVAL for one that is not waitable or waited for already, EBUSY for one that somebody is attached to.
    """
    payload = _target(pid, label)
    topic = f"{service}.wait"
    return SubprocessWaitRPC(handle, topic, _signed(handle, topic, payload, sign), int(nodeid))


def list(
    handle: Flux,
    service: str = "rexec",
    nodeid: int = FLUX_NODEID_ANY,
    sign: bool | None = None,
) -> SubprocessListRPC:
    """Lists the processes of a rank, those of the broker itself, too. Arguments as above."""
    topic = f"{service}.list"
    return SubprocessListRPC(handle, topic, _signed(handle, topic, {}, sign), int(nodeid))
