"""The client's side of PMI-1 (spec 04, 3.2): over the descriptor in PMI_FD, before the broker's loop runs.

Rules:
- One request at a time, and its response; what comes instead is a PmiError that says what.
- A launcher that has gone is a PmiError, too: nobody waits for ever for a dead one.
"""

from __future__ import annotations

import os
import socket
import sys
from collections import deque
from collections.abc import Mapping

from fluxlet.overlay.bootstrap.pmi_wire import INVALID_KEY, Lines, PmiError, encode, parse


class PmiClient:
    """A connection with a PMI-1 server.

    Args:
        fd: of the connection; it is ours from now on.
        rank, size: as the environment says.
        debug: tell on stderr what is said.
    """

    def __init__(self, fd: int, rank: int, size: int, debug: bool = False) -> None:
        self.rank = rank
        self.size = size
        self.kvsname = ""
        self._debug = debug
        try:
            os.set_inheritable(fd, False)
            self._sock = socket.socket(fileno=fd)
        except OSError as exc:
            raise PmiError(f"PMI_FD={fd}: {exc.strerror}") from None
        self._sock.setblocking(True)
        self._lines = Lines()
        self._received: deque[str] = deque()
        self._cache: dict[str, str | None] = {}

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> PmiClient | None:
        """The connection that a launcher has made for us; None if there is none. Raises PmiError."""
        words = [environ.get(name) for name in ("PMI_FD", "PMI_RANK", "PMI_SIZE")]
        if None in words:
            return None
        numbers = []
        for name, word in zip(("PMI_FD", "PMI_RANK", "PMI_SIZE"), words, strict=True):
            if word is None or not word.isascii() or not word.isdigit():
                raise PmiError(f"{name}={word} is not a number")
            numbers.append(int(word))
        fd, rank, size = numbers
        if rank >= size:
            raise PmiError(f"PMI_RANK={rank} is not below PMI_SIZE={size}")
        return cls(fd, rank, size, "FLUX_PMI_DEBUG" in environ)

    def _send(self, request: str) -> None:
        if self._debug:
            print(f"bootstrap: simple: {request}", file=sys.stderr)
        try:
            self._sock.sendall(encode(request))
        except OSError as exc:
            raise PmiError(f"connection with the launcher: {exc.strerror}") from None

    def _ask(self, request: str, answer: str) -> dict[str, str]:
        """Sends a line; returns the words of the response, whose `cmd` is `answer`."""
        self._send(request)
        try:
            while not self._received:
                data = self._sock.recv(4096)
                if not data:
                    raise PmiError("the launcher has closed the connection")
                self._received.extend(self._lines.feed(data))
        except OSError as exc:
            raise PmiError(f"connection with the launcher: {exc.strerror}") from None
        line = self._received.popleft()
        if self._debug:
            print(f"bootstrap: simple: {line}", file=sys.stderr)
        words = parse(line)
        if words.get("cmd") != answer:
            raise PmiError(f"{answer} was expected, not {line[:80]!r}")
        return words

    def _do(self, request: str, answer: str) -> dict[str, str]:
        words = self._ask(request, answer)
        if words.get("rc", "0") != "0":
            raise PmiError(f"{request.partition(' ')[0]}: rc={words['rc']}")
        return words

    def init(self) -> None:
        """Opens the conversation."""
        self._do("cmd=init pmi_version=1 pmi_subversion=1", "response_to_init")
        self._do("cmd=get_maxes", "maxes")
        self.kvsname = self._do("cmd=get_my_kvsname", "my_kvsname").get("kvsname", "")

    def put(self, key: str, value: str) -> None:
        """Stores a value, for all to see after the next barrier."""
        self._do(f"cmd=put kvsname={self.kvsname} key={key} value={value}", "put_result")

    def get(self, key: str) -> str | None:
        """A value; None if nobody has stored it. Asked for once: values do not change."""
        if key not in self._cache:
            words = self._ask(f"cmd=get kvsname={self.kvsname} key={key}", "get_result")
            code = words.get("rc", "0")
            if code not in ("0", str(INVALID_KEY), "-1"):
                raise PmiError(f"get {key}: rc={code}")
            self._cache[key] = words.get("value", "") if code == "0" else None
        return self._cache[key]

    def forget(self, key: str) -> None:
        """Has the next `get` of a key ask again."""
        self._cache.pop(key, None)

    def barrier(self) -> None:
        """Waits for all ranks."""
        self._do("cmd=barrier_in", "barrier_out")

    def abort(self, text: str) -> None:
        """Has the launcher end the whole program; that is not answered."""
        self._send(f"cmd=abort exitcode=1 error_msg={text}")

    def finalize(self) -> None:
        """Ends the conversation."""
        self._do("cmd=finalize", "finalize_ack")
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._sock.close()
