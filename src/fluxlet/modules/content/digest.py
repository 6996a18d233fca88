"""The hash that names blobs: a name, a digest's size, and the function (spec 05, 2.1). Pure.

Digests travel raw in the payloads of content requests; as text they are blobrefs, `sha1-<hexadecimal digits>`.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from typing import Any

#: Bytes of a digest, by the name of the hash.
SIZES = {"sha1": 20, "sha256": 32}

_LOWER_HEX = re.compile(r"[0-9a-f]+").fullmatch


class Hash:
    """A hash function by its name. Raises OSError(EINVAL) for a name that is unknown.

    Attributes:
        name: `sha1` or `sha256`.
        size: of a digest, in bytes.
        digest: the raw digest of a blob.
    """

    def __init__(self, name: str) -> None:
        if name not in SIZES:
            raise OSError(errno.EINVAL, f"content.hash: '{name}' is unknown: use {' or '.join(SIZES)}")
        self.name = name
        self.size = SIZES[name]
        self.digest: Callable[[bytes], bytes] = self._first

    def _first(self, data: bytes) -> bytes:
        """The digest of the first blob: only now is it certain that the import, 3 ms, is of use."""
        import hashlib

        function: Callable[[bytes], Any] = getattr(hashlib, self.name)

        def digest(data: bytes) -> bytes:
            result: bytes = function(data).digest()
            return result

        self.digest = digest
        return digest(data)

    def blobref(self, digest: bytes) -> str:
        """The text for a digest."""
        return f"{self.name}-{digest.hex()}"

    def parse(self, blobref: Any) -> bytes:
        """The digest that a blobref of this hash stands for. Raises ValueError."""
        if isinstance(blobref, str):
            name, _, digits = blobref.partition("-")
            if name == self.name and len(digits) == 2 * self.size and _LOWER_HEX(digits):
                return bytes.fromhex(digits)
        raise ValueError(f"{blobref!r} is no blobref of {self.name}")
