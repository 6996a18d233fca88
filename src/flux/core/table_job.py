"""The functions about jobs (spec 02, 9.4; spec 06, sections 1, 2 and 4)."""

from __future__ import annotations

import errno
from importlib import import_module
from typing import Any

from flux.constants import FLUX_JOB_PRE_SIGNED, FLUX_NODEID_ANY
from flux.core.codec import dump_payload
from flux.core.ffi import Chars
from flux.core.flux_t import FluxT
from flux.core.future_state import FutureState
from flux.core.job_names import RESULTS, STATES, UNKNOWN
from flux.core.kinds import HANDLE, INT, OUT, TEXT, UINT64, function
from flux.core.table_future import text_of
from flux.core.table_message import store
from flux.wrapper import local_error


def _name(names: dict[int, tuple[str, str]], value: int, fmt: bytes | None) -> bytes:
    long, short = names.get(value, UNKNOWN)
    text = short if fmt in (b"S", b"s") else long
    return (text.lower() if fmt in (b"l", b"s") else text).encode()


def _number(names: dict[int, tuple[str, str]], text: bytes | None) -> int:
    for value, spellings in names.items():
        if text is not None and text_of(text) in (*spellings, *(name.lower() for name in spellings)):
            return value
    raise local_error(errno.EINVAL)


@function("flux_job_statetostr", INT, TEXT)
def _statetostr(state: int, fmt: bytes | None) -> bytes:
    return _name(STATES, state, fmt)


@function("flux_job_resulttostr", INT, TEXT)
def _resulttostr(result: int, fmt: bytes | None) -> bytes:
    return _name(RESULTS, result, fmt)


@function("flux_job_strtostate", TEXT, OUT, failure=-1)
def _strtostate(text: bytes | None, out: Any) -> int:
    return store(out, _number(STATES, text))


@function("flux_job_strtoresult", TEXT, OUT, failure=-1)
def _strtoresult(text: bytes | None, out: Any) -> int:
    return store(out, _number(RESULTS, text))


@function("flux_job_id_parse", TEXT, OUT, failure=-1)
def _id_parse(text: bytes | None, out: Any) -> int:
    if text is None:
        raise local_error(errno.EINVAL)
    # Loaded by name: few programs that use a handle use this, and the job modules are not small.
    return store(out, int(import_module("flux.job.JobID").id_parse(text_of(text))))


@function("flux_job_kvs_key", OUT, INT, UINT64, TEXT, failure=-1)
def _kvs_key(buffer: Any, size: int, jobid: int, key: bytes | None) -> int:
    digits = f"{jobid:016x}"
    path = b"job." + ".".join(digits[i : i + 4] for i in range(0, 16, 4)).encode()
    if key is not None:
        path += b"." + key
    if not isinstance(buffer, Chars):
        raise local_error(errno.EINVAL)
    if len(path) >= min(size, len(buffer)):
        raise local_error(errno.EOVERFLOW)
    buffer[: len(path) + 1] = path + b"\0"
    return len(path)


@function("flux_job_submit", HANDLE, TEXT, INT, INT)
def _submit(ctx: FluxT, jobspec: bytes | None, urgency: int, flags: int) -> FutureState:
    if jobspec is None:
        raise local_error(errno.EINVAL)
    # As above: loaded by name.
    signing = import_module("flux.job._sign")
    plain = flags & ~FLUX_JOB_PRE_SIGNED
    if plain != flags:
        request = dump_payload({"J": text_of(jobspec), "urgency": urgency, "flags": plain})
    else:
        request = signing.payload(jobspec, urgency, flags)
    return ctx.rpc(b"job-ingest.submit", request, FLUX_NODEID_ANY, 0)


@function("flux_job_raise", HANDLE, UINT64, TEXT, INT, TEXT)
def _raise(ctx: FluxT, jobid: int, kind: bytes | None, severity: int, note: bytes | None) -> FutureState:
    if kind is None:
        raise local_error(errno.EINVAL)
    # Ids are signed on the wire, so that FLUX_JOBID_ANY is -1 (spec 06, 1.1).
    signed_id = jobid - (1 << 64) if jobid >> 63 else jobid
    request: dict[str, Any] = {"id": signed_id, "severity": severity, "type": text_of(kind)}
    if note is not None:
        request["note"] = text_of(note)
    return ctx.rpc(b"job-manager.raise", dump_payload(request), FLUX_NODEID_ANY, 0)
