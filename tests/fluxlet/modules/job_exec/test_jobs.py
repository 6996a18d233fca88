"""Jobs in our own shell: what they see, what is left of them, and how they end."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from exec_player import JobPlayer

from flux.core import content_rpc, fluid

VECTORS = Path(__file__).parents[3] / "vectors"


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def py(script: str) -> list[str]:
    return [sys.executable, "-c", script]


# The course of events.


def test_a_silent_job_leaves_what_the_reference_leaves(player: JobPlayer) -> None:
    job = player.run(["true"])
    assert job.responses == [("start", {}), ("finish", {"status": 0}), ("release", {"ranks": "all", "final": True})]
    events = player.events(job)
    names = ["init", "starting", "shell.init", "shell.start", "shell.task-exit", "shell-exit", "complete", "done"]
    assert sorted(event["name"] for event in events) == sorted(names)
    by_name = {event["name"]: event for event in events}
    assert list(by_name["shell.init"]["context"].items()) == [
        ("service", player.service(job)),
        ("leader-rank", 0),
        ("size", 1),
    ]
    assert by_name["shell.start"]["context"] == {"taskmap": {"version": 1, "map": [[0, 1, 1, 1]]}}
    exited = by_name["shell.task-exit"]["context"]
    assert list(exited) == ["localid", "rank", "state", "pid", "wait_status", "signaled", "exitcode"]
    assert (exited["state"], exited["wait_status"]) == ("Exited", 0)
    assert by_name["shell-exit"]["context"] == {"rank": 0, "wait_status": 0}
    assert by_name["complete"]["context"] == {"status": 0}
    assert "context" not in by_name["done"]
    output = player.events(job, "output")
    assert [event["name"] for event in output] == ["header", "data", "data"]
    assert sorted(event["context"]["stream"] for event in output[1:]) == ["stderr", "stdout"]
    assert all(event["context"]["eof"] for event in output[1:])
    assert [event["name"] for event in player.events(job, "input")] == ["header"]


def test_the_recorded_job_ends_as_recorded(player: JobPlayer) -> None:
    """exec-job-1node: two tasks, output on both streams, the exit code of each its rank."""
    script = "echo out $FLUX_TASK_RANK; echo err $FLUX_TASK_RANK >&2; exit $FLUX_TASK_RANK"
    job = player.run(sh(script), slots=2, cores="0-1")
    recorded = []
    for line in (VECTORS / "exec-job-1node-modules.jsonl").read_text().splitlines():
        value = json.loads(line)
        if value["module"] == "job-exec" and value["topic"] == "job-exec.start" and value["dir"] == "tx":
            recorded.append((value["payload"]["type"], value["payload"]["data"]))
    assert job.responses == recorded
    assert sorted(player.output(job).splitlines()) == ["out 0", "out 1"]
    assert sorted(player.output(job, "stderr").splitlines()) == ["err 0", "err 1"]
    header = player.events(job, "output")[0]
    assert header["context"]["count"] == {"stdout": 2, "stderr": 2}
    assert sum(event["name"] == "shell.task-exit" for event in player.events(job)) == 1


def test_the_guest_directory_is_in_the_namespace_while_the_job_runs(player: JobPlayer) -> None:
    job = player.start(sh("read line"))
    player.started(job)
    guest = f"{fluid.kvs(job.id)}.guest"
    answer = player.handle.rpc("kvs.lookup", {"key": guest, "namespace": "primary", "flags": 2}).get()
    assert answer["val"]["data"] == {"namespace": f"job-{job.id}", "target": "."}
    player.handle.rpc(f"{player.service(job)}.stdin", {"stream": "stdin", "rank": "all", "eof": True}, 0).get()
    assert player.wait(job).status == 256
    answer = player.handle.rpc("kvs.lookup", {"key": guest, "namespace": "primary", "flags": 16}).get()
    assert answer["val"]["type"] == "dirref"


def test_what_a_task_puts_into_its_namespace_stays(player: JobPlayer) -> None:
    script = "import flux, flux.kvs as k; h = flux.Flux(); k.put(h, 'own', 42); k.commit(h)"
    job = player.run(py(script), env={"PYTHONPATH": os.pathsep.join(sys.path)})
    assert job.status == 0, player.output(job, "stderr")
    assert player.guest(job, "own") == "42"


# What a task sees.


def test_the_environment_of_a_task(player: JobPlayer) -> None:
    job = player.run(["env"], slots=2, cores="0", env={"OWN": "yes", "HOSTNAME": "other"})
    seen = dict(line.partition("=")[::2] for line in player.output(job, rank=1).splitlines())
    f58 = fluid.f58(job.id)
    rundir = player.handle.attr_get("rundir")
    wanted = {
        "OWN": "yes",
        "HOSTNAME": player.handle.attr_get("hostname"),
        "FLUX_JOB_ID": f58,
        "FLUX_JOB_ID_PATH": f"/{f58}",
        "FLUX_JOB_SIZE": "2",
        "FLUX_JOB_NNODES": "1",
        "FLUX_TASK_RANK": "1",
        "FLUX_TASK_LOCAL_ID": "1",
        "FLUX_KVS_NAMESPACE": f"job-{job.id}",
        "FLUX_JOB_TMPDIR": f"{rundir}/jobtmp-0-{f58}",
        "PMI_RANK": "1",
        "PMI_SIZE": "2",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    assert {name: seen.get(name) for name in wanted} == wanted
    assert not [name for name in seen if name.startswith("FLUXLET_")]


def test_pmi_and_gpu_variables_can_be_left_out(player: JobPlayer) -> None:
    job = player.run(["env"], {"pmi": "off", "gpu-affinity": "off"}, env={"FLUX_F58_FORCE_ASCII": "1"})
    assert "PMI_" not in player.output(job)
    assert "CUDA" not in player.output(job)
    assert f"FLUX_JOB_ID={fluid.f58plain(job.id)}\n" in player.output(job)


def test_cwd_and_what_becomes_of_one_that_is_missing(player: JobPlayer, tmp_path: Path) -> None:
    assert player.output(player.run(["pwd"], cwd=str(tmp_path))) == f"{tmp_path}\n"
    job = player.run(["pwd"], cwd="/nosuch")
    assert job.status == 0
    assert player.output(job) == "/tmp\n"
    host = player.handle.attr_get("hostname")
    text = f"host {host}: Could not change dir to /nosuch: No such file or directory. Going to /tmp instead"
    assert player.logged(job) == [text]


def test_the_working_directory_is_held_by_nobody_afterwards(player: JobPlayer, tmp_path: Path) -> None:
    player.run(["true"], cwd=str(tmp_path))
    stats = player.handle.rpc("job-shell.stats-get").get()
    shell = Path(f"/proc/{stats['pid']}/task/{stats['pid']}/children").read_text().split()[0]
    assert os.readlink(f"/proc/{shell}/cwd") == "/"


def test_arguments_are_templates(player: JobPlayer) -> None:
    script = "{{taskid}} {{task.index}} {{size}} {{node.id}} {{name}} {{id.dec}} {{nosuch}}"
    job = player.run(["echo", script], slots=2)
    assert player.output(job, rank=1) == f"1 1 2 0 echo {job.id} {{{{nosuch}}}}\n"
    job = player.run(["echo", "{{id"])
    assert player.output(job) == "{{id\n"
    assert player.logged(job) == ["mustache template error at pos=0"]


def test_variables_can_be_templates(player: JobPlayer) -> None:
    job = player.run(sh("echo $FOO"), {"env-expand": {"FOO": "{{taskid}}@{{nnodes}}"}}, slots=2)
    assert player.output(job, rank=1) == "1@1\n"


def test_jobs_alike_are_not_mixed_up(player: JobPlayer, tmp_path: Path) -> None:
    show = sh("echo $FLUX_JOB_ID $FLUX_JOB_TMPDIR $OWN {{id}} {{node.cores}}")
    options = {"env-expand": {"OWN": "{{id.dec}}"}}
    rundir = player.handle.attr_get("rundir")
    for cores in ("0", "1", "0"):
        job = player.run(show, options, cores=cores)
        f58 = fluid.f58(job.id)
        assert player.output(job) == f"{f58} {rundir}/jobtmp-0-{f58} {job.id} {f58} {cores}\n"
    # What a file says is read for each of them.
    hosts = tmp_path / "hosts"
    options = {"taskmap": {"scheme": "hostfile", "value": str(hosts)}}
    hosts.write_text("test0\n")
    assert player.run(["true"], options).status == 0
    hosts.write_text("other\n")
    assert player.run(["true"], options).status == 256


def test_limits_of_the_submitter(player: JobPlayer) -> None:
    job = player.run(sh("ulimit -Sn; ulimit -Sc"), {"rlimit": {"nofile": 77, "core": 0}})
    assert player.output(job) == "77\n0\n"
    # They were the task's alone.
    stats = player.handle.rpc("job-shell.stats-get").get()
    shell = Path(f"/proc/{stats['pid']}/task/{stats['pid']}/children").read_text().split()[0]
    assert " 77 " not in Path(f"/proc/{shell}/limits").read_text()


def test_tasks_are_bound_to_their_cores(player: JobPlayer) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    show = py("import os; print(sorted(os.sched_getaffinity(0)))")
    if len(cpus) > 1:
        job = player.run(show, cores="1")
        assert player.output(job) == f"[{cpus[1]}]\n"
        job = player.run(show, {"cpu-affinity": "per-task"}, slots=2, cores="0-1")
        assert [player.output(job, rank=rank) for rank in (0, 1)] == [f"[{cpus[0]}]\n", f"[{cpus[1]}]\n"]
    assert player.output(player.run(show, {"cpu-affinity": "off"})) == f"{cpus}\n"
    job = player.run(show, cores="0-999")
    assert (job.status, player.output(job)) == (0, f"{cpus}\n")
    assert player.logged(job)[1] == "unable to get cpuset for cores 0-999. Disabling affinity"


def test_files_of_the_jobspec_are_in_its_directory(player: JobPlayer) -> None:
    files = {"script": {"mode": 0o100700, "data": "#!/bin/sh\necho hi $1\n", "encoding": "utf-8"}}
    job = player.run(["{{tmpdir}}/script", "you"], system={"files": files})
    assert player.output(job) == "hi you\n"


def test_files_of_the_jobspec_can_be_in_the_content_store(player: JobPlayer) -> None:
    data = b"0123456789" * 1000
    content_rpc.blob(content_rpc.store(player.handle.core, data))
    ref = f"sha1-{hashlib.sha1(data).hexdigest()}"

    def run(ref: str) -> Any:
        entry = {"mode": 0o100600, "encoding": "blobvec", "data": [[0, 10000, ref], [10000, 10000, ref]], "size": 20000}
        return player.run(sh("cat {{tmpdir}}/large; exit 3"), system={"files": {"large": entry}})

    job = run(ref)
    assert (job.status, player.output(job)) == (3 << 8, data.decode() * 2)
    missing = "sha1-" + "0" * 40
    job = run(missing)
    assert (job.kinds, job.status) == (["start", "finish", "release"], 256)
    assert player.raised[-1]["note"] == f"files: {missing}: No such file or directory"


def test_a_batch_job_of_the_old_kind_has_its_script_in_the_jobspec(player: JobPlayer, tmp_path: Path) -> None:
    flux = tmp_path / "flux"
    flux.write_text('#!/bin/sh\necho "$1 $2"; shift 2; exec "$@"\n')
    flux.chmod(0o755)
    batch = {"script": "#!/bin/sh\necho in $0\n", "broker-opts": ["-Sa=b"]}
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    job = player.run(["ignored"], system={"batch": batch}, env=env)
    rundir = player.handle.attr_get("rundir")
    assert player.output(job) == f"broker -Sa=b\nin {rundir}/jobtmp-0-{fluid.f58(job.id)}/script\n"
    assert player.run(["ignored"], system={"batch": {"script": 3}}, env=env).status == 256


def test_a_task_has_a_process_group_and_no_terminal(player: JobPlayer) -> None:
    job = player.run(py("import os; print(os.getpgrp() == os.getpid()); open('/dev/tty')"))
    assert player.output(job) == "True\n"
    assert "No such device or address" in player.output(job, "stderr")


# Output.


def test_data_of_a_stream_are_put_together(player: JobPlayer) -> None:
    job = player.run(py("import sys\nfor i in range(20000): print(i)"))
    assert player.output(job) == "".join(f"{number}\n" for number in range(20000))
    data = [event for event in player.events(job, "output") if "data" in event.get("context", {})]
    assert len(data) < 20


def test_bytes_that_are_no_text_are_encoded(player: JobPlayer) -> None:
    job = player.run(sh(r"printf '\377\n'"))
    data = next(event["context"] for event in player.events(job, "output") if "data" in event["context"])
    assert data == {"stream": "stdout", "rank": "0", "encoding": "base64", "data": "/wo="}


def test_output_files(player: JobPlayer, tmp_path: Path) -> None:
    script = sh("echo out {{taskid}}; echo err {{taskid}} >&2")

    def run(output: dict[str, Any], slots: int = 2) -> Any:
        return player.run(script, {"output": output}, slots=slots, cwd=str(tmp_path))

    job = run({"stdout": {"type": "file", "path": "both", "label": True}})
    lines = ["0: err 0", "0: out 0", "1: err 1", "1: out 1"]
    assert sorted((tmp_path / "both").read_text().splitlines()) == lines
    redirects = [event["context"] for event in player.events(job, "output") if event["name"] == "redirect"]
    assert redirects == [{"stream": stream, "rank": "[0-1]", "path": "both"} for stream in ("stdout", "stderr")]
    assert [event["name"] for event in player.events(job, "output")] == ["header", "redirect", "redirect"]

    job = run({"stdout": {"type": "file", "path": "out.{{taskid}}"}, "stderr": {"type": "kvs"}})
    assert (tmp_path / "out.1").read_text() == "out 1\n"
    assert sorted(player.output(job, "stderr").splitlines()) == ["err 0", "err 1"]

    (tmp_path / "more").write_text("before\n")
    run({"mode": "append", "stdout": {"type": "file", "path": "more"}, "stderr": {"type": "kvs"}}, 1)
    assert (tmp_path / "more").read_text() == "before\nout 0\n"


def test_an_output_file_that_cannot_be_opened(player: JobPlayer, tmp_path: Path) -> None:
    option = {"output": {"stdout": {"type": "file", "path": "nodir/app"}}}
    job = player.run(["true"], option, cwd=str(tmp_path))
    assert (job.kinds, job.status) == (["start", "finish", "release"], 256)
    assert player.raised[-1]["note"] == "open: nodir/app: No such file or directory"
    os.mkfifo(tmp_path / "pipe")
    job = player.run(["true"], {"output": {"stdout": {"type": "file", "path": "pipe"}}}, cwd=str(tmp_path))
    assert player.raised[-1]["note"] == "open: pipe: No such device or address"


def test_output_over_its_limit_is_dropped(player: JobPlayer) -> None:
    job = player.run(sh("echo 1234567; echo 1234567; echo 1234567"), {"output": {"limit": "10"}})
    assert player.output(job) == "1234567\n"
    assert player.logged(job) == [
        "stdout will be truncated, 10 limit exceeded",
        "stdout: 14 of 24 bytes truncated",
    ]


def test_messages_of_the_shell_go_to_the_file_of_stderr(player: JobPlayer, tmp_path: Path) -> None:
    options = {"output": {"stdout": {"type": "file", "path": str(tmp_path / "f")}}}
    player.run(["true"], options, cwd="/nosuch")
    assert "flux-shell[0]: ERROR: host " in (tmp_path / "f").read_text()


# Input.


def stdin(player: JobPlayer, job: Any, **payload: Any) -> None:
    player.handle.rpc(f"{player.service(job)}.stdin", {"stream": "stdin", "rank": "all", **payload}, 0).get()


def test_stdin_goes_to_tasks(player: JobPlayer) -> None:
    job = player.start(["cat"], slots=2)
    player.started(job)
    stdin(player, job, data="all\n")
    stdin(player, job, rank="1", data="one\n")
    stdin(player, job, rank="0", eof=True)
    stdin(player, job, eof=True)
    player.wait(job)
    assert [player.output(job, rank=rank) for rank in (0, 1)] == ["all\n", "all\none\n"]
    contexts = [event["context"] for event in player.events(job, "input")[1:]]
    assert contexts == [
        {"stream": "stdin", "rank": "all", "data": "all\n"},
        {"stream": "stdin", "rank": "1", "data": "one\n"},
        {"stream": "stdin", "rank": "0", "eof": True},
        {"stream": "stdin", "rank": "all", "eof": True},
    ]


def test_more_stdin_than_a_pipe_holds(player: JobPlayer, tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    job = player.start(sh(f"until [ -e {sent} ]; do sleep 0.01; done; wc -c"))
    player.started(job)
    for _ in range(40):
        stdin(player, job, data="x" * 100_000)
    stdin(player, job, data="y" * 10, eof=True)
    sent.touch()
    player.wait(job)
    assert player.output(job).strip() == "4000010"


def test_stdin_that_is_refused(player: JobPlayer) -> None:
    job = player.start(["cat"])
    player.started(job)
    service = player.service(job)

    # As recorded (exec-job-shell-service).
    with pytest.raises(OSError, match="Protocol error"):
        stdin(player, job, rank="0")
    with pytest.raises(BrokenPipeError):
        stdin(player, job, rank="9", eof=True)
    with pytest.raises(OSError, match=rf"Unknown service method '{service}.bogus'"):
        player.handle.rpc(f"{service}.bogus", None, 0).get()
    stdin(player, job, eof=True)
    player.wait(job)
    with pytest.raises(OSError, match="No service matching"):
        stdin(player, job, eof=True)


def test_stdin_from_a_file(player: JobPlayer, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("a line\n")
    job = player.run(["cat"], {"input": {"stdin": {"type": "file", "path": "in"}}}, slots=2, cwd=str(tmp_path))
    assert [player.output(job, rank=rank) for rank in (0, 1)] == ["a line\n", "a line\n"]
    assert player.events(job, "input")[1]["context"] == {"stream": "stdin", "rank": "all", "path": "in"}
    job = player.run(["cat"], {"input": {"stdin": {"type": "file", "path": "/nosuch"}}})
    assert job.status == 256
    assert player.raised[-1]["note"] == "error opening input file '/nosuch': No such file or directory"


def test_stdin_over_its_limit_ends_the_job(player: JobPlayer) -> None:
    job = player.start(["sleep", "60"], {"input": {"limit": "1000"}})
    player.started(job)
    with pytest.raises(OSError, match="stdin exceeds 1000 limit"):
        stdin(player, job, data="x" * 1001)
    assert player.wait(job).status == 256


# How jobs end.


def test_a_command_that_does_not_exist(player: JobPlayer) -> None:
    job = player.run(["/nosuch"])
    assert (job.kinds, job.status) == (["start", "finish", "release"], 127 << 8)
    host = player.handle.attr_get("hostname")
    assert player.raised[-1]["note"] == f"task 0 (host {host}): start failed: /nosuch: No such file or directory"


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (["/nosuch"], {}),
        (["cat"], {"input": {"stdin": {"type": "file", "path": "/nosuch"}}}),
        (sh("exit 3"), {"exit-on-error": 1}),
    ],
)
def test_exceptions_of_a_shell_come_after_the_start(
    player: JobPlayer, command: list[str], options: dict[str, Any]
) -> None:
    for _ in range(5):
        assert player.run(command, options).raised_after == [["start"]]


def test_a_command_that_cannot_be_run(player: JobPlayer, tmp_path: Path) -> None:
    (tmp_path / "file").touch(0o644)
    assert player.run([str(tmp_path / "file")]).status == 126 << 8
    (tmp_path / "script").write_text("echo no first line\n")
    (tmp_path / "script").chmod(0o755)
    job = player.run([str(tmp_path / "script")])
    assert (job.status, player.output(job)) == (0, "no first line\n")


def test_exit_codes_and_signals(player: JobPlayer) -> None:
    assert player.run(sh("exit 7")).status == 7 << 8
    job = player.run(sh("kill -SEGV $$"))
    assert job.status == 139 << 8
    exited = next(event["context"] for event in player.events(job) if event["name"] == "shell.task-exit")
    assert (exited["signaled"], exited["wait_status"] & 127) == (11, 11)
    assert player.run(sh("exit {{taskid}}"), slots=4).status == 3 << 8


def test_a_job_is_canceled(player: JobPlayer) -> None:
    job = player.start(["sleep", "60"])
    player.started(job)
    player.exception(job.id)
    assert player.wait(job).status == 143 << 8  # as recorded: 36608
    assert job.kinds == ["start", "finish", "release"]


def test_a_task_that_ignores_sigterm_is_killed(player: JobPlayer) -> None:
    job = player.start(
        py("import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)")
    )
    player.started(job)
    player.until(lambda: "up" in player.output(job))
    before = len(player.killed)
    player.exception(job.id)
    assert player.wait(job).status == 137 << 8
    assert player.killed[before:] == [{"id": job.id, "signum": 9}]


def test_a_job_has_a_time_limit(player: JobPlayer) -> None:
    job = player.start(py("import time; time.sleep(60)"), limit=1.0)
    player.wait(job)
    assert job.responses == [
        ("start", {}),
        ("exception", {"severity": 0, "type": "timeout", "note": "resource allocation expired"}),
        ("finish", {"status": 142 << 8}),
        ("release", {"ranks": "all", "final": True}),
    ]


def test_the_time_limit_can_change(player: JobPlayer) -> None:
    job = player.start(["sleep", "60"], limit=60.0)
    player.started(job)
    player.handle.rpc("job-exec.expiration", {"id": job.id, "expiration": 1.0}).get()
    player.wait(job)
    assert job.responses[1][1]["type"] == "timeout"
    with pytest.raises(FileNotFoundError):
        player.handle.rpc("job-exec.expiration", {"id": job.id, "expiration": 1.0}).get()


def test_a_signal_before_the_time_limit(player: JobPlayer) -> None:
    option = {"signal": {"signum": int(signal.SIGUSR2), "timeleft": 58.0}}
    job = player.run(sh("trap 'echo got; exit 3' USR2; while :; do sleep 0.05; done"), option, limit=60.0)
    assert (job.status, player.output(job)) == (3 << 8, "got\n")
    (message,) = player.logged(job)
    assert re.fullmatch(r"job will expire in 5\d\.\ds, sending SIGUSR2 to job", message)


def test_others_have_some_time_after_the_first_exit(player: JobPlayer) -> None:
    job = player.run(sh("[ {{taskid}} = 1 ] && exit 7; sleep 60"), {"exit-timeout": "0.2s"}, slots=2)
    host = player.handle.attr_get("hostname")
    note = f"sh: task rank 1 on host {host} exited (Exit 7) and exit-timeout=0.2s has expired"
    assert player.raised[-1]["note"] == note
    assert job.status == 7 << 8


def test_the_first_failure_ends_all_if_so_wished(player: JobPlayer) -> None:
    job = player.run(sh("[ {{taskid}} = 1 ] && exit 7; sleep 60"), {"exit-on-error": 1}, slots=2)
    host = player.handle.attr_get("hostname")
    assert player.raised[-1]["note"] == f"sh: task rank 1 on host {host} failed (Exit 7) and exit-on-error is set"
    assert job.status == 7 << 8


@pytest.mark.parametrize(
    ("options", "note"),
    [
        ({"taskmap": {"scheme": "bogus"}}, "failed to map tasks with scheme=bogus"),
        ({"rlimit": {"bogus": 1}}, "invalid shell option rlimit.bogus=1"),
        ({"exit-timeout": "soon"}, "invalid value for option exit-timeout: soon"),
        ({"output": {"limit": "2T"}}, "invalid output.limit: 2T"),
        ({"signal": {"signum": 999}}, "invalid value for option signal: {'signum': 999}"),
        ({"pty": {"ranks": "x"}}, "invalid value for option pty.ranks: x"),
        ({"cpu-affinity": "map:x"}, "invalid list 'x'"),
        ({"gpu-affinity": "map:x"}, "invalid list 'x'"),
        ({"env-expand": ["x"]}, "invalid value for option env-expand: an object is expected"),
        ({"env-expand": {"A=B": "x"}}, "illegal environment variable name"),
        ({"env-expand": {"A": "\0"}}, "embedded null byte"),
    ],
)
def test_bad_options_end_the_job_with_the_reason(player: JobPlayer, options: dict[str, Any], note: str) -> None:
    job = player.run(["true"], options)
    assert (job.kinds, job.status) == (["start", "finish", "release"], 256)
    assert player.raised[-1]["note"] == note
    fatal = [event["context"] for event in player.events(job, "output") if event["name"] == "log"][-1]
    assert (fatal["level"], fatal["message"]) == (0, note)


def test_words_that_no_process_can_have(player: JobPlayer) -> None:
    assert player.run(["echo", "a\0b"]).status == 256
    assert player.run(["a\0b"]).status == 256
    assert player.output(player.run(["pwd"], cwd="/tmp/a\0b")) == "/tmp\n"


def test_unknown_options_are_ignored(player: JobPlayer) -> None:
    assert player.run(["true"], {"nosuch": 1}).status == 0


def test_a_jobspec_that_is_none(player: JobPlayer) -> None:
    job = player.run(["true"], signed="nothing")
    assert (job.kinds, job.status) == (["start", "finish", "release"], 256)
    assert player.raised[-1]["note"] == "error unwrapping J: it has not three parts"


# Nothing is left behind.


def alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_what_a_task_leaves_behind_is_ended(player: JobPlayer) -> None:
    # In the background, of the same process group, with no output of the job's.
    job = player.run(sh("sleep 600 >/dev/null 2>&1 </dev/null & echo $!"))
    pid = player.output(job).strip()
    assert job.status == 0
    player.until(lambda: not alive(pid))


def test_a_daemon_is_ended_with_its_job(player: JobPlayer) -> None:
    script = """
import os, sys, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
print(os.getpid(), flush=True)
os.environ.clear()
null = os.open('/dev/null', os.O_RDWR)
for fd in (0, 1, 2): os.dup2(null, fd)
time.sleep(600)
"""
    job = player.run(py(script))
    pid = player.output(job).strip()
    assert (job.status, pid.isdigit()) == (0, True)
    player.until(lambda: not alive(pid))


def test_output_of_children_belongs_to_the_job(player: JobPlayer) -> None:
    job = player.run(sh("(sleep 0.3; echo late) & exit 3"))
    assert (job.status, player.output(job)) == (3 << 8, "late\n")


def test_the_temporary_directory_is_gone_with_the_job(player: JobPlayer) -> None:
    job = player.run(sh("touch $FLUX_JOB_TMPDIR/file; echo $FLUX_JOB_TMPDIR; ls -a $FLUX_JOB_TMPDIR | wc -l"))
    path, count = player.output(job).split()
    assert int(count) == 3
    assert not Path(path).exists()
    job = player.run(sh("ls -a $FLUX_JOB_TMPDIR | wc -l"))
    assert player.output(job).strip() == "2"
