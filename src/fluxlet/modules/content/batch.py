"""Many blobs in one payload: what `content-backing.store-many` and `content.store-many` take. Pure.

A module that registers with `"store-many": true` gets what there is to store in few requests, and can write it in one
transaction. That is ours; the reference's modules get `content-backing.store` for each blob.

    number of blobs, then the length of each: unsigned 32-bit integers, the most significant byte first
    the digests, then the blobs, in the same order, with nothing between them

`content.store-many` takes the same without digests: it makes them itself.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from struct import Struct, error, pack, unpack_from

_COUNT = Struct(">I")


def encode(digests: Sequence[bytes], blobs: Sequence[bytes]) -> bytes:
    """The payload for blobs and their digests."""
    count = len(blobs)
    return b"".join((pack(f">{count + 1}I", count, *map(len, blobs)), *digests, *blobs))


def decode(raw: bytes | None, size: int) -> list[tuple[bytes, bytes]]:
    """(digest, blob) pairs; `size` is that of a digest. Raises OSError(EPROTO) if the lengths do not fit."""
    try:
        (count,) = _COUNT.unpack_from(raw or b"")
        lengths = unpack_from(f">{count}I", raw or b"", _COUNT.size)
    except error:
        raise OSError(errno.EPROTO, "the payload is shorter than it says") from None
    assert raw is not None  # it has a count
    digest = _COUNT.size * (count + 1)
    blob = digest + count * size
    if blob + sum(lengths) != len(raw):
        raise OSError(errno.EPROTO, "the payload is not as long as it says")
    pairs = []
    for length in lengths:
        pairs.append((raw[digest : digest + size], raw[blob : blob + length]))
        digest += size
        blob += length
    return pairs


def encode_blobs(blobs: Sequence[bytes]) -> bytes:
    """The payload for blobs without digests."""
    count = len(blobs)
    return b"".join((pack(f">{count + 1}I", count, *map(len, blobs)), *blobs))


def decode_blobs(raw: bytes | None) -> list[bytes]:
    """The blobs of a payload without digests. Raises OSError(EPROTO)."""
    return [blob for _, blob in decode(raw, 0)]
