"""flux queue, against what the reference printed (spec 08, section 11)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from goldens import CONFIG_A, CONFIG_B, GoldenInstance, Player, goldens

#: We have an option for colors, and print none unless somebody looks.
_COLORS = re.compile(r"\x1b\[[0-9;]*m|\^\[\[[0-9;]*m")
#: Ours has started the job by the time that it counts.
FASTER = ("flux queue start -v -a",)
#: There, color is no option; the columns of the other two are not set apart, or have a plus sign before their heading.
SKIPPED = (
    "flux queue list --color=always 2>&1 | tail -1",
    "flux resource list -o rlist",
    "flux resource status",
)


@pytest.mark.parametrize(("name", "config"), [("cli-queue", CONFIG_B), ("cli-queue-anon", CONFIG_A)])
def test_it_prints_what_the_reference_does(name: str, config: str, tmp_path: Path) -> None:
    """In order: the commands build on each other."""
    instance = GoldenInstance(tmp_path, config)
    player, problems = Player(instance.uri, instance.directory), []
    for golden in goldens(name):
        if golden.command in SKIPPED:
            continue
        golden = golden._replace(stdout=tuple(_COLORS.sub("", line) for line in golden.stdout))
        found = player.differences(golden)
        if golden.command in FASTER:
            found = [line for line in found if not line.endswith(("to scheduler", "running jobs"))]
        if found:
            problems.append("\n    ".join([golden.command, *found]))
    instance.stop()
    assert not problems, "\n".join(problems)
