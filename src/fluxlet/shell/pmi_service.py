"""PMI for the tasks of a job on one rank: their lines, and the exchange with the other shells (spec 07, 5.11)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flux.core.codec import load_text
from fluxlet.shell import events, options, pmi
from fluxlet.shell.options import ShellError
from fluxlet.shell.taskmap import pmi_text

if TYPE_CHECKING:
    from flux.core.future_state import RpcState
    from flux.message import Message
    from fluxlet.shell.job import Job
    from fluxlet.shell.task import Task


class PmiService:
    """Made when the first line of a task comes, or of another shell: most jobs never speak it."""

    def __init__(self, job: Job) -> None:
        self.job = job
        blocks = job.layout.map
        preset = {"flux.taskmap": events.compact({"version": 1, "map": blocks})}
        text = pmi_text(blocks)
        if not options.flag(job.options, "pmi-simple.nomap") and len(text) < pmi.VALLEN_MAX:
            preset["PMI_process_mapping"] = text
        preset |= job.server.pmi_preset
        degree = options.integer(job.options, "pmi-simple.exchange.k", 2, 1)
        self.server = pmi.Server(job.f58, job.layout.ntasks, job.ntasks, preset, lambda text: job.log(4, text))
        self.exchange = pmi.Exchange(job.rank, job.size, degree)
        self._requests: list[Message] = []  # of children in the tree, to be answered when the barrier is over

    def line(self, task: Task, line: str) -> None:
        """A line of a task's."""
        job = self.job
        try:
            answer = self.server.line(task.index, line)
        except pmi.ProtocolError as exc:
            job.log(0, f"pmi-simple: {exc}")
            job.fail(ShellError(str(exc), "pmi-simple"))
            return
        except pmi.AbortError as exc:
            job.raise_exception(f"PMI_Abort: {exc}")
            return
        if answer and task.pmi is not None:
            task.pmi.send(answer)
        if not answer and self.server.complete and self.exchange.own(self.server.pending):
            self._up()

    def child(self, msg: Message, items: dict[str, str]) -> None:
        """A child in the tree of shells has entered the barrier; it is answered when all have."""
        self._requests.append(msg)
        if self.exchange.child(len(self._requests), items):
            self._up()

    def _up(self) -> None:
        """All below have entered: on to the parent, or the barrier is over."""
        items = self.exchange.take()
        if self.exchange.parent is None:
            self._over(items)
            return
        job = self.job

        def answered(state: RpcState) -> None:
            if not state.errnum:  # else that shell is lost, which job-exec deals with
                self._over(load_text(state.value.text_bytes() or b"{}"))

        parent = job.layout.nodes[self.exchange.parent].rank
        topic = f"{job.service}.pmi-exchange".encode()
        job.server.connection.ask(topic, events.payload(items), answered, parent)

    def _over(self, items: dict[str, str]) -> None:
        requests, self._requests = self._requests, []
        raw = events.payload(items)
        for request in requests:
            self.job.server.connection.answer(request, raw)
        for index in self.server.exchanged(items):
            link = self.job.tasks[index].pmi
            if link is not None:
                link.send("cmd=barrier_out rc=0\n")
