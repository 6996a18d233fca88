"""The shell of `flux start` without a command: one sees that it is in an instance, and how to leave it.

Rules:
- The user's own files are read as ever; the mark comes after them. A shell that is not known gets none.
- Nothing is written: the files are Fluxlet's own, in `share/shell`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from flux.conf_builtin import conf_builtin_get

#: What the prompt begins with, as in share/shell.
MARK = "(flux) "

_FISH = (
    "functions --query fish_prompt; and functions --copy fish_prompt __flux_prompt; "
    f"function fish_prompt; printf '{MARK}'; functions --query __flux_prompt; and __flux_prompt; or printf '> '; end"
)


def marked(shell: str, environ: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """How a shell is run so that its prompt has the mark: its words, and what is added to its environment.

    Args:
        shell: its name or path.
        environ: the environment that it gets.
    """
    files = os.path.join(conf_builtin_get("datadir"), "shell")
    match os.path.basename(shell):
        case "bash":
            return [shell, "--rcfile", f"{files}/bashrc"], {}
        case "zsh":
            own = {"FLUX_ZDOTDIR": environ["ZDOTDIR"]} if environ.get("ZDOTDIR") else {}
            return [shell], {**own, "ZDOTDIR": f"{files}/zsh"}
        case "fish":
            return [shell, "--init-command", _FISH], {}
        case "sh" | "dash" | "ash" | "ksh" | "mksh":
            return [shell], {"PS1": MARK + environ.get("PS1", "# " if not os.geteuid() else "$ ")}
    return [shell], {}


def welcome(size: int, recovery: bool) -> str:
    """What is said before the first prompt.

    Args:
        size: the number of brokers.
        recovery: the instance is in recovery mode.
    """
    brokers = "1 broker" if size == 1 else f"{size} brokers"
    lines = [f"This shell is in a Flux instance of {brokers}. `exit` or Ctrl-D ends both; `flux help` lists commands."]
    if recovery:
        lines += [
            "The instance is in recovery mode: what has failed above is not there, modules that fail do not end it.",
            "Look at it, mend it, then leave.",
        ]
    return "\n".join(lines)
