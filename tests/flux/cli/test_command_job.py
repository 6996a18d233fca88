"""flux job and flux cancel, against what the reference printed (spec 08, sections 8 and 10.1)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from goldens import GoldenInstance, Player, goldens

#: Where we print something else, and why.
BETTER = {
    # The reference misspells the method.
    "flux job list-ids 1": ("flux-job: flux job-list.list-id: No such file or directory",),
    # Of several missing keys, the first in order is told.
    "echo '{}' | flux job submit": ("flux-job: Missing key (attributes)",),
}


@pytest.fixture(scope="module")
def player(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Player]:
    instance = GoldenInstance(tmp_path_factory.mktemp("golden"))
    yield Player(instance.uri, instance.directory)
    instance.stop()


def test_it_prints_what_the_reference_does(player: Player) -> None:
    """In order: the commands build on each other."""
    problems = []
    for golden in goldens("cli-job"):
        if golden.command in BETTER:
            golden = golden._replace(stderr=BETTER[golden.command])
        found = player.differences(golden)
        if found:
            problems.append("\n    ".join([golden.command, *found]))
    assert not problems, "\n".join(problems)
