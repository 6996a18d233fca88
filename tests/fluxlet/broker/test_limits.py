"""The table `[connector-local]`: what one client may cost, and sizes in a configuration."""

from __future__ import annotations

import re
from typing import Any

import pytest

from fluxlet.broker.configuration import ConfigError
from fluxlet.broker.local_server import Limits
from fluxlet.config_table import read_size


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (1, 1),
        (4096, 4096),
        ("4096", 4096),
        ("1k", 1024),
        ("1K", 1024),
        ("256M", 256 << 20),
        ("1.5G", 3 << 29),
        ("2T", 2 << 40),
        ("7E", 7 << 60),
    ],
)
def test_sizes(value: Any, size: int) -> None:
    assert read_size(value) == size


@pytest.mark.parametrize(
    "value",
    ["", "M", "-1", "0", "0.2", "1Q", "1 M", "1MB", "1e6", "٣", "8E", "9" * 400, 0, -1, 1 << 63, "1M\n"],
)
def test_no_sizes(value: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(value)) + " is not a size: it takes a number of bytes"):
        read_size(value)


@pytest.mark.parametrize(
    ("value", "kind"), [(True, "true"), (1.5, "real"), (None, "null"), ([], "array"), ({}, "object")]
)
def test_no_sizes_by_type(value: Any, kind: str) -> None:
    with pytest.raises(ValueError, match=f"^Expected size string or integer, got {kind}$"):
        read_size(value)


def test_what_may_wait_for_a_client_is_256_mebibytes_unless_the_configuration_says_otherwise() -> None:
    assert Limits.parse({}).queue == Limits.parse({"connector-local": {}}).queue == 256 << 20
    assert Limits.parse({"connector-local": {"sendq-max": "1M"}}).queue == 1 << 20
    assert Limits.parse({"connector-local": {"sendq-max": 1000}}).queue == 1000


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"sendq-max": "1Q"}, "sendq-max: '1Q' is not a size: "),
        ({"sendq-max": True}, "sendq-max: Expected size string or integer, got true$"),
        ({"sendq": 1}, "1 object item(s) left unpacked: sendq"),
        (7, "Expected object, got integer"),
    ],
)
def test_mistakes_are_named_by_table_and_key(table: Any, text: str) -> None:
    wanted = "^" + re.escape("error parsing [connector-local] configuration: " + text.rstrip("$"))
    with pytest.raises(ConfigError, match=wanted):
        Limits.parse({"connector-local": table})
