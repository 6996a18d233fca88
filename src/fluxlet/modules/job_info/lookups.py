"""The lookups of clients that are under way: what is fetched for them, and what becomes of it (spec 08, 1.2)."""

from __future__ import annotations

import errno
from functools import partial
from typing import TYPE_CHECKING

from flux.core import fluid
from flux.core.future_state import RpcState
from flux.message import Message
from fluxlet.broker.long_response import LongResponse
from fluxlet.modules.job_info.lookup import Lookup
from fluxlet.modules.job_info.pieces import Pieces
from fluxlet.modules.job_info.reading import Outcome, outcome
from fluxlet.service import sender

if TYPE_CHECKING:
    from fluxlet.modules.job_info.module import JobInfo
    from fluxlet.pace import Pace

#: Bytes of an answer that is not copied into one piece.
_LONG = 1 << 20


class _Looking:
    """A lookup: its request, and what is being read for it piece by piece."""

    def __init__(self, request: Message, lookup: Lookup) -> None:
        self.request = request
        self.lookup = lookup
        self.readings: list[Pieces] = []


class Lookups:
    """See the module.

    Args:
        service: whose they are.
        pace: of its readers.
    """

    def __init__(self, service: JobInfo, pace: Pace) -> None:
        self._service = service
        self._pace = pace
        self._all: dict[int, _Looking] = {}  # by id() of the request

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._all)

    def begin(self, msg: Message, jobid: int, lookup: Lookup) -> None:
        """Fetches what a lookup wants, and answers `msg`."""
        looking = self._all[id(msg)] = _Looking(msg, lookup)
        directory = fluid.kvs(jobid)
        wanted = lookup.wanted()
        if not wanted:
            self._answer(looking)
        for key in wanted:
            if lookup.is_long(key):
                pieces = Pieces(self._service, partial(self._may_read, looking), partial(self._read, looking, key))
                looking.readings.append(pieces)
                pieces.copy(f"{directory}.{key}", lambda blobs: 0)
            else:
                self._service.fetch(f"{directory}.{key}", partial(self._found, looking, key))

    def stop(self) -> None:
        """The service ends."""
        for looking in list(self._all.values()):
            self._forget(looking)
            self._service.handle.respond_error(looking.request, errno.ENOSYS)

    def disconnect(self, client: bytes) -> None:
        """A client has gone."""
        for looking in list(self._all.values()):
            if sender(looking.request) == client:
                self._forget(looking)

    def _forget(self, looking: _Looking) -> None:
        """It is over."""
        del self._all[id(looking.request)]
        for pieces in looking.readings:
            pieces.stop()
            self._pace.forget(pieces)
        looking.readings.clear()

    def _found(self, looking: _Looking, key: str, state: RpcState) -> None:
        found = outcome(state)
        if looking.lookup.found(key, found.value, found.errnum, found.text):
            self._answer(looking)

    def _may_read(self, looking: _Looking, pieces: Pieces) -> bool:
        return self._pace.may_send(looking.request, pieces, Pieces.go_on)

    def _read(self, looking: _Looking, key: str, found: Outcome | None) -> None:
        """Takes in a piece of what is long; None: there are no more."""
        if found is not None and not found.errnum:
            looking.lookup.add(key, found.value)
            self._pace.spend(looking.request, len(found.value))
            return
        errnum, text = (found.errnum, found.text) if found is not None else (0, None)
        if looking.lookup.found(key, b"", errnum, text):
            self._answer(looking)

    def _answer(self, looking: _Looking) -> None:
        """All has been fetched."""
        request = looking.request
        if self._all.get(id(request)) is not looking:
            return  # its client has gone
        self._forget(looking)
        try:
            pieces = looking.lookup.answer()
        except OSError as exc:
            self._service.handle.respond_error(request, exc.errno or errno.EIO, exc.strerror)
            return
        if sum(map(len, pieces)) > _LONG:
            self._service.module.post(LongResponse(request, pieces))
        else:
            self._service.answer(request, b"".join(pieces))
