"""A built-in module that nobody has asked for anything: its code is read when somebody does.

Most instances run one program, and are gone. What it costs to have all modules ready for them is mostly the reading of
code; for those that have nothing to do until they are asked, this saves it.

Rules:
- From outside it is a module that runs: it is listed, and serves its name.
- It wakes with the first message for it, of whatever kind. What subscribes to events when it is made cannot sleep.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from flux.brokermod import BrokerModule
from flux.constants import FLUX_MSGFLAG_NORESPONSE, FLUX_MSGTYPE_REQUEST
from flux.message import Message
from fluxlet.broker.host import Module


class SleepingModule(Module):
    """See the module. When it has awoken it is a Module. Arguments: as of LoadedModule."""

    def start(
        self,
        factory: Callable[..., BrokerModule],
        args: tuple[str, ...] = (),
        started: Callable[[OSError | None], None] | None = None,
    ) -> None:
        """As `Module.start`, but that `factory` is called later."""
        self._factory = factory
        self._args = args
        self.attach()
        self._started = started
        self._runs()

    def deliver(self, message: Message) -> None:
        """Wakes the module, and hands it the message."""
        self.__class__ = Module  # type: ignore[assignment]  # from now on that is what it is, at no cost
        self._redirect()
        try:
            Module.start(self, self._factory, self._args)
        except OSError as exc:
            self.failed(exc)
            if message._type == FLUX_MSGTYPE_REQUEST and not message.flags & FLUX_MSGFLAG_NORESPONSE:
                self.flux.respond_error(message, exc.errno or errno.EIO, exc.strerror)
            return
        self.deliver(message)
