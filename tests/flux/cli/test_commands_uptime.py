"""flux uptime (spec 03, 14.9)."""

from __future__ import annotations

import getpass
import os
import pwd
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from command_instance import Instance, recording

from flux.brokermod import request_handler
from flux.cli.human_times import short_duration
from flux.message import Message
from fluxlet.service import Service

DRAIN: dict[str, Any] = {}
QUEUES: dict[str, dict[str, bool]] = {}


class Resource(Service):
    """Answers as resource does, with DRAIN."""

    @request_handler("status", allow_guest=True)
    def status(self, msg: Message) -> None:
        self.handle.respond(msg, {"drain": DRAIN, "online": "0", "offline": ""})


class JobManager(Service):
    """Answers as job-manager does, with QUEUES; the one called "" is anonymous."""

    @request_handler("queue-list", allow_guest=True)
    def queue_list(self, msg: Message) -> None:
        self.handle.respond(msg, {"queues": [name for name in QUEUES if name]})

    @request_handler("queue-status", allow_guest=True)
    def queue_status(self, msg: Message) -> None:
        self.handle.respond(msg, QUEUES[msg.payload.get("name", "")])


Start = Callable[..., Instance]
ALL: Mapping[str, type[Service]] = {"resource": Resource, "job-manager": JobManager}


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts an instance that is up for 90 minutes, with services and attributes."""
    DRAIN.clear()
    QUEUES.clear()
    running = []
    with tempfile.TemporaryDirectory(prefix="flux-", dir="/tmp") as directory:

        def run(services: Mapping[str, type[Service]], **settings: str) -> Instance:
            # The middle of what is shown as 1.5h.
            defaults = {"broker.starttime": f"{time.time() - 5400:.2f}", "security.owner": str(os.getuid())}
            settings = {name.replace("_", "."): value for name, value in settings.items()}
            running.append(Instance(directory, services, {**defaults, **settings}))
            return running[-1]

        try:
            yield run
        finally:
            for instance in running:
                instance.stop()


USER = pwd.getpwuid(os.getuid()).pw_name


def lines(instance: Instance, *words: str) -> list[str]:
    """What is printed, without the clock."""
    done = instance.run("uptime", *words)
    assert (done.stderr, done.returncode) == ("", 0)
    first, *rest = done.stdout.splitlines()
    assert re.match(r" [0-2]\d:[0-5]\d:[0-5]\d run ", first)
    return [first[10:], *rest]


def test_requests_are_those_of_the_reference(start: Start) -> None:
    QUEUES[""] = {"enable": True, "start": True}
    instance = start(ALL)
    assert lines(instance) == [f"run 1.5h,  owner {USER},  depth 0,  size 1"]
    assert instance.take() == recording("broker-state", 1)


def test_services_that_are_missing_have_nothing_to_say(start: Start) -> None:
    assert lines(start({})) == [f"run 1.5h,  owner {USER},  depth 0,  size 1"]


def test_nodes(start: Start) -> None:
    DRAIN.update({"1": {}, "3-4": {}})
    QUEUES[""] = {"enable": True, "start": True}
    assert lines(start(ALL, size="7")) == [f"run 1.5h,  owner {USER},  depth 0,  size 7,  3 drained,  6 offline"]


@pytest.mark.parametrize(
    ("queues", "second"),
    [
        ({"": (True, True)}, []),
        ({"": (False, True)}, ["  submit disabled"]),
        ({"": (True, False)}, ["  scheduler stopped"]),
        ({"": (False, False)}, ["  submit disabled,  scheduler stopped"]),
        ({"a": (False, True), "b": (True, True)}, []),
        ({"a": (False, True), "b": (False, False)}, ["  submit disabled"]),
        ({"a": (False, False), "b": (True, False)}, ["  scheduler stopped"]),
    ],
)
def test_what_jobs_cannot_do(start: Start, queues: dict[str, tuple[bool, bool]], second: list[str]) -> None:
    QUEUES.update({name: {"enable": enable, "start": run} for name, (enable, run) in queues.items()})
    assert lines(start({"job-manager": JobManager}))[1:] == second


def test_an_owner_without_name_and_an_instance_in_another(start: Start) -> None:
    instance = start({}, security_owner="4123456789", **{"instance-level": "2"})
    assert lines(instance) == ["run 1.5h,  owner 4123456789,  depth 2,  size 1"]


def test_arguments_are_ignored(start: Start) -> None:
    assert lines(start({}), "some", "-x") == [f"run 1.5h,  owner {USER},  depth 0,  size 1"]


def test_a_real_instance(instance_uri: str, instance: Instance) -> None:
    done = instance.run("uptime", FLUX_URI=instance_uri)
    pattern = rf" \d\d:\d\d:\d\d run [0-9.]+(ms|s|m),  owner {getpass.getuser()},  depth 0,  size 1\n"
    assert re.match(pattern, done.stdout)


def test_without_an_instance(instance: Instance) -> None:
    done = instance.run("uptime", FLUX_URI="local:///no/such", FLUX_LOCAL_CONNECTOR_RETRY_COUNT="0")
    assert (done.stderr, done.returncode) == ("flux: flux_open: No such file or directory\n", 1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0762, "76ms"),
        (0.1, "0.1s"),
        (0.4712, "0.47s"),
        (59, "59s"),
        (60, "1m"),
        (119, "2m"),
        (5400, "1.5h"),
        (86400 * 5.13, "5.1d"),
        (86400 * 120, "120d"),
        (86400 * 99.8, "100d"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert short_duration(seconds) == text
