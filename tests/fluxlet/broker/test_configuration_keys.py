"""What the values of known keys must be, and how a mistake is reported: with its file, table and key."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from fluxlet.broker.configuration import ConfigError, load
from fluxlet.broker.configuration_keys import problem

#: As much of everything as there is, and right.
ALL = """
[access]
allow-guest-user = true
roles.admin = {users = ["alice"], groups = []}
[bootstrap]
hosts = [{host = "a[0-3]"}]
default_port = 8050
unknown = "tolerated"
[exec]
kill-timeout = "10s"
max-kill-count = 3
testexec.allow-guests = true
sdexec-properties = {a = "b"}
[fake-resources]
nnodes = 4
[heartbeat]
period = "0.5s"
timeout = "infinity"
[ingest]
buffer-size = "1M"
frobnicator = {disable = false, plugins = ["defaults"]}
validator = {plugins = ["jobspec"], require-instance = 3}
[job-manager]
inactive-age-limit = "7d"
housekeeping = {command = ["true"]}
[kvs]
checkpoint-period = "30m"
gc-threshold = 100
[modules]
alternatives.sched = "mine"
heartbeat.args = ["period=3s"]
[policy]
jobspec.defaults.system = {duration = "1h", queue = "batch"}
limits.job-size.max = {nnodes = -1}
scheduler = {anything = 1}
[queues.debug]
requires = ["gpu"]
policy.limits.duration = "1h"
[resource]
exclude = "0"
config = [{hosts = "a", cores = "0-3"}]
[tbon]
topo = "kary:2"
torpid_max = "1m"
[my-own]
period = 3
"""


def test_what_is_right_is_accepted() -> None:
    assert problem(tomllib.loads(ALL)) is None


@pytest.mark.parametrize(
    ("config", "key", "text"),
    [
        ({"heartbeat": 3}, "heartbeat", "expected a table, got integer 3"),
        (
            {"heartbeat": {"period": "x"}},
            "heartbeat.period",
            'expected a duration such as "5s" or "1.5m", got \'x\'',
        ),
        (
            {"heartbeat": {"period": 2.5}},
            "heartbeat.period",
            'expected a duration such as "5s" or "1.5m", got real 2.5',
        ),
        ({"heartbeat": {"warn_thresh": True}}, "heartbeat.warn_thresh", "expected an integer, got true"),
        ({"heartbeat": {"perod": "1s"}}, "heartbeat.perod", "unknown key; known are period, timeout, warn_thresh"),
        ({"exec": {"job-shell": []}}, "exec.job-shell", "expected a string, got array"),
        ({"kvs": {"gc-threshold": "many"}}, "kvs.gc-threshold", "expected an integer, got 'many'"),
        (
            {"ingest": {"buffer-size": "10 MB"}},
            "ingest.buffer-size",
            "expected a number of bytes, or one with a unit such as \"10M\", got '10 MB'",
        ),
        ({"queues": {"q": {"requires": "gpu"}}}, "queues.q.requires", "expected an array of strings, got 'gpu'"),
        (
            {"queues": {"q": {"requires": ["gpu", 3]}}},
            "queues.q.requires",
            "expected an array of strings, which holds integer 3",
        ),
        ({"queues": {"q": {"color": 1}}}, "queues.q.color", "unknown key; known are requires, policy, parent"),
        (
            {"policy": {"limits": {"job-size": {"max": {"nnodes": "1"}}}}},
            "policy.limits.job-size.max.nnodes",
            "expected an integer, got '1'",
        ),
        ({"modules": {"alternatives": {"sched": 1}}}, "modules.alternatives.sched", "expected a string, got integer 1"),
        ({"resource": {"noverify": 1}}, "resource.noverify", "expected true or false, got integer 1"),
    ],
)
def test_what_is_wrong(config: dict[str, Any], key: str, text: str) -> None:
    found = problem(config)
    assert found is not None
    assert (".".join(found[0]), found[1]) == (key, text)


def test_file_is_named_in_which_the_mistake_is(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("heartbeat.period = '5s'\nheartbeat.timeout = 3\n")
    (tmp_path / "b.toml").write_text("heartbeat.timeout = '1m'\n")
    assert load(str(tmp_path), []) == {"heartbeat": {"period": "5s", "timeout": "1m"}}
    (tmp_path / "c.toml").write_text("heartbeat.period = 3\n")
    with pytest.raises(ConfigError) as error:
        load(str(tmp_path), [])
    assert str(error.value).startswith(f"Config file error: {tmp_path}/c.toml: heartbeat.period: expected a duration")
    with pytest.raises(ConfigError) as error:
        load(str(tmp_path / "b.toml"), ["heartbeat.timeout=2"])
    assert str(error.value).startswith("--conf: heartbeat.timeout: expected a duration")
