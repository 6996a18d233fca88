"""Colours: on terminals, and there only if NO_COLOR does not say otherwise (https://no-color.org)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from terminal import Terminal

BIN = Path(sys.executable).parent

#: Programs that print in colour.
PROGRAMS = {
    "dmesg": [str(BIN / "flux"), "dmesg"],
    "help": [str(BIN / "flux"), "help", "event"],
    "eventlog": [
        sys.executable,
        "-c",
        "from flux.eventlog import EventLogFormatter as F; print(F().format({'timestamp': 1.0, 'name': 'start'}))",
    ],
    "option": [
        sys.executable,
        "-c",
        "import argparse\nfrom flux.util import ColorAction\np = argparse.ArgumentParser()\n"
        "p.add_argument('--color', action=ColorAction)\n"
        "print('\\033[1mbold' if p.parse_args([]).color.enabled else 'plain')",
    ],
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("wanted", [True, False])
def test_terminal_gets_colours_unless_it_is_told_not_to(name: str, wanted: bool, instance_uri: str) -> None:
    environ = {"PATH": f"{BIN}:{os.environ['PATH']}", "FLUX_URI": instance_uri, "TERM": "xterm", "PAGER": "cat"}
    if not wanted:
        environ["NO_COLOR"] = "1"
    with Terminal(PROGRAMS[name], environ) as terminal:
        code, printed = terminal.end()
    assert code == 0
    assert ("\033[" in printed) == wanted, printed
