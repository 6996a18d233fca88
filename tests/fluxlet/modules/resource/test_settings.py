"""The tables [resource] and [fake-resources], and what is made of them (spec 07, 2.5)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from flux.resource.Rv1Set import Node, Rv1Set
from fluxlet.modules.resource.settings import Settings, differences, rerank


def configured(*entries: dict[str, Any]) -> Rv1Set:
    made = Settings({"resource": {"config": list(entries)}}).configured
    assert made is not None
    return made


def test_entries_add_up() -> None:
    made = configured(
        {"hosts": "a[0-2]", "cores": "0-3"},
        {"hosts": "a1,b", "gpus": "0", "cores": "0"},
        {"hosts": "b", "properties": ["big", "new"]},
        {"hosts": "a2", "properties": ["new"]},
    )
    assert made.dumps() == "rank[0,2]/core[0-3] rank1/core[0-3],gpu0 rank3/core0,gpu0"
    assert made.to_dict()["execution"]["nodelist"] == ["a[0-2],b"]
    assert json.loads(made.get_properties()) == {"big": "3", "new": "2-3"}


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"bogus": 1}, "error parsing [resource] configuration: 1 object item(s) left unpacked: bogus"),
        ({"exclude": 1}, "error parsing [resource] configuration: Expected string, got integer"),
        ({"config": [{"hosts": "other"}]}, "resource.config: other assigned no resources"),
        ({"config": [{"hosts": "a["}]}, "resource.config: config[0]: invalid hostlist 'a['"),
        ({"config": [{"hosts": ""}]}, "resource.config: config[0]: no hosts configured"),
        ({"config": []}, "resource.config: no hosts configured"),
        ({"config": [{"hosts": "a", "cores": "x"}]}, "resource.config: config[0]: IDset(): Invalid argument: x"),
        ({"config": [{"hosts": "a", "colour": "x"}]}, "resource.config: config[0]: 1 object item(s) left unpacked"),
        ({"config": [{"hosts": "a", "cores": "0", "properties": ["x^"]}]}, "invalid property 'x^'"),
        ({"config": [{"hosts": "a", "cores": "0", "properties": [3]}]}, "invalid property '3'"),
        ({"path": "/nosuch"}, "/nosuch: No such file or directory"),
        ({"history": "soon"}, "resource.history: not a duration"),
        ({"journal-max": -1}, "resource.journal-max: must not be negative"),
        ({"verify": 3, "config": [{"hosts": "a", "cores": "0"}]}, "verify must be a boolean or a table"),
        ({"verify": {"core": "x"}, "config": [{"hosts": "a", "cores": "0"}]}, "resource.verify: core: invalid mode"),
        ({"verify": {"x": "strict"}, "config": [{"hosts": "a", "cores": "0"}]}, "unknown resource type 'x'"),
        (3, "error parsing [resource] configuration: Expected object, got integer"),
    ],
)
def test_what_will_not_do(table: Any, text: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  # compared below
        Settings({"resource": table})
    assert text in str(error.value)


def test_r_from_a_file(tmp_path: Path) -> None:
    path, scheduling = tmp_path / "R", tmp_path / "scheduling"
    path.write_text('{"version": 1, "execution": {"R_lite": [{"rank": "0-1", "children": {"core": "0"}}]}}')
    scheduling.write_text('{"graph": []}')
    made = Settings({"resource": {"path": str(path), "scheduling": str(scheduling)}}).configured
    assert made is not None
    assert made.to_dict()["scheduling"] == {"graph": []}
    for text in ("{}", "x", "[]", '{"version": 1, "execution": {"R_lite": 3}}', '{"version": 1}'):
        path.write_text(text)
        with pytest.raises(ValueError, match=str(path)):
            Settings({"resource": {"path": str(path)}})


def test_defaults() -> None:
    settings = Settings({})
    assert (settings.configured, settings.verify, settings.exclude) == (None, None, "")
    assert (settings.journal_max, settings.history) == (100000, 90 * 86400.0)
    assert Settings({"resource": {"history": "0"}}).history == 0
    assert Settings({"resource": {"history": "inf"}}).history == math.inf


ENTRY = {"hosts": "a", "cores": "0-3", "gpus": "0"}


def found(cores: int, gpus: int = 1, host: str = "a") -> Rv1Set:
    has = Rv1Set()
    has.nodes[0] = Node(cores, gpus, host)
    return has


@pytest.mark.parametrize(
    ("verify", "has", "reason"),
    [
        (None, found(0b1111, 0), None),
        (None, found(0b11111), None),
        (None, found(0b0011), "rank 0 (a) missing resources: core[2-3]"),
        (None, found(0b1111, host="b"), "rank 0 got hostname 'b', expected 'a'"),
        (True, found(0b11111), "rank 0 (a) has extra resources: core4"),
        (True, found(0b0011, 0), "rank 0 (a) missing resources: core[2-3],gpu0"),
        ({}, found(0b1111, 3), "rank 0 (a) has extra resources: gpu1"),
        ({"default": "ignore"}, found(0, 0, "b"), None),
        ({"core": "allow-missing"}, found(1), None),
        ({"core": "allow-missing"}, found(0b11111), "rank 0 (a) has extra resources: core4"),
        (False, found(0), None),
    ],
)
def test_what_is_there_and_what_is_configured(verify: Any, has: Rv1Set, reason: str | None) -> None:
    table = {"config": [ENTRY]} if verify is None else {"config": [ENTRY], "verify": verify}
    settings = Settings({"resource": table})
    assert settings.configured is not None
    if settings.verify is None:
        assert reason is None
    else:
        assert differences(settings.verify, 0, settings.configured, has) == reason
        assert differences(settings.verify, 7, settings.configured, has) is None


def test_ranks_by_hosts() -> None:
    entries = [{"hosts": "a[0-1]", "cores": "0"}, {"hosts": "a1", "properties": ["x"]}]
    made = rerank(configured(*entries), ["a1", "b", "a0"])
    assert made.to_dict()["execution"]["nodelist"] == ["a[1,0]"]
    assert json.loads(made.get_properties()) == {"x": "0"}
    with pytest.raises(ValueError, match="host 'a0' is not in the hostlist"):
        rerank(configured({"hosts": "a0", "cores": "0"}), ["b"])


def test_fake_resources() -> None:
    made = Settings({"fake-resources": {"nnodes": 3, "gpus-per-node": 2}}).pretended
    assert made is not None
    assert made.dumps() == "rank[0-2]/core[0-63],gpu[0-1]"
    assert made.to_dict()["execution"]["nodelist"] == ["fake[0-2]"]
    for table in ({}, {"nnodes": 0}, {"nnodes": 1, "x": 1}, {"nnodes": 1, "cores-per-node": 0}):
        with pytest.raises(ValueError, match="fake-resources"):
            Settings({"fake-resources": table})


def halve(r: dict[str, Any], xml: str | None) -> dict[str, Any]:
    """For the test below."""
    r["execution"]["R_lite"][0]["children"]["core"] = "0-31"
    r["scheduling"] = {"xml": xml}
    return r


def test_fake_resources_may_be_changed(tmp_path: Path) -> None:
    (tmp_path / "topology").write_text("<topology/>")
    table = {"nnodes": 2, "amend-r": f"{__name__}:halve", "hwloc-xml-path": str(tmp_path / "topology")}
    made = Settings({"fake-resources": table}).pretended
    assert made is not None
    assert made.dumps() == "rank[0-1]/core[0-31]"
    assert made.scheduling == {"xml": "<topology/>"}
    for bad in ("nosuch:x", "json:nosuch", "json:loads"):
        with pytest.raises(ValueError, match=f"fake-resources.amend-r: {bad}"):
            Settings({"fake-resources": {"nnodes": 2, "amend-r": bad}})
