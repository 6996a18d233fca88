"""flux archive: what goes into an archive comes out of it (RFC 37)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from in_process import BrokerThread

import flux
import flux.kvs
from flux.cli.commands import archive
from flux.core import kvs_rpc

Run = Callable[..., tuple[int, list[str], str]]


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerThread]:
    running = BrokerThread()
    running.call(lambda: running.broker.unload("heartbeat"))
    yield running
    running.stop()


@pytest.fixture
def run(broker: BrokerThread, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs ``flux archive WORDS``: exit code, lines of stdout, stderr. Afterwards there is no archive."""
    monkeypatch.setenv("FLUX_URI", broker.uri)
    monkeypatch.delenv("FLUX_KVS_NAMESPACE", raising=False)
    before = os.getcwd()

    def run(*words: str | Path) -> tuple[int, list[str], str]:
        try:
            code = archive.main([str(word) for word in words])
        finally:
            os.chdir(before)
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    yield run
    run("remove", "-f")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with one of each kind."""
    top = tmp_path / "from"
    (top / "d" / "empty").mkdir(parents=True)
    (top / "d" / "text").write_text("häh\n")
    (top / "d" / "text").chmod(0o751)
    (top / "d" / "none").touch()
    (top / "d" / "binary").write_bytes(bytes(range(256)))
    (top / "d" / "large").write_bytes(os.urandom(3000) * 1000)
    (top / "d" / "link").symlink_to("text")
    with open(top / "d" / "sparse", "wb") as file:
        file.seek(1 << 20)
        file.write(b"x" * 5000)
        file.truncate(1 << 22)
    os.utime(top / "d" / "text", (1_000_000, 1_000_000))
    return top


def listing(top: Path) -> dict[str, object]:
    """What is below a directory."""
    found: dict[str, object] = {}
    for path in top.rglob("*"):
        about = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(top))] = (about.st_mode, content)
    return found


def test_files_come_out_as_they_went_in(run: Run, tree: Path, tmp_path: Path) -> None:
    to = tmp_path / "to"
    to.mkdir()
    assert run("create", "-C", tree, "-v", "d")[0] == 0
    assert run("extract", "-C", to) == (0, [], "")
    assert listing(to) == listing(tree)
    assert (to / "d" / "text").stat().st_mtime == 1_000_000
    assert (to / "d" / "sparse").stat().st_blocks == (tree / "d" / "sparse").stat().st_blocks


def test_the_value_is_what_rfc_37_says(run: Run, tree: Path, broker: BrokerThread) -> None:
    run("create", "-n", "value", "-C", tree, "d")
    with broker.open() as handle:
        objects = {one["path"]: one for one in flux.kvs.get(handle, "archive.value")}
    assert all({"path", "mode", "mtime", "ctime"} <= set(one) for one in objects.values())
    assert (objects["d/text"]["encoding"], objects["d/text"]["data"], objects["d/text"]["size"]) == (
        "utf-8",
        "häh\n",
        5,
    )
    assert objects["d/binary"]["encoding"] == "base64"
    assert objects["d/link"]["data"] == "text"
    assert "encoding" not in objects["d/none"]
    assert objects["d/none"]["size"] == 0
    assert "size" not in objects["d"]
    assert [piece[:2] for piece in objects["d/large"]["data"]] == [[0, 1 << 20], [1 << 20, 1 << 20], [2 << 20, 902848]]
    [[offset, size, ref]] = objects["d/sparse"]["data"]
    assert offset <= 1 << 20 < offset + size
    assert ref.startswith("sha1-")
    assert objects["d/sparse"]["size"] == 1 << 22
    assert run("remove", "-n", "value") == (0, [], "")


def test_lists(run: Run, tree: Path) -> None:
    run("create", "-C", tree, "d/text", "d/link", "d/empty")
    assert run("list") == (0, ["d/text", "d/link", "d/empty"], "")
    assert run("list", "d/t*") == (0, ["d/text"], "")
    assert run("extract", "-t", "*/l*") == (0, ["d/link"], "")
    long = run("list", "--long")[1]
    assert long[0] == "f 0751            5 d/text"
    assert long[1].startswith("l 0777")
    assert long[1].endswith("d/link -> text")
    assert json.loads(run("list", "--raw", "d/text")[1][0])["data"] == "häh\n"


def test_nothing_is_replaced_unless_one_says_so(run: Run, tree: Path, tmp_path: Path) -> None:
    run("create", "-C", tree, "d/text")
    code, _, err = run("create", "-C", tree, "d/none")
    assert (code, err) == (1, "flux-archive: archive.main: Key exists: use --overwrite or --append\n")
    assert run("create", "--append", "-C", tree, "d/none")[0] == 0
    assert run("list")[1] == ["d/text", "d/none"]
    assert run("create", "--overwrite", "-C", tree, "d/link", "d/text")[0] == 0
    assert run("list")[1] == ["d/link", "d/text"]
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "text").write_text("mine")
    code, _, err = run("extract", "-C", tmp_path)
    assert (code, err) == (1, "flux-archive: d/text: write: Attempt to overwrite existing file\n")
    assert (tmp_path / "d" / "text").read_text() == "mine"
    assert run("extract", "-C", tmp_path, "--overwrite")[0] == 0
    assert (tmp_path / "d" / "text").read_text() == "häh\n"


def test_what_is_wrong_is_said(run: Run, tree: Path, tmp_path: Path, broker: BrokerThread) -> None:
    missing = "could not lookup archive.main in primary KVS namespace: No such file or directory"
    for command in ("extract", "list", "remove"):
        assert run(command) == (1, [], f"flux-archive: {missing}\n")
    assert run("remove", "-f") == (0, [], "")
    assert "Connection timed out" in run("extract", "--waitcreate=10ms")[2]
    os.mkfifo(tree / "fifo")
    assert "fifo: only files" in run("create", "-C", tree, "fifo")[2]
    assert run("create", "-C", tree, "nosuch")[2] == "flux-archive: nosuch: No such file or directory\n"
    assert run("create", "-C", "/nosuch", "x")[2] == "flux-archive: chdir /nosuch: No such file or directory\n"
    assert "--mmap cannot be used with --preserve" in run("create", "--mmap", "--preserve", "x")[2]
    with broker.open() as handle:
        for value in (
            [{"path": "../x", "mode": 33188}],
            [{"path": "/x", "mode": 33188}],
            [{"path": "l", "mode": 41471, "data": "/tmp"}, {"path": "l/x", "mode": 33188}],
        ):
            flux.kvs.put(handle, "archive.main", value)
            flux.kvs.commit(handle)
            assert "leads out of the directory" in run("extract", "--overwrite", "-C", tmp_path)[2]
        for value in (7, [7], [{"path": "x"}]):
            flux.kvs.put(handle, "archive.main", value)
            flux.kvs.commit(handle)
            assert "no archive of files" in run("extract")[2]
    assert not Path("/tmp/x").exists()


def test_content_that_is_preserved_has_a_key_that_refers_to_it(run: Run, tree: Path, broker: BrokerThread) -> None:
    def kept() -> bytes:
        with broker.open() as handle:
            return kvs_rpc.value(kvs_rpc.lookup(handle.core, "primary", 0, "archive.main_blobs"))

    run("create", "--preserve", "-C", tree, "d/large")
    assert kept() == (tree / "d" / "large").read_bytes()
    run("create", "--append", "--preserve", "-C", tree, "d/sparse")
    assert kept() == (tree / "d" / "large").read_bytes() + (tree / "d" / "sparse").read_bytes()[1 << 20 :][: 1 << 13]
    run("create", "--overwrite", "-C", tree, "d/large")
    with pytest.raises(OSError, match="No such file"):
        kept()


def test_extracting_waits_for_the_archive(run: Run, tree: Path, tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "fluxlet.cmd.driver",
        "archive",
        "extract",
        "--waitcreate",
        "-C",
        str(tmp_path),
        "-v",
    ]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as waiting:
        run("create", "-C", tree, "d/text")
        assert waiting.communicate()[1] == "d/text\n"
    assert (tmp_path / "d" / "text").read_text() == "häh\n"
