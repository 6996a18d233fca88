"""The job manager's journal: every event of every job, for whoever follows along (spec 06, 7.2 events-journal).

An event is encoded once, as the entry that goes to the KVS too; a response that carries it once for all listeners
that filter nothing. Events of one job that follow each other without another job's between them share a response:
`flush` sends what is gathered, at the end of the loop's pass or before anything that must come after it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Container
from typing import Any

import msgspec

from flux.message import Message
from fluxlet.modules.job_manager.job import Job


class Listener:
    """Somebody who follows the journal.

    Args:
        request: the streaming request.
        allow, deny: names of events that he wants, or does not; None: no such filter.
    """

    __slots__ = ("allow", "deny", "request")

    def __init__(self, request: Message, allow: Container[str] | None, deny: Container[str] | None) -> None:
        self.request = request
        self.allow = allow
        self.deny = deny

    def wants(self, name: str) -> bool:
        """Whether an event of this name is for him."""
        return (self.allow is None or name in self.allow) and (self.deny is None or name not in self.deny)


def response(jobid: int, entries: list[bytes], jobspec: bytes | None, R: bytes | None) -> bytes:
    """The payload of a response with events of one job."""
    parts = [b'{"id":%d,"events":[%b]' % (jobid, b",".join(entries))]
    if jobspec is not None:
        parts.append(b',"jobspec":')
        parts.append(jobspec)
    if R is not None:
        parts.append(b',"R":')
        parts.append(R)
    parts.append(b"}\0")
    return b"".join(parts)


SENTINEL = b'{"id":-1,"events":[]}\0'


class _Named(msgspec.Struct):
    name: str


_name = msgspec.json.Decoder(_Named).decode


class Journal:
    """See the module.

    Args:
        send: sends a message.
        soon: has `flush` called when the loop has nothing more to read.
    """

    def __init__(self, send: Callable[[Message], None], soon: Callable[[], None]) -> None:
        self.send = send
        self.soon = soon
        self.listeners: list[Listener] = []
        self.count = 0
        self._jobid = -1
        self._names: list[str] = []
        self._entries: list[bytes] = []
        self._jobspec: bytes | None = None
        self._R: bytes | None = None

    def add(self, job: Job, name: str, entry: bytes) -> None:
        """An event has been posted."""
        self.count += 1
        if not self.listeners:
            return
        if job.id != self._jobid:
            if self._entries:
                self.flush()
            else:
                self.soon()
            self._jobid = job.id
        elif not self._entries:
            self.soon()
        self._names.append(name)
        self._entries.append(entry)
        if name == "submit":
            self._jobspec = job.jobspec
        elif name == "alloc":
            self._R = job.R

    def flush(self) -> None:
        """Sends what has been gathered."""
        entries = self._entries
        if not entries:
            return
        names, self._names, self._entries = self._names, [], []
        jobspec, self._jobspec = self._jobspec, None
        R, self._R = self._R, None
        whole = None
        for listener in self.listeners:
            if listener.allow is None and listener.deny is None:
                if whole is None:
                    whole = response(self._jobid, entries, jobspec, R)
                self.send(listener.request.response(whole))
                continue
            chosen = [entry for name, entry in zip(names, entries, strict=True) if listener.wants(name)]
            if chosen:
                self.send(
                    listener.request.response(
                        response(
                            self._jobid,
                            chosen,
                            jobspec if listener.wants("submit") else None,
                            R if listener.wants("alloc") else None,
                        )
                    )
                )

    def show(self, listener: Listener, jobid: int, entries: list[bytes], jobspec: bytes, R: bytes | None) -> None:
        """Sends a job's past to a new listener."""
        if listener.allow is not None or listener.deny is not None:
            entries = [entry for entry in entries if listener.wants(_name(entry).name)]
        self.send(listener.request.response(response(jobid, entries, jobspec, R)))

    def begin(self, listener: Listener) -> None:
        """The past is told: from here on a listener hears what happens."""
        self.send(listener.request.response(SENTINEL))
        self.listeners.append(listener)

    def end(self, chosen: Callable[[Message], Any], errnum: int = errno.ENODATA) -> None:
        """Ends the streams of the requests that `chosen` is true for."""
        self.flush()
        ended = [listener for listener in self.listeners if chosen(listener.request)]
        self.listeners = [listener for listener in self.listeners if listener not in ended]
        for listener in ended:
            self.send(listener.request.response(None, errnum))

    def leave(self, chosen: Callable[[Message], Any]) -> None:
        """Listeners have gone: nobody is there to be told."""
        self.listeners = [listener for listener in self.listeners if not chosen(listener.request)]
