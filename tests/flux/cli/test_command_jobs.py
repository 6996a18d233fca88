"""flux jobs, against what the reference printed (spec 08, section 9)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest
from goldens import VECTORS, Golden, GoldenInstance, Player, goldens

#: Where we print something else: (stdout, stderr, exit code).
BETTER: dict[str, tuple[tuple[str, ...], tuple[str, ...], int]] = {
    # What a job without a URI has for one is nothing.
    "flux jobs --from-stdin -no '{uri.local}' < jobs.jsonl": (("local:///tmp/flux-XXXXXX/local-0",), (), 0),
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


def test_lists_of_live_jobs_are_those_of_the_reference(tmp_path: Path) -> None:
    """In order: the commands build on each other. What follows the first `flux pgrep` is of other commands."""
    instance = GoldenInstance(tmp_path)
    player, problems = Player(instance.uri, instance.directory), []
    for golden in takewhile(lambda each: not each.command.startswith("flux pgrep"), goldens("cli-jobs-live")):
        if "| jq" in golden.command and not has_jq():
            continue
        found = player.differences(golden)
        if found:
            problems.append("\n    ".join([golden.command, *found]))
    instance.stop()
    assert not problems, "\n".join(problems)
