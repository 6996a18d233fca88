"""Archives that an instance begins with, or leaves: content.restore and content.dump (spec 05, 11.4), and recovery."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fluxlet.broker.offline import dump_words, dumped, restore_words, restored


def test_auto_is_a_file_of_the_state_directory_with_a_link_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    attributes = {"statedir": str(tmp_path), "statedir-cleanup": "0", "content.dump": "auto", "content.restore": "auto"}
    assert restore_words(attributes) is None
    for stamp, name in ((0.0, "19700101_000000.tgz"), (61.0, "19700101_000101.tgz")):
        words = dump_words(attributes, stamp)
        assert words is not None
        assert words[-1] == f"{tmp_path}/dump/{name}"
        Path(words[-1]).touch()
        dumped(attributes, words[-1])
        assert os.readlink(tmp_path / "dump" / "RESTORE") == name
    words = restore_words(attributes)
    assert words is not None
    assert words[-1] == f"{tmp_path}/dump/19700101_000101.tgz"
    restored(attributes)
    assert restore_words(attributes) is None


def test_without_a_state_directory_it_is_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = dump_words({"statedir": "/nosuch", "statedir-cleanup": "1", "content.dump": "auto"}, 0.0)
    assert words is not None
    assert words[-1].startswith("./dump/")
    assert dump_words({"statedir": "/nosuch"}, 0.0) is None


# In instances.


@pytest.fixture
def environ() -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FLUX_")}
    return {**clean, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "SHELL": "/bin/sh"}


def start(environ: dict[str, str], *words: str) -> tuple[str, str, int]:
    done = subprocess.run(
        ["flux", "start", *words], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout, done.stderr, done.returncode


def test_dump_of_one_instance_is_the_beginning_of_another(environ: dict[str, str], tmp_path: Path) -> None:
    archive = tmp_path / "a.tgz"
    assert start(environ, f"-Scontent.dump={archive}", "flux kvs put b=2") == ("", "", 0)
    out, err, code = start(environ, f"-Scontent.restore={archive}", "flux kvs get b; flux startlog | wc -l")
    assert (out.split(), err, code) == (["2", "2"], "", 0)
    # As recovery, it is the same.
    out, err, code = start(environ, f"--recovery={archive}", "flux kvs get b; flux getattr broker.recovery-mode")
    assert (out.split(), code) == (["2", "1"], 0)


def test_shutdown_with_gc_and_restart(environ: dict[str, str], tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    lots = "for i in 1 2 3 4 5 6 7 8; do flux kvs put a=$i; done"
    _, _, code = start(environ, f"-Sstatedir={state}", f"{lots}; flux shutdown --gc --background; sleep 1000")
    assert code == 129
    out, err, code = start(environ, f"-Sstatedir={state}", "-Scontent.restore=auto", "flux kvs get a")
    assert (out, err, code) == ("8\n", "", 0)
    assert len(os.listdir(state / "dump")) == 1
    out, err, code = start(environ, f"-Sstatedir={state}", "-Scontent.restore=auto", "flux kvs get a")
    assert (out, err, code) == ("8\n", "", 0)


def test_archive_that_is_not_there_costs_nothing(environ: dict[str, str], tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    start(environ, f"-Sstatedir={state}", "flux kvs put a=1")
    _, err, code = start(environ, f"-Sstatedir={state}", "-Scontent.restore=/no/such.tgz", "true")
    assert code == 1
    assert "rc1.0: content.restore: /no/such.tgz: No such file or directory\n" in err
    assert start(environ, f"-Sstatedir={state}", "flux kvs get a") == ("1\n", "", 0)


def test_recovery_of_a_state_directory_whose_instance_has_crashed(environ: dict[str, str], tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    crash = "flux kvs put --sync a=1; kill -9 $(flux getattr broker.pid); sleep 1000"
    assert start(environ, f"-Sstatedir={state}", crash)[2] == -9
    # Recovery goes on whatever rc1 says.
    words = (f"--recovery={state}", "--conf=heartbeat.period=0s", "flux kvs get a; flux startlog | grep -c crashed")
    out, _, code = start(environ, *words)
    assert (out.split(), code) == (["1", "1"], 0)


def test_what_cannot_be_recovered(environ: dict[str, str], tmp_path: Path) -> None:
    _, err, code = start(environ, f"--recovery={tmp_path}", "true")
    assert (err, code) == (f"flux-start: {tmp_path}/content.sqlite: No such file or directory\n", 1)
    assert start(environ, "--recovery=/no/such", "true")[1] == "flux-start: /no/such: No such file or directory\n"
