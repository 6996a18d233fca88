"""Loading many blobs with one request: for who reads a whole tree, and would wait for each blob in turn.

    content.load-many -> what is in memory, and for the rest content-backing.load-many

Rules:

- The payload is digests, one after the other. The answer has the blobs of the first of them, one at least, as
  `fluxlet.modules.content.batch` has blobs without digests: as many as make a message of a sensible size. Who wants the
  others asks again.
- A blob that there is not, or that is damaged, fails the request: `content.load` then tells which it is.
- What is read like this is not kept in memory: who reads a tree does so once.

Ours; on rank 0, and with a backing store that knows it, or else ENOSYS: there is always `content.load`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from itertools import takewhile
from typing import TYPE_CHECKING

from fluxlet.modules.content import batch
from fluxlet.modules.content.digest import Hash

if TYPE_CHECKING:
    from flux.core.future_state import RpcState
    from flux.message import Message
    from fluxlet.service import Service

#: Bytes of blobs with which an answer is long enough.
ENOUGH = 1 << 20


def digests_of(raw: bytes | None, hash: Hash) -> list[bytes]:
    """The payload of a request. Raises OSError(EPROTO) for anything else than digests."""
    size = hash.size
    if not raw or len(raw) % size:
        raise OSError(errno.EPROTO, "the payload is digests, one at least")
    return [raw[at : at + size] for at in range(0, len(raw), size)]


def first_of(blobs: Iterable[bytes | None]) -> bytes:
    """The payload of an answer: blobs until there are enough. Raises OSError(ENOENT) for one that is None."""
    first: list[bytes] = []
    size = 0
    for blob in blobs:
        if blob is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        first.append(blob)
        size += len(blob)
        if size >= ENOUGH:
            break
    return batch.encode_blobs(first)


def load_many(service: Service, hash: Hash, blob: Callable[[bytes], bytes | None], request: Message) -> None:
    """Answers content.load-many on rank 0.

    Args:
        service: the module `content`.
        hash: of the instance.
        blob: gives a blob that is in memory.
        request: what is asked for.
    """
    digests = digests_of(request.raw, hash)
    found: dict[bytes, bytes] = {}
    missing = []
    for digest in dict.fromkeys(digests):
        data = blob(digest)
        if data is None:
            missing.append(digest)
        else:
            found[digest] = data
    if not missing:
        service.answer(request, first_of(map(found.get, digests)))
        return

    def loaded(state: RpcState) -> None:
        if state.errnum:
            service.handle.respond_error(request, state.errnum, state.error_text())
            return
        found.update(zip(missing, batch.decode_blobs(state.value.raw), strict=False))
        # As many as the backing store has answered with, and those in memory that are among them.
        service.answer(request, first_of(takewhile(_is_there, map(found.get, digests))))

    service.ask(b"content-backing.load-many", b"".join(missing), loaded)


def _is_there(blob: bytes | None) -> bool:
    return blob is not None
