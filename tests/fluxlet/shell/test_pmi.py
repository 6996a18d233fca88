"""PMI-1: the recorded conversation of three tasks on two nodes, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fluxlet.shell import pmi

VECTORS = Path(__file__).parents[2] / "vectors"
PRESET = {
    "PMI_process_mapping": "(vector,(0,1,2),(1,1,1))",
    "flux.taskmap": '{"version":1,"map":[[0,1,2,1],[1,1,1,1]]}',
    "flux.instance-level": "1",
    "flux.tbon-interface-hint": "default-route",
}


class Job:
    """Three tasks, 0 and 1 on the first node and 2 on the second."""

    def __init__(self, kvsname: str) -> None:
        self.servers = [pmi.Server(kvsname, 3, 2, PRESET), pmi.Server(kvsname, 3, 1, PRESET)]
        self.exchanges = [pmi.Exchange(0, 2, 2), pmi.Exchange(1, 2, 2)]
        self.out: dict[int, list[str]] = {0: [], 1: [], 2: []}

    def line(self, rank: int, line: str) -> None:
        shell, local = (0, rank) if rank < 2 else (1, 0)
        server = self.servers[shell]
        answer = server.line(local, line)
        if answer:
            self.out[rank].append(answer)
        elif server.complete and self.exchanges[shell].own(server.pending):
            items = self.exchanges[shell].take()
            if shell == 1 and not self.exchanges[0].child(1, items):
                return
            if shell == 1:
                items = self.exchanges[0].take()
            for number, other in enumerate(self.servers):
                for task in other.exchanged(items):
                    self.out[task if number == 0 else 2].append("cmd=barrier_out rc=0\n")


def test_the_recorded_conversation() -> None:
    lines = [json.loads(line) for line in (VECTORS / "exec-job-pmi-wire.jsonl").read_text().splitlines()]
    job = Job("fF1SDRy")
    queues: dict[int, list[dict[str, Any]]] = {rank: [x for x in lines if x["rank"] == rank] for rank in range(3)}
    # Each task asks, and waits for its answer; the barrier is over when all have entered.
    progress = True
    while progress:
        progress = False
        for rank, queue in queues.items():
            while queue and (queue[0]["dir"] == "C" or job.out[rank]):
                line = queue.pop(0)
                progress = True
                if line["dir"] == "C":
                    job.line(rank, line["line"])
                else:
                    assert job.out[rank].pop(0) == line["line"]
    assert not any(queues.values())
    assert not any(job.out.values())


def server(**more: Any) -> pmi.Server:
    return pmi.Server("ƒ1", 1, 1, **more)


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("cmd=init pmi_version=1 pmi_subversion=0", "cmd=response_to_init rc=-1\n"),
        ("cmd=get_my_kvsname", "cmd=my_kvsname rc=0 kvsname=ƒ1\n"),
        ("cmd=put kvsname=ƒ1 key=a value=", "cmd=put_result rc=0\n"),
        ("cmd=put kvsname=ƒ1 key= value=x", "cmd=put_result rc=0\n"),
        (f"cmd=put kvsname=ƒ1 key={'k' * 64} value=x", "cmd=put_result rc=5\n"),
        (f"cmd=put kvsname=ƒ1 key=k value={'v' * 1024}", "cmd=put_result rc=7\n"),
        (f"cmd=put kvsname=ƒ1 key=k value={'v' * 1023}", "cmd=put_result rc=0\n"),
        (f"cmd=put kvsname={'n' * 64} key=k value=v", "cmd=put_result rc=8\n"),
        (f"cmd=get kvsname=ƒ1 key={'k' * 64}", "cmd=get_result rc=5\n"),
        ("cmd=get kvsname=other key=k", "cmd=get_result rc=4\n"),
    ],
)
def test_answers(line: str, answer: str) -> None:
    assert server().line(0, line) == answer


def test_version_2_is_warned_of() -> None:
    warnings: list[str] = []
    found = server(warn=warnings.append).line(0, "cmd=init pmi_version=2 pmi_subversion=0")
    assert found == "cmd=response_to_init rc=-1\n"
    assert warnings == ["pmi-simple: is application unintentionally using slurm libpmi2.so?"]


@pytest.mark.parametrize("line", ["", "hello", "cmd=nosuch", "cmd=put key=a value=b", "cmd=init pmi_version=x"])
def test_what_is_no_pmi_is_a_protocol_error(line: str) -> None:
    with pytest.raises(pmi.ProtocolError, match=r"^PMI-1 wire protocol error$"):
        server().line(0, line)


def test_abort_has_a_reason() -> None:
    with pytest.raises(pmi.AbortError, match=r"^went wrong, badly$"):
        server().line(0, "cmd=abort exitcode=3 error_msg=went wrong, badly")
    with pytest.raises(pmi.AbortError, match=r"^aborted$"):
        server().line(0, "cmd=abort")


def test_spawn_is_answered_at_its_end() -> None:
    found = server()
    assert [found.line(0, line) for line in ("mcmd=spawn", "nprocs=2", "endcmd")] == [
        "",
        "",
        "cmd=spawn_result rc=-1\n",
    ]
    assert found.line(0, "cmd=get_appnum") == "cmd=appnum rc=0 appnum=0\n"


def test_the_last_value_put_counts() -> None:
    found = server()
    for value in ("a", "b"):
        found.line(0, f"cmd=put kvsname=ƒ1 key=k value={value}")
    assert found.line(0, "cmd=barrier_in") == ""
    assert found.complete
    assert found.exchanged(dict(found.pending)) == [0]
    assert found.line(0, "cmd=get kvsname=ƒ1 key=k") == "cmd=get_result rc=0 value=b\n"


def test_bytes_that_are_no_text_pass() -> None:
    (line,) = pmi.LineReader().take(b"cmd=put kvsname=\xff key=\xff value=\xff\n")
    assert server().line(0, line) == "cmd=put_result rc=0\n"


def test_lines_come_in_pieces() -> None:
    reader = pmi.LineReader()
    assert reader.take(b"cmd=a") == []
    assert reader.take(b"\ncmd=b\n") == ["cmd=a", "cmd=b"]
    assert len(reader.take(b"x" * (pmi.LONGEST_LINE + 1))) == 1  # which is no command


def test_the_tree_of_shells() -> None:
    trees = [pmi.Exchange(rank, 6, 2) for rank in range(6)]
    assert [tree.parent for tree in trees] == [None, 0, 0, 1, 1, 2]
    assert [list(tree.children) for tree in trees] == [[1, 2], [3, 4], [5], [], [], []]
