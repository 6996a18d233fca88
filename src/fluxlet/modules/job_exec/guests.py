"""The guest namespaces of jobs: made, linked, written, copied, removed, in the order of spec 07, 4.2, and cheaply.

Rules:
- What goes into the primary namespace, for all jobs, is one commit at a time: at once when it is quiet, many jobs'
  in one when it is not.
- A job's own namespace gets what there is in one commit; what comes meanwhile goes with the next. The last commit's
  answer names the root that becomes the job's `guest` directory.
- The namespace is removed when that directory is in place.
- A job that is over before anything of it has been committed is never linked, and nothing is written to its namespace
  unless its tasks have: its final directory is made at once, in the primary namespace.
"""

from __future__ import annotations

import errno
from binascii import b2a_base64
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from flux.core.codec import dump_payload
from flux.core.future_state import RpcState
from fluxlet.modules.job_exec.job import ExecJob

if TYPE_CHECKING:
    from fluxlet.service import Service


class Committed(msgspec.Struct):
    """The answer to kvs.commit."""

    rootref: str


class Value(msgspec.Struct):
    """A tree object with a value."""

    type: str
    data: msgspec.Raw


class Looked(msgspec.Struct):
    """The answer to kvs.lookup."""

    val: Value


_decode_commit = msgspec.json.Decoder(Committed).decode
_decode_lookup = msgspec.json.Decoder(Looked).decode

#: The blobref of the empty directory, by content.hash.
_EMPTY = b'{"data":{},"type":"dir","ver":1}'


def empty_root(hash_name: str) -> str:
    """The blobref of a namespace that nothing has been written to."""
    import hashlib

    return f"{hash_name}-{hashlib.new(hash_name, _EMPTY).hexdigest()}"


class Guests:
    """The namespaces of all jobs.

    Args:
        service: asks the KVS.
        hash_name: content.hash.
        complain: called with the text for the log.
    """

    def __init__(self, service: Service, hash_name: str, complain: Callable[[str], None]) -> None:
        self._service = service
        self._complain = complain
        self._empty = empty_root(hash_name)
        self._ops: list[str] = []
        self._then: list[Callable[[RpcState], None]] = []
        self._in_flight = False
        self._closing: dict[int, Callable[[], None]] = {}  # to be closed when their commit has been answered
        self._soon = service.module.reactor.timer(0.0, 0.0, self._commit_primary)

    def stop(self) -> None:
        """Lets go of the timer."""
        self._soon.stop()

    # The beginning.

    def create(self, job: ExecJob, then: Callable[[RpcState], None]) -> None:
        """Makes the job's namespace; that of a job which a job-exec before us was given may be there."""
        request = f'{{"namespace":"{job.namespace}","rootref":"{self._empty}","owner":{job.userid},"flags":0}}\0'

        def made(state: RpcState) -> None:
            if state.errnum == errno.EEXIST and job.reattach:
                state.errnum = 0
            job.namespace_made = not state.errnum
            then(state)

        self._service.ask(b"kvs.namespace-create", request.encode(), made, nodeid=0)

    def lookup(self, key: str, then: Callable[[bytes | None, str], None]) -> None:
        """The value at a key, JSON text of its base64, and ""; or None and what went wrong."""

        def found(state: RpcState) -> None:
            if state.errnum:
                then(None, state.error_text() or "")
                return
            try:
                value = _decode_lookup((state.value.raw or b"")[:-1]).val
            except msgspec.MsgspecError as exc:
                then(None, str(exc))
                return
            then(bytes(value.data), "") if value.type == "val" else then(None, "it is no value")

        request = f'{{"key":"{key}","namespace":"primary","flags":0}}\0'
        self._service.ask(b"kvs.lookup", request.encode(), found)

    def _linked(self, state: RpcState) -> None:
        if state.errnum:
            self._complain(f"error linking guest namespaces: {state.error_text()}")

    # Meanwhile.

    def flush(self, job: ExecJob) -> None:
        """Commits what the job has for its namespace; the first time, links that as the job's `guest` directory."""
        if job.committing or job.closing or job.creating:
            return
        if not job.namespace_made:
            self._create_late(job)
            return
        if not job.linked:
            job.linked = True
            target = f'{{"namespace":"{job.namespace}","target":"."}}'
            self._put(f"{job.key}.guest", f'{{"ver":1,"type":"symlink","data":{target}}}', self._linked)
        raw = self._take(job)
        if raw is None:
            return
        job.committing = job.committed = True

        def committed(state: RpcState) -> None:
            job.committing = False
            if state.errnum:
                self._complain(f"{job.f58}: error writing to the guest namespace: {state.error_text()}")
            if job.id in self._closing:
                self._closing.pop(job.id)()
            else:
                self.flush(job)

        self._service.ask(b"kvs.commit", raw, committed)

    def _create_late(self, job: ExecJob) -> None:
        """A job that nobody runs has no namespace unless there is something to be seen of it before it is over."""
        job.creating = True

        def made(state: RpcState) -> None:
            job.creating = False
            if state.errnum:
                self._complain(f"{job.f58}: error creating guest namespace: {state.error_text()}")
                job.closing = True
            if job.id in self._closing:
                self._closing.pop(job.id)()
            else:
                self.flush(job)

        self.create(job, made)

    def _take(self, job: ExecJob) -> bytes | None:
        ops = self._operations(job, "")
        if not ops:
            return None
        return f'{{"namespace":"{job.namespace}","flags":0,"ops":[{",".join(ops)}]}}\0'.encode()

    def _operations(self, job: ExecJob, prefix: str) -> list[str]:
        """Appends what the job has, to keys with this prefix; it has it no more."""
        ops = []
        for key, text in (
            ("exec.eventlog", "".join(job.exec_lines)),
            ("input", job.input_text),
            ("output", job.output_text),
        ):
            if text:
                data = b2a_base64(text.encode("utf-8", "surrogateescape"), newline=False).decode()
                dirent = f'{{"ver":1,"type":"val","data":"{data}"}}'
                ops.append(f'{{"key":"{prefix}{key}","flags":32,"dirent":{dirent}}}')
        job.exec_lines.clear()
        job.input_text = job.output_text = ""
        return ops

    # The end.

    def close(self, job: ExecJob, then: Callable[[], None]) -> None:
        """Writes the rest, makes the job's `guest` directory final, and removes the namespace."""
        if job.committing or job.creating:
            self._closing[job.id] = lambda: self.close(job, then)
            return
        job.closing = True
        if not job.namespace_made:
            self._close_directly(job, then)
        elif not job.committed and not job.linked:
            self._close_unused(job, then)
        else:
            self._close_used(job, then)

    def _close_unused(self, job: ExecJob, then: Callable[[], None]) -> None:
        """Nothing is in the namespace that we know of: if nothing is, the directory is made where it is to be."""

        def found(state: RpcState) -> None:
            root = b'"rootref":"%b"' % self._empty.encode()
            if state.errnum or root not in (state.value.raw or b"").replace(b" ", b""):
                self._close_used(job, then)
                return
            self._close_directly(job, then)

        request = f'{{"namespace":"{job.namespace}"}}\0'
        self._service.ask(b"kvs.getroot", request.encode(), found)

    def _close_directly(self, job: ExecJob, then: Callable[[], None]) -> None:
        self._ops += self._operations(job, f"{job.key}.guest.")
        self._put("", "", lambda state: self._copied(job, state, then))

    def _close_used(self, job: ExecJob, then: Callable[[], None]) -> None:
        raw = self._take(job)
        if raw is None:
            request = f'{{"key":".","namespace":"{job.namespace}","flags":16}}\0'
            self._service.ask(b"kvs.lookup", request.encode(), lambda state: self._looked(job, state, then))
            return

        def committed(state: RpcState) -> None:
            if state.errnum:
                self._complain(f"{job.f58}: error writing to the guest namespace: {state.error_text()}")
                self._remove(job, then)
                return
            self._copy(job, _decode_commit((state.value.raw or b"")[:-1]).rootref, then)

        self._service.ask(b"kvs.commit", raw, committed)

    def _looked(self, job: ExecJob, state: RpcState, then: Callable[[], None]) -> None:
        if state.errnum:
            self._complain(f"{job.f58}: error reading the guest namespace: {state.error_text()}")
            self._remove(job, then)
            return
        root = msgspec.json.decode((state.value.raw or b"")[:-1])["val"]["data"][0]
        self._copy(job, root, then)

    def _copy(self, job: ExecJob, rootref: str, then: Callable[[], None]) -> None:
        dirent = f'{{"data":["{rootref}"],"type":"dirref","ver":1}}'
        self._put(f"{job.key}.guest", dirent, lambda state: self._copied(job, state, then))

    def _copied(self, job: ExecJob, state: RpcState, then: Callable[[], None]) -> None:
        if state.errnum:
            self._complain(f"{job.f58}: error copying the guest namespace: {state.error_text()}")
        if job.namespace_made:
            self._remove(job, then)
        else:
            then()

    def _remove(self, job: ExecJob, then: Callable[[], None]) -> None:
        def removed(state: RpcState) -> None:
            if state.errnum:
                self._complain(f"{job.f58}: error removing the guest namespace: {state.error_text()}")

        request = dump_payload({"namespace": job.namespace})
        self._service.ask(b"kvs.namespace-remove", request, removed, nodeid=0)
        then()

    # The primary namespace.

    def _put(self, key: str, dirent: str, then: Callable[[RpcState], None]) -> None:
        if key:
            self._ops.append(f'{{"key":"{key}","flags":0,"dirent":{dirent}}}')
        self._then.append(then)
        if not self._in_flight and not self._soon.active:
            self._soon.start()

    def _commit_primary(self) -> None:
        if not self._ops or self._in_flight:
            return
        ops, self._ops = self._ops, []
        waiting, self._then = self._then, []
        self._in_flight = True

        def committed(state: RpcState) -> None:
            self._in_flight = False
            for then in waiting:
                then(state)
            if self._ops and not self._soon.active:
                self._soon.start()

        raw = f'{{"namespace":"primary","flags":0,"ops":[{",".join(ops)}]}}\0'.encode()
        self._service.ask(b"kvs.commit", raw, committed)
