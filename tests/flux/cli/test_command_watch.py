"""flux bulksubmit, watch, update and multi-prog on an instance (spec 08, 6.3 and 10).

The recordings of them are in test_command_submit.py and test_command_jobs.py.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from terminal import Terminal

from flux.cli.commands.multi_prog import Programs
from flux.job import JobList, JobspecV1, event_wait, result, submit
from fluxlet.testing import Instance


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    with Instance() as started:
        yield started


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path


def run(
    instance: Instance, directory: Path, line: str, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a command line of a shell."""
    return subprocess.run(
        ["/bin/sh", "-c", line],
        env={**instance.environ, "LANG": "C.UTF-8", **(environ or {})},
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_job_with_bad_options_does_not_keep_others_back(instance: Instance, directory: Path) -> None:
    done = run(instance, directory, "flux bulksubmit -n{} --watch --quiet echo {} ::: 1 x 1")
    assert (done.returncode, done.stdout) == (1, "1\n1\n")
    assert done.stderr == "--ntasks: invalid int value 'x'\n"


def test_bad_options_of_the_first_job_are_an_error(instance: Instance, directory: Path) -> None:
    done = run(instance, directory, "flux bulksubmit -n{} echo {} ::: x 1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "flux-bulksubmit: ERROR: --ntasks: invalid int value 'x'\n"


def test_refused_jobs_and_exit_codes_count_together(instance: Instance, directory: Path) -> None:
    line = "flux bulksubmit --urgency={0} --cc={1} --wait --quiet sh -c 'exit {1}' ::: 16 99 ::: 0 3"
    done = run(instance, directory, line)
    assert done.returncode == 3
    assert sorted(done.stderr.splitlines()) == [f"cc={cc}: [Errno 22] urgency range is [0:31]" for cc in (0, 3)]
    done = run(instance, directory, "flux bulksubmit --wait --quiet sh -c 'kill -9 $$' ::: 0 1")
    assert (done.returncode, done.stderr) == (128 + 9, "")


def test_more_jobs_than_are_sent_at_once(instance: Instance, directory: Path) -> None:
    done = run(
        instance, directory, "seq 700 | flux bulksubmit --urgency=hold --job-name=many true {} | sort -u | wc -l"
    )
    assert (done.stdout.strip(), done.stderr) == ("700", "")
    with instance.handle() as handle:
        jobs = JobList(handle, attrs=["name"], name="many", max_entries=0).jobs()
    assert len(jobs) == 700
    assert run(instance, directory, "flux cancel --all -S sched").returncode == 0


def test_each_job_may_have_its_own_log(instance: Instance, directory: Path) -> None:
    line = "flux bulksubmit --watch --log={}.log sh -c 'echo {}; echo error >&2' ::: 1 2"
    done = run(instance, directory, line)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for number in ("1", "2"):
        lines = (directory / f"{number}.log").read_text().splitlines()
        assert re.fullmatch(r"ƒ\w+", lines[0])
        assert sorted(lines[1:]) == [number, "error"]


def test_a_job_whose_log_cannot_be_written_is_not_submitted(instance: Instance, directory: Path) -> None:
    done = run(instance, directory, "flux submit --log=nosuch/log --job-name=unlogged true; flux pgrep -a unlogged")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "flux-submit: ERROR: --log: [Errno 2] No such file or directory: 'nosuch/log'\n"


def test_who_types_inputs_is_told_so(instance: Instance, directory: Path) -> None:
    with Terminal(["flux", "bulksubmit", "--dry-run", "echo", "{}"], instance.environ, directory) as terminal:
        terminal.expect("flux-bulksubmit: reading inputs from terminal, end with ctrl-D")
        terminal.type("a\nb\n\4")
        code, seen = terminal.end()
    assert code == 0
    assert "bulksubmit: submit echo a\r\nbulksubmit: submit echo b\r\n" in seen


@pytest.mark.parametrize("follow", ["--wait", ""])
def test_progress_ends_at_all_jobs(instance: Instance, directory: Path, follow: str) -> None:
    words = f"flux bulksubmit --progress --quiet {follow} test {{}} -ne 2 ::: 1 2 3".split()
    with Terminal(words, {**instance.environ, "COLUMNS": "80", "LINES": "24"}, directory) as terminal:
        code, seen = terminal.end()
    last = seen.rstrip().rpartition("\0338")[2]
    if follow:
        assert re.fullmatch(r"PD:  0 R:  0 CD:  2 F:  1 │█+│ 100\.0% 0:00:\d\d", last)
        assert " 0.0% 0:00:00" in seen  # not full before there are jobs
    else:
        assert re.fullmatch(r"Submitting 3 jobs: │█+│ 100\.0% 0:00:\d\d", last)
    assert code == (1 if follow else 0)


@pytest.fixture(scope="module")
def watched(instance: Instance) -> list[str]:
    """Three jobs that have ended, the last of them with exit code 2; their ids."""
    ids = []
    with instance.handle() as handle:
        for number, code in ((1, 0), (2, 0), (3, 2)):
            jobspec = JobspecV1.from_command(["sh", "-c", f"echo watched {number}; exit {code}"], name="watched")
            ids.append(str(submit(handle, jobspec)))
            result(handle, ids[-1])
    return ids


def test_watch_shows_what_jobs_have_written(instance: Instance, directory: Path, watched: list[str]) -> None:
    done = run(instance, directory, f"flux watch {' '.join(watched)}")
    assert (done.returncode, done.stderr) == (2, "")
    assert sorted(done.stdout.splitlines()) == ["watched 1", "watched 2", "watched 3"]
    done = run(instance, directory, f"flux watch -l {watched[1]} 1")
    assert (done.returncode, done.stdout) == (0, f"{watched[1]}: 0: watched 2\n")
    assert done.stderr == "flux-watch: ERROR: JobID 1 unknown\n"


def test_watch_selects_jobs(instance: Instance, directory: Path, watched: list[str]) -> None:
    done = run(instance, directory, "flux watch -A -c1")
    assert (done.returncode, done.stdout) == (2, "watched 3\n")
    done = run(instance, directory, "flux watch -f failed -c1 -v")
    assert (done.returncode, done.stdout) == (2, "watched 3\n")
    assert re.fullmatch(
        rf"flux-watch: INFO: Watching 1 jobs\n{watched[2]}: \d+\.\d{{3}}s: failed: status=512\n", done.stderr
    )
    done = run(instance, directory, "flux watch --since -1h -c2")
    assert (done.returncode, sorted(done.stdout.splitlines())) == (2, ["watched 2", "watched 3"])
    done = run(instance, directory, "flux watch --active --progress")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "flux-watch: INFO: No matching jobs\n")


def test_since_takes_what_looks_like_an_option(instance: Instance, directory: Path, watched: list[str]) -> None:
    done = run(instance, directory, "flux jobs --since -1h -no '{name}' -f failed -c1")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "watched")
    done = run(instance, directory, "flux jobs --since -a")
    assert (done.returncode, done.stdout) == (2, "")
    done = run(instance, directory, "flux jobs --since=+1h")
    assert (done.returncode, done.stderr) == (1, "flux-jobs: ERROR: --since=+1h appears to be in the future\n")


def test_progress_of_jobs_that_have_ended_is_there_at_once(
    instance: Instance, directory: Path, watched: list[str]
) -> None:
    words = ["flux", "watch", "--progress", *watched]
    with Terminal(words, {**instance.environ, "COLUMNS": "80", "LINES": "24"}, directory) as terminal:
        terminal.expect("PD:  0 R:  0 CD:  2 F:  1 │")
        code, seen = terminal.end()
    assert code == 2
    assert re.fullmatch(r"PD:  0 R:  0 CD:  2 F:  1 │█+│ 100\.0% 0:\d\d:\d\d", seen.rstrip().rpartition("\0338")[2])


def test_watch_follows_what_is_active(instance: Instance, directory: Path) -> None:
    script = "echo begun; while ! test -e go; do sleep 0.02; done"
    with instance.handle() as handle:
        jobid = submit(handle, JobspecV1.from_command(["sh", "-c", script], cwd=str(directory)))
        with Terminal(["flux", "watch", "--active"], instance.environ, directory) as terminal:
            terminal.expect("begun")
            (directory / "go").touch()
            assert terminal.end()[0] == 0
        assert result(handle, jobid).result == "COMPLETED"


def test_update_waits_until_the_event_is_there(instance: Instance, directory: Path) -> None:
    with instance.handle() as handle:
        jobid = submit(handle, JobspecV1.from_command(["sleep", "60"], duration="10m"))
        event_wait(handle, jobid, "start")
        done = run(instance, directory, f"flux update --wait -v {jobid} duration=+10m")
        assert (done.returncode, done.stderr) == (
            0,
            "flux-update: INFO: updated attributes.system.duration to 1200.0\n",
        )
        done = run(instance, directory, f"flux update -n {jobid} duration=-5m attributes.user.a=b resources.x='[1]'")
        assert done.stdout == '{"attributes.system.duration": 900.0, "attributes.user.a": "b", "resources.x": [1]}\n'
        for change, text in (
            ("duration=-20m", f"current duration for {jobid} (20m) cannot be reduced by 20m"),
            ("duration=x", "invalid Flux standard duration"),
            ("duration", "Missing required value for key duration"),
        ):
            done = run(instance, directory, f"flux update {jobid} {change}")
            assert (done.returncode, done.stderr) == (1, f"flux-update: ERROR: {text}\n")
        assert run(instance, directory, f"flux cancel {jobid}").returncode == 0
        result(handle, jobid)
        done = run(instance, directory, f"flux update {jobid} duration=1h")
        assert (done.returncode, done.stderr) == (1, "flux-update: ERROR: job is inactive\n")
        done = run(instance, directory, "flux update 1 duration=+1h")
        assert (done.returncode, done.stderr) == (1, "flux-update: ERROR: unknown job id\n")


CONFIG = """
# programs
0,4-5  first %t 'two words' "%o"   # three tasks
4      never
*      rest %t%o
* never
"""


def test_a_task_runs_the_first_line_that_names_it() -> None:
    programs = Programs("file", CONFIG.splitlines())
    assert programs.command(0) == ["first", "0", "two words", "0"]
    assert programs.command(4) == ["first", "4", "two words", "1"]
    assert programs.command(5) == ["first", "5", "two words", "2"]
    assert programs.command(3) == ["rest", "33"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("0 a\n1 'b", "file: line 2: ''1 'b'': No closing quotation"),
        ("0 a\n\nx b", "file: line 3: invalid idset: x"),
        ("0", "file: line 1: no command for 0"),
        ("0 a", "file: No matching line for rank 7"),
    ],
)
def test_files_that_say_nothing_for_a_task(text: str, error: str) -> None:
    with pytest.raises(ValueError, match="file: ") as raised:
        Programs("file", text.splitlines()).command(7)
    assert str(raised.value) == error.replace("''1 'b''", "'1 'b'")


def test_a_program_that_there_is_not(instance: Instance, directory: Path) -> None:
    (directory / "programs").write_text("* no-such-program\n")
    done = run(instance, directory, "flux multi-prog programs", {"FLUX_TASK_RANK": "0"})
    assert done.returncode == 127
    assert done.stderr == "flux-multi-prog: ERROR: no-such-program: No such file or directory\n"
