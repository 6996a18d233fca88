"""The `flux` command: options, finding sub-commands, the environment they get (spec 03, section 2)."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from fluxlet.cmd.builtins import BUILTINS, FORMER, GROUPS
from fluxlet.cmd.driver import similarity
from fluxlet.cmd.environment import driver_environment, search_path, unique

FLUX = str(Path(sys.executable).parent / "flux")


def flux(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs `flux WORDS` outside of any instance."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("FLUX_")}
    own.pop("PYTHONPATH", None)
    return subprocess.run(
        [FLUX, *words], env={**own, **environ}, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30
    )


def script(directory: Path, name: str, text: str, mode: int = 0o755) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(text)
    path.chmod(mode)
    return path


# Options.


def test_help_lists_the_commands_on_stderr() -> None:
    done = flux("--help")
    assert (done.returncode, done.stdout) == (0, "")
    lines = done.stderr.splitlines()
    assert lines[0] == "Usage: flux [OPTIONS] COMMAND ARGS"
    assert f"   {'start':<18} Start a Flux instance" in lines
    assert lines[-2:] == ["", "See 'flux help COMMAND' for more information about a specific command."]


def test_without_a_command_the_usage_is_an_error() -> None:
    done = flux()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == flux("-h").stderr


@pytest.mark.parametrize(("word", "shown"), [("--badopt", "--badopt"), ("-z", "-z"), ("-vz", "-z"), ("--", None)])
def test_unknown_options_are_named(word: str, shown: str | None) -> None:
    done = flux(word)
    assert done.returncode == 1
    if shown:
        assert done.stderr == f"flux: unrecognized option '{shown}'\nTry `flux --help' for more information.\n"


@pytest.mark.parametrize("words", [["-V"], ["--version"], ["version"]])
def test_versions_are_printed(words: list[str]) -> None:
    assert flux(*words).stdout.startswith("commands:    \t\t0.88.")


def test_verbose_shows_environment_search_path_and_attempts(tmp_path: Path) -> None:
    script(tmp_path, "flux-hello", "#!/bin/sh\necho hello\n")
    done = flux("-v", "hello", PATH=f"/usr/bin:/bin:{tmp_path}")
    assert f"flux: trying to exec {tmp_path}/flux-hello\n" in done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("FLUX_EXEC_PATH=") for line in lines)
    assert any(line.startswith("sub-command search path: ") and str(tmp_path) in line for line in lines)
    assert lines[-1] == "hello"


@pytest.mark.parametrize("option", ["-p", "--parent", "-r", "--root", "-pp"])
def test_the_parent_needs_a_broker_to_ask(option: str) -> None:
    done = flux(option, "env", FLUX_URI="local:///nosuch/local-0")
    assert (done.returncode, done.stderr) == (1, "flux: flux_open: No such file or directory\n")


@pytest.mark.parametrize("option", ["-p", "-r"])
def test_the_parent_of_the_root_instance_is_itself(option: str) -> None:
    done = flux("start", f"echo $FLUX_URI; flux {option} env | grep FLUX_URI")
    uri, exported = done.stdout.split("\n", 1)
    assert exported == f'export FLUX_URI="{uri}"\n', done.stderr


# Finding commands.


def test_programs_named_flux_something_in_path_are_commands(tmp_path: Path) -> None:
    script(tmp_path, "flux-hello", '#!/bin/sh\necho "$0 $*"; exit 5\n')
    done = flux("hello", "--opt", "a b", PATH=f"/usr/bin:/bin:{tmp_path}")
    assert (done.returncode, done.stdout) == (5, f"{tmp_path}/flux-hello --opt a b\n")


def test_python_commands_run_as_main_program_with_the_users_python_path(tmp_path: Path) -> None:
    script(
        tmp_path,
        "flux-hello.py",
        "import os, sys, flux\nprint(__name__, sys.argv, os.environ.get('PYTHONPATH'))\nsys.exit(6)\n",
    )
    done = flux("hello", "x", FLUX_EXEC_PATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (6, f"__main__ ['{tmp_path}/flux-hello.py', 'x'] None\n")


def test_prepended_python_path_comes_first_in_python_commands(tmp_path: Path) -> None:
    script(tmp_path, "flux-hello.py", "import sys\nprint(sys.path[0])\n")
    done = flux("hello", FLUX_EXEC_PATH=str(tmp_path), FLUX_PYTHONPATH_PREPEND="/mine")
    assert done.stdout == "/mine\n"


def test_an_interrupted_command_ends_by_the_signal_without_a_traceback(tmp_path: Path) -> None:
    script(tmp_path, "flux-hello.py", "import signal\nsignal.raise_signal(signal.SIGINT)\n")
    done = flux("hello", FLUX_EXEC_PATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (-2, "")


def test_the_first_that_can_be_executed_wins_python_before_program(tmp_path: Path) -> None:
    script(tmp_path / "a", "flux-hello.py", "print('not executable')", mode=0o644)
    script(tmp_path / "b", "flux-hello", "#!/nosuch/interpreter\n")
    script(tmp_path / "c", "flux-hello", "#!/bin/sh\necho program\n")
    script(tmp_path / "c", "flux-hello.py", "print('python')")
    path = ":".join(f"{tmp_path}/{name}" for name in "abc")
    assert flux("hello", FLUX_EXEC_PATH=path).stdout == "python\n"


def test_a_builtin_wins_over_a_file_of_its_name(tmp_path: Path) -> None:
    script(tmp_path, "flux-version", "#!/bin/sh\necho mine\n")
    assert flux("version", FLUX_EXEC_PATH_PREPEND=str(tmp_path)).stdout.startswith("commands:")


def test_a_word_with_a_slash_is_a_path(tmp_path: Path) -> None:
    path = script(tmp_path, "anything", '#!/bin/sh\necho "$1 $FLUX_EXEC_PATH"\n')
    done = flux(str(path), "arg")
    assert done.stdout.startswith("arg /")
    done = flux("/nosuch/path")
    assert (done.returncode, done.stderr) == (1, "flux: /nosuch/path: No such file or directory\n")


@pytest.mark.parametrize(
    ("word", "similar"),
    [("xyzzyxyzzy", []), ("strat", ["start"]), ("getatt", ["getattr"]), ("vers", ["version"])],
)
def test_unknown_commands_are_answered_with_similar_ones(word: str, similar: list[str]) -> None:
    done = flux(word, PATH="/nosuch")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0] == f"flux: `{word}' is not a flux command.  See 'flux --help'"
    assert [line.removeprefix("flux: \t") for line in lines[2:]][: len(similar)] == similar
    if similar:
        assert lines[1] == f"flux: The most similar command{' is' if len(lines) == 3 else 's are'}"
    else:
        assert len(lines) == 1


def test_commands_of_older_releases_are_answered_with_what_is_in_their_place() -> None:
    done = flux("mini", "submit", "hostname")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "flux: `mini' is not a flux command.  See 'flux --help'",
        "flux: It was one in older releases. In its place there is",
        *(f"flux: \t{other}" for other in ("run", "submit", "bulksubmit", "batch", "alloc")),
    ]
    assert not FORMER.keys() & BUILTINS.keys()
    assert {other.split()[0] for others in FORMER.values() for other in others} <= BUILTINS.keys()
    done = flux("job", "drain")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        1,
        "flux-job: drain is not there any more: use flux queue drain",
    )


@pytest.mark.parametrize(
    ("typed", "known", "distance"),
    [("resou", "resource", 0), ("reso", "resource", 3), ("start", "start", 0), ("strat", "start", 2), ("a", "b", 1)],
)
def test_similarity_is_edit_distance_less_for_beginnings(typed: str, known: str, distance: int) -> None:
    assert similarity(typed, known) == distance


def test_every_builtin_can_be_imported_and_is_in_a_known_group() -> None:
    for place, group, text in BUILTINS.values():
        module, _, function = place.partition(":")
        assert callable(getattr(import_module(module), function))
        assert group in {"", *(name for name, _ in GROUPS)}
        assert text


def test_python_m_fluxlet_is_flux() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fluxlet", "start", "command -v flux"], capture_output=True, text=True, timeout=30
    )
    assert done.stdout.strip() == FLUX, done.stderr


# The environment.


def test_lists_lose_duplicates_and_empty_entries_the_first_stays() -> None:
    assert unique("b:a", None, "", "a::c:b") == "b:a:c"
    assert unique("b;a", "a;c", separator=";") == "b;a;c"


@pytest.mark.parametrize("name", ["EXEC", "CONNECTOR", "MODULE"])
def test_search_paths_are_prepend_then_ours_then_the_users(name: str) -> None:
    variable = f"FLUX_{name}_PATH"
    ours = driver_environment({}, None)[variable]
    assert ours.startswith("/")
    found = driver_environment({f"{variable}_PREPEND": "/p:/u", variable: f"/u:{ours}:/v"}, None)[variable]
    assert found == f"/p:/u:{ours}:/v"
    assert driver_environment({variable: found}, None)[variable].split(":")[0] == ours


def test_manual_and_lua_paths_keep_the_systems_own() -> None:
    found = driver_environment({}, None)
    assert found["MANPATH"].endswith("/man:")
    assert found["LUA_PATH"].endswith("/?.lua;;")
    assert found["LUA_CPATH"].endswith("/?.so;;")
    assert driver_environment({"MANPATH": "/m"}, None)["MANPATH"].endswith("/man:/m")


def test_python_path_is_touched_only_if_asked_to() -> None:
    assert "PYTHONPATH" not in driver_environment({"PYTHONPATH": "/u"}, None)
    found = driver_environment({"PYTHONPATH": "/u", "FLUX_PYTHONPATH_PREPEND": "/p"}, None)
    assert found["PYTHONPATH"] == "/p:/u"


def test_some_lists_of_the_user_are_only_rid_of_duplicates() -> None:
    found = driver_environment({"FLUX_RC_EXTRA": "/a:/b:/a"}, None)
    assert found["FLUX_RC_EXTRA"] == "/a:/b"
    assert "FLUX_SHELL_RC_PATH" not in found


def test_path_puts_our_directory_before_any_other_flux_and_no_further(tmp_path: Path) -> None:
    ours = script(tmp_path / "ours", "flux", "")
    script(tmp_path / "other", "flux", "")
    (tmp_path / "plain").mkdir()
    plain, other, mine = (str(tmp_path / name) for name in ("plain", "other", "ours"))
    assert search_path(f"{plain}:{other}", str(ours)) == f"{plain}:{mine}:{other}"
    assert search_path(f"{plain}:{other}:{mine}", str(ours)) == f"{plain}:{mine}:{other}:{mine}"
    assert search_path(f"{plain}:{mine}:{other}", str(ours)) == f"{plain}:{mine}:{other}"
    assert search_path(plain, str(ours)) == f"{plain}:{mine}"
    assert search_path(plain, None) == plain
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "flux").symlink_to(ours)
    assert search_path(f"{tmp_path}/link:{other}", str(ours)) == f"{tmp_path}/link:{other}"


# What commands do not pay for.


def test_a_small_command_imports_nothing_that_it_does_not_need(instance_uri: str) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "fluxlet.cmd.driver", "getattr", "size"]
    done = subprocess.run(
        command, env={**os.environ, "FLUX_URI": instance_uri}, capture_output=True, text=True, timeout=30
    )
    assert (done.stdout, done.returncode) == ("1\n", 0)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "flux.core.handle" in loaded
    unwanted = ("socket", "selectors", "asyncio", "argparse", "logging", "subprocess", "msgspec", "yaml", "rich", "zmq")
    assert [name for name in unwanted if name in loaded] == []
    assert not any(name.startswith("fluxlet.broker") for name in loaded)


def test_programs_written_in_python_run_with_the_garbage_collector_and_leave_as_python_does(tmp_path: Path) -> None:
    text = "import atexit, gc\natexit.register(print, 'atexit')\nprint(gc.isenabled())\n"
    script(tmp_path, "flux-collects.py", text)
    assert flux("collects", FLUX_EXEC_PATH_PREPEND=str(tmp_path)).stdout == "True\natexit\n"
