"""What the KVS holds of jobs, by way of job-info, which may show it to the jobs' owners (spec 08, 1.2 and 3.1)."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from typing import Any

from flux.constants import FLUX_JOB_LOOKUP_CURRENT
from flux.core.handle import Flux
from flux.future import WaitAllFuture
from flux.job import _sign
from flux.job._requests import wire_id
from flux.job.JobID import JobID
from flux.rpc import RPC

__all__ = [
    "JobInfoLookupRPC",
    "JobKVSLookup",
    "JobKVSLookupFuture",
    "decode_special_data",
    "job_info_lookup",
    "job_kvs_lookup",
]

_DECODED = ("jobspec", "R")


def decode_special_data(data: dict[str, Any]) -> dict[str, Any]:
    """Decodes `jobspec` and `R` of an answer, in place, and returns it; what is no JSON stays text."""
    for key in _DECODED:
        if isinstance(data.get(key), str):
            try:
                data[key] = json.loads(data[key])
            except ValueError:
                continue
    return data


class JobInfoLookupRPC(RPC):
    """The RPC of `job_info_lookup`; `jobid` is that function's argument."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.jobid: Any = None

    def get(self) -> dict[str, Any]:
        """Waits; the values by key, and the job's `id`. Raises FileNotFoundError for an unknown job, or key."""
        found: dict[str, Any] = super().get()
        return found

    def get_decode(self) -> dict[str, Any]:
        """As `get`; `jobspec` and `R` are decoded."""
        return decode_special_data(self.get())


def job_info_lookup(
    flux_handle: Flux,
    jobid: Any,
    keys: Iterable[str] = ["jobspec"],
    flags: int = 0,  # never changed
) -> JobInfoLookupRPC:
    """Asks for values of the KVS directory of a job.

    Args:
        keys: below that directory: ``jobspec``, ``R``, ``J``, ``eventlog``, ``guest.output``, ...
        flags: FLUX_JOB_LOOKUP_CURRENT: with the updates since the submission; FLUX_JOB_LOOKUP_JSON_DECODE.
    """
    payload = {"id": wire_id(jobid), "keys": list(keys), "flags": flags}
    rpc = JobInfoLookupRPC(flux_handle, "job-info.lookup", payload)
    rpc.jobid = jobid
    return rpc


class _Wanted:
    """The keys to ask for, and how to make of the answer what the caller wants."""

    def __init__(self, keys: Iterable[str], decode: bool, original: bool, base: bool) -> None:
        wanted = list(keys)
        self.decode = decode
        self.original = original and "jobspec" in wanted
        self.keep_j = "J" in wanted
        if self.original:
            wanted = ["J" if key == "jobspec" else key for key in wanted]
        self.keys = list(dict.fromkeys(wanted))
        self.flags = 0 if base else FLUX_JOB_LOOKUP_CURRENT

    def ask(self, handle: Flux, jobid: Any) -> JobInfoLookupRPC:
        return job_info_lookup(handle, jobid, self.keys, self.flags)

    def result(self, data: dict[str, Any]) -> dict[str, Any]:
        if self.original:
            data["jobspec"] = _sign.jobspec_of(data["J"]).decode("utf-8", "surrogateescape")
            if not self.keep_j:
                del data["J"]
        return decode_special_data(data) if self.decode else data


def job_kvs_lookup(
    flux_handle: Flux,
    jobid: Any,
    keys: Iterable[str] = ["jobspec"],  # never changed
    decode: bool = True,
    original: bool = False,
    base: bool = False,
) -> dict[str, Any] | None:
    """The values of keys of a job, with its `id`; None if there is no such job, or no such key.

    Args:
        keys: see `job_info_lookup`.
        decode: decode `jobspec` and `R`.
        original: the jobspec as it was submitted, environment and all.
        base: as they were at first: updates since the submission are not applied.
    """
    wanted = _Wanted(keys, decode, original, base)
    try:
        return wanted.result(wanted.ask(flux_handle, jobid).get())
    except FileNotFoundError:
        return None


class JobKVSLookupFuture(WaitAllFuture):
    """The future of `JobKVSLookup.fetch_data`.

    Attributes:
        errors: a sentence for each job that could not be looked up, once the results were asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []

    def _collect(self, decode: bool) -> list[dict[str, Any]]:
        self.errors = []
        found = []
        for child in self.children:
            assert isinstance(child, JobInfoLookupRPC)
            try:
                found.append(child.get_decode() if decode else child.get())
            except FileNotFoundError:
                self.errors.append(f"JobID {_as_given(child.jobid)} unknown")
            except OSError as exc:
                self.errors.append(f"rpc: {exc.strerror or os.strerror(exc.errno or errno.EIO)}")
        return found

    def get(self) -> list[dict[str, Any]]:
        """Waits; the values of those jobs that were found."""
        return self._collect(False)

    def get_decode(self) -> list[dict[str, Any]]:
        """As `get`; `jobspec` and `R` are decoded."""
        return self._collect(True)


def _as_given(jobid: Any) -> str:
    return jobid.orig_str if isinstance(jobid, JobID) else str(jobid)


class JobKVSLookup:
    """Values of the KVS directories of several jobs.

    Args:
        ids: of jobs, anything that JobID takes.
        keys, decode, original, base: as for `job_kvs_lookup`.

    Attributes:
        errors: a sentence for each job that was not found, after `data`.
    """

    def __init__(
        self,
        flux_handle: Flux,
        ids: Iterable[Any] = [],  # never changed
        keys: Iterable[str] = ["jobspec"],  # never changed
        decode: bool = True,
        original: bool = False,
        base: bool = False,
    ) -> None:
        self.handle = flux_handle
        self.ids = [JobID(jobid) for jobid in ids]
        self._wanted = _Wanted(keys, decode, original, base)
        self.errors: list[str] = []

    def fetch_data(self) -> JobKVSLookupFuture:
        """Asks for all of them at once."""
        future = JobKVSLookupFuture()
        for jobid in self.ids:
            future.push(self._wanted.ask(self.handle, jobid))
        return future

    def data(self) -> list[dict[str, Any]]:
        """The values of those jobs that were found; `errors` says which were not."""
        future = self.fetch_data()
        found = [self._wanted.result(entry) for entry in future.get()]
        self.errors = future.errors
        return found
