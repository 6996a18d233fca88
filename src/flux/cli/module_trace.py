"""The output of `flux module trace` (spec 03, 14.5), and of `flux overlay trace` (spec 04, 2.10)."""

from __future__ import annotations

import errno
import json
from datetime import UTC, datetime
from typing import Any

from flux.cli.human_times import HumanTimes, paint
from flux.cli.options import Parsed
from flux.cli.tool import Failure, show, text_of, use_color
from flux.constants import (
    FLUX_MSGTYPE_CONTROL,
    FLUX_MSGTYPE_EVENT,
    FLUX_MSGTYPE_REQUEST,
    FLUX_MSGTYPE_RESPONSE,
    FLUX_RPC_STREAMING,
)
from flux.core.handle import Flux

_TYPES = {
    "request": FLUX_MSGTYPE_REQUEST,
    "response": FLUX_MSGTYPE_RESPONSE,
    "event": FLUX_MSGTYPE_EVENT,
    "control": FLUX_MSGTYPE_CONTROL,
}
_SIGNS = {
    FLUX_MSGTYPE_REQUEST: ">",
    FLUX_MSGTYPE_RESPONSE: "<",
    FLUX_MSGTYPE_EVENT: "e",
    FLUX_MSGTYPE_CONTROL: "c",
}
_NAME = "\033[33m"
_FAILED = "\033[31m"


def size_text(size: int) -> str:
    """A number of bytes: as it is below 1024, then in K or M."""
    for unit, number in (("M", 1 << 20), ("K", 1 << 10)):
        if size >= number:
            return f"{size / number:.4g}{unit}"
    return str(size)


class Printer:
    """Turns what `module.trace` tells into text.

    Args:
        human: times as people read them.
        delta: then counted from the message before.
        color: with escape sequences.
        full: with payloads.
    """

    def __init__(self, human: bool = False, delta: bool = False, color: bool = False, full: bool = False) -> None:
        self.human = human
        self.color = color
        self.full = full
        self._times = HumanTimes(delta, color)

    def text(self, entry: dict[str, Any], who: tuple[str, str] | None = None) -> str:
        """The line for a message, and its payload behind it if that is wanted.

        Args:
            entry: as the trace tells it.
            who: two words, which way it goes and to or from whom; None: the module's name and which way.
        """
        time = datetime.fromtimestamp(entry["timestamp"], UTC)
        if self.human:
            stamp = self._times.stamp(time)
        else:
            local = time.astimezone().replace(tzinfo=None)
            stamp = self._times.plain(local.isoformat(timespec="milliseconds"))
        words = [
            stamp,
            *(who or (paint(_NAME, entry["name"], self.color), entry["prefix"])),
            _SIGNS.get(entry["type"], "?"),
            entry["topic"],
            f"[{size_text(entry['payload_size'])}]",
        ]
        if entry["type"] == FLUX_MSGTYPE_RESPONSE:
            words.append(self._outcome(entry["errnum"], entry["errstr"]))
        line = " ".join(words)
        if self.full and entry["payload"] is not None:
            line += "\n" + json.dumps(entry["payload"], indent=2, ensure_ascii=False)
        return line

    def _outcome(self, errnum: int, text: str) -> str:
        if not errnum:
            return "success"
        outcome = errno.errorcode.get(errnum, str(errnum))
        if self.full and text:
            outcome += f" {text}"
        return paint(_FAILED, outcome, self.color)


def typemask(text: str | None) -> int:
    """The FLUX_MSGTYPE_* bits of words separated by commas; None: all. Raises Failure."""
    if text is None:
        return sum(_TYPES.values())
    mask = 0
    for word in text.split(","):
        if word not in _TYPES:
            raise Failure(f"invalid --type '{word}': use {', '.join(_TYPES)}")
        mask |= _TYPES[word]
    return mask


def follow(parsed: Parsed, handle: Flux) -> None:
    """Prints messages until it is ended. Raises Failure."""
    human, delta, full = parsed.has("human"), parsed.has("delta"), parsed.has("full")
    if delta and not human:
        raise Failure("--delta can only be used with --human")
    printer = Printer(human, delta, use_color(parsed), full)
    wanted = {
        "typemask": typemask(parsed.value("type")),
        "topic_glob": parsed.value("topic") or "*",
        "names": parsed.words,
        "full": full,
    }
    request = handle.rpc("module.trace", wanted, flags=FLUX_RPC_STREAMING)
    try:
        while True:
            show(printer.text(request.get()))
            request.reset()
    except OSError as exc:
        raise Failure(f"module.trace: {text_of(exc)}") from None
