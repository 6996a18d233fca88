"""The option stage-in: what flux archive has put into the KVS, before the tasks start (spec 07, 5.13).

Its value is 1, or an object with

- `names`: of archives, with commas between them (main);
- `pattern`: files whose paths do not match it stay away;
- `destination`: ``[local:]PATH`` of a directory on each rank (the job's temporary one), ``global:PATH`` of one that all
  ranks share: the first one fills it.

The tasks wait. One file at a time is fetched and written; what goes wrong ends the job.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from flux.cli.archive_files import ArchiveError, FileObject, blobrefs, extract, matching
from flux.core import kvs_rpc
from flux.core.codec import dump_payload
from flux.core.treeobj import is_blobref
from fluxlet.shell import options
from fluxlet.shell.options import ShellError

if TYPE_CHECKING:
    from flux.core.future_state import RpcState
    from fluxlet.shell.job import Job

_NAME = "stage-in"


def stage_in(job: Job, then: Callable[[], None]) -> None:
    """Fetches a job's archives, and calls `then`. Raises ShellError."""
    if not options.flag(job.options, _NAME):
        then()
        return
    destination = options.text(job.options, f"{_NAME}.destination") or job.tmpdir
    scope, colon, path = destination.partition(":")
    if not colon or scope not in ("local", "global"):
        scope, path = "local", destination
    if scope == "global" and not job.leader:
        then()
        return
    names = (options.text(job.options, f"{_NAME}.names") or "main").split(",")
    StageIn(job, names, options.text(job.options, f"{_NAME}.pattern"), job.expand(path), then).next()


class StageIn:
    """What is left to be fetched for a job."""

    def __init__(self, job: Job, names: list[str], pattern: str | None, path: str, then: Callable[[], None]) -> None:
        self._job = job
        self._names = names
        self._pattern = pattern
        self._then = then
        self._files: list[FileObject] = []
        self._blobs: dict[str, bytes] = {}
        self._path = path

    def _ask(self, topic: bytes, payload: bytes, answered: Callable[[RpcState], None]) -> None:
        def called(state: RpcState) -> None:
            if self._job.failed or self._job.ended:
                return
            try:
                answered(state)
            except ShellError as exc:
                self._job.fail(exc)

        self._job.server.connection.ask(topic, payload, called)

    def next(self) -> None:
        """Goes on, until something has to be waited for. Raises ShellError."""
        try:
            os.chdir(self._path)  # what starts tasks goes where it wants to be
        except OSError as exc:
            raise ShellError(f"chdir {self._path}: {exc.strerror}", _NAME) from None
        while self._files:
            refs = set(blobrefs(self._files[-1]))
            if not refs <= self._blobs.keys():
                self._fetch(refs)
                return
            found = self._files.pop()
            try:
                extract(found, self._blobs.__getitem__, overwrite=True)
            except ArchiveError as exc:
                raise ShellError(str(exc), _NAME) from None
            except OSError as exc:
                raise ShellError(f"{found['path']}: {exc.strerror}", _NAME) from None
            self._blobs.clear()
        if self._names:
            self._look_up(self._names.pop(0))
            return
        self._then()

    def _fetch(self, refs: set[str]) -> None:
        for ref in refs:
            if not is_blobref(ref):
                raise ShellError(f"{self._files[-1]['path']}: {ref} is no blob", _NAME)
            self._ask(b"content.load", bytes.fromhex(ref.partition("-")[2]), partial(self._take, ref))

    def _take(self, ref: str, state: RpcState) -> None:
        if state.errnum:
            raise ShellError(f"{ref}: {state.error_text()}", _NAME)
        self._blobs[ref] = state.value.raw or b""
        if set(blobrefs(self._files[-1])) <= self._blobs.keys():
            self.next()

    def _look_up(self, name: str) -> None:
        payload = dump_payload({"key": f"archive.{name}", "namespace": "primary", "flags": 0})
        assert payload is not None
        self._ask(b"kvs.lookup", payload, lambda state: self._found(name, state))

    def _found(self, name: str, state: RpcState) -> None:
        if state.errnum:
            raise ShellError(f"could not lookup archive.{name} in primary KVS namespace: {state.error_text()}", _NAME)
        try:
            archive = json.loads(kvs_rpc.value(state))
            self._files = matching(archive if isinstance(archive, list) else [None], self._pattern)[::-1]
        except (ValueError, ArchiveError):
            raise ShellError(f"archive.{name}: the value is no archive of files", _NAME) from None
        self.next()
