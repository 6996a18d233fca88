"""flux batch and flux alloc, against what the reference printed (spec 08, sections 6.4 and 6.5)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from goldens import VECTORS, Golden, GoldenInstance, Player, goldens

from flux.cli.batch import BatchCmd

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


def test_what_is_submitted_is_what_the_reference_does(tmp_path: Path) -> None:
    """As recorded (exec-job-batch-submit)."""
    sent = json.loads((VECTORS / "exec-job-batch-submit.jsonl").read_text().splitlines()[0])["payload"]["J"]
    body = sent.split(".")[1]
    recorded = json.loads(base64.b64decode(body + "=" * (-len(body) % 4)))
    system = recorded["attributes"]["system"]
    script = tmp_path / "b.sh"
    script.write_text(system["files"]["script"]["data"])
    system["job"]["name"] = str(script)
    del system["environment"], system["shell"]["options"]["rlimit"]
    command = BatchCmd("batch")
    words = ["-N2", "--conf=resource.noverify=true", "--output=/tmp/batch.out", "--cwd=/tmp", "--rlimit=-*"]
    jobspec = command.jobspec_create(command.process_script(command.parse([*words, str(script), "a1"])))
    del jobspec.attributes["system"]["environment"]
    assert json.loads(jobspec.dumps()) == recorded
