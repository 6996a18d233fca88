"""One lookup of values of a job: what to fetch, and the answer that this makes (spec 08, 1.2). Pure.

What is of a job's guests may be long, and is taken in and turned into JSON piece by piece.
"""

from __future__ import annotations

import errno
import json
import os
from codecs import getincrementaldecoder
from collections.abc import Callable
from json.encoder import encode_basestring
from mmap import mmap
from typing import Any

from flux.core.codec import dump_payload
from flux.wire import DEFAULT_LIMIT
from fluxlet.modules.job_info.eventlog import UPDATES, apply_update, owner_of
from fluxlet.modules.job_info.reading import quoted

JSON_DECODE = 1
CURRENT = 2

#: Bytes of JSON text that are kept as one piece.
_PIECE = 1 << 20
#: Bytes of an answer: a message may not be longer.
_MOST = DEFAULT_LIMIT - 4096


class Text:
    """A value that comes in pieces, as JSON text.

    Whole pieces are in memory that the kernel gets back when they have been sent: what is freed piece by piece between
    other things, malloc would keep.

    Attributes:
        pieces: of the text, without the quotes around it.
        size: of them.
    """

    def __init__(self) -> None:
        self.pieces: list[bytes | memoryview] = []
        self.size = 0
        self._last: list[bytes] = []
        self._last_size = 0
        self._decode = getincrementaldecoder("utf-8")("surrogateescape").decode
        self._cut = False  # there was a NUL, and nothing counts behind it

    def add(self, data: bytes, final: bool = False) -> None:
        """Takes in a piece of the value; it may end within a character, unless it is the last."""
        if self._cut:
            data = b""
        elif b"\0" in data:
            data, self._cut = data[: data.index(b"\0")], True
        text = self._decode(data, final)
        try:
            piece = quoted(text)[1:-1]
        except UnicodeEncodeError:
            piece = encode_basestring(text).encode("utf-8", "surrogateescape")[1:-1]
        self.size += len(piece)
        self._last.append(piece)
        self._last_size += len(piece)
        if self._last_size >= _PIECE:
            held = mmap(-1, self._last_size)
            for piece in self._last:
                held.write(piece)
            self.pieces.append(memoryview(held))
            self._last, self._last_size = [], 0
        elif final:
            self.pieces.append(b"".join(self._last))


class Lookup:
    """A lookup.

    Args:
        jobid: of the job.
        keys: below its directory.
        flags: JSON_DECODE, CURRENT.
        may_read: tells whether the client may see a job of this user; None if it may in any case.
        on_owner: called with the job's user when that turns out.
    """

    def __init__(
        self,
        jobid: int,
        keys: list[str],
        flags: int,
        may_read: Callable[[int], bool] | None,
        on_owner: Callable[[int], None],
    ) -> None:
        self._jobid = jobid
        self._keys = list(dict.fromkeys(keys))
        self._flags = flags
        self._may_read = may_read
        self._on_owner = on_owner
        #: That there is such a job is known, and whose it is.
        self.known = False
        self._values: dict[str, bytes] = {}
        self._texts: dict[str, Text] = {}
        self._errors: dict[str, tuple[int, str | None]] = {}
        self._missing: set[str] = set()

    def wanted(self) -> list[str]:
        """The keys to fetch."""
        wanted = dict.fromkeys(self._keys)
        if not self.known or self._may_read is not None or self._flags & CURRENT:
            wanted["eventlog"] = None
        self._missing = set(wanted)
        return list(wanted)

    @staticmethod
    def is_long(key: str) -> bool:
        """Whether what is there may be long: it is to be told in pieces."""
        return key.startswith("guest.")

    def add(self, key: str, data: bytes) -> None:
        """A piece of what is long has been fetched."""
        text = self._texts.get(key)
        if text is None:
            text = self._texts[key] = Text()
        text.add(data)

    def found(self, key: str, value: bytes, errnum: int, text: str | None) -> bool:
        """What has been fetched, or the rest of it; True when that is all."""
        if not errnum and key in self._texts:
            self._texts[key].add(value, final=True)
        elif errnum:
            self._errors[key] = (errnum, text)
        else:
            self._values[key] = value.partition(b"\0")[0]
        self._missing.discard(key)
        return not self._missing

    def answer(self) -> list[bytes | memoryview]:
        """The payload of the response, in pieces. Raises OSError with the reason if there is none."""
        if "eventlog" in self._errors:
            errnum, text = self._errors["eventlog"]
            raise OSError(errnum, "invalid job id" if errnum == errno.ENOENT else text)
        eventlog = self._values.get("eventlog")
        if eventlog is not None:
            self._authorize(eventlog)
        found: dict[str, Any] = {"id": self._jobid}
        long: list[bytes | memoryview] = []
        for key in self._keys:
            if key in self._errors:
                errnum, text = self._errors[key]
                raise OSError(errnum, f"{key}: {_reason(errnum)}")
            told = self._texts.get(key)
            value = self._values.get(key, b"")
            if not (value or (told is not None and told.size)):
                raise OSError(errno.EPROTO, f"{key}: value is unexpectedly empty")
            if told is None:
                found[key] = self._told(key, value, eventlog)
            else:
                long += [b',%b:"' % quoted(key), *told.pieces, b'"']
        if sum(map(len, long)) > _MOST:
            raise OSError(
                errno.EOVERFLOW, "this is too long for one message: job-info.eventlog-watch tells it by lines"
            )
        rest = dump_payload(found) or b""
        return [rest[:-2], *long, b"}\0"] if long else [rest]

    def _authorize(self, eventlog: bytes) -> None:
        try:
            owner = owner_of(eventlog.partition(b"\n")[0])
        except ValueError as exc:
            raise OSError(errno.EPROTO, f"eventlog: {exc}") from None
        self._on_owner(owner)
        if self._may_read is not None and not self._may_read(owner):
            raise OSError(errno.EPERM, "access is restricted to job/instance owner")

    def _told(self, key: str, value: bytes, eventlog: bytes | None) -> Any:
        text = value.decode("utf-8", "surrogateescape")
        if key not in UPDATES or not self._flags:
            return text
        try:
            content = json.loads(text)
            if self._flags & CURRENT:
                for line in (eventlog or b"").splitlines():
                    apply_update(key, content, line)
        except (ValueError, TypeError, RecursionError) as exc:
            raise OSError(errno.EINVAL, f"{key}: error applying eventlog to original value: {exc}") from None
        return content if self._flags & JSON_DECODE else json.dumps(content, ensure_ascii=False)


def _reason(errnum: int) -> str:
    return "key not found" if errnum == errno.ENOENT else os.strerror(errnum)
