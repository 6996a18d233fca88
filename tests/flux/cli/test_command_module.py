"""flux module (spec 03, 14.5)."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_instance import Instance, recording

import flux
from flux.cli.commands.module import table
from flux.cli.module_trace import Printer, size_text

MODULE = """
from flux.brokermod import BrokerModule, request_handler

class M(BrokerModule):
    @request_handler("stats-get")
    def stats(self, msg):
        self.handle.respond(msg, {"a": {"b": 7, "c": 0.5, "d": [1]}, "text": "t", "args": self.args})
"""
HEADER = "Module                    Idle  S Sendq Recvq Service"


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "m.py"
    file.write_text(MODULE)
    return str(file)


@pytest.fixture
def loaded(instance: Instance, path: str) -> Instance:
    with flux.Flux(instance.uri) as handle:
        handle.rpc("module.load", {"path": path, "args": ["x"], "loader": "inproc"}).get()
    instance.take()
    return instance


@pytest.mark.parametrize(
    ("words", "conn"),
    [
        ("list", 0),
        ("stats heartbeat", 1),
        ("stats broker", 2),
        ("stats -R broker", 3),
        ("stats --rusage=self broker", 3),
        ("stats -c broker", 4),
        ("debug -s 4 heartbeat", 5),
        ("debug -C heartbeat", 6),
        ("load nosuch", 7),
        ("load kvs", 8),
        ("remove nosuch", 9),
        ("load --name=hb2 heartbeat period=5s", 10),
        ("load --name=hb2 heartbeat foo=1", 13),
        ("unload heartbeat", 14),
    ],
)
def test_requests_are_those_of_the_reference(instance: Instance, words: str, conn: int) -> None:
    instance.run("module", *words.split())
    assert instance.take() == recording("broker-module", conn)


def test_reload_is_remove_and_load(instance: Instance) -> None:
    assert instance.run("module", "load", "--name=hb2", "heartbeat").returncode == 0
    instance.take()
    assert instance.run("module", "reload", "--name=hb2", "heartbeat").returncode == 0
    assert instance.take() == recording("broker-module", 11)


def test_list(loaded: Instance, path: str) -> None:
    lines = loaded.run("module", "list").stdout.splitlines()
    assert lines[0] == HEADER
    assert "heartbeat                    0  R     0     0 " in lines
    with flux.Flux(loaded.uri) as handle:
        handle.rpc("module.remove", {"name": "m"}).get()
        handle.rpc("module.load", {"path": path, "args": [], "name": "a" * 30, "loader": "inproc"}).get()
    long = loaded.run("module", "list", "-l").stdout.splitlines()
    assert long[0] == HEADER.replace("Service", "Service  Path")
    assert f"{'a' * 25}    0  R     0     0 {'':8} {path}" in long


def test_list_shows_services_and_states() -> None:
    def module(name: str, idle: int, status: int, *services: str) -> dict[str, Any]:
        return {
            "name": name,
            "idle": idle,
            "status": status,
            "services": [name, *services],
            "sendqueue": 1,
            "recvqueue": 2,
            "path": "p",
        }

    modules = [
        module("a", 99, 0),
        module("b", 100, 2, "c", "d"),
        module("c", 0, 3, "12345678"),
        module("d", 0, 1, "123456789"),
    ]
    assert [line[26:] for line in table(modules, long=False)[1:]] == [
        "  99  I     1     2 ",
        "idle  F     1     2 c,d",
        "   0  X     1     2 12345678",
        "   0  R     1     2 123456789",
    ]
    ends = [line[46:] for line in table(modules, long=True)[1:]]
    assert ends == ["         p", "c,d      p", "12345678 p", "1234567+ p"]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("load nosuch", "load nosuch: module not found in search path"),
        ("load heartbeat", "load heartbeat: File exists"),
        ("load --name=h heartbeat foo=1", "load heartbeat: Invalid argument"),
        ("load ./nosuch.py", "could not canonicalize module path './nosuch.py': No such file or directory"),
        ("load nosuch.so", "could not canonicalize module path 'nosuch.so': No such file or directory"),
        ("remove nosuch", "remove nosuch: No such file or directory"),
        ("reload nosuch", "remove nosuch: No such file or directory"),
        ("reload -f nosuch", "load nosuch: module not found in search path"),
        ("stats nosuch", "nosuch: No service matching nosuch.stats-get is registered"),
        ("stats -p foo heartbeat", "`foo' not found in response"),
        ("stats -p period.x heartbeat", "`period.x' not found in response"),
        ("stats -p period -t x heartbeat", "invalid --type 'x': use int or double"),
        ("stats -p period -s x heartbeat", "invalid --scale 'x': it must be a number"),
        ("stats --rusage=foo heartbeat", "heartbeat: foo is unsupported"),
        ("debug -s x heartbeat", "invalid --setbit 'x': it must be a number such as 4 or 0x4"),
        ("trace -d", "--delta can only be used with --human"),
        ("trace -t x", "invalid --type 'x': use request, response, event, control"),
    ],
)
def test_errors(instance: Instance, words: str, error: str) -> None:
    done = instance.run("module", *words.split())
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"flux-module: {error}\n")


def test_force_hides_that_there_is_nothing_to_remove(instance: Instance) -> None:
    done = instance.run("module", "remove", "-f", "nosuch")
    assert (done.returncode, done.stderr) == (0, "")


def test_help_exits_1(instance: Instance) -> None:
    done = instance.run("module", "--help")
    assert done.returncode == 1
    assert done.stderr.startswith("Usage: flux-module [OPTIONS] COMMAND [ARGS...]\n")


def test_file_is_loaded_and_removed_by_its_path(instance: Instance, path: str, tmp_path: Path) -> None:
    link = tmp_path / "link.py"
    link.symlink_to(path)
    assert instance.run("module", "load", str(link), "a").returncode == 0
    assert instance.take()[0]["payload"] == {"path": path, "args": ["a"], "exec": False}
    assert json.loads(instance.run("module", "stats", "m").stdout)["args"] == ["a"]
    assert instance.run("module", "reload", str(link), "b").returncode == 0
    assert json.loads(instance.run("module", "stats", "m").stdout)["args"] == ["b"]
    assert instance.run("module", "remove", str(link)).returncode == 0
    assert " m" not in instance.run("module", "list").stdout


@pytest.mark.parametrize(
    ("words", "output"),
    [
        ("-p a.b", "7"),
        ("-p a.b -s 10", "70"),
        ("-p a.b -t double", "7.000000"),
        ("-p a.c", "0.500000"),
        ("-p a.c -s 1000 -t int", "500"),
        ("-p a.d", "[\n 1\n]"),
        ("-p text", '"t"'),
        ("", '{\n "a": {\n  "b": 7,\n  "c": 0.5,\n  "d": [\n   1\n  ]\n },\n "text": "t",\n "args": [\n  "x"\n ]\n}'),
    ],
)
def test_stats(loaded: Instance, words: str, output: str) -> None:
    done = loaded.run("module", "stats", *words.split(), "m")
    assert (done.stdout, done.stderr, done.returncode) == (f"{output}\n", "", 0)


def test_rusage(loaded: Instance) -> None:
    assert re.fullmatch(r"\d+\.\d{6}\n", loaded.run("module", "stats", "-R", "-p", "utime", "m").stdout)


def test_clear_all_is_an_event(loaded: Instance) -> None:
    assert loaded.run("module", "stats", "-C", "m").returncode == 0
    assert [(line["type"], line["topic"]) for line in loaded.take()] == [("event", "m.stats-clear")]


@pytest.mark.parametrize(
    ("options", "mask"),
    [("", "0x6"), ("-s 1", "0x7"), ("-c 2", "0x4"), ("-S 0x10", "0x10"), ("-C", "0x0"), ("--setbit=8", "0xe")],
)
def test_debug(loaded: Instance, options: str, mask: str) -> None:
    loaded.run("module", "debug", "-S", "6", "m")
    assert loaded.run("module", "debug", *options.split(), "m").stdout == f"{mask}\n"


# Trace.


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def told() -> list[dict[str, Any]]:
    path = Path(__file__).parents[2] / "vectors" / "broker-module.jsonl"
    lines = map(json.loads, path.read_text().splitlines())
    return [line["payload"] for line in lines if line.get("topic") == "module.trace" and line["dir"] == "b>c"]


def test_trace_lines(utc: None) -> None:
    assert [Printer().text(entry) for entry in told()] == [
        "2026-11-22T02:16:44.904 kvs rx > kvs.lookup [49]",
        "2026-11-22T02:16:44.905 kvs tx < kvs.lookup [0] ENOENT",
        "2026-11-22T02:16:44.905 kvs rx > kvs.disconnect [0]",
    ]


def test_trace_in_full_with_human_times(utc: None) -> None:
    entries = told()
    entries[1] |= {"errstr": "no such key"}
    printer = Printer(human=True, full=True)
    assert [printer.text(entry) for entry in entries] == [
        '[Nov22 02:16] kvs rx > kvs.lookup [49]\n{\n  "key": "nosuch",\n  "namespace": "primary",\n  "flags": 0\n}',
        "[  +0.000143] kvs tx < kvs.lookup [0] ENOENT no such key",
        "[  +0.000788] kvs rx > kvs.disconnect [0]",
    ]


@pytest.mark.parametrize(
    ("entry", "end"),
    [
        ({"type": 2, "errnum": 0}, "kvs rx < kvs.lookup [49] success"),
        ({"type": 2, "errnum": 9999}, "kvs rx < kvs.lookup [49] 9999"),
        ({"type": 4}, "kvs rx e kvs.lookup [49]"),
        ({"type": 8, "topic": ""}, "kvs rx c  [49]"),
        ({"payload_size": 2048}, "kvs rx > kvs.lookup [2K]"),
    ],
)
def test_trace_of_other_messages(entry: dict[str, Any], end: str) -> None:
    assert Printer().text(told()[0] | entry).partition(" ")[2] == end


def test_trace_colors() -> None:
    line = Printer(color=True).text(told()[1])
    assert "\033[33mkvs\033[0m" in line
    assert line.endswith("\033[31mENOENT\033[0m")


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0"), (1023, "1023"), (1536, "1.5K"), (2290, "2.236K"), (3 << 20, "3M")]
)
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text


def test_trace_follows_until_it_is_ended(loaded: Instance) -> None:
    running = loaded.start("module", "trace", "-t", "request", "-T", "*.ping", "m")
    try:
        with loaded.news:
            assert loaded.news.wait_for(lambda: any(line["topic"] == "module.trace" for line in loaded.sent), 30)
        with flux.Flux(loaded.uri) as handle:
            handle.rpc("m.ping", {}).get()
        assert running.stdout is not None
        assert running.stdout.readline().rstrip("\n").partition(" ")[2] == "m rx > m.ping [3]"
        request = next(line for line in loaded.take() if line["topic"] == "module.trace")
        wanted = {"typemask": 1, "topic_glob": "*.ping", "names": ["m"], "full": False}
        assert request["payload"] == wanted
        assert request["flags"] == recording("broker-module", 16)[0]["flags"]
    finally:
        running.terminate()
        running.communicate()
