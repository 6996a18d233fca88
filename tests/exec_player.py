"""A client that plays job-manager to a real job-exec: jobs are started one by one, without scheduler and ingest.

It answers what shells ask job-manager for as that would: `raise` publishes the event job-exception, `kill` the event
shell-ID.kill. What job-exec answers is in `responses`, by job.
"""

from __future__ import annotations

import base64
import json
import os
import time
from dataclasses import dataclass, field
from typing import Any

import flux
from flux.constants import FLUX_MSGTYPE_REQUEST
from flux.core import fluid
from flux.message import Message

#: Modules that the player stands for, or that would be in its way.
DISABLED = "job-manager,job-ingest,job-list,sched-simple,feasibility"
ENV = {"SHELL": "/bin/sh", "FLUX_MODPROBE_DISABLE": DISABLED}

_PATIENCE = 60.0


@dataclass
class Played:
    """A job that was started."""

    id: int
    responses: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    raised_after: list[list[str]] = field(default_factory=list)
    """What had been answered when its shells raised exceptions, for each of these."""

    @property
    def kinds(self) -> list[str]:
        """The types of job-exec's answers, in order."""
        return [kind for kind, _ in self.responses]

    @property
    def status(self) -> int:
        """The status of `finish`."""
        return next(data["status"] for kind, data in self.responses if kind == "finish")

    @property
    def released(self) -> bool:
        """Whether it is over."""
        return bool(self.responses) and self.responses[-1][0] == "release"


class JobPlayer:
    """See the module."""

    def __init__(self, uri: str) -> None:
        self.handle = flux.Flux(uri)
        self.handle.service_register("job-manager").get()
        self.jobs: dict[int, Played] = {}
        self.raised: list[dict[str, Any]] = []
        self.killed: list[dict[str, Any]] = []
        self._next = 0x1000000

    def __enter__(self) -> JobPlayer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.handle.__exit__(None, None, None)

    def start(
        self,
        command: list[str],
        options: dict[str, Any] | None = None,
        env: dict[str, str] | None = None,
        slots: int = 1,
        tasks: int = 0,
        cores: str = "0",
        ranks: str = "0",
        hosts: str = "test0",
        limit: float = 0.0,
        cwd: str = "/tmp",
        system: dict[str, Any] | None = None,
        reattach: bool = False,
        signed: str | None = None,
        with_J: bool = True,
        userid: int | None = None,
    ) -> Played:
        """Has job-exec start a job of our own.

        Args:
            limit: seconds until its allocation expires; 0 for never.
            system: more attributes.
            signed: J, if it is not to be the job's.
            with_J: whether there is to be a J.
            userid: of its owner; None: our own.
        """
        self._next += 1 << 24
        job = self.jobs[self._next] = Played(self._next)
        jobspec: dict[str, Any] = {
            "version": 1,
            "resources": [{"type": "slot", "count": slots, "label": "task", "with": [{"type": "core", "count": 1}]}],
            "tasks": [
                {"command": command, "slot": "task", "count": {"total": tasks} if tasks else {"per_slot": 1}},
            ],
            "attributes": {
                "system": {
                    "duration": limit,
                    "cwd": cwd,
                    "environment": {"PATH": os.environ["PATH"], **(env or {})},
                    "shell": {"options": options or {}},
                    **(system or {}),
                }
            },
        }
        if signed is None:
            signed = f"e30=.{base64.b64encode(json.dumps(jobspec).encode()).decode()}.none"
        value = {"ver": 1, "type": "val", "data": base64.b64encode(signed.encode()).decode()}
        if with_J:
            self.commit([{"key": f"{fluid.kvs(job.id)}.J", "flags": 0, "dirent": value}])
        del jobspec["attributes"]["system"]["environment"]
        now = time.time()
        execution = {
            "R_lite": [{"rank": ranks, "children": {"core": cores}}],
            "starttime": now,
            "expiration": now + limit if limit else 0.0,
            "nodelist": [hosts],
            "nslots": slots,
        }
        self._send(
            "job-exec.start",
            {
                "id": job.id,
                "userid": os.getuid() if userid is None else userid,
                "jobspec": jobspec,
                "R": {"version": 1, "execution": execution},
                "reattach": reattach,
            },
        )
        return job

    def commit(self, ops: list[dict[str, Any]], namespace: str = "primary") -> None:
        """Changes the KVS."""
        self.handle.rpc("kvs.commit", {"namespace": namespace, "flags": 0, "ops": ops}).get()

    def run(self, command: list[str], options: dict[str, Any] | None = None, **more: Any) -> Played:
        """Starts a job and waits until it is released."""
        job = self.start(command, options, **more)
        self.until(lambda: job.released)
        return job

    def wait(self, job: Played) -> Played:
        """Waits until a job is released."""
        self.until(lambda: job.released)
        return job

    def started(self, job: Played) -> None:
        """Waits until a job runs."""
        self.until(lambda: "start" in job.kinds)

    def until(self, condition: Any) -> None:
        """Plays on until the condition holds."""
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            assert time.monotonic() < deadline, [(job.id, job.responses) for job in self.jobs.values()]
            self.step(0.05)

    def step(self, timeout: float) -> None:
        """Looks at what comes within a time."""
        core = self.handle.core
        message = core.link.queue.popleft() if core.link.queue else core.link.connector.recv(timeout)
        if message is None:
            return
        if message.type == FLUX_MSGTYPE_REQUEST:
            self._asked(message)
        elif message.topic == "job-exec.start":
            value = message.payload
            self.jobs[value["id"]].responses.append((value["type"], value["data"]))
        else:
            core.link.deliver(message)

    def _asked(self, message: Message) -> None:
        value = message.payload if message.payload_str else None
        if message.topic == "job-manager.raise":
            self.raised.append(value)
            self.jobs[value["id"]].raised_after.append(self.jobs[value["id"]].kinds)
            self.exception(value["id"], value["type"], value["severity"], value.get("wait_status"))
        elif message.topic == "job-manager.kill":
            self.killed.append(value)
            self.kill(value["id"], value["signum"])
        self.handle.send(message.response())

    def exception(self, jobid: int, kind: str = "cancel", severity: int = 0, wait_status: int | None = None) -> None:
        """Publishes that somebody has raised an exception."""
        event: dict[str, Any] = {"id": jobid, "type": kind, "severity": severity}
        if wait_status is not None:
            event["wait_status"] = wait_status
        self.handle.send(self.handle.event_create("job-exception", event))

    def kill(self, jobid: int, signum: int) -> None:
        """Has the shells of a job signal its tasks."""
        self.handle.send(self.handle.event_create(f"shell-{jobid}.kill", {"signum": signum}))

    def _send(self, topic: str, payload: Any) -> None:
        message = Message(FLUX_MSGTYPE_REQUEST)
        message.topic = topic
        message.payload = payload
        self.handle.send(message)

    def service(self, job: Played) -> str:
        """The name of the service of a job's shells."""
        return f"{os.getuid()}-shell-{fluid.f58plain(job.id)}"

    # What is left.

    def guest(self, job: Played, key: str) -> str:
        """The text at a key of a job's guest directory."""
        return self.lookup(f"{fluid.kvs(job.id)}.guest.{key}")

    def lookup(self, key: str) -> str:
        """The text at a key."""
        answer = self.handle.rpc("kvs.lookup", {"key": key, "namespace": "primary", "flags": 0}).get()
        return base64.b64decode(answer["val"]["data"]).decode()

    def events(self, job: Played, key: str = "exec.eventlog") -> list[dict[str, Any]]:
        """The entries of an eventlog of a job; none if it is not there yet."""
        try:
            text = self.guest(job, key)
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.splitlines()]

    def output(self, job: Played, stream: str = "stdout", rank: int | None = None) -> str:
        """What its tasks have written, of one task or all."""
        text = ""
        for event in self.events(job, "output"):
            context = event.get("context", {})
            if event["name"] == "data" and context["stream"] == stream and rank in (None, int(context["rank"])):
                data = context.get("data", "")
                text += base64.b64decode(data).decode("latin-1") if "encoding" in context else data
        return text

    def logged(self, job: Played) -> list[str]:
        """What its shells have said."""
        return [event["context"]["message"] for event in self.events(job, "output") if event["name"] == "log"]
