"""The service `broker`: environment and built-in paths (spec 03, 13.1)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Any

import pytest
from in_process import GUEST, ask, outcome, tell

import flux
from flux.conf_builtin import conf_builtin_get
from flux.constants import FLUX_MSGFLAG_NORESPONSE


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def test_the_environment_is_read_and_changed(handle: flux.Flux) -> None:
    os.environ["T_GONE"] = "x"
    handle.rpc("broker.setenv", {"env": {"T_A": "1", "T_B": "", "T_GONE": None, "T_NEVER": None}}).get()
    names = ["T_A", "T_B", "T_GONE", "T_NEVER"]
    assert handle.rpc("broker.getenv", {"names": names}).get() == {"env": {"T_A": "1", "T_B": ""}}
    assert os.environ["T_A"] == "1"


@pytest.mark.parametrize("env", [{"": "x"}, {"A=B": "x"}, {"X": 1}, {"X": {}}, [], "X=1", None])
def test_a_bad_change_changes_nothing(handle: flux.Flux, env: Any) -> None:
    if isinstance(env, dict):
        env = {"T_FIRST": "1", **env}
    assert ask(handle, "broker.setenv", {"env": env}).aux1 == errno.EPROTO
    assert "T_FIRST" not in os.environ


@pytest.mark.parametrize(
    ("topic", "payload", "expected"),
    [
        ("broker.getenv", {"names": "HOME"}, (0, '{"env": {}}')),
        ("broker.getenv", {}, (errno.EPROTO, "broker.getenv request has no names")),
        ("broker.setenv", {}, (errno.EPROTO, "broker.setenv request has no env")),
        ("broker.conf-builtin", {"keys": "x"}, (errno.EPROTO, None)),
        ("broker.conf-builtin", {"keys": [1]}, (errno.EPROTO, None)),
        ("broker.conf-builtin", {"keys": ["rundir", "no"]}, (errno.EINVAL, "no: invalid key")),
    ],
)
def test_odd_requests(handle: flux.Flux, topic: str, payload: Any, expected: tuple[int, str | None]) -> None:
    assert outcome(ask(handle, topic, payload)) == expected


def test_built_in_paths_are_for_everybody(handle: flux.Flux) -> None:
    message = ask(handle, "broker.conf-builtin", {"keys": ["rundir", "exec_path"]}, userid=1, rolemask=4)
    assert message.payload == {"values": {key: conf_builtin_get(key) for key in ("rundir", "exec_path")}}


@pytest.mark.parametrize("topic", ["broker.getenv", "broker.setenv", "broker.disconnect"])
def test_roles(handle: flux.Flux, topic: str) -> None:
    assert ask(handle, topic, {}, **GUEST).aux1 == errno.EPERM


def test_disconnect_has_no_answer_and_says_so(handle: flux.Flux) -> None:
    tell(handle, "broker.disconnect", flags=FLUX_MSGFLAG_NORESPONSE)
    message = ask(handle, "broker.disconnect")
    assert (message.topic, message.aux1) == ("broker.disconnect", errno.EPROTO)
