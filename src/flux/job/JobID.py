"""JobID: the id of a job, a number that shows itself as ƒ58 (spec 06, 1.4)."""

from __future__ import annotations

import errno
from typing import Any

from flux.core import fluid
from flux.wrapper import InvalidArguments, local_error

__all__ = ["JobID", "id_encode", "id_parse"]


def id_parse(jobid_str: str | bytes) -> int:
    """The number of a job id in any spelling. Raises OSError(EINVAL) for what is none."""
    try:
        return fluid.parse(_text(jobid_str))
    except ValueError as exc:
        raise local_error(errno.EINVAL) from exc


def id_encode(jobid: Any, encoding: str = "f58") -> str:
    """A job id in a spelling: dec, hex, dothex, kvs, f58, f58plain, words, emoji.

    Raises OSError(EPROTO) for another, OverflowError for a number that does not fit 64 bits.
    """
    encoder = fluid.ENCODERS.get(encoding.lower())
    if encoder is None:
        raise local_error(errno.EPROTO)
    return encoder(int(jobid))


def _text(value: str | bytes) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    raise InvalidArguments("flux_job_id_parse", "int flux_job_id_parse(const char *, flux_jobid_t *)", (value,))


class JobID(int):
    """The id of a job.

    Args:
        value: a JobID, an int, or text (str, bytes) in any spelling.

    Raises ValueError for text that is no job id, and for None.
    """

    orig_str: str
    """What it was made from, as text."""

    def __new__(cls, value: Any) -> JobID:
        orig = value.orig_str if isinstance(value, JobID) else str(value)
        if isinstance(value, int):
            number = int(value)
        elif value is None:
            raise ValueError(f"{value} is not a valid Flux jobid")
        else:
            number = fluid.parse(_text(value))
        self = super().__new__(cls, number)
        self.orig_str = orig
        return self

    def encode(self, encoding: str = "dec") -> str:
        """As `id_encode`."""
        return id_encode(self, encoding)

    @property
    def dec(self) -> str:
        """Decimal."""
        return self.encode("dec")

    @property
    def f58(self) -> str:
        """Base 58 with ƒ (f where the locale cannot show that)."""
        return fluid.f58(self)

    @property
    def f58plain(self) -> str:
        """Base 58 with an ASCII f."""
        return fluid.f58plain(self)

    @property
    def hex(self) -> str:
        """Hexadecimal with 0x."""
        return self.encode("hex")

    @property
    def dothex(self) -> str:
        """Four groups of hexadecimal digits."""
        return fluid.dothex(self)

    @property
    def words(self) -> str:
        """Six words."""
        return fluid.words(self)

    @property
    def emoji(self) -> str:
        """Emoji."""
        return fluid.emoji(self)

    @property
    def kvs(self) -> str:
        """The job's KVS directory."""
        return fluid.kvs(self)

    @property
    def orig(self) -> str:
        """What it was made from, as text."""
        return self.orig_str

    def __str__(self) -> str:
        return fluid.f58(self)

    def __repr__(self) -> str:
        return f"JobID({self.encode('dec')})"

    def __getnewargs__(self) -> tuple[int]:
        return (int(self),)
