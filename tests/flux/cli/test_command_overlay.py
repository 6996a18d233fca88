"""flux overlay (spec 03, 14.10; spec 04, 2.10): what it asks, and what it prints, over one rank and over four."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_instance import VECTORS, Instance, recording
from linked import LinkedInstance
from overlay_tree import grown, overlay_of

from flux.cli.commands import overlay

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(
    ("words", "conn"),
    [
        ("status", 0),
        ("status -v", 0),
        ("status --wait=full", 1),
        ("status --summary", 2),
        ("lookup 0", 3),
        ("parentof 0", 4),
        ("parentof 1", 5),
    ],
)
def test_requests_are_those_of_the_reference(instance: Instance, words: str, conn: int) -> None:
    instance.run("overlay", *words.split())
    assert instance.take() == recording("broker-overlay", conn)


@pytest.mark.parametrize(
    ("words", "out", "error"),
    [
        ("status", "0 vm: full\n", ""),
        ("status --summary", "full\n", ""),
        ("status --down", "", ""),
        ("status --wait full", "0 vm: full\n", ""),
        ("status --highlight=0", "<<0 vm>>: full\n", ""),
        ("status --highlight=vm", "<<0 vm>>: full\n", ""),
        ("status --highlight=0 --color=always", "\033[1;34m0 vm\033[0m: full\n", ""),
        ("status --highlight=3", "", "flux-overlay: --highlight: rank 3 not in set 0\n"),
        ("status --highlight=x", "", "flux-overlay: --highlight: host x not found in host map\n"),
        ("status --highlight=]", "", "flux-overlay: --highlight: ']' is neither ranks nor hosts\n"),
        ("status --wait=foo", "", "flux-overlay: invalid --wait state\n"),
        ("status --wait=lost -t 50ms", "", "flux-overlay: Connection timed out\n"),
        ("status -t x", "", "flux-overlay: --timeout: 'x' is not a duration such as 5s or 1m\n"),
        ("status -r 1", "", "flux-overlay: No route to host\n"),
        ("status -r x", "", "flux-overlay: --rank: 'x' is not a rank\n"),
        ("status -vx", "", "flux-overlay: --verbose: 'x' is not a number\n"),
        ("errors", "", ""),
        ("lookup 0", "vm\n", ""),
        ("lookup vm", "0\n", ""),
        ("lookup 1", "", "flux-overlay: rank 1 is not in host map\n"),
        ("lookup x", "", "flux-overlay: host x not found in host map\n"),
        ("lookup ]", "", "flux-overlay: TARGET must be a valid idset or hostlist\n"),
        ("parentof 0", "", "flux-overlay: 0 has no parent\n"),
        ("parentof 1", "", "flux-overlay: 1 is not a valid rank in this instance\n"),
        ("parentof x", "", "flux-overlay: x is not a valid rank in this instance\n"),
        ("disconnect x", "", "flux-overlay: TARGET must be a valid rank or hostname\n"),
        ("disconnect 0", "", "flux-overlay: 0 has no parent\n"),
        (
            "disconnect -r 0 vm",
            "",
            "flux-overlay: asking vm (rank 0) to disconnect child vm (rank 0)\n"
            "flux-overlay: overlay.disconnect-subtree: requested rank is not this broker's direct child\n",
        ),
        ("trace -d", "", "flux-overlay: --delta can only be used with --human\n"),
        ("trace -t x", "", "flux-overlay: invalid --type 'x': use request, response, event, control\n"),
        ("status --nosuch", "", "flux overlay status: unrecognized option '--nosuch'\n"),
        ("foo", "", "flux overlay: Unknown subcommand: foo\n"),
        ("", "", "flux overlay: missing subcommand\n"),
    ],
)
def test_output_for_one_rank(instance: Instance, words: str, out: str, error: str) -> None:
    done = instance.run("overlay", *words.split())
    assert (done.returncode, done.stdout) == (1 if error else 0, out)
    # Behind an error of usage there is a hint, or the usage.
    assert done.stderr.startswith(error) if error.startswith("flux overlay") else done.stderr == error


@pytest.mark.parametrize(
    ("option", "pattern"),
    [
        ("-v", r"0 vm: full for [0-9.]+m?s\n"),
        ("-vv", r"0 vm: full for [0-9.]+m?s \([0-9]+\.[0-9]{3} ms\)\n"),
        ("-v2", r"0 vm: full for [0-9.]+m?s \([0-9]+\.[0-9]{3} ms\)\n"),
    ],
)
def test_times(instance: Instance, option: str, pattern: str) -> None:
    shown = instance.run("overlay", "status", option).stdout
    assert re.fullmatch(pattern, shown), shown


# Four ranks, one below the other.


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[LinkedInstance]:
    instance = grown(str(tmp_path), 0, 1, 2)
    instance.start()
    yield instance
    instance.stop()


@pytest.fixture
def run(chain: LinkedInstance) -> Run:
    def command(words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "fluxlet.cmd.driver", *shlex.split(words)[1:]],
            env={"FLUX_URI": f"local://{chain.directory}/local-0", "TZ": "UTC"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return command


def told() -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (VECTORS / "overlay-cli.jsonl").read_text().splitlines()]
    return [line for line in lines if line["cmd"].startswith("flux overlay")]


def test_output_for_four_ranks_is_that_of_the_reference(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    for line in told():
        done = run(line["cmd"])
        assert (done.returncode, done.stdout, done.stderr) == (line["rc"], line["stdout"], line["stderr"]), line["cmd"]
    # The brokers say so, too.
    said = [line.partition("broker.err[")[2] for line in capfd.readouterr().err.splitlines()]
    assert "2]: n3 (rank 3) disconnected by request" in said


def test_errors_name_what_is_below_a_lost_rank(run: Run) -> None:
    assert run("flux overlay disconnect 2").returncode == 0
    assert run("flux overlay errors").stdout == "n2: administrative disconnect\nn3: lost parent\n"
    assert run("flux overlay status --no-pretty --down").stdout.splitlines()[2:] == [
        "2 n2: lost administrative disconnect",
        "3 n3: lost",
    ]


def test_a_rank_that_cannot_be_asked_is_an_error_of_its_own(run: Run, chain: LinkedInstance) -> None:
    # Its parent thinks that it is there.
    overlay_of(chain, 1).broker.router.children.clear()
    assert run("flux overlay errors").stdout == "n2: No route to host\n"
    assert run("flux overlay status").stdout.splitlines()[2] == "   └─ 2 n2: full No route to host"


def test_every_subcommand_has_an_action() -> None:
    assert [sub.name.partition(" ")[2] for sub in overlay.COMMAND.subcommands] == list(overlay._ACTIONS)
