"""The module `kvs` on rank 0: the namespaces, and what everybody is told of them (spec 05, section 8)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from flux.brokermod import event_handler, request_handler
from flux.constants import FLUX_MSGFLAG_PRIVATE
from flux.core.handle import Flux
from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.broker.host import Module
from fluxlet.modules.kvs import treeobj
from fluxlet.modules.kvs.directory import Directory
from fluxlet.modules.kvs.module import Kvs
from fluxlet.modules.kvs.requests import NamespaceCreateRequest, NamespaceRemoveRequest
from fluxlet.modules.kvs.space import PRIMARY, Commit, Space
from fluxlet.payload import decode

_encode = msgspec.json.Encoder().encode
#: "The instance owner", as clients write it.
_OWNER = (-1, 0xFFFFFFFF)


class Namespaces(Kvs):
    """See the module.

    Attributes:
        empty: the blobref of the empty directory, which namespaces begin with.
    """

    def __init__(self, handle: Flux, broker: Broker, *args: str) -> None:
        super().__init__(handle, broker, *args)
        self._going: dict[str, None] = {}  # names that are still taken
        self._starting: list[Callable[[OSError | None], None]] | None = []  # who asks before there is a root
        self.empty = self.blobref(treeobj.EMPTY_DIR)
        empty = Directory(None)
        empty.encode()
        self.directories.add(self.empty, empty)

    def learn(self, name: str, then: Callable[[OSError | None], None]) -> None:
        """As of Kvs: all that there is is known, but for the first moment."""
        if self._starting is None:
            raise OSError(errno.EOPNOTSUPP, None)
        self._starting.append(then)

    @request_handler("namespace-create")
    def namespace_create(self, msg: Message) -> None:
        """Payload: `NamespaceCreateRequest`. EEXIST."""
        request = decode(msg, NamespaceCreateRequest)
        name = request.namespace
        if self._starting is not None:
            self.learn(name, partial(self._learned, msg, self.namespace_create))
            return
        self.create(name, request.owner, request.rootref.encode(), request.flags)
        self.answer(msg)

    def create(self, name: str, owner: int, root: bytes | None = None, flags: int = 0) -> None:
        """Makes a namespace; `root` None: an empty one. Raises OSError(EEXIST)."""
        if name in self.spaces:
            raise OSError(errno.EEXIST, None)
        if name in self._going:
            text = "namespace with identical name in process of being removed. Try again later"
            raise OSError(errno.EEXIST, text)
        ref = self.empty if root is None else root
        owner = self.broker.owner if owner in _OWNER else owner
        self.spaces[name] = Space(name, owner, ref, 0, flags)
        event = {"namespace": name, "rootseq": 0, "rootref": ref.decode(), "owner": owner}
        self.announce(name, "created", lambda: event)

    @request_handler("namespace-remove")
    def namespace_remove(self, msg: Message) -> None:
        """Payload: `NamespaceRemoveRequest`. It is no error if there is none; EOPNOTSUPP for the primary one."""
        name = decode(msg, NamespaceRemoveRequest).namespace
        if name.lower() == PRIMARY:
            raise OSError(errno.EOPNOTSUPP, None)
        self.remove(name)
        self.answer(msg)

    def remove(self, name: str) -> None:
        """Removes a namespace that is not the primary one, if there is one of the name."""
        space = self.spaces.pop(name, None)
        if space is not None:
            self._going[name] = None
            queue = list(space.queue)
            space.queue.clear()
            self.dropped(space)
            for commit in queue:
                self.refuse(space, [commit], OSError(errno.EOPNOTSUPP, None))
            self.announce(name, "removed", lambda: {"namespace": name})

    @event_handler("heartbeat.pulse", prefix=False)
    def pulse(self, msg: Message) -> None:
        """Names of namespaces that are gone are free again."""
        self._going.clear()

    def refuse(self, space: Space, commits: list[Commit], error: OSError) -> None:
        """Commits have failed."""
        raise NotImplementedError

    def announce(
        self, namespace: str, kind: str, payload: Callable[[], dict[str, Any]], deaf: Module | None = None
    ) -> None:
        """Publishes an event; what is in it is asked for if somebody listens who is not `deaf`."""
        topic = f"kvs.namespace-{namespace}-{kind}".encode()
        if not self.module.unheard(topic, deaf):
            self.module.post(Message.event(topic, _encode(payload()) + b"\0", FLUX_MSGFLAG_PRIVATE))
