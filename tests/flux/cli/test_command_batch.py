"""flux batch and flux alloc, against what the reference printed (spec 08, sections 6.4 and 6.5)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def processed(directory: Path, directive: str, *words: str) -> Any:
    (directory / "s").write_text(f"#!/bin/sh\n#FLUX: -n1\n#FLUX: {directive}\n")
    command = BatchCmd("batch")
    return command.process_script(command.parse([*words, str(directory / "s")]))


def test_options_of_the_script_come_before_those_of_the_command_line(tmp_path: Path) -> None:
    args = processed(
        tmp_path, "-S a=1 --conf=x.y=1 -N2 --env=A=1", "-S", "b=2", "--conf=x.z=2", "-N3", "--env-remove=B"
    )
    assert (args.setattr, args.conf.config, args.nodes, args.env) == (
        ["a=1", "b=2"],
        {"x": {"y": 1, "z": 2}},
        "3",
        ["A=1", "-B"],
    )


def test_what_is_wrong_in_a_script_is_said_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="s line 3: --conf: named config 'nosuch' not found"):
        processed(tmp_path, "--conf=nosuch")
    with pytest.raises(SystemExit) as ended:
        processed(tmp_path, "-N2 more")
    assert ended.value.code == 2
    assert "error: unrecognized arguments: more" in capsys.readouterr().err
