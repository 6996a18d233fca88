"""PMI-1, the server's side (RFC 13; spec 07, 5.11): how tasks of a parallel program find each other.

Pure: lines of a task in, lines for tasks out. `Server` is that of one shell: the tasks of one job on one rank. What has
to go to the other ranks is `pending` when all tasks are in the barrier; `exchanged` ends the barrier.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

KVSNAME_MAX = 64
KEYLEN_MAX = 64
VALLEN_MAX = 1024

_INVALID_KEY, _INVALID_KEY_LENGTH, _INVALID_VALUE_LENGTH, _INVALID_NAME_LENGTH = 4, 5, 7, 8
#: Keys of which each node has its own.
LOCAL = "local::"
#: No line of a client is longer.
LONGEST_LINE = 1 << 16


class ProtocolError(Exception):
    """A client does not speak PMI-1."""


class AbortError(Exception):
    """A client asks for the end of the job; the text is its reason."""


def fields(line: str) -> dict[str, str]:
    """The words of a line, ``name=value``; what follows `value=` and `error_msg=` runs to the end of the line."""
    found: dict[str, str] = {}
    rest = line.strip("\n")
    while rest := rest.lstrip(" "):
        name, equals, rest = rest.partition("=")
        if not equals:
            break
        if name in ("value", "error_msg"):
            found[name] = rest
            break
        found[name], _, rest = rest.partition(" ")
    return found


@dataclass
class Server:
    """The PMI of one job on one rank.

    Args:
        kvsname: the name of the key-value space: the job's id.
        size: the number of tasks of the job.
        local: the number of tasks on this rank.
        preset: keys that are there from the start.
        warn: called with what the user should know.
    """

    kvsname: str
    size: int
    local: int
    preset: dict[str, str] = field(default_factory=dict)
    warn: Callable[[str], None] = lambda text: None

    def __post_init__(self) -> None:
        self._known = dict(self.preset)
        self.pending: dict[str, str] = {}
        """What this rank's tasks have put since the last barrier."""
        self._waiting: list[int] = []
        self._spawning: set[int] = set()
        self._methods: dict[str, Callable[[int, dict[str, str]], str]] = {
            "init": self._init,
            "get_maxes": lambda task, args: (
                f"cmd=maxes rc=0 kvsname_max={KVSNAME_MAX} keylen_max={KEYLEN_MAX} vallen_max={VALLEN_MAX}\n"
            ),
            "get_universe_size": lambda task, args: f"cmd=universe_size rc=0 size={self.size}\n",
            "get_appnum": lambda task, args: "cmd=appnum rc=0 appnum=0\n",
            "get_my_kvsname": lambda task, args: f"cmd=my_kvsname rc=0 kvsname={self.kvsname}\n",
            "put": self._put,
            "get": self._get,
            "barrier_in": self._barrier,
            "publish_name": lambda task, args: "cmd=publish_result rc=-1 msg=command not implemented\n",
            "lookup_name": lambda task, args: "cmd=lookup_result rc=-1 msg=command not implemented\n",
            "unpublish_name": lambda task, args: "cmd=unpublish_result rc=-1 msg=command not implemented\n",
            "abort": self._abort,
            "finalize": lambda task, args: "cmd=finalize_ack rc=0\n",
        }

    @property
    def complete(self) -> bool:
        """True if all tasks of this rank are in the barrier: the exchange with other ranks is due."""
        return len(self._waiting) == self.local

    def line(self, task: int, line: str) -> str:
        """The answer to a line of the task with this local id; empty for none, or not yet.

        Raises ProtocolError, AbortError.
        """
        if task in self._spawning:
            if line.strip() == "endcmd":
                self._spawning.discard(task)
                return "cmd=spawn_result rc=-1\n"
            return ""
        args = fields(line)
        if args.get("mcmd") == "spawn":
            self._spawning.add(task)
            return ""
        method = self._methods.get(args.get("cmd", ""))
        if method is None:
            raise ProtocolError("PMI-1 wire protocol error")
        try:
            return method(task, args)
        except KeyError:
            raise ProtocolError("PMI-1 wire protocol error") from None

    def exchanged(self, items: dict[str, str]) -> list[int]:
        """The exchange is over: `items` are what all have put. Returns the tasks to be told `barrier_out`."""
        self._known.update(items)
        self.pending = {}
        released, self._waiting = self._waiting, []
        return released

    def _init(self, task: int, args: dict[str, str]) -> str:
        try:
            version, subversion = int(args["pmi_version"]), int(args["pmi_subversion"])
        except ValueError:
            raise ProtocolError("PMI-1 wire protocol error") from None
        if (version, subversion) < (1, 1):
            return "cmd=response_to_init rc=-1\n"
        if version > 1:
            self.warn("pmi-simple: is application unintentionally using slurm libpmi2.so?")
            return "cmd=response_to_init rc=-1\n"
        return "cmd=response_to_init rc=0 pmi_version=1 pmi_subversion=1\n"

    def _put(self, task: int, args: dict[str, str]) -> str:
        name, key, value = args["kvsname"], args["key"], args["value"]
        code = 0
        if _size(name) >= KVSNAME_MAX:
            code = _INVALID_NAME_LENGTH
        elif _size(key) >= KEYLEN_MAX:
            code = _INVALID_KEY_LENGTH
        elif _size(value) >= VALLEN_MAX:
            code = _INVALID_VALUE_LENGTH
        elif key.startswith(LOCAL):
            self._known[key] = value
        else:
            self.pending[key] = value
        return f"cmd=put_result rc={code}\n"

    def _get(self, task: int, args: dict[str, str]) -> str:
        name, key = args["kvsname"], args["key"]
        if _size(name) >= KVSNAME_MAX:
            return f"cmd=get_result rc={_INVALID_NAME_LENGTH}\n"
        if _size(key) >= KEYLEN_MAX:
            return f"cmd=get_result rc={_INVALID_KEY_LENGTH}\n"
        value = self._known.get(key) if name == self.kvsname else None
        if value is None:
            return f"cmd=get_result rc={_INVALID_KEY}\n"
        return f"cmd=get_result rc=0 value={value}\n"

    def _barrier(self, task: int, args: dict[str, str]) -> str:
        if task in self._waiting:
            raise ProtocolError("PMI-1 wire protocol error")
        self._waiting.append(task)
        return ""

    def _abort(self, task: int, args: dict[str, str]) -> str:
        raise AbortError(args.get("error_msg") or "aborted")


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


class LineReader:
    """Lines out of what comes piece by piece."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, data: bytes) -> list[str]:
        """The lines that are complete now; one without end is taken for complete, and will not be understood."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            lines.append(self._rest)
            self._rest = b""
        return [line.decode("utf-8", "surrogateescape") for line in lines]


class Exchange:
    """The exchange of a barrier's keys along a tree of shells (spec 07, 5.11).

    Args:
        rank: of this shell.
        size: the number of shells.
        degree: children of a shell in the tree.
    """

    def __init__(self, rank: int, size: int, degree: int) -> None:
        self.rank = rank
        first = rank * degree + 1
        self.children = range(first, min(first + degree, size))
        self.parent = (rank - 1) // degree if rank else None
        self._items: dict[str, str] = {}
        self._heard: set[int] = set()
        self._own = False

    def own(self, items: dict[str, str]) -> bool:
        """This shell's own tasks are in the barrier. True if all of the subtree are."""
        self._own = True
        self._items.update(items)
        return self._ready

    def child(self, token: int, items: dict[str, str]) -> bool:
        """A child's subtree is in the barrier; `token` tells children apart. True if all of this subtree are."""
        self._heard.add(token)
        self._items.update(items)
        return self._ready

    @property
    def _ready(self) -> bool:
        return self._own and len(self._heard) == len(self.children)

    def take(self) -> dict[str, str]:
        """What the subtree has put; the next exchange begins."""
        items, self._items = self._items, {}
        self._heard.clear()
        self._own = False
        return items
