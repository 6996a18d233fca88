"""Following an eventlog of a job: what to read, and what to send to the client (spec 08, 1.3). Pure.

    what was heard -> Watch -> Action, Action, ...

A main eventlog is followed where it is. One in the guest namespace is followed there while the job runs, and read from
the job's directory afterwards; clients never notice the difference:

    LOOK at the main eventlog -- released --> READ the copy, end
                              -- started  --> FOLLOW in the namespace -- namespace removed --> READ the rest, end
                              -- neither  --> FOLLOW the main eventlog -- start --> FOLLOW in the namespace
                                                                       -- its end --> end
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from enum import Enum
from typing import NamedTuple

from fluxlet.modules.job_info.eventlog import Progress, owner_of
from fluxlet.modules.job_info.reading import Lines

WAITCREATE = 1
SENTINEL = 2

#: Eventlogs that each job gets: one that starts is about to have them.
_SOON = ("exec.eventlog", "output")


class Source(Enum):
    """Where to read."""

    LOOK = "the main eventlog, once"
    MAIN = "the path in the job's directory, as it grows"
    START = "the main eventlog, as it grows, until the job starts"
    GUEST = "the path in the guest namespace, as it grows"
    COPY = "the path in the job's directory, once"


class Read(NamedTuple):
    """Read from here, instead of what was read before."""

    source: Source
    waitcreate: bool = False
    sentinel: bool = False


class Send(NamedTuple):
    """Send a line, with its newline."""

    line: bytes


class Sentinel(NamedTuple):
    """Send the sentinel."""


class End(NamedTuple):
    """Read no more, and end the stream: with ENODATA, or an error."""

    errnum: int = errno.ENODATA
    text: str | None = None


Action = Read | Send | Sentinel | End


class Watch:
    """One client's watch.

    Args:
        path: below the job's directory; below ``guest.`` it is in the guest namespace.
        flags: WAITCREATE, SENTINEL.
        may_read: tells whether the client may read the eventlogs of a job of this user; None if that is known.
        on_owner: called with the job's user when that turns out.
    """

    def __init__(
        self, path: str, flags: int, may_read: Callable[[int], bool] | None, on_owner: Callable[[int], None]
    ) -> None:
        self.path = path
        self.guest = path.startswith("guest.")
        self._waitcreate = bool(flags & WAITCREATE)
        self._sentinel = bool(flags & SENTINEL)
        self._may_read = may_read
        self._on_owner = on_owner
        self._source = Source.LOOK
        self._progress = Progress()
        self._lines = Lines()
        self._followed = Lines()  # as they were where it was followed, before the copy
        self._sent = 0  # bytes
        self._skip = 0  # bytes of a copy that have been sent before
        self.ended = False

    def begin(self) -> Iterator[Action]:
        """What to do at first."""
        if self.guest or (self.path != "eventlog" and self._may_read is not None):
            yield self._read(Source.LOOK)
        else:
            yield self._read(Source.MAIN)

    def _read(self, source: Source) -> Read:
        self._source = source
        self._followed, self._lines = self._lines, Lines()
        self._skip = self._sent
        if source is Source.MAIN:
            return Read(source, self._waitcreate, self._sentinel)
        if source is Source.GUEST:
            soon = self.path.removeprefix("guest.") in _SOON
            return Read(source, self._waitcreate or soon, self._sentinel)
        return Read(source)

    def _end(self, errnum: int = errno.ENODATA, text: str | None = None) -> Iterator[Action]:
        if errnum == errno.ENODATA and self._sentinel:
            self._sentinel = False
            yield Sentinel()
        self.ended = True
        yield End(errnum, text)

    def cancel(self) -> Iterator[Action]:
        """The client has had enough."""
        self.ended = True
        yield End()

    # What is heard.

    def sentinel(self) -> Iterator[Action]:
        """All that was there at first has been read."""
        if self._sentinel:
            self._sentinel = False
            yield Sentinel()

    def data(self, data: bytes) -> Iterator[Action]:
        """Some of what is being read; all of it, where it is read once."""
        lines = self._lines.add(data)
        try:
            if self._may_read is not None and self._is_main() and lines and not self._allowed(lines[0]):
                yield from self._end(errno.EPERM)
                return
            if self._source is Source.LOOK:
                yield from self._looked(lines)
            elif self._source is Source.START:
                yield from self._waited(lines)
            elif self._source is Source.COPY:
                yield from self._copied(lines)
            else:
                yield from self._grown(lines)
        except ValueError as exc:
            yield from self._end(errno.EPROTO, f"bad eventlog: {exc}")

    def resume(self) -> None:
        """The copy is told from where following it ended, not from its beginning."""
        self._lines = self._followed
        self._skip = 0

    def complete(self) -> Iterator[Action]:
        """All of a copy has been told."""
        if not self.ended:
            yield from self._end()

    def _is_main(self) -> bool:
        """True if what is being read is the main eventlog, and for the first time."""
        return self._source is Source.LOOK or (self._source is Source.MAIN and self.path == "eventlog")

    def _allowed(self, line: bytes) -> bool:
        owner = owner_of(line)
        self._on_owner(owner)
        may_read, self._may_read = self._may_read, None
        return may_read is None or may_read(owner)

    def _looked(self, lines: list[bytes]) -> Iterator[Action]:
        self._progress = progress = Progress(lines)
        if not self.guest:
            yield self._read(Source.MAIN)
        elif progress.released or (progress.ended and progress.started):
            yield self._read(Source.COPY)
        elif progress.started:
            yield self._read(Source.GUEST)
        elif progress.ended:
            yield from self._end()
        else:
            yield self._read(Source.START)

    def _waited(self, lines: list[bytes]) -> Iterator[Action]:
        for line in lines:
            self._progress.add(line)
        if self._progress.started:
            yield self._read(Source.GUEST)
        elif self._progress.ended:
            yield from self._end()

    def _copied(self, lines: list[bytes]) -> Iterator[Action]:
        for line in lines:
            if self._skip > 0:
                self._skip -= len(line)
            else:
                yield Send(line)

    def _grown(self, lines: list[bytes]) -> Iterator[Action]:
        main = not self.guest and self.path == "eventlog"
        for line in lines:
            self._sent += len(line)
            yield Send(line)
            if main and b'"clean"' in line:
                self._progress.add(line)
                if self._progress.ended:
                    yield from self._end()
                    return

    def failed(self, errnum: int, text: str | None) -> Iterator[Action]:
        """What is being read cannot be, or not any more."""
        source = self._source
        if source is Source.GUEST and errnum == errno.ENOTSUP:
            # The namespace is removed when its copy is in place.
            yield self._read(Source.COPY)
        elif source is Source.COPY and errnum == errno.ENOENT and self._sent:
            yield from self._end()
        elif errnum == errno.EINVAL and source in (Source.MAIN, Source.GUEST):
            yield from self._end(errnum, "illegal append of zero bytes")
        else:
            yield from self._end(errnum, text if errnum != errno.ENOENT else None)
