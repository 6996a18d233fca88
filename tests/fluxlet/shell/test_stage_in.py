"""The shell option stage-in: archives in the directories of jobs, before their tasks start (spec 07, 5.13)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluxlet.testing import Instance

FLUX = str(Path(sys.executable).parent / "flux")


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    config = {"resource": {"noverify": True, "config": [{"hosts": "a,b", "cores": "0-1"}]}}
    with Instance(size=2, config=config) as started:
        yield started


def test_jobs_have_archives_on_all_their_ranks(instance: Instance, tmp_path: Path) -> None:
    def flux(*words: str | Path) -> tuple[list[str], str]:
        done = subprocess.run(
            [FLUX, *map(str, words)], env=instance.environ, capture_output=True, text=True, timeout=60, check=False
        )
        return sorted(done.stdout.splitlines()), done.stderr

    files, shared = tmp_path / "files", tmp_path / "shared"
    (files / "d").mkdir(parents=True)
    shared.mkdir()
    (files / "d" / "small").write_text("hello")
    (files / "big").write_bytes(b"x" * (2 << 20))
    (files / "other").write_text("")
    for name, words in (("main", ("--mmap", "big", "d")), ("second", ("other",))):
        assert flux("archive", "create", "-n", name, "-C", files, *words) == ([], "")

    show = f"cd $FLUX_JOB_TMPDIR && find . -type f; cmp big {files / 'big'}"
    assert flux("run", "-N2", "-l", "-ostage-in.names=main,second", "sh", "-c", show) == (
        sorted(f"{task}: ./{path}" for task in (0, 1) for path in ("big", "d/small", "other")),
        "",
    )
    assert flux("run", "-ostage-in.pattern=d/*", "sh", "-c", "cat $FLUX_JOB_TMPDIR/d/*; ls $FLUX_JOB_TMPDIR") == (
        ["hellod"],
        "",
    )
    assert flux("run", "-N2", f"-ostage-in.destination=global:{shared}", "true") == ([], "")
    assert sorted(str(path.relative_to(shared)) for path in shared.rglob("*")) == ["big", "d", "d/small"]
    for option, text in (
        ("-ostage-in.destination=/nosuch", "chdir /nosuch: No such file or directory"),
        ("-ostage-in.names=nosuch", "could not lookup archive.nosuch in primary KVS namespace: No such file"),
    ):
        assert f"type=exec severity=0 {text}" in flux("run", option, "true")[1]
    assert flux("run", "-ostage-in=0", "sh", "-c", "ls $FLUX_JOB_TMPDIR") == ([], "")
    assert flux("filemap", "get", "-t", "-n", "second") == (["other"], "")
    assert flux("module", "stats", "--parse=mmap.tags", "content")[0][0] != "{}"
    assert flux("filemap", "unmap") == ([], "")
    assert flux("module", "stats", "--parse=mmap.blobs", "content") == (["0"], "")


def test_the_topology_of_the_node_is_in_a_file(instance: Instance) -> None:
    script = 'case $HWLOC_XMLFILE in $FLUX_JOB_TMPDIR/*) cat "$HWLOC_XMLFILE";; esac'
    words = [FLUX, "run", "-o", "hwloc.xmlfile", "--env=HWLOC_COMPONENTS=x", "sh", "-c", script + "; env"]
    done = subprocess.run(words, env=instance.environ, capture_output=True, text=True, timeout=60, check=True)
    with instance.handle() as handle:
        topology = handle.rpc("resource.topo-get").get_str()
    assert topology
    assert done.stdout.startswith(topology)
    assert "HWLOC_COMPONENTS" not in done.stdout
