"""flux dmesg — shows the instance's log (spec 03, 14.4; formats: section 11)."""

from __future__ import annotations

import errno
from datetime import UTC, datetime

from flux.cli.human_times import HumanTimes, paint
from flux.cli.options import Command, Option, Parsed
from flux.cli.severity import SEVERITIES
from flux.cli.tool import Failure, call, connect, run, show, text_of, use_color
from flux.constants import FLUX_RPC_STREAMING

COMMAND = Command(
    "dmesg",
    "Print Flux log messages",
    [
        Option("C", "clear", "Clear the ring buffer."),
        Option("c", "read-clear", "Clear the ring buffer after printing it."),
        Option("f", "follow", "Go on with new messages as they come."),
        Option("n", "new", "Leave out the messages that are there already (with --follow)."),
        Option("H", "human", "Make times easy to read: once a minute the date, then seconds since."),
        Option("d", "delta", "With --human: seconds since the message before."),
        Option("L", "color", "Colors: always, never or auto (default). Without WHEN: always.", "WHEN", optional=True),
    ],
    builtin=True,
    description="Prints the log of the instance: the last messages, which the broker keeps in memory.",
    examples=(
        ("flux dmesg --human", "With times that are easy to read."),
        ("flux dmesg --follow --new", "Only what comes from now on, until Ctrl-C."),
    ),
    see_also=("logger",),
)

_ORIGIN = "\033[33m"
#: By severity; those in between are as they are.
_COLORS = ("\033[7;31m", "\033[7;31m", "\033[1;31m", "\033[31m", "\033[1m", "", "", "\033[34m")


class Entry:
    """A log message, taken apart (spec 03, 11.1). Raises ValueError for text that is none.

    Attributes:
        time: aware, in UTC.
        origin: as it is shown: ``APPNAME.SEVERITY[RANK]``.
        severity: 0 (emerg) to 7 (debug).
        text: the message itself.
    """

    def __init__(self, line: str) -> None:
        head, stamp, rank, appname, _pid, _msgid, rest = line.split(" ", 6)
        if not head.startswith("<") or not head.endswith(">1"):
            raise ValueError("not a log message")
        self.severity = int(head[1:-2]) >> 3
        if not 0 <= self.severity < len(SEVERITIES):
            raise ValueError("not a severity")
        self.time = datetime.fromisoformat(stamp)
        if self.time.tzinfo is not UTC:
            raise ValueError("not a time in UTC")
        self.origin = f"{appname}.{SEVERITIES[self.severity]}[{rank}]"
        self.text = _behind_structured_data(rest)


def _behind_structured_data(text: str) -> str:
    """What follows the first blank outside of brackets."""
    depth = 0
    for at, char in enumerate(text):
        if char == " " and depth == 0:
            return text[at + 1 :]
        depth += (char == "[") - (char == "]")
    return ""


class Printer:
    """Turns log messages into lines.

    Args:
        human: times as people read them.
        delta: then counted from the message before, not from the first of the minute.
        color: with escape sequences.
    """

    def __init__(self, human: bool = False, delta: bool = False, color: bool = False) -> None:
        self.human = human
        self.color = color
        self._times = HumanTimes(delta, color)

    def _stamp(self, time: datetime) -> str:
        if self.human:
            return self._times.stamp(time)
        local = time.astimezone()
        if local.utcoffset():
            return self._times.plain(local.isoformat(timespec="microseconds"))
        return self._times.plain(time.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))

    def line(self, text: str) -> str:
        """The line for a message; text that is none is shown as it is."""
        try:
            entry = Entry(text)
        except ValueError:
            return text
        stamp = self._stamp(entry.time)
        message = paint(_COLORS[entry.severity], entry.text, self.color)
        return f"{stamp} {paint(_ORIGIN, entry.origin, self.color)}: {message}"


def _body(parsed: Parsed) -> int:
    human, delta = parsed.has("human"), parsed.has("delta")
    if delta and not human:
        raise Failure("--delta can only be used with --human")
    printer = Printer(human, delta, use_color(parsed))
    follow = parsed.has("follow")
    with connect(COMMAND) as handle:
        if not parsed.has("clear"):
            payload = {"follow": follow, "nobacklog": parsed.has("new")}
            request = handle.rpc("log.dmesg", payload, flags=FLUX_RPC_STREAMING)
            try:
                while True:
                    text = (request.get_str() or "").rstrip("\r\n")
                    show(printer.line(text), flush=follow)
                    request.reset()
            except OSError as exc:
                if exc.errno != errno.ENODATA:
                    raise Failure(f"log.dmesg: {text_of(exc)}") from None
        if parsed.has("clear") or parsed.has("read-clear"):
            call(handle, "log.clear", context="log.clear")
    return 0


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
