"""What the documents say is so: links lead somewhere, examples print what is shown.

In README.md, CONTRIBUTING.md and docs/, a fenced block is

- a file, if its first line has a name behind the language (```python hello.py): it is written to a directory;
- a session, if that says ```console run: its `$` lines are run there by a shell, in which `flux` and `python` are
  ours, and what they print, stdout and stderr, is compared with what is shown. `[...]` stands for any text in a line.

The blocks of one document share a directory, and are used in the order of the text.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from fluxlet.cmd.builtins import GROUPS

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


class Block(NamedTuple):
    """A fenced block: the words behind its fence, and its text."""

    info: list[str]
    text: str


def blocks(document: Path) -> list[Block]:
    found = re.findall(r"^```(.*)\n((?:.*\n)*?)```$", document.read_text(), flags=re.M)
    return [Block(info.split(), text) for info, text in found]


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


def is_session(block: Block) -> bool:
    return block.info == ["console", "run"]


def is_file(block: Block) -> bool:
    return len(block.info) == 2 and not is_session(block) and "/" not in block.info[1]


# Links.


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    text = re.sub(r"^```.*\n(?:.*\n)*?```$", "", document.read_text(), flags=re.M)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_relative_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"^```.*\n(?:.*\n)*?```$", "", document.read_text(), flags=re.M)
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = document.parent / path if path else document
        if not found.exists() or (anchor and anchor not in anchors(found)):
            wrong.append(target)
    assert wrong == []


def test_every_document_can_be_reached_from_the_readme() -> None:
    reached = {ROOT / "README.md"}
    left = [ROOT / "README.md"]
    while left:
        document = left.pop()
        for target in re.findall(r"\]\(([^)#\s]+\.md)(?:#[^)]*)?\)", document.read_text()):
            found = (document.parent / target).resolve()
            if found not in reached and found.exists():
                reached.add(found)
                left.append(found)
    assert [name_of(document) for document in DOCUMENTS if document not in reached] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_files_that_a_document_names_exist(document: Path) -> None:
    named = re.findall(r"`((?:src|tests|docs|examples|benchmarks)/[\w./-]+)`", document.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


# Examples.


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_python_is_python(document: Path) -> None:
    for block in blocks(document):
        if block.info[:1] == ["python"]:
            compile(block.text, str(document), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def session(text: str) -> list[tuple[str, str]]:
    """The commands of a session, and what each prints."""
    parts = re.split(r"^\$ ", text, flags=re.M)
    assert parts[0] == "", "a session begins with a command"
    commands = []
    for part in parts[1:]:
        command, _, output = part.partition("\n")
        while command.endswith("\\"):
            more, _, output = output.partition("\n")
            command = command[:-1] + more.removeprefix("> ")
        commands.append((command, output))
    return commands


def run(command: str, directory: Path, environ: dict[str, str]) -> str:
    """What a shell command prints, stdout and stderr; what it leaves running is killed."""
    with subprocess.Popen(
        ["/bin/sh", "-c", command],
        cwd=directory,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            return shell.communicate(timeout=60)[0]
        finally:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if any(is_session(block) for block in blocks(path))], ids=name_of
)
def test_sessions_print_what_is_shown(document: Path, tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("FLUX_", "PMI_", "SLURM_"))}
    environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"
    environ["SHELL"] = "/bin/sh"
    for block in blocks(document):
        if is_file(block):
            (tmp_path / block.info[1]).write_text(block.text)
        elif is_session(block):
            for command, shown in session(block.text):
                printed = run(command, tmp_path, environ)
                pattern = ".*".join(re.escape(part) for part in shown.split("[...]"))
                assert re.fullmatch(pattern, printed), f"$ {command}\n{printed}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_file_of_a_document_is_used_in_a_session(document: Path) -> None:
    found = blocks(document)
    texts = [block.text for block in found if is_session(block) or is_file(block)]
    modules = "\n".join(texts)
    unused = [
        name for _, name in (block.info for block in found if is_file(block)) if not re.search(_mention(name), modules)
    ]
    assert unused == []


def _mention(name: str) -> str:
    """A file's name, or an import of it."""
    return rf"{re.escape(name)}|import {re.escape(name.removesuffix('.py'))}\b"


# The worked examples of CONTRIBUTING.md: blocks named by their path.

_CONFTEST = """
import fluxlet.modules
from fluxlet.broker.builtins import LISTED

fluxlet.modules.__path__.append({directory!r})
LISTED.update({{{entry}}})
"""


def worked_example(tmp_path: Path) -> str:
    """Writes the files of CONTRIBUTING.md to a directory; returns the document."""
    document = ROOT / "CONTRIBUTING.md"
    for block in blocks(document):
        if len(block.info) == 2 and "/" in block.info[1]:
            assert not (ROOT / block.info[1]).exists()
            (tmp_path / Path(block.info[1]).name).write_text(block.text)
    return document.read_text()


def test_worked_example_of_a_service_passes_its_own_tests(tmp_path: Path) -> None:
    entry = re.search(r'^ +("greeter": .*),$', worked_example(tmp_path), flags=re.M)
    assert entry is not None
    fixtures = (ROOT / "tests" / "fluxlet" / "conftest.py").read_text()
    (tmp_path / "conftest.py").write_text(fixtures + _CONFTEST.format(directory=str(tmp_path), entry=entry[1]))
    command = f"{sys.executable} -m pytest -q -p no:cacheprovider test_greeter.py"
    printed = run(command, tmp_path, {**os.environ, "PYTHONPATH": str(ROOT / "tests")})
    assert "4 passed" in printed, printed


def test_worked_example_of_a_command_runs(tmp_path: Path, instance_uri: str) -> None:
    entry = re.search(r'^ +"whoami": \("([\w.]+):main", "(\w+)", ".+"\),$', worked_example(tmp_path), flags=re.M)
    assert entry is not None
    assert entry[2] in dict(GROUPS)
    script = (
        f"import importlib, sys, flux.cli.commands as c; c.__path__.append({str(tmp_path)!r});"
        f"sys.exit(importlib.import_module({entry[1]!r}).main(sys.argv[1:]))"
    )
    for words, printed in (([], f"{os.getuid()}\n"), (["--roles"], f"{os.getuid()} 5\n")):
        command = shlex.join([sys.executable, "-c", script, *words])
        assert run(command, tmp_path, {**os.environ, "FLUX_URI": instance_uri}) == printed
