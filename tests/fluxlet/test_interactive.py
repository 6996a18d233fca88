"""`flux start` without a command, at a terminal: what one sees, types, and what is so afterwards."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from terminal import Terminal

FLUX = Path(sys.executable).parent / "flux"

#: What a user of each shell has in his own file, which sets the prompt and a variable.
FILES = {
    "bash": (".bashrc", "PS1='mine> '; OWN=read\n"),
    "zsh": (".zshrc", "PROMPT='mine> '; OWN=read\n"),
    "fish": (".config/fish/config.fish", "function fish_prompt; printf 'mine> '; end; set OWN read\n"),
    "sh": (".profile", ""),
}


def environment(home: Path, shell: str) -> dict[str, str]:
    name, text = FILES[shell]
    (home / name).parent.mkdir(parents=True, exist_ok=True)
    (home / name).write_text(text)
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not installed")
    (home / "tmp").mkdir()
    # Else fish reads all manual pages when it is first started, and takes its time.
    (home / ".local/share/fish/generated_completions").mkdir(parents=True)
    own = {"SHELL": found, "HOME": str(home), "TERM": "dumb", "TMPDIR": str(home / "tmp")}
    return {"PATH": f"{FLUX.parent}:{os.environ['PATH']}", "PS1": "mine> ", "OWN": "read", **own}


@pytest.mark.parametrize("shell", FILES)
def test_prompt_has_a_mark_and_the_users_own_files_count(tmp_path: Path, shell: str) -> None:
    environ = environment(tmp_path, shell)
    with Terminal([str(FLUX), "start"], environ, tmp_path) as terminal:
        terminal.expect("This shell is in a Flux instance of 1 broker. `exit` or Ctrl-D ends both")
        terminal.expect("(flux) mine> ")
        terminal.type("flux getattr size; echo $OWN''=$OWN\n")
        terminal.expect("1\r\nread=read")
        terminal.expect("(flux) mine> ")
        terminal.type("exit 7\n")
        code, printed = terminal.end()
    assert code == 7, printed
    assert [name for name in os.listdir(tmp_path / "tmp") if name.startswith("flux")] == []


def test_end_of_input_ends_the_instance(tmp_path: Path) -> None:
    with Terminal([str(FLUX), "start"], environment(tmp_path, "bash"), tmp_path) as terminal:
        terminal.expect("mine> ")
        terminal.type("\x04")
        assert terminal.end()[0] == 0


@pytest.mark.parametrize("word", ["bash", "/bin/bash"])
def test_shell_that_is_named_is_one_to_type_at_too(tmp_path: Path, word: str) -> None:
    environ = {**environment(tmp_path, "bash"), "SHELL": "/bin/sh"}
    with Terminal([str(FLUX), "start", word], environ, tmp_path) as terminal:
        terminal.expect("(flux) mine> ")
        terminal.type("exit\n")
        assert terminal.end()[0] == 0


#: Says so when it has the terminal.
SLEEP = """sh -c 'echo st""art; exec sleep 1000'\n"""


def test_keys_are_for_what_runs_in_the_foreground(tmp_path: Path) -> None:
    with Terminal([str(FLUX), "start"], environment(tmp_path, "bash"), tmp_path) as terminal:
        terminal.expect("mine> ")
        terminal.type(SLEEP)
        terminal.expect("start")
        terminal.type("\x03")
        terminal.expect("mine> ")
        terminal.type(SLEEP)
        terminal.expect("start")
        terminal.type("\x1a")
        terminal.expect("Stopped")
        terminal.type("kill -9 %1; flux getattr size\n")
        terminal.expect("\n1\r\n")
        terminal.type("exit\nexit\n")
        terminal.end()


def test_terminal_is_afterwards_as_it_was(tmp_path: Path) -> None:
    environ = environment(tmp_path, "bash")
    with Terminal(["/bin/bash", "--norc", "-i"], {**environ, "PS1": "outer> "}, tmp_path) as terminal:
        terminal.expect("outer> ")
        terminal.type(f"{FLUX} start\n")
        terminal.expect("(flux) mine> ")
        terminal.type("stty -echo; kill -9 $$\n")
        terminal.expect("outer> ")
        terminal.type("stty -a | grep -o ' echo '; echo code''=$?\n")
        terminal.expect(" echo ")
        terminal.expect("code=0")
        terminal.type("exit\n")
        terminal.end()


def test_recovery_mode_says_so(tmp_path: Path) -> None:
    words = [str(FLUX), "start", "-Sbroker.recovery-mode=1"]
    with Terminal(words, environment(tmp_path, "bash"), tmp_path) as terminal:
        terminal.expect("The instance is in recovery mode")
        terminal.expect("(flux) mine> ")
        terminal.type("exit\n")
        assert terminal.end()[0] == 0


def test_no_greeting_where_there_is_a_command(tmp_path: Path) -> None:
    environ = environment(tmp_path, "bash")
    with Terminal([str(FLUX), "start", "echo", "hello"], environ, tmp_path) as terminal:
        assert terminal.end() == (0, "hello\r\n")
