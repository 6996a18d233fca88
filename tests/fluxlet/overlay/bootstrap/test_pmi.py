"""PMI-1, both sides (spec 04, 3.2), and the exchange of cards (3.3)."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from fluxlet.overlay.bootstrap.boot import Boot, BootError, Local
from fluxlet.overlay.bootstrap.directory import DirectoryClient
from fluxlet.overlay.bootstrap.pmi import Client, PmiBootstrap
from fluxlet.overlay.bootstrap.pmi_client import PmiClient
from fluxlet.overlay.bootstrap.pmi_server import Abort, PmiServer
from fluxlet.overlay.bootstrap.pmi_wire import Lines, PmiError, encode, parse

VECTORS = Path(__file__).parents[3] / "vectors"


def recorded(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (VECTORS / f"overlay-pmi-{name}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("name", "kvsname", "values"),
    [
        ("size2", "-", {"PMI_process_mapping": "(vector,(0,1,2))"}),
        ("size3-tcp-ipc", "-", {"PMI_process_mapping": "(vector,(0,1,2),(1,1,1))"}),
        (
            "nested-job",
            "ƒJFieDm",
            {
                "flux.instance-level": "1",
                "flux.tbon-interface-hint": "default-route",
                "flux.taskmap": '{"version":1,"map":[[0,2,1,1]]}',
            },
        ),
    ],
)
def test_clients_of_the_reference_are_answered_as_it_does(name: str, kvsname: str, values: dict[str, str]) -> None:
    entries = recorded(name)
    size = 1 + max(entry["rank"] for entry in entries)
    server = PmiServer(size, values, kvsname)
    answers: dict[int, list[str]] = {rank: [] for rank in range(size)}
    expected: dict[int, list[str]] = {rank: [] for rank in range(size)}
    for entry in entries:
        if entry["dir"] == "S>C":
            expected[entry["rank"]].append(entry["line"])
        else:
            for rank, line in server.request(entry["rank"], entry["line"]):
                answers[rank].append(line)
    assert answers == expected
    assert server.finalized == set(range(size))


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("cmd=init pmi_version=2 pmi_subversion=0", "cmd=response_to_init rc=-1"),
        ("cmd=init pmi_version=1 pmi_subversion=0", "cmd=response_to_init rc=-1"),
        ("cmd=get_universe_size", "cmd=universe_size rc=0 size=1"),
        ("cmd=get_appnum", "cmd=appnum rc=0 appnum=0"),
        (f"cmd=put kvsname=- key={'k' * 64} value=x", "cmd=put_result rc=5"),
        (f"cmd=put kvsname=- key=k value={'v' * 1024}", "cmd=put_result rc=7"),
        (f"cmd=put kvsname={'n' * 64} key=k value=v", "cmd=put_result rc=8"),
        ("cmd=get kvsname=- key=nothing", "cmd=get_result rc=4"),
        ("cmd=publish_name service=a port=b", "cmd=publish_result rc=-1 msg=command not implemented"),
        ("cmd=lookup_name service=a", "cmd=lookup_result rc=-1 msg=command not implemented"),
        ("cmd=barrier_in", "cmd=barrier_out rc=0"),
    ],
)
def test_answers_of_the_server(line: str, answer: str) -> None:
    assert PmiServer(1, {}).request(0, line) == [(0, answer)]


def test_values_may_have_blanks_and_equals_signs() -> None:
    server = PmiServer(1, {})
    server.request(0, "cmd=put kvsname=- key=k value=a b=c  d")
    assert server.request(0, "cmd=get kvsname=- key=k") == [(0, "cmd=get_result rc=0 value=a b=c  d")]


def test_spawning_is_not_offered() -> None:
    server = PmiServer(1, {})
    assert server.request(0, "mcmd=spawn") == []
    assert server.request(0, "nprocs=2") == []
    assert server.request(0, "endcmd") == [(0, "cmd=spawn_result rc=-1")]


def test_an_abort_is_the_end_of_all() -> None:
    with pytest.raises(Abort) as error:
        PmiServer(1, {}).request(0, "cmd=abort exitcode=7 error_msg=no more of this")
    assert (error.value.code, error.value.text) == (7, "no more of this")


@pytest.mark.parametrize("line", ["", "x", "cmd=what", "cmd=put kvsname=-", "cmd=get", "=x"])
def test_what_is_no_pmi(line: str) -> None:
    with pytest.raises(PmiError):
        PmiServer(1, {}).request(0, line)


def test_lines_are_found_in_pieces_and_have_an_end() -> None:
    lines = Lines()
    assert lines.feed(b"cmd=a\ncm") == ["cmd=a"]
    assert lines.feed(b"d=b\n") == ["cmd=b"]
    with pytest.raises(PmiError):
        lines.feed(b"x" * 2000)
    assert parse("cmd=put  key=a value=") == {"cmd": "put", "key": "a", "value": ""}


# The exchange: a client for each rank, in a thread of its own.


@contextmanager
def served(size: int, values: dict[str, str]) -> Iterator[Callable[[int], Client]]:
    """A server in a thread for each rank's connection."""
    server, lock = PmiServer(size, values), threading.Lock()
    pairs = [socket.socketpair() for _ in range(size)]
    with ExitStack() as stack:

        def serve(rank: int) -> None:
            lines = Lines()
            while data := pairs[rank][0].recv(4096):
                for line in lines.feed(data):
                    with lock:
                        for other, answer in server.request(rank, line):
                            pairs[other][0].sendall(encode(answer))

        threads = [threading.Thread(target=serve, args=(rank,)) for rank in range(size)]
        for thread in threads:
            thread.start()
        stack.callback(lambda: [thread.join() for thread in threads])
        yield lambda rank: PmiClient(pairs[rank][1].detach(), rank, size)
    for ours, _ in pairs:
        ours.close()


def exchange(size: int, client: Callable[[int], Client], rundir: str, attributes: dict[str, str | None]) -> list[Boot]:
    """What all ranks find out."""
    found: list[Any] = [None] * size

    def run(rank: int) -> None:
        local = Local(f"h{rank}", rundir, f"{rank:08d}-0000-4000-8000-000000000000", attributes, {}, {})
        try:
            found[rank] = PmiBootstrap(client(rank)).exchange(local)
        except BootError as exc:
            found[rank] = exc

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for boot in found:
        assert isinstance(boot, Boot), boot
        assert boot.transport is not None
        boot.transport.close()
    return found


def test_cards_are_exchanged_over_pmi(tmp_path_factory: pytest.TempPathFactory) -> None:
    rundir = str(tmp_path_factory.mktemp("p"))
    mapping = {"PMI_process_mapping": "(vector,(0,1,3),(1,1,1))"}
    with served(4, mapping) as client:
        boots = exchange(4, client, rundir, {"tbon.topo": "kary:2"})
    assert [list(boot.hosts) for boot in boots] == [["h0", "h1", "h2", "h3"]] * 4
    assert [boot.mapping for boot in boots] == ["[[0,1,3,1],[1,1,1,1]]"] * 4
    assert boots[0].endpoint == boots[1].parent_endpoint == boots[2].parent_endpoint == f"ipc://{rundir}/tbon-0"
    # Rank 3 is on another node than its parent.
    assert boots[3].parent_endpoint == boots[1].endpoint
    assert str(boots[1].endpoint).startswith("tcp://")
    assert boots[2].endpoint is boots[3].endpoint is None


def test_long_host_lists_pass_in_pieces(tmp_path_factory: pytest.TempPathFactory) -> None:
    rundir = str(tmp_path_factory.mktemp("p"))
    with served(3, {}) as client:
        names = ["x" * 600, "y" * 600, "z" * 600]

        def long(rank: int) -> Client:
            inner = client(rank)
            original = inner.get

            def get(key: str) -> str | None:
                text = original(key)
                if text is not None and key.isdigit():
                    return json.dumps({**json.loads(text), "host": names[int(key)]})
                return text

            inner.get = get  # type: ignore[method-assign]
            return inner

        boots = exchange(3, long, rundir, {})
    assert list(boots[1].hosts)[1:] == names[1:]


def test_cards_are_exchanged_over_a_directory(tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("p")
    known = {"PMI_process_mapping": "(vector,(0,1,3))"}
    boots = exchange(3, lambda rank: DirectoryClient(str(place / "x"), rank, 3, "x", known), str(place), {})
    assert [list(boot.hosts) for boot in boots] == [["h0", "h1", "h2"]] * 3
    assert not (place / "x").exists()


def test_who_does_not_come_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    client = DirectoryClient(str(tmp_path / "x"), 0, 2, "x", {}, patience=0.05)
    client.init()
    with pytest.raises(PmiError, match="in vain"):
        client.barrier()


def test_a_directory_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir(mode=0o755)
    with pytest.raises(PmiError, match="open to others"):
        DirectoryClient(str(tmp_path / "x"), 0, 2, "x", {}).init()


def test_a_launcher_that_goes_is_noticed() -> None:
    ours, theirs = socket.socketpair()
    client = PmiClient(theirs.detach(), 0, 2)
    ours.close()
    with pytest.raises(PmiError):
        client.init()
    client.close()


@pytest.mark.parametrize(
    "environ",
    [
        {"PMI_FD": "x", "PMI_RANK": "0", "PMI_SIZE": "1"},
        {"PMI_FD": "9999", "PMI_RANK": "0", "PMI_SIZE": "1"},
        {"PMI_FD": "0", "PMI_RANK": "1", "PMI_SIZE": "1"},
    ],
)
def test_environments_that_will_not_do(environ: dict[str, str]) -> None:
    with pytest.raises(BootError, match="bootstrap: simple: "):
        PmiBootstrap.from_environment(environ)


def test_without_a_launcher_there_is_no_pmi() -> None:
    assert PmiBootstrap.from_environment({"PMI_FD": "3"}) is None
