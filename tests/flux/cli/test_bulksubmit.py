"""flux bulksubmit: which jobs a command line stands for (spec 08, 6.3; recordings: test_command_submit.py)."""

from __future__ import annotations

import io
import json
import shlex
from collections import Counter
from pathlib import Path
from typing import Any, TextIO

import pytest

from flux.cli.bulksubmit import BulkSubmitCmd
from flux.cli.submit import SubmitCmd
from flux.cli.xcmd import InputError, ReplacementError, Variant, Xcmd, replaced


def commands(line: str) -> list[Xcmd]:
    command = BulkSubmitCmd("bulksubmit")
    return command.create_commands(command.parse(shlex.split(line)))


def shown(line: str) -> list[str]:
    return [str(command) for command in commands(line)]


@pytest.mark.parametrize(
    ("line", "jobs"),
    [
        # Lists of inputs.
        ("echo {} ::: a b", ["echo a", "echo b"]),
        ("echo {0}{1} ::: a b ::: 1 2", ["echo a1", "echo a2", "echo b1", "echo b2"]),
        ("echo {} {} ::: a ::: 1", ["echo a a"]),  # counted word by word
        ("echo {}{} ::: a ::: 1", ["echo a1"]),
        ("::: true hostname", ["true", "hostname"]),
        # Linked ones have no part in the product.
        ("echo {0}{1} ::: a b :::+ 1 2", ["echo a1", "echo b2"]),
        ("echo {0}{1}{2} ::: a b :::+ 1 2 3 ::: x y", ["echo a1x", "echo a2y", "echo b3x", "echo b1y"]),
        ("echo {0}{1} :::+ a b ::: 1 2", ["echo a1", "echo a2", "echo b1", "echo b2"]),
        # The only input need not be numbered, however often it is there.
        ("sh -c 'echo {} {0} {:>3} {./}' ::: a/b", ["sh -c echo a/b a/b a/b b"]),
        # What is known of inputs.
        ("{0.%} {0./} {0.//} {0./%} ::: /d/e.f.g", ["/d/e.f e.f.g /d e.f"]),
        ("{1.//} {0./} ::: a/b ::: c/d", ["c b"]),
        ("{seq} {seq1} {seq:03} ::: a b", ["0 1 000", "1 2 001"]),
        # Braces for the shell of the job stay, also around a field.
        ("{{id}} {{{0}}} {{{}}} ::: a", ["{{id}} {{a}} {{a}}"]),
        # Attributes of the user's own.
        ("--define=p=2**int(x) -n {.p} true ::: 0 3", ["-n1 true", "-n8 true"]),
        ("--define='two=[x, x.upper()]' {.two} a{.two}b ::: x", ["x X ax Xb"]),
        ("--define='two=x.split(\",\")' -o {.two} true ::: a=1,b=2", ["-oa=1 -ob=2 true"]),
        # Options.
        ("--job-name={} -t{1}m -N{1} --env=A={0} true {0} ::: a ::: 5", ["-N5 -t5m --env=A=a --job-name=a true a"]),
        ("--cc=0-{} true {cc} {seq}-{cc:02} ::: 1 2", ["--cc=0-1 true {cc} 0-{cc:02}", "--cc=0-2 true {cc} 1-{cc:02}"]),
        ("true {cc} {cc:03} ::: a", ["true  "]),
        ("--urgency=hold --quiet --wait true ::: a", ["--urgency=hold true"]),
    ],
)
def test_there_is_a_job_for_each_combination(line: str, jobs: list[str]) -> None:
    assert shown(line) == jobs


def test_a_list_is_several_words_only_where_it_stands_alone() -> None:
    (command,) = commands("--define='two=[1, 2]' {.two} a{.two} ::: x")
    assert command.command == ["1", "2", "a1 2"]


@pytest.mark.parametrize(
    ("line", "kind", "text"),
    [
        ("true {3} ::: 1", ReplacementError, "Invalid replacement string in command: '{3}'"),
        ("true {foo} ::: 1", ReplacementError, "Invalid replacement string in command: '{foo}'"),
        ("true { ::: 1", ReplacementError, "Invalid replacement string in command: '{'"),
        ("true {0[0]} ::: 1", ReplacementError, "Invalid replacement string in command: '{0[0]}'"),
        ("--job-name={foo} true ::: 1", ReplacementError, "Replacement key 'foo' not found in '--job-name={foo}'"),
        ("-n {4} true ::: 1", ReplacementError, "Invalid replacement index in -n{4}'"),
        ("true {0.nope} ::: 1", InputError, "Unknown input string method '.nope'"),
        ("true {.upper} ::: 1", InputError, "Unknown input string method '.upper'"),
        ("--define=d=1/0 true {.d} ::: 1", InputError, "--define=d: '1': ZeroDivisionError: division by zero"),
        ("--define=d=1+ true ::: 1", ValueError, "--define=d=1+: invalid syntax (--define=d, line 1)"),
        ("--define=d true ::: 1", ValueError, "--define: missing required value in 'd': NAME=CODE"),
        ("true :::", ValueError, "no jobs provided for bulk submission"),
        ("true ::: a :::+", ValueError, "no jobs provided for bulk submission"),
        ("true :::: a b", ValueError, "Multiple args not allowed after ::::"),
        ("true ::::", ValueError, "No file given after ::::"),
        ("--sep= true ::: a", ValueError, "--sep: the separator is empty"),
    ],
)
def test_what_is_no_command_line_is_told(line: str, kind: type[ValueError], text: str) -> None:
    with pytest.raises(kind) as error:
        commands(line)
    assert (type(error.value), str(error.value)) == (kind, text)


@pytest.mark.parametrize(
    ("sep", "text", "items"),
    [
        ("", "a\n\nb c\n", ["a", "b c"]),
        ("--sep=none", "a\n b\tc\n", ["a", "b", "c"]),
        ("--sep=,", "a,b c,,d\n", ["a", "b c", "d"]),
        (r"--sep='\t'", "a\tb\n", ["a", "b"]),
        (r"--sep='\0'", "a\0b\nc\0", ["a", "b\nc"]),
    ],
)
def test_inputs_are_what_is_between_separators_of_a_file(sep: str, text: str, items: list[str], tmp_path: Path) -> None:
    (tmp_path / "inputs").write_text(text)
    assert [command.command for command in commands(f"{sep} {{}} :::: {tmp_path}/inputs")] == [[item] for item in items]
    linked = commands(f"{sep} {{0}} {{1}} ::: x ::::+ {tmp_path}/inputs")
    assert [command.command for command in linked] == [["x", items[0]]]


def test_inputs_come_from_stdin_if_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a\nb\n"))
    assert shown("echo") == ["echo", "echo"]
    monkeypatch.setattr("sys.stdin", io.StringIO("a\nb\n"))
    assert shown("echo {0}{1} ::: x :::: -") == ["echo xa", "echo xb"]


def test_shuffled_jobs_are_the_same_ones_with_their_numbers() -> None:
    line = f"{{}}:{{seq}} ::: {' '.join(map(str, range(100)))}"
    ordered, shuffled = shown(line), shown(f"--shuffle {line}")
    assert ordered == [f"{n}:{n}" for n in range(100)]
    assert shuffled != ordered
    assert Counter(shuffled) == Counter(ordered)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("{cc}", "7"),
        ("a{cc}b{cc}", "a7b7"),
        ("{cc:03}|{cc:>3}|{cc!r}|{cc:x<2s}", "007|  7|'7'|7x"),
        ("{{cc}} {x} {} ${FLUX_JOB_CC-unset} {ccc}", "{{cc}} {x} {} ${FLUX_JOB_CC-unset} {ccc}"),
        (["a", "{cc}"], ["a", "7"]),
        (None, None),
    ],
)
def test_ids_are_replaced_and_no_other_braces(text: Any, result: Any) -> None:
    assert replaced(text, "7") == result


def test_an_id_of_an_input_is_replaced_by_it() -> None:
    (command,) = commands("--cc=1-2 {0} {cc} ::: x{cc}")
    assert replaced(command.command, "2") == ["x2", "2"]


class _Submissions(SubmitCmd):
    """Notes the jobspecs that it makes."""

    def __init__(self) -> None:
        super().__init__("submit")
        self.made = 0
        self.sent: list[dict[str, Any]] = []

    def jobspec_create(self, args: Any) -> Any:
        self.made += 1
        return super().jobspec_create(args)

    def submit_async(self, args: Any, jobspec: Any = None) -> None:
        self.sent.append(json.loads(jobspec.dumps()))

    def openlog(self, filename: str) -> TextIO:
        return io.StringIO()


def test_a_jobspec_is_made_anew_only_where_an_option_differs() -> None:
    command = _Submissions()
    args = command.parse(["--cc=1-3", "--log={cc}", "echo", "{cc}"])
    command.submit_async_with_cc(args)
    assert command.made == 1
    assert [spec["tasks"][0]["command"] for spec in command.sent] == [["echo", str(n)] for n in (1, 2, 3)]
    assert [spec["attributes"]["system"]["environment"]["FLUX_JOB_CC"] for spec in command.sent] == ["1", "2", "3"]
    args = command.parse(["--bcc=1-3", "-n{cc}", "--rlimit=core={cc}", "--begin-time=+{cc}h", "echo", "{cc}"])
    command.submit_async_with_cc(args)
    assert command.made == 4
    specs = [spec["attributes"]["system"] for spec in command.sent[3:]]
    assert ["FLUX_JOB_CC" in spec["environment"] for spec in specs] == [False] * 3
    assert [spec["shell"]["options"]["rlimit"]["core"] for spec in specs] == [1, 2, 3]
    begins = [float(spec["dependencies"][0]["value"]) for spec in specs]
    assert [round((begin - begins[0]) / 3600) for begin in begins] == [0, 1, 2]


def test_a_variant_of_a_variant_has_the_changes_of_both() -> None:
    args = BulkSubmitCmd("bulksubmit").parse(["--quiet", "true"])
    inner = Variant(Variant(args, {"queue": "a", "bank": "b"}), {"queue": "c"})
    assert (inner.base, inner.queue, inner.bank, inner.quiet) == (args, "c", "b", True)
    with pytest.raises(AttributeError):
        _ = inner.nosuch
