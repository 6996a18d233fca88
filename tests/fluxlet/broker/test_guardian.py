"""The guardian by itself; what it does for a real broker is in test_start.py."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from fluxlet.broker.guardian import Guardian

PATIENCE = 60.0


def leave(guardian: Guardian) -> None:
    """What the guardian sees when its broker is killed."""
    os.close(guardian._fd)
    guardian._fd = -1
    os.waitpid(guardian.pid, 0)


def test_a_process_that_the_broker_had_no_time_to_name_is_found_by_its_uri() -> None:
    guardian = Guardian()
    uri = f"local:///nowhere/{os.getpid()}"
    guardian.add_starting(uri)
    with subprocess.Popen(["sleep", "1000"], env={**os.environ, "FLUX_URI": uri}) as child:
        leave(guardian)
        assert child.wait(PATIENCE) == -signal.SIGKILL


def test_once_it_is_named_others_with_its_uri_are_let_be() -> None:
    guardian = Guardian()
    uri = f"local:///nowhere/{os.getpid()}"
    guardian.add_starting(uri)
    guardian.remove_starting()
    with subprocess.Popen(["sleep", "1000"], env={**os.environ, "FLUX_URI": uri}) as child:
        leave(guardian)
        assert child.poll() is None
        child.kill()


def test_a_directory_that_the_broker_was_about_to_make_goes_while_it_is_empty(tmp_path: Path) -> None:
    guardian = Guardian()
    made, full, never = tmp_path / "made", tmp_path / "full", tmp_path / "never"
    for path in (made, full, never):
        guardian.add_empty(str(path))
    made.mkdir()
    full.mkdir()
    (full / "file").touch()
    leave(guardian)
    assert sorted(tmp_path.iterdir()) == [full]
