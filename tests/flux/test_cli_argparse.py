"""flux.cli.argparse: hidden aliases, and options that end at the first word that is none."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import pytest

from flux.cli.argparse import FluxArgumentParser


def parser(**kwargs: Any) -> FluxArgumentParser:
    result = FluxArgumentParser(prog="p", **kwargs)
    result.add_argument("-n", "--number", hidden_aliases=("--num", "-N"))
    result.add_argument("-v", "--verbose", action="count", default=0)
    result.add_argument("--pair", nargs=2)
    result.add_argument("--maybe", nargs="?", const="yes")
    result.add_argument("--many", nargs="*")
    return result


def command(**kwargs: Any) -> FluxArgumentParser:
    result = parser(posix=True, **kwargs)
    result.add_argument("command", nargs=argparse.REMAINDER)
    return result


def error_of(target: FluxArgumentParser, words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        target.parse_args(words)
    assert caught.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("option", ["-n", "--number", "--num", "-N"])
def test_hidden_alias_works_like_the_option(option: str) -> None:
    assert parser().parse_args([option, "4"]).number == "4"


@pytest.mark.parametrize("where", ["parser", "group", "exclusive", "exclusive in group", "group in subparser"])
def test_hidden_aliases_are_taken_everywhere_and_not_shown(where: str) -> None:
    target = FluxArgumentParser(prog="p")
    words = ["--older", "x"]
    containers: dict[str, Any] = {
        "parser": lambda: target,
        "group": lambda: target.add_argument_group("title", "text"),
        "exclusive": lambda: target.add_mutually_exclusive_group(),
        "exclusive in group": lambda: target.add_argument_group("title").add_mutually_exclusive_group(),
        "group in subparser": lambda: target.add_subparsers().add_parser("sub").add_argument_group("title"),
    }
    container = containers[where]()
    container.add_argument("-o", "--new", hidden_aliases=["--older"])
    if where == "group in subparser":
        words.insert(0, "sub")
    assert target.parse_args(words).new == "x"
    assert "--older" not in target.format_help()
    if where not in ("group in subparser", "exclusive in group"):
        assert "-o, --new=NEW" in target.format_help()


def test_hidden_alias_does_not_name_the_attribute() -> None:
    target = FluxArgumentParser()
    action = target.add_argument("-x", hidden_aliases=["--old-name"])
    assert action.dest == "x"
    assert target.add_argument("-y", "--a-b", "--c", hidden_aliases=["--zz"]).dest == "a_b"
    assert target.add_argument("-w", hidden_aliases=["--www"], dest="other").dest == "other"


def test_string_of_hidden_aliases_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="hidden_aliases"):
        FluxArgumentParser().add_argument("--x", hidden_aliases="--y")


def test_options_are_not_abbreviated_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert "unrecognized arguments: --verb" in error_of(parser(), ["--verb"], capsys)
    assert parser(allow_abbrev=True).parse_args(["--verb"]).verbose == 1


def test_subparsers_are_of_the_same_class() -> None:
    assert type(FluxArgumentParser().add_subparsers().add_parser("sub")) is FluxArgumentParser


def test_formatter_class_of_the_caller_is_kept() -> None:
    target = FluxArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description="a\n  b")
    assert target.formatter_class is argparse.RawDescriptionHelpFormatter
    assert "a\n  b" in FluxArgumentParser(raw_description=True, description="a\n  b").format_help()
    assert "a b" in FluxArgumentParser(description="a\n  b").format_help()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], []),
        (["ls"], ["ls"]),
        (["ls", "-v", "--number=3"], ["ls", "-v", "--number=3"]),
        (["-v", "ls", "-v"], ["ls", "-v"]),
        (["-n", "3", "ls", "-n", "4"], ["ls", "-n", "4"]),
        (["-n3", "ls", "-v"], ["ls", "-v"]),
        (["--number=3", "ls", "-v"], ["ls", "-v"]),
        (["--num", "3", "ls", "-v"], ["ls", "-v"]),
        (["-vvn", "3", "ls", "-v"], ["ls", "-v"]),
        (["-vvn3", "ls", "-v"], ["ls", "-v"]),
        (["--pair", "a", "b", "ls", "-v"], ["ls", "-v"]),
        (["--maybe", "x", "ls", "-v"], ["ls", "-v"]),
        (["--maybe", "-v", "ls", "-v"], ["ls", "-v"]),
        (["--maybe=x", "ls", "-v"], ["ls", "-v"]),
        (["--many", "a", "b", "-v", "ls", "-v"], ["ls", "-v"]),
        (["--", "ls", "-v"], ["--", "ls", "-v"]),
        (["-v", "--", "-v"], ["--", "-v"]),
        (["ls", "--", "-v"], ["ls", "--", "-v"]),
        (["-", "-v"], ["-", "-v"]),
        (["", "-v"], ["", "-v"]),
        (["-1", "-v"], ["-1", "-v"]),
        (["-n", "3"], []),
    ],
)
def test_posix_leaves_the_rest_unchanged(words: list[str], wanted: list[str]) -> None:
    result = command().parse_args(words)
    assert result.command == wanted
    used = words[: len(words) - len(wanted)]
    assert result.verbose == sum(word.count("v") for word in used if word[:1] == "-" and word[:2] != "--")
    if any("3" in word for word in used):
        assert result.number == "3"


def test_posix_knows_options_that_look_like_numbers() -> None:
    target = command()
    target.add_argument("-1", dest="one", action="store_true")
    result = target.parse_args(["-1", "ls"])
    assert (result.one, result.command) == (True, ["ls"])


def test_posix_reads_the_command_line_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["p", "-v", "ls", "-v"])
    result = command().parse_args(namespace=argparse.Namespace(kept=1))
    assert (result.verbose, result.command, result.kept) == (1, ["ls", "-v"], 1)


def test_posix_without_remainder_refuses_words_left_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert error_of(parser(posix=True), ["-v", "a", "-v"], capsys) == "p: error: unrecognized arguments: a -v"


def test_posix_refuses_unknown_options_and_missing_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert "unrecognized arguments: --wrong" in error_of(command(), ["--wrong", "ls"], capsys)
    assert "expected one argument" in error_of(command(), ["-n"], capsys)


@pytest.mark.parametrize(
    ("words", "target", "rest"),
    [(["-v", "t", "ls", "-v"], "t", ["ls", "-v"]), (["t"], "t", []), (["--", "-t", "ls"], "-t", ["ls"])],
)
def test_posix_fills_positionals_before_the_remainder(words: list[str], target: str, rest: list[str]) -> None:
    both = parser(posix=True)
    both.add_argument("target")
    both.add_argument("command", nargs=argparse.REMAINDER)
    result = both.parse_args(words)
    assert (result.target, result.command) == (target, rest)


def test_posix_misses_a_required_positional(capsys: pytest.CaptureFixture[str]) -> None:
    both = parser(posix=True)
    both.add_argument("target")
    assert "required: target" in error_of(both, ["-v"], capsys)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("--out=x", "p: there is no --out, only --output"),
        ("--name=x", "p: there is no --name, only --job-name"),
        ("--nnodes", "p: there is no --nnodes, only --nodes"),
        ("--n", "p: there is no --n, only --nodes and --ntasks"),
        ("--bogus", None),
        ("--sec", None),
    ],
)
def test_what_an_unknown_option_may_be_is_said_before_the_error(
    capsys: pytest.CaptureFixture[str], word: str, meant: str | None
) -> None:
    target = FluxArgumentParser(prog="p", usage="p", add_help=False)
    for option in ("--output", "--job-name", "--nodes", "--ntasks"):
        target.add_argument(option)
    target.add_argument("--visible", hidden_aliases=["--secret"])
    with pytest.raises(SystemExit):
        target.parse_args([word])
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == f"p: error: unrecognized arguments: {word}"
    assert lines[:-2] == ([meant] if meant else [])


@pytest.mark.parametrize("posix", [False, True])
def test_posix_holds_in_subcommands(posix: bool) -> None:
    target = FluxArgumentParser(posix=posix)
    sub = target.add_subparsers().add_parser("sub", posix=True)
    sub.add_argument("-x", action="store_true")
    sub.add_argument("rest", nargs=argparse.REMAINDER)
    for words, x, rest in (
        (["-x", "ls", "-x"], True, ["ls", "-x"]),
        (["-x", "--", "-x"], True, ["--", "-x"]),
        (["", "-x"], False, ["", "-x"]),
    ):
        result = target.parse_args(["sub", *words])
        assert (result.x, result.rest) == (x, rest)
