"""flux uri (spec 03, 14.12; spec 04, section 6)."""

from __future__ import annotations

import socket

import pytest
from command_instance import Instance

HERE = socket.gethostname()


@pytest.mark.parametrize(
    ("words", "form"),
    [
        (["."], "local"),
        (["/"], "local"),
        (["--remote", "."], "remote"),
        (["--local", "/"], "local"),
        ([".?remote"], "remote"),
        (["--wait", "."], "local"),
    ],
)
def test_the_uri_of_the_instance(instance: Instance, words: list[str], form: str) -> None:
    done = instance.run("uri", *words)
    uri = instance.uri if form == "local" else f"ssh://{HERE}{instance.path}"
    assert (done.stdout, done.stderr, done.returncode) == (f"{uri}\n", "", 0)


@pytest.mark.parametrize(
    ("words", "uri"),
    [
        (["local:///x"], "local:///x"),
        (["ssh://me@far:1/x"], "ssh://me@far:1/x"),
        (["--remote", "local:///x"], f"ssh://{HERE}/x"),
        (["--local", "ssh://far/x"], "local:///x"),
        (["--wait", "ssh://far/x?local"], "local:///x"),
    ],
)
def test_uris_pass_through_without_an_instance(instance: Instance, words: list[str], uri: str) -> None:
    done = instance.run("uri", *words, FLUX_URI="local:///no/such")
    assert (done.stdout, done.stderr, done.returncode) == (f"{uri}\n", "", 0)


def test_the_environment_may_want_local_forms_and_options_win(instance: Instance) -> None:
    assert instance.run("uri", "ssh://far/x", FLUX_URI_RESOLVE_LOCAL="t").stdout == "local:///x\n"
    assert instance.run("uri", "--remote", "ssh://far/x", FLUX_URI_RESOLVE_LOCAL="t").stdout == "ssh://far/x\n"


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("foo:1", "No plugin for URI scheme foo"),
        ("ƒ1", "jobid ƒ1 not found"),
        ("f1/f2", "jobid f1 not found"),
        ("pid:4194305", "PID 4194305 not found"),
        (".?local&remote", ".?local&remote: a URI is either local or remote, not both"),
    ],
)
def test_errors(instance: Instance, target: str, text: str) -> None:
    done = instance.run("uri", target)
    assert (done.stdout, done.stderr, done.returncode) == ("", f"flux-uri: ERROR: {text}\n", 1)


def test_without_an_instance_a_path_cannot_be_walked(instance: Instance) -> None:
    done = instance.run("uri", "..", FLUX_URI="local:///no/such", FLUX_LOCAL_CONNECTOR_RETRY_COUNT="0")
    assert done.stderr.startswith("flux-uri: ERROR: Unable to connect to Flux: ")
    assert done.returncode == 1


def test_help_and_usage(instance: Instance) -> None:
    done = instance.run("uri", "--help")
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.startswith("usage: flux-uri ")
    assert "pid         Get URI for a given Flux process ID" in done.stdout
    for words in ((), ("--local", "--remote", "."), ("--bad", ".")):
        done = instance.run("uri", *words)
        assert (done.stdout, done.returncode) == ("", 2)
        assert "flux-uri: error: " in done.stderr
