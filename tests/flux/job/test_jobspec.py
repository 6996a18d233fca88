"""Jobspecs: the recorded expressions of builders and the recorded verdicts of the validator, said again to ours."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import re
import types
from pathlib import Path
from typing import Any

import pytest

from flux.job import Jobspec, JobspecV1, _rules, validate_jobspec
from flux.job._utils import BatchConfig, get_filtered_rlimits, parse_jobspec_keyval

VECTORS = Path(__file__).parents[2] / "vectors"


#: The names that the recorded expressions use.
NAMES = {
    "datetime": datetime,
    "pathlib": pathlib,
    "Jobspec": Jobspec,
    "JobspecV1": JobspecV1,
    "validate_jobspec": validate_jobspec,
}


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (VECTORS / name).read_text().splitlines()]


@pytest.fixture
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files and the environment that the recordings were made with."""
    for name, content, mode in (
        ("hello.txt", b"hello\n", 0o644),
        ("bin.dat", b"\xff\xfe\x00", 0o644),
        ("empty", b"", 0o644),
        ("batch.sh", b"#!/bin/sh\nhostname\n", 0o755),
    ):
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(mode)
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        monkeypatch.delenv(name)
    for name, value in (("PATH", "/usr/bin:/bin"), ("HOME", "/tmp"), ("FOO", "bar")):
        monkeypatch.setenv(name, value)


def made(value: Any) -> Any:
    """A result in the form of the recording."""
    if isinstance(value, Jobspec):
        return value.jobspec
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], Jobspec):
        return [value[0], str(value[1])]
    return value


#: Expressions whose outcome we mean to be another: see docs/compatibility.md.
BETTER: dict[str, Any] = {
    "JobspecV1.from_submit(['app'], add_file='hello.txt', env=['-*'], rlimit=['-*'])": {"hello.txt"},
    "JobspecV1.from_submit(['app'], add_file=['n:0755=hello.txt'], env=['-*'], rlimit=['-*'])": 0o100755,
    "(lambda j: (j.add_file('f','abc',encoding='foo'), j)[-1])(JobspecV1.from_command(['a'],environment={}))": (
        "invalid encoding: foo"
    ),
    "(lambda j: (j.add_file('f','hello.txt',perms=0o700), j)[-1])(JobspecV1.from_command(['a'],environment={}))": (
        0o100700
    ),
    "validate_jobspec('[]')": "a jobspec must be a JSON object",
}
#: Errors that we raise with a text of our own.
OWN_TEXT = ("got an unexpected keyword argument", "Missing key", "does not support item assignment", "has no attribute")


@pytest.mark.usefixtures("_place")
@pytest.mark.parametrize("record", lines("jobs-jobspec-builders.jsonl"), ids=lambda record: record["call"][:80])
def test_an_expression_gives_what_it_gave_the_reference(
    record: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # which comes after the fixtures
    call, better = record["call"], BETTER.get(record["call"])

    def run() -> Any:
        return eval(call, dict(NAMES))

    if isinstance(better, str):
        with pytest.raises(ValueError, match=better):
            run()
    elif isinstance(better, set):
        assert set(run().attributes["system"]["files"]) == better
    elif isinstance(better, int):
        assert [file["mode"] for file in run().attributes["system"]["files"].values()] == [better]
    elif "result" in record:
        assert json.loads(json.dumps(made(run()))) == record["result"]
    else:
        kind, text = record["error"], record["message"]
        with pytest.raises(Exception) as info:  # noqa: PT011  # compared below
            run()
        # A value in the way of a dotted key is a KeyError.
        wanted = "KeyError" if kind == "AttributeError" else kind
        assert wanted in [base.__name__ for base in type(info.value).__mro__]
        if wanted != "KeyError" and not any(part in text for part in OWN_TEXT):
            assert str(info.value) == text


#: What other services say of a jobspec: their tests have these.
ELSEWHERE = (
    "queue foo",
    "queue int",
    "deps unknown scheme",
    "deps string scheme",
    "constraints hostlist bad",
    "duration true",
)


@pytest.mark.parametrize("record", lines("jobs-jobspec-validation.jsonl"), ids=lambda record: record["label"])
def test_the_validator_says_what_it_said(record: dict[str, Any]) -> None:
    told = record["submit"]
    if told.get("ok") or record["label"] in ELSEWHERE:
        assert validate_jobspec(record["jobspec"], 1)[0] is True
        return
    if record["label"] == "json null":
        assert validate_jobspec(record["jobspec"], 1) == (1, "Unable to parse JSON")
        return
    with pytest.raises((ValueError, TypeError)) as info:
        validate_jobspec(record["jobspec"], 1)
    text = told["errstr"]
    # What is no JSON object does not get so far there; of the missing keys it may name any.
    if told["errnum"] == 1:
        assert str(info.value)[:11] == text[:11] if text.startswith("Missing key") else str(info.value) == text


def test_of_several_missing_keys_the_first_by_name_is_told() -> None:
    with pytest.raises(ValueError, match=r"^Missing key \(attributes\)$"):
        validate_jobspec("{}", 1)


def test_deep_resources_are_walked_without_recursion() -> None:
    vertex: dict[str, Any] = {"type": "core", "count": 1}
    for _ in range(10_000):
        vertex = {"type": "x", "count": 1, "with": [vertex]}
    _rules.check_resource(vertex)
    assert len(_rules.walk([vertex])) == 10_001


@pytest.mark.usefixtures("_place")
def test_options_of_a_namespace_are_applied_and_keywords_go_before_them() -> None:
    args = types.SimpleNamespace(
        env=["-*"],
        rlimit=["-*"],
        time_limit="1m",
        setopt=["verbose=2", "pty"],
        setattr=["a.b=[1]", ".user.c=x"],
        dependency=["after:1"],
    )
    jobspec = JobspecV1.from_command(["a"]).apply_options(args, time_limit=5)
    assert jobspec.jobspec["attributes"] == {
        "system": {
            "duration": 5.0,
            "environment": {},
            "dependencies": [{"scheme": "after", "value": "1"}],
            "shell": {"options": {"verbose": 2, "pty": 1}},
            "a": {"b": [1]},
        },
        "user": {"c": "x"},
    }


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        (["nosuch"], 'No corresponding rlimit matching "nosuch"'),
        (["nosuch=1"], 'Invalid rlimit "nosuch"'),
        (["core=x"], "Invalid value in core=x"),
    ],
)
def test_limits_that_are_none(rules: list[str], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        get_filtered_rlimits(rules)


def test_limits_by_rules() -> None:
    assert get_filtered_rlimits(["-*", "core=5,nofile=unlimited"]) == {"core": 5, "nofile": -1}
    assert "memlock" not in get_filtered_rlimits()
    assert "memlock" in get_filtered_rlimits(["memlock"])


@pytest.mark.usefixtures("_place")
def test_a_batch_configuration_is_put_together_from_all_that_conf_may_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "flux/config").mkdir(parents=True)
    (tmp_path / "flux/config/site.json").write_text('{"named": {"a": 1}}')
    (tmp_path / "x.toml").write_text("[file]\nb = 2\n")
    config = BatchConfig()
    assert config.get("a.b", 7) == 7
    for value in ("site", "x.toml", "key.c=[3]", "key.d=text", '{\n"json": {"e": 5}}', "[toml]\nf = 6"):
        assert config.update(value) is config
    assert config.config == {
        "named": {"a": 1},
        "file": {"b": 2},
        "key": {"c": [3], "d": "text"},
        "json": {"e": 5},
        "toml": {"f": 6},
    }
    assert config.get("key.c") == [3]


@pytest.mark.usefixtures("_place")
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("nosuch", "--conf: named config 'nosuch' not found"),
        ("a\nb", "--conf: failed to parse multiline as TOML or JSON"),
        ("bad.toml", "--conf: parse error: "),
    ],
)
def test_a_configuration_that_is_none(value: str, text: str) -> None:
    Path("bad.toml").write_text("x = [")
    with pytest.raises(ValueError, match=re.escape(text)):
        BatchConfig().update(value)


def test_the_value_of_an_option_is_json_text_or_a_file(tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    path.write_text('{"x": 1}')
    assert parse_jobspec_keyval("--setopt", "a.b=[1]") == ("a.b", [1])
    assert parse_jobspec_keyval("--setopt", "a=b c") == ("a", "b c")
    assert parse_jobspec_keyval("--setopt", "a") == ("a", 1)
    assert parse_jobspec_keyval("--setopt", f"^a={path}") == ("a", {"x": 1})
    with pytest.raises(ValueError, match=r"^--setopt: "):
        parse_jobspec_keyval("--setopt", f"^a={path}x")
