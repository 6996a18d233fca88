"""flux.util: the golden cases, and what importing it does and does not do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pycore
import pytest

import flux.util
from flux.core.ffi import NULL
from flux.util import encode_payload, encode_topic, fsd, parse_fsd
from flux.util.durations import six_digits


@pytest.fixture
def _environment() -> Iterator[None]:
    """Cases set the time zone, HOME and others for the whole process."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
    time.tzset()


@pytest.mark.usefixtures("_environment")
@pytest.mark.parametrize("case", pycore.params("util"))
def test_behaves_as_recorded(case: dict[str, Any]) -> None:
    pycore.run_case("util", case)


def run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    ).stdout.strip()


def test_import_loads_nothing_heavy() -> None:
    # In a stand-in for the package `flux`, which loads more than this, and not counting what `site` has loaded.
    code = """
import sys, types
from importlib.util import find_spec
package = types.ModuleType("flux")
package.__path__ = list(find_spec("flux").submodule_search_locations)
sys.modules["flux"] = package
before = set(sys.modules)
import flux.util
print(*sorted(set(sys.modules) - before))
"""
    heavy = {"argparse", "datetime", "flux.constants", "json", "logging", "parsedatetime", "string", "yaml"}
    loaded = set(run_python(code).split())
    assert "flux.util" in loaded
    assert not loaded & heavy


def test_star_import_gives_the_documented_names_only() -> None:
    names: dict[str, object] = {}
    exec("from flux.util import *", names)
    del names["__builtins__"]
    assert sorted(names) == ["CLIMain", "check_future_error", "encode_payload", "encode_topic", "parse_fsd"]


def test_every_public_name_is_listed_and_can_be_imported() -> None:
    for name in flux.util._HOME:
        assert name in dir(flux.util)
        assert getattr(flux.util, name).__name__ == name


def test_no_module_hides_a_name() -> None:
    # Importing flux.util.X binds X in the package: a module called "fsd" would take the function's place.
    assert not set(flux.util._HOME) & set(flux.util._HOME.values())


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'flux\.util' has no attribute 'nope'"):
        _ = flux.util.nope
    with pytest.raises(ImportError):
        exec("from flux.util import nope")


class NullPointer:
    is_null_pointer = True


def test_null_pointers_are_no_payload_and_no_topic() -> None:
    assert encode_payload(None) == NULL
    assert encode_payload(NullPointer()) == NULL
    with pytest.raises(OSError, match="Topic must not be None/NULL"):
        encode_topic(NullPointer())


def test_undecodable_bytes_are_sent_on_unchanged() -> None:
    received = b"\xffa".decode("utf-8", "surrogateescape")
    assert encode_payload(received) == b"\xffa"
    assert encode_payload([received]) == b'["\xffa"]'
    assert encode_topic(received) == b"\xffa"


def test_payload_that_is_not_json_is_an_error_of_json() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="Circular reference"):
        encode_payload(loop)
    assert encode_payload(float("nan")) == b"NaN"


@pytest.mark.parametrize("text", [" inf", "infs", "infd", "-inf", "1e999", "1e308d", "nand", "1 2", "0x10", "--1"])
def test_text_that_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^invalid Flux standard duration$"):
        parse_fsd(text)


@pytest.mark.parametrize("value", [b"1s", None, 1.5])
def test_duration_that_is_no_text_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError):
        parse_fsd(value)


def test_blanks_around_the_number_of_a_duration_are_allowed() -> None:
    assert parse_fsd(" 1 m") == 60.0


@pytest.mark.parametrize("secs", [0.001, 0.5, 9.5, 59, 61.5, 7200, 86400 * 3.5])
def test_what_fsd_writes_parse_fsd_reads(secs: float) -> None:
    assert parse_fsd(fsd(secs)) == pytest.approx(secs, rel=1e-3)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.00122085, "1.22085ms"),
        (0.0999, "99.9ms"),
        (0.1, "0.1s"),
        (0.201695, "0.201695s"),
        (59.5, "59.5s"),
        (60, "1m"),
        (5400, "1.5h"),
        (172800, "2d"),
    ],
)
def test_durations_as_the_broker_prints_them(seconds: float, text: str) -> None:
    assert six_digits(seconds) == text
