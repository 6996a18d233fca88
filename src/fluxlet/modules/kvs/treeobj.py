"""Tree objects as canonical JSON text, byte for byte as the reference writes them (spec 05, section 4; RFC 11). Pure.

Rules:

- An entry of a directory is kept as its canonical text. What it is can be told by its end, as members are sorted:
  `{"data":...,"type":"val","ver":1}`.
- What comes from outside is decoded JSON, and is checked here: `encode` raises OSError(EINVAL) for what is no tree
  object, with a sentence.
- Blobrefs are ASCII bytes.
"""

from __future__ import annotations

import errno
import re
from typing import Any

import msgspec

VAL_HEAD = b'{"data":"'
VAL_TAIL = b'","type":"val","ver":1}'
REFS_HEAD = b'{"data":["'
VALREF_TAIL = b'"],"type":"valref","ver":1}'
DIRREF_TAIL = b'"],"type":"dirref","ver":1}'
DIR_HEAD = b'{"data":{'
DIR_TAIL = b'},"type":"dir","ver":1}'
SYMLINK_TAIL = b'},"type":"symlink","ver":1}'
EMPTY_DIR = DIR_HEAD + DIR_TAIL

#: A value whose base64 text is longer than this is stored as a blob.
MAX_INLINE = 72
#: The text of a value that is as long as an inline one may be.
MAX_INLINE_TEXT = len(VAL_HEAD) + MAX_INLINE + len(VAL_TAIL)

#: Levels of directories within each other that one treeobj of a client may have.
_DEPTH = 256

_is_blobref = re.compile(r"sha1-[0-9a-f]{40}|sha256-[0-9a-f]{64}").fullmatch
_special = re.compile(r'["\\\x00-\x1f]')
_ESCAPES = {
    **{chr(code): f"\\u{code:04X}" for code in range(0x20)},
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
}

_REF = rb"sha1-[0-9a-f]{40}|sha256-[0-9a-f]{64}"
_TEXT = rb'"(?:[^"\\\x00-\x1f]|\\(?:["\\bfnrt]|u00[01][0-9A-F]))*"'
#: Entries as we write them; others that mean the same are possible.
is_canonical = re.compile(
    rb'\{"data":(?:'
    rb'\["(?:%(ref)b)"(?:,"(?:%(ref)b)")*\],"type":"(?:valref|dirref)"'
    rb'|%(text)b,"type":"val"'
    rb'|\{(?:"namespace":%(text)b,)?"target":%(text)b\},"type":"symlink"'
    rb'),"ver":1\}' % {b"ref": _REF, b"text": _TEXT}
).fullmatch


def quote(text: str) -> bytes:
    """A JSON string."""
    if _special.search(text) is not None:
        text = _special.sub(lambda found: _ESCAPES[found.group()], text)
    return b'"%b"' % text.encode()


def val(data: str) -> bytes:
    """An inline value; `data` is base64 text, which nobody has checked."""
    return b'{"data":%b,"type":"val","ver":1}' % quote(data)


def valref(*refs: bytes) -> bytes:
    """A value that is in blobs."""
    return REFS_HEAD + b'","'.join(refs) + VALREF_TAIL


def dirref(ref: bytes) -> bytes:
    """A directory that is in a blob."""
    return REFS_HEAD + ref + DIRREF_TAIL


def symlink(target: str, namespace: str | None) -> bytes:
    """A link."""
    where = b"" if namespace is None else b'"namespace":%b,' % quote(namespace)
    return b'{"data":{%b"target":%b},"type":"symlink","ver":1}' % (where, quote(target))


def refs_of(text: bytes) -> list[bytes]:
    """The blobrefs of a valref or dirref."""
    return text[len(REFS_HEAD) : -len(VALREF_TAIL)].split(b'","')


def dirref_of(text: bytes) -> bytes:
    """The blobref of a dirref. Raises OSError(ENOTRECOVERABLE) if it has not exactly one."""
    ref = text[len(REFS_HEAD) : -len(DIRREF_TAIL)]
    if b"," in ref or not ref:
        raise OSError(errno.ENOTRECOVERABLE, "a directory must be one blob")
    return ref


def data_of(text: bytes) -> bytes:
    """The base64 text of a val."""
    data = text[len(VAL_HEAD) : -len(VAL_TAIL)]
    if b"\\" in data:
        data = str(msgspec.json.decode(b'"%b"' % data)).encode()
    return data


def link_of(text: bytes) -> tuple[str, str | None]:
    """Target and namespace of a symlink."""
    data = msgspec.json.decode(text)["data"]
    return data["target"], data.get("namespace")


def _invalid(text: str) -> OSError:
    return OSError(errno.EINVAL, text)


def kind_of(treeobj: Any) -> str:
    """The type of a decoded tree object, as far as that can be told without its data. Raises OSError(EINVAL)."""
    if not isinstance(treeobj, dict) or len(treeobj) != 3 or "data" not in treeobj:
        raise _invalid("a tree object has the members data, type and ver, and no others")
    version = treeobj.get("ver")
    if type(version) is not int or version != 1:
        raise _invalid("the version of a tree object must be 1")
    kind = treeobj.get("type")
    if not isinstance(kind, str):
        raise _invalid("the type of a tree object must be a string")
    return kind


def encode(treeobj: Any) -> bytes:
    """The canonical text of decoded JSON. Raises OSError(EINVAL) if it is no valid tree object."""
    return _encode(treeobj, _DEPTH)


def _encode(treeobj: Any, depth: int) -> bytes:
    kind = kind_of(treeobj)
    data = treeobj["data"]
    if kind == "val":
        if not isinstance(data, str):
            raise _invalid("the data of a val must be a string")
        return val(data)
    if kind in ("valref", "dirref"):
        return _encode_refs(kind, data)
    if kind == "symlink":
        if not isinstance(data, dict) or not isinstance(data.get("target"), str):
            raise _invalid("the data of a symlink must have a target")
        namespace = data.get("namespace")
        if "namespace" in data and not isinstance(namespace, str):
            raise _invalid("the namespace of a symlink must be a string")
        return symlink(data["target"], namespace)
    if kind == "dir":
        if not isinstance(data, dict):
            raise _invalid("the data of a dir must be an object")
        if not depth:
            raise _invalid(f"directories are nested more than {_DEPTH} levels deep")
        entries = [b"%b:%b" % (quote(name), _encode(data[name], depth - 1)) for name in sorted(data)]
        return DIR_HEAD + b",".join(entries) + DIR_TAIL
    raise _invalid(f"'{kind}' is no type of a tree object")


def checked_dir(treeobj: Any) -> Any:
    """A decoded dir, if it is a valid one with all that is in it. Raises OSError(EINVAL)."""
    encode(treeobj)
    return treeobj


def _encode_refs(kind: str, data: Any) -> bytes:
    if not isinstance(data, list) or not data:
        raise _invalid(f"the data of a {kind} must be blobrefs, one at least")
    for ref in data:
        if not isinstance(ref, str) or not _is_blobref(ref):
            raise _invalid(f"{ref!r} is no blobref")
    tail = VALREF_TAIL if kind == "valref" else DIRREF_TAIL
    return REFS_HEAD + '","'.join(data).encode() + tail


def is_blobref(text: str) -> bool:
    """True for a blobref of a known hash."""
    return _is_blobref(text) is not None
