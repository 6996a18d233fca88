"""flux kvs and flux content: what they print, as spec 05, section 13 shows it of the reference."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
from in_process import BrokerThread

import flux
import flux.kvs

#: Runs ``flux WORDS``: exit code, stdout, stderr.
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerThread]:
    """One broker for all tests: each has keys of its own."""
    running = BrokerThread()
    running.call(lambda: running.broker.unload("heartbeat"))
    yield running
    running.stop()


@pytest.fixture
def run(broker: BrokerThread, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Runs commands in this process, which takes a tenth of the time."""
    monkeypatch.setenv("FLUX_URI", broker.uri)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("FLUX_KVS_NAMESPACE", raising=False)

    def run(*words: str, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = import_module(f"flux.cli.commands.{words[0]}").main(list(words[1:]))
        sys.stdout.flush()
        out, err = capsysbinary.readouterr()
        return code, out.decode(), err.decode()

    return run


@pytest.fixture
def kvs(run: Run) -> Callable[..., str]:
    """Runs ``flux kvs WORDS``, which must succeed; returns what it prints."""

    def kvs(*words: str, stdin: bytes = b"") -> str:
        code, out, err = run("kvs", *words, stdin=stdin)
        assert (code, err) == (0, "")
        return out

    return kvs


@pytest.fixture
def fails(run: Run) -> Callable[..., str]:
    """Runs ``flux kvs WORDS``, which must fail; returns what it says, without hints in further lines."""

    def fails(*words: str) -> str:
        code, out, err = run("kvs", *words)
        assert (code, out) == (1, "")
        return err.splitlines(keepends=True)[0]

    return fails


def test_the_examples_of_the_specification(kvs: Callable[..., str], broker: BrokerThread) -> None:
    with broker.open() as handle:
        flux.kvs.namespace_create(handle, "examples")
    space = ("-N", "examples")
    kvs("put", *space, "a.b=1", "a.c=two words", "a.d.e=3")
    assert kvs("dir", *space, "-R", "a") == "a.b = 1\na.c = two words\na.d.e = 3\n"
    assert kvs("ls", *space, "-R", "a") == "a:\nb    c    d\n\na.d:\ne\n"
    kvs("put", *space, "-A", "ap=abc")
    kvs("put", *space, "-A", "ap=def")
    refs = ["sha1-a9993e364706816aba3e25717850c26c9cd0d89d", "sha1-589c22335a381f122d129225f5c0ba3056ed5811"]
    treeobj = {"data": refs, "type": "valref", "ver": 1}
    assert kvs("get", *space, "-t", "ap") == json.dumps(treeobj, separators=(",", ":")) + "\n"
    root = kvs("getroot", *space).strip()
    kvs("put", *space, "a.b=99")
    assert kvs("get", "-a", root, "a.b") == "1\n"
    kvs("link", *space, "a.b", "l1")
    assert kvs("ls", *space, "-F") == "a.    ap    l1@\n"
    assert kvs("ls", *space, "-1", "a") == "b\nc\nd\n"
    assert kvs("ls", *space, "-d", "a", "ap") == "a     ap\n"
    assert kvs("dir", *space, "-d") == "a.\nap\nl1\n"


def test_put_and_get(kvs: Callable[..., str], fails: Callable[..., str]) -> None:
    kvs("put", "pg.a=1", "pg.b=", "pg.c=x=y", "pg.é=ü")
    assert kvs("get", "pg.a", "pg.c", "pg.é") == "1\nx=y\nü\n"
    assert kvs("get", "pg.b") == ""
    assert kvs("get", "-l", "pg.a") == "pg.a=1\n"
    kvs("put", "-r", "pg.raw=-", stdin=b"a\0b\n")
    assert kvs("get", "-r", "pg.raw") == "a\0b\n"
    assert kvs("get", "pg.raw") == "a\n"
    kvs("put", "-t", 'pg.t={"data":"MQ==","type":"val","ver":1}')
    assert kvs("get", "pg.t") == "1\n"
    assert kvs("get", "-t", "pg.t") == '{"data":"MQ==","type":"val","ver":1}\n'
    assert fails("get", "pg.nope") == "flux-kvs: pg.nope: No such file or directory\n"
    assert fails("get", "pg") == "flux-kvs: pg: Is a directory\n"
    assert fails("put", "pg.a") == "flux-kvs: put: you must specify a value as key=value\n"
    for words in (("put", "=x"), ("get", "")):
        assert fails(*words) == "flux-kvs: a key must not be empty\n"
    assert fails("put", "-t", "pg.t=x") == "flux-kvs: pg.t: Protocol error\n"
    assert fails("put", ".=1").startswith("flux-kvs: flux_kvs_commit: ")
    assert fails("get", "-N", "nons", "a") == "flux-kvs: a: Operation not supported\n"


def test_what_a_commit_prints(kvs: Callable[..., str]) -> None:
    before = int(kvs("version"))
    assert kvs("put", "-s", "cp.a=1") == f"{before + 1}\n"
    blobref = kvs("put", "-b", "cp.a=2")
    assert blobref == kvs("getroot", "-b")
    assert kvs("mkdir", "-O", "cp.d") == kvs("getroot")
    assert kvs("unlink", "-s", "cp.a") == kvs("getroot", "-s")
    assert kvs("link", "-b", "cp.d", "cp.l") == kvs("getroot", "-b")
    assert kvs("getroot", "-o") == f"{os.getuid()}\n"
    kvs("wait", str(before))
    kvs("sync")
    assert re.fullmatch(r'\{"data":\["sha1-[0-9a-f]{40}"\],"type":"dirref","ver":1\}\n', kvs("getroot"))


def test_directories(kvs: Callable[..., str], fails: Callable[..., str], run: Run) -> None:
    kvs("put", "dr.x=1", "dr.long=" + "y" * 100, "dr.lines=one\ntwo", "dr.sub.z=3")
    kvs("mkdir", "dr.empty")
    kvs("link", "dr.x", "dr.l")
    kvs("link", "-T", "ns", "k", "dr.m")
    entries = [
        "dr.empty.",
        "dr.l -> dr.x",
        "dr.lines = one...",
        "dr.long = " + "y" * 67 + "...",
        "dr.m -> ns::k",
        "dr.sub.",
        "dr.x = 1",
    ]
    assert kvs("dir", "dr").splitlines() == entries
    assert "dr.long = " + "y" * 100 in kvs("dir", "-w", "0", "dr").splitlines()
    entries[5] = "dr.sub.z = 3"
    assert kvs("dir", "-R", "dr").splitlines() == entries
    assert fails("dir", "dr.x") == "flux-kvs: dr.x: Not a directory\n"
    assert kvs("ls", "-w", "30", "dr").splitlines() == ["empty    l        lines", "long     m        sub", "x"]
    assert kvs("ls", "dr.x", "dr.sub") == "dr.x\n\ndr.sub:\nz\n"
    assert run("kvs", "ls", "dr.nope", "dr.x") == (1, "dr.x\n", "dr.nope: No such file or directory\n")
    assert run("kvs", "ls", "dr.x.") == (1, "", "dr.x: Not a directory\n")
    assert kvs("ls", "-F", "dr.l") == "dr.l@\n"


def test_links_and_what_is_removed(kvs: Callable[..., str], fails: Callable[..., str]) -> None:
    kvs("put", "ln.d.x=1")
    kvs("link", "ln.d", "ln.l")
    kvs("link", "-T", "other", "k", "ln.n")
    assert kvs("readlink", "ln.l", "ln.n") == "ln.d\nother::k\n"
    assert kvs("readlink", "-o", "ln.n") == "other\n"
    assert kvs("readlink", "-k", "ln.n") == "k\n"
    assert fails("readlink", "ln.d.x") == "flux-kvs: ln.d.x: Invalid argument\n"
    assert fails("unlink", "ln.nope") == "flux-kvs: cannot unlink 'ln.nope': No such file or directory\n"
    assert fails("unlink", "ln.d") == "flux-kvs: cannot unlink 'ln.d': Directory not empty\n"
    kvs("unlink", "-f", "ln.nope")
    kvs("copy", "ln.d", "ln.d2")
    kvs("move", "ln.d2", "ln.d3")
    assert kvs("get", "ln.d3.x") == "1\n"
    assert fails("copy", "ln.d2", "ln.q") == "flux-kvs: flux_kvs_copy: No such file or directory\n"
    kvs("unlink", "-R", "ln.d", "ln.l")
    assert kvs("ls", "ln") == "d3    n\n"


def test_namespaces(kvs: Callable[..., str], fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    kvs("namespace", "create", "-o", "9999", "n1", "n2")
    listed = kvs("namespace", "list").splitlines()
    assert listed[0] == "NAMESPACE                                 OWNER      FLAGS"
    assert f"{'n1':<36} {9999:>10} 0x00000000" in listed
    assert fails("namespace", "create", "n1") == "flux-kvs: n1: File exists\n"
    assert fails("namespace", "create", "-o", "x", "n3") == "flux-kvs: --owner requires an unsigned integer argument\n"
    assert fails("namespace", "remove", "primary") == "flux-kvs: primary: Operation not supported\n"
    monkeypatch.setenv("FLUX_KVS_NAMESPACE", "n1")
    kvs("put", "k=1")
    kvs("copy", "-D", "n2", "k", "j")
    monkeypatch.delenv("FLUX_KVS_NAMESPACE")
    assert kvs("get", "-N", "n2", "j") == "1\n"
    kvs("namespace", "remove", "n1", "n2", "never")
    text = "flux-kvs: flux_kvs_getroot_get_treeobj: Operation not supported\n"
    assert fails("getroot", "-N", "n1") == text


def test_watching(kvs: Callable[..., str], broker: BrokerThread) -> None:
    kvs("put", "wt.a=0")

    def change() -> None:
        with broker.open() as handle:
            for value in range(1, 4):
                handle.rpc("kvs.wait-version", {"namespace": "primary", "rootseq": seen + value - 1}).get()
                flux.kvs.put(handle, "wt.a", value)
                flux.kvs.commit(handle)

    seen = int(kvs("version"))
    changing = threading.Thread(target=change)
    watch = _started(broker, "kvs", "get", "-w", "-c", "4", "wt.a")
    assert watch.stdout is not None
    lines = [watch.stdout.readline()]
    changing.start()
    lines += watch.stdout.readlines()
    changing.join()
    assert (lines, watch.wait(60)) == (["0\n", "1\n", "2\n", "3\n"], 0)
    watch.stdout.close()


def test_waiting_for_a_key(kvs: Callable[..., str], broker: BrokerThread) -> None:
    waiting = _started(broker, "kvs", "get", "-W", "wc.a")
    while not _watchers(broker):
        pass
    kvs("put", "wc.a=there")
    assert waiting.communicate(timeout=60) == ("there\n", None)
    assert waiting.returncode == 0


def _started(broker: BrokerThread, *words: str) -> subprocess.Popen[str]:
    env = {**os.environ, "FLUX_URI": broker.uri}
    command = [sys.executable, "-m", "fluxlet.cmd.driver", *words]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def _watchers(broker: BrokerThread) -> int:
    with broker.open() as handle:
        return int(handle.rpc("kvs-watch.stats-get").get()["watchers"])


def test_streams(kvs: Callable[..., str]) -> None:
    for piece in ("a", "b", "c"):
        kvs("put", "-A", f"st.log={piece}")
    assert kvs("get", "-S", "st.log") == "abc\n"


def test_eventlogs(kvs: Callable[..., str], fails: Callable[..., str]) -> None:
    kvs("eventlog", "append", "-t", "1552593348.073045", "ev.log", "submit", '{"urgency":16}')
    kvs("eventlog", "append", "-t", "1552593349.5", "ev.log", "start")
    assert kvs("eventlog", "get", "ev.log") == "1552593348.073045 submit urgency=16\n1552593349.500000 start\n"
    lines = kvs("eventlog", "get", "-u", "ev.log").splitlines()
    assert lines[0] == '{"timestamp":1552593348.073045,"name":"submit","context":{"urgency":16}}'
    assert lines[1] == '{"timestamp":1552593349.5,"name":"start"}'
    assert kvs("eventlog", "get", "-H", "ev.log") == "[Mar14 19:55] submit urgency=16\n[  +1.426955] start\n"
    assert kvs("eventlog", "wait-event", "ev.log", "start") == "1552593349.500000 start\n"
    assert kvs("eventlog", "wait-event", "-v", "ev.log", "start").count("\n") == 2
    assert kvs("eventlog", "wait-event", "-q", "ev.log", "start") == ""
    text = "flux-kvs: wait-event timeout on event 'nope'\n"
    assert fails("eventlog", "wait-event", "-t", "0.01", "ev.log", "nope") == text
    assert fails("eventlog", "wait-event", "nope", "x") == "flux-kvs: eventlog path nope not found\n"
    assert fails("eventlog", "append", "ev.log", "x", "a=1").startswith("flux-kvs: eventlog_entry_create: Invalid arg")
    text = "flux-kvs: Do not specify --unformatted with --human or --color=always\n"
    assert fails("eventlog", "get", "-u", "-H", "ev.log") == text
    kvs("put", "ev.bad=x")
    text = "flux-kvs: cannot decode improperly formatted eventlog\n"
    assert text in fails("eventlog", "get", "ev.bad")


def test_no_command_is_the_list_of_them(run: Run) -> None:
    for words in ((), ("frobnicate",)):
        code, out, err = run("kvs", *words)
        assert code == 1
        assert "eventlog" in out + err


# flux content


def test_blobs(run: Run) -> None:
    ref = "sha1-f572d396fae9206628714fb2ce00f72e94f2258f"
    assert run("content", "store", stdin=b"hello\n") == (0, f"{ref}\n", "")
    assert run("content", "store", "-b", stdin=b"hello\n") == (0, f"{ref}\n", "")
    assert run("content", "load", ref, ref) == (0, "hello\nhello\n", "")
    assert run("content", "load", "-b", stdin=ref.encode()) == (0, "hello\n", "")
    text = "flux-content: error loading blob: "
    assert run("content", "load", ref[:-1] + "0") == (1, "", text + "No such file or directory\n")
    assert run("content", "load", "sha1-x") == (1, "", text + "Invalid argument\n")
    assert run("content", "load", "sha256-" + "0" * 64) == (1, "", text + "Protocol error\n")
    assert run("content", "load") == (1, "", "flux-content: no blobrefs were specified\n")
    refs = ["sha1-9069ca78e7450a285173431b3e52c5c25299e473"] * 2 + ["sha1-1489f923c4dca729178b3e3233458550d8dddf29"]
    code, out, err = run("content", "store", "--chunksize=4", stdin=bytes(10))
    assert (code, out.split(), err) == (0, refs, "")
    assert run("content", "store", "--chunksize=0")[0] == 1
    for command in ("flush", "dropcache"):
        assert run("content", command) == (0, "", "")
    assert run("content", "load", *refs)[1] == "\0" * 10


def test_checkpoints(run: Run, kvs: Callable[..., str]) -> None:
    kvs("put", "-S", "ck.a=1")
    kvs("sync")
    code, out, err = run("content", "checkpoint", "list")
    header, *rows = out.splitlines()
    assert (code, err, header) == (0, "", "Index      Sequence   Time                 Rootref")
    assert rows[0].split()[:2] == ["0", kvs("version").strip()]
    assert rows[0].split()[3] == kvs("getroot", "-b").strip()
    assert run("content", "checkpoint", "list", "-n")[1].splitlines() == rows
    objects = [json.loads(line) for line in run("content", "checkpoint", "list", "-j")[1].splitlines()]
    assert [str(obj["sequence"]) for obj in objects] == [row.split()[1] for row in rows]
    text = "flux-content: please unload kvs module before updating checkpoint\n"
    assert run("content", "checkpoint", "update", "sha1-" + "0" * 40) == (1, "", text)


def test_dump_and_restore(run: Run, kvs: Callable[..., str]) -> None:
    kvs("put", "ds.a=1", "ds.long=" + "x" * 100, "ds.sub.b=2")
    kvs("link", "-T", "ns", "k", "ds.l")
    kvs("mkdir", "ds.empty")
    with tempfile.TemporaryDirectory(prefix="flux-", dir="/tmp") as directory:
        for name in ("dump.tar", "dump.tgz"):
            path = str(Path(directory, name))
            code, out, err = run("dump", path)
            assert (code, out) == (0, "")
            assert re.fullmatch(r"\rflux-dump: archived \d+ keys\n", err)
            code, out, err = run("restore", "--key=ds2", path)
            assert (code, out) == (0, "")
            assert re.search(r"flux-restore: writing snapshot sha1-[0-9a-f]{8} to KVS key 'ds2'\n", err)
            assert kvs("dir", "-w0", "-R", "ds2.ds").replace("ds2.", "") == kvs("dir", "-w0", "-R", "ds")
            kvs("unlink", "-R", "ds2")
        text = "flux-restore: Please specify a restore target with --checkpoint or --key\n"
        assert run("restore", path) == (1, "", text)
        text = "flux-restore: please unload kvs module before using --checkpoint\n"
        assert run("restore", "--checkpoint", path) == (1, "", text)
        bad = str(Path(directory, "no", "such"))
        assert run("dump", bad)[2].startswith(f"flux-dump: Failed to open '{bad}'\n")


def test_fsck_and_gc(run: Run, kvs: Callable[..., str]) -> None:
    for number in range(12):
        kvs("put", "-S", f"gc.k={number}" + "x" * 100)
    code, out, err = run("fsck")
    assert (code, out) == (0, "")
    assert re.fullmatch(r"Checking integrity of checkpoint from [0-9T:Z-]+\nflux-fsck: Total errors: 0\n", err)
    code, out, err = run("gc")
    assert (code, out) == (0, "")
    found = re.fullmatch(r"flux: gc complete: marked (\d+), reclaimed (\d+) blobs \(horizon epoch \d+\)\n", err)
    assert found is not None
    assert int(found[1]) > 0
    assert int(found[2]) > 0
    assert run("content", "dropcache")[0] == 0
    assert kvs("get", "gc.k") == "11" + "x" * 100 + "\n"
    assert run("fsck", "-q") == (0, "", "")
