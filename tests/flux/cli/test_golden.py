"""What commands print, word for word, as of tests/golden: their manuals and usage, and how they fail.

When a text is meant to change, `FLUX_GOLDEN_UPDATE=1 ./run test tests/flux/cli/test_golden.py` writes the files anew:
look at the difference before it is committed.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fluxlet.cmd.driver import usage
from fluxlet.cmd.manual import manual, page
from fluxlet.testing import Instance

GOLDEN = Path(__file__).parents[2] / "golden"
UPDATE = "FLUX_GOLDEN_UPDATE" in os.environ

#: The commands around the broker.
COMMANDS = (
    *("start", "broker", "env", "version", "help", "completion", "getattr", "setattr", "lsattr", "ping", "event"),
    *("dmesg", "logger", "module", "config", "uptime", "shutdown", "python", "proxy", "relay", "uri", "hostlist"),
    *("startlog", "cron", "modprobe", "admin"),
)

#: What is typed in an instance; what it prints is in the file. Without stdin, in an empty directory.
SESSION = """
flux nosuch
flux getatr size
flux modul
flux --badopt
flux -x
flux /no/such/command
flux getattr
flux getattr nosuch
flux getattr --nosuch
flux getattr --help
flux getattr size rank
flux setattr
flux setattr nosuch 1
flux setattr size 2
flux setattr -f size 2
flux setattr log-stderr-level abc
flux setattr log-filename
flux lsattr nosuch
flux ping
flux ping nosuch
flux ping --count=x broker
flux ping --interval=-1s broker
flux ping -b broker
flux ping '5!broker'
flux ping -r 0 '0!broker'
flux ping 'x!y!z'
flux event
flux event nosuch
flux event pub
flux event sub --count=x
flux dmesg --delta
flux dmesg --color=sometimes
flux logger -s loud text
flux module
flux module nosuch
flux module load
flux module load nosuch
flux module load /no/such.py
flux module load ./nosuch.py
flux module remove nosuch
flux module remove -f nosuch
flux module reload nosuch
flux module stats nosuch
flux module stats --parse=foo heartbeat
flux module debug nosuch
flux module trace --type=x
flux config
flux config nosuch
flux config get nosuch.key
flux config get -q nosuch.key
flux config get -d default nosuch.key
flux config get --type=nosuch x
flux config set a.b 1
flux config set --type=integer a.b x
flux config load /no/such.toml
flux config builtin nosuch
flux shutdown --gc --skip-gc
flux shutdown /nosuch/target
flux uptime --nosuch
flux startlog --nosuch
flux uri
flux uri nosuch:1
flux uri pid:1x
flux proxy
flux proxy local:///no/such
flux relay
flux relay /no/such
flux hostlist 'a[1-3'
flux hostlist --nosuch a
flux hostlist -F b 'a[1-3]'
flux hostlist -n 9 'a[1-3]'
flux cron
flux cron interval
flux cron interval never true
flux cron stop 99
flux cron list
flux modprobe
flux modprobe load nosuch
flux modprobe run /no/such.py
flux modprobe show nosuch
flux modprobe list-dependencies sched
flux admin
flux admin cleanup-push ''
flux help nosuch
flux help module nosuch
flux env nosuch-program
flux python -c 'raise SystemExit(3)'
flux completion tcsh
flux start -S nosuch=1 true
flux start -S rank=1 true
flux start --test-exit-mode=any true
flux start --test-size=x true
flux start --nosuch
flux start --conf==x true
flux start --conf=heartbeat.period=3 true
flux start --conf=/no/such.toml true
flux start -c /no/such true
flux broker --nosuch
flux overlay
"""


def compare(name: str, text: str) -> None:
    """Holds a text to a file, or writes it."""
    path = GOLDEN / name
    if UPDATE:
        path.write_text(text)
    assert path.read_text() == text


def test_usage_of_flux() -> None:
    # The list of commands grows: the form of it is what counts.
    compare("usage.txt", usage().partition("\nCommands")[0] + "\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_manual(name: str) -> None:
    found = page(name)
    assert found is not None
    compare(f"help-{name}.txt", manual(found) + "\n")


#: Where this machine is named: for a rank that is not known yet, and by flux relay.
_HOST = rf"(?<=\[){re.escape(socket.gethostname())}(?=\]: )|^{re.escape(socket.gethostname())}(?=: )"


def run(command: str, environ: dict[str, str], directory: Path) -> str:
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env=environ,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    lines = re.sub(_HOST, "HOST", done.stdout, flags=re.M).splitlines()
    # Log lines begin with the time of day.
    shown = [f"[TIME] {line.split(' ', 5)[5]}" if " UTC 20" in line[:40] else line for line in lines]
    return "\n".join([f"$ {command}", *shown, *([f"[{done.returncode}]"] if done.returncode else [])])


@pytest.fixture(scope="module")
def session_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("FLUX_", "PMI_", "SLURM_"))}
    # Not by its path: what a command calls itself must not depend on where this checkout is.
    links = tmp_path_factory.mktemp("bin")
    (links / "flux").symlink_to(Path(sys.executable).parent / "flux")
    own = {"PATH": f"{links}:/usr/bin:/bin", "TZ": "UTC", "LC_ALL": "C.UTF-8", "COLUMNS": "80", "SHELL": "/bin/sh"}
    return {**keep, **own}


def test_how_commands_fail(session_environment: dict[str, str], tmp_path: Path) -> None:
    with Instance() as instance:
        environ = {**session_environment, "FLUX_URI": instance.uri}
        shown = [run(command, environ, tmp_path) for command in SESSION.strip().splitlines()]
        text = "\n\n".join(shown).replace(instance.uri, "[URI]").replace(str(tmp_path), "[DIRECTORY]")
    compare("errors.txt", text + "\n")


def test_how_commands_fail_without_an_instance(session_environment: dict[str, str], tmp_path: Path) -> None:
    # Nobody will come: not to be waited for.
    environ = {**session_environment, "FLUX_URI": "local:///no/such", "FLUX_LOCAL_CONNECTOR_RETRY_COUNT": "0"}
    lines = ["flux getattr size", "flux lsattr", "flux ping broker", "flux event pub x", "flux dmesg", "flux logger x"]
    lines += ["flux module list", "flux config get", "flux uptime", "flux shutdown", "flux startlog", "flux cron list"]
    lines += ["flux version", "flux --parent uptime", "flux modprobe load kvs", "flux hostlist instance"]
    compare("errors-no-instance.txt", "\n\n".join(run(line, environ, tmp_path) for line in lines) + "\n")
