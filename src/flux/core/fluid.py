"""Job ids (FLUID) and their spellings: numbers to text and back, as pure functions (spec 06, section 1; RFC 19).

A job id is 64 bits: 40 of milliseconds, 14 of who has made it, 10 of a sequence. What is written differs by taste:
decimal, hexadecimal, four groups with dots (`dothex`, the name of its KVS directory), base 58 with a leading ƒ,
words, emoji. The tables of the last two are read when they are needed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import lru_cache

_LIMIT = 1 << 64
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VALUE58 = {digit: value for value, digit in enumerate(_BASE58)}
_NWORDS = 1626

_hex = re.compile(r"[0-9a-fA-F]+").fullmatch
_group = re.compile(r"[0-9a-fA-F]{1,4}").fullmatch
_decimal = re.compile(r"\+?[0-9]+").fullmatch
_words = re.compile(r"[a-z]+").findall


def make(timestamp: int, generator: int, sequence: int) -> int:
    """The id of a time (milliseconds), a generator and a sequence number. Raises OverflowError for a time over 2^40."""
    if timestamp >> 40:
        raise OverflowError("job ids have run out: the timestamp does not fit 40 bits")
    return timestamp << 24 | generator << 10 | sequence


def timestamp(jobid: int) -> int:
    """The milliseconds in a job id."""
    return jobid >> 24


def dothex(jobid: int) -> str:
    """``0000.0000.0012.d687``."""
    digits = f"{_checked(jobid):016x}"
    return f"{digits[:4]}.{digits[4:8]}.{digits[8:12]}.{digits[12:]}"


@lru_cache(maxsize=1024)  # several modules ask for each job of an instance
def kvs(jobid: int) -> str:
    """The job's KVS directory: ``job.0000.0000.0012.d687``."""
    return f"job.{dothex(jobid)}"


def f58plain(jobid: int) -> str:
    """Base 58 with an ASCII f in front."""
    return "f" + _digits(jobid, _BASE58)


def f58(jobid: int) -> str:
    """Base 58 with ƒ in front, or f where the locale cannot show that or FLUX_F58_FORCE_ASCII is set."""
    import locale  # few who know of job ids print them

    plain = "FLUX_F58_FORCE_ASCII" in os.environ or locale.nl_langinfo(locale.CODESET).upper() not in ("UTF-8", "UTF8")
    return ("f" if plain else "ƒ") + _digits(jobid, _BASE58)


def words(jobid: int) -> str:
    """Six words: ``nevada-archive-academy--academy-academy-academy``."""
    from flux.core.fluid_tables import WORDS

    halves = []
    for half in (_checked(jobid) & 0xFFFFFFFF, jobid >> 32):
        rest, first = divmod(half, _NWORDS)
        third, second = divmod(rest, _NWORDS)
        halves.append("-".join((WORDS[first], WORDS[second], WORDS[third])))
    return "--".join(halves)


def emoji(jobid: int) -> str:
    """One to seven emoji."""
    from flux.core.fluid_tables import EMOJI

    return _digits(jobid, EMOJI)


def _checked(jobid: int) -> int:
    if not 0 <= jobid < _LIMIT:
        raise OverflowError(f"{jobid:d} is no job id: it does not fit 64 bits")
    return jobid


def _digits(jobid: int, alphabet: str) -> str:
    value, base = _checked(jobid), len(alphabet)
    text = ""
    while value or not text:
        value, digit = divmod(value, base)
        text = alphabet[digit] + text
    return text


#: Every spelling, by its name.
ENCODERS: dict[str, Callable[[int], str]] = {
    "dec": lambda jobid: f"{_checked(jobid):d}",
    "hex": lambda jobid: f"{_checked(jobid):#x}",
    "dothex": dothex,
    "kvs": kvs,
    "f58": f58,
    "f58plain": f58plain,
    "words": words,
    "emoji": emoji,
}


def parse(text: str) -> int:
    """The id that `text` spells, in whichever way (spec 06, 1.3). Raises ValueError."""
    body = text.strip()
    if body.startswith("job."):
        body = body[4:].lstrip()
    value = _decoder(body)(body) if body else None
    if value is None or value >= _LIMIT:
        raise ValueError(f"{text} is not a valid Flux jobid")
    return value


def _decoder(text: str) -> Callable[[str], int | None]:
    """The first spelling that `text` looks like: that one, or none."""
    if "." in text:
        return _from_dothex
    if "-" in text:
        return _from_words
    if text[0] in "ƒf":
        return _from_base58
    if "\U0001f000" <= text[0] <= "\U0001ffff":
        return _from_emoji
    if text.startswith("0x"):
        return _from_hex
    return _from_decimal


def _from_dothex(text: str) -> int | None:
    groups = text.split(".")
    if len(groups) != 4 or not all(map(_group, groups)):
        return None
    return int("".join(group.zfill(4) for group in groups), 16)


def _from_words(text: str) -> int | None:
    from flux.core.fluid_tables import WORDS

    found = _words(text.lower())
    if len(found) != 6 or not set(found) <= set(WORDS):
        return None
    numbers = [WORDS.index(word) for word in found]
    low, high = (a + b * _NWORDS + c * _NWORDS**2 for a, b, c in (numbers[:3], numbers[3:]))
    return high << 32 | low if low >> 32 == high >> 32 == 0 else None


def _from_base58(text: str) -> int | None:
    digits = text[1:]
    if not 1 <= len(digits) <= 12:
        return None
    value = 0
    for digit in digits:
        if digit not in _VALUE58:
            return None
        value = value * 58 + _VALUE58[digit]
    return value


def _from_emoji(text: str) -> int | None:
    from flux.core.fluid_tables import EMOJI

    if len(text) > 7 or any(digit not in EMOJI for digit in text):
        return None
    value = 0
    for digit in text:
        value = value * len(EMOJI) + EMOJI.index(digit)
    return value


def _from_hex(text: str) -> int | None:
    return int(text[2:], 16) if _hex(text[2:]) else None


def _from_decimal(text: str) -> int | None:
    # Digits only, of ASCII: int() takes more.
    return int(text) if len(text) < 4000 and _decimal(text) and text.isascii() else None
