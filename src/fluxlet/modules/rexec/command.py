"""What is to be run: the command object of rexec.exec (spec 04, 5.2). Pure."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fluxlet.config_table import read_size

#: Bytes that wait in a stream's buffer at most, if the command does not say.
DEFAULT_BUFFER = 4 << 20

#: Variables that no process gets: they were about its starter, or about our own service manager.
_REMOVED = ("FLUX_PROXY_REMOTE", "NOTIFY_SOCKET", "INVOCATION_ID")


class StreamOptions(NamedTuple):
    """How a stream is handled: the size of its buffer in bytes, and whether it is cut into lines."""

    size: int
    lines: bool


class Command:
    """A command.

    Args:
        cmdline: its words, at least one.
        env: its environment; empty: that of the server.
        opts: options by name.
        channels: names of auxiliary channels; their descriptors' numbers are in variables of these names.
        cwd: its directory; None: that of the server.
        label: by which others may call the process; None: they may not.
    """

    __slots__ = ("channels", "cmdline", "cwd", "env", "label", "opts")

    def __init__(
        self,
        cmdline: list[str],
        env: dict[str, str],
        opts: dict[str, str],
        channels: list[str],
        cwd: str | None,
        label: str | None,
    ) -> None:
        self.cmdline = cmdline
        self.env = env
        self.opts = opts
        self.channels = channels
        self.cwd = cwd
        self.label = label

    @classmethod
    def parse(cls, value: Any) -> Command:
        """The command that a request's `cmd` describes.

        Raises OSError: EPROTO for what is missing or has another type, EINVAL for a wrong element.
        """
        try:
            if not isinstance(value, dict):
                raise _error(errno.EPROTO)
            cmdline, env, opts, channels = value["cmdline"], value["env"], value["opts"], value["channels"]
        except KeyError:
            raise _error(errno.EPROTO) from None
        cwd, label = value.get("cwd"), value.get("label")
        for name, text in (("cwd", cwd), ("label", label)):
            if name in value and not isinstance(text, str):
                raise _error(errno.EPROTO)
        for words in (cmdline, channels):
            if not isinstance(words, list) or not all(type(word) is str for word in words):
                raise _error(errno.EINVAL)
        for table in (env, opts):
            if not isinstance(table, dict) or not all(type(text) is str for text in table.values()):
                raise _error(errno.EINVAL)
        if value.get("msgchan", []) != []:
            raise OSError(errno.ENOTSUP, "message channels (msgchan) are not supported: use channels")
        return cls(cmdline, env, opts, channels, cwd, label)

    @property
    def name(self) -> str:
        """What lists and the log call it."""
        return command_name(self.cmdline)

    def environment(self, own: Mapping[str, str], uri: str) -> dict[str, str]:
        """The environment of the process.

        Args:
            own: that of the server.
            uri: of the broker that runs it.
        """
        environ = dict(self.env or own)
        for name in _REMOVED:
            environ.pop(name, None)
        environ["FLUX_URI"] = uri
        return environ

    def stream(self, name: str) -> StreamOptions:
        """The options of a stream. Raises OSError(EINVAL) for those that make no sense."""
        text = self.opts.get(f"{name}_LINE_BUFFER", "true").lower()
        if text not in ("true", "false"):
            raise OSError(errno.EINVAL, "Invalid argument")
        try:
            size = read_size(self.opts.get(f"{name}_BUFSIZE", DEFAULT_BUFFER))
        except ValueError:
            raise OSError(errno.EINVAL, "Invalid argument") from None
        return StreamOptions(size, text == "true")

    def describe(self, environ: Mapping[str, str]) -> dict[str, Any]:
        """The command object, with the environment that the process has got."""
        described: dict[str, Any] = {}
        if self.cwd is not None:
            described["cwd"] = self.cwd
        if self.label is not None:
            described["label"] = self.label
        return {
            **described,
            "cmdline": self.cmdline,
            "env": dict(environ),
            "opts": self.opts,
            "channels": self.channels,
            "msgchan": [],
        }


def command_name(words: Sequence[str]) -> str:
    """What a command is called: its first word; of a flux command the second one, too. At most 63 characters."""
    return (f"flux {words[1]}" if words[0] == "flux" and len(words) > 1 else words[0])[:63]


def _error(errnum: int) -> OSError:
    return OSError(errnum, "error parsing command string")
