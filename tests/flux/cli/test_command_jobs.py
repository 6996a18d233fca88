"""flux jobs, against what the reference printed (spec 08, section 9)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from goldens import VECTORS, Golden, GoldenInstance, Player, goldens

#: Where we print something else: (stdout, stderr, exit code).
BETTER: dict[str, tuple[tuple[str, ...], tuple[str, ...], int]] = {
    # What a job without a URI has for one is nothing.
    "flux jobs --from-stdin -no '{uri.local}' < jobs.jsonl": (("local:///tmp/flux-XXXXXX/local-0",), (), 0),
    # What is not known is empty, also where a number was expected.
    "flux jobs --from-stdin -o '{nnodes:d}' < jobs.jsonl": (("NNODES", "16", "1", "2", *"1" * 9), (), 0),
    # -q works; there are no queues here.
    "flux pgrep -q batch run 2>&1 | tail -1": ((), (), 0),
    # -a counts, with the root left out as well.
    "flux pstree -a --skip-root=yes --ascii": (
        ("held:S", "dep:D", "run2:R", "run1:R", "canc:CA", "two:F", "one:CD"),
        (),
        0,
    ),
}


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoldenInstance]:
    started = GoldenInstance(tmp_path_factory.mktemp("golden"))
    shutil.copy(VECTORS / "jobinfo-jobs-input.jsonl", started.directory / "jobs.jsonl")
    yield started
    started.stop()


@pytest.fixture(scope="module")
def player(instance: GoldenInstance) -> Player:
    return Player(instance.uri, instance.directory)


def has_jq() -> bool:
    return shutil.which("jq", path="/usr/bin:/bin") is not None


@pytest.mark.parametrize("golden", [*goldens("cli-jobs-formats")], ids=lambda golden: golden.command)
def test_formats_are_those_of_the_reference(player: Player, golden: Golden) -> None:
    if "| jq" in golden.command:
        if not has_jq():
            done = player.run(golden.command.partition("|")[0])
            wanted = [json.loads(line) for line in golden.stdout]
            assert json.loads(done.stdout)["jobs"] == wanted
            return
        assert [json.loads(line) for line in player.run(golden.command).stdout.splitlines()] == [
            json.loads(line) for line in golden.stdout
        ]
        return
    if golden.command.endswith("-n --json"):
        assert json.loads(player.run(golden.command).stdout) == json.loads(golden.stdout[0])
        return
    if golden.command in BETTER:
        stdout, stderr, status = BETTER[golden.command]
        golden = golden._replace(stdout=stdout, stderr=stderr, status=status)
    assert player.differences(golden) == []


def test_live_jobs_are_listed_and_found_as_by_the_reference(tmp_path: Path) -> None:
    """In order: the commands build on each other."""
    instance = GoldenInstance(tmp_path)
    player, problems = Player(instance.uri, instance.directory), []
    for golden in goldens("cli-jobs-live"):
        if "| jq" in golden.command and not has_jq():
            continue
        if golden.command in BETTER:
            stdout, stderr, status = BETTER[golden.command]
            golden = golden._replace(stdout=stdout, stderr=stderr, status=status)
        found = player.differences(golden)
        if found:
            problems.append("\n    ".join([golden.command, *found]))
    instance.stop()
    assert not problems, "\n".join(problems)


def test_formats_of_files_and_of_the_environment(instance: GoldenInstance) -> None:
    """In order: the commands build on each other."""
    files = instance.directory / "xdg" / "flux"
    files.mkdir(parents=True)
    (files / "flux-jobs.toml").write_text('[formats.mine]\ndescription = "my format"\nformat = "{name}:{ntasks}"\n')
    player = Player(instance.uri, instance.directory)
    problems = {golden.command: player.differences(golden) for golden in goldens("cli-format-config")}
    assert {command: found for command, found in problems.items() if found} == {}
