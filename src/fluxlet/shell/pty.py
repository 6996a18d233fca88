"""Terminals of tasks: pseudo terminals that clients attach to (spec 07, 5.10)."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Sequence
from time import time
from typing import TYPE_CHECKING, Any

from flux.constants import FLUX_MSGFLAG_STREAMING, FLUX_POLLIN
from flux.message import Message
from flux.reactor import FdEvent
from fluxlet.shell.events import payload
from fluxlet.shell.streams import Characters

if TYPE_CHECKING:
    from fluxlet.shell.connection import Connection

_ROWS, _COLUMNS = 25, 80
_READ_SIZE = 4096
#: What may wait for a terminal whose program reads nothing.
_INPUT = 1 << 20


class Terminal:
    """The master side of one task's terminal.

    Args:
        captured: called with what the task writes; None: it is not captured.
        held: asked before each read; True: it has to wait until `resume`.
        over: called when it has ended: the task, and with `wait` a client that has seen it.
        wait: nothing is read before a client has attached.
    """

    def __init__(
        self,
        connection: Connection,
        index: int,
        captured: Callable[[bytes], None] | None,
        held: Callable[[Terminal], bool],
        over: Callable[[], None],
        wait: bool,
    ) -> None:
        self._connection = connection
        self.index = index
        self._captured = captured
        self._held = held
        self._over = over
        self.waiting = wait
        """A client is still to come."""
        self.created = time()
        self._master, self._slave = os.openpty()
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        self.resize(_ROWS, _COLUMNS)
        self.clients: list[Message] = []
        self._text = Characters()
        self._event: FdEvent | None = None
        self._input: list[bytes] = []
        self._status: int | None = None
        self.ended = False

    def started(self) -> None:
        """The task has its side now."""
        os.close(self._slave)
        self._slave = -1
        if not self.waiting:
            self._watch()

    def _watch(self) -> None:
        if self._event is None and self._master >= 0:
            self._event = self._connection.reactor.fd(self._master, FLUX_POLLIN, lambda fd, revents: self._readable())
            self._event.start()

    def resize(self, rows: int, columns: int) -> None:
        """Sets its size, in characters."""
        if self._master >= 0:
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resume(self) -> None:
        """There is room for what it writes again."""
        if self._event is not None:
            self._event.start()

    def _readable(self) -> None:
        if self._held(self):
            if self._event is not None:
                self._event.stop()
            return
        try:
            data = os.read(self._master, _READ_SIZE)
        except BlockingIOError:
            self._write()
            return
        except OSError:
            data = b""  # EIO: nobody has the other side any more
        if data:
            self._emit(self._text.take(data))
            return
        # Programs close their side, and then end: whose terminal went in between would be hung up.
        if self._event is not None:
            self._event.stop()
            self._event = None
        self._finish()

    def _emit(self, data: bytes) -> None:
        if not data:
            return
        if self._captured is not None:
            self._captured(data)
        try:
            value: dict[str, Any] = {"type": "data", "data": data.decode()}
        except UnicodeDecodeError:
            value = {"type": "data", "data": b2a_base64(data, newline=False).decode(), "encoding": "base64"}
        self._tell(value)

    def _tell(self, value: dict[str, Any]) -> None:
        raw = payload(value)
        for client in self.clients:
            self._connection.answer(client, raw)

    def _write(self) -> None:
        while self._input:
            data = self._input[0]
            try:
                sent = os.write(self._master, data)
            except BlockingIOError:
                return
            except OSError:
                self._input.clear()
                return
            if sent < len(data):
                self._input[0] = data[sent:]
            else:
                self._input.pop(0)

    def type(self, data: bytes) -> None:
        """Has `data` come from the keyboard. Raises OSError(ENOSPC) if nobody reads it."""
        if self._master < 0:
            return
        if sum(map(len, self._input)) + len(data) > _INPUT:
            raise OSError(errno.ENOSPC, "the terminal's program does not read its input")
        self._input.append(data)
        self._write()

    def request(self, msg: Message, value: Any) -> None:
        """A client's message. Raises OSError(EPROTO) for what is none."""
        kind = value.get("type") if isinstance(value, dict) else None
        if kind == "attach":
            if not msg.flags & FLUX_MSGFLAG_STREAMING:
                raise OSError(errno.EPROTO, "attach requires a streaming request")
            self._winsize(value)
            self._connection.answer(msg, payload({"type": "attach"}))
            self.clients.append(msg)
            self.waiting = False
            self._watch()
            if self._status is not None and self._master < 0:
                self._finish()
            return
        if kind == "data":
            text = value.get("data", "")
            try:
                data = text.encode("utf-8", "surrogateescape")
                if value.get("encoding") == "base64":
                    data = a2b_base64(data)
            except (Base64Error, AttributeError, TypeError):
                raise OSError(errno.EPROTO, "bad terminal data") from None
            self.type(data)
        elif kind == "resize":
            if "winsize" not in value:
                raise OSError(errno.EPROTO, "bad terminal size")
            self._winsize(value)
            self._tell({"type": "resize", "winsize": value["winsize"]})
        elif kind == "detach":
            self.detach(msg)
        else:
            raise OSError(errno.EPROTO, f"unknown terminal message type {kind}")
        self._connection.answer(msg)

    def _winsize(self, value: dict[str, Any]) -> None:
        size = value.get("winsize")
        if size is None:
            return
        rows, columns = (size.get("rows"), size.get("cols")) if isinstance(size, dict) else (None, None)
        if type(rows) is not int or type(columns) is not int or not 0 <= rows < 65536 or not 0 <= columns < 65536:
            raise OSError(errno.EPROTO, "bad terminal size")
        self.resize(rows, columns)

    def detach(self, msg: Message) -> None:
        """The client that sent `msg` does not want to see more."""
        for client in [client for client in self.clients if client.routes[-1:] == msg.routes[-1:]]:  # type: ignore[index]
            self.clients.remove(client)
            self._connection.refuse(client, errno.ENODATA)

    def gone(self, msg: Message) -> None:
        """The client that `msg` is the disconnect notice of is no more."""
        self.clients = [client for client in self.clients if client.routes[-1:] != msg.routes[-1:]]  # type: ignore[index]

    def no_client(self) -> None:
        """The job is to end: no client is waited for."""
        if self.waiting:
            self.waiting = False
            self._watch()
            self._finish()

    def exited(self, status: int) -> None:
        """The task has ended."""
        self._status = status
        self._finish()

    def _finish(self) -> None:
        """It is over when the task has ended and all it wrote is read, unless a client is still to come."""
        if self._status is None or self.waiting or self.ended:
            return
        while self._master >= 0:
            try:
                data = os.read(self._master, _READ_SIZE)
            except BlockingIOError:
                return  # somebody else has it still
            except OSError:
                data = b""
            if not data:
                self._close_master()
                break
            self._emit(self._text.take(data))
        self.close()
        self._over()

    def _close_master(self) -> None:
        if self._event is not None:
            self._event.stop()
            self._event = None
        if self._master >= 0:
            os.close(self._master)
            self._master = -1
        self._emit(self._text.flush())

    def close(self) -> None:
        """Ends the session."""
        if self.ended:
            return
        self.ended = True
        self._close_master()
        if self._slave >= 0:
            os.close(self._slave)
            self._slave = -1
        self._tell({"type": "exit", "message": "session exiting", "status": self._status or 0})
        for client in self.clients:
            self._connection.refuse(client, errno.ENODATA)
        self.clients = []


def listing(terminals: Sequence[Terminal], service: str, rank: int, created: float) -> dict[str, Any]:
    """The answer to terminus.list."""
    sessions = [
        {"id": terminal.index, "name": "", "clients": len(terminal.clients), "ctime": terminal.created}
        for terminal in terminals
    ]
    return {"sessions": sessions, "server": {"service": f"{service}.terminus", "rank": rank, "ctime": created}}
