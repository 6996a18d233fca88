"""flux proxy — a local socket in front of an instance somewhere else, for a command or a shell (spec 03, 14.7).

Rules:

- The socket is for this user alone, whoever may be an owner at the other end.
- The command's words are joined and given to $SHELL, as scripts are used to: quote what is not to be split again.
- We live as long as the command does, and pass on what it ends with: signals from the terminal reach it by
  themselves, others are handed on.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable
from functools import partial

from flux.cli.options import Command, Option, Parsed
from flux.cli.target import resolve_target
from flux.cli.tool import Failure, run, text_of
from flux.constants import FLUX_ROLE_NONE
from flux.core.handle import Flux
from flux.reactor import PrepareEvent, Reactor, SignalEvent, tls
from flux.version import CORE_VERSION
from flux.wire import Framer
from fluxlet.broker.local_server import Connection, Limits, LocalServer
from fluxlet.broker.router import LOCAL_OWNER
from fluxlet.broker.rundir import MAX_SOCKET
from fluxlet.broker.upstream import RelayedClients, Upstream, deliver

COMMAND = Command(
    "proxy",
    "Create proxy environment for Flux instance",
    [
        Option("f", "force", "Connect even if the versions of proxy and broker do not match."),
        Option("n", "nohup", "Do not send SIGHUP to child processes when the connection is lost."),
        Option("", "reconnect", "When the connection is lost, try to get it back."),
    ],
    arguments="JOBID|URI [COMMAND...]",
    words=(1, None),
    builtin=True,
    complete=("", "@program", "@file"),
    description="Runs a command, or a shell, with FLUX_URI naming a socket of its own, through which it reaches "
    "another instance: one on another machine, or that of a job. The words are joined and given to the shell, so quote "
    "what is not to be split again. The connection is made once, however many programs use it.",
    examples=(
        ("flux proxy ssh://host/run/user/1000/flux/local flux uptime", "Ask an instance on another machine."),
        ("flux proxy local:///tmp/flux-a1b2c3/local-0", "A shell, with access to an instance on this one."),
    ),
    see_also=("relay", "uri", "start"),
)

#: Seconds between attempts to connect again.
_RETRY = 1.0
_PREFIX = "Unable to connect to Flux: "


def _say(text: str) -> None:
    print(f"flux-proxy: {text}", file=sys.stderr)


def _open(uri: str) -> Flux:
    try:
        return Flux(uri)
    except OSError as exc:
        raise Failure(f"{uri}: {text_of(exc).removeprefix(_PREFIX)}") from None


def check_version(broker: str, force: bool) -> str | None:
    """Compares the broker's version with ours: None if they fit, else a warning; without `force`, Failure."""
    ours, theirs = (re.match(r"(\d+)\.(\d+)\.\d+", text) for text in (CORE_VERSION, broker))
    if ours is not None and theirs is not None and ours.groups() == theirs.groups():
        return None
    text = f"proxy version {CORE_VERSION} may not interoperate with broker version {broker}"
    if not force:
        raise Failure(f"fatal: {text} (--force to connect anyway)")
    return f"warning: {text}"


def _parent_directory() -> str:
    """Where the socket's directory goes."""
    parent = os.environ.get("TMPDIR") or "/tmp"
    if not os.path.isdir(parent):
        _say(f"TMPDIR ({parent}) is not a directory: using /tmp")
        return "/tmp"
    if len(os.fsencode(parent)) + len("/flux-proxy-XXXXXXXX/local") > MAX_SOCKET:
        _say(f"TMPDIR ({parent}) is too long for a socket in it: using /tmp")
        return "/tmp"
    return parent


class Proxy:
    """The proxy while it runs.

    Args:
        handle: the connection to the target.
        uri: of the target.
        directory: where to put the socket.
        nohup, reconnect: the options.
    """

    def __init__(self, handle: Flux, uri: str, directory: str, nohup: bool, reconnect: bool) -> None:
        self.uri = uri
        self.socket = os.path.join(directory, "local")
        self._nohup = nohup
        self._reconnect = reconnect
        self._reactor = Reactor()
        handle.core.set_reactor(self._reactor)
        self._upstream = Upstream(handle, track=reconnect)
        self._clients = RelayedClients(self._upstream)
        self._server = LocalServer(
            self._reactor,
            self._clients,
            str(uuid.uuid4()).encode(),
            lambda uid: LOCAL_OWNER if uid == os.getuid() else FLUX_ROLE_NONE,
            self._receive,
            deliver,
            lambda severity, text: _say(text),
            Limits(),
        )
        self._server.listen(self.socket)
        self._child: subprocess.Popen[bytes] | None = None
        self._status: int | None = None
        self._events: list[PrepareEvent | SignalEvent] = [
            self._reactor.prepare(self._server.flush),
            self._reactor.signal(signal.SIGCHLD, self._on_child),
        ]
        for signum, action in _SIGNALS.items():
            # One that we have been told to ignore (nohup), the child is to ignore as well.
            if signal.getsignal(signum) is not signal.SIG_IGN:
                self._events.append(self._reactor.signal(signum, partial(action, self)))
        self._retry = self._reactor.timer(_RETRY, _RETRY, self._try_again)
        for event in self._events:
            event.start()

    def _receive(self, connection: Connection, framer: Framer, data: bytes) -> None:
        framer.feed(data)
        while (message := framer.next()) is not None:
            deliver(self._clients.receive(connection, message))

    # The child.

    def start(self, words: list[str]) -> None:
        """Starts the command, or a shell. Raises Failure."""
        environment = {**os.environ, "FLUX_URI": f"local://{self.socket}"}
        if self.uri.startswith("ssh://"):
            environment["FLUX_PROXY_REMOTE"] = self.uri.removeprefix("ssh://").partition("/")[0]
        shell = os.environ.get("SHELL") or "/bin/sh"
        argv = [shell, "-c", " ".join(words)] if words else [shell]
        try:
            self._child = subprocess.Popen(argv, env=environment)
        except OSError as exc:
            raise Failure(f"{shell}: {os.strerror(exc.errno or errno.EIO)}") from None

    def _on_child(self, signum: int) -> None:
        if self._child is not None and self._child.poll() is not None:
            code = self._child.returncode
            self._status = code if code >= 0 else 128 - code
            self._reactor.stop()

    def _leave(self, signum: int) -> None:
        """The terminal has sent it to the child as well, which decides what it means."""

    def _forward(self, signum: int) -> None:
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(signum)

    # The connection.

    def run(self) -> int:
        """Serves until the command has ended; its exit code, 128+N for signal N."""
        while self._status is None:
            self._reactor.run()
            if tls.exception is not None:
                exception, tls.exception = tls.exception, None
                raise exception
            handle = self._upstream.handle
            if handle is not None and handle.core.link.lost:
                self._lost()
        return self._status

    def _lost(self) -> None:
        self._upstream.drop()
        if self._reconnect:
            _say("Lost connection to Flux: trying to reconnect")
            self._retry.start()
            return
        _say("Lost connection to Flux")
        self._server.shutdown()
        if not self._nohup:
            _say("Sending SIGHUP to child processes")
            self._forward(signal.SIGHUP)

    def _try_again(self) -> None:
        try:
            handle = Flux(self.uri)
        except OSError:
            return  # said once, when it was lost; there is another try in a moment
        self._retry.stop()
        handle.core.set_reactor(self._reactor)
        deliver(self._upstream.use(handle))
        _say("Reconnected to Flux")

    def close(self) -> None:
        """Ends everything; the socket goes."""
        self._retry.stop()
        self._server.shutdown()
        for event in self._events:
            event.stop()
        self._upstream.drop()
        self._reactor.close()


_SIGNALS: dict[int, Callable[[Proxy, int], None]] = {
    signal.SIGINT: Proxy._leave,
    signal.SIGQUIT: Proxy._leave,
    signal.SIGTERM: Proxy._forward,
    signal.SIGHUP: Proxy._forward,
}


def _body(parsed: Parsed) -> int:
    target, *words = parsed.words
    uri = resolve_target(target, f"Unable to resolve {target} to a URI")
    handle = _open(uri)
    try:
        broker = handle.attr_get("version")
    except OSError as exc:
        raise Failure(f"{uri}: error getting broker version: {text_of(exc)}") from None
    warning = check_version(broker, parsed.has("force"))
    if warning is not None:
        _say(warning)
    with tempfile.TemporaryDirectory(
        prefix="flux-proxy-", dir=_parent_directory(), ignore_cleanup_errors=True
    ) as directory:
        proxy = Proxy(handle, uri, directory, parsed.has("nohup"), parsed.has("reconnect"))
        try:
            proxy.start(words)
            return proxy.run()
        finally:
            proxy.close()


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
