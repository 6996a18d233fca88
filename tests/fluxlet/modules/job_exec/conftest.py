"""Fixtures: a real instance whose job-manager the test plays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from exec_player import ENV, JobPlayer

from fluxlet.testing import Instance


def job_processes(uri: str) -> list[int]:
    """The processes of jobs of an instance that are still there, by their environment."""
    wanted = f"\0FLUX_URI={uri}\0".encode()
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            environ = b"\0" + (directory / "environ").read_bytes()
            state = (directory / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if wanted in environ and b"\0FLUX_KVS_NAMESPACE=job-" in environ and state not in "ZX":
            found.append(int(directory.name))
    return found


@pytest.fixture(scope="module")
def exec_instance() -> Iterator[Instance]:
    """An instance with short kill timeouts, for all tests of a file."""
    config = {"exec": {"kill-timeout": "0.2s"}}
    with Instance(config=config, env=ENV) as instance:
        yield instance


@pytest.fixture(scope="module")
def player(exec_instance: Instance) -> Iterator[JobPlayer]:
    """The player of its job-manager. At the end of the file no process of any job is left, and no directory."""
    with JobPlayer(exec_instance.uri) as found:
        yield found
        found.until(lambda: not job_processes(exec_instance.uri))
        rundir = Path(found.handle.attr_get("rundir"))
        found.until(lambda: not list(rundir.glob("jobtmp-*")))
        assert found.handle.rpc("job-exec.stats-get").get()["jobs"] == {}
        namespaces = found.handle.rpc("kvs.namespace-list").get()["namespaces"]
        assert [entry["namespace"] for entry in namespaces] == ["primary"]
