"""The table `[bootstrap]`, layouts, certificates and Slurm's environment (spec 04, 3.3, 3.5, 3.8)."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from fluxlet.overlay.bootstrap.address import find_address
from fluxlet.overlay.bootstrap.boot import BootError
from fluxlet.overlay.bootstrap.choose import choose
from fluxlet.overlay.bootstrap.hosts import Hosts, parse
from fluxlet.overlay.bootstrap.mapping import Mapping
from fluxlet.overlay.bootstrap.slurm import client, process_mapping
from fluxlet.overlay.certificate import Certificate, CertificateError

EXAMPLE = """
curve_cert = "/etc/flux/curve.cert"
default_port = 8050
default_bind = "tcp://eth0:%p"
default_connect = "tcp://%h:%p"
hosts = [ {host="node[0-3]"}, {host="node0", bind="tcp://en4:9001", connect="tcp://x:9001"},
          {host="node3", parent="node1"}, {host="node0", bind="tcp://late:1"} ]
"""


def hosts(text: str) -> Hosts:
    return parse(tomllib.loads(text))


def test_entries_about_one_host_are_merged() -> None:
    table = hosts(EXAMPLE)
    assert table.names == ["node0", "node1", "node2", "node3"]
    assert [table.bind(rank) for rank in (0, 1)] == ["tcp://en4:9001", "tcp://eth0:8050"]
    assert [table.connect(rank) for rank in (0, 1)] == ["tcp://x:9001", "tcp://node1:8050"]
    assert table.parents() == [-1, 0, 0, 1]
    assert (table.rank("node2"), table.rank("node4")) == (2, None)


def test_percent_signs() -> None:
    table = hosts('curve_cert = "c"\nhosts = [{host="a,b", connect="tcp://%h%%%x:%p"}]')
    assert table.connect(1) == "tcp://b%%x:%p"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("foo = 1", "1 object item(s) left unpacked: foo"),
        ("default_port = 70000", "default_port must be in the range of 0-65535"),
        ('hosts = [{host="a,b"}]', "curve_cert must be defined for size > 1"),
        ('hosts = [{host="a"}, {host="b", parent="c"}]', "invalid hosts[1]: parent key refers to unknown host"),
        ('hosts = [{host="a"}, {host="b", parent="b"}]', "invalid hosts[1]: parent key refers to self"),
        ('hosts = [{host="a", bind="tcp://x:*"}]', "invalid hosts[0]: bind key tcp://x:* contains 0MQ port wildcard"),
        ('hosts = [{host="a", bind="x:1"}]', "invalid hosts[0]: bind key x:1 has no URI scheme"),
        ('hosts = [{host="a", bind="udp://x"}]', "invalid hosts[0]: bind key udp://x URI scheme must be tcp or ipc"),
        ('hosts = [{host="a[0-"}]', "invalid hosts[0]: host key is not a valid RFC 29 hostlist"),
        ('hosts = [{host="a", what="b"}]', "invalid hosts[0]: 1 object item(s) left unpacked: what"),
        ("hosts = [{}]", "invalid hosts[0]: Object item not found: host"),
    ],
)
def test_tables_that_will_not_do(text: str, error: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        hosts(text)
    assert str(raised.value) == error


def test_a_host_that_is_not_mentioned_is_told_so() -> None:
    with pytest.raises(BootError) as error:
        choose({}, {"bootstrap": {"hosts": [{"host": "a"}]}}, {}, "b")
    assert str(error.value) == "bootstrap: config: initialize: Config file error [bootstrap]: b not found in hosts"


def test_the_first_method_that_works_is_used() -> None:
    assert choose({}, {}, {}, "a").method == "single"
    assert choose({}, {"bootstrap": {"hosts": []}}, {}, "a").method == "config"
    assert choose({"broker.boot-method": "single"}, {"bootstrap": {}}, {}, "a").method == "single"
    with pytest.raises(BootError, match="plugin matching 'foo' not found"):
        choose({"broker.boot-method": "foo"}, {}, {}, "a")
    with pytest.raises(BootError, match="no method works here of: simple"):
        choose({}, {}, {"FLUX_PMI_CLIENT_METHODS": "simple"}, "a")


# Layouts.


@pytest.mark.parametrize(
    ("text", "size", "blocks", "nodes"),
    [
        ("(vector,(0,1,4))", 4, "[[0,1,4,1]]", [0, 0, 0, 0]),
        ("(vector,(0,4,1))", 4, "[[0,4,1,1]]", [0, 1, 2, 3]),
        ("(vector,(0,1,2),(1,1,1))", 3, "[[0,1,2,1],[1,1,1,1]]", [0, 0, 1]),
        ("(vector,(0,2,1))", 4, "[[0,2,1,2]]", [0, 1, 0, 1]),
    ],
)
def test_process_mappings(text: str, size: int, blocks: str, nodes: list[int]) -> None:
    mapping = Mapping.parse_pmi(text, size)
    assert mapping is not None
    assert str(mapping) == blocks
    assert [mapping.node(rank) for rank in range(size)] == nodes
    assert mapping.node(mapping.size) == -1
    again = Mapping.parse_taskmap(f'{{"version":1,"map":{blocks}}}', size)
    assert str(again) == blocks


@pytest.mark.parametrize("text", ["", "(vector)", "vector", "(vector,(0,0,1))", "(vector,(a,1,1))"])
def test_what_is_no_process_mapping(text: str) -> None:
    assert Mapping.parse_pmi(text, 2) is None


@pytest.mark.parametrize("text", ["", "3", "[[0,1]]", '[[0,1,1,"x"]]', "[[0,1,1,1]]", "[[0,-1,1,1]]"])
def test_what_is_no_taskmap(text: str) -> None:
    assert Mapping.parse_taskmap(text, 2) is None


# Slurm.

STEP = {"SLURM_PROCID": "1", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "3", "SLURM_JOB_ID": "9", "HOME": "/h"}


def test_the_processes_of_a_step_find_each_other() -> None:
    found = client({**STEP, "SLURM_STEP_TASKS_PER_NODE": "2,1"})
    assert found is not None
    assert (found.rank, found.size) == (1, 3)
    assert found.path == "/h/.fluxlet/exchange/slurm-9-0-0"
    assert found.get("PMI_process_mapping") == "(vector,(0,1,2),(1,1,1))"


@pytest.mark.parametrize("name", ["SLURM_PROCID", "SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS"])
def test_a_batch_script_is_no_launch(name: str) -> None:
    assert client({key: value for key, value in STEP.items() if key != name}) is None
    with pytest.raises(BootError):
        client({**STEP, "SLURM_PROCID": "3"})


@pytest.mark.parametrize(
    ("per_node", "distribution", "mapping"),
    [
        ("2(x3)", "block", "(vector,(0,3,2))"),
        ("4,2(x2)", "block:block", "(vector,(0,1,4),(1,2,2))"),
        ("2(x3)", "cyclic", None),
        ("", "block", None),
    ],
)
def test_layouts_of_slurm(per_node: str, distribution: str, mapping: str | None) -> None:
    assert process_mapping(per_node, distribution) == mapping


# Certificates and addresses.


def test_a_certificate_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "curve.cert"
    made = Certificate.new({"name": "test", "a.b": "c d"})
    made.write(str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert Certificate.read(str(path)) == made
    assert len(made.raw_public) == 32


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda text: text.replace("secret-key", "public-key"), "no secret-key of 40 characters"),
        (lambda text: text + "rubbish = x\n  what", "not a certificate"),
        (lambda text: "\n".join(text.splitlines()[:-1]), "no secret-key"),
        (lambda text: "", "no public-key"),
    ],
)
def test_files_that_are_no_certificates(tmp_path: Path, change: object, text: str) -> None:
    path = tmp_path / "curve.cert"
    path.touch(0o600)
    path.write_text(change(Certificate.new().text()))  # type: ignore[operator]
    with pytest.raises(CertificateError, match=text):
        Certificate.read(str(path))


def test_a_certificate_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "curve.cert"
    Certificate.new().write(str(path))
    path.chmod(0o640)
    with pytest.raises(CertificateError, match="readable by group/other"):
        Certificate.read(str(path))
    with pytest.raises(CertificateError, match="No such file or directory"):
        Certificate.read(str(tmp_path / "nothing"))
    a, b = Certificate.new(), Certificate.new()
    with pytest.raises(CertificateError, match="no pair"):
        Certificate.parse(a._replace(secret=b.secret).text(), "x")


def test_addresses() -> None:
    assert find_address("lo") == "127.0.0.1"
    assert find_address("127.0.0.0/8") == "127.0.0.1"
    assert find_address("default-route")
    with pytest.raises(OSError, match="no address of interface nosuch"):
        find_address("nosuch0")
    with pytest.raises(OSError, match="no interface has an address in"):
        find_address("203.0.113.0/24")
    with pytest.raises(OSError, match="interface hint"):
        find_address("a/b")
