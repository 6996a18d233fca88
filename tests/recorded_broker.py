"""A broker that knows one conversation: it plays what the reference answered to a recorded client, over a real socket.

The client under test must send what the recorded one did, in the order of the recording; matchtags are its own. What
it sends besides (`TRIFLES`: attributes, cancels of streams that are over) is let pass.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
from base64 import b64decode
from types import TracebackType
from typing import Any, Self

from service_recordings import FLAGS, message_of, records

from flux.message import Message
from flux.wire import Framer, encode

TRIFLES = {b"attr.get", b"job-info.eventlog-watch-cancel"}
_PATIENCE = 60.0


def request_jobspec(signed: str) -> Any:
    """The jobspec in a request J, decoded."""
    return json.loads(b64decode(signed.split(".")[1]))


def comparable(payload: Any) -> Any:
    """A payload without who has signed it."""
    if isinstance(payload, dict) and "J" in payload:
        return {**payload, "J": request_jobspec(payload["J"])}
    return payload


class RecordedBroker:
    """Plays lines of a recording.

    Args:
        name: of the recording; its first connection is played.
        first, last: the numbers of the lines to play, from 1.
    """

    def __init__(self, name: str, first: int = 1, last: int | None = None) -> None:
        self.lines = list(enumerate(records(name), 1))[first - 1 : last]
        self.lines = [(number, line) for number, line in self.lines if line["conn"] == self.lines[0][1]["conn"]]
        self._dir = tempfile.mkdtemp(prefix="fluxlet-")
        self._path = f"{self._dir}/s"
        self.uri = f"local://{self._path}"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.settimeout(_PATIENCE)
        self._thread = threading.Thread(target=self._run, name="recorded broker")
        self.failure: str | None = None
        self.played = 0

    def __enter__(self) -> Self:
        self._listener.bind(self._path)
        self._listener.listen()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.join(_PATIENCE)
        self._listener.close()
        os.unlink(self._path)
        os.rmdir(self._dir)
        assert not self._thread.is_alive()
        if kind is None or self.failure is not None:
            assert self.failure is None, self.failure
            assert self.played == len(self.lines), f"only {self.played} of {len(self.lines)} lines were played"

    def _run(self) -> None:
        try:
            peer, _ = self._listener.accept()
            with peer:
                peer.settimeout(_PATIENCE)
                peer.send(b"\0")
                self._converse(peer)
        except (AssertionError, OSError) as exc:
            self.failure = str(exc)

    def _request(self, peer: socket.socket, framer: Framer) -> Message | None:
        """The next that is no trifle; None if the client is gone."""
        while True:
            message = framer.next()
            while message is None:
                data = peer.recv(65536)
                if not data:
                    return None
                message = framer.next(data)
            if message.topic_bytes not in TRIFLES:
                return message
            if not message.flags & FLAGS["noresponse"]:
                peer.send(encode(message.response(b'{"value":"0","flags":1}\0')))

    def _converse(self, peer: socket.socket) -> None:
        framer, tags = Framer(), {}
        for number, line in self.lines:
            if line["dir"] == "b>c":
                message = message_of(line, ())
                if line["type"] == "response":
                    message.aux2 = tags[line["matchtag"]]
                peer.send(encode(message))
            elif line["topic"].encode() not in TRIFLES:
                request = self._request(peer, framer)
                assert request is not None, f"line {number}: the client has left"
                assert request.topic == line["topic"], f"line {number}: {request!r}"
                told = None if request.raw is None else json.loads(request.raw[:-1])
                wanted = line.get("payload")
                assert comparable(told) == comparable(wanted), f"line {number}: {told}, not {wanted}"
                flags = sum(FLAGS[flag] for flag in line["flags"])
                assert request.flags == flags, f"line {number}: flags {request.flags}, not {flags}"
                assert request.aux1 == line["nodeid"], f"line {number}: nodeid {request.aux1}"
                tags[line["matchtag"]] = request.aux2
            self.played += 1
        # Until the client leaves, for whatever trifles it has to say.
        while self._request(peer, framer) is not None:
            pass
