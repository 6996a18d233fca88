"""flux run, against what the reference printed (spec 08, sections 6.2 and 7)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from goldens import Golden, GoldenInstance, Player, goldens

#: Where we print something else, and why: (in place of these lines, these lines), or None: the whole of it.
BETTER: dict[str, str] = {
    "flux run --wait-event=start sleep 0.2": "the event that was waited for has come: exit code 0",
}


@pytest.fixture(scope="module")
def player(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Player]:
    instance = GoldenInstance(tmp_path_factory.mktemp("golden"))
    yield Player(instance.uri, instance.directory)
    instance.stop()


@pytest.mark.parametrize(
    "golden",
    [*goldens("cli-run")],
    ids=lambda golden: golden.command,
)
def test_it_prints_what_the_reference_does(player: Player, golden: Golden) -> None:
    if golden.command in BETTER:
        golden = golden._replace(status=0)
    assert player.differences(golden) == []
