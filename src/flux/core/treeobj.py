"""Tree objects, what the KVS is made of (RFC 11; spec 05, section 4): made, checked and encoded.

A tree object is a dict with exactly `ver`, `type` and `data`. Rules:

- `encode` gives the canonical text, whose hash names a directory: members sorted, no blanks, control characters as
  ``\\u00XX`` with capital digits. Two that write the same directory must write the same bytes.
- Values are bytes; base64 is how JSON carries them, and is checked when it is read.
"""

from __future__ import annotations

import binascii
import errno
import json
import re
from typing import Any

from flux.wrapper import local_error

#: Lengths of the hexadecimal digits of a blobref, by the hash's name.
_DIGITS = {"sha1": 40, "sha256": 64}
_HEX = re.compile(r"[0-9a-f]+")
_ESCAPE = re.compile(r"\\(?:u([0-9a-f]{4})|.)")

TreeObject = dict[str, Any]

#: The canonical text of a directory without entries.
EMPTY_DIR = b'{"data":{},"type":"dir","ver":1}'


def val(data: bytes) -> TreeObject:
    """A value, inline."""
    return {"ver": 1, "type": "val", "data": binascii.b2a_base64(data, newline=False).decode()}


def valref(*refs: str) -> TreeObject:
    """A value whose bytes are in blobs."""
    return {"ver": 1, "type": "valref", "data": list(refs)}


def dirref(ref: str) -> TreeObject:
    """A directory whose canonical text is the blob `ref`."""
    return {"ver": 1, "type": "dirref", "data": [ref]}


def directory(entries: dict[str, TreeObject]) -> TreeObject:
    """A directory, inline."""
    return {"ver": 1, "type": "dir", "data": entries}


def symlink(target: str, namespace: str | None = None) -> TreeObject:
    """A link to a key, of this namespace or another."""
    data = {"target": target} if namespace is None else {"namespace": namespace, "target": target}
    return {"ver": 1, "type": "symlink", "data": data}


def data_of(obj: Any) -> bytes:
    """The bytes of a `val`. Raises OSError(EINVAL) for an object of another type, EPROTO for bad base64."""
    if not isinstance(obj, dict) or obj.get("type") != "val":
        raise local_error(errno.EINVAL)
    try:
        return binascii.a2b_base64(obj["data"], strict_mode=True)
    except (KeyError, TypeError, ValueError):
        raise local_error(errno.EPROTO) from None


def encode(obj: Any) -> str:
    """The canonical text (spec 05, 4.2)."""
    text = json.dumps(obj, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if "\\u00" in text:
        # Escape by escape, so that a backslash that is itself escaped is not taken for the beginning of one.
        text = _ESCAPE.sub(lambda found: f"\\u{found[1].upper()}" if found[1] else found[0], text)
    return text


def encode_bytes(obj: Any) -> bytes:
    """`encode` as it is stored."""
    return encode(obj).encode("utf-8", "surrogateescape")


def blobref(data: bytes, hash_name: str = "sha1") -> str:
    """The name of a blob: ``sha1-DIGITS``. Raises OSError(EINVAL) for a hash that content stores do not have."""
    if hash_name not in _DIGITS:
        raise local_error(errno.EINVAL)
    import hashlib

    return f"{hash_name}-{hashlib.new(hash_name, data, usedforsecurity=False).hexdigest()}"


def is_blobref(text: Any) -> bool:
    """True for the name of a blob (spec 05, 2.1)."""
    if not isinstance(text, str):
        return False
    name, _, digits = text.partition("-")
    return len(digits) == _DIGITS.get(name, -1) and _HEX.fullmatch(digits) is not None


def problem(obj: Any) -> str | None:
    """What is wrong with a tree object; None for a right one (spec 05, 4.1)."""
    pending = [obj]
    while pending:
        one = pending.pop()
        if not isinstance(one, dict) or one.keys() != {"ver", "type", "data"}:
            return "a tree object has the members ver, type and data"
        kind, data = one["type"], one["data"]
        if one["ver"].__class__ is not int or one["ver"] != 1:
            return f"tree objects of version {one['ver']} are unknown"
        if kind == "val":
            good = isinstance(data, str)
        elif kind in ("valref", "dirref"):
            good = isinstance(data, list) and bool(data) and all(is_blobref(ref) for ref in data)
        elif kind == "symlink":
            good = isinstance(data, dict) and isinstance(data.get("target"), str)
            good = good and isinstance(data.get("namespace", ""), str)
        elif kind == "dir":
            good = isinstance(data, dict)
            pending += data.values() if good else ()
        else:
            return f"there are no tree objects of type {kind!r}"
        if not good:
            return f"wrong data in a {kind}"
    return None


def decode(text: str | bytes) -> TreeObject:
    """The tree object of a text. Raises OSError(EPROTO) for text that is none, what is wrong with it as a note."""
    try:
        obj: Any = json.loads(text)
        wrong = problem(obj)
    except (ValueError, RecursionError) as exc:
        wrong = str(exc)
    if wrong is not None:
        error = local_error(errno.EPROTO)
        error.add_note(wrong)
        raise error
    result: TreeObject = obj
    return result
