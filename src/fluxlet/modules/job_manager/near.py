"""What the job manager asks of modules of the same broker by a call, in place of `sched.alloc`, `sched.free` and
`<exec>.start`: the base classes of those who can be asked so.

The other way round it is `fluxlet.modules.job_manager.direct`. Messages are the way for everybody else, for what such a
module refuses here (a message is answered with the reason), and while somebody looks at messages.
"""

from __future__ import annotations

from typing import TypeVar

from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.broker.host import Module
from fluxlet.service import Service


class NearScheduler(Service):
    """A scheduler that can be called."""

    def enter(self, asker: Module, jobid: int, priority: int, jobspec: bytes) -> bool:
        """As sched.alloc of the module `asker`; False: to be asked by a message."""
        raise NotImplementedError

    def give_back(self, jobid: int, R: bytes, final: bool) -> bool:
        """As sched.free; False: to be asked by a message."""
        raise NotImplementedError


class NearExecutor(Service):
    """An execution service that can be called."""

    def execute(self, asker: Module, jobid: int, userid: int, jobspec: bytes, R: bytes, reattach: bool) -> bool:
        """As start of the module `asker`, which hears what comes of it by `ExecutionSide.told`.

        False: to be asked by a message.
        """
        raise NotImplementedError


_Near = TypeVar("_Near", NearScheduler, NearExecutor)


def near(broker: Broker, route: bytes, kind: type[_Near]) -> _Near | None:
    """The module with this route, if it is one of this broker, and of this kind."""
    for module in broker.modules.values():
        if module.uuid == route:
            return module.instance if isinstance(module, Module) and isinstance(module.instance, kind) else None
    return None


def as_if_asked(asker: Module, topic: bytes) -> Message:
    """The request that a call has taken the place of: for answers that have to be messages."""
    request = Message.request(topic)
    request.routes = asker.local_path
    return request


def callable_by(module: Module, other: Service) -> bool:
    """True if `module` may call `other`: both run, and nobody holds or looks at the messages of one of them."""
    return module.may_be_called and other.module.may_be_called
