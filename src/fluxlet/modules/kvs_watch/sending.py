"""What the clients of watches are sent: in order, while blobs are loaded, and as fast as they read.

Rules:
- What a client is sent waits in its line. Blobs near the front are loaded; those behind are mere references, so that
  a long log takes no memory, however slowly it is read.
- Watches that wait for the same blob share one load of it; never more than LOADS are under way.
- Who loads blobs himself (`refs` in the request) is sent references.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from flux.core.future_state import RpcState
from fluxlet.modules.kvs_watch.watcher import Answer, Blob, Done, End, Sentinel, Value, Watcher
from fluxlet.pace import Pace

if TYPE_CHECKING:
    from fluxlet.service import Service

#: Blobs that are loaded at once: for all, and for one watch.
LOADS = 64
_AHEAD = 4

_encode = msgspec.json.Encoder().encode

#: What a client is to be sent: a payload, an error, a blob that is not here yet; None: it is being loaded.
_Sending: TypeAlias = bytes | End | Done | Sentinel | Blob | None


class _Slot:
    """A place in a line."""

    __slots__ = ("content",)

    def __init__(self, content: _Sending) -> None:
        self.content = content


class Watch:
    """A watcher, and the line of what its client is to be sent.

    Args:
        watcher: says what that is.
        refs: the client loads blobs itself.
    """

    __slots__ = ("line", "refs", "sending", "watcher")

    def __init__(self, watcher: Watcher, refs: bool) -> None:
        self.watcher = watcher
        self.refs = refs
        self.line: deque[_Slot] = deque()
        self.sending = False


class Sender:
    """Sends to the clients of one module.

    Args:
        service: the module.
        end: called with a watch when it has ended, the errno of its last answer, 0 for none, and its text.
    """

    def __init__(self, service: Service, end: Callable[[Watch, int, str | None], None]) -> None:
        self._service = service
        self._end = end
        self._blobs: dict[str, list[tuple[Watch, _Slot]]] = {}  # who waits for what is loaded, or to be
        self._to_load: deque[str] = deque()
        self._loading = 0
        self.pace = Pace(service)

    def answer(self, watch: Watch, answers: list[Answer]) -> None:
        """Puts answers into a watch's line, and sends what can be sent."""
        line = watch.line
        refs: list[str] = []
        for answer in answers:
            if isinstance(answer, Blob) and watch.refs:
                refs.append(answer.blobref)
                continue
            if refs:
                line.append(_Slot(_references(refs)))
                refs = []
            line.append(_Slot(_payload(answer.treeobj) if isinstance(answer, Value) else answer))
        if refs:
            line.append(_Slot(_references(refs)))
        self.send(watch)

    def send(self, watch: Watch) -> None:
        """Sends what can be sent now, and has loaded what comes next."""
        if watch.sending:
            return  # what has been loaded at once is sent by who asked for it
        line, request = watch.line, watch.watcher.request
        watch.sending = True
        while line:
            content = line[0].content
            if isinstance(content, bytes):
                del line[0]
                self._service.answer(request, content)
            elif content is None or isinstance(content, Blob):
                self._load_next(watch)
                if not isinstance(line[0].content, bytes | End):
                    break
            elif isinstance(content, Sentinel):
                del line[0]
                self._service.answer(request)
            elif isinstance(content, End):
                self._end(watch, content.errnum, content.text)
            else:
                self._end(watch, 0, None)
        watch.sending = False

    def forget(self, watch: Watch) -> None:
        """Nothing more is sent to a watch's client."""
        watch.line.clear()
        self.pace.forget(watch)

    # Blobs.

    def _load_next(self, watch: Watch) -> None:
        """Has the blobs at the front of a line loaded, if more may be sent."""
        for slot in islice(watch.line, _AHEAD):
            if isinstance(slot.content, Blob):
                if not self.pace.may_send(watch.watcher.request, watch, self.send):
                    return
                self._want(watch, slot, slot.content)

    def _want(self, watch: Watch, slot: _Slot, blob: Blob) -> None:
        """Fills `slot` with a blob once it is loaded; that may be at once."""
        slot.content = None
        waiting = self._blobs.get(blob.blobref)
        if waiting is None:
            self._blobs[blob.blobref] = waiting = []
            self._to_load.append(blob.blobref)
        waiting.append((watch, slot))
        self._load()

    def _load(self) -> None:
        while self._to_load and self._loading < LOADS:
            blobref = self._to_load.popleft()
            if all(watch.watcher.ended and not watch.line for watch, _ in self._blobs[blobref]):
                del self._blobs[blobref]  # they have gone meanwhile
                continue
            self._loading += 1
            digest = bytes.fromhex(blobref.partition("-")[2])
            self._service.ask(b"content.load", digest, partial(self._loaded, blobref))

    def _loaded(self, blobref: str, state: RpcState) -> None:
        self._loading -= 1
        content: _Sending
        if state.errnum:
            content = End(state.errnum, state.errtext)
        else:
            data = b2a_base64(state.value.raw or b"", newline=False)
            content = _payload(b'{"data":"%b","type":"val","ver":1}' % data)
        for watch, slot in self._blobs.pop(blobref):
            slot.content = content
            if isinstance(content, bytes) and watch.line:
                self.pace.spend(watch.watcher.request, len(content))
            self.send(watch)
        self._load()


def _payload(treeobj: bytes) -> bytes:
    return b'{"val":%b}\0' % treeobj


def _references(refs: list[str]) -> bytes:
    return _payload(b'{"data":%b,"type":"valref","ver":1}' % _encode(refs))
