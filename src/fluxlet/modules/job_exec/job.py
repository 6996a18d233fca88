"""What job-exec knows of a job."""

from __future__ import annotations

from json.encoder import encode_basestring as quoted
from time import time
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from flux.core import fluid
from flux.idset import IDset
from fluxlet.modules.job_exec.machine import State
from fluxlet.shell.allocation import Node, R, nodes
from fluxlet.shell.events import entry

if TYPE_CHECKING:
    from flux.message import Message
    from flux.reactor import Timer
    from fluxlet.modules.job_exec.kill import Killer


class ExecOptions(msgspec.Struct):
    """attributes.system.exec"""

    job_shell: str | None = None
    test: dict[str, Any] | None = None
    bulkexec: dict[str, Any] | None = None


class System(msgspec.Struct):
    """attributes.system, as far as it matters here."""

    duration: float = 0.0
    exec: ExecOptions = msgspec.field(default_factory=ExecOptions)


class Attributes(msgspec.Struct):
    """attributes"""

    system: System = msgspec.field(default_factory=System)


class Jobspec(msgspec.Struct):
    """A jobspec, as far as it matters here."""

    attributes: Attributes = msgspec.field(default_factory=Attributes)


class StartRequest(msgspec.Struct):
    """Payload of job-exec.start."""

    id: int
    userid: int
    jobspec: Jobspec
    R: msgspec.Raw
    reattach: bool = False


class Runner(Protocol):
    """Who runs a job."""

    def start(self, job: ExecJob) -> None:
        """Starts its shells."""

    def signal(self, job: ExecJob, signum: int) -> None:
        """Signals its shells; what they do then is up to them."""

    def kill(self, job: ExecJob, signum: int) -> None:
        """Ends its shells by force."""

    def expires(self, job: ExecJob) -> None:
        """Its time limit has changed."""

    def forget(self, job: ExecJob) -> None:
        """It is over."""


_decode_R = msgspec.json.Decoder(R).decode


class ExecJob:
    """One job. Raises ValueError for an R that is none."""

    def __init__(self, message: Message | None, request: StartRequest, runner: Runner) -> None:
        self.message = message
        """What it was asked for with; None: by a call."""
        self.unsaid: list[tuple[str, dict[str, Any]]] | None = None
        """What there is to say to the next job manager; None: there is one."""
        self.id = request.id
        self.userid = request.userid
        self.R = request.R
        self.runner = runner
        self.system = request.jobspec.attributes.system
        execution = _decode_R(request.R).execution
        self.nodes: list[Node] = nodes(execution)
        self.expiration = execution.expiration
        self.starttime = execution.starttime
        self.reattach = request.reattach
        self.state = State.INIT
        self.namespace = f"job-{request.id}"
        self.created = time()
        self.started_at = 0.0
        self.active: set[int] = set(range(len(self.nodes)))
        """The ranks of its shells that have not ended."""
        self.critical: frozenset[int] | None = None
        """Those whose loss ends the job; None: all."""
        self.status = 0
        self.fatal = False
        self.kind = ""
        """The type of the fatal exception."""
        self.wait_status: int | None = None
        self.timer: Timer | None = None
        self.killer: Killer | None = None
        self.leader_exited = False
        self.barrier: Barrier | None = None
        self.exit_timer: Timer | None = None
        self.data: Any = None
        """The runner's."""
        # What is to be committed in its namespace, and what is on its way.
        self.exec_lines: list[str] = [entry(self.created, "init")]
        self.input_text = ""
        self.output_text = ""
        self.committing = False
        self.namespace_made = False
        self.creating = False
        self.linked = False
        self.committed = False
        self.closing = False

    @property
    def f58(self) -> str:
        """Its id for people."""
        return fluid.f58(self.id)

    @property
    def key(self) -> str:
        """Its directory in the KVS."""
        return fluid.kvs(self.id)

    @property
    def service(self) -> str:
        """The name of its shells' service."""
        return f"{self.userid}-shell-{fluid.f58plain(self.id)}"

    def is_critical(self, shell: int) -> bool:
        """True if the job cannot go on without this shell."""
        return self.critical is None or shell in self.critical

    def log(self, name: str, context: str = "") -> None:
        """Adds to exec.eventlog."""
        self.exec_lines.append(entry(time(), name, context))

    def log_output(self, component: str, stream: str, rank: str, data: str) -> None:
        """Adds what a shell has written itself."""
        texts = f'"component":"{component}","stream":"{stream}","rank":"{rank}","data":{quoted(data)}'
        self.log("log", "{" + texts + "}")

    def where(self, shells: set[int]) -> str:
        """Shells for people: ``test[0-1] (ranks 0-1)``."""
        from flux.hostlist import Hostlist

        chosen = [self.nodes[shell] for shell in sorted(shells)]
        names = Hostlist([node.host for node in chosen]).uniq().encode()
        word = "rank" if len(chosen) == 1 else "ranks"
        return f"{names} ({word} {IDset(sorted(shells))})"

    def ranks(self, shells: set[int]) -> str:
        """The broker ranks of shells, as an idset."""
        return str(IDset(sorted(self.nodes[shell].rank for shell in shells)))


class Barrier:
    """Shells that wait for each other. Pure."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.entered: set[int] = set()
        self.passed = 0
        """How often it has been complete."""
        self.requests: list[Message] = []
        self.timer: Timer | None = None

    def enter(self, shell: int) -> bool:
        """True if all have entered; then it begins anew."""
        self.entered.add(shell)
        if len(self.entered) < self.size:
            return False
        self.entered.clear()
        self.passed += 1
        return True

    @property
    def missing(self) -> set[int]:
        """Who has not entered."""
        return set(range(self.size)) - self.entered
