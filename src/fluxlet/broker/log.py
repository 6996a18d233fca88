"""The instance's log: what becomes of each message (spec 03, section 11).

It is a plain object, there before the first module: the broker's parts write to it directly, everybody else
through the service `log`, which hands over what it gets.

Rules:
- A message is the bytes that its sender made, in the shape of RFC 5424; it is kept and passed on as it came. It
  is taken apart for what people read, and as far as decides where it goes.
- A rank keeps its own messages. What is bad enough goes on towards rank 0, where it shows on stderr.
- Losing stderr or the log file costs the messages, never the broker.
"""

from __future__ import annotations

import os
import pwd
import re
import sys
import syslog
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fluxlet.broker.attributes import DEFAULTS, parse_level

if TYPE_CHECKING:
    from fluxlet.broker.broker import Broker

SEVERITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")

#: Called with (severity, message) for every message that goes into the ring.
Listener = Callable[[int, bytes], None]

#: `<PRI>1 TIMESTAMP HOSTNAME APPNAME PROCID MSGID SD MESSAGE`; SD ends at the first space outside brackets.
_header = re.compile(rb"<(\d{1,3})>1 ([^ ]+) ([^ ]+) ([^ ]+) [^ ]+ [^ ]+ (?:\[[^\]]*\]|[^ \[])+(?: |\Z)").match
_line_breaks = re.compile(r"[\r\n]+").split

_LEVELS = {
    "log-level": "level",
    "log-stderr-level": "stderr_level",
    "log-forward-level": "forward_level",
    "log-critical-level": "critical_level",
    "log-syslog-level": "syslog_level",
}
_STDERR_MODES = ("leader", "local")


def _rank_of(host: bytes) -> int:
    """The rank in the place of a message's host; what is no number counts as 0."""
    return int(host) if host.isdigit() and len(host) <= 10 else 0


def short_text(message: bytes) -> str:
    """A message as `APP.SEV[RANK]: TEXT`; one that does not parse as it is."""
    match = _header(message)
    return message.decode("utf-8", "replace") if match is None else _short(match, message)


def _short(match: re.Match[bytes], message: bytes) -> str:
    severity = int(match[1]) >> 3
    name = SEVERITIES[severity] if severity < len(SEVERITIES) else str(severity)
    text = message[match.end() :]
    return f"{match[4].decode('utf-8', 'replace')}.{name}[{_rank_of(match[3])}]: {text.decode('utf-8', 'replace')}"


def long_text(message: bytes) -> str:
    """A message as stderr and the log file show it: with its time, in the local time zone."""
    match = _header(message)
    if match is None:
        return message.decode("utf-8", "replace")
    try:
        when = datetime.fromisoformat(match[2].decode("ascii")).astimezone()
    except ValueError:
        return message.decode("utf-8", "replace")
    return f"{when.strftime('%b %d %H:%M:%S.%f %Z %Y')} {_short(match, message)}"


class Log:
    """The log of one broker.

    Args:
        broker: its rank and attributes are used.

    Raises ValueError, with the text for the user, for an attribute that will not do.
    """

    level: int
    stderr_level: int
    forward_level: int
    critical_level: int
    syslog_level: int

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.rank = broker.rank
        self.ring: deque[bytes] = deque()
        self.count = 0
        """Messages ever put into the ring."""
        self.local = 0
        """Messages of this rank."""
        self.remote = 0
        """Messages of other ranks, or of nobody knows which."""
        self.listeners: list[Listener] = []
        self.forward: Callable[[bytes], None] | None = None
        """Sends a message on to the parent; set by the service `log` on ranks that have one."""
        self._file = -1
        self._prefix = f" {self.rank} "
        self._pid = os.getpid()
        self._configure()
        # Of the others, none can be changed once it is set.
        broker.attributes.watch("log-stderr-level", self._configure)
        path = broker.attributes.visible.get("log-filename")
        if path is not None:
            try:
                self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as exc:
                raise ValueError(f"log-filename: {path}: {exc.strerror}") from None

    # Settings.

    def _configure(self) -> None:
        """Takes over the attributes. Raises ValueError."""
        # One that the user has removed is as if nobody had set it.
        settings = {**DEFAULTS, **self.broker.attributes.visible}
        for name, field in _LEVELS.items():
            try:
                setattr(self, field, parse_level(settings[name] or ""))
            except ValueError:
                raise ValueError(f"{name}: Invalid argument") from None
        try:
            size = int(settings["log-ring-size"] or "")
            if self.ring.maxlen != size:
                self.ring = deque(self.ring, maxlen=size)
        except (ValueError, OverflowError):
            raise ValueError("log-ring-size: Invalid argument") from None
        mode = settings["log-stderr-mode"]
        if mode not in _STDERR_MODES:
            raise ValueError("log-stderr-mode: Invalid argument")
        self.local_mode = mode == "local"
        enable = settings["log-syslog-enable"]
        if enable not in ("0", "1"):
            raise ValueError("log-syslog-enable: value must be 0 or 1")
        self.use_syslog = enable == "1"

    def close(self) -> None:
        """Closes the log file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    # Messages.

    def write(self, severity: int, text: str, appname: str = "broker") -> None:
        """Logs in the broker's own name.

        Args:
            severity: syslog severity, 0 (emergency) to 7 (debug).
            text: each of its lines is a message.
            appname: whose message it is.
        """
        for line in _line_breaks(text):
            if line:
                self._dispose(severity, self.message(severity, line, appname), True)

    def message(self, severity: int, line: str, appname: str) -> bytes:
        """A message of this rank, of this moment."""
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
        head = f"<{severity << 3}>1 {stamp}Z{self._prefix}{appname} {self._pid} - - "
        return (head + line).encode("utf-8", "surrogateescape")

    def append(self, raw: bytes) -> None:
        """Takes a message from `log.append`; anything is one."""
        end = raw.find(b"\0")
        if end >= 0:
            raw = raw[:end]
        match = _header(raw)
        if match is None:
            self._dispose(syslog.LOG_INFO, raw, False)
        else:
            self._dispose(int(match[1]) >> 3, raw, _rank_of(match[3]) == self.rank)

    def clear(self) -> None:
        """Empties the ring; the counters stay."""
        self.ring.clear()

    def _dispose(self, severity: int, message: bytes, own: bool) -> None:
        """Where a message goes, in the order of spec 03, 11.3."""
        if own:
            self.local += 1
            if severity <= self.level and self.ring.maxlen:
                self.ring.append(message)
                self.count += 1
                for listener in tuple(self.listeners):
                    listener(severity, message)
        else:
            self.remote += 1
        shown = severity <= self.critical_level or (self.local_mode and severity <= self.stderr_level)
        if shown:
            self._show(severity, message)
        if self._file >= 0:
            self._to_file(message)
        if self.forward is not None and self.broker.router.parent is not None:
            if severity <= self.forward_level:
                self.forward(message)
        elif not shown and not self.local_mode and severity <= self.stderr_level:
            # Rank 0; or any rank that has nobody to send it to.
            self._show(severity, message)
        if self.use_syslog and severity <= self.syslog_level:
            self._to_syslog(severity, message)

    def _show(self, severity: int, message: bytes) -> None:
        line = f"<{severity}>{short_text(message)}\n" if self.local_mode else long_text(message) + "\n"
        try:
            sys.stderr.write(line)
            sys.stderr.flush()
        except (OSError, ValueError):
            return  # closed, or its reader has gone: there is nobody left to tell

    def _to_file(self, message: bytes) -> None:
        try:
            os.write(self._file, long_text(message).encode("utf-8", "replace") + b"\n")
        except OSError as exc:
            # Before it is reported: that is a message, too.
            self.close()
            path = self.broker.attributes.visible.get("log-filename")
            self.write(syslog.LOG_ERR, f"log file {path}: {exc.strerror}; no longer written")

    def _to_syslog(self, severity: int, message: bytes) -> None:
        try:
            user = pwd.getpwuid(self.broker.owner).pw_name
        except KeyError:
            user = str(self.broker.owner)
        path = self.broker.attributes.visible.get("jobid-path", "/")
        syslog.syslog(min(severity, syslog.LOG_DEBUG), f"{user}@{path} {short_text(message)}")
