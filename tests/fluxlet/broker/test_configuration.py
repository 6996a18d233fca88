"""Configuration: its sources, how they are merged, and what is said about bad ones (spec 03, 10.1 and 10.2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fluxlet.broker.configuration import ConfigError, load, merge, parse_toml, parse_update


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a=1", {"a": 1}),
        ("a.b.c=true", {"a": {"b": {"c": True}}}),
        ("a=word", {"a": "word"}),
        ('a="quoted"', {"a": "quoted"}),
        ("a=", {"a": ""}),
        ("a=x=y", {"a": "x=y"}),
        ("a=[1, null]", {"a": [1, None]}),
        ('a={"b": 2}', {"a": {"b": 2}}),
        ('{"a": {"b": 1}}', {"a": {"b": 1}}),
        ("[a]\nb = 1\n", {"a": {"b": 1}}),
        (' \n {"a": 1}', {"a": 1}),
    ],
)
def test_a_conf_value_is_key_and_value_or_inline_json_or_toml(value: str, expected: dict[str, Any]) -> None:
    assert load(None, [value]) == expected


def test_a_conf_value_without_equals_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "more.json").write_text('{"a": 1}')
    assert load(None, [str(tmp_path / "more.json")]) == {"a": 1}


def test_updates_are_merged_in_order_over_the_files(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[t]\na = 1\nb = 1\nc = 1\n")
    assert load(str(tmp_path), ["t.b=2", "t.c=2", "t.c=3"]) == {"t": {"a": 1, "b": 2, "c": 3}}


def test_files_of_a_directory_are_merged_by_name(tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_text("[t]\nx = 'b'\n")
    (tmp_path / "a.toml").write_text("[t]\nx = 'a'\ny = 'a'\n")
    (tmp_path / "c.json").write_text('{"t": 1}')
    (tmp_path / ".hidden.toml").write_text("not toml")
    assert load(str(tmp_path), []) == {"t": {"x": "b", "y": "a"}}


def test_no_source_is_an_empty_configuration() -> None:
    assert load(None, []) == {}


def test_anything_but_two_tables_replaces() -> None:
    config: dict[str, Any] = {"a": {"b": 1}, "c": [1], "d": 1}
    merge(config, {"a": 5, "c": [2], "d": {"e": 1}})
    assert config == {"a": 5, "c": [2], "d": {"e": 1}}


@pytest.mark.parametrize(
    ("toml", "text"),
    [
        ("1979-05-27T07:32:00Z", "1979-05-27T07:32:00Z"),
        ("1979-05-27T00:32:00.5-07:00", "1979-05-27T00:32:00.500000-07:00"),
        ("1979-05-27T07:32:00", "1979-05-27T07:32:00"),
        ("1979-05-27", "1979-05-27"),
        ("07:32:00", "07:32:00"),
    ],
)
def test_dates_and_times_become_objects_with_their_iso_text(toml: str, text: str) -> None:
    assert parse_toml(f"t = {{d = [{toml}]}}") == {"t": {"d": [{"iso-8601-ts": text}]}}


def test_toml_arrays_may_mix_types() -> None:
    assert parse_toml("x = [1, 'a', 2.5, {b = true}]") == {"x": [1, "a", 2.5, {"b": True}]}


@pytest.mark.parametrize(
    ("name", "content", "beginning"),
    [
        ("a.toml", "ok = 1\nbad\n", "Config file error: FILE:2: "),
        ("a.toml", "x = [", "Config file error: FILE:1: "),
        ("a.toml", "a = 1\n\nx = [1,\n", "Config file error: FILE:3: "),
        ("a.toml", "a = 1\na = 2\n", "Config file error: FILE:2: Cannot overwrite a value"),
        ("a.json", '{"a": 1\n!}', "Config file error: FILE:2: "),
        ("a.json", "[1]", "Config file error: FILE:1: configuration is not a JSON object"),
        ("a.toml", "[t]\nx = nan\n", "Config file error: FILE: t.x: nan is not a number that JSON has"),
        ("a.toml", "x = [99999999999999999999]\n", "Config file error: FILE: x: integer 99999999999999999999"),
    ],
)
def test_errors_say_file_and_line(tmp_path: Path, name: str, content: str, beginning: str) -> None:
    file = tmp_path / name
    file.write_text(content)
    for path in (file, tmp_path) if name.endswith(".toml") else (file,):
        with pytest.raises(ConfigError) as caught:
            load(str(path), [])
        assert str(caught.value).replace(str(file), "FILE").startswith(beginning)


def test_text_that_is_not_utf8_is_an_error_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes(b"a = 1\nb = '\xff'\n")
    with pytest.raises(ConfigError, match=r"a\.toml:2: not UTF-8 text$"):
        load(str(file), [])


def test_a_path_that_is_missing_is_an_error(tmp_path: Path) -> None:
    path = f"{tmp_path}/nosuch"
    with pytest.raises(ConfigError) as caught:
        load(path, [])
    assert str(caught.value) == f"Config file error: stat: {path}: No such file or directory"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("=x", "--conf: value must have a key in KEY=VAL"),
        ("a..b=x", "--conf: value must have a key in KEY=VAL"),
        ("{", "--conf: 1: Expecting property name enclosed in double quotes"),
        ("/nosuch/file", "--conf: stat: /nosuch/file: No such file or directory"),
        ("a = 1\nb\n", "--conf: 2: "),
        ("a=NaN", "--conf: a: nan is not a number that JSON has"),
    ],
)
def test_errors_of_conf_values_say_so(value: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, [value])
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a":' + "9" * 5000 + "}", "digits"),
        ("\na=" + "9" * 5000, "digits"),
        ('{"a":' + "[" * 600 + "]" * 600 + "}", "nested too deeply"),
        ('{"a":' + "[" * 5000 + "]" * 5000 + "}", "nested too deeply"),
        ("\na=" + "[" * 600 + "]" * 600, "nested too deeply"),
        ("a=" + "[" * 600 + "]" * 600, "nested too deeply"),
        (".".join("a" * 600) + "=1", "nested too deeply"),
        ('a="\\ud800"', "is no text that UTF-8 can hold"),
        ('{"\\ud800":1}', "is no text that UTF-8 can hold"),
        ("a=\udcff", "is no text that UTF-8 can hold"),
    ],
    ids=lambda text: text[:12],
)
def test_what_no_service_could_read_is_an_error(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_update(text)
