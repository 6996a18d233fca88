"""A scheduler and an execution service for tests of the job manager: a client that plays both, in a thread.

Jobs get a core at once, as long as there are some; those that are to wait do so in order of priority. A command
decides what is played: `true` and `false` end by themselves, `exit N` with a code, `kill N` by a signal, `missing`
with an exception; whatever else runs until it is canceled, or `finish` says so.
"""

from __future__ import annotations

import threading
from typing import Any

import flux
from flux.constants import FLUX_MSGTYPE_EVENT, FLUX_MSGTYPE_REQUEST, FLUX_RPC_NORESPONSE
from flux.message import Message

_STATUS = {"true": 0, "false": 256}


def resources(core: int) -> dict[str, Any]:
    """R with one core of rank 0."""
    lite = [{"rank": "0", "children": {"core": str(core)}}]
    execution = {"R_lite": lite, "starttime": 0.0, "expiration": 0.0, "nodelist": ["node0"]}
    return {"version": 1, "execution": execution}


class Player:
    """See the module. A context: it plays until it is left.

    Args:
        uri: of the instance.
        cores: how many there are.
        exec: the name of the execution service; "": it plays the scheduler only.
    """

    def __init__(self, uri: str, cores: int = 4, exec: str = "play") -> None:
        self.uri = uri
        self.exec = exec
        self.free = list(range(cores))
        self.waiting: dict[int, tuple[Message, int]] = {}
        self.held: dict[int, int] = {}
        self.running: dict[int, Message] = {}
        self.started: list[int] = []
        self.failure: BaseException | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._main, name="player")

    def __enter__(self) -> Player:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *args: object) -> None:
        try:
            with flux.Flux(self.uri) as handle:
                handle.rpc("sched.quit", {}, flags=FLUX_RPC_NORESPONSE)
        except FileNotFoundError:
            pass  # the broker has gone, which ends us too
        self._thread.join(60.0)
        if self.failure is not None:
            raise self.failure

    def finish(self, jobid: int, status: int = 0) -> None:
        """A job that runs is to end."""
        with flux.Flux(self.uri) as handle:
            handle.rpc("sched.finish", {"id": jobid, "status": status}).get()

    def _main(self) -> None:
        try:
            with flux.Flux(self.uri) as handle:
                self.handle = handle
                handle.service_register("sched").get()
                handle.msg_watcher_create(self._sched, FLUX_MSGTYPE_REQUEST, "sched.*").start()
                if self.exec:
                    handle.service_register(self.exec).get()
                    handle.msg_watcher_create(self._start, FLUX_MSGTYPE_REQUEST, f"{self.exec}.start").start()
                    handle.event_subscribe("job-exception")
                    handle.msg_watcher_create(self._exception, FLUX_MSGTYPE_EVENT, "job-exception").start()
                    handle.rpc("job-manager.exec-hello", {"service": self.exec}).get()
                handle.rpc("job-manager.sched-ready", {"mode": "unlimited"}).get()
                self._ready.set()
                handle.reactor_run()
        except BaseException as exc:  # noqa: BLE001  # raised in the test's thread
            self.failure = exc
        finally:
            self._ready.set()

    def _sched(self, handle: flux.Flux, watcher: Any, msg: Message, args: Any) -> None:
        method = msg.topic.partition(".")[2]
        payload = msg.payload if msg.raw else {}
        if method == "quit":
            handle.reactor_stop()
        elif method == "alloc":
            self.waiting[payload["id"]] = (msg, payload["priority"])
        elif method == "free":
            self.free.append(self.held.pop(payload["id"]))
            self.free.sort()
        elif method == "cancel":
            waiting = self.waiting.pop(payload["id"], None)
            if waiting is not None:
                handle.respond(waiting[0], {"id": payload["id"], "type": 3})
        elif method == "finish":
            self._end(payload["id"], payload["status"])
            handle.respond(msg)
        elif method == "expiration":
            handle.respond(msg)
        self._allocate()

    def _allocate(self) -> None:
        while self.free and self.waiting:
            jobid = min(self.waiting, key=lambda each: (-self.waiting[each][1], each))
            msg, _ = self.waiting.pop(jobid)
            core = self.held[jobid] = self.free.pop(0)
            summary = {"sched": {"resource_summary": f"rank0/core{core}"}}
            self.handle.respond(msg, {"id": jobid, "type": 0, "R": resources(core), "annotations": summary})

    def _tell(self, jobid: int, kind: str, **data: Any) -> None:
        self.handle.respond(self.running[jobid], {"id": jobid, "type": kind, "data": data})

    def _start(self, handle: flux.Flux, watcher: Any, msg: Message, args: Any) -> None:
        payload = msg.payload
        jobid, command = payload["id"], payload["jobspec"]["tasks"][0]["command"]
        self.running[jobid] = msg
        self.started.append(jobid)
        if command[0] == "missing":
            self._tell(jobid, "exception", severity=0, type="exec", note="missing: No such file or directory")
            self._end(jobid, 127 << 8)
            return
        self._tell(jobid, "start")
        if command[0] in _STATUS:
            self._end(jobid, _STATUS[command[0]])
        elif command[0] == "exit":
            self._end(jobid, int(command[1]) << 8)
        elif command[0] == "kill":
            self._end(jobid, int(command[1]))

    def _end(self, jobid: int, status: int) -> None:
        if jobid in self.running:
            self._tell(jobid, "finish", status=status)
            self._tell(jobid, "release", ranks="all", final=True)
            del self.running[jobid]

    def _exception(self, handle: flux.Flux, watcher: Any, msg: Message, args: Any) -> None:
        payload = msg.payload
        if payload["severity"] == 0:
            self._end(payload["id"], 36608)
