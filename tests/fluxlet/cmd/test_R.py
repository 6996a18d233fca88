"""flux R: R objects on standard input and output (spec 07, 2.6)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FLUX = str(Path(sys.executable).parent / "flux")


def run(*words: str, stdin: str = "") -> tuple[int, str, str]:
    done = subprocess.run([FLUX, "R", *words], input=stdin, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def ok(*words: str, stdin: str = "") -> str:
    code, out, err = run(*words, stdin=stdin)
    assert (code, err) == (0, "")
    return out


def short(r: str) -> str:
    return ok("decode", "--short", stdin=r).strip()


NODES = ("encode", "-r0-3", "-c0-3", "-g0", "-Hn[0-3]", "-pall", "-pbig:2-3")


def test_encode_and_decode() -> None:
    r = ok(*NODES)
    execution = json.loads(r)["execution"]
    assert execution["R_lite"] == [{"rank": "0-3", "children": {"core": "0-3", "gpu": "0"}}]
    assert (execution["nodelist"], execution["properties"]) == (["n[0-3]"], {"all": "0-3", "big": "2-3"})
    assert json.loads(ok("decode", stdin=r)) == json.loads(r)
    for words, text in [
        (["-s"], "rank[0-3]/core[0-3],gpu0"),
        (["-n"], "n[0-3]"),
        (["-r"], "0-3"),
        (["-c", "core"], "16"),
        (["-c", "node"], "4"),
        (["-r", "-i", "1-2"], "1-2"),
        (["-r", "-x", "1-2"], "0,3"),
        (["-r", "-p", "big"], "2-3"),
        (["-r", "-p", "^big,all"], "0-1"),
    ]:
        assert ok("decode", *words, stdin=r) == f"{text}\n"
    assert short(ok("encode")) == "rank0/core0"
    assert short(ok("encode", "-Ha,b")) == "rank[0-1]/core0"


def test_encode_what_is_here(tmp_path: Path) -> None:
    execution = json.loads(ok("encode", "--local"))["execution"]
    assert execution["nodelist"] == [os.uname().nodename]
    xml = tmp_path / "0.xml"
    inside = '<info name="HostName" value="far"/><object type="Core"/><object type="Core"/>'
    xml.write_text(f'<topology><object type="Machine">{inside}</object></topology>')
    assert ok("decode", "-n", stdin=ok("encode", "-f", str(xml))) == "far\n"
    assert short(ok("encode", f"--xml={xml}")) == "rank0/core[0-1]"


def test_combining() -> None:
    left, right = ok("encode", "-r0-1", "-c0-3"), ok("encode", "-r1-2", "-c2-5")
    assert short(ok("append", stdin=left + right)) == "rank0/core[0-3] rank1/core[0-5] rank2/core[2-5]"
    assert short(ok("diff", stdin=left + right)) == "rank0/core[0-3] rank1/core[0-1]"
    assert short(ok("intersect", stdin=left + "\n\n" + right)) == "rank1/core[0-3]"


def test_numbers_of_ranks() -> None:
    r = ok("encode", "-r5,7", "-Ha,b", "-px:7")
    assert ok("decode", "-r", stdin=ok("remap", stdin=r)) == "0-1\n"
    reranked = json.loads(ok("rerank", "b,a", stdin=r))["execution"]
    assert (reranked["nodelist"], reranked["properties"]) == (["b,a"], {"x": "0"})
    assert run("rerank", "b,c", stdin=r)[2] == "flux-R: host a is not in the list\n"
    assert run("rerank", "b", stdin=r)[2] == "flux-R: R has 2 ranks, and there are 1 hosts\n"


def test_verify() -> None:
    small, large = ok("encode", "-c0-1", "-Ha"), ok("encode", "-r0-1", "-c0-3", "-Ha,b")
    assert run("verify", stdin=small + large) == (0, "", "")
    code, _, err = run("verify", stdin=large + small)
    assert (code, err) == (1, "flux-R: rank 0 (a) missing resources: core[2-3]\nflux-R: rank 1 is missing\n")


def test_properties_and_configuration(tmp_path: Path) -> None:
    r = ok("set-property", "a:0", "b", stdin=ok("encode", "-r0-1"))
    assert json.loads(r)["execution"]["properties"] == {"a": "0", "b": "0-1"}
    conf = tmp_path / "r.toml"
    conf.write_text('[[resource.config]]\nhosts = "a[0-1]"\ncores = "0-3"\n')
    assert short(ok("parse-config", str(conf))) == "rank[0-1]/core[0-3]"
    conf.write_text('[[resource.config]]\nhosts = "a[0-1]"\n')
    assert run("parse-config", str(conf))[2] == "flux-R: resource.config: a[0-1] assigned no resources\n"
    conf.write_text("")
    assert run("parse-config", str(conf))[2] == f"flux-R: {conf}: no resources are configured\n"


@pytest.mark.parametrize(
    ("words", "stdin", "text"),
    [
        (["decode"], "", "stdin: no R object"),
        (["decode"], "x", "stdin: not an R object: "),
        (["decode"], "{}", "stdin: not an R object: "),
        (["decode"], '{"version": 1}{"version": 1}', "stdin: 2 R objects, where one is expected"),
        (["verify"], '{"version": 1}', "stdin: 1 R objects, where two are expected"),
        (["decode", "-i", "x"], '{"version": 1}', "IDset(): Invalid argument: x"),
        (["encode", "-c", "x"], "", "IDset(): Invalid argument: x"),
        (["encode", "-l", "-c", "1"], "", "--cores and --gpus do not go with --local"),
        (["encode", "-r0-1", "-Ha"], "", "2 ranks and 1 hosts: there must be as many of these"),
        (["encode", "-px^"], "", "invalid property name 'x^'"),
        (["encode", "-px:7"], "", "ranks 7 not in resource set"),
        (["encode", "-f", "/nosuch"], "", "No such file or directory"),
        (["parse-config", "/nosuch"], "", "/nosuch"),
    ],
)
def test_what_is_wrong_is_said(words: list[str], stdin: str, text: str) -> None:
    code, out, err = run(*words, stdin=stdin)
    assert (code, out) == (1, "")
    assert err.startswith("flux-R: ")
    assert text in err
