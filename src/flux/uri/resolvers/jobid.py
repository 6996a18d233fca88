"""jobid:PATH, the default — the instance that a job runs, and the ways to and from it (spec 04, section 6).

A path is walked from the enclosing instance (FLUX_URI) on: ``ID`` goes down to the instance that this job of the
instance runs, ``..`` up to the one that runs the instance as a job, a ``/`` in front goes to the root first.

Rules:

- The root has no parent: ``..`` there is the root.
- An instance is only connected to if it is to be asked for more: for the way up, or for a job.
- What a job's instance says of its surroundings is said from its host: its parent's socket is on that.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

from flux.constants import FLUX_RPC_STREAMING
from flux.core.handle import Flux
from flux.uri.uri import JobURI, URIResolverPlugin, URIResolverURI

_RUN = 16
_ENDED = 32 | 64
#: No such job; or nobody who knows about jobs.
_UNKNOWN = (errno.ENOENT, errno.ENOSYS)


class _Place:
    """An instance on the way; without `uri` the one we are in."""

    def __init__(self, uri: JobURI | None = None, local: bool = False) -> None:
        self._uri = uri
        self._local = local
        self.host = uri.netloc if uri is not None and uri.scheme == "ssh" else None

    def _target(self) -> str | None:
        """What to connect to: not by ssh where there is no need to."""
        if self._uri is None:
            return None
        return self._uri.local if self._local else self._uri.nearest

    def uri(self) -> JobURI:
        """The URI."""
        if self._uri is None:
            with Flux() as handle:
                self._uri = JobURI(handle.attr_get("local-uri"))
        return self._uri

    def ask(self, question: Callable[[Flux], JobURI | None]) -> JobURI | None:
        """The answer of a function that is given a handle on the instance."""
        with Flux(self._target()) as handle:
            return question(handle)

    def parent(self) -> _Place:
        """The instance that runs this one as a job; this one if there is none."""
        uri = self.ask(self._parent_uri)
        return self if uri is None else _Place(uri, self._local)

    def _parent_uri(self, handle: Flux) -> JobURI | None:
        if int(handle.attr_get("instance-level")) == 0:
            return None
        uri = JobURI(handle.attr_get("parent-uri"))
        if self.host is not None and uri.scheme == "local":
            return JobURI(f"ssh://{self.host}{uri.path}")
        return uri

    def root(self) -> _Place:
        """The instance that nobody runs as a job."""
        place = self
        while (parent := place.parent()) is not place:
            place = parent
        return place

    def child(self, word: str, wait: bool) -> _Place:
        """The instance that a job runs. Raises ValueError."""
        return _Place(self.ask(lambda handle: _job_uri(handle, word, wait)), self._local)


def _jobid(word: str) -> int:
    try:
        # By name: this is wanted without the rest of `flux.job`.
        module = import_module("flux.job.JobID")
    except ModuleNotFoundError:
        raise ValueError(f"jobid {word} not found") from None  # nothing here has jobs
    try:
        return int(module.id_parse(word))
    except (OSError, ValueError):
        raise ValueError(f"{word} is not a valid jobid") from None


def _job_uri(handle: Flux, word: str, wait: bool) -> JobURI:
    jobid = _jobid(word)
    try:
        answer = handle.rpc("job-list.list-id", {"id": jobid, "attrs": ["state", "annotations"]}).get()
    except OSError as exc:
        if exc.errno in _UNKNOWN:
            raise ValueError(f"jobid {word} not found") from None
        raise
    job: dict[str, Any] = answer["job"]
    uri = (job.get("annotations", {}).get("user") or {}).get("uri")
    if wait and uri is None and not job["state"] & _ENDED:
        uri = _memo(handle, jobid)
        if uri is None:
            raise ValueError(f"jobid {word} has ended before it had a URI")
    elif job["state"] != _RUN:
        raise ValueError(f"jobid {word} is not running")
    if uri is None:
        raise ValueError(f"URI not found for job {word}")
    return JobURI(uri)


def _memo(handle: Flux, jobid: int) -> str | None:
    """The URI that the job announces; waits for it. None if the job ends first."""
    payload = {"id": jobid, "path": "eventlog", "flags": 0}
    events = handle.rpc("job-info.eventlog-watch", payload, flags=FLUX_RPC_STREAMING)
    while True:
        try:
            event = json.loads(events.get()["event"])
        except OSError as exc:
            if exc.errno == errno.ENODATA:
                return None
            raise
        if event["name"] == "memo" and "uri" in event["context"]:
            return str(event["context"]["uri"])
        if event["name"] == "finish":
            return None
        events.reset()


class URIResolver(URIResolverPlugin):
    """Resolves paths of job ids. Query words: ``wait`` for the URI of a job that has none yet."""

    def describe(self) -> str:
        """For help."""
        return "Get URI for a given Flux JOBID"

    def resolve(self, uri: URIResolverURI) -> JobURI:
        """The instance at the end of the path. Raises ValueError, OSError if an instance cannot be reached."""
        local = "local" in uri.query_dict or "FLUX_URI_RESOLVE_LOCAL" in os.environ
        wait = "wait" in uri.query_dict
        place = _Place(local=local)
        if uri.path.startswith("/"):
            place = place.root()
        for word in uri.path.split("/"):
            if word == "..":
                place = place.parent()
            elif word not in ("", "."):
                place = place.child(word, wait)
        return place.uri()
