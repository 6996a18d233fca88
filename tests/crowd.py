"""A program: very many clients in one process, who ask, publish and listen, and check what they get.

    python tests/crowd.py URI NUMBER

It prints `connected`, waits for a line, does its work, prints the number of answers, and stays connected until another
line. Any answer or event that is missing, or comes out of order, ends it with an error.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import flux
from flux.constants import FLUX_MSGTYPE_EVENT
from flux.message import Message

RPCS = 20
EVENTS = 10


class Client:
    """One of many in a process. It asks, publishes and listens, and keeps what it gets in the order it came.

    Args:
        uri: of the instance.
        name: of this client, nobody else's.
    """

    def __init__(self, uri: str, name: str) -> None:
        self.handle = flux.Flux(uri)
        self.name = name
        self.answers: list[int] = []
        self.published: list[int] = []
        self.heard: list[int] = []
        self.watcher = self.handle.msg_watcher_create(self._on_event, FLUX_MSGTYPE_EVENT, f"{name}.*")
        self.watcher.start()
        self.handle.event_subscribe(f"{name}.")

    def ask(self) -> None:
        """Sends all requests and events, without waiting for an answer."""
        for number in range(RPCS):
            self.handle.rpc("broker.ping", {"client": self.name, "number": number}).then(self._on_answer)
            if number < EVENTS:
                event = Message.event(f"{self.name}.event".encode(), b'{"number":%d}\0' % number)
                self.handle.send(event)

    def _on_answer(self, future: Any) -> None:
        answer = future.get()
        assert answer["client"] == self.name
        self.answers.append(answer["number"])
        self._finish()

    def _on_event(self, handle: flux.Flux, watcher: Any, message: Message, args: Any) -> None:
        self.heard.append(message.payload["number"])
        self._finish()

    def _finish(self) -> None:
        if len(self.answers) == RPCS and len(self.heard) == EVENTS:
            self.watcher.stop()

    def run(self) -> None:
        """Waits for everything, and checks it."""
        self.handle.reactor_run()
        assert self.answers == list(range(RPCS)), (self.name, self.answers)
        assert self.heard == list(range(EVENTS)), (self.name, self.heard)


def crowd(uri: str, size: int) -> None:
    """All clients connect, then all ask, then all are looked at."""
    clients = [Client(uri, f"c{os.getpid()}-{number}") for number in range(size)]
    print("connected", flush=True)
    sys.stdin.readline()
    for client in clients:
        client.ask()
    for client in clients:
        client.run()
    print(sum(len(client.answers) for client in clients), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    crowd(sys.argv[1], int(sys.argv[2]))
