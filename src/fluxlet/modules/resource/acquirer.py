"""Acquirer: who has acquired the resources, a scheduler, and hears what comes and goes (RFC 28; spec 07, 2.2)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from flux.message import Message
from flux.resource.Rv1Set import Rv1Set
from fluxlet.modules.resource.acquisition import Acquisition
from fluxlet.service import may_end


class Acquirer:
    """See the module.

    Args:
        respond: sends a response of the stream.
        end: ends it, with an errno and a text.
    """

    def __init__(
        self, respond: Callable[[Message, Any], object], end: Callable[[Message, int, str | None], None]
    ) -> None:
        self._respond = respond
        self._end = end
        self._request: Message | None = None  # whose first response has gone out, or will when R is known
        self._acquisition: Acquisition | None = None
        self._muted = False

    @property
    def there(self) -> bool:
        """Somebody has the resources, or will when they are known."""
        return self._request is not None

    def take(self, request: Message) -> None:
        """Somebody wants them. Raises OSError(EBUSY) while somebody has them."""
        if self._request is not None:
            raise OSError(errno.EBUSY, None)
        self._request = request

    def begin(self, usable: Rv1Set, up: int) -> None:
        """Tells what there is: those that jobs may get, and which ranks of them are up, as bits."""
        assert self._request is not None
        self._muted = False
        self._acquisition = Acquisition(usable, up)
        self._respond(self._request, self._acquisition.first())

    def change(self, up: int, gone: int) -> None:
        """These are up now; `gone` are gone for good."""
        if self._acquisition is not None:
            told = self._acquisition.change(up, gone)
            if told is not None:
                self.tell(told)

    def tell(self, payload: dict[str, Any]) -> None:
        """Tells something else about them."""
        if self._request is not None and self._acquisition is not None and not self._muted:
            self._respond(self._request, payload)

    def mute(self) -> None:
        """Nothing is told any more."""
        self._muted = True

    def cancel(self, matchtag: int, notice: Message) -> None:
        """Who has them wants them no more: the stream ends with ENODATA."""
        request = self._request
        if request is not None and request.aux2 == matchtag and may_end(request, notice):
            self._request = self._acquisition = None
            self._end(request, errno.ENODATA, None)

    def disconnect(self, notice: Message) -> None:
        """A client is gone, maybe the one who has them."""
        if self._request is not None and may_end(self._request, notice):
            self._request = self._acquisition = None

    def stop(self) -> None:
        """The module ends."""
        if self._request is not None:
            self._end(self._request, errno.ECANCELED, "the resource module was unloaded")
