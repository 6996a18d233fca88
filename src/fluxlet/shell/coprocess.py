"""The option coprocess: programs that run beside a job's tasks, on each of its ranks (spec 07, 5.13).

Its value is an object: ``{NAME: {"command": [...], "output"?: FILE, "ranks"?: IDSET}}``. They are started with the
tasks; what they write goes to a file (``coproc-NAME-{{id}}.log``). When the tasks have ended they get SIGTERM, and
SIGKILL after `coprocess-kill-timeout`, as all does that runs beside tasks (`fluxlet.shell.subprocesses`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from flux.idset import IDset
from flux.subprocess import command_create
from fluxlet.shell.events import payload
from fluxlet.shell.options import ShellError

if TYPE_CHECKING:
    from flux.core.future_state import RpcState
    from fluxlet.shell.job import Job

#: Appends what a program writes to a file: they may share it.
_REDIRECT = 'exec "$@" </dev/null >>"$0" 2>&1'


def start_coprocesses(job: Job) -> None:
    """Starts those of a job that belong on this rank. Raises ShellError."""
    wanted = job.options["coprocess"]
    if not isinstance(wanted, dict):
        raise ShellError("coprocess: an object is expected: names, and what is to run")
    for name, entry in wanted.items():
        if _is_here(job, name, entry):
            _start(job, name, entry)


def _is_here(job: Job, name: str, entry: Any) -> bool:
    if isinstance(entry, dict):
        command, ranks = entry.get("command"), entry.get("ranks")
        if isinstance(command, list) and command and all(isinstance(word, str) for word in command):
            try:
                return ranks is None or job.rank in IDset(ranks)
            except (ValueError, TypeError):
                pass
    raise ShellError(f"coprocess: invalid entry for {name}")


def _start(job: Job, name: str, entry: dict[str, Any]) -> None:
    output = job.expand(str(entry.get("output") or f"coproc-{name}-{{{{id}}}}.log"))
    words = ["/bin/sh", "-c", _REDIRECT, os.path.join(job.cwd, output), *entry["command"]]
    command = command_create(words, label=f"coprocess-{name}", cwd=job.cwd, env={})

    def answered(state: RpcState) -> None:
        if state.errnum and not job.ended:
            job.log(3, f"{name}: {state.error_text()}", "coprocess")

    topic = f"{job.service}.rexec.exec".encode()
    job.server.connection.ask(topic, payload({"cmd": command, "flags": 0}), answered, job.server.rank)
