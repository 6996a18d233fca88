"""flux.testing.fake_resources: nodes that there are not."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from in_process import BrokerThread, until

import flux
import flux.kvs
import flux.resource
from flux.testing.fake_resources import InjectFakeResources, build_R_encode_args, load_amender, saturation_count


@pytest.mark.parametrize(
    ("have", "slot", "count"),
    [((4, 64, 8), (1, 0), 256), ((4, 64, 8), (3, 0), 84), ((4, 64, 8), (1, 1), 32), ((4, 64, 0), (1, 1), 0)],
)
def test_how_many_slots_there_are(have: tuple[int, int, int], slot: tuple[int, int], count: int) -> None:
    assert saturation_count(*have, *slot) == count
    assert InjectFakeResources(*have).saturation_count(*slot) == count


def test_a_slot_of_nothing_and_nodes_of_nothing_are_refused() -> None:
    for wrong in (lambda: saturation_count(1, 1, 0, 0, 0), lambda: InjectFakeResources(0)):
        with pytest.raises(ValueError, match="must"):
            wrong()


def test_amenders_are_functions_of_modules_and_of_files(tmp_path: Path) -> None:
    file = tmp_path / "amender.py"
    file.write_text("def amend(R, xml):\n    return {**R, 'xml': xml}\n")
    assert load_amender(str(file))({"a": 1}, "<x>") == {"a": 1, "xml": "<x>"}
    assert load_amender("copy:copy") is __import__("copy").copy
    for wrong in ("copy", "copy:__name__"):
        with pytest.raises(ValueError, match="copy"):
            load_amender(wrong)


@pytest.fixture
def handle() -> Iterator[flux.Flux]:
    broker = BrokerThread()
    with broker.open() as handle:
        yield handle
    broker.stop()


def test_an_instance_has_them_after_a_reload(handle: flux.Flux, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable), prepend=os.pathsep)
    said: list[str] = []

    def amend(R: dict[str, Any], xml: str | None) -> dict[str, Any]:
        R["execution"]["properties"] = {"odd": "1,3"}
        return R

    fake = InjectFakeResources(4, 8, 2, host_prefix="n", verbose=True, log=said.append, amender=amend)
    assert (fake.total_cores, fake.total_gpus) == (32, 8)
    assert build_R_encode_args(fake) == ["--ranks=0-3", "--hosts=n[0-3]", "--cores=0-7", "--gpus=0-1"]
    handle.rpc("module.remove", {"name": "resource"}).get()
    assert fake.install(handle) == flux.kvs.get(handle, "resource.R")
    handle.rpc("module.load", {"path": "resource", "args": ["noverify", "monitor-force-up"]}).get()
    until(lambda: flux.resource.resource_list(handle).get().up.ncores == 32)
    up = flux.resource.resource_list(handle).get().up
    assert (str(up.nodelist), up.ngpus, up.properties) == ("n[0-3]", 8, "odd")
    assert said == ["4 nodes: 32 cores, 8 gpus"]
