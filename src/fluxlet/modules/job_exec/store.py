"""What job-exec has the KVS do: by calls, where the modules `kvs` and `job-manager` are at hand, else by messages."""

from __future__ import annotations

import errno
import os
from binascii import b2a_base64
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from flux.core.codec import dump_payload
from flux.core.future_state import RpcState
from fluxlet.modules.job_manager.direct import manager_of
from fluxlet.modules.kvs.leader import leader_of
from fluxlet.modules.kvs.near import watches_of
from fluxlet.modules.kvs.operation import Commit, Op, payload
from fluxlet.modules.kvs.treeobj import EMPTY_DIR
from fluxlet.payload import UNREADABLE

if TYPE_CHECKING:
    from fluxlet.service import Service

#: Called with the text of what has gone wrong; empty: nothing has.
Then: TypeAlias = Callable[[str], None]


class Root(msgspec.Struct):
    """As much of the answers to kvs.commit and kvs.getroot as is needed."""

    rootref: str


class Value(msgspec.Struct):
    """A tree object with a value."""

    type: str
    data: msgspec.Raw


class Looked(msgspec.Struct):
    """The answer to kvs.lookup."""

    val: Value


#: What we write to a namespace.
_KEYS = ("exec.eventlog", "input", "output")

_decode_root = msgspec.json.Decoder(Root).decode
_decode_lookup = msgspec.json.Decoder(Looked).decode


class Store:
    """See the module.

    Args:
        service: asks the KVS.
    """

    def __init__(self, service: Service) -> None:
        self.closed = False  # nobody is called back any more
        self._service = service
        self._broker = service.broker

    @property
    def at_hand(self) -> bool:
        """True if the KVS need not be asked by messages."""
        return leader_of(self._broker) is not None and manager_of(self._broker) is not None

    def value(self, key: str, then: Callable[[bytes | None, str], None]) -> None:
        """The value at a key, JSON text of its base64, and ""; or None and what went wrong."""
        manager = manager_of(self._broker)
        value = None if manager is None else manager.peek(key)
        if value is not None:
            then(b'"%b"' % b2a_base64(value, newline=False), "")
            return

        def found(state: RpcState) -> None:
            if state.errnum:
                then(None, _text(state))
                return
            try:
                value = _decode_lookup((state.value.raw or b"")[:-1]).val
            except UNREADABLE as exc:
                then(None, str(exc))
                return
            then(bytes(value.data), "") if value.type == "val" else then(None, "it is no value")

        request = f'{{"key":"{key}","namespace":"primary","flags":0}}\0'
        self._service.ask(b"kvs.lookup", request.encode(), found)

    def put(self, ops: list[Op], then: Then) -> None:
        """Commits operations to the primary namespace."""
        manager = manager_of(self._broker)
        if manager is not None:
            manager.keep(ops, lambda text: None if self.closed else then(text))
            return
        self._service.ask(b"kvs.commit", payload(Commit(ops)), lambda state: then(_text(state)))

    def take_back(self, key: str) -> bool:
        """What was to be put at a key is not any more; False if it is there already."""
        manager = manager_of(self._broker)
        return manager is not None and manager.take_back(key)

    def hold(self, namespace: str, ahead: Callable[[], bool]) -> bool:
        """What is to be written to a namespace may wait: `ahead` is called before anybody looks, as of Space.

        False if it may not: somebody is waiting for it, or may look without our being told.
        """
        manager, leader = manager_of(self._broker), leader_of(self._broker)
        if manager is None or leader is None or not manager.in_view:
            return False
        space, watches = leader.spaces.get(namespace), watches_of(self._broker)
        if space is None or watches is None or space.waiting or watches.heeds(namespace, _KEYS):
            return False
        space.ahead = ahead
        return True

    def show(self, namespace: str) -> None:
        """Undoes `hold`: there is nobody who could be called."""
        leader = leader_of(self._broker)
        space = None if leader is None else leader.spaces.get(namespace)
        if space is not None and space.ahead is not None:
            space.keep_nothing()

    def create(self, namespace: str, userid: int, then: Then, exist_ok: bool) -> None:
        """Makes an empty namespace; `exist_ok`: unless there is one of the name."""
        leader = leader_of(self._broker)
        if leader is not None:
            try:
                leader.create(namespace, userid)
            except OSError as exc:
                then("" if exist_ok and exc.errno == errno.EEXIST else _words(exc))
            else:
                then("")
            return
        request = {"namespace": namespace, "rootref": self._empty(), "owner": userid, "flags": 0}

        def made(state: RpcState) -> None:
            then("" if exist_ok and state.errnum == errno.EEXIST else _text(state))

        self._service.ask(b"kvs.namespace-create", dump_payload(request), made)

    def _empty(self) -> str:
        """The blobref of the empty directory."""
        import hashlib

        name = self._broker.attributes.visible.get("content.hash", "sha1")
        return f"{name}-{hashlib.new(name, EMPTY_DIR).hexdigest()}"

    def write(self, namespace: str, ops: list[Op], then: Callable[[str, str], None]) -> None:
        """Commits operations to a namespace; `then` is called with the blobref of its root, or what has gone wrong."""
        leader = leader_of(self._broker)
        if leader is not None:

            def made(root: bytes, error: OSError | None) -> None:
                if not self.closed:
                    then(root.decode(), "" if error is None else _words(error))

            leader.apply(namespace, ops, 0, made)
            return
        self._service.ask(b"kvs.commit", payload(Commit(ops, namespace)), lambda state: self._rooted(state, then))

    def root(self, namespace: str, then: Callable[[str, str], None]) -> None:
        """As `write`, without writing; the root is "" if nothing has been written to the namespace."""
        leader = leader_of(self._broker)
        if leader is not None:
            space = leader.spaces.get(namespace)
            if space is not None and not space.busy and not space.queue:
                then("" if space.root == leader.empty else space.root.decode(), "")
                return
        empty = self._empty()
        request = f'{{"namespace":"{namespace}"}}\0'.encode()
        self._service.ask(
            b"kvs.getroot",
            request,
            lambda state: self._rooted(state, lambda root, text: then("" if root == empty else root, text)),
        )

    @staticmethod
    def _rooted(state: RpcState, then: Callable[[str, str], None]) -> None:
        if state.errnum:
            then("", _text(state))
        else:
            then(_decode_root((state.value.raw or b"")[:-1]).rootref, "")

    def remove(self, namespace: str, then: Then) -> None:
        """Removes a namespace."""
        leader = leader_of(self._broker)
        if leader is not None:
            leader.remove(namespace)
            then("")
            return
        request = dump_payload({"namespace": namespace})
        self._service.ask(b"kvs.namespace-remove", request, lambda state: then(_text(state)))


def _text(state: RpcState) -> str:
    return (state.error_text() or "") if state.errnum else ""


def _words(error: OSError) -> str:
    return error.strerror or os.strerror(error.errno or 0)
