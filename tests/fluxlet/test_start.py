"""`flux start`: real instances, from the command line to the last trace of them (spec 03, sections 3 to 8)."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import PATIENCE, gone, wait_until

FLUX = str(Path(sys.executable).parent / "flux")


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for run directories, with a path short enough for sockets."""
    return tmp_path_factory.mktemp("t")


@pytest.fixture
def environ(place: Path) -> dict[str, str]:
    """The environment of a user who is in no instance."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("FLUX_", "PMI_", "SLURM_"))}
    return {**own, "TMPDIR": str(place), "SHELL": "/bin/sh"}


def start(environ: dict[str, str], *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs `flux start WORDS` to its end."""
    defaults: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    return subprocess.run([FLUX, "start", *words], env=environ, timeout=PATIENCE, **{**defaults, **options})


class Instance:
    """A running `flux start` whose initial program has printed a line.

    Args:
        script: a shell script, which prints a line when it is ready.
    """

    def __init__(self, environ: dict[str, str], *options: str, script: str, **popen: Any) -> None:
        popen = {"stdin": subprocess.DEVNULL, "start_new_session": False, **popen}
        self.process = subprocess.Popen(
            [FLUX, "start", *options, "sh", "-c", script],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **popen,
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline().strip()

    def end(self) -> tuple[int, str]:
        """Waits for its end; returns the exit code and stderr."""
        try:
            _, errors = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return self.process.returncode, errors


@pytest.fixture
def launch(environ: dict[str, str]) -> Iterator[Callable[..., Instance]]:
    """Makes instances; those that a test has left are killed."""
    instances: list[Instance] = []

    def make(*options: str, script: str, **popen: Any) -> Instance:
        instances.append(Instance(environ, *options, script=script, **popen))
        return instances[-1]

    yield make
    for instance in instances:
        instance.process.kill()
        instance.process.wait()
        for stream in (instance.process.stdout, instance.process.stderr):
            assert stream is not None
            stream.close()


def plain(errors: str) -> str:
    """Log lines without what is different every time."""
    errors = re.sub(r"^\w{3} \d\d \d\d:\d\d:\d\d\.\d{6} \S+ \d{4} ", "", errors, flags=re.M)
    errors = re.sub(r"broker\.(\w+)\[[^]]*\]", r"broker.\1[]", errors)
    return re.sub(r"\d+\.\d+s$", "T", errors, flags=re.M)


# What runs, and its exit code.


@pytest.mark.parametrize(
    ("words", "code", "errors"),
    [
        (["true"], 0, ""),
        (["false"], 1, "broker.err[]: rc2.0: false Exited (rc=1) T\n"),
        (["exit 3"], 3, "broker.err[]: rc2.0: exit 3 Exited (rc=3) T\n"),
        (["sh", "-c", "exit 5"], 5, "broker.err[]: rc2.0: sh -c exit 5 Exited (rc=5) T\n"),
        (["kill -9 $$"], 137, "broker.err[]: rc2.0: kill -9 $$ Killed (rc=137) T\n"),
        (["kill -TERM $$"], 143, "broker.err[]: rc2.0: kill -TERM $$ Terminated (rc=143) T\n"),
        (["nosuch", "arg"], 127, "rc2.0: nosuch arg error launching process: No such file or directory (rc=127) T\n"),
        (["/nosuch/cmd", "arg"], 127, "error launching process: No such file or directory (rc=127) T\n"),
        (["/etc", "arg"], 126, "rc2.0: /etc arg error launching process: Permission denied (rc=126) T\n"),
        (["--", "true"], 0, ""),
        (["--test-size=1", "true"], 0, ""),
    ],
)
def test_the_exit_code_is_that_of_the_initial_program(
    environ: dict[str, str], words: list[str], code: int, errors: str
) -> None:
    done = start(environ, *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert plain(done.stderr).endswith(errors)
    assert bool(done.stderr) == bool(code)


def test_failed_lines_have_time_rank_and_severity(environ: dict[str, str]) -> None:
    done = start({**environ, "TZ": "UTC"}, "false")
    assert re.fullmatch(
        r"\w{3} \d\d \d\d:\d\d:\d\d\.\d{6} UTC \d{4} broker\.err\[0\]: rc2\.0: false Exited \(rc=1\) \d\.\ds\n",
        done.stderr,
    )


def test_stdin_stdout_and_stderr_are_those_of_the_caller(environ: dict[str, str]) -> None:
    done = start(environ, "sh", "-c", "cat; echo problem >&2", stdin=None, input="some\ntext")
    assert (done.returncode, done.stdout, done.stderr) == (0, "some\ntext", "problem\n")


def test_one_word_that_is_an_executable_file_is_run_and_not_parsed(environ: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "it's"
    script.write_text("#!/bin/sh\necho ran\n")
    script.chmod(0o755)
    assert start(environ, str(script)).stdout == "ran\n"


def test_one_word_is_for_the_users_shell(environ: dict[str, str], tmp_path: Path) -> None:
    shell = tmp_path / "shell"
    shell.write_text('#!/bin/sh\necho "shell: $*"\n')
    shell.chmod(0o755)
    assert start({**environ, "SHELL": str(shell)}, "word").stdout == "shell: -c word\n"


def test_a_shell_that_is_missing_is_replaced_with_a_warning(environ: dict[str, str]) -> None:
    done = start({**environ, "SHELL": "/nosuch/shell"}, "-S", "log-stderr-level=4", "echo ran")
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert plain(done.stderr) == ("broker.warning[]: SHELL=/nosuch/shell cannot be executed: using /bin/sh\n")


@pytest.mark.parametrize("words", [[], ["sh"], ["/bin/sh"]])
def test_an_interactive_shell_needs_a_terminal(environ: dict[str, str], words: list[str]) -> None:
    done = start(environ, *words)
    assert done.returncode == 1
    assert plain(done.stderr) == "broker.crit[]: stdin is not a tty - can't run interactive shell\n"


# The environment.


def test_programs_get_the_uri_of_this_instance_and_nothing_of_an_enclosing_one(environ: dict[str, str]) -> None:
    outer = {
        "FLUX_URI": "local:///outer",
        "FLUX_KVS_NAMESPACE": "job-1",
        "FLUX_JOB_ID": "1",
        "FLUX_JOB_ID_PATH": "/f1",
        "FLUX_ENCLOSING_ID": "f1",
        "FLUX_PROXY_REMOTE": "host",
        "FLUX_TASK_RANK": "0",
        "FLUX_TERMINUS_SESSION": "0",
        "SLURM_JOB_ID": "1",
        "PMIX_RANK": "0",
        "PALS_RANKID": "0",
        "NOTIFY_SOCKET": "/x",
        "MINE": "kept",
    }
    script = "import json, os; print(json.dumps(dict(os.environ)))"
    done = start({**environ, **outer}, sys.executable, "-c", script)
    inner = json.loads(done.stdout)
    assert [name for name in outer if name in inner] == ["FLUX_URI", "MINE"]
    assert re.fullmatch(rf"local://{environ['TMPDIR']}/flux-\w{{6}}/local-0", inner["FLUX_URI"])
    assert inner["FLUX_EXEC_PATH"]


@pytest.mark.parametrize("python_path", [None, "/mine"])
def test_any_python_finds_our_flux_package_and_the_users_path_stays(
    environ: dict[str, str], python_path: str | None
) -> None:
    environ.pop("PYTHONPATH", None)
    if python_path:
        environ["PYTHONPATH"] = python_path
    done = start(environ, "echo $PYTHONPATH")
    first, *rest = done.stdout.strip().split(":")
    assert os.listdir(first) == ["flux"] or set(os.listdir(first)) == {"flux"}
    assert rest == ([python_path] if python_path else [])


def test_flux_is_found_in_the_instance_though_it_is_not_in_path(environ: dict[str, str]) -> None:
    done = start({**environ, "PATH": "/usr/bin:/bin"}, "command -v flux")
    assert done.stdout.strip() == FLUX


def test_the_front_end_is_linked_in_the_run_directory(environ: dict[str, str]) -> None:
    done = start(environ, "readlink $(flux getattr rundir)/bin/flux")
    assert done.stdout.strip() == FLUX


# Run directory.


def test_directories_are_private_hold_the_socket_and_are_gone_afterwards(environ: dict[str, str], place: Path) -> None:
    script = (
        "import os, stat\n"
        "uri = os.environ['FLUX_URI'].removeprefix('local://')\n"
        "for path in (uri, os.path.dirname(uri)):\n"
        "    print(oct(os.stat(path).st_mode))\n"
        f"for name in os.listdir({str(place)!r}):\n"
        f"    print(oct(os.stat(os.path.join({str(place)!r}, name)).st_mode))\n"
    )
    done = start(environ, sys.executable, "-c", script)
    assert done.stdout.split() == ["0o140777", "0o40700", "0o40700", "0o40700"]
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    "words", [["false"], ["nosuch", "x"], ["-S", "log-level=abc", "true"], ["-S", "foo=1", "true"]]
)
def test_nothing_is_left_after_a_failure(environ: dict[str, str], place: Path, words: list[str]) -> None:
    assert start(environ, *words).returncode != 0
    assert list(place.iterdir()) == []


def test_a_rundir_that_exists_stays_and_what_we_made_in_it_goes(environ: dict[str, str], place: Path) -> None:
    mine = place / "mine"
    mine.mkdir(mode=0o700)
    (mine / "file").touch()
    done = start(environ, "-S", f"rundir={mine}", "flux getattr local-uri; flux getattr rundir-cleanup")
    assert done.stdout.split() == [f"local://{mine}/local-0", "0"]
    assert os.listdir(mine) == ["file"]


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        (["rundir=T/new"], []),
        (["rundir=T/new", "rundir-cleanup=0"], ["new"]),
        (["statedir=T/state"], []),
        (["statedir=T/state", "statedir-cleanup=0"], ["state"]),
    ],
)
def test_who_removes_a_directory_can_be_set(
    environ: dict[str, str], place: Path, settings: list[str], left: list[str]
) -> None:
    words = [f"-S{setting.replace('T', str(place))}" for setting in settings]
    assert start(environ, *words, "true").returncode == 0
    assert sorted(os.listdir(place)) == left


def test_a_local_uri_may_be_elsewhere(environ: dict[str, str], place: Path, tmp_path: Path) -> None:
    uri = f"local://{place}/sock"
    done = start(environ, "-S", f"local-uri={uri}", "echo $FLUX_URI; flux getattr local-uri")
    assert done.stdout.split() == [uri, uri]
    assert list(place.iterdir()) == []


def test_a_tmpdir_too_long_for_sockets_is_replaced_with_a_warning(environ: dict[str, str], place: Path) -> None:
    deep = place / ("x" * 100)
    deep.mkdir()
    done = start({**environ, "TMPDIR": str(deep)}, "-S", "log-stderr-level=4", "echo $FLUX_URI")
    assert done.returncode == 0
    assert done.stdout.startswith("local:///tmp/flux-")
    assert "broker.warning[0]: rundir: TMPDIR is too long" in done.stderr


# What is wrong with the command line.


@pytest.mark.parametrize(
    ("words", "errors"),
    [
        (["--nosuch"], "flux-start: unrecognized option '--nosuch'\nTry `flux-start --help' for more information.\n"),
        (["--test-size=0", "true"], "flux-start: --test-size argument must be > 0\n"),
        (["--test-size=-1", "true"], "flux-start: --test-size argument must be > 0\n"),
        (["--test-hosts=x", "true"], "flux-start: --test-hosts only works with --test-size\n"),
        (["-s1", "--test-exit-mode=x", "true"], "flux-start: unknown --test-exit-mode: x\n"),
        (["-s1", "--test-start-mode=x", "true"], "flux-start: unknown --test-start-mode: x\n"),
        (["-Sfoo=1", "true"], "flux-broker: foo: unknown attribute\n"),
        (["-Srank=1", "true"], "flux-broker: rank: attribute may not be set on the command line\n"),
        (["-c/nosuch", "true"], "broker.crit[]: Config file error: stat: /nosuch: No such file or directory\n"),
        (["--conf==x", "true"], "broker.crit[]: --conf: value must have a key in KEY=VAL\n"),
        (["-Sbroker.boot-method=foo", "true"], "broker.crit[]: bootstrap: plugin matching 'foo' not found\n"),
        (["-Srundir=/nosuch/dir", "true"], "rundir error creating /nosuch/dir: No such file or directory\n"),
        (["-Sbroker.quorum=2", "true"], "broker.crit[]: Error parsing broker.quorum attribute\n"),
        (["-Sbroker.quorum-warn=x", "true"], "broker.crit[]: Error parsing broker.quorum-warn attribute\n"),
        (["-Sbroker.critical-ranks=4", "true"], "broker.crit[]: invalid value for broker.critical-ranks='4'\n"),
        (["-Slog-level=abc", "true"], "broker.crit[]: Error initializing logging: log-level: Invalid argument\n"),
        (["-Slocal-uri=foo", "true"], "broker.crit[]: local-uri is malformed\n"),
    ],
)
def test_a_bad_command_line_ends_with_a_sentence_and_exit_code_1(
    environ: dict[str, str], words: list[str], errors: str
) -> None:
    done = start(environ, *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert plain(done.stderr).endswith(errors)
    assert plain(done.stderr).count("\n") == errors.count("\n")


def test_before_the_rank_is_known_log_lines_name_the_host(environ: dict[str, str]) -> None:
    done = start(environ, "-c", "/nosuch", "-Shostname=myhost", "true")
    assert "broker.crit[myhost]: Config file error" in done.stderr


def test_help_goes_to_stderr(environ: dict[str, str]) -> None:
    done = start(environ, "--help")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("Usage: flux-start [OPTIONS] ")


def test_verbose_prints_the_brokers_command_line_and_noexec_does_no_more(environ: dict[str, str], place: Path) -> None:
    done = start(environ, "-v", "-X", "-Sa=b,c=d", "-o-v", "--conf=x=1,2", "sleep", "1")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"flux-start: {FLUX} broker -Sa=b -Sc=d --conf=x=1,2 -v sleep 1\n"
    assert list(place.iterdir()) == []


def test_a_wrapper_runs_the_broker(environ: dict[str, str]) -> None:
    done = start(environ, "--wrap=env,WRAPPED=yes", "echo $WRAPPED $FLUX_URI")
    assert done.stdout.startswith("yes local://")


def test_attributes_and_configuration_reach_the_instance(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[t]\na = 1\n")
    done = start(
        environ,
        "-Stest.a=1,test.b=2",
        "-c",
        str(tmp_path),
        "--conf=t.b=2",
        sys.executable,
        "-c",
        "import flux; h = flux.Flux(); print(h.attr_get('test.a'), h.attr_get('test.b'), h.attr_get('config.path'));"
        " print(h.rpc('config.get').get())",
    )
    assert done.stdout == f"1 2 {tmp_path}\n{{'t': {{'a': 1, 'b': 2}}}}\n"


def test_a_test_instance_says_how_its_broker_has_failed(environ: dict[str, str]) -> None:
    done = start(environ, "--test-size=1", "flux getattr broker.boot-method; exit 2")
    assert (done.returncode, done.stdout) == (2, "simple\n")
    assert re.search(r"^flux-start: 0 \(pid \d+\) exited with rc=2$", done.stderr, re.M)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rank", "0"),
        ("size", "1"),
        ("instance-level", "0"),
        ("jobid-path", "/"),
        ("broker.boot-method", "single"),
        ("broker.mapping", "[[0,1,1,1]]"),
        ("broker.critical-ranks", "0"),
        ("security.owner", str(os.getuid())),
        ("rundir-cleanup", "1"),
    ],
)
def test_attributes_say_what_the_instance_is(launched: dict[str, str], name: str, value: str) -> None:
    assert launched[name] == value


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The attributes of an instance."""
    environ = {**os.environ, "TMPDIR": str(tmp_path_factory.mktemp("t"))}
    environ.pop("FLUX_URI", None)
    done = start(environ, "flux lsattr -v")
    lines = [line.split(None, 1) for line in done.stdout.splitlines()]
    return {line[0]: line[1] if len(line) > 1 else "" for line in lines}


def test_the_instance_is_in_state_run_and_online_when_the_program_starts(environ: dict[str, str]) -> None:
    script = (
        "import flux; h = flux.Flux();"
        "print(h.rpc('state-machine.get').get()['state'], h.rpc('groups.get', {'name': 'broker.online'}).get());"
        "print({mod['status'] for mod in h.rpc('module.list').get()['mods']})"
    )
    done = start(environ, sys.executable, "-c", script)
    assert done.stdout == "run {'members': '0'}\n{1}\n", done.stderr


def test_verbose_brokers_log_their_life_to_stderr(environ: dict[str, str]) -> None:
    done = start(environ, "-o-v", "true")
    states = re.findall(r"^<6>broker\.info\[0\]: ([a-z0-9-]+): ([a-z-]+)->([a-z-]+) \S+$", done.stderr, re.M)
    assert [new for _, _, new in states] == [
        "join", "config-sync", "init", "quorum", "run", "cleanup",
        "shutdown", "finalize", "goodbye", "unload-builtins", "exit",
    ]  # fmt: skip
    assert re.search(r"^<6>broker\.info\[0\]: rc2\.0: true Exited \(rc=0\) 0\.\ds$", done.stderr, re.M)


def test_a_set_of_ranks_as_quorum_is_accepted_with_a_warning(environ: dict[str, str]) -> None:
    done = start(environ, "-Sbroker.quorum=0", "-Slog-stderr-level=4", "flux getattr broker.quorum")
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert plain(done.stderr) == "broker.warning[]: warning: broker.quorum is now a size - assuming 1\n"


# rc1, cleanup, rc3.


def test_commands_pushed_for_cleanup_run_last_pushed_first_and_their_output_is_logged(
    environ: dict[str, str],
) -> None:
    script = (
        "import flux; h = flux.Flux();"
        "h.rpc('runat.push', {'name': 'cleanup', 'commands': ['echo one', 'echo two >&2']}).get();"
        "h.rpc('runat.push', {'name': 'cleanup', 'commands': ['echo three; exit 4']}).get()"
    )
    done = start(environ, "-Slog-stderr-level=6", sys.executable, "-c", script)
    lines = [line for line in plain(done.stderr).splitlines() if "cleanup." in line]
    assert lines == [
        "broker.info[]: cleanup.0: three",
        "broker.err[]: cleanup.0: echo three; exit 4 Exited (rc=4) T",
        "broker.err[]: cleanup.1: two",
        "broker.info[]: cleanup.1: echo two >&2 Exited (rc=0) T",
        "broker.info[]: cleanup.2: one",
        "broker.info[]: cleanup.2: echo one Exited (rc=0) T",
    ]
    assert done.returncode == 4


@pytest.mark.parametrize(
    ("settings", "code", "ran"),
    [
        (["broker.rc1_path=exit 9"], 9, False),
        (["broker.rc1_path=exit 9", "broker.recovery-mode=1"], 0, True),
        (["broker.rc1_path=exit 9", "broker.exit-norestart=42"], 42, False),
        (["broker.rc1_path="], 0, True),
        (["broker.rc3_path=exit 8"], 8, True),
        (["broker.rc1_path=true", "broker.rc3_path=true"], 0, True),
    ],
)
def test_rc_commands_decide_over_start_and_exit_code(
    environ: dict[str, str], settings: list[str], code: int, ran: bool
) -> None:
    done = start(environ, *(f"-S{setting}" for setting in settings), "echo ran")
    assert (done.returncode, done.stdout) == (code, "ran\n" if ran else "")


def test_scripts_of_extra_rc_directories_run_in_order(environ: dict[str, str], tmp_path: Path) -> None:
    for name, text in {"rc1.d/b": "b", "rc1.d/a": "a", "rc3.d/c": "c"}.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\necho {text} >>{tmp_path}/log\n")
        path.chmod(0o755)
    start({**environ, "FLUX_RC_EXTRA": str(tmp_path)}, f"echo program >>{tmp_path}/log")
    assert (tmp_path / "log").read_text().split() == ["a", "b", "program", "c"]


# Signals.


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM])
def test_a_terminating_signal_hangs_up_the_program_and_all_is_cleaned_up(
    launch: Callable[..., Instance], place: Path, signum: signal.Signals
) -> None:
    instance = launch(script="sleep 1000 & echo $!; wait")
    instance.process.send_signal(signum)
    code, errors = instance.end()
    assert code == 129
    assert plain(errors) == "broker.err[]: rc2.0: sh -c sleep 1000 & echo $!; wait Hangup (rc=129) T\n"
    assert gone(int(instance.line))
    assert list(place.iterdir()) == []


def test_a_program_that_ends_well_when_told_to_stop_has_failed(launch: Callable[..., Instance]) -> None:
    instance = launch(script="trap 'exit 0' HUP; echo ready; while :; do sleep 0.01; done")
    instance.process.terminate()
    code, errors = instance.end()
    assert code == 1
    assert "aborted after exit with rc=0 (rc=1)" in errors


@pytest.mark.parametrize(("ignored", "count", "code"), [("HUP", 2, 143), ("HUP TERM", 3, 137), ("HUP", 1, 3)])
def test_who_insists_ends_a_program_that_ignores_signals(
    launch: Callable[..., Instance], ignored: str, count: int, code: int
) -> None:
    script = f"trap '' {ignored}; trap 'exit 3' USR1; echo $$; while :; do read x </dev/null || sleep 0.01; done"
    instance = launch("-Slog-stderr-level=6", "-Slog-stderr-mode=local", script=script)
    assert instance.process.stderr is not None
    for _ in range(count):
        instance.process.terminate()
        # Each is taken before the next comes: signals do not queue.
        while "signal 15" not in instance.process.stderr.readline():
            pass
    if count == 1:
        # The first alone is ignored for good.
        os.kill(int(instance.line), signal.SIGUSR1)
    assert instance.end()[0] == code


def test_an_instance_without_program_stays_until_it_is_told(environ: dict[str, str], place: Path) -> None:
    process = subprocess.Popen(
        [FLUX, "start", "-Sbroker.rc2_none", "-o-v"], env=environ, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stderr is not None
        while "quorum->run" not in (line := process.stderr.readline()):
            assert line
        process.terminate()
        assert process.wait(PATIENCE) == 0
    assert list(place.iterdir()) == []


# Killed.


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("sleep 1000 & echo $$ $!; wait", id="background child"),
        pytest.param("trap '' HUP INT TERM; sleep 1000 & echo $$ $!; wait", id="ignoring signals"),
        pytest.param("setsid sleep 1000 & echo $$ $!; wait", id="another session"),
        pytest.param("(sleep 1000 & echo $$ $!); exec sleep 1000", id="orphan in the group"),
    ],
)
@pytest.mark.parametrize("leader", [False, True], ids=["own group", "shared group"])
def test_nothing_outlives_a_broker_that_is_killed(
    launch: Callable[..., Instance], place: Path, script: str, leader: bool
) -> None:
    instance = launch(script=script, start_new_session=leader)
    pids = [int(word) for word in instance.line.split()]
    assert not any(gone(pid) for pid in pids)
    instance.process.kill()
    instance.process.wait()
    wait_until(lambda: all(gone(pid) for pid in pids), "the end of all programs")
    wait_until(lambda: not list(place.iterdir()), "the removal of the directories")


def guardian_of(pid: int) -> int:
    """The guardian of a broker."""

    def find() -> int:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if Path(f"/proc/{child}/comm").read_text() == "flux-guardian\n":
                return int(child)
        return 0

    found: int = wait_until(find, "the guardian")
    return found


def test_the_guardian_ends_with_the_broker(launch: Callable[..., Instance]) -> None:
    instance = launch(script="echo ready; read x", stdin=subprocess.PIPE)
    guardian = guardian_of(instance.process.pid)
    assert instance.end()[0] == 1  # read has come to the end of its input
    assert gone(guardian)


def test_an_instance_goes_on_without_its_guardian_and_still_cleans_up(
    launch: Callable[..., Instance], place: Path
) -> None:
    instance = launch(script="echo ready; read x; exit 0", stdin=subprocess.PIPE)
    guardian = guardian_of(instance.process.pid)
    os.kill(guardian, signal.SIGKILL)
    wait_until(lambda: gone(guardian), "its end")
    assert instance.end() == (0, "")
    assert list(place.iterdir()) == []


def test_signals_to_the_group_leave_the_guardian_to_its_work(launch: Callable[..., Instance], place: Path) -> None:
    instance = launch(script="trap '' INT HUP; echo ready; while :; do sleep 0.01; done", start_new_session=True)
    guardian = guardian_of(instance.process.pid)
    os.killpg(instance.process.pid, signal.SIGINT)
    os.kill(guardian, signal.SIGHUP)
    os.kill(guardian, signal.SIGTERM)
    assert not gone(guardian)
    os.kill(instance.process.pid, signal.SIGKILL)
    wait_until(lambda: not list(place.iterdir()), "the removal of the directories")


def test_what_a_killed_pair_has_left_is_removed_by_the_next_start(
    launch: Callable[..., Instance], environ: dict[str, str], place: Path
) -> None:
    instance = launch(script="echo $FLUX_URI; exec sleep 1000")
    guardian = guardian_of(instance.process.pid)
    program = int(
        next(
            child
            for child in Path(f"/proc/{instance.process.pid}/task/{instance.process.pid}/children").read_text().split()
            if int(child) != guardian
        )
    )
    for pid in (guardian, instance.process.pid, program):
        os.kill(pid, signal.SIGKILL)
    instance.process.wait()
    assert len(list(place.iterdir())) == 2
    assert start(environ, "true").returncode == 0
    assert list(place.iterdir()) == []


def test_background_processes_of_the_program_hear_of_the_end(environ: dict[str, str]) -> None:
    for session in (False, True):
        done = start(environ, "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!", start_new_session=session)
        pid = int(done.stdout)
        wait_until(lambda pid=pid: gone(pid), "the end of the background process")


def test_programs_beside_the_instance_in_a_pipeline_are_left_alone(environ: dict[str, str], tmp_path: Path) -> None:
    # Job control makes the pipeline one group with flux as its leader, as at a prompt.
    script = f"set -m; {FLUX} start sh -c 'echo out; sleep 1000 & exit 0' </dev/null | (sleep 0.3; cat; echo end)"
    done = subprocess.run(
        ["bash", "-c", script], env=environ, capture_output=True, text=True, timeout=PATIENCE, start_new_session=True
    )
    assert done.stdout == "out\nend\n"


# shutdown.start.


def test_a_client_ends_the_instance_and_follows_its_log(launch: Callable[..., Instance]) -> None:
    instance = launch(script="echo $FLUX_URI; exec sleep 1000")
    script = (
        "import sys, flux\n"
        "from flux.constants import FLUX_RPC_STREAMING\n"
        "h = flux.Flux(sys.argv[1])\n"
        "f = h.rpc('shutdown.start', {'loglevel': 6}, flags=FLUX_RPC_STREAMING)\n"
        "try:\n"
        "    while True:\n"
        "        print(f.get()['log'], end=''); f.reset()\n"
        "except OSError as exc:\n"
        "    print(exc.errno)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, instance.line], capture_output=True, text=True, timeout=PATIENCE
    )
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"broker\.err\[0\]: rc2\.0: .* Hangup \(rc=129\) \d\.\ds", lines[0]), done
    assert re.fullmatch(r"broker\.info\[0\]: rc2-fail: run->cleanup \S+", lines[1])
    assert lines[-2].startswith("broker.info[0]: rc3-success: finalize->goodbye")
    assert lines[-1] == "61"
    assert instance.end()[0] == 129


def test_a_second_follower_is_refused_and_shutdown_without_a_stream_is_answered(
    launch: Callable[..., Instance],
) -> None:
    instance = launch(script="trap '' HUP; echo $FLUX_URI; read x; exit 0", stdin=subprocess.PIPE)
    script = (
        "import sys, flux\n"
        "from flux.constants import FLUX_RPC_STREAMING\n"
        "h, g = flux.Flux(sys.argv[1]), flux.Flux(sys.argv[1])\n"
        "f = h.rpc('shutdown.start', flags=FLUX_RPC_STREAMING)\n"
        "h.rpc('broker.ping', {}).get()\n"
        "print(g.rpc('shutdown.start').get())\n"
        "try:\n"
        "    g.rpc('shutdown.start', flags=FLUX_RPC_STREAMING).get()\n"
        "except OSError as exc:\n"
        "    print(exc.errno, exc.strerror)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, instance.line], capture_output=True, text=True, timeout=PATIENCE
    )
    assert "shutdown is already in progress" in done.stdout, done
    assert instance.end()[0] == 1  # it has ended well, but had been told to stop


def test_a_watcher_sees_the_states_up_to_goodbye_and_then_the_end_of_the_connection(
    launch: Callable[..., Instance],
) -> None:
    instance = launch(script="echo $FLUX_URI; read x; exit 0", stdin=subprocess.PIPE)
    script = (
        "import sys, flux\n"
        "from flux.constants import FLUX_RPC_STREAMING\n"
        "h = flux.Flux(sys.argv[1])\n"
        "f = h.rpc('state-machine.monitor', flags=FLUX_RPC_STREAMING)\n"
        "try:\n"
        "    while True:\n"
        "        print(f.get()['state'], flush=True); f.reset()\n"
        "except OSError as exc:\n"
        "    print('end')\n"
    )
    watcher = subprocess.Popen(
        [sys.executable, "-c", script, instance.line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with watcher:
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == "5\n"
        assert instance.end()[0] == 0
        assert watcher.stdout.read().split() == ["6", "7", "8", "9", "end"]
