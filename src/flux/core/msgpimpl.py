"""`Message.pimpl`: the functions `flux_msg_*` with a message implied (spec 02, 9.3; spec 01, 1.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flux.core.ffi import CType
from flux.core.inner import ffi, lib
from flux.wrapper import Wrapper

if TYPE_CHECKING:
    from flux.message import Message


class MessagePimpl(Wrapper):
    """See the module. Setting `handle` makes this object, not its maker, stand for another message, or for none."""

    ffi = ffi
    lib = lib
    match = CType("flux_msg_t *")
    prefixes = ("flux_msg_",)

    def __init__(self, message: Message) -> None:
        self.handle = message
