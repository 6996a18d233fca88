"""The module `config`: the instance's configuration, and how it changes (spec 03, 10.3).

A change is made everywhere or nowhere: every module is offered the new configuration (RPC `NAME.config-reload`)
and may refuse it; then those that have taken it are given the old one again. Changes wait for each other.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from syslog import LOG_ERR
from typing import Any

from flux.brokermod import request_handler
from flux.constants import FLUX_MSGFLAG_NORESPONSE, FLUX_MSGFLAG_STREAMING
from flux.core.codec import dump_payload
from flux.core.coroutine import spawn
from flux.core.handle import Flux
from flux.message import Message
from fluxlet.broker import configuration
from fluxlet.broker.broker import Broker
from fluxlet.payload import read_object
from fluxlet.service import Service, check_no_payload, may_end

Configuration = dict[str, Any]


class Config(Service):
    """Serves `broker.config`."""

    def __init__(self, handle: Flux, broker: Broker) -> None:
        super().__init__(handle, broker)
        self.watchers: list[Message] = []
        self._changes: deque[tuple[Message, Callable[[], Configuration]]] = deque()

    def stop_service(self) -> None:
        """Nobody will hear of changes any more."""
        self.abandon(self.watchers)
        self.abandon(msg for msg, _ in self._changes)

    @request_handler("get", allow_guest=True)
    def get(self, msg: Message) -> None:
        """Answers the whole object; in a stream again after every change."""
        check_no_payload(msg)
        self.handle.respond(msg, self.broker.config)
        if msg.flags & FLUX_MSGFLAG_STREAMING and not msg.flags & FLUX_MSGFLAG_NORESPONSE:
            self.watchers.append(msg)

    @request_handler("disconnect", allow_guest=True)
    def disconnect(self, msg: Message) -> None:
        """A client has gone: it watches no more."""
        self.watchers = [request for request in self.watchers if not may_end(request, msg)]

    @request_handler("load")
    def load(self, msg: Message) -> None:
        """Payload: the new configuration, the whole object."""
        try:
            config = read_object(msg)
        except OSError:
            raise OSError(errno.EPROTO, "error decoding config.load request") from None
        self._change(msg, lambda: config)

    @request_handler("reload")
    def reload(self, msg: Message) -> None:
        """Reads the file or directory of attribute `config.path` again; nothing to do without one."""
        check_no_payload(msg)
        self._change(msg, self._read_again)

    def _read_again(self) -> Configuration:
        path = self.broker.attributes.visible.get("config.path")
        if path is None:
            return self.broker.config
        try:
            return configuration.load(path, [])
        except configuration.ConfigError as exc:
            raise OSError(errno.EINVAL, str(exc)) from None

    def _change(self, msg: Message, config: Callable[[], Configuration]) -> None:
        self._changes.append((msg, config))
        if len(self._changes) == 1:
            spawn(self.handle, self._work())

    async def _work(self) -> None:
        """Makes the changes that are asked for, one after the other."""
        while self._changes:
            msg, config = self._changes[0]
            try:
                await self._update(config())
            except OSError as exc:
                self.handle.respond_error(msg, exc.errno or errno.EIO, exc.strerror)
            else:
                self.handle.respond(msg)
            self._changes.popleft()

    async def _update(self, config: Configuration) -> None:
        old = self.broker.config
        # As text: to Python, 1 and True are equal.
        if dump_payload(config) == dump_payload(old):
            return
        updated: list[str] = []
        for name in self._modules():
            try:
                await self.handle.rpc(f"{name}.config-reload", config)
            except OSError as exc:
                if exc.errno == errno.ENOSYS:
                    continue
                await self._restore(updated, old)
                raise OSError(exc.errno, f"error updating {name}: {exc.strerror}") from None
            updated.append(name)
        self.broker.config = config
        for request in tuple(self.watchers):
            self.handle.respond(request, config)

    async def _restore(self, names: list[str], config: Configuration) -> None:
        for name in names:
            try:
                await self.handle.rpc(f"{name}.config-reload", config)
            except OSError as exc:
                text = f"error restoring the configuration of {name}: {exc.strerror}"
                self.broker.log.write(LOG_ERR, text, "config")

    def _modules(self) -> list[str]:
        """Who is asked: all that have the method, in the order of their loading."""
        modules = self.broker.modules.values()
        return [module.name for module in modules if module.has_standard_methods and module is not self.module]
