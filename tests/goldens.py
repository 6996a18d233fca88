"""Runs command lines of `tests/vectors/cli-*.txt` and compares what they print (spec 08, section 13).

Lines of a golden may come in any order: which of two tasks writes first is nobody's promise. `<J1>` is a job's id, the
same wherever it stands; other placeholders stand for what differs from run to run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

VECTORS = Path(__file__).parent / "vectors"
BIN = Path(sys.executable).parent

#: The configuration that the goldens were made with (spec 08, section 13).
CONFIG_A = """
[resource]
noverify = true
[[resource.config]]
hosts = "node[0-3]"
cores = "0-1"
gpus = "0"
[[resource.config]]
hosts = "node[2-3]"
properties = ["big"]
"""

#: The one with queues.
CONFIG_B = """
[resource]
noverify = true
[[resource.config]]
hosts = "node[0-3]"
cores = "0-1"
gpus = "0"
[[resource.config]]
hosts = "node[0-2]"
properties = ["batch"]
[[resource.config]]
hosts = "node3"
properties = ["debug", "fast"]
[policy.jobspec.defaults.system]
queue = "batch"
duration = "1h"
[policy.limits]
duration = "4h"
[queues.batch]
requires = ["batch"]
policy.limits.duration = "8h"
policy.limits.job-size.max.nnodes = 2
[queues.debug]
requires = ["debug"]
policy.jobspec.defaults.system.duration = "30m"
policy.limits.job-size.min.nnodes = 1
[queues.sub]
parent = "batch"
"""


class Golden(NamedTuple):
    """A command line, and what it printed."""

    command: str
    prepares: bool
    stdout: tuple[str, ...]
    stderr: tuple[str, ...]
    status: int


def goldens(name: str) -> Iterator[Golden]:
    """The command lines of a file."""
    found: list[tuple[str, bool, list[str], list[str], list[int]]] = []
    for line in (VECTORS / f"{name}.txt").read_text().splitlines():
        mark, _, rest = line.partition(" ")
        if mark in ("$", "@"):
            found.append((rest, mark == "@", [], [], [0]))
        elif mark == "|":
            found[-1][2].append(rest)
        elif mark == "!":
            found[-1][3].append(rest)
        elif mark == "=":
            found[-1][4][0] = int(rest)
    for command, prepares, stdout, stderr, status in found:
        yield Golden(command, prepares, tuple(stdout), tuple(stderr), status[0])


_PLACEHOLDERS = {
    "T": r"(?:[0-9]+\.[0-9]{3}|<T>)",
    "TS": r"(?:[0-9]+\.[0-9]+|<TS>)",
    "OFFSET": r"(?: *[0-9]+\.[0-9]{6}|<OFFSET>)",
    "PID": r"(?:[0-9]+|<PID>)",
    "HOST": r"\S+",
    "J": r"(?:[ƒf]\w+|<J>)",
}


class Player:
    """Runs commands in a directory, and knows which job is which.

    Args:
        uri: of the instance.
        directory: in place of the recordings' /tmp/w.
        environ: more variables for the commands.
    """

    def __init__(self, uri: str, directory: Path, environ: Mapping[str, str] | None = None) -> None:
        self._directory = directory
        self._jobs: dict[str, str] = {}
        self._environ = {
            "PATH": f"{BIN}:/usr/bin:/bin",
            "HOME": "/tmp",
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "FLUX_URI": uri,
            **(environ or {}),
        }

    def run(self, command: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a command line; as that of the golden, but for the directory.

        Its jobs that outlasted all others are to do so here as well, where a hundred commands may take long.
        """
        ours = command.replace("/tmp/w", str(self._directory)).replace("sleep 60", "sleep 3600")
        return subprocess.run(
            ["bash", "-c", ours],
            cwd=self._directory,
            env={**self._environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def differences(self, golden: Golden) -> list[str]:
        """How what a command prints differs from the golden."""
        done = self.run(golden.command)
        if golden.prepares:
            return []
        problems = []
        if done.returncode != golden.status:
            problems.append(f"exit code {done.returncode}, not {golden.status}")
        problems += self._compare("stdout", golden.stdout, done.stdout)
        problems += self._compare("stderr", golden.stderr, done.stderr)
        return problems

    def _compare(self, stream: str, wanted: tuple[str, ...], printed: str) -> list[str]:
        left = [line.rstrip() for line in printed.splitlines()]
        missing = []
        for line in wanted:
            at = next((at for at, text in enumerate(left) if self._matches(line, text)), None)
            if at is None:
                missing.append(f"{stream} lacks: {line}")
            else:
                del left[at]
        return [*missing, *(f"{stream} has: {line}" for line in left)]

    def _matches(self, golden: str, text: str) -> bool:
        if golden.lstrip().startswith("<J"):
            # In columns: an id has more digits the later it is, and fewer blanks before it.
            golden, text = golden.lstrip(), text.lstrip()
        if "<TIME>" in golden:
            golden, text = " ".join(golden.split()), " ".join(text.split())
        names: list[str] = []

        def replaced(found: re.Match[str]) -> str:
            name = found[1]
            if re.fullmatch(r"J[0-9]+", name):
                if name in self._jobs:
                    return re.escape(self._jobs[name])
                names.append(name)
                return rf"(?P<{name}>ƒ\w+)" if names.count(name) == 1 else rf"(?P={name})"
            return _PLACEHOLDERS.get(name, ".*")

        pieces = re.split(r"<([A-Z]+[0-9]*)>", golden.rstrip())
        pattern = ""
        for at, piece in enumerate(pieces):
            if at % 2:
                pattern += replaced(re.match(r"(.*)", piece))  # type: ignore[arg-type]  # it matches
            else:
                literal = re.escape(piece).replace(re.escape("/tmp/w"), re.escape(str(self._directory)))
                literal = literal.replace(re.escape("/tmp/flux-XXXXXX"), r"/tmp/flux-\w+")
                # A job's service is called by its id.
                literal = re.sub(r"0\\-shell\\-f\w+", r"0-shell-f\\w+", literal)
                pattern += re.sub(r'\{"id":[0-9]+', r'{"id":[0-9]+', literal)
        match = re.fullmatch(pattern, text)
        if match is None:
            return False
        self._jobs.update({name: match[name] for name in set(names)})
        return True


class GoldenInstance:
    """An instance of four brokers with configuration A; `environ` are more variables for it."""

    def __init__(self, directory: Path, config: str = CONFIG_A, environ: Mapping[str, str] | None = None) -> None:
        path = directory / "config.toml"
        path.write_text(config)
        self.directory = directory / "w"
        self.directory.mkdir()
        outside = {
            name: value for name, value in os.environ.items() if not name.startswith(("FLUX_", "PMI_", "SLURM_"))
        }
        command = ["start", "-s4", f"--config-path={path}", "sh", "-c", "echo $FLUX_URI; read line"]
        self._process = subprocess.Popen(
            [str(BIN / "flux"), *command],
            env={**outside, **(environ or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.uri = self._process.stdout.readline().strip()
        assert self.uri, "the instance does not start"

    def stop(self) -> None:
        """Ends it."""
        self._process.communicate("\n", timeout=60)
