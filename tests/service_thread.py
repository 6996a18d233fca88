"""A service for tests of blocking calls: a handle and its reactor in a thread of this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import flux
from flux.constants import FLUX_MSGTYPE_REQUEST
from flux.message import Message


@contextmanager
def serving(uri: str, name: str, handler: Callable[[flux.Flux, Message], Any]) -> Iterator[None]:
    """Has ``handler(handle, message)``, which may be `async def`, called in a thread for the requests ``NAME.*``.

    On leaving, raises what the handler has raised.
    """
    ready = threading.Event()
    failure: list[BaseException] = []

    def dispatch(handle: flux.Flux, watcher: Any, message: Message, args: Any) -> Any:
        if message.topic == f"{name}.quit":
            handle.respond(message)
            handle.reactor_stop()
            return None
        return handler(handle, message)

    def main() -> None:
        try:
            with flux.Flux(uri) as handle:
                handle.msg_watcher_create(dispatch, FLUX_MSGTYPE_REQUEST, f"{name}.*").start()
                handle.service_register(name).get()
                ready.set()
                handle.reactor_run()
        except BaseException as exc:  # noqa: BLE001  # raised in the test's thread
            failure.append(exc)
        finally:
            ready.set()

    thread = threading.Thread(target=main, name=name)
    thread.start()
    ready.wait()
    try:
        yield
    finally:
        if thread.is_alive() and not failure:
            with flux.Flux(uri) as handle:
                handle.rpc(f"{name}.quit").wait_for(60.0)
        thread.join(60.0)
    if failure:
        raise failure[0]
