"""flux getattr, setattr, lsattr (spec 03, 14.1), and what all commands say without an instance (2.2)."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
from command_instance import Instance, recording


@pytest.mark.parametrize(
    ("words", "out", "err", "code"),
    [
        ("getattr size", "1\n", "", 0),
        ("getattr log-stderr-level", "3\n", "", 0),
        ("getattr nosuch", "", "flux-getattr: nosuch: No such file or directory\n", 1),
        ("getattr parent-uri", "", "flux-getattr: parent-uri: No such file or directory\n", 1),
        ("setattr rank 3", "", "flux-setattr: rank: attribute may not be updated\n", 1),
        ("setattr --force rank 3", "", "flux-setattr: rank: Operation not permitted\n", 1),
        ("setattr nosuch 1", "", "flux-setattr: nosuch: unknown attribute\n", 1),
        ("setattr log-stderr-level 9", "", "flux-setattr: log-stderr-level: invalid level\n", 1),
        ("setattr -f version 9.9.9", "", "", 0),
    ],
)
def test_outcome(instance: Instance, words: str, out: str, err: str, code: int) -> None:
    done = instance.run(*words.split())
    assert (done.stdout, done.stderr, done.returncode) == (out, err, code)


@pytest.mark.parametrize(
    ("words", "conn"),
    [
        ("getattr size", 0),
        ("getattr log-stderr-level", 1),
        ("getattr nosuch", 2),
        ("setattr test.foo bar", 4),
        ("setattr rank 3", 6),
        ("setattr -f rank 3", 7),
        ("setattr log-stderr-level 9", 10),
        ("lsattr", 11),
    ],
)
def test_requests_are_those_of_the_reference(instance: Instance, words: str, conn: int) -> None:
    instance.run(*words.split())
    assert instance.take() == recording("broker-attr", conn)


def test_what_setattr_sets_getattr_gets(instance: Instance) -> None:
    instance.run("setattr", "log-stderr-level", "5")
    assert instance.run("getattr", "log-stderr-level").stdout == "5\n"


def test_lsattr_sorts_and_shows_values(instance: Instance) -> None:
    names = instance.run("lsattr").stdout.splitlines()
    assert names == sorted(names)
    assert {"rank", "size", "parent-uri"} <= set(names)
    lines = instance.run("lsattr", "-v").stdout.splitlines()
    assert [line.split()[0] for line in lines] == names
    assert f"{'size':<40}1" in lines
    assert f"{'parent-uri':<40}-" in lines


HINT = "no Flux instance was found: run this program under `flux start`, or set FLUX_URI to an instance's URI"


@pytest.mark.parametrize(("name", "program"), [("getattr", "flux"), ("ping", "flux-ping")])
def test_without_an_instance_the_error_says_what_to_do(instance: Instance, name: str, program: str) -> None:
    done = instance.run(name, "size", FLUX_URI=None, FLUX_LOCAL_CONNECTOR_RETRY_COUNT="0")
    assert done.stderr.splitlines() == [f"{program}: flux_open: No such file or directory", f"{program}: {HINT}"]
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("uri", "text"), [("local:///nonexistent", "No such file or directory"), ("bogus", "No such file or directory")]
)
def test_a_wrong_uri_needs_no_hint(instance: Instance, uri: str, text: str) -> None:
    done = instance.run("getattr", "size", FLUX_URI=uri, FLUX_LOCAL_CONNECTOR_RETRY_COUNT="0")
    assert (done.stderr, done.returncode) == (f"flux: flux_open: {text}\n", 1)


def test_a_broker_that_goes_while_we_wait_is_reported(instance: Instance, tmp_path: Path) -> None:
    """A broker that takes the connection and hangs up at the first request."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.send(b"\0")
                client.recv(65536)

        thread = threading.Thread(target=serve)
        thread.start()
        done = instance.run("getattr", "size", FLUX_URI=f"local://{tmp_path}/s")
        thread.join()
    assert (done.stderr, done.returncode) == ("flux-getattr: size: Connection reset by peer\n", 1)
