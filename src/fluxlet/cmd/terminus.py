"""flux terminus — programs on terminals that stay when one leaves (spec 03, 14.5; spec 07, 5.10).

The server (`fluxlet.cmd.terminus_server`) is started on the rank with the first session. Terminals of jobs are attached
to in the same way: their service is ``UID-shell-JOBID.terminus``.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from typing import Any

from flux.cli.attach_terminal import Terminal
from flux.cli.options import Command, Option, Parsed
from flux.cli.tool import Failure, connect, run, show, text_of
from flux.core.handle import Flux

_RANK = Option("r", "rank", "The server on this rank (default: that of the broker here).", "RANK")
_SERVICE = Option("s", "service", "The server of this name (default: USERID-terminus).", "NAME")

COMMAND = Command(
    "terminus",
    "Programs on terminals that stay when one leaves",
    subcommands=[
        Command(
            "terminus start",
            "Start a program on a terminal, by default a shell, and attach to it",
            [
                Option("d", "detach", "Do not attach."),
                Option("w", "wait", "What the program writes waits until somebody has attached, and so does its end."),
                Option("n", "name", "Name of the session (default: that of the program).", "NAME"),
                _RANK,
                _SERVICE,
            ],
            "[COMMAND...]",
            (0, None),
            complete=("@program",),
        ),
        Command(
            "terminus attach",
            "Attach to a session",
            [_RANK, _SERVICE, Option("p", "pipe", "Send standard input, which need not be a terminal, and print.")],
            "ID",
            (1, 1),
        ),
        Command("terminus list", "List sessions", [_RANK, _SERVICE]),
        Command("terminus kill", "End a session", [_RANK, _SERVICE], "ID", (1, 1)),
        Command("terminus kill-server", "End all sessions, and their server", [_RANK, _SERVICE]),
    ],
    description=(
        "A session stays when its client goes: Ctrl-B and then d leaves it, Ctrl-B twice sends a Ctrl-B. The server "
        "ends with its last session, and with its broker."
    ),
    examples=(
        ("flux terminus start", "A shell on the rank of this broker."),
        ("flux terminus start -d -r 3 -n watch top", "A program on another rank, to be looked at later."),
        ("flux terminus attach -r 3 0", "Look at it."),
    ),
    see_also=("exec", "proxy", "job"),
)

#: What is typed before a key of ours: Ctrl-B.
_PREFIX = "\x02"
#: Seconds that a server may take to start.
_PATIENCE = 30.0


class _Attached(Terminal):
    """A session, and a key to leave it."""

    _prefixed = False

    def type(self, text: str) -> None:
        kept = ""
        for char in text:
            if self._prefixed:
                self._prefixed = False
                if char == "d":
                    self.stop()
                    self._handle.reactor_stop()
                    return
                kept += char if char == _PREFIX else _PREFIX + char
            elif char == _PREFIX:
                self._prefixed = True
            else:
                kept += char
        if kept:
            super().type(kept)


class _Piped(Terminal):
    """A session that is typed to by a program: at the end of its input there is a Ctrl-D."""

    def at_end(self) -> None:
        self.type("\x04")
        for watcher in self._watchers:
            watcher.stop()


class _Target:
    """The server that is meant.

    Args:
        handle: a connection to the instance.
        parsed: says which.
    """

    def __init__(self, handle: Flux, parsed: Parsed) -> None:
        self.handle = handle
        self.service = parsed.value("service") or f"{os.getuid()}-terminus"
        text = parsed.value("rank")
        if text is not None and not (text.isascii() and text.isdigit()):
            raise Failure("Option 'rank' requires an integer argument")
        self.rank = handle.get_rank() if text is None else int(text)

    def ask(self, method: str, payload: dict[str, Any] | None = None) -> Any:
        """The answer of the server. Raises Failure."""
        try:
            return self.handle.rpc(f"{self.service}.{method}", payload or {}, self.rank).get()
        except OSError as exc:
            if exc.errno == errno.ENOSYS:
                raise Failure(f"no server {self.service} on rank {self.rank}: start a session first") from None
            raise Failure(text_of(exc)) from None

    def launch(self) -> None:
        """Starts the server, unless it is there. Raises Failure."""
        if self._serves():
            return
        from flux.subprocess import rexec_bg

        words = [sys.executable, "-m", "fluxlet.cmd.terminus_server", self.service]
        environ = {key: value for key, value in os.environ.items() if key != "FLUX_URI"}
        try:
            rexec_bg(self.handle, words, cwd=os.getcwd(), env=environ, nodeid=self.rank).get()
        except OSError as exc:
            raise Failure(f"starting the server on rank {self.rank}: {text_of(exc)}") from None
        deadline = time.monotonic() + _PATIENCE
        while not self._serves():
            if time.monotonic() > deadline:
                raise Failure(f"the server on rank {self.rank} does not start: see flux dmesg")
            time.sleep(0.02)

    def _serves(self) -> bool:
        try:
            self.handle.rpc(f"{self.service}.list", {}, self.rank).get()
        except OSError as exc:
            if exc.errno == errno.ENOSYS:
                return False
            raise
        return True

    def attach(self, session: int, pipe: bool = False) -> int:
        """Attaches to a session until it ends or is left; the exit code. Raises Failure."""
        if not pipe and not sys.stdin.isatty():
            raise Failure("stdin is not a terminal: use --pipe, or start --detach")
        topic = f"{self.service}.{session}"
        terminal = (_Piped if pipe else _Attached)(self.handle, topic, self.rank, raw=not pipe)
        try:
            terminal.start()
            self.handle.reactor_run()
        finally:
            terminal.stop()
        if terminal.error is not None:
            lost = terminal.error.errno == errno.ENOSYS
            raise Failure(f"there is no session {session}" if lost else text_of(terminal.error))
        if terminal.status is None:
            print("[detached]", file=sys.stderr)
            return 0
        code = os.waitstatus_to_exitcode(terminal.status)
        return 128 - code if code < 0 else code


def _id(parsed: Parsed) -> int:
    (text,) = parsed.words
    if not text.isascii() or not text.isdigit():
        raise Failure(f"'{text}' is not the id of a session")
    return int(text)


def _start(target: _Target, parsed: Parsed) -> int:
    if not parsed.has("detach") and not sys.stdin.isatty():
        raise Failure("stdin is not a terminal: use --detach")
    target.launch()
    request = {
        "cmd": parsed.words or [os.environ.get("SHELL") or "/bin/sh"],
        "cwd": os.getcwd(),
        "environ": {name: value for name, value in os.environ.items() if name != "FLUX_URI"},
        "wait": parsed.has("wait") or not parsed.has("detach"),
    }
    if (name := parsed.value("name")) is not None:
        request["name"] = name
    session = target.ask("new", request)["id"]
    if parsed.has("detach"):
        show(str(session))
        return 0
    return target.attach(session)


def _list(target: _Target) -> None:
    found = target.ask("list")
    show(f"{'ID':>3} {'CLIENTS':>7} {'CREATED':<19} NAME")
    for one in found["sessions"]:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["ctime"]))
        show(f"{one['id']:>3} {one['clients']:>7} {when} {one['name']}")


def _body(parsed: Parsed) -> int:
    action = parsed.command.name.rpartition(" ")[2]
    with connect(COMMAND) as handle:
        target = _Target(handle, parsed)
        if action == "start":
            return _start(target, parsed)
        if action == "attach":
            return target.attach(_id(parsed), parsed.has("pipe"))
        if action == "list":
            _list(target)
        else:
            target.ask(action, {"id": _id(parsed)} if action == "kill" else None)
    return 0


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
