"""Those whom the module `kvs` works with most, where they are modules of the same broker: asked without messages."""

from __future__ import annotations

from fluxlet.broker.broker import Broker
from fluxlet.broker.host import Module
from fluxlet.modules.content.module import Content
from fluxlet.modules.kvs_watch.module import KvsWatch


def near_content(broker: Broker) -> Content | None:
    """The module `content` of this broker, if it may be called; else messages are the way, and tell what is wrong."""
    module = broker.modules.get("content")
    if isinstance(module, Module) and module.may_be_called and isinstance(module.instance, Content):
        return module.instance
    return None


def watches_of(broker: Broker) -> KvsWatch | None:
    """The module `kvs-watch` of this broker, if it may be called."""
    module = broker.modules.get("kvs-watch")
    if isinstance(module, Module) and module.may_be_called and isinstance(module.instance, KvsWatch):
        return module.instance
    return None


def deaf_watchers(broker: Broker, namespace: str, keys: dict[str, None]) -> Module | None:
    """The module `kvs-watch` of this broker, if it would do nothing when it hears of a commit of these keys."""
    watches = watches_of(broker)
    return None if watches is None or watches.heeds(namespace, keys) else watches.module
