"""flux exec — runs a command on ranks of the instance (spec 04, 5.6; flux-exec(1))."""

from __future__ import annotations

import os
from collections.abc import Sequence

from flux.cli.options import Command, Option, Parsed, UsageError
from flux.cli.remote import Group, Settings
from flux.cli.tool import Failure, call, connect, run
from flux.core.handle import Flux
from flux.idset import IDset

COMMAND = Command(
    "exec",
    "Run a command on ranks of the instance",
    [
        Option("r", "rank", 'Specify target ranks. Default is "all".', "IDSET"),
        Option("x", "exclude", "Exclude ranks from target.", "IDSET"),
        Option("", "bg", "Run the process in the background, print its process id, and exit."),
        Option("", "waitable", "With --bg: the process stays as a zombie until its exit status is collected."),
        Option("", "attach", "Attach to a running background process: the argument is its pid or label."),
        Option("", "label", "Give the processes a label, by which they may be called.", "LABEL"),
        Option("d", "dir", "Set the working directory; none: that of the broker.", "PATH", complete="directory"),
        Option("l", "label-io", "Label lines of output with the source rank."),
        Option("n", "noinput", "Redirect stdin from /dev/null."),
        Option("v", "verbose", "Say what is done, and how long it took."),
        Option("q", "quiet", "Do not report exit codes."),
        Option("", "with-imp", "Run the command under 'flux-imp run'."),
        Option("j", "jobid", "Run on the nodes of a job, by its shells; ranks are then those of the job.", "JOBID"),
        Option("", "service", "Send requests to another service.", "NAME", hidden=True),
        Option("", "setopt", "Set an option of the command.", "NAME=VAL", hidden=True),
        Option("", "stdin-flow", "Flow control of stdin.", "on|off", hidden=True, complete="on|off"),
        Option("", "sign", "Sign requests.", hidden=True),
    ],
    arguments="COMMAND [ARGS...]",
    words=(0, None),
    description="""
Runs COMMAND on all ranks of the instance, or on those that --rank names: with its standard input copied to all of
them, their output on its own, and SIGINT and SIGTERM handed on. The exit code is the largest of theirs: 128 and the
number of the signal for one that a signal has ended, 127 for a command that is not found, 126 for one that may not be
executed, 68 for a rank that cannot be reached.

Processes end with their `flux exec`, but for those in the background: see flux-sproc(1).
""",
    examples=(
        ("flux exec hostname", "The host name of every rank."),
        ("flux exec -l -r 1-3 uptime", "On three ranks, each line with its rank in front."),
        ("flux exec --bg --waitable --label=scan -r 0 scan-disks", "In the background, to be waited for later."),
    ),
    see_also=("sproc", "overlay", "run"),
)


def _idset(text: str) -> IDset:
    try:
        return IDset(text)
    except (ValueError, OSError):
        raise Failure(f"failed to decode idset '{text}': Invalid argument") from None


def _targets(parsed: Parsed, ranks: Sequence[int]) -> list[int]:
    """The ranks that are meant, out of `ranks`, which options name by their position."""
    chosen = IDset(range(len(ranks)))
    wanted = parsed.value("rank") or "all"
    if wanted != "all":
        wish = _idset(wanted)
        wrong = [at for at in wish if at >= len(ranks)]
        if wrong:
            raise Failure(f"One or more invalid --ranks specified: {IDset(wrong)}")
        chosen = wish
    excluded = parsed.value("exclude")
    if excluded is not None:
        chosen.subtract(_idset(excluded))
    if not chosen:
        raise Failure("No targets specified")
    return [ranks[at] for at in chosen]


def _job(handle: Flux, text: str) -> tuple[list[int], str]:
    """The ranks of a running job, and the service of its shells."""
    from flux.job.JobID import JobID

    try:
        jobid = JobID(text)
    except (ValueError, OSError):
        raise Failure(f'error parsing jobid: "{text}"') from None
    try:
        request = {"id": int(jobid), "attrs": ["userid", "state", "ranks"]}
        job = handle.rpc("job-list.list-id", request).get()["job"]
    except OSError:
        raise Failure(f"job {text} not found") from None
    if job["state"] != _RUN:
        raise Failure(f"job {text} is not currently running")
    return list(IDset(job["ranks"])), f"{job['userid']}-shell-{jobid.f58plain}.rexec"


_RUN = 16  # FLUX_JOB_STATE_RUN


def _environment(owner: str) -> dict[str, str]:
    """The environment of the processes: ours."""
    environ = dict(os.environ)
    environ.pop("FLUX_PROXY_REMOTE", None)
    environ.setdefault("DBUS_SESSION_BUS_ADDRESS", f"unix:path=/run/user/{owner}/bus")
    return environ


def _words(handle: Flux, parsed: Parsed) -> list[str]:
    words = parsed.words
    if parsed.has("with-imp"):
        config = call(handle, "config.get", {})
        imp = config.get("exec", {}).get("imp") if isinstance(config, dict) else None
        if not isinstance(imp, str):
            raise Failure("--with-imp: exec.imp path not found in config: No such file or directory")
        words = [imp, "run", *words]
    return words


def _options(parsed: Parsed) -> dict[str, str]:
    options = {}
    for text in parsed.values("setopt"):
        name, equals, value = text.partition("=")
        if not equals:
            raise Failure(f"error handling '{text}' option: Invalid argument")
        options[name] = value
    return options


def _directory(parsed: Parsed) -> str | None:
    directory = parsed.value("dir")
    if directory == "none":
        return None
    return os.getcwd() if directory is None else directory


def _check(parsed: Parsed) -> None:
    """What goes with what."""
    if parsed.value("stdin-flow") not in (None, "on", "off"):
        raise Failure("Set --stdin-flow to on or off")
    if not parsed.has("attach"):
        if not parsed.words:
            raise UsageError(COMMAND.usage())
        if parsed.has("waitable") and not parsed.has("bg"):
            raise Failure("--waitable can only be used with --bg")
        return
    if not parsed.words:
        raise Failure("--attach requires a pid or label argument")
    if len(parsed.words) > 1:
        raise Failure("--attach takes a single pid or label argument")
    if parsed.has("bg") or parsed.has("waitable"):
        raise Failure("--attach cannot be used with --bg or --waitable")


def _body(parsed: Parsed) -> int:
    _check(parsed)
    with connect(COMMAND) as handle:
        service = parsed.value("service") or "rexec"
        size = int(handle.attr_get("size"))
        owner = handle.attr_get("security.owner")
        ranks: Sequence[int] = range(size)
        jobid = parsed.value("jobid")
        if jobid is not None:
            ranks, service = _job(handle, jobid)
        targets = _targets(parsed, ranks)
        if parsed.has("sign"):
            raise Failure("--sign: flux-security is not available")
        settings = Settings(
            targets=targets,
            service=service,
            label_io=parsed.has("label-io"),
            verbose=parsed.has("verbose"),
            quiet=parsed.has("quiet"),
            flow=parsed.value("stdin-flow") != "off",
        )
        group = Group(handle, settings)
        if parsed.has("attach"):
            word = parsed.words[0]
            if word.isdigit():
                if len(targets) > 1:
                    raise Failure("--attach by pid requires a single target rank (use --rank)")
                return group.attach({"pid": int(word)}, f"pid {word}", word)
            return group.attach({"pid": -1, "label": word}, f"label {word}", word)
        words = _words(handle, parsed)
        command = {
            "cmdline": words,
            "env": _environment(owner),
            "opts": _options(parsed),
            "channels": [],
            "msgchan": [],
        }
        directory, label = _directory(parsed), parsed.value("label")
        if directory is not None:
            command["cwd"] = directory
        if label is not None:
            command["label"] = label
        if parsed.has("bg"):
            return group.background(command, parsed.has("waitable"))
        return group.foreground(command, parsed.has("noinput"))


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
