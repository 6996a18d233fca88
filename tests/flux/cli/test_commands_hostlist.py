"""flux hostlist (spec 03, 14.11)."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType

import pytest
from command_instance import Instance

from flux.brokermod import request_handler
from flux.cli.commands.hostlist import main
from flux.message import Message
from fluxlet.service import Service


class Resource(Service):
    """Answers as resource does, of an instance where ranks 1 and 4 are drained and 2 is down."""

    @request_handler("status", allow_guest=True)
    def status(self, msg: Message) -> None:
        drain = {"reason": "why", "timestamp": 1795311991.0}
        self.handle.respond(msg, {"drain": {"1": drain, "4": drain}, "online": "0-1,3-4", "offline": "2"})


class JobList(Service):
    """Answers as job-list does: jobs below 100 are running, one is pending, others are unknown."""

    @request_handler("list-id", allow_guest=True)
    def list_id(self, msg: Message) -> None:
        number = msg.payload["id"]
        if number > 100:
            raise FileNotFoundError(2, None)
        nodes = {"nodelist": "node[1,3]"} if number < 100 else {}
        self.handle.respond(msg, {"job": {"id": number, **nodes}})


@pytest.fixture(scope="module")
def nodes() -> Iterator[Instance]:
    """An instance of five nodes, some of which cannot be used."""
    with tempfile.TemporaryDirectory(prefix="flux-", dir="/tmp") as directory:
        services = {"resource": Resource, "job-list": JobList}
        running = Instance(directory, services, {"size": "5", "hostlist": "node[0-4]"})
        yield running
        running.stop()


@pytest.fixture(autouse=True)
def environment(nodes: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUX_URI", nodes.uri)
    monkeypatch.delenv("FLUX_JOB_ID", raising=False)


@pytest.fixture
def jobids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decimal and f-decimal job ids, all that these tests use."""
    module = ModuleType("flux.job.JobID")
    module.id_parse = lambda text: int(text.removeprefix("f"))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flux.job", ModuleType("flux.job"))
    monkeypatch.setitem(sys.modules, "flux.job.JobID", module)


Captured = pytest.CaptureFixture[str]


def run(capfd: Captured, *words: str) -> tuple[str, int]:
    """The output and the exit code. An error fails the test."""
    with pytest.raises(SystemExit) as info:
        main(list(words))
    out, err = capfd.readouterr()
    assert err == ""
    return out.removesuffix("\n"), int(info.value.code or 0)


@pytest.mark.parametrize(
    ("words", "output"),
    [
        ("a[1-3]", "a[1-3]"),
        ("a[1-3] b a1", "a[1-3],b,a1"),
        ("-e a[1-3]", "a1 a2 a3"),
        ("-e -d , a[1-3]", "a1,a2,a3"),
        ("-ed\\n a[1-3]", "a1\na2\na3"),
        ("-c a[1-3] a1", "4"),
        ("-n 0,2 a[1-3]", "a[1,3]"),
        ("-n -1 a[1-3]", "a3"),
        ("-n -1,3 a[1-3]", "a[3,1]"),
        ("--nth -1-2 a[1-3]", "a[3,2]"),
        ("--nth=-2 a[1-3]", "a2"),
        ("-F a2 a[1-3]", "1"),
        ("-F a3,a1 a[1-3]", "2 0"),
        ("-L 2 a[1-3]", "a[1-2]"),
        ("-L -2 a[1-3]", "a[2-3]"),
        ("-L 9 a[1-3]", "a[1-3]"),
        ("--limit=0 a[1-3]", ""),
        ("-S b2 a[3,1] b2", "a[1,3],b[2,2]"),
        ("-x 0,2 a[1-3]", "a2"),
        ("-x a[2-3] a[1-3] a2 b", "a1,b"),
        ("-x none a[1-3]", "a[1-3]"),
        ("-u b a[2,1,2] b", "a[1-2],b"),
        ("--union a[1-2] a[2-3]", "a[1-3]"),
        ("--unique a[3,3]", "a3"),
        ("-i a[1-3] a[2-5] a[3,2]", "a[2-3]"),
        ("-m a[1-4] a2 a[4,9]", "a[1,3]"),
        ("-m a1 a[1-2] a1", ""),
        ("-X a[1-3] a[3-5]", "a[1-2,4-5]"),
        ("-X a1 a1 a1", "a1"),
        ("instance", "node[0-4]"),
        ("local", "node[0-4]"),
        ("-l", "node[0-4]"),
        ("avail", "node[0,3]"),
        ("available -c", "2"),
        ("-m instance avail", "node[1-2,4]"),
    ],
)
def test_output(capfd: Captured, words: str, output: str) -> None:
    assert run(capfd, *words.split(" ")) == (output, 0)


@pytest.mark.parametrize(
    ("words", "status"), [("a", 0), ("-L 0 a", 1), ("-x a a", 1), ("-i a b", 1), ("-F a a", 0), ("-c a", 0)]
)
def test_quiet_tells_by_the_exit_code_whether_there_is_a_host(capfd: Captured, words: str, status: int) -> None:
    assert run(capfd, "-q", *words.split(" ")) == ("", status)


def error(nodes: Instance, *words: str, **env: str) -> str:
    """What is reported, without the name of the command."""
    done = nodes.run("hostlist", *words, **env)
    assert (done.stdout, done.returncode) == ("", 1)
    assert done.stderr.startswith("flux-hostlist: ERROR: ")
    return done.stderr.removeprefix("flux-hostlist: ERROR: ").removesuffix("\n")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("-F a9 a[1-3]", "host 'a9' not found"),
        ("-F a[8-9] a[1-3]", "hosts 'a[8-9]' not found"),
        ("-q -F a9 a[1-3]", "host 'a9' not found"),
        ("-n 3 a[1-3]", "Hostlist index out of range"),
        ("-n -4 a[1-3]", "Hostlist index out of range"),
        ("-n -0 a[1-3]", "Hostlist index out of range"),
        ("a[", "Invalid jobid or hostlist a["),
    ],
)
def test_errors(nodes: Instance, words: str, text: str) -> None:
    assert error(nodes, *words.split(" ")) == text


def test_jobs(capfd: Captured, jobids: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(capfd, "7") == ("node[1,3]", 0)
    assert run(capfd, "f7", "a") == ("node[1,3],a", 0)
    assert run(capfd, "-f", "f101", "7") == ("f101,node[1,3]", 0)
    assert run(capfd, "fuzz") == ("fuzz", 0)
    monkeypatch.setenv("FLUX_JOB_ID", "7")
    assert run(capfd, "local") == run(capfd, "-l") == ("node[1,3]", 0)
    assert run(capfd, "instance") == ("node[0-4]", 0)


@pytest.mark.parametrize(("word", "text"), [("f101", "job f101 not found"), ("100", "job 100 has no hosts yet")])
def test_jobs_without_hosts(
    capfd: Captured, caplog: pytest.LogCaptureFixture, jobids: None, word: str, text: str
) -> None:
    with pytest.raises(SystemExit) as info:
        main([word])
    assert (caplog.messages, info.value.code) == ([text], 1)


def test_a_service_that_is_missing_is_named(instance: Instance) -> None:
    assert instance.run("module", "remove", "sched-simple").returncode == 0  # which would complain
    assert instance.run("module", "remove", "resource").returncode == 0
    assert error(instance, "avail") == "No service matching resource.status is registered"


@pytest.mark.parametrize("words", [(), ("-",), ("stdin",)])
def test_standard_input(nodes: Instance, words: tuple[str, ...]) -> None:
    done = nodes.run("hostlist", *words, input="a[1-2] b\n\na3\n", FLUX_URI=None)
    assert (done.stdout, done.stderr, done.returncode) == ("a[1-2],b,a3\n", "", 0)


def test_no_hosts_are_no_output(nodes: Instance) -> None:
    done = nodes.run("hostlist", input="")
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_input_that_does_not_come(
    caplog: pytest.LogCaptureFixture, capfd: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_end, write_end = os.pipe()
    stdin = os.dup(0)
    try:
        os.dup2(read_end, 0)
        monkeypatch.setenv("FLUX_HOSTLIST_STDIN_TIMEOUT", "10ms")
        with pytest.raises(SystemExit) as info:
            main([])
    finally:
        os.dup2(stdin, 0)
        for fd in (read_end, write_end, stdin):
            os.close(fd)
    assert (caplog.messages, info.value.code) == (["timed out reading host lists from stdin after 10ms"], 1)


def test_help_and_usage(nodes: Instance) -> None:
    done = nodes.run("hostlist", "--help")
    assert (done.stderr, done.returncode) == ("", 0)
    assert "instance     the hosts of the instance" in done.stdout
    done = nodes.run("hostlist", "-i", "-m", "a")
    assert (done.stdout, done.returncode) == ("", 2)
    assert "flux-hostlist: error: " in done.stderr
