"""job-manager.wait: who waits for which job (spec 06, 7.2 wait). Pure, but for the requests it keeps.

Only jobs submitted as waitable can be waited for, each once. One that nobody waits for when it ends is a zombie until
somebody does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from flux.core.signal_text import signal_text
from flux.message import Message
from fluxlet.modules.job_manager.job import WAITABLE, Job, exit_code

#: (success, errstr)
Outcome = tuple[bool, str]


def outcome(job: Job) -> Outcome:
    """What a waiter is told of a job that has ended (spec 06, 5.4)."""
    if job.fatal is not None:
        return False, f"Fatal exception type={job.fatal[0]} {job.fatal[1]}"
    status = job.status or 0
    number = status & 0x7F
    if number:
        return False, f"job shell {signal_text(number) or f'killed by signal {number}'}"
    code = exit_code(status)
    if code > 128:
        name = signal_text(code - 128)
        return False, f"task(s) {name}" if name else f"task(s) exited with exit code {code}"
    if code:
        return False, f"task(s) exited with exit code {code}"
    return True, ""


class Zombie(msgspec.Struct, gc=False, eq=False):
    """What is kept of a job that may be waited for, and what lists tell of it. `state` is that of all of them."""

    id: int
    userid: int
    urgency: int
    priority: int
    t_submit: float
    state: int
    success: bool
    errstr: str
    annotations: dict[str, Any] | None
    dependencies: tuple[str, ...]

    @classmethod
    def of(cls, job: Job) -> Zombie:
        """Of a job that has ended."""
        success, errstr = outcome(job)
        return cls(
            job.id,
            job.userid,
            job.urgency,
            job.priority,
            job.t_submit,
            int(job.state),
            success,
            errstr,
            job.annotations,
            tuple(job.dependencies),
        )


class Waits:
    """See the module.

    Args:
        answer: tells a waiter the outcome of a job.
        refuse: answers a waiter with ECHILD and a text.
    """

    def __init__(self, answer: Callable[[Message, Zombie], None], refuse: Callable[[Message, str], None]) -> None:
        self.answer = answer
        self.refuse = refuse
        self.zombies: dict[int, Zombie] = {}
        self.waiters: dict[int, Message] = {}
        self.anyone: list[Message] = []
        self.waitable = 0  # active jobs that may be waited for

    def submitted(self, job: Job) -> None:
        """A job has begun."""
        if job.flags & WAITABLE:
            self.waitable += 1

    def ended(self, job: Job) -> None:
        """A job has ended."""
        if not job.flags & WAITABLE:
            return
        self.waitable -= 1
        waiter = self.waiters.pop(job.id, None)
        zombie = Zombie.of(job)
        if waiter is not None:
            self.answer(waiter, zombie)
        elif self.anyone:
            self.answer(self.anyone.pop(0), zombie)
        else:
            self.zombies[job.id] = zombie
        self._check()

    def wait(self, request: Message, jobid: int, job: Job | None) -> None:
        """Somebody waits for a job, which is active, or for any (-1)."""
        if jobid == -1:
            if self.zombies:
                self.answer(request, self.zombies.pop(next(iter(self.zombies))))
                return
            self.anyone.append(request)
            self._check()
            return
        zombie = self.zombies.pop(jobid, None)
        if zombie is not None:
            self.answer(request, zombie)
        elif job is None:
            self.refuse(request, "invalid job id, or job may be inactive and not waitable")
        elif not job.flags & WAITABLE:
            self.refuse(request, "job was not submitted with FLUX_JOB_WAITABLE")
        elif jobid in self.waiters:
            self.refuse(request, "job id already has a waiter")
        else:
            self.waiters[jobid] = request
            self._check()

    def _check(self) -> None:
        """Those who came last and have no job left to wait for are told."""
        while self.anyone and len(self.anyone) + len(self.waiters) > self.waitable:
            self.refuse(self.anyone.pop(), "there are no more waitable jobs")

    def leave(self, chosen: Callable[[Message], bool]) -> None:
        """Waiters have gone."""
        self.anyone = [request for request in self.anyone if not chosen(request)]
        self.waiters = {jobid: request for jobid, request in self.waiters.items() if not chosen(request)}

    def take_all(self) -> list[Message]:
        """Everybody who waits; nobody does then."""
        everybody = [*self.anyone, *self.waiters.values()]
        self.anyone = []
        self.waiters = {}
        return everybody
