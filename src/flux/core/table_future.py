"""The functions about futures: `flux_future_*`, `flux_rpc_*` (spec 02, 9.3; api.json `dynamic`)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from flux.core.codec import load_text
from flux.core.flux_t import FluxT
from flux.core.future_state import CompositeState, FutureState, RpcState
from flux.core.kinds import (
    CALLBACK,
    DOUBLE,
    FUTURE,
    HANDLE,
    INT,
    OUT,
    POINTER,
    REACTOR,
    TEXT,
    function,
    pointer_to,
)
from flux.core.table_message import store
from flux.message import Message
from flux.reactor import Reactor
from flux.wrapper import local_error


def text_of(value: bytes | None) -> str | None:
    """A text argument as `str`."""
    return None if value is None else value.decode("utf-8", "surrogateescape")


def result(state: FutureState) -> Any:
    """Waits, and returns the value; raises the future's error."""
    state.wait(-1.0)
    state.raise_error()
    return state.value


@function("flux_future_create", CALLBACK, POINTER)
def _create(init: Callable[[FutureState, Any], Any] | None, arg: Any) -> FutureState:
    state = FutureState()
    if init is not None:
        state.init = lambda: init(state, arg)
    return state


@function("flux_future_destroy", FUTURE)
def _destroy(state: FutureState) -> None:
    state.destroy()


@function("flux_future_incref", FUTURE)
@function("flux_future_decref", FUTURE)
def _count(state: FutureState) -> None:
    """Python counts the references by itself."""


# Fulfilment.


@function("flux_future_fulfill", FUTURE, POINTER, POINTER)
def _fulfill(state: FutureState, value: Any, free_fn: Any) -> None:
    state.fulfil(value)  # nothing to free: Python does


@function("flux_future_fulfill_error", FUTURE, INT, TEXT)
def _fulfill_error(state: FutureState, errnum: int, text: bytes | None) -> None:
    state.fulfil(None, errnum, text_of(text))


@function("flux_future_fatal_error", FUTURE, INT, TEXT)
def _fatal_error(state: FutureState, errnum: int, text: bytes | None) -> None:
    state.fail(errnum, text_of(text))


@function("flux_future_fulfill_with", FUTURE, FUTURE, failure=-1)
def _fulfill_with(state: FutureState, other: FutureState) -> int:
    if not other.ready:
        raise local_error(errno.EAGAIN)
    state.fulfil(other.value, other.errnum, other.errtext)
    return 0


@function("flux_future_reset", FUTURE)
def _reset(state: FutureState) -> None:
    state.reset()


# State.


@function("flux_future_get", FUTURE, OUT, failure=-1)
def _get(state: FutureState, out: Any) -> int:
    return store(out, pointer_to(result(state)))


@function("flux_future_is_ready", FUTURE)
def _is_ready(state: FutureState) -> bool:
    return state.ready


@function("flux_future_has_error", FUTURE)
def _has_error(state: FutureState) -> bool:
    return state.has_error


@function("flux_future_error_string", FUTURE)
def _error_string(state: FutureState) -> bytes | None:
    text = state.error_text()
    return None if text is None else text.encode("utf-8", "surrogateescape")


@function("flux_future_wait_for", FUTURE, DOUBLE, failure=-1)
def _wait_for(state: FutureState, timeout: float) -> int:
    state.wait(timeout)
    return 0


@function("flux_future_then", FUTURE, DOUBLE, CALLBACK, POINTER, failure=-1)
def _then(state: FutureState, timeout: float, callback: Callable[..., Any] | None, arg: Any) -> int:
    if callback is None:
        raise local_error(errno.EINVAL)
    state.then(lambda: callback(state, arg), timeout)
    return 0


# Where it belongs.


@function("flux_future_get_flux", FUTURE)
def _get_flux(state: FutureState) -> FluxT | None:
    return state.current or state.wait_ctx_in_use() or state.ctx


@function("flux_future_set_flux", FUTURE, HANDLE)
def _set_flux(state: FutureState, ctx: FluxT) -> None:
    state.ctx = ctx


@function("flux_future_get_reactor", FUTURE)
def _get_reactor(state: FutureState) -> Reactor:
    if state.ctx is None:
        raise local_error(errno.EINVAL)
    return state.ctx.reactor


@function("flux_future_set_reactor", FUTURE, REACTOR)
def _set_reactor(state: FutureState, reactor: Reactor) -> None:
    # A continuation is called by the loop of the future's handle, so it is that handle which takes the reactor.
    if state.ctx is None:
        raise local_error(errno.EINVAL)
    if state.ctx.reactor is not reactor:
        state.ctx.set_reactor(reactor)


# Composites.


def _composite(state: FutureState) -> CompositeState:
    if not isinstance(state, CompositeState):
        raise local_error(errno.EINVAL)
    return state


@function("flux_future_push", FUTURE, TEXT, FUTURE, failure=-1)
def _push(state: FutureState, name: bytes | None, child: FutureState) -> int:
    composite = _composite(state)
    composite.push(str(len(composite.names)) if name is None else str(text_of(name)), child)
    return 0


@function("flux_future_get_child", FUTURE, TEXT)
def _get_child(state: FutureState, name: bytes | None) -> FutureState:
    if name is None:
        raise local_error(errno.EINVAL)
    child = _composite(state).names.get(str(text_of(name)))
    if child is None:
        raise local_error(errno.ENOENT)
    return child


# RPC.


def _rpc(state: FutureState) -> RpcState:
    if not isinstance(state, RpcState):
        raise local_error(errno.EINVAL)
    return state


@function("flux_rpc_get_matchtag", FUTURE)
def _get_matchtag(state: FutureState) -> int:
    return _rpc(state).matchtag


@function("flux_rpc_get_nodeid", FUTURE)
def _get_nodeid(state: FutureState) -> int:
    return _rpc(state).nodeid


@function("flux_rpc_get", FUTURE, OUT, failure=-1)
def _rpc_get(state: FutureState, out: Any) -> int:
    return store(out, pointer_to(_response(state).text_bytes()))


@function("flux_event_publish_get_seq", FUTURE, OUT, failure=-1)
def _publish_get_seq(state: FutureState, out: Any) -> int:
    answer = load_text(_response(state).text_bytes() or b"{}")
    if not isinstance(answer, dict) or not isinstance(answer.get("seq"), int):
        raise local_error(errno.EPROTO)
    return store(out, answer["seq"])


def _response(state: FutureState) -> Message:
    message = result(state)
    if not isinstance(message, Message):
        raise local_error(errno.EINVAL)  # no RPC, or one that gets no response
    return message
