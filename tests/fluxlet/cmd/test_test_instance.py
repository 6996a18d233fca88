"""`flux start --test-size=N`: options, exit codes, signals, and the service `start` (spec 04, 3.4)."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import PATIENCE, wait_until

import flux
from fluxlet.cmd.test_instance import process_mapping

VECTORS = Path(__file__).parents[2] / "vectors"
FLUX = str(Path(sys.executable).parent / "flux")


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for run directories, with a path short enough for sockets."""
    return tmp_path_factory.mktemp("t")


@pytest.fixture
def environ(place: Path) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("FLUX_", "PMI_", "SLURM_"))}
    return {**own, "TMPDIR": str(place), "SHELL": "/bin/sh"}


def start(environ: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FLUX, "start", *words], env=environ, timeout=PATIENCE, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def test_commands_of_flux_overlay_on_a_chain_print_what_the_reference_prints(environ: dict[str, str]) -> None:
    entries = [json.loads(line) for line in (VECTORS / "overlay-cli.jsonl").read_text().splitlines()]
    marks = [f"---{number}---" for number in range(len(entries))]
    script = "".join(
        f"{{ {entry['cmd']}; }} >out 2>err; echo {mark}$?; cat out; echo {mark}; cat err; echo {mark};"
        for entry, mark in zip(entries, marks, strict=True)
    )
    done = start(
        environ,
        "--test-size=4",
        "--test-hosts=n[0-3]",
        "-Stbon.topo=kary:1",
        "sh",
        "-c",
        f"cd {shlex.quote(environ['TMPDIR'])}; {script}",
    )
    for entry, mark in zip(entries, marks, strict=True):
        text = done.stdout.partition(mark)[2]
        code, _, rest = text.partition("\n")
        out, err = rest.split(f"{mark}\n")[:2]
        if "(" in entry["stdout"]:
            out, entry["stdout"] = re.sub(r"[0-9.]+ ?ms", "T", out), re.sub(r"[0-9.]+ ?ms", "T", entry["stdout"])
        assert (int(code), out, err) == (entry["rc"], entry["stdout"], entry["stderr"]), entry["cmd"]


def test_the_exit_code_is_the_largest_or_that_of_rank_0(environ: dict[str, str]) -> None:
    kill = "kill -9 $(flux exec -n -r 1 flux getattr broker.pid)"
    limit = "--test-exit-timeout=0.1s"
    done = start(environ, "--test-size=2", limit, f"{kill}; sleep 60")
    assert done.returncode == 137
    assert re.search(r"^flux-start: 1 \(pid \d+\) Killed$", done.stderr, re.M)
    assert re.search(r"^flux-start: Exit timeout: killed rank 0$", done.stderr, re.M)
    done = start(environ, "--test-size=2", limit, "--test-exit-mode=leader", f"{kill}; exit 3")
    assert done.returncode == 3
    assert re.search(r"^flux-start: 0 \(pid \d+\) exited with rc=3$", done.stderr, re.M)
    assert os.listdir(environ["TMPDIR"]) == []


def test_host_names_and_cliques(environ: dict[str, str]) -> None:
    show = "flux getattr hostlist; flux getattr broker.mapping; flux getattr tbon.endpoint"
    done = start(environ, "--test-size=3", "--test-hosts=a,b[1-2]", "--test-pmi-clique=per-broker", show)
    hosts, mapping, endpoint = done.stdout.splitlines()
    assert (hosts, mapping) == ("a,b[1-2]", "[[0,3,1,1]]")
    assert endpoint.startswith("tcp://")
    done = start(environ, "--test-size=2", "-Stbon.prefertcp=1", show)
    assert done.stdout.splitlines()[2].startswith("tcp://")
    done = start(environ, "--test-size=2", "--test-pmi-clique=none", "flux getattr broker.mapping")
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize(
    ("clique", "mapping"),
    [
        ("single", "(vector,(0,1,4))"),
        ("per-broker", "(vector,(0,4,1))"),
        ("none", None),
        ("[[0,2,2,1]]", "(vector,(0,2,2))"),
        ("[[0,1,2,1],[1,1,1,2]]", "(vector,(0,1,2),(1,1,1),(1,1,1))"),
    ],
)
def test_process_mappings(clique: str, mapping: str | None) -> None:
    assert process_mapping(clique, 4) == mapping


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--test-hosts=a"], "flux-start: --test-hosts hostlist has incorrect size\n"),
        (["--test-exit-timeout=x"], "flux-start: --test-exit-timeout: not a duration\n"),
        (["--test-exit-mode=x"], "flux-start: unknown --test-exit-mode: x\n"),
        (["--test-pmi-clique=x"], "flux-start: --test-pmi-clique: 'x' is not a mapping of 2 brokers\n"),
        (["-Sno.such=1"], "flux-broker: no.such: unknown attribute\n"),
        (["-Stbon.topo=foo"], "error creating 'foo' topology: unknown topology scheme 'foo'\n"),
        (["-Sbroker.quorum=3"], "Error parsing broker.quorum attribute\n"),
        (["-Sbroker.critical-ranks=7"], "invalid value for broker.critical-ranks='7'\n"),
    ],
)
def test_what_cannot_be_started_is_told_and_nobody_waits(environ: dict[str, str], words: list[str], text: str) -> None:
    done = start(environ, "--test-size=2", *words, "true")
    assert done.returncode == 1
    assert text in done.stderr
    assert os.listdir(environ["TMPDIR"]) == []


def test_the_command_lines_are_shown(environ: dict[str, str]) -> None:
    done = start(environ, "--test-size=2", "--test-hosts=a,b", "-v", "-X", "true")
    assert (done.returncode, done.stdout) == (0, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert re.search(r"broker -Srundir=\S+ -Shostname=b true$", lines[1])
    done = start(environ, "--test-size=2", "-vv", "true")
    assert "\n1: C: cmd=init pmi_version=1 pmi_subversion=1\n" in done.stderr
    assert "\n1: S: cmd=finalize_ack rc=0\n" in done.stderr


def test_brokers_under_a_command(environ: dict[str, str]) -> None:
    done = start(environ, "--test-size=2", "--wrap=env,WRAPPED=1", "flux exec -n -r 1 printenv WRAPPED")
    assert (done.returncode, done.stdout) == (0, "1\n")


def test_a_run_directory_of_the_user(environ: dict[str, str], place: Path) -> None:
    rundir = place / "mine"
    done = start(environ, "--test-size=2", f"--test-rundir={rundir}", "flux getattr rundir; ls $(flux getattr rundir)")
    assert done.stdout.splitlines()[0] == str(rundir)
    assert {"bin", "local-0", "local-1", "start", "tbon-0"} <= set(done.stdout.split())
    assert rundir.is_dir()
    start(environ, "--test-size=2", f"--test-rundir={rundir}", "--test-rundir-cleanup", "true")
    assert not rundir.exists()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_flux_start_ends_the_program(environ: dict[str, str], place: Path, signum: int) -> None:
    ready = place / "ready"
    command = ["sh", "-c", f"touch {ready}; exec sleep 60"]
    with subprocess.Popen(
        [FLUX, "start", "--test-size=3", *command], env=environ, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_until(ready.exists, "the program")
        process.send_signal(signum)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGHUP, errors
    assert os.listdir(place) == ["ready"]


@pytest.fixture
def test_start(environ: dict[str, str], place: Path) -> Iterator[flux.Flux]:
    """The service `start` of an instance of three."""
    rundir = place / "r"
    rundir.mkdir(mode=0o700)
    words = ["--test-size=3", "--test-exit-mode=leader", f"--test-rundir={rundir}"]
    with subprocess.Popen([FLUX, "start", *words, "cat"], env=environ, stdin=subprocess.PIPE) as process:
        wait_until((rundir / "start").exists, "the service")
        wait_until((rundir / "local-0").exists, "rank 0")
        with flux.Flux(f"local://{rundir}/local-0") as leader:
            leader.rpc("state-machine.wait").get()
        with flux.Flux(f"local://{rundir}/start") as handle:
            yield handle
        process.communicate(timeout=PATIENCE)


def test_the_service_start(test_start: flux.Flux) -> None:
    pids = [entry["pid"] for entry in test_start.rpc("start.status").get()["procs"]]
    assert len(set(pids)) == 3
    waiting = test_start.rpc("start.wait", {"rank": 2})
    test_start.rpc("start.kill", {"rank": 2, "signum": int(signal.SIGKILL)}).get()
    assert waiting.get() == {"exit_rc": 137}
    assert test_start.rpc("start.status").get()["procs"][2] == {"pid": -1}
    assert test_start.rpc("start.wait", {"rank": 2}).get() == {"exit_rc": 137}
    for topic, payload, text in (
        ("start.kill", {"rank": 2, "signum": 9}, "rank 2 does not run"),
        ("start.kill", {"rank": 3, "signum": 9}, "there is no rank 3"),
        ("start.wait", {"rank": -1}, "there is no rank -1"),
        ("start.run", {"rank": 0}, "rank 0 runs already"),
    ):
        with pytest.raises(OSError, match=text):
            test_start.rpc(topic, payload).get()
