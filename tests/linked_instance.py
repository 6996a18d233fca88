"""Fixtures of an instance of two ranks in a process of its own; use with ``pytest_plugins = ["linked_instance"]``."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_LINKED = str(Path(__file__).with_name("linked.py"))


@pytest.fixture(scope="session")
def linked_instance() -> Iterator[Path]:
    """Two ranks in a process of their own; the directory of their sockets."""
    with tempfile.TemporaryDirectory(prefix="flux-", dir="/tmp") as directory:
        command = [sys.executable, _LINKED, directory, "0"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n", "the instance does not start"
            yield Path(directory)
        finally:
            process.stdin.close()
            code = process.wait(60)
            process.stdout.close()
        assert code == 0


@pytest.fixture
def rank0(linked_instance: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of rank 0, which FLUX_URI names as well."""
    uri = f"local://{linked_instance}/local-0"
    monkeypatch.setenv("FLUX_URI", uri)
    return uri
