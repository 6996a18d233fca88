"""flux resource, against what the reference printed (spec 07, 2.6; tests/vectors/cli-queue.txt)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from in_process import BrokerThread, until

GOLDEN = Path(__file__).parents[2] / "vectors" / "cli-queue.txt"
BIN = Path(sys.executable).parent

#: The configuration that the recording was made with (spec 08, section 13).
CONFIG = {
    "resource": {
        "noverify": True,
        "config": [
            {"hosts": "node[0-3]", "cores": "0-1", "gpus": "0"},
            {"hosts": "node[0-2]", "properties": ["batch"]},
            {"hosts": "node3", "properties": ["debug", "fast"]},
        ],
    },
    "queues": {
        "batch": {"requires": ["batch"]},
        "debug": {"requires": ["debug"]},
        "sub": {"parent": "batch"},
    },
}

#: What we print instead, and why.
BETTER = {
    # The reference loses the blank between the headings.
    "       STATEUP NNODES NODELIST": "       STATE UP NNODES NODELIST",
    "       avail ✔      4 node[0-3]": "       avail  ✔      4 node[0-3]",
    "       avail ✔      3 node[0,2-3]": "       avail  ✔      3 node[0,2-3]",
    "     drained ✔      1 node1": "     drained  ✔      1 node1",
    # It prints a + that is an instruction to itself.
    "     STATE QUEUE PROPERTIES NNODES NCORES +NGPUS LIST": "     STATE QUEUE PROPERTIES NNODES NCORES NGPUS LIST",
    "      free batch                 3      6 +    3 rank[0-2]/core[0-1],gpu0": (
        "      free batch                 3      6     3 rank[0-2]/core[0-1],gpu0"
    ),
    "      free debug fast            1      2 +    1 rank3/core[0-1],gpu0": (
        "      free debug fast            1      2     1 rank3/core[0-1],gpu0"
    ),
    " allocated batch                 0      0 +    0 ": " allocated batch                 0      0     0 ",
    " allocated debug                 0      0 +    0 ": " allocated debug                 0      0     0 ",
    "      down batch                 0      0 +    0 ": "      down batch                 0      0     0 ",
    "      down debug                 0      0 +    0 ": "      down debug                 0      0     0 ",
}


class Run(NamedTuple):
    """A command line, and what it printed."""

    command: str
    stdout: list[str]
    stderr: list[str]
    status: int


def golden() -> list[Run]:
    runs: list[Run] = []
    for line in GOLDEN.read_text().splitlines():
        mark, _, rest = line.partition(" ")
        if mark == "$":
            runs.append(Run(rest, [], [], 0))
        elif mark == "|":
            runs[-1].stdout.append(BETTER.get(rest, rest))
        elif mark == "!":
            runs[-1].stderr.append(rest)
        elif mark == "=":
            runs[-1] = runs[-1]._replace(status=int(rest))
    return [run for run in runs if run.command.startswith("flux resource")]


class Nodes:
    """Four nodes, of which one has a broker."""

    def __init__(self, broker: BrokerThread) -> None:
        self.broker = broker
        path = f"{BIN}:{os.environ['PATH']}"
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("FLUX_", "XDG_"))}
        self.environ = {**environ, "PATH": path, "FLUX_URI": broker.uri, "HOME": broker.rundir}

    def run(self, command: str, **environ: str) -> Run:
        env = {**self.environ, **environ}
        done = subprocess.run(["bash", "-c", command], env=env, capture_output=True, text=True, timeout=60, check=False)
        return Run(command, done.stdout.splitlines(), done.stderr.splitlines(), done.returncode)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    broker = BrokerThread({"size": "4", "hostlist": "node[0-3]", "hostname": "node0"}, CONFIG)
    with broker.open() as handle:
        handle.rpc("groups.update", {"update": {"broker.online": [{"ranks": "1-3", "set": True}]}}).get()
        until(lambda: handle.rpc("resource.status").get()["online"] == "0-3")
    yield Nodes(broker)
    broker.stop()


def test_golden_output(nodes: Nodes) -> None:
    """In order: what is drained by one command is listed by the next."""
    for run in golden():
        if "jq " in run.command:
            continue
        assert nodes.run(run.command) == run


def test_R_is_r(nodes: Nodes) -> None:
    (line,) = nodes.run("flux resource R").stdout
    execution = json.loads(line)["execution"]
    assert execution["R_lite"] == [{"rank": "0-3", "children": {"core": "0-1", "gpu": "0"}}]
    assert execution["nodelist"] == ["node[0-3]"]
    assert execution["properties"] == {"batch": "0-2", "debug": "3", "fast": "3"}
    (line,) = nodes.run("flux resource R -s up -i 1").stdout
    assert json.loads(line)["execution"]["nodelist"] == ["node1"]
    (line,) = nodes.run("flux resource R -q debug").stdout
    assert json.loads(line)["execution"]["R_lite"][0]["rank"] == "3"


def test_reasons_are_replaced_as_asked(nodes: Nodes) -> None:
    def reason() -> str:
        with nodes.broker.open() as handle:
            drain = handle.rpc("resource.status").get()["drain"]
        return str(drain["1"]["reason"])

    assert nodes.run("flux resource drain 1 first one").status == 0
    assert nodes.run("flux resource drain -u 1-2 second").status == 0
    assert reason() == "first one"
    assert nodes.run("flux resource drain -f 1 third").status == 0
    assert reason() == "third"
    assert nodes.run("flux resource drain -ff 1").status == 0
    assert reason() == ""
    both = nodes.run("flux resource drain -f -u 1")
    assert both.stderr == ["flux-resource: ERROR: Only one of --force and --update may be specified"]
    assert nodes.run("flux resource status -s drain -no '{ranks} {reason}'").stdout == ["1 ", "2 second"]
    assert nodes.run("flux resource drain -no '{ranks} {reason}' -i node2").stdout == ["2 second"]
    assert nodes.run("flux resource drain -no '{ranks}' -q debug").stdout == []
    assert nodes.run("flux resource undrain 1-3").stderr == ["flux-resource: ERROR: rank 3 not drained"]
    assert nodes.run("flux resource undrain -f 1-3 all is well").status == 0


def test_nodes_that_are_offline_have_a_star(nodes: Nodes) -> None:
    with nodes.broker.open() as handle:
        handle.rpc("resource.drain", {"targets": "2-3"}).get()
        handle.rpc("groups.update", {"update": {"broker.online": [{"ranks": "3", "set": False}]}}).get()
        until(lambda: handle.rpc("resource.status").get()["online"] == "0-2")
        shown = nodes.run("flux resource status -no '{state} {statex} {status} {up.ascii} {ranks}' -s drained,offline")
        coloured = nodes.run("flux resource status --color -s drained -no '{color_up}{up}{color_off}'")
        handle.rpc("groups.update", {"update": {"broker.online": [{"ranks": "3", "set": True}]}}).get()
        until(lambda: handle.rpc("resource.status").get()["online"] == "0-3")
        handle.rpc("resource.undrain", {"targets": "2-3"}).get()
    assert shown.stdout == ["drained drained online y 2", "drained* drained offline n 3", "offline offline offline n 3"]
    assert coloured.stdout == ["\033[01;32m✔\033[0;0m", "\033[01;31m✗\033[0;0m"]


def test_the_eventlog(nodes: Nodes) -> None:
    names = [line.split()[1] for line in nodes.run("flux resource eventlog").stdout]
    assert names[0] == "restart"
    assert "resource-define" in names
    (line,) = nodes.run("flux resource eventlog -f json -w resource-define | tail -1").stdout
    assert json.loads(line)["context"] == {"method": "configuration"}
    assert nodes.run("flux resource drain 2 for the log").status == 0
    shown = nodes.run("flux resource eventlog -T offset -i node2 -w drain -m 'reason=for the log' | tail -1").stdout
    assert 'nodelist="node2" reason="for the log"' in shown[0]
    assert all("drain" in line or "line" in line or "restart" in line for line in shown)
    late = nodes.run("flux resource eventlog -t 0.1s -w nosuch >/dev/null")
    assert (late.status, late.stderr) == (1, ["flux-resource: ERROR: timed out waiting for event 'nosuch'"])
    assert nodes.run("flux resource eventlog -F -t 0.1s -H | head -1").stdout[0].startswith("[")
    assert nodes.run("flux resource undrain 2").status == 0


def test_formats_of_users(nodes: Nodes, tmp_path: Path) -> None:
    conf = tmp_path / "flux" / "flux-resource.toml"
    conf.parent.mkdir()
    conf.write_text('[list]\nhidden-queues = ["debug"]\n[list.formats.mine]\nformat = "{queue}:{nnodes}"\n')
    home = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert nodes.run("flux resource list -no mine -s free", **home).stdout == ["batch:3", ":1"]
    assert nodes.run("flux resource list", FLUX_RESOURCE_LIST_FORMAT_DEFAULT="{state}").stdout == [
        "STATE",
        "free",
        "allocated",
        "down",
    ]
    for text, error in [
        ("[foo]", "invalid key foo"),
        ("[list]\nfoo = 1", "invalid key list.foo"),
        ("[status]\nhidden-queues = []", "invalid key status.hidden-queues"),
        ("[list]\nhidden-queues = 1", "'list.hidden-queues' must be an array of strings"),
        ('[drain.formats.long]\nformat = "x"', "override of builtin format 'long' not permitted"),
    ]:
        conf.write_text(text)
        assert nodes.run("flux resource list", **home).stderr == [f"flux-resource: ERROR: {conf}: {error}"]


def test_input_instead_of_an_instance(nodes: Nodes, tmp_path: Path) -> None:
    r = {"version": 1, "execution": {"R_lite": [{"rank": "0-1", "children": {"core": "0"}}], "nodelist": ["a[0-1]"]}}
    (tmp_path / "list.json").write_text(json.dumps({"all": r, "down": None}))
    (tmp_path / "status.json").write_text(json.dumps({"R": r, "drain": {}, "online": "0", "offline": "1"}))
    (tmp_path / "config.json").write_text(json.dumps({"queues": {"all": {"requires": []}}}))
    words = f"--from-stdin --config-file={tmp_path}/config.json"
    assert nodes.run(
        f"flux resource list {words} -no '{{state}} {{queue}} {{nodelist}}' -s all,down <{tmp_path}/list.json"
    ).stdout == [
        "all all a[0-1]",
        "down all ",
    ]
    assert nodes.run(f"flux resource info {words} <{tmp_path}/list.json").stdout == ["2 Nodes, 2 Cores, 0 GPUs"]
    shown = nodes.run(f"flux resource status {words} -q all -no '{{state}} {{nodelist}}' <{tmp_path}/status.json")
    assert shown.stdout == ["avail a0"]


def test_reload_while_a_scheduler_is_there(nodes: Nodes, tmp_path: Path) -> None:
    r = {"version": 1, "execution": {"R_lite": [{"rank": "0-8", "children": {"core": "0"}}]}}
    path = tmp_path / "R"
    path.write_text(json.dumps(r))
    busy = nodes.run(f"flux resource reload {path}")
    assert busy.stderr == ["flux-resource: ERROR: resources are busy (unload scheduler?)"]
    assert nodes.run("flux module remove sched-simple").status == 0
    try:
        large = nodes.run(f"flux resource reload {path}")
        assert large.stderr[0].endswith("resource object contains ranks execeeding size=4 (override with -f))")
        missing = nodes.run(f"flux resource reload {tmp_path}/nosuch")
        assert missing.stderr == [f"flux-resource: ERROR: {tmp_path}/nosuch: No such file or directory"]
        assert nodes.run(f"flux resource reload -f {path}").status == 0
        assert nodes.run("flux resource info").stdout == ["9 Nodes, 9 Cores, 0 GPUs"]
    finally:
        assert nodes.run("flux module load sched-simple").status == 0
    assert nodes.run("flux resource acquire-mute").status == 0


def test_no_subcommand_and_no_instance(nodes: Nodes) -> None:
    assert (
        nodes.run("flux resource").stderr[-1].startswith("flux-resource: error: the following arguments are required")
    )
    gone = nodes.run("flux resource list", FLUX_URI="local:///nosuch")
    assert gone.status == 1
    assert gone.stderr[0].startswith("flux-resource: ERROR: ")
