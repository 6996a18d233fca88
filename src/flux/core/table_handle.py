"""The functions about handles (spec 02, 9.2; api.json `dynamic`).

Those of opening, closing and counting handles; attributes; sending and receiving; events and services; what a
broker module may ask of its handle.
"""

from __future__ import annotations

import base64
import errno
import syslog
from typing import Any, Protocol

from flux.constants import (
    FLUX_MSGFLAG_NORESPONSE,
    FLUX_MSGFLAG_PRIVATE,
    FLUX_NODEID_ANY,
    FLUX_NODEID_UPSTREAM,
    FLUX_O_NONBLOCK,
    FLUX_O_RPCTRACK,
    FLUX_O_TRACE,
)
from flux.core import log
from flux.core.codec import dump_payload, load_text
from flux.core.dispatch import Match
from flux.core.ffi import ffi
from flux.core.flux_t import FluxT
from flux.core.future_state import FutureState
from flux.core.kinds import (
    BOOL,
    DOUBLE,
    HANDLE,
    INT,
    MATCH,
    MESSAGE,
    OUT,
    POINTER,
    REACTOR,
    TEXT,
    UINT32,
    function,
    pointer_to,
)
from flux.core.table_future import text_of
from flux.core.table_message import store
from flux.message import Message, terminated
from flux.reactor import Reactor
from flux.wrapper import local_error, strerror

_SENDER_FLAGS = FLUX_O_NONBLOCK
_MODULE_RUNNING = 1


def _required(text: bytes | None) -> bytes:
    if text is None:
        raise local_error(errno.EINVAL)
    return text


# Opening and closing.


@function("flux_open", TEXT, INT)
def _open(uri: bytes | None, flags: int) -> FluxT:
    from flux.core.handle import open_handle

    return open_handle(uri, flags)


@function("flux_close", HANDLE)
@function("flux_decref", HANDLE)
def _decref(ctx: FluxT) -> None:
    ctx.decref()


@function("flux_incref", HANDLE)
def _incref(ctx: FluxT) -> FluxT:
    return ctx.incref()


@function("flux_clone", HANDLE)
def _clone(ctx: FluxT) -> FluxT:
    return ctx.clone()


@function("flux_reconnect", HANDLE, failure=-1)
def _reconnect(ctx: FluxT) -> int:
    ctx.reconnect()
    return 0


@function("flux_flags_get", HANDLE)
def _flags_get(ctx: FluxT) -> int:
    return ctx.link.flags


@function("flux_flags_set", HANDLE, INT)
def _flags_set(ctx: FluxT, flags: int) -> None:
    from flux.connector.trace import TraceConnector

    link = ctx.link
    # Tracking has to know of every RPC from the first on, so it can only be asked for when opening.
    link.flags |= flags & ~FLUX_O_RPCTRACK
    if link.flags & FLUX_O_TRACE and not isinstance(link.connector, TraceConnector):
        link.connector = TraceConnector(link.connector)


@function("flux_flags_unset", HANDLE, INT)
def _flags_unset(ctx: FluxT, flags: int) -> None:
    from flux.connector.trace import TraceConnector

    link = ctx.link
    link.flags &= ~flags | FLUX_O_RPCTRACK
    if not link.flags & FLUX_O_TRACE and isinstance(link.connector, TraceConnector):
        link.connector = link.connector.inner


# The loop.


@function("flux_get_reactor", HANDLE)
def _get_reactor(ctx: FluxT) -> Reactor:
    return ctx.reactor


@function("flux_set_reactor", HANDLE, REACTOR, failure=-1)
def _set_reactor(ctx: FluxT, reactor: Reactor) -> int:
    ctx.set_reactor(reactor)
    return 0


@function("flux_pollfd", HANDLE, failure=-1)
def _pollfd(ctx: FluxT) -> int:
    return ctx.pollfd()


@function("flux_pollevents", HANDLE, failure=-1)
def _pollevents(ctx: FluxT) -> int:
    return ctx.pollevents()


# Attributes.


@function("flux_attr_get", HANDLE, TEXT)
def _attr_get(ctx: FluxT, name: bytes | None) -> bytes:
    return ctx.attr_get(str(text_of(_required(name)))).encode("utf-8", "surrogateescape")


def _number(ctx: FluxT, name: str, out: Any) -> int:
    """An attribute that is a number: stored, or returned where no place for it was given."""
    value = int(ctx.attr_get(name))
    return value if out is None else store(out, value)


@function("flux_get_size", HANDLE, OUT, optional=1, failure=-1)
def _get_size(ctx: FluxT, out: Any = None) -> int:
    return _number(ctx, "size", out)


@function("flux_get_rank", HANDLE, OUT, optional=1, failure=-1)
def _get_rank(ctx: FluxT, out: Any = None) -> int:
    return _number(ctx, "rank", out)


@function("flux_get_instance_starttime", HANDLE, OUT, optional=1, failure=-1)
def _get_instance_starttime(ctx: FluxT, out: Any = None) -> int | float:
    name = "broker.starttime"
    if ctx.link.connector.attributes is not None:
        text: Any = ctx.attr_get(name)
    else:
        answer = load_text(ctx.call("attr.get", {"name": name}, 0).text_bytes() or b"")
        text = answer["value"]
    return float(text) if out is None else store(out, float(text))


@function("flux_get_hostbyrank", HANDLE, UINT32)
def _get_hostbyrank(ctx: FluxT, rank: int) -> bytes:
    if rank == FLUX_NODEID_ANY:
        return b"any"
    if rank == FLUX_NODEID_UPSTREAM:
        return b"upstream"
    hosts = _hosts(ctx)
    return hosts[rank].encode() if rank < len(hosts) else b"(null)"


@function("flux_get_rankbyhost", HANDLE, TEXT, failure=-1)
def _get_rankbyhost(ctx: FluxT, host: bytes | None) -> int:
    name = str(text_of(_required(host)))
    hosts = _hosts(ctx)
    if name not in hosts:
        raise local_error(errno.ENOENT)
    return hosts.index(name)


def _hosts(ctx: FluxT) -> list[str]:
    from flux.hostlist import Hostlist

    return [str(host) for host in Hostlist(ctx.attr_get("hostlist"))]


# Messages.


@function("flux_send", HANDLE, MESSAGE, INT, failure=-1)
def _send(ctx: FluxT, message: Message, flags: int) -> int:
    if flags & ~_SENDER_FLAGS:
        raise local_error(errno.EINVAL)
    ctx.send(message, bool(flags))
    return 0


@function("flux_recv", HANDLE, MATCH, INT)
def _recv(ctx: FluxT, match: Match, flags: int) -> Message:
    if flags & ~_SENDER_FLAGS:
        raise local_error(errno.EINVAL)
    return ctx.recv(match, bool(flags))


@function("flux_requeue", HANDLE, MESSAGE, INT, failure=-1)
def _requeue(ctx: FluxT, message: Message, flags: int) -> int:
    ctx.requeue(message, flags)
    return 0


@function("flux_respond", HANDLE, MESSAGE, TEXT, failure=-1)
def _respond(ctx: FluxT, request: Message, payload: bytes | None) -> int:
    if not request.flags & FLUX_MSGFLAG_NORESPONSE:
        ctx.send(request.response(terminated(payload)))
    return 0


@function("flux_respond_error", HANDLE, MESSAGE, INT, TEXT, optional=1, failure=-1)
def _respond_error(ctx: FluxT, request: Message, errnum: int, text: bytes | None = None) -> int:
    if not request.flags & FLUX_MSGFLAG_NORESPONSE:
        ctx.send(request.response(terminated(text), errnum or errno.EINVAL))
    return 0


@function("flux_rpc", HANDLE, TEXT, TEXT, UINT32, INT)
def _rpc(ctx: FluxT, topic: bytes | None, payload: bytes | None, nodeid: int, flags: int) -> FutureState:
    return ctx.rpc(_required(topic), terminated(payload), nodeid, flags)


@function("flux_matchtag_alloc", HANDLE, failure=0)
def _matchtag_alloc(ctx: FluxT) -> int:
    return ctx.link.alloc_tag()


@function("flux_matchtag_free", HANDLE, UINT32)
def _matchtag_free(ctx: FluxT, tag: int) -> None:
    ctx.link.free_tag(tag)


@function("flux_matchtag_avail", HANDLE)
def _matchtag_avail(ctx: FluxT) -> int:
    return ctx.link.tags_available


# Events and services.


@function("flux_event_subscribe", HANDLE, TEXT, failure=-1)
def _event_subscribe(ctx: FluxT, topic: bytes | None) -> int:
    ctx.subscribe(_required(topic), True)
    return 0


@function("flux_event_unsubscribe", HANDLE, TEXT, failure=-1)
def _event_unsubscribe(ctx: FluxT, topic: bytes | None) -> int:
    ctx.subscribe(_required(topic), False)
    return 0


def _subscription(ctx: FluxT, method: bytes, topic: bytes | None, flags: int) -> FutureState:
    name = _required(topic)
    if flags:
        raise local_error(errno.EINVAL)
    if not ctx.subscribes:
        state = FutureState()
        state.ctx = ctx
        state.fulfil(None)
        return state
    return ctx.rpc(method, dump_payload({"topic": text_of(name)}), FLUX_NODEID_ANY, 0)


@function("flux_event_subscribe_ex", HANDLE, TEXT, INT)
def _event_subscribe_ex(ctx: FluxT, topic: bytes | None, flags: int) -> FutureState:
    return _subscription(ctx, b"event.subscribe", topic, flags)


@function("flux_event_unsubscribe_ex", HANDLE, TEXT, INT)
def _event_unsubscribe_ex(ctx: FluxT, topic: bytes | None, flags: int) -> FutureState:
    return _subscription(ctx, b"event.unsubscribe", topic, flags)


@function("flux_event_publish", HANDLE, TEXT, INT, TEXT)
def _event_publish(ctx: FluxT, topic: bytes | None, flags: int, payload: bytes | None) -> FutureState:
    if flags & ~FLUX_MSGFLAG_PRIVATE:
        raise local_error(errno.EINVAL)
    request: dict[str, Any] = {"topic": text_of(_required(topic)), "flags": flags}
    raw = terminated(payload)
    if raw is not None:
        request["payload"] = base64.b64encode(raw).decode()
    return ctx.rpc(b"event.publish", dump_payload(request), 0, 0)


@function("flux_service_register", HANDLE, TEXT)
def _service_register(ctx: FluxT, name: bytes | None) -> FutureState:
    request = {"service": text_of(_required(name))}
    return ctx.rpc(b"service.add", dump_payload(request), FLUX_NODEID_ANY, 0)


@function("flux_service_unregister", HANDLE, TEXT)
def _service_unregister(ctx: FluxT, name: bytes | None) -> FutureState:
    request = {"service": text_of(_required(name))}
    return ctx.rpc(b"service.remove", dump_payload(request), FLUX_NODEID_ANY, 0)


@function("flux_sync_create", HANDLE, DOUBLE)
def _sync_create(ctx: FluxT, minimum: float) -> FutureState:
    from flux.core.sync import SyncState

    return SyncState(ctx, minimum)


# Log.


@function("flux_log", HANDLE, INT, TEXT, failure=-1)
def _log(ctx: FluxT, level: int, text: bytes | None) -> int:
    log.append(ctx, level, _required(text))
    return 0


@function("flux_log_error", HANDLE, TEXT)
def _log_error(ctx: FluxT, text: bytes | None) -> None:
    log.append(ctx, syslog.LOG_ERR, _required(text) + f": {strerror(ffi.errno)}".encode())


@function("flux_log_set_appname", HANDLE, TEXT)
def _log_set_appname(ctx: FluxT, name: bytes | None) -> None:
    log.identity(ctx).appname = text_of(name)


@function("flux_log_set_procid", HANDLE, TEXT)
def _log_set_procid(ctx: FluxT, procid: bytes | None) -> None:
    log.identity(ctx).procid = text_of(procid)


@function("flux_log_set_hostname", HANDLE, TEXT)
def _log_set_hostname(ctx: FluxT, name: bytes | None) -> None:
    log.identity(ctx).hostname = text_of(name)


# What others attach to a handle; broker modules.


class ModuleState(Protocol):
    """What a handle inside the broker knows of its module, under the name ``fluxlet::module``."""

    status: int
    debug_flags: int


@function("flux_aux_get", HANDLE, TEXT)
def _aux_get(ctx: FluxT, name: bytes | None) -> Any:
    value = ctx.aux.get(_required(name))
    return None if value is None else pointer_to(value)


@function("flux_aux_set", HANDLE, TEXT, POINTER, POINTER, failure=-1)
def _aux_set(ctx: FluxT, name: bytes | None, value: Any, free_fn: Any) -> int:
    if value is None:
        ctx.aux.pop(_required(name), None)
    else:
        ctx.aux[_required(name)] = value
    return 0


def _module(ctx: FluxT) -> ModuleState:
    module: Any = ctx.aux.get(b"fluxlet::module")
    if module is None:
        raise local_error(errno.EINVAL)  # a handle of a program, not of a module
    state: ModuleState = module
    return state


@function("flux_module_set_running", HANDLE, failure=-1)
def _module_set_running(ctx: FluxT) -> int:
    _module(ctx).status = _MODULE_RUNNING
    return 0


@function("flux_module_debug_test", HANDLE, INT, BOOL, failure=False)
def _module_debug_test(ctx: FluxT, flag: int, clear: bool) -> bool:
    if ctx.aux.get(b"fluxlet::module") is None:
        return False
    module = _module(ctx)
    found = bool(module.debug_flags & flag)
    if clear:
        module.debug_flags &= ~flag
    return found
