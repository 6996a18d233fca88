"""From a URI to a connection: defaults, schemes, ancestors, and what is said when there is none (spec 01, 2.3, 2.4)."""

from __future__ import annotations

import errno
from typing import Any

import pytest

import flux
from flux.connector import opening
from flux.connector.loop import LoopConnector
from flux.connector.opening import HINT, open_uri
from flux.constants import FLUX_O_TRACE


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's instance; a missing socket is believed at once."""
    monkeypatch.delenv("FLUX_URI", raising=False)
    monkeypatch.setenv("FLUX_LOCAL_CONNECTOR_RETRY_COUNT", "0")


def refusal(*args: Any, **kwargs: Any) -> OSError:
    with pytest.raises(OSError) as info:  # noqa: PT011  # the caller compares it
        flux.Flux(*args, **kwargs)
    return info.value


PREFIX = "Unable to connect to Flux: "


@pytest.mark.parametrize(
    ("uri", "error"),
    [
        ("foo", (errno.ENOENT, "Unable to find connector name 'foo'")),
        ("foo://bar", (errno.ENOENT, "Unable to find connector name 'foo'")),
        ("LOCAL:///x", (errno.ENOENT, "Unable to find connector name 'LOCAL'")),
        ("shmem://x", (errno.ENOENT, "Unable to find connector name 'shmem'")),
        ("", (errno.ENOENT, "Unable to find connector name ''")),
        (b"foo", (errno.ENOENT, "Unable to find connector name 'foo'")),
        ("local", (errno.EINVAL, "Invalid argument")),
        ("local://", (errno.EINVAL, "Invalid argument")),
        ("local:///no/such", (errno.ENOENT, "broker socket /no/such was not found")),
    ],
)
def test_what_cannot_be_opened_is_refused_with_a_reason(uri: Any, error: tuple[int, str]) -> None:
    exc = refusal(uri)
    assert (exc.errno, exc.strerror) == (error[0], PREFIX + error[1])
    assert not hasattr(exc, "__notes__")


def test_a_uri_is_text_and_flags_are_known_bits() -> None:
    with pytest.raises(flux.wrapper.InvalidArguments):
        flux.Flux(7)
    exc = refusal("loop://", 1 << 20)
    assert (exc.errno, exc.strerror) == (errno.EINVAL, PREFIX + "invalid flags specified")


def test_without_a_uri_the_environment_and_then_the_system_instance_is_meant(
    instance_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exc = refusal()
    assert exc.strerror == PREFIX + "broker socket /run/flux/local was not found"
    assert exc.__notes__ == [HINT]
    monkeypatch.setenv("FLUX_URI", "local:///no/such")
    exc = refusal()
    assert exc.strerror == PREFIX + "broker socket /no/such was not found"
    assert not hasattr(exc, "__notes__")
    monkeypatch.setenv("FLUX_URI", "")
    assert refusal().strerror == PREFIX + "Unable to find connector name ''"
    monkeypatch.setenv("FLUX_URI", instance_uri)
    for url in ({}, {"url": None}, {"url": "."}, {"url": ".."}, {"url": "/"}, {"url": "../.."}):
        with flux.Flux(**url) as h:
            assert h.attr_get("local-uri") == instance_uri


def test_trace_can_be_asked_for_by_the_environment(
    instance_uri: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLUX_HANDLE_TRACE", "")
    with flux.Flux(instance_uri) as h:
        assert h.flux_flags_get() & FLUX_O_TRACE
        h.rpc("broker.ping", {}).get()
    assert "broker.ping" in capfd.readouterr().err


# Ancestors, of instances that only this table knows.

TREE = {
    "t://leaf": {"instance-level": "2", "parent-uri": "t://middle"},
    "t://middle": {"instance-level": "1", "parent-uri": "t://root"},
    "t://root": {"instance-level": "0"},
}


@pytest.mark.parametrize(
    ("uri", "opened"),
    [
        (".", "leaf"),
        ("./", "leaf"),
        ("..", "middle"),
        ("./..", "middle"),
        ("../", "middle"),
        ("../..", "root"),
        ("../../..", "root"),
        ("/", "root"),
    ],
)
def test_ancestors_are_found_from_the_enclosing_instance(
    uri: str, opened: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths: list[str] = []

    def connect(path: str) -> LoopConnector:
        paths.append(path)
        return LoopConnector()

    monkeypatch.setitem(opening._SCHEMES, "t", connect)
    monkeypatch.setenv("FLUX_URI", "t://leaf")
    open_uri(uri, lambda at, name: TREE[at][name])
    assert paths == [opened]


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("../x", "../x: invalid URI path element 'x'"),
        (".x", ".x: invalid URI path element '.x'"),
        ("/x", "/x: invalid URI"),
        ("//", "//: invalid URI"),
    ],
)
def test_other_paths_are_refused(uri: str, text: str, monkeypatch: pytest.MonkeyPatch, instance_uri: str) -> None:
    monkeypatch.setenv("FLUX_URI", instance_uri)
    exc = refusal(uri)
    assert (exc.errno, exc.strerror) == (errno.EINVAL, PREFIX + text)


def test_an_ancestor_of_no_instance_is_not_found() -> None:
    exc = refusal("..")
    assert (exc.errno, exc.strerror) == (errno.ENOENT, PREFIX + "broker socket /run/flux/local was not found")
