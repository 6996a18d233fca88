"""Hello: at its start a scheduler learns which jobs hold resources, and which (spec 07, 3.1 and 3.6)."""

from __future__ import annotations

import errno
from binascii import a2b_base64
from collections.abc import Callable
from typing import Any

import msgspec

from flux.constants import FLUX_RPC_NORESPONSE, FLUX_RPC_STREAMING
from flux.core import fluid
from flux.core.codec import dump_payload
from flux.core.future_state import RpcState
from flux.message import Message
from flux.resource._pool import Grant, Pool, bits
from fluxlet.modules.sched.requests import Execution, HeldR, HelloResponse
from fluxlet.modules.sched.texts import bits_of, summary
from fluxlet.payload import UNREADABLE
from fluxlet.service import Service

_held_r = msgspec.json.Decoder(HeldR).decode
_hello = msgspec.json.Decoder(HelloResponse).decode


def grants_of(execution: Execution) -> dict[int, Grant]:
    """What R says that somebody has, by rank. Raises ValueError."""
    grants: dict[int, Grant] = {}
    for group in execution.R_lite:
        cores, gpus = bits_of(group.children.core), bits_of(group.children.gpu)
        for rank in bits(bits_of(group.rank)):
            grants[rank] = Grant(rank, cores, gpus)
    return grants


def say_hello(service: Service, pool: Pool, partial_ok: bool, then: Callable[[], None]) -> None:
    """Asks the job manager, and gives the jobs in the pool what they hold; calls `then` when all have it.

    Args:
        service: asks on our behalf.
        pool: the resources.
        partial_ok: jobs may be named that have given back a part.
        then: not called if there is no job manager, or if that fails.

    A job that holds what there is not, or what another one holds, fails with an exception.
    """
    left = 1  # the list itself, and each job of it whose R is being read

    def done() -> None:
        nonlocal left
        left -= 1
        if not left:
            then()

    def answered(future: Any) -> None:
        nonlocal left
        try:
            held = _hello(future.get_str() or "{}")
        except OSError as exc:
            if exc.errno == errno.ENODATA:
                done()
            elif exc.errno == errno.ENOSYS:
                service.log.debug("there is no job manager whose jobs are to be scheduled")
            else:
                service.log.error(f"job-manager.sched-hello: {exc.strerror}")
            return
        future.reset()
        left += 1

        def looked_up(state: RpcState) -> None:
            _take(service, pool, held, state)
            done()

        raw = dump_payload({"key": f"{fluid.kvs(held.id)}.R", "namespace": "primary", "flags": 0})
        service.ask(b"kvs.lookup", raw, looked_up)

    payload = {"partial-ok": partial_ok}
    service.handle.rpc("job-manager.sched-hello", payload, flags=FLUX_RPC_STREAMING).then(answered)


def _take(service: Service, pool: Pool, held: HelloResponse, state: RpcState) -> None:
    """R of a job that holds resources has been read."""
    try:
        if state.errnum:
            raise ValueError(state.error_text())
        assert isinstance(state.value, Message)
        execution = _held_r(a2b_base64(state.value.payload["val"]["data"])).execution
        grants = grants_of(execution)
        for rank in bits(bits_of(held.free)):
            grants.pop(rank, None)
    except (ValueError, *UNREADABLE) as exc:
        _fail(service, held.id, exc)
    else:
        hold(service, pool, held.id, grants, execution.expiration)


def hold(service: Service, pool: Pool, jobid: int, grants: dict[int, Grant], expiration: float) -> None:
    """A job keeps what it holds. If it cannot, since that is not there or another job's, it fails with an exception."""
    try:
        missing = [rank for rank in grants if not pool.ranks >> rank & 1]
        if missing:
            raise ValueError(f"allocation contains ranks not in resource pool: {missing}")
        pool.allocate(jobid, grants.values(), expiration)
    except ValueError as exc:
        _fail(service, jobid, exc)
    else:
        service.log.debug(f"hello: {fluid.f58(jobid)} alloc {summary(tuple(grants.values()))}")


def _fail(service: Service, jobid: int, error: Exception) -> None:
    service.log.error(f"hello: {fluid.f58(jobid)}: {error}")
    note = "failed to reallocate R for running job"
    payload = {"id": jobid, "type": "scheduler-restart", "severity": 0, "note": note}
    service.handle.rpc("job-manager.raise", payload, flags=FLUX_RPC_NORESPONSE)
