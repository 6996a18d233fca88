"""flux batch and flux alloc, against what the reference printed (spec 08, sections 6.4 and 6.5)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from goldens import Golden, GoldenInstance, Player, goldens

#: Commands that there are not.
NOT_YET = ("flux pstree",)
#: Where we print something else on purpose: what is on stderr.
BETTER: dict[str, tuple[str, ...]] = {
    # The option was given once: there is nothing to warn of.
    "flux jobs -R -a -o '{name} {status}'": (),
}


@pytest.fixture(scope="module")
def player(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Player]:
    local = {"FLUX_URI_RESOLVE_LOCAL": "t"}
    instance = GoldenInstance(tmp_path_factory.mktemp("golden"), environ=local)
    yield Player(instance.uri, instance.directory, local)
    instance.stop()


@pytest.mark.parametrize(
    "golden",
    [*goldens("cli-batch")],
    ids=lambda golden: golden.command,
)
def test_it_prints_what_the_reference_does(player: Player, golden: Golden) -> None:
    golden = golden._replace(stderr=BETTER.get(golden.command, golden.stderr))
    assert player.differences(golden) == []


@pytest.fixture
def alone(tmp_path: Path) -> Player:
    """Where there is no instance."""
    return Player("local:///no/such", tmp_path)


#: The parser has tests of its own (tests/flux/job/test_directives.py): here are those that show what is made of it.
DIRECTIVES = [
    golden for at, golden in enumerate(goldens("cli-directives")) if at == 0 or "flux batch" in golden.command
]


@pytest.mark.parametrize("golden", DIRECTIVES, ids=lambda golden: golden.command[:60])
def test_directives_are_read_as_by_the_reference(alone: Player, golden: Golden) -> None:
    assert alone.differences(golden) == []
