"""The guest namespaces of jobs: made, linked, written, copied, removed, in the order of spec 07, 4.2, and cheaply.

Rules:
- A job's own namespace gets what there is in one commit; what comes meanwhile goes with the next. The last commit's
  root becomes the job's `guest` directory.
- The namespace is removed when that directory is in place.
- A job that is over before anything of it has been committed is never linked, and nothing is written to its namespace
  unless its tasks have: its final directory is made at once, in the primary namespace.
- So what there is waits a little: most jobs are short. Where that can be told, longer if nobody looks, and no longer
  than until somebody does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from fluxlet.modules.job_exec.job import ExecJob
from fluxlet.modules.job_exec.store import Store
from fluxlet.modules.kvs.operation import APPEND, Op, Value
from fluxlet.shell.later import Later

if TYPE_CHECKING:
    from fluxlet.service import Service

#: What is written to a job's exec.eventlog waits this long for more, in seconds; and if nobody looks.
_DELAY = 0.01
_LAZY = 0.05


class Guests:
    """The namespaces of all jobs.

    Args:
        service: asks the KVS.
        complain: called with the text for the log.
    """

    def __init__(self, service: Service, complain: Callable[[str], None]) -> None:
        self.store = Store(service)
        self._complain = complain
        self._later: Later[ExecJob] = Later(service.module.reactor, _DELAY, self.flush)
        self._lazy: Later[ExecJob] = Later(service.module.reactor, _LAZY, self.flush)
        self._closing: dict[int, Callable[[], None]] = {}  # to be closed when their commit has been answered

    def stop(self, jobs: Iterable[ExecJob]) -> None:
        """Nothing is written any more but what there is of these jobs, if it can be by calls."""
        self._later.stop()
        self._lazy.stop()
        for job in jobs:
            if job.namespace_made and self.store.at_hand:
                self.flush(job)
                self.store.show(job.namespace)
        self.store.closed = True

    # The beginning.

    def create(self, job: ExecJob, then: Callable[[str], None]) -> None:
        """Makes the job's namespace; that of a job which a job-exec before us was given may be there, started or not.

        `then` is called with what has gone wrong, if anything.
        """

        def made(text: str) -> None:
            job.namespace_made = not text
            then(text)

        self.store.create(job.namespace, job.userid, made, exist_ok=True)

    # Meanwhile.

    def flush_soon(self, job: ExecJob) -> None:
        """There is something for the job's namespace."""
        if job.namespace_made and not job.committing and self.store.hold(job.namespace, partial(self._flushed, job)):
            self._link(job)
            self._lazy.add(job)
        else:
            self._later.add(job)

    def _flushed(self, job: ExecJob) -> bool:
        self.flush(job)
        return not job.committing

    def _link(self, job: ExecJob) -> None:
        if not job.linked:
            job.linked = True
            link = b'{"data":{"namespace":"%b","target":"."},"type":"symlink","ver":1}' % job.namespace.encode()
            self.store.put([Op(f"{job.key}.guest", 0, msgspec.Raw(link))], self._linked)

    def flush(self, job: ExecJob) -> None:
        """Commits what the job has for its namespace; the first time, links that as the job's `guest` directory."""
        if job.committing or job.closing or job.creating:
            return
        if not job.namespace_made:
            self._create_late(job)
            return
        self._link(job)
        ops = self._operations(job, "")
        if not ops:
            return
        job.committing = job.committed = True

        def committed(root: str, text: str) -> None:
            job.committing = False
            if text:
                self._complain(f"{job.f58}: error writing to the guest namespace: {text}")
            self._go_on(job)

        self.store.write(job.namespace, ops, committed)

    def _linked(self, text: str) -> None:
        if text:
            self._complain(f"error linking guest namespaces: {text}")

    def _go_on(self, job: ExecJob) -> None:
        """What was waited for has come about."""
        if job.id in self._closing:
            self._closing.pop(job.id)()
        elif job.exec_lines or job.input_text or job.output_text:
            self.flush(job)

    def _create_late(self, job: ExecJob) -> None:
        """A job that nobody runs has no namespace unless there is something to be seen of it before it is over."""
        job.creating = True

        def made(text: str) -> None:
            job.creating = False
            if text:
                self._complain(f"{job.f58}: error creating guest namespace: {text}")
                job.closing = True
            self._go_on(job)

        self.create(job, made)

    @staticmethod
    def _operations(job: ExecJob, prefix: str) -> list[Op]:
        """Appends what the job has, to keys with this prefix; it has it no more."""
        ops = []
        for key, text in (
            ("exec.eventlog", "".join(job.exec_lines)),
            ("input", job.input_text),
            ("output", job.output_text),
        ):
            if text:
                ops.append(Op(prefix + key, APPEND, Value(text.encode("utf-8", "surrogateescape"))))
        job.exec_lines.clear()
        job.input_text = job.output_text = ""
        return ops

    # The end.

    def close(self, job: ExecJob, then: Callable[[], None]) -> None:
        """Writes the rest, makes the job's `guest` directory final, and removes the namespace."""
        if job.committing or job.creating:
            self._closing[job.id] = lambda: self.close(job, then)
            return
        if job.reattach and not job.closing and not (job.namespace_made and job.linked):
            # A job-exec before us may have linked a namespace there, through which nothing can be written.
            job.linked = True
            if not job.namespace_made:
                self._closing[job.id] = lambda: self.close(job, then)
                self._create_late(job)
                return
        job.closing = True
        self._later.discard(job)
        self._lazy.discard(job)
        if job.linked and self.store.take_back(f"{job.key}.guest"):
            job.linked = False
        if not job.namespace_made:
            self._close_directly(job, then)
        elif not job.committed and not job.linked:
            self._close_unused(job, then)
        else:
            self._close_used(job, then)

    def _close_unused(self, job: ExecJob, then: Callable[[], None]) -> None:
        """Nothing is in the namespace that we know of: if nothing is, the directory is made where it is to be."""

        def found(root: str, text: str) -> None:
            if text or root:
                self._close_used(job, then)
            else:
                self._close_directly(job, then)

        self.store.root(job.namespace, found)

    def _close_directly(self, job: ExecJob, then: Callable[[], None]) -> None:
        self.store.put(self._operations(job, f"{job.key}.guest."), lambda text: self._copied(job, text, then))

    def _close_used(self, job: ExecJob, then: Callable[[], None]) -> None:
        def have(root: str, text: str) -> None:
            if text:
                self._complain(f"{job.f58}: error writing to the guest namespace: {text}")
                self._remove(job, then)
                return
            dirent = b'{"data":["%b"],"type":"dirref","ver":1}' % root.encode()
            self.store.put([Op(f"{job.key}.guest", 0, msgspec.Raw(dirent))], lambda text: self._copied(job, text, then))

        # Without anything to write this tells the root.
        self.store.write(job.namespace, self._operations(job, ""), have)

    def _copied(self, job: ExecJob, text: str, then: Callable[[], None]) -> None:
        if text:
            self._complain(f"{job.f58}: error copying the guest namespace: {text}")
        if job.namespace_made:
            self._remove(job, then)
        else:
            then()

    def _remove(self, job: ExecJob, then: Callable[[], None]) -> None:
        def removed(text: str) -> None:
            if text:
                self._complain(f"{job.f58}: error removing the guest namespace: {text}")

        self.store.remove(job.namespace, removed)
        then()
