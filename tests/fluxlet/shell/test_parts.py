"""Small parts of the shell: environment, limits, options, process tables, files."""

from __future__ import annotations

import os
import resource
import stat
from pathlib import Path
from typing import Any

import pytest

from fluxlet.shell import environment, options, output, proctable, rlimits, staging
from fluxlet.shell.options import ShellError

PLACE = environment.Place("local:///run/local-0", "/", "vm")


def env_of(job: dict[str, str | None], mpi: bool = True) -> dict[str, str]:
    common = environment.of_jobs(job, PLACE, ntasks=4, nnodes=2)
    return environment.of_job(common, PLACE, 1, "ƒ2", "/t", mpi)


def test_the_environment_of_a_task() -> None:
    assert env_of({"A": "b", "GONE": None, "FLUX_PROXY_REMOTE": "x", "FLUX_URI": "other"}) == {
        "A": "b",
        "FLUX_URI": "local:///run/local-0",
        "FLUX_KVS_NAMESPACE": "job-1",
        "FLUX_JOB_ID": "ƒ2",
        "FLUX_JOB_ID_PATH": "/ƒ2",
        "FLUX_JOB_SIZE": "4",
        "FLUX_JOB_NNODES": "2",
        "FLUX_JOB_TMPDIR": "/t",
        "FLUX_TERMINUS_SESSION": "0",
        "OMPI_MCA_btl_vader_backing_directory": "/t",
    }
    assert "OMPI_MCA_btl_vader_backing_directory" not in env_of({}, mpi=False)
    assert env_of({"HOSTNAME": "other"})["HOSTNAME"] == "vm"


def test_tmpdir_is_made_or_replaced(tmp_path: Path) -> None:
    env = {"TMPDIR": str(tmp_path / "a" / "b")}
    assert environment.usable_tmpdir(env) is None
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    env = {"TMPDIR": str(tmp_path / "file" / "x")}
    warning = f"Unable to create TMPDIR={tmp_path}/file/x, resetting TMPDIR=/tmp"
    assert environment.usable_tmpdir(env) == warning
    assert env["TMPDIR"] == "/tmp"


def test_programs_are_found_by_the_path_of_the_job(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "prog").touch(0o644)
    env = {"PATH": f"{tmp_path}/a:{tmp_path}/b"}
    with pytest.raises(PermissionError):
        environment.find_program("prog", env)
    (tmp_path / "b" / "prog").touch(0o755)
    assert environment.find_program("prog", env) == f"{tmp_path}/b/prog"
    with pytest.raises(FileNotFoundError):
        environment.find_program("other", env)
    assert environment.find_program("./x", env) == "./x"


def test_limits_that_differ() -> None:
    present = dict.fromkeys(rlimits.NAMES.values(), (100, 200))
    assert rlimits.wanted({"nofile": 100, "core": 50}, present) == ([(resource.RLIMIT_CORE, 50)], [])
    different, warnings = rlimits.wanted({"nofile": 300, "as": -1}, present)
    assert different == [(resource.RLIMIT_NOFILE, 200), (resource.RLIMIT_AS, 200)]
    assert warnings[0] == "rlimit: nofile exceeds current max, raising value to hard limit"
    with pytest.raises(ValueError, match=r"^invalid shell option rlimit\.bogus=1$"):
        rlimits.wanted({"bogus": 1}, present)


def test_options_have_types() -> None:
    given = {"a": {"b": "1.5m", "c": 3, "d": "none", "e": []}}
    assert options.get(given, "a.c") == 3
    assert options.get(given, "a.x.y", 7) == 7
    assert options.seconds(given, "a.b", None) == 90.0
    assert options.seconds(given, "a.d", 1.0) is None
    assert options.integer(given, "a.c", 0) == 3
    for call in (options.seconds, options.integer, options.text):
        with pytest.raises(ShellError, match=r"^invalid value for option a\.e"):
            call(given, "a.e", 0)  # type: ignore[operator]


def test_where_output_goes() -> None:
    def targets(given: dict[str, Any]) -> tuple[output.Target, output.Target]:
        found = output.targets({"output": given}, "1G").streams
        return found["stdout"], found["stderr"]

    to_f = {"type": "file", "path": "f", "label": True}
    out, err = targets({"stdout": to_f})
    assert (out.path, out.label, err.path, err.label) == ("f", True, "f", True)
    out, err = targets({"stdout": to_f, "stderr": {"type": "kvs"}})
    assert (out.path, err.path) == ("f", None)
    out, err = targets({"stderr": {"type": "file", "path": "{{taskid}}"}})
    assert (out.path, err.path, err.per) == (None, "{{taskid}}", "task")
    assert targets({"stdout": {"type": "file", "path": "{{node.id}}"}})[0].per == "node"
    assert targets({"stdout": {"type": "file", "path": "{{id}}"}, "mode": "append"})[0].append
    assert targets({"stdout": {"type": "term"}})[0].path is None
    found = output.targets({"output": {"mode": "bogus", "limit": "2k"}}, "1G")
    assert found.warnings == ("ignoring invalid output.mode=bogus",)
    assert (found.limit, found.to_files) == (2048, False)
    assert output.targets({}, "1G").limit == 1 << 30


def test_process_tables_are_the_recorded_ones() -> None:
    entries = [
        proctable.Entry("vm", "sleep", 0, 32415, 0),
        proctable.Entry("vm", "sleep", 1, 32416, 0),
        proctable.Entry("vm", "sleep", 2, 32414, 1),
    ]
    assert proctable.encode(entries) == {
        "hosts": [["vm", [[-1, -2]]]],
        "executables": [["sleep", [[-1, -2]]]],
        "ids": [[0, 2]],
        "pids": [[32415, 1], -2],
        "ranks": [[0, -1], 1],
    }
    assert proctable.encode(entries[2:]) == {
        "hosts": ["vm"],
        "executables": ["sleep"],
        "ids": [2],
        "pids": [32414],
        "ranks": [1],
    }


def test_files_are_written(tmp_path: Path) -> None:
    directory = str(tmp_path)
    staging.write_files(
        {
            "script": {"mode": 0o100700, "data": "#!/bin/sh\n", "encoding": "utf-8"},
            "conf.json": {"mode": 0o100600, "data": {"a": 1}},
            "bin": {"mode": 0o100600, "data": "AAE=", "encoding": "base64"},
            "plain": "text",
        },
        directory,
    )
    assert (tmp_path / "script").read_text() == "#!/bin/sh\n"
    assert stat.S_IMODE(os.stat(tmp_path / "script").st_mode) == 0o700
    assert (tmp_path / "conf.json").read_text() == '{"a":1}'
    assert (tmp_path / "bin").read_bytes() == b"\0\1"
    assert (tmp_path / "plain").read_text() == "text"
    for bad in ({"../x": "a"}, {"/x": "a"}, {"x": 3}, {"x": {"data": "a", "encoding": "rot13"}}):
        with pytest.raises(ShellError, match=r"^files: "):
            staging.write_files(bad, directory)


def test_files_in_pieces(tmp_path: Path) -> None:
    refs = ["sha1-" + digit * 40 for digit in "ab"]
    entry = {"encoding": "blobvec", "data": [[6, 2, refs[1]], [0, 3, refs[0]]], "size": 10, "mode": 0o100755}
    assert staging.blobrefs({"x": entry, "y": "text"}) == set(refs)
    staging.write_files({"x": entry}, str(tmp_path), {refs[0]: b"abc", refs[1]: b"de"})
    assert (tmp_path / "x").read_bytes() == b"abc\0\0\0de\0\0"
    assert stat.S_IMODE(os.stat(tmp_path / "x").st_mode) == 0o755
    with pytest.raises(ShellError, match="has not the size that it should have"):
        staging.write_files({"x": entry}, str(tmp_path), {refs[0]: b"abcd", refs[1]: b"de"})
    for data in (
        "text",
        [[0, 1]],
        [[-1, 1, refs[0]]],
        [[0, 1, "sha1-xyz"]],
        [[True, 1, refs[0]]],
        [[1 << 70, 1, refs[0]]],
    ):
        with pytest.raises(ShellError, match=r"^files: invalid entry for x$"):
            staging.blobrefs({"x": entry | {"data": data}})
    with pytest.raises(ShellError, match=r"^files: (invalid entry for )?x"):
        staging.write_files({"x": entry | {"size": 1 << 61}}, str(tmp_path), {refs[0]: b"abc", refs[1]: b"de"})
