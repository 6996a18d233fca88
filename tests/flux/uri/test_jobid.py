"""jobid: paths of jobs, walked over real connections; the instances' knowledge of jobs is a stand-in."""

from __future__ import annotations

import errno
import json
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from command_instance import Instance

from flux.brokermod import request_handler
from flux.message import Message
from flux.uri import FluxURIResolver
from fluxlet.service import Service

HERE = socket.gethostname()
RUN, CLEANUP, SCHED = 16, 32, 8

#: What every instance says about jobs: (state, URI).
JOBS: dict[int, tuple[int, str | None]] = {}
EVENTS: list[dict[str, Any]] = []


class JobList(Service):
    """Answers as job-list does, from JOBS."""

    @request_handler("list-id")
    def list_id(self, msg: Message) -> None:
        request = msg.payload
        assert request["attrs"] == ["state", "annotations"]
        if request["id"] not in JOBS:
            raise OSError(errno.ENOENT, None)
        state, uri = JOBS[request["id"]]
        annotations = {"annotations": {"user": {"uri": uri}}} if uri is not None else {}
        self.handle.respond(msg, {"job": {"id": request["id"], "state": state, **annotations}})


class JobInfo(Service):
    """Answers as job-info does, from EVENTS."""

    @request_handler("eventlog-watch")
    def watch(self, msg: Message) -> None:
        for event in EVENTS:
            self.handle.respond(msg, {"event": json.dumps({"timestamp": 0.0, "context": {}, **event}) + "\n"})
        self.handle.respond_error(msg, errno.ENODATA)


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLUX_URI_RESOLVE_LOCAL", "FLUX_PROXY_REMOTE"):
        monkeypatch.delenv(name, raising=False)
    JOBS.clear()
    EVENTS.clear()
    # Decimal ids are all that these tests use.
    module = ModuleType("flux.job.JobID")
    module.id_parse = int  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flux.job", ModuleType("flux.job"))
    monkeypatch.setitem(sys.modules, "flux.job.JobID", module)


Start = Callable[..., Instance]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts an instance; with a parent, one that runs as a job of it."""
    running = []
    with tempfile.TemporaryDirectory(prefix="flux-", dir="/tmp") as directory:

        def run(parent: Instance | None = None, level: int = 0) -> Instance:
            place = Path(directory, str(len(running)))
            place.mkdir()
            settings = {"instance-level": str(level)}
            if parent is not None:
                settings["parent-uri"] = parent.uri
            running.append(Instance(str(place), {"job-list": JobList, "job-info": JobInfo}, settings))
            return running[-1]

        try:
            yield run
        finally:
            for instance in running:
                instance.stop()


@pytest.fixture
def root(start: Start, monkeypatch: pytest.MonkeyPatch) -> Instance:
    """The instance that we are in."""
    instance = start()
    monkeypatch.setenv("FLUX_URI", instance.uri)
    return instance


def resolve(target: str) -> str:
    return str(FluxURIResolver().resolve(target))


def remote(instance: Instance) -> str:
    """The URI that a job's instance announces."""
    return f"ssh://{HERE}{instance.path}"


@pytest.mark.parametrize("target", ["", ".", "/", "..", "../..", "jobid:.", "./../."])
def test_at_the_root_all_ways_lead_to_the_root(root: Instance, target: str) -> None:
    assert resolve(target) == root.uri


def test_up(root: Instance, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    middle = start(root, 1)
    leaf = start(middle, 2)
    monkeypatch.setenv("FLUX_URI", leaf.uri)
    found = [resolve(target) for target in (".", "..", "../..", "../../..", "/", "..?remote")]
    assert found == [leaf.uri, middle.uri, root.uri, root.uri, root.uri, remote(middle)]


def test_down_and_up_again(root: Instance, start: Start) -> None:
    middle = start(root, 1)
    leaf = start(middle, 2)
    JOBS.update({1: (RUN, remote(middle)), 2: (RUN, remote(leaf))})
    assert resolve("1") == resolve("jobid:1") == remote(middle)
    assert [entry["topic"] for entry in middle.take()] == []  # known by its URI: it is asked nothing
    assert resolve("1/2") == remote(leaf)
    assert resolve("1/2?local") == leaf.uri
    assert resolve("/1/2/") == remote(leaf)
    # What is above a job's instance is on the job's host.
    assert resolve("1/2/..") == remote(middle)
    assert resolve("1/..") == remote(root)


def test_from_below_by_way_of_the_root(root: Instance, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    middle = start(root, 1)
    JOBS[1] = (RUN, remote(middle))
    monkeypatch.setenv("FLUX_URI", middle.uri)
    assert resolve("/1") == remote(middle)
    assert [entry["topic"] for entry in root.take()].count("job-list.list-id") == 1


def test_local_forms_if_the_environment_wants_them(root: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    JOBS[1] = (RUN, "ssh://far/tmp/x")
    assert resolve("1") == "ssh://far/tmp/x"
    monkeypatch.setenv("FLUX_URI_RESOLVE_LOCAL", "t")
    assert resolve("1") == "local:///tmp/x"


def test_another_host_is_reached_by_ssh_unless_local_is_wanted(
    root: Instance, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    middle = start(root, 1)
    JOBS.update({1: (RUN, f"ssh://far{middle.path}"), 2: (RUN, "ssh://farther/x")})
    ssh = tmp_path / "ssh"
    ssh.write_text(f'#!/bin/sh\necho "$1" >>{tmp_path}/hosts\nexit 255\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("FLUX_SSH", str(ssh))
    with pytest.raises(OSError, match="Unable to connect"):
        resolve("1/2")
    assert (tmp_path / "hosts").read_text() == "far\n"
    assert resolve("1/2?local") == "local:///x"
    monkeypatch.setenv("FLUX_URI_RESOLVE_LOCAL", "")
    assert resolve("1/2") == "local:///x"
    assert (tmp_path / "hosts").read_text() == "far\n"


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("x", "x is not a valid jobid"),
        ("9", "jobid 9 not found"),
        ("2", "jobid 2 is not running"),
        ("3", "jobid 3 is not running"),
        ("4", "URI not found for job 4"),
        ("2?wait", "jobid 2 is not running"),
        ("3?wait", "jobid 3 has ended before it had a URI"),
    ],
)
def test_jobs_without_instance(root: Instance, target: str, text: str) -> None:
    JOBS.update({2: (CLEANUP, "ssh://far/x"), 3: (SCHED, None), 4: (RUN, None)})
    EVENTS.extend([{"name": "submit"}, {"name": "finish"}, {"name": "memo", "context": {"uri": "late"}}])
    with pytest.raises(ValueError, match=f"^{text}$"):
        resolve(target)


def test_waiting_for_the_uri(root: Instance) -> None:
    JOBS[1] = (SCHED, None)
    memo = {"name": "memo", "context": {"uri": "ssh://far/x"}}
    EVENTS.extend([{"name": "submit"}, {"name": "memo", "context": {"other": 1}}, memo, {"name": "finish"}])
    assert resolve("1?wait") == "ssh://far/x"
    EVENTS.clear()
    with pytest.raises(ValueError, match="has ended before"):  # canceled before it ran
        resolve("1?wait")


def test_an_instance_that_knows_no_jobs(instance_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="flux-", dir="/tmp") as directory:
        instance = Instance(directory)
        monkeypatch.setenv("FLUX_URI", instance.uri)
        try:
            with pytest.raises(ValueError, match=r"^jobid 1 not found$"):
                resolve("1")
        finally:
            instance.stop()


def test_without_an_instance_there_is_nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUX_URI", "local:///no/such/socket")
    with pytest.raises(FileNotFoundError, match="Unable to connect to Flux"):
        resolve("1")
