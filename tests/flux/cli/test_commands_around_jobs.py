"""flux housekeeping, jobtap, job-validator and job-frobnicator, in an instance that has use for them; flux lptest."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flux.cli.commands.cgroup import cgroup_path
from flux.cli.tool import Failure
from fluxlet.testing import Instance

FLUX = str(Path(sys.executable).parent / "flux")

CONFIG = {
    "resource": {"noverify": True, "config": [{"hosts": "a,b", "cores": "0-1"}]},
    "job-manager": {"housekeeping": {"command": ["sleep", "inf"]}},
    "queues": {"batch": {}},
    "policy": {"jobspec": {"defaults": {"system": {"queue": "batch", "duration": "1m"}}}},
}

PLUGIN = """
class Plugin:
    def __init__(self, manager, conf=None):
        self.conf = conf

    def query(self):
        return {"conf": self.conf}
"""

VALIDATOR = """
from flux.job.validator import ValidatorPlugin

class Validator(ValidatorPlugin):
    def __init__(self, parser):
        parser.add_argument("--max-words", type=int, default=3)
        super().__init__(parser)

    def validate(self, job):
        if len(job.jobspec["tasks"][0]["command"]) > self.args.max_words:
            return 22, "too many words"
"""


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    with Instance(size=2, config=CONFIG) as started:
        subprocess.run([FLUX, "queue", "start", "--all", "--quiet"], env=started.environ, check=True)
        yield started


def flux(instance: Instance, *words: str, input: str = "", cwd: Path | None = None) -> tuple[list[str], str, int]:
    done = subprocess.run(
        [FLUX, *words],
        env=instance.environ,
        input=input,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=cwd,
    )
    return done.stdout.splitlines(), done.stderr, done.returncode


def lines(instance: Instance, *words: str, input: str = "", cwd: Path | None = None) -> list[str]:
    out, err, status = flux(instance, *words, input=input, cwd=cwd)
    assert (err, status) == ("", 0)
    return out


def until(instance: Instance, found: list[str], *words: str) -> None:
    """Waits until a command prints something."""
    deadline = time.monotonic() + 60.0
    while (printed := lines(instance, *words)) != found:
        assert time.monotonic() < deadline, printed
        time.sleep(0.05)


def test_housekeeping_is_listed_and_ended(instance: Instance) -> None:
    job = lines(instance, "submit", "--wait", "-N2", "true")[0]
    every = ("housekeeping", "list", "-no", "{id} {ranks} {pending.ranks} {pending.nodelist} {allocated.nnodes}")
    until(instance, [f"{job} 0-1 0-1 a,b 2"], *every)
    header, line = lines(instance, "housekeeping", "list")
    assert header.split() == ["JOBID", "NNODES", "PENDING", "RUNTIME", "NODELIST"]
    assert [line.split()[at] for at in (0, 1, 2, 4)] == [job, "2", "2", "a,b"]
    for include in ("b", "1", "b,nohost"):
        assert lines(instance, *every, "-i", include) == [f"{job} 0-1 0-1 a,b 2"]
    assert lines(instance, "housekeeping", "list", "-n", "-i", "2") == []
    assert lines(instance, "housekeeping", "kill", f"--jobid={job}", "--targets=b") == []
    until(instance, [f"{job} 0-1 0 a 2"], *every)
    assert lines(instance, "housekeeping", "kill", "--all", "-s", "KILL") == []
    until(instance, [], *every)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["kill"], "specify at least one of --all, --jobid or --targets"),
        (["kill", "--all", "-t0"], "do not specify --jobid or --targets with --all"),
        (["kill", "--all", "-s", "SIGFOO"], "Invalid signal SIGFOO"),
        (["kill", "-t", "nohost"], "host 'nohost' not found"),
        (["list", "-o", "{foo}"], "Unknown format field: foo"),
    ],
)
def test_what_housekeeping_refuses(instance: Instance, words: list[str], text: str) -> None:
    assert flux(instance, "housekeeping", *words) == ([], f"flux-housekeeping: ERROR: {text}\n", 1)


def test_plugins_are_loaded_queried_and_removed(instance: Instance, tmp_path: Path) -> None:
    (tmp_path / "counts.py").write_text(PLUGIN)
    (tmp_path / "other.py").write_text(PLUGIN)
    assert lines(instance, "jobtap", "list") == []
    assert lines(instance, "jobtap", "list", "--all")[0] == ".priority-default"
    lines(instance, "jobtap", "load", "counts.py", "a=1", "b.c=word", cwd=tmp_path)
    lines(instance, "jobtap", "load", str(tmp_path / "other.py"))
    assert lines(instance, "jobtap", "list") == ["counts", "other"]
    (answer,) = lines(instance, "jobtap", "query", "counts")
    assert json.loads(answer)["conf"] == {"a": 1, "b": {"c": "word"}}
    lines(instance, "jobtap", "load", "--remove=all", "counts.py", cwd=tmp_path)
    assert lines(instance, "jobtap", "list") == ["counts"]
    lines(instance, "jobtap", "remove", "coun*")
    assert lines(instance, "jobtap", "list") == []


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["load", "foo.so"], "foo.so: No such plugin found"),
        (["load", "foo", "bar"], "'bar': a configuration consists of words KEY=VALUE"),
        (["remove", "foo"], "Failed to find plugin to remove"),
        (["query", "foo"], "foo: plugin not found"),
    ],
)
def test_what_jobtap_refuses(instance: Instance, words: list[str], text: str) -> None:
    assert flux(instance, "jobtap", *words) == ([], f"flux-jobtap: ERROR: {text}\n", 1)


def test_jobs_are_validated_on_the_command_line(instance: Instance, tmp_path: Path) -> None:
    (tmp_path / "short.py").write_text(VALIDATOR)
    jobspec = lines(instance, "run", "--dry-run", "a", "b", "c", "d")[0]
    two = f"{jobspec}\n{jobspec}\n"
    validator = ("job-validator", "--jobspec-only")
    assert lines(instance, *validator, input=two) == ['{"errnum": 0}'] * 2
    ours = f"--plugins=jobspec,{tmp_path / 'short.py'}"
    refused = {"errnum": 22, "errstr": "too many words"}
    assert [json.loads(line) for line in lines(instance, *validator, ours, input=two)] == [refused] * 2
    assert lines(instance, *validator, ours, "--max-words=4", input=jobspec) == ['{"errnum": 0}']
    whole = json.dumps({"jobspec": {"version": 1}, "userid": 1, "urgency": 16, "flags": 0})
    (answer,) = lines(instance, "job-validator", input=whole)
    assert json.loads(answer) == {"errnum": 1, "errstr": "Missing key (attributes)"}
    assert any("--max-words" in line for line in lines(instance, "job-validator", ours, "--help"))
    names = [line.split()[0] for line in lines(instance, "job-validator", "--list-plugins")]
    assert names == ["feasibility", "jobspec", "require-instance"]
    for words, text in (
        (("--plugins=foo",), "validator plugin 'foo' not found"),
        ((), "no jobspec in a line of standard input (is it a jobspec? then --jobspec-only)"),
    ):
        found = flux(instance, "job-validator", *words, input=jobspec)
        assert found == ([], f"flux-job-validator: ERROR: {text}\n", 1)


def test_jobs_are_frobnicated_on_the_command_line(instance: Instance) -> None:
    jobspec = lines(instance, "run", "--dry-run", "true")[0]
    (answer,) = lines(instance, "job-frobnicator", "--jobspec-only", input=jobspec)
    found = json.loads(answer)
    assert found["errnum"] == 0
    system = found["data"]["attributes"]["system"]
    assert (system["queue"], system["duration"]) == ("batch", 60.0)
    wrong = lines(instance, "run", "--dry-run", "-q", "foo", "true")[0]
    (answer,) = lines(instance, "job-frobnicator", "--jobspec-only", input=wrong)
    assert json.loads(answer) == {"errnum": 1, "errstr": "Invalid queue 'foo' specified"}
    names = [line.split()[0] for line in lines(instance, "job-frobnicator", "--list-plugins")]
    assert names == ["constraints", "defaults"]


def test_simulated_jobs_start_and_finish_when_told_to(instance: Instance) -> None:
    override = ("job-exec-override",)
    job = lines(instance, "submit", "--setattr=system.exec.test.override=1", "true")[0]
    lines(instance, "job", "wait-event", "-q", job, "alloc")
    error = "flux-job-exec-override: ERROR: "
    assert flux(instance, *override, "finish", job, "0") == ([], f"{error}Job not running\n", 1)
    lines(instance, *override, "start", job)
    lines(instance, *override, "finish", job, str(7 << 8))
    assert flux(instance, "job", "status", job)[2] == 7
    assert flux(instance, *override, "start", job) == ([], f"{error}Job not found\n", 1)


@pytest.mark.parametrize(
    ("groups", "mounts", "path"),
    [
        ("0::/a/b\n", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", "/sys/fs/cgroup/a/b"),
        ("4:memory:/x\n0::/\n", "tmpfs /sys/fs tmpfs rw\ncgroup2 /sys/fs/c cgroup2 rw\n", "/sys/fs/c"),
        ("4:memory:/x\n", "cgroup2 /sys/fs/c cgroup2 rw\n", None),
        ("0::/a\n", "tmpfs /sys/fs tmpfs rw\n", None),
    ],
)
def test_where_a_control_group_is(groups: str, mounts: str, path: str | None) -> None:
    if path is None:
        with pytest.raises(Failure):
            cgroup_path(groups, mounts)
    else:
        assert cgroup_path(groups, mounts) == path


def test_lptest_prints_a_ripple(instance: Instance) -> None:
    assert lines(instance, "lptest", "4", "3") == ['!"#$', '"#$%', "#$%&"]
    ripple = lines(instance, "lptest")
    assert (len(ripple), {len(line) for line in ripple}) == (1000, {79})
    assert ripple[94] == ripple[0]
    assert len(lines(instance, "lptest", "200", "1")[0]) == 200
    assert flux(instance, "lptest", "x") == ([], "flux-lptest: error parsing length\n", 1)
