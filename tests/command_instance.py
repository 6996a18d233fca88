"""A broker for tests of commands: in a thread of this process, with the services that the commands talk to.

The fixture `instance` is imported by the `conftest.py` of the directories that use it. Commands run as processes of
their own, by the driver; what they send is kept in `sent`, in the form of `tests/vectors/*.jsonl`.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

from flux.message import Message
from fluxlet.broker.attributes import Attributes
from fluxlet.broker.broker import Broker
from fluxlet.broker.builtins import load_builtins
from fluxlet.broker.clients import Client
from fluxlet.broker.router import Delivery
from fluxlet.service import Service

VECTORS = Path(__file__).parent / "vectors"
_FLAGS = ("topic", "payload", "noresponse", "route", "upstream", "private", "streaming")


def recorded(message: Message) -> dict[str, Any]:
    """A message of a client as a line of a recording, without what differs from run to run."""
    line: dict[str, Any] = {
        "type": message.type_str,
        "topic": message.topic,
        "flags": [name for bit, name in enumerate(_FLAGS) if message.flags & 1 << bit],
        "userid": message._userid,
        "rolemask": message._rolemask,
    }
    if message.type_str == "request":
        line |= {"nodeid": message.aux1}
    if message.raw is not None:
        line["payload"] = payload(message.raw)
    return line


def payload(raw: bytes) -> Any:
    """A payload as recordings have it."""
    if not raw.endswith(b"\0"):
        return {"b64": base64.b64encode(raw).decode()}
    text = raw[:-1].decode()
    return json.loads(text) if text.startswith("{") else {"text": text}


def recording(name: str, conn: int) -> list[dict[str, Any]]:
    """What the client of one connection sent in a recording."""
    lines = [json.loads(line) for line in (VECTORS / f"{name}.jsonl").read_text().splitlines()]
    keys = ("type", "topic", "flags", "userid", "rolemask", "nodeid", "payload")
    return [
        {key: line[key] for key in keys if key in line}
        for line in lines
        if line.get("conn") == conn and line.get("dir") == "c>b"
    ]


class Instance:
    """The running broker, and a way to run commands under it.

    Args:
        directory: for its socket.
        services: stand for services that it has not, by name.
        settings: attributes of the broker, besides those that all have.
    """

    def __init__(
        self,
        directory: str,
        services: Mapping[str, type[Service]] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.path = os.path.join(directory, "local-0")
        self.uri = f"local://{self.path}"
        self.sent: list[dict[str, Any]] = []
        self.news = threading.Condition()  # notified when `sent` grows
        attributes = Attributes({})
        values = {
            "rank": "0",
            "size": "1",
            "hostname": "vm",
            "hostlist": "vm",
            "version": "0.88.0",
            "local-uri": self.uri,
        }
        values |= settings or {}
        for name, value in values.items():
            attributes.set_internal(name, value)
        self.broker = Broker(attributes)
        load_builtins(self.broker)
        for name, service in (services or {}).items():
            if name in self.broker.modules:
                self.broker.unload(name)
            self.broker.load(name, service)
        self._receive = self.broker.clients.receive
        self.broker.clients.receive = self._record  # type: ignore[method-assign]
        self.broker.server.listen(self.path)
        self._thread = threading.Thread(target=self.broker.reactor.run)
        self._thread.start()
        if not {"job-manager", "resource", "sched-simple"} & set(services or {}):
            # What the scheduler says when it has resources is the last that comes unasked: into logs of tests, if late.
            wait_until(lambda: any(b" ready: mode" in line for line in list(self.broker.log.ring)), "the scheduler")

    def _record(self, client: Client, message: Message) -> list[Delivery]:
        line = recorded(message) if message.topic_bytes is not None else None
        deliveries = self._receive(client, message)
        if line is not None:
            with self.news:
                self.sent.append(line)
                self.news.notify_all()
        return deliveries

    def stop(self) -> None:
        """Ends the broker; idempotent."""
        if self._thread.is_alive():
            # What modules say of each other's end is nobody's business: stand-ins come and go in any order.
            self.broker.attributes.set_internal("log-stderr-level", "0")
            self.broker.reactor.stop()
            self.broker.reactor.wake()
            self._thread.join()
            self.broker.shutdown()

    def environment(self, **env: str | None) -> dict[str, str]:
        """The environment of commands; None removes a variable."""
        environ: dict[str, str | None] = {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "TZ": "UTC",
            "FLUX_URI": self.uri,
            **env,
        }
        return {name: value for name, value in environ.items() if value is not None}

    def command(self, *words: str) -> list[str]:
        """The command line of ``flux WORDS``."""
        return [sys.executable, "-m", "fluxlet.cmd.driver", *words]

    def run(self, *words: str, input: str = "", **env: str | None) -> subprocess.CompletedProcess[str]:
        """Runs ``flux WORDS`` to its end."""
        others = set(self.broker.clients.all)
        done = subprocess.run(
            self.command(*words),
            input=input,
            env=self.environment(**env),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        # What it has sent last may still be on its way: who comes after it is answered when it has been let in.
        with socket.socket(socket.AF_UNIX) as later:
            later.connect(self.path)
            later.recv(1)
        deadline = time.monotonic() + 60.0
        while set(self.broker.clients.all) - others and time.monotonic() < deadline:
            time.sleep(0.001)
        return done

    def start(self, *words: str, **env: str | None) -> subprocess.Popen[str]:
        """Starts ``flux WORDS``."""
        return subprocess.Popen(
            self.command(*words),
            env=self.environment(**env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def take(self) -> list[dict[str, Any]]:
        """What clients have sent since the last call."""
        sent, self.sent = self.sent, []
        return sent


@pytest.fixture
def instance() -> Iterator[Instance]:
    with tempfile.TemporaryDirectory(prefix="flux-", dir="/tmp") as directory:
        running = Instance(directory)
        try:
            yield running
        finally:
            running.stop()
