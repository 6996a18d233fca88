"""flux.util's frame of programs, argparse helpers and configuration files, beyond the golden cases."""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from flux.util import (
    ColorAction,
    FilterActionSetUpdate,
    TreedictAction,
    UtilConfig,
    check_future_error,
    help_formatter,
    interruptible,
    xdg_searchpath,
)


def run_main(body: str, **environment: str) -> subprocess.CompletedProcess[str]:
    code = f"""
import logging, os, signal, sys
from flux.util import CLIMain

@CLIMain(logging.getLogger("flux-test"))
def main():
    {body}
"""
    env = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=60)


@pytest.mark.parametrize(
    ("body", "code", "stderr"),
    [
        ("pass", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('bye')", 1, "bye\n"),
        ("raise ValueError('no good')", 1, "flux-test: ERROR: no good\n"),
        ("raise TimeoutError", 1, "flux-test: ERROR: TimeoutError\n"),
        ("raise OSError(2, 'nothing there')", 1, "flux-test: ERROR: nothing there\n"),
        ("open('/nonexistent/x')", 1, "flux-test: ERROR: No such file or directory: '/nonexistent/x'\n"),
        ("os.kill(os.getpid(), signal.SIGINT)", 130, ""),
    ],
)
def test_program_ends_with(body: str, code: int, stderr: str) -> None:
    result = run_main(body)
    assert (result.returncode, result.stderr) == (code, stderr)


def test_level_of_messages_is_set_by_the_environment() -> None:
    quiet = run_main("raise ValueError('x')", FLUX_PYCLI_LOGLEVEL="50")
    assert (quiet.returncode, quiet.stderr) == (1, "")
    verbose = run_main("raise ValueError('x')", FLUX_PYCLI_LOGLEVEL="10").stderr
    assert verbose.startswith("flux-test: ERROR: x\nflux-test: DEBUG: Traceback (most recent call last)")
    wrong = run_main("pass", FLUX_PYCLI_LOGLEVEL="debug")
    assert wrong.returncode == 1
    assert "FLUX_PYCLI_LOGLEVEL must be a number" in wrong.stderr


# argparse


def parse(action: type[argparse.Action], *words: str, **options: Any) -> Any:
    parser = argparse.ArgumentParser(prog="prog")
    parser.add_argument("--o", action=action, **options)
    return parser.parse_args(words).o


def test_treedict_option_adds_up_and_leaves_its_default_alone() -> None:
    default = {"a": {"z": 0}}
    words = ("--o", "a.b=1", "c=x=y", "--o", "a.c=[2]")
    assert parse(TreedictAction, *words, nargs="+", default=default) == {
        "a": {"z": 0, "b": 1, "c": [2]},
        "c": "x=y",
    }
    assert default == {"a": {"z": 0}}


def test_set_option_leaves_its_default_alone() -> None:
    default = {"a"}
    assert parse(FilterActionSetUpdate, "--o", "b,c", default=default) == {"a", "b", "c"}
    assert parse(FilterActionSetUpdate, "--o", "b") == {"b"}
    assert default == {"a"}


def test_colour_is_off_by_default_under_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert (parse(ColorAction), parse(ColorAction).enabled) == ("never", False)
    assert parse(ColorAction, "--o").enabled
    assert parse(ColorAction, "--o=auto") == "auto"


def test_colour_auto_means_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    when = parse(ColorAction)
    assert not when.enabled  # captured by pytest
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert when.enabled


def test_bad_colour_is_an_error_of_the_parser(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(ColorAction, "--o=foo")
    assert caught.value.code == 2
    assert "prog: error: Invalid argument to --o: 'foo'\n" in capsys.readouterr().err


def test_help_shows_short_only_options_and_hides_aliases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    parser = argparse.ArgumentParser(prog="prog", formatter_class=help_formatter(argwidth=20))
    parser.add_argument("-N", metavar="N", help="short")
    action: Any = parser.add_argument("--name", "--alias", nargs="+", metavar="X", help="long")
    action.hidden_option_strings = ("--alias",)
    lines = parser.format_help().split("options:\n")[1].splitlines()
    assert lines == [
        "  -h, --help        show this help message and exit",
        "  -N N              short",
        "      --name=X [X ...]",
        "                    long",
    ]


# decorators


class FailedFuture:
    def __init__(self, text: str | None) -> None:
        self.text = text

    def error_string(self) -> str | None:
        return self.text

    @check_future_error
    def get(self) -> int:
        raise FileNotFoundError(2, "ENOENT: No such file or directory")


@pytest.mark.parametrize(
    ("text", "shown"), [("no such job", "no such job"), (None, "ENOENT: No such file or directory")]
)
def test_error_of_a_future_has_its_text(text: str | None, shown: str) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        FailedFuture(text).get()
    assert (caught.value.errno, caught.value.strerror) == (2, shown)


def test_interruptible_call_is_interrupted_and_the_handler_put_back() -> None:
    seen: list[int] = []

    def handler(signum: int, frame: object) -> None:
        seen.append(signum)

    @interruptible
    def wait() -> None:
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            wait()
        assert signal.getsignal(signal.SIGINT) is handler
        assert seen == []
    finally:
        signal.signal(signal.SIGINT, before)


def test_interruptible_call_works_in_any_thread() -> None:
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(interruptible(lambda a, b=0: a + b)(1, b=2)))
    thread.start()
    thread.join()
    assert results == [3]


# configuration files


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three configuration directories, `a` the user's; tmp_path has them as a/flux, b/flux, c/flux."""
    for name in "abc":
        (tmp_path / name / "flux").mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "a"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", f"{tmp_path / 'b'}:{tmp_path / 'c'}")
    return tmp_path


def test_searchpath_takes_empty_variables_for_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "")
    monkeypatch.setenv("XDG_CONFIG_DIRS", "/x::")
    monkeypatch.setenv("HOME", "/home/u")
    assert xdg_searchpath("s") == [Path("/home/u/.config/flux/s"), Path("/x/flux/s")]


def test_files_override_by_precedence_and_name(etc: Path) -> None:
    (etc / "c/flux/tool.toml").write_text('who = "c"\n[t]\nc = 1\nx = "c"\n')
    (etc / "b/flux/tool.yaml").write_text("who: b\nt:\n  x: b\n")
    (etc / "a/flux/tool.json").write_text('{"who": "json", "n": 1}')
    (etc / "a/flux/tool.toml").write_text('who = "toml"\n')
    (etc / "a/flux/tool.ini").write_text("ignored")
    (etc / "a/flux/tool2.toml").write_text("who = 2")
    (etc / "b/flux/tool.json").write_text("{}")
    builtin = {"t": {"x": "builtin", "y": "builtin"}}
    config = UtilConfig("tool", initial_dict=builtin).load()
    assert isinstance(config, UtilConfig)
    assert (config.who, config.n) == ("toml", 1)
    assert config.t == {"x": "b", "y": "builtin", "c": 1}
    assert builtin == {"t": {"x": "builtin", "y": "builtin"}}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tool.toml", "[bad\n", "Expected ']' at the end of a table declaration (at line 1, column 5)"),
        ("tool.json", "{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("tool.yaml", "- 1", "the configuration must be a mapping"),
        ("tool.yaml", "a: [", "while parsing a flow node"),
    ],
)
def test_bad_file_is_named(etc: Path, name: str, text: str, message: str) -> None:
    path = etc / "a/flux" / name
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"{path}: {message}")):
        UtilConfig("tool").load()


def test_empty_yaml_file_says_nothing(etc: Path) -> None:
    (etc / "a/flux/tool.yaml").write_text("# nothing\n")
    assert UtilConfig("tool", initial_dict={"k": 1}).load().k == 1


class Tool(UtilConfig):
    builtin_formats = {"default": {"description": "usual", "format": "{a}"}}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("flux-tool", initial_dict={"formats": {**self.builtin_formats}}, **kwargs)

    def validate(self, path: Any, conf: Any) -> None:
        for key in conf:
            if key != "formats":
                raise ValueError(f"{path}: invalid key {key}")
            self.validate_formats(path, conf[key])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[foo]", "invalid key foo"),
        ("formats = 1", "the 'formats' key must be a mapping"),
        ("[formats.default]\nformat = 'x'", "override of builtin format 'default' not permitted"),
        ("[formats]\nx = 1", "'formats.x' must be a mapping"),
        ("[formats.x]\nfoo = 1", "formats.x: required key 'format' missing"),
        ("[formats.x]\nformat = 1", "formats.x: 'format' key must be a string"),
    ],
)
def test_invalid_formats_are_refused(etc: Path, text: str, message: str) -> None:
    path = etc / "a/flux/flux-tool.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path}: {message}')}$"):
        Tool().load()


def test_format_help_lists_formats(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (etc / "a/flux/flux-tool.toml").write_text("[formats.mine]\nformat = '{b}'\n")
    with pytest.raises(SystemExit) as caught:
        Tool(toolname="flux-alias", subcommand="list").load().get_format_string("help")
    assert caught.value.code == 0
    assert capsys.readouterr().out == "\nConfigured flux-alias output formats:\n\n  default      usual\n  mine\n"


def test_format_config_is_toml_that_reads_back(capsys: pytest.CaptureFixture[str]) -> None:
    import tomllib

    entry = {"description": 'say "ƒ"', "format": "{a}\\\n"}
    config = UtilConfig("t", subcommand="list", initial_dict={"list": {"formats": {"x": entry}}})
    with pytest.raises(SystemExit) as caught:
        config.get_format_string("get-config=x")
    assert caught.value.code == 0
    assert tomllib.loads(capsys.readouterr().out) == {"list": {"formats": {"x": entry}}}
    with pytest.raises(ValueError, match=r"^--format: No such format y$"):
        config.get_format_string("get-config=y")


@pytest.mark.parametrize(("value", "fmt"), [("x", "{x}"), ("{own}", "{own}"), ("", "{d}")])
def test_default_format_of_a_subcommand_is_redirected(monkeypatch: pytest.MonkeyPatch, value: str, fmt: str) -> None:
    monkeypatch.setenv("FLUX_TOOL_LIST_ALL_FORMAT_DEFAULT", value)
    table = {"formats": {"default": {"format": "{d}"}, "x": {"format": "{x}"}}}
    config = UtilConfig("flux-tool", subcommand="list-all", initial_dict={"list-all": table})
    assert config.get_format_string("default") == fmt


def test_unknown_format_suggests_braces() -> None:
    with pytest.raises(ValueError, match=r"No such format id name \(Did you mean '\{id\} \{name\}'\?\)"):
        UtilConfig("t").get_format_string("id name")


def test_config_without_the_subcommands_table_is_used_whole() -> None:
    assert UtilConfig("t", subcommand="s", initial_dict={"k": 1}).k == 1
    assert UtilConfig("t", subcommand="s", initial_dict={"k": 1, "s": {"k": 2}}).k == 2


def test_config_can_be_copied() -> None:
    import copy

    assert copy.deepcopy(UtilConfig("t", initial_dict={"k": 1})).k == 1


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_program_whose_output_nobody_reads_ends_in_silence(lines: int) -> None:
    program = (
        "import logging, sys, flux.util\n"
        "@flux.util.CLIMain(logging.getLogger('name'))\n"
        "def main():\n"
        "    sys.stdin.read()\n"
        f"    print('line\\n' * {lines})\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait(timeout=60) == -signal.SIGPIPE
