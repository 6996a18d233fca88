"""flux shutdown (spec 03, 14.8)."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_instance import Instance, recording

from flux.brokermod import request_handler
from flux.message import Message
from fluxlet.service import Service

REFUSED = "flux-shutdown: shutdown can only be initiated on rank 0\n"  # by a broker without a life to end


class Kvs(Service):
    """Answers as kvs does after three commits."""

    @request_handler("getroot", allow_guest=True)
    def getroot(self, msg: Message) -> None:
        self.handle.respond(msg, {"owner": 0, "rootseq": 3, "rootref": "", "flags": 0, "namespace": "primary"})


@pytest.fixture
def committed() -> Iterator[Instance]:
    """An instance with three commits, which refuses to be shut down."""
    with tempfile.TemporaryDirectory(prefix="flux-", dir="/tmp") as directory:
        running = Instance(directory, {"kvs": Kvs})
        yield running
        running.stop()


def test_requests_are_those_of_the_reference(committed: Instance) -> None:
    assert committed.run("shutdown").stderr == REFUSED
    assert committed.take() == recording("broker-shutdown", 0)


def sent(instance: Instance, topic: str) -> list[object]:
    return [entry.get("payload") for entry in instance.take() if entry["topic"] == topic]


@pytest.mark.parametrize(
    ("words", "level"),
    [((), 6), (("--quiet",), 4), (("-v",), 7), (("--verbose",), 7), (("-v5",), 5), (("--verbose=0",), 0)],
)
def test_levels(instance: Instance, words: tuple[str, ...], level: int) -> None:
    done = instance.run("shutdown", *words)
    assert (done.stdout, done.stderr, done.returncode) == ("", REFUSED, 1)
    assert sent(instance, "shutdown.start") == [{"loglevel": level}]


def test_in_the_background_no_messages_are_asked_for(instance: Instance) -> None:
    assert instance.run("shutdown", "--background").stderr == REFUSED
    last = instance.take()[-1]
    assert (last["topic"], last["flags"]) == ("shutdown.start", ["topic", "payload", "route"])


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (("--gc",), "auto"),
        (("--dump=auto",), "auto"),
        (("--dump=/tmp/x.tgz",), "/tmp/x.tgz"),
        (("--dump", "x.tgz"), os.path.abspath("x.tgz")),
        (("--skip-gc",), None),
        ((), None),
        (("--yes",), "auto"),
        (("-n",), None),
    ],
)
def test_dumps(committed: Instance, words: tuple[str, ...], value: str | None) -> None:
    committed.run("config", "set", "-t", "integer", "kvs.gc-threshold", "2")
    committed.take()
    assert committed.run("shutdown", *words).stderr == REFUSED
    expected = [] if value is None else [{"name": "content.dump", "value": value}]
    assert sent(committed, "attr.set") == expected


def test_a_dump_that_is_not_due_or_is_wanted_already_is_not_asked_for(committed: Instance) -> None:
    committed.run("config", "set", "-t", "integer", "kvs.gc-threshold", "3")
    committed.run("shutdown", "-y")
    assert sent(committed, "attr.set") == []
    committed.run("config", "set", "kvs.gc-threshold", "2")
    committed.run("setattr", "content.dump", "/x")
    committed.take()
    committed.run("shutdown", "-y")
    assert sent(committed, "attr.set") == []


@pytest.mark.parametrize(("answer", "dump"), [("\n", True), ("yes\n", True), ("n\n", False)])
def test_who_sits_at_a_terminal_is_asked(committed: Instance, answer: str, dump: bool) -> None:
    committed.run("config", "set", "-t", "integer", "kvs.gc-threshold", "2")
    master, slave = pty.openpty()
    process = subprocess.Popen(
        committed.command("shutdown"),
        env=committed.environment(),
        stdin=slave,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert select.select([process.stderr], [], [], 60)[0]
        os.write(master, answer.encode())
        text = process.communicate(timeout=60)[1]
    finally:
        os.close(master)
        os.close(slave)
        process.kill()
        process.wait()
    assert text == f"gc threshold of 2 commits is exceeded, dump the KVS [Y/n]? {REFUSED}"
    assert bool(sent(committed, "attr.set")) is dump


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("local:///no/such",), "flux-shutdown: error connecting to Flux: No such file or directory\n"),
        (
            ("foo:1",),
            "flux-shutdown: failed to resolve target foo:1 to a Flux URI\n"
            "flux-shutdown: No plugin for URI scheme foo\n",
        ),
        (("-v9",), "flux-shutdown: invalid LEVEL '9': it must be 0 (emerg) to 7 (debug)\n"),
        (("-vx",), "flux-shutdown: invalid LEVEL 'x': it must be 0 (emerg) to 7 (debug)\n"),
        (("--gc", "--skip-gc"), "flux-shutdown: --gc and --skip-gc cannot be used together\n"),
        (("-yn",), "flux-shutdown: --yes and --no cannot be used together\n"),
        (
            ("--bad",),
            "flux shutdown: unrecognized option '--bad'\nTry `flux shutdown --help' for more information.\n",
        ),
    ],
)
def test_errors(instance: Instance, words: tuple[str, ...], error: str) -> None:
    done = instance.run("shutdown", *words, FLUX_LOCAL_CONNECTOR_RETRY_COUNT="0")
    assert (done.stdout, done.stderr, done.returncode) == ("", error, 1)


def test_an_instance_that_is_not_there(instance: Instance) -> None:
    done = instance.run("shutdown", FLUX_URI="local:///no/such", FLUX_LOCAL_CONNECTOR_RETRY_COUNT="0")
    assert done.stderr == "flux-shutdown: error connecting to Flux: No such file or directory\n"
    assert done.returncode == 1


# Instances that do end.


@pytest.fixture
def ready(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A `flux start` of its own, and its URI."""
    foreign = ("FLUX_", "PMI_", "SLURM_")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    flux = str(Path(sys.executable).parent / "flux")
    process = subprocess.Popen(
        [flux, "start", "sh", "-c", "echo $FLUX_URI; exec sleep 1000"],
        env={**environ, "SHELL": "/bin/sh"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_an_instance_ends_and_tells_how(instance: Instance, ready: tuple[subprocess.Popen[str], str]) -> None:
    process, uri = ready
    done = instance.run("shutdown", uri, FLUX_URI=None)
    assert (done.stdout, done.returncode) == ("", 0)
    shown = [re.sub(r" [0-9.e-]+m?s$", "", line) for line in done.stderr.splitlines()]
    assert shown[0].startswith("broker.err[0]: rc2.0: sh -c echo $FLUX_URI; exec sleep 1000 Hangup (rc=129)")
    assert "broker.info[0]: rc2-fail: run->cleanup" in shown
    assert shown[-1].endswith(": finalize->goodbye")
    assert process.wait(60) == 129
    assert not os.path.exists(uri.removeprefix("local://"))


def test_quiet_shows_errors_only(instance: Instance, ready: tuple[subprocess.Popen[str], str]) -> None:
    done = instance.run("shutdown", "--quiet", FLUX_URI=ready[1])
    assert done.returncode == 0
    assert [line.partition("[")[0] for line in done.stderr.splitlines()] == ["broker.err"]


def test_background_does_not_wait(instance: Instance, ready: tuple[subprocess.Popen[str], str]) -> None:
    done = instance.run("shutdown", "--background", ready[1])
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    assert ready[0].wait(60) == 129
