"""`flux module-python-exec PATH`: runs a Python file as a broker module, in a process of its own (spec 03, 13.4).

The broker starts it; the other end is `fluxlet.broker.process_module`.

Rules:
- The file is run here and nowhere else: whatever it does, it does to this process only.
- Its `mod_main(h, *args)`, or its BrokerModule, is run until it returns. How it ends, the broker is told: an errno,
  0 for a plain return. What it raises is printed: an OSError or ValueError in a line, anything else as a traceback.
- An end that is none of these (sys.exit, a signal) the broker finds out by itself.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from flux.brokermod import resolve_entry_point
from flux.connector.fd import FdConnector
from flux.constants import (
    FLUX_MSGTYPE_REQUEST,
    FLUX_NODEID_ANY,
    FLUX_O_NONBLOCK,
    FLUX_RPC_NORESPONSE,
)
from flux.core.flux_t import FluxT
from flux.core.handle import Flux
from flux.core.link import Link
from flux.message import Message
from fluxlet.broker.loaded import STATUS_EXITED, STATUS_FINALIZING, STATUS_INIT, STATUS_RUNNING
from fluxlet.broker.loading import import_file
from fluxlet.broker.standard import StandardMethods

_SCHEME = "fd://"


def main(argv: list[str]) -> int:
    """Runs the command; returns the exit code."""
    uri = os.environ.pop("FLUX_MODULE_URI", "")
    if len(argv) != 1 or not uri.startswith(_SCHEME):
        return _complain("usage: flux module-python-exec PATH, by the broker: it sets FLUX_MODULE_URI")
    try:
        process = Process(uri.removeprefix(_SCHEME))
    except OSError as exc:
        return _complain(f"{uri}: {exc.strerror}")
    path = argv[0]
    if not os.access(path, os.R_OK):
        return _complain(f"{path}: cannot be read")
    # Beside the file there may be others that it imports.
    sys.path.append(os.path.dirname(os.path.abspath(path)))
    errnum = process.run(path)
    if process.connection.link.lost:
        return 1  # the broker is gone: there is nobody to tell, and nothing to say
    process.end(errnum)
    return 1 if errnum else 0


def _complain(text: str) -> int:
    print(f"flux-module-python-exec: {text}", file=sys.stderr)
    return 1


class Counting(FdConnector):
    """The module's connection, which counts messages by their type number: for `stats-get`."""

    def __init__(self, path: str) -> None:
        self.sent = [0] * 9
        self.received = [0] * 9
        super().__init__(path)

    def send(self, message: Message, nonblock: bool) -> None:
        """As FdConnector.send."""
        super().send(message, nonblock)
        self.sent[message._type] += 1

    def send_request(self, topic: bytes, raw: bytes | None, nodeid: int, matchtag: int, flags: int) -> None:
        """As FdConnector.send_request."""
        super().send_request(topic, raw, nodeid, matchtag, flags)
        self.sent[FLUX_MSGTYPE_REQUEST] += 1

    def recv(self, timeout: float | None) -> Message | None:
        """As FdConnector.recv."""
        return self._count(super().recv(timeout))

    def next_message(self) -> Message | None:
        """As FdConnector.next_message."""
        return self._count(super().next_message())

    def _count(self, message: Message | None) -> Message | None:
        if message is not None:
            self.received[message._type] += 1
        return message


class Process:
    """The module, to those who serve it: its handle, the standard methods, `flux.brokermod`.

    Args:
        descriptor: the number of the connection's.
    """

    def __init__(self, descriptor: str) -> None:
        connector = Counting(descriptor)
        self.sent, self.received = connector.sent, connector.received
        self.connection = FluxT(Link(connector, 0))
        self.flux = Flux(handle=self.connection)
        welcome: dict[str, Any] = self.flux.recv(FLUX_MSGTYPE_REQUEST, topic_glob="welcome").payload
        self.name: str = welcome["name"]
        self.args: list[str] = welcome["args"]
        self.debug_flags = 0
        self._status = STATUS_INIT
        self.connection.link.attrs.update(welcome["attrs"])
        self.connection.aux[b"flux::name"] = self.name.encode()
        self.connection.aux[b"fluxlet::module"] = self
        self.flux._cached_config = welcome["conf"]
        self.flux.log_set_appname(self.name)
        self.standard = StandardMethods(self, welcome["uuid"])
        # Due in the first pass of the module's loop: it is then that the module runs.
        self.flux.timer_watcher_create(0.0, self._loop_runs).start()

    @property
    def rank(self) -> int:
        """The broker's."""
        return self.flux.get_rank()

    def post(self, message: Message) -> None:
        """Sends a message."""
        self.connection.send(message)

    def leave(self) -> None:
        """Ends the module's loop."""
        self.flux.reactor_stop()

    # Its status, which `flux_module_set_running` sets.

    @property
    def status(self) -> int:
        """What the broker has been told last."""
        return self._status

    @status.setter
    def status(self, status: int) -> None:
        if status > self._status:
            self._status = status
            self.flux.rpc("module.status", {"status": status}, FLUX_NODEID_ANY, FLUX_RPC_NORESPONSE)

    def _loop_runs(self, *unused: Any) -> None:
        self.status = STATUS_RUNNING

    def run(self, path: str) -> int:
        """Runs the module's file until its end; returns the errno of that, 0 for a plain return."""
        name = os.path.basename(path)
        try:
            main: Callable[..., Any] = resolve_entry_point(import_file(path))
            # As the reference does it: there is no quoting.
            main(self.flux, *" ".join(self.args).split())
        except ValueError as exc:
            print(f"{name}: {exc}", file=sys.stderr, flush=True)
            return errno.EINVAL
        except OSError as exc:
            if not self.connection.link.lost:
                print(f"{name}: {exc.strerror or exc}", file=sys.stderr, flush=True)
            return exc.errno or errno.ECONNRESET
        except Exception:  # noqa: BLE001  # whatever the user's file raises is to be told
            traceback.print_exc()
            return errno.ECONNRESET
        return 0

    def end(self, errnum: int) -> None:
        """Takes leave of the broker: what it has sent until then is refused, what comes after is not for us."""
        with suppress(ConnectionError):  # the broker goes before us
            self.flux.rpc("module.status", {"status": STATUS_FINALIZING}).get()
            while (request := self._next()) is not None:
                self.flux.respond_error(request, errno.ENOSYS, "the module has ended")
            last = {"status": STATUS_EXITED, "errnum": errnum}
            self.flux.rpc("module.status", last, FLUX_NODEID_ANY, FLUX_RPC_NORESPONSE)

    def _next(self) -> Message | None:
        try:
            return self.flux.recv(FLUX_MSGTYPE_REQUEST, flags=FLUX_O_NONBLOCK)
        except BlockingIOError:
            return None
