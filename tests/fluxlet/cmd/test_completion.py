"""Shell completion, in the shells: what a half-typed line becomes. Shells that are not installed are left out."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import Terminal

from fluxlet.cmd.builtins import BUILTINS
from fluxlet.cmd.completion import INSTALLED, SHELLS, text_for

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent

#: What is typed, and what it is when Tab has been pressed.
LINES = [
    # Commands, of the driver too.
    ("flux geta", "flux getattr"),
    ("flux -v geta", "flux -v getattr"),
    ("flux help uptim", "flux help uptime"),
    ("flux module li", "flux module list"),
    # Options and their words.
    ("flux dmesg --fol", "flux dmesg --follow"),
    ("flux dmesg --color=al", "flux dmesg --color=always"),
    ("flux module stats --type dou", "flux module stats --type double"),
    ("flux module stats -c --sca", "flux module stats -c --scale="),
    ("flux logger -s warn", "flux logger -s warning"),
    ("flux logger text --appn", "flux logger text --appname="),
    ("flux start --test-exit-mode=lea", "flux start --test-exit-mode=leader"),
    ("flux config get --default x --qui", "flux config get --default x --quiet"),
    ("flux hostlist --inters", "flux hostlist --intersect"),
    ("flux completion fi", "flux completion fish"),
    # What the instance knows.
    ("flux getattr hostl", "flux getattr hostlist"),
    ("flux setattr -f log-stderr-l", "flux setattr -f log-stderr-level"),
    ("flux module remove heartb", "flux module remove heartbeat"),
    ("flux module stats --parse=a heartb", "flux module stats --parse=a heartbeat"),
    ("flux ping -c 3 heartb", "flux ping -c 3 heartbeat"),
    # Files; and nothing where there is nothing to say.
    ("flux module load gree", "flux module load greeter.py"),
    ("flux config load gree", "flux config load greeter.py"),
    ("flux uptime gree", "flux uptime gree"),
    ("flux getattr nosuch", "flux getattr nosuch"),
    ("flux nosuch --fol", "flux nosuch --fol"),
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a file."""
    (tmp_path / "greeter.py").touch()
    for shell in SHELLS:
        (tmp_path / f"completion.{shell}").write_text(text_for(shell) + "\n")
    return tmp_path


def environment(place: Path, uri: str) -> dict[str, str]:
    keep = {name: os.environ[name] for name in ("FPATH", "LANG") if name in os.environ}
    return {
        **keep,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(place),
        "TERM": "dumb",
        "FLUX_URI": uri,
    }


def needs(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")


def pressed(shell: Terminal, line: str) -> str:
    """The line when Tab has been pressed; the shell prints it in angles at Ctrl-X, and forgets it."""
    shell.type(f"{line}\t\x18")
    shell.expect("<<")
    return shell.expect(">>")


BASH = r"""
PS1='ready'; unset PROMPT_COMMAND; source completion.bash
bind 'set bell-style none'; bind -x '"\C-x": printf "<""<%s>>" "$READLINE_LINE"; READLINE_LINE='
"""

ZSH = r"""
PS1='ready'; autoload -Uz compinit; compinit -u -D; unsetopt list_beep auto_list
source ./completion.zsh; tell() { printf '<''<%s>>' "$BUFFER"; BUFFER= }; zle -N tell; bindkey '^X' tell
"""


@pytest.mark.parametrize(("shell", "argv", "setup"), [("bash", ["--norc", "-i"], BASH), ("zsh", ["-f", "-i"], ZSH)])
def test_tab_completes_on_a_terminal(place: Path, instance_uri: str, shell: str, argv: list[str], setup: str) -> None:
    needs(shell)
    with Terminal([shell, *argv], environment(place, instance_uri), place) as terminal:
        for line in setup.strip().splitlines():
            terminal.type(f"{line}\n")
        terminal.type("echo rea''lly\n")
        terminal.expect("really")
        found = {line: pressed(terminal, line).rstrip() for line, _ in LINES}
    assert found == dict(LINES)


def test_fish_completes(place: Path, instance_uri: str) -> None:
    needs("fish")
    script = "source completion.fish\n" + "".join(f"echo; complete -C '{line}'\n" for line, _ in LINES)
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        env=environment(place, instance_uri),
        cwd=place,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    offers = [part.splitlines() for part in re.split(r"^\n", done.stdout, flags=re.M)[1:]]
    for (line, expected), offered in zip(LINES, offers, strict=True):
        words = [offer.partition("\t")[0] for offer in offered]
        last = expected.rpartition(" ")[2].removesuffix("=")
        assert words == ([] if line == expected else [last]), line


def test_without_an_instance_there_are_no_names_and_no_errors(place: Path) -> None:
    script = (
        "source completion.bash; COMP_WORDS=(flux getattr ''); COMP_CWORD=2; _flux; "
        'echo "${#COMPREPLY[@]} ${COMPREPLY[*]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script],
        env=environment(place, f"local://{place}/nosuch"),
        cwd=place,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("0 \n", "")


@pytest.mark.parametrize("shell", SHELLS)
def test_command_prints_the_completion(shell: str) -> None:
    done = subprocess.run([BIN / "flux", "completion", shell], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == (text_for(shell) + "\n", "")


#: What a shell does at its start or the first Tab with a file that is installed where it looks.
FIRST_TAB = {
    "bash": "source {file}; complete -p flux",
    "zsh": "fpath=({directory} $fpath); autoload -Uz compinit; compinit -u -D; compdef -p _flux flux 2>/dev/null;"
    "_flux 2>/dev/null; whence -w _flux_getattr",
    "fish": "source {file}; complete -C 'flux geta'",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_installed_file_has_the_command_make_the_completion(place: Path, shell: str) -> None:
    needs(shell)
    file = ROOT / "share" / INSTALLED[shell]
    script = FIRST_TAB[shell].format(file=file, directory=file.parent)
    flags = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    environ = environment(place, f"local://{place}/nosuch")
    done = subprocess.run([shell, *flags, "-c", script], env=environ, capture_output=True, text=True, timeout=60)
    shown = {"bash": "complete -F _flux flux", "zsh": "_flux_getattr: function", "fish": "getattr"}[shell]
    assert shown in done.stdout, done


@pytest.mark.parametrize("shell", SHELLS)
def test_all_listed_commands_are_completed(shell: str) -> None:
    text = text_for(shell)
    assert [name for name, (_, group, _) in BUILTINS.items() if group and not re.search(rf"\b{name}\b", text)] == []


def test_other_shells_are_refused() -> None:
    done = subprocess.run([BIN / "flux", "completion", "csh"], capture_output=True, text=True, timeout=60)
    assert (done.stderr, done.returncode) == ("flux-completion: csh: the shells are bash, zsh, fish\n", 1)
