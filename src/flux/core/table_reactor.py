"""The functions about reactors and message handlers (spec 02, 9.2; api.json `dynamic`)."""

from __future__ import annotations

import time

from flux.constants import FLUX_ROLE_OWNER
from flux.core.dispatch import Handler
from flux.core.kinds import HANDLER, INT, REACTOR, UINT32, function
from flux.reactor import Reactor


@function("flux_reactor_run", REACTOR, INT, failure=-1)
def _reactor_run(reactor: Reactor, flags: int) -> int:
    return reactor.run(flags)


@function("flux_reactor_stop", REACTOR)
def _reactor_stop(reactor: Reactor) -> None:
    reactor.stop()


@function("flux_reactor_stop_error", REACTOR)
def _reactor_stop_error(reactor: Reactor) -> None:
    reactor.stop_error()


@function("flux_reactor_now", REACTOR)
def _reactor_now(reactor: Reactor) -> float:
    return reactor.now()


@function("flux_reactor_time")
def _reactor_time() -> float:
    return time.time()


@function("flux_msg_handler_allow_rolemask", HANDLER, UINT32)
def _allow_rolemask(handler: Handler, rolemask: int) -> None:
    handler.rolemask = rolemask | FLUX_ROLE_OWNER
