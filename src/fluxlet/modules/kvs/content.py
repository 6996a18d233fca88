"""The content store where it is nearest: the module `content` of the same broker, asked without messages."""

from __future__ import annotations

from fluxlet.broker.broker import Broker
from fluxlet.broker.host import Module
from fluxlet.modules.content.module import Content


def near_content(broker: Broker) -> Content | None:
    """The module `content` of this broker, if it may be called; else messages are the way, and tell what is wrong."""
    module = broker.modules.get("content")
    if isinstance(module, Module) and module.may_be_called and isinstance(module.instance, Content):
        return module.instance
    return None
