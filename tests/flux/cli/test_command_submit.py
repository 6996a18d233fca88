"""flux submit, against what the reference printed; the jobspecs that submission commands make (spec 08, section 6)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from goldens import BIN, VECTORS, Golden, GoldenInstance, Player, goldens

DRY = json.loads((VECTORS / "cli-dryrun.json").read_text())
#: Commands that there are.
COMMANDS = ("flux submit", "flux run", "flux bulksubmit", "flux watch", "flux batch", "flux alloc", "printf")
#: The job may have ended before its exec eventlog is read: then there is more to tell of.
RACES = ("flux submit --wait-event=exec.shell.init",)
#: Where we print something else: (stdout, stderr).
BETTER: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # What was meant is told.
    "flux submit --ntask=1 hostname": (
        (),
        (
            "flux submit: there is no --ntask, only --ntasks",
            "usage: flux submit [OPTIONS...] COMMAND [ARGS...]",
            "flux submit: error: unrecognized arguments: --ntask=1",
        ),
    ),
    # The option is named.
    "flux submit --setattr=^x=nosuch hostname": (
        (),
        ("flux-submit: ERROR: --setattr: [Errno 2] No such file or directory: 'nosuch'",),
    ),
    # Only {cc} is replaced: other braces are left alone.
    "flux submit --quiet --bcc=0-1 --watch sh -c 'echo ${FLUX_JOB_CC-unset} {cc}' | sort": (
        ("unset 0", "unset 1"),
        (),
    ),
}


def write_files(directory: Path) -> None:
    for name, text in DRY["files"].items():
        (directory / name).write_text(text if isinstance(text, str) else text["content"])


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoldenInstance]:
    started = GoldenInstance(tmp_path_factory.mktemp("golden"))
    write_files(started.directory)
    yield started
    started.stop()


@pytest.fixture(scope="module")
def player(instance: GoldenInstance) -> Player:
    return Player(instance.uri, instance.directory)


@pytest.fixture(scope="module")
def player_of_errors(instance: GoldenInstance) -> Player:
    """Ids are numbered for each file."""
    return Player(instance.uri, instance.directory)


def of_submit(name: str) -> list[Golden]:
    return [
        golden
        for golden in goldens(name)
        if golden.command.startswith(COMMANDS) and not any(race in golden.command for race in RACES)
    ]


@pytest.mark.parametrize("golden", of_submit("cli-submit"), ids=lambda golden: golden.command)
def test_it_prints_what_the_reference_does(player: Player, golden: Golden) -> None:
    if golden.command in BETTER:
        stdout, stderr = BETTER[golden.command]
        golden = golden._replace(stdout=stdout, stderr=stderr)
    assert player.differences(golden) == []


@pytest.mark.parametrize("golden", of_submit("cli-errors"), ids=lambda golden: golden.command)
def test_errors_are_those_of_the_reference(player_of_errors: Player, golden: Golden) -> None:
    if golden.command in BETTER:
        stdout, stderr = BETTER[golden.command]
        golden = golden._replace(stdout=stdout, stderr=stderr)
    assert player_of_errors.differences(golden) == []


def dry_runs() -> list[Any]:
    return [
        pytest.param(case, id=" ".join(case["argv"][1:]))
        for case in DRY["cases"]
        if " ".join(case["argv"][:2]) in COMMANDS
    ]


@pytest.mark.parametrize("case", dry_runs())
def test_the_jobspec_is_that_of_the_reference(case: dict[str, Any], tmp_path: Path) -> None:
    write_files(tmp_path)
    environ = {"PATH": f"{BIN}:/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC", **(case.get("env") or {})}
    command = [str(BIN / "flux"), *case["argv"][1:]]
    done = subprocess.run(
        command, cwd=tmp_path, env=environ, input=case.get("stdin", ""), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, case.get("stderr") or "")
    wanted = json.dumps(case["jobspec"]).replace(DRY["cwd"], os.path.realpath(tmp_path))
    # The reference ignores the mode that is given for a file, and gives a wrapped script its own words.
    wanted = wanted.replace('"s": {"mode": 33261', '"s": {"mode": 33216')
    wanted = wanted.replace('"{{tmpdir}}/script", "date"]', '"{{tmpdir}}/script"]')
    assert json.loads(done.stdout) == json.loads(wanted)
