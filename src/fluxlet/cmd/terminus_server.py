"""The server of ``flux terminus``: programs on terminals that stay when whoever looks at them goes.

    python -m fluxlet.cmd.terminus_server SERVICE

It is a client of the instance, with a service; a session is what the job shell has for terminals of tasks
(`fluxlet.shell.pty`), and clients attach to it in the same way: topic SERVICE.ID (spec 07, 5.10).

Rules:
- For the instance owner only.
- It ends with its last session, and with its broker; programs that still run are hung up.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import time
from typing import Any

from flux.constants import FLUX_MSGTYPE_REQUEST
from flux.core.handle import Flux
from flux.message import Message
from fluxlet.payload import read_object
from fluxlet.shell.connection import Connection
from fluxlet.shell.pty import Terminal, listing

#: Seconds that a server waits for its first session.
_IDLE = 30.0
#: Seconds from the hangup of a session that is to end until its program is killed.
_GRACE = 3.0


class Session:
    """A program on a terminal."""

    def __init__(self, server: Server, index: int, name: str, request: Mapping[str, Any]) -> None:
        self.name = name
        self.index = index
        self.terminal = Terminal(
            server.connection,
            index,
            captured=None,
            held=lambda terminal: False,
            over=lambda: server.over(self),
            wait=bool(request.get("wait")),
        )
        try:
            slave = os.open(self.terminal.path, os.O_RDWR | os.O_NOCTTY)
            try:
                self._process = subprocess.Popen(
                    request["cmd"],
                    stdin=slave,
                    stdout=slave,
                    stderr=slave,
                    cwd=request.get("cwd"),
                    env={**os.environ, **request.get("environ", {}), "FLUX_TERMINUS_SESSION": str(index)},
                    start_new_session=True,
                    preexec_fn=_take_terminal,
                )
            finally:
                os.close(slave)
        except (OSError, ValueError, TypeError) as exc:
            self.terminal.ended = True  # nobody is there to be told
            self.terminal.started()
            text = exc.strerror if isinstance(exc, OSError) else str(exc)
            raise OSError(getattr(exc, "errno", None) or errno.EINVAL, f"{request['cmd'][0]}: {text}") from None
        self.terminal.started()

    def reap(self) -> None:
        """Notices the end of the program."""
        if self._process.returncode is not None:
            return
        pid, status = os.waitpid(self._process.pid, os.WNOHANG)
        if pid:
            self._process.returncode = os.waitstatus_to_exitcode(status)
            self.terminal.exited(status)

    def signal(self, signum: int) -> None:
        """Sends a signal to the program, and to what is in its process group."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):  # it is ending just now
                os.killpg(self._process.pid, signum)

    def end(self) -> None:
        """Hangs the program up; a client is no longer waited for."""
        self.signal(signal.SIGHUP)
        self.signal(signal.SIGCONT)
        self.terminal.no_client()


def _take_terminal() -> None:
    """In the child: the terminal is the one that its session is on, from where signals of keys come."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Server:
    """See the module.

    Args:
        handle: a connection to the instance.
        service: the name to serve.
    """

    def __init__(self, handle: Flux, service: str) -> None:
        self._handle = handle
        self._service = service
        self.connection = Connection(handle)
        self._created = time()
        self._sessions: dict[int, Session] = {}
        self._next = 0

    def run(self) -> None:
        """Serves until the last session has ended. Raises OSError."""
        handle = self._handle
        handle.service_register(self._service).get()
        handle.msg_watcher_create(self._request, FLUX_MSGTYPE_REQUEST, f"{self._service}.*").start()
        handle.signal_watcher_create(signal.SIGCHLD, lambda *args: self._reap()).start()
        for signum in (signal.SIGTERM, signal.SIGHUP):
            handle.signal_watcher_create(signum, lambda *args: self._end()).start()
        handle.timer_watcher_create(_IDLE, lambda *args: self._end_if_idle()).start()
        try:
            handle.reactor_run()
            # What was sent before has arrived when this is answered.
            handle.service_unregister(self._service).get()
        finally:
            for session in self._sessions.values():
                session.signal(signal.SIGHUP)

    def _reap(self) -> None:
        for session in list(self._sessions.values()):
            session.reap()

    def _end(self) -> None:
        for session in list(self._sessions.values()):
            self._end_session(session)
        self._end_if_idle()

    def over(self, session: Session) -> None:
        """A session has ended."""
        self._sessions.pop(session.index, None)
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if not self._sessions:
            self._handle.reactor_stop()

    def _request(self, handle: Flux, watcher: Any, msg: Message, args: Any) -> None:
        method = msg.topic.removeprefix(f"{self._service}.")
        try:
            if method == "disconnect":
                for session in self._sessions.values():
                    session.terminal.gone(msg)
            elif method.isdigit() and int(method) in self._sessions:
                self._sessions[int(method)].terminal.request(msg, read_object(msg))
            elif method in _METHODS:
                request = read_object(msg) if msg.raw is not None else {}
                handle.respond(msg, _METHODS[method](self, request))
            else:
                raise OSError(errno.ENOSYS, f"Unknown service method '{msg.topic}'")
        except OSError as exc:
            handle.respond_error(msg, exc.errno or errno.EINVAL, exc.strerror)

    def _new(self, request: dict[str, Any]) -> dict[str, Any]:
        words = request.get("cmd")
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            raise OSError(errno.EPROTO, "cmd: the words of a command are expected")
        name = request.get("name") or os.path.basename(words[0])
        try:
            session = Session(self, self._next, str(name), request)
        except OSError:
            self._handle.timer_watcher_create(0.0, lambda *args: self._end_if_idle()).start()
            raise
        self._next += 1
        self._sessions[session.index] = session
        return {"id": session.index, "name": session.name, "pty_service": f"{self._service}.{session.index}"}

    def _list(self, request: dict[str, Any]) -> dict[str, Any]:
        sessions = [self._sessions[index] for index in sorted(self._sessions)]
        found = listing([one.terminal for one in sessions], self._service, self._handle.get_rank(), self._created)
        for entry, session in zip(found["sessions"], sessions, strict=True):
            entry["name"] = session.name
        found["server"]["service"] = self._service
        return found

    def _kill(self, request: dict[str, Any]) -> None:
        session = self._sessions.get(request.get("id", -1))
        if session is None:
            raise OSError(errno.ENOENT, f"there is no session {request.get('id')}")
        self._end_session(session)

    def _end_session(self, session: Session) -> None:
        session.end()
        self._handle.timer_watcher_create(_GRACE, lambda *args: session.signal(signal.SIGKILL)).start()

    def _kill_server(self, request: dict[str, Any]) -> None:
        self._end()


_METHODS = {"new": Server._new, "list": Server._list, "kill": Server._kill, "kill-server": Server._kill_server}


def main(argv: Sequence[str]) -> int:
    """Serves, until the last session has ended. Returns the exit code."""
    with Flux() as handle:
        try:
            Server(handle, argv[0]).run()
        except OSError as exc:
            print(f"flux-terminus: {exc.strerror}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
