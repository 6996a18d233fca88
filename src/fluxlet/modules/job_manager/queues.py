"""The queues: which take jobs, and which let them run (spec 06, section 10). Pure.

Without configured queues there is the anonymous one, whose name is None; it takes jobs and lets them run at first.
Named ones take jobs but are stopped until somebody starts them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fluxlet.modules.job_manager.policy import Settings

OFFLINE = "Scheduler is offline"


class Queue(msgspec.Struct, eq=False):
    """A queue's state. `saved_start` is what a restart finds: see `nocheckpoint` of queue-start."""

    name: str | None
    enable: bool = True
    start: bool = True
    disable_reason: str | None = None
    stop_reason: str | None = None
    parent: str | None = None
    saved_start: bool = True
    saved_reason: str | None = None


class Queues:
    """All queues. Errors are ValueErrors with the text for the user."""

    def __init__(self) -> None:
        self.queues: dict[str | None, Queue] = {None: Queue(None)}

    @property
    def named(self) -> bool:
        """Whether there are named queues."""
        return None not in self.queues

    def configure(self, settings: Settings) -> None:
        """Follows the configuration: queues that stay keep their state."""
        old = self.queues
        if settings.queues is None:
            self.queues = {None: old.get(None) or Queue(None)}
            return
        self.queues = {}
        for name, config in settings.queues.items():
            queue = old.get(name) or Queue(name, start=False, saved_start=False)
            queue.parent = config.parent
            self.queues[name] = queue

    def find(self, name: str | None) -> Queue:
        """The queue of a name."""
        queue = self.queues.get(name)
        if queue is None:
            raise ValueError("a named queue is required" if name is None else f"'{name}' is not a valid queue")
        return queue

    def check_submit(self, name: str | None) -> None:
        """Raises unless the queue takes jobs."""
        queue = self.find(name)
        if not queue.enable:
            target = "" if name is None else f" to {name}"
            raise ValueError(f"job submission{target} is disabled: {queue.disable_reason}")

    def started(self, name: str | None) -> bool:
        """Whether jobs of a queue may run: it is started, and so is its parent. Of one that is gone: no."""
        queue = self.queues.get(name)
        if queue is None or not queue.start:
            return False
        return queue.parent is None or self.queues[queue.parent].start

    def why_not(self, name: str | None) -> str | None:
        """Why jobs of a queue may not run; None: they may."""
        queue = self.queues.get(name)
        if queue is None:
            return f"there is no queue {name} any more"
        if not queue.start:
            text = "queue is stopped" if queue.name is None else f"queue {queue.name} is stopped"
            return f"{text}: {queue.stop_reason}" if queue.stop_reason else text
        return None if queue.parent is None else self.why_not(queue.parent)

    def status(self, name: str | None, online: bool) -> dict[str, Any]:
        """The answer to queue-status; `online`: there is a scheduler."""
        queue = self.find(name)
        status: dict[str, Any] = {"enable": queue.enable, "start": queue.start}
        if queue.parent is not None:
            status["parent"] = queue.parent
        if not queue.enable and queue.disable_reason is not None:
            status["disable_reason"] = queue.disable_reason
        if not queue.start:
            if queue.stop_reason is not None:
                status["stop_reason"] = queue.stop_reason
        elif queue.parent is not None and not self.queues[queue.parent].start:
            status |= {"start": False, "blocked": "parent", "stop_reason": f"parent queue '{queue.parent}' is stopped"}
        elif not online:
            status |= {"start": False, "blocked": "scheduler", "stop_reason": OFFLINE}
        return status

    def chosen(self, name: str | None, everyone: bool) -> list[Queue]:
        """The queues that a request is for."""
        if everyone:
            return list(self.queues.values())
        if name is None and self.named:
            raise ValueError("Use --all to apply this command to all queues")
        return [self.find(name)]

    def affected(self, queues: list[Queue]) -> set[str | None]:
        """The names of queues, and of those that they are the parents of."""
        names = {queue.name for queue in queues}
        return names | {queue.name for queue in self.queues.values() if queue.parent in names and queue.parent}

    def enable(self, queues: list[Queue], enable: bool, reason: str | None) -> None:
        """Has queues take jobs, or not any more."""
        if not enable and reason is None:
            raise ValueError("reason is required for disable")
        for queue in queues:
            queue.enable = enable
            queue.disable_reason = None if enable else reason

    def start(self, queues: list[Queue], start: bool, reason: str | None, save: bool = True) -> None:
        """Lets jobs of queues run, or stops them. `save` False: a restart does not know about it."""
        for queue in queues:
            queue.start = start
            queue.stop_reason = None if start else reason
            if save:
                queue.saved_start, queue.saved_reason = start, queue.stop_reason

    # Checkpoints.

    def save(self) -> list[dict[str, Any]]:
        """As it goes into the checkpoint (spec 06, 11.2)."""
        saved = []
        for queue in self.queues.values():
            entry: dict[str, Any] = {} if queue.name is None else {"name": queue.name}
            entry |= {"enable": queue.enable, "start": queue.saved_start}
            if queue.disable_reason is not None and not queue.enable:
                entry["disable_reason"] = queue.disable_reason
            if queue.saved_reason is not None and not queue.saved_start:
                entry["stop_reason"] = queue.saved_reason
            saved.append(entry)
        return saved

    def restore(self, saved: list[dict[str, Any]]) -> None:
        """As it was in the checkpoint; queues that are not configured any more are left out."""
        for entry in saved:
            queue = self.queues.get(entry.get("name"))
            if queue is not None:
                queue.enable = bool(entry.get("enable", True))
                queue.disable_reason = entry.get("disable_reason")
                self.start([queue], bool(entry.get("start", queue.start)), entry.get("stop_reason"))
