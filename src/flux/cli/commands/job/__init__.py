"""flux job — do things to jobs, and look at them (spec 08, sections 7 and 8)."""

from __future__ import annotations

import sys
from importlib import import_module

from flux.cli.options import Command, Option, Parsed
from flux.cli.tool import run

_ATTACH = [
    Option("E", "show-events", "Show job events on stderr"),
    Option("X", "show-exec", "Show exec events on stderr"),
    Option("", "show-status", "Show job status line while pending"),
    Option("w", "wait-event", "Wait for event NAME before detaching (default=clean)", "NAME"),
    Option("l", "label-io", "Label output by rank"),
    Option("v", "verbose", "Increase verbosity"),
    Option("q", "quiet", "Suppress warnings written to stderr from flux-job"),
    Option("r", "read-only", "Disable reading stdin and capturing signals"),
    Option("u", "unbuffered", "Disable buffering of stdin"),
    Option("i", "stdin-ranks", "Send standard input to only RANKS (default: all)", "RANKS"),
    Option("", "tail", "Output only the last NUM entries so far, then follow (default=10)", "NUM", optional=True),
    Option("", "debug", "Enable parallel debugger to attach to a running job"),
    Option("", "debug-emulate", "Set MPIR_being_debugged for testing", hidden=True),
    Option("", "queue-check-interval", "Set interval for checking the queue", "SECONDS", hidden=True),
]
_FORMAT = [
    Option("f", "format", "Specify output format: text, json", "FORMAT"),
    Option("T", "time-format", "Specify time format: raw, iso, offset, human", "FORMAT"),
    Option("H", "human", "Display human-readable output"),
]
_COLOR = Option("L", "color", "Colorize output: always, never, or auto (default)", "WHEN", optional=True)
_PATH = Option("p", "path", "Specify alternate eventlog name or path: eventlog, exec, output, input", "PATH")

#: Subcommand: (where its function is, in this package; its table).
_SUBCOMMANDS: dict[str, tuple[str, Command]] = {
    "list": (
        "looking",
        Command(
            "job list",
            "List jobs",
            [
                Option("c", "count", "Limit output to N jobs", "N"),
                Option("s", "states", "List jobs in specific states", "STATES"),
                Option("u", "user", "Limit output to specific user", "USER"),
                Option("a", "all-user", "List jobs of this user in all states"),
                Option("A", "all", "List jobs of all users in all states"),
            ],
        ),
    ),
    "list-inactive": (
        "looking",
        Command(
            "job list-inactive",
            "List recently inactive jobs",
            [
                Option("c", "count", "Limit output to N jobs", "N"),
                Option("s", "since", "Limit output to jobs that ended since T", "T"),
            ],
        ),
    ),
    "list-ids": (
        "looking",
        Command(
            "job list-ids",
            "List jobs by their ids",
            [Option("W", "wait-state", "Wait until the job has been in STATE", "STATE")],
            "ID [ID ...]",
            (1, None),
        ),
    ),
    "urgency": (
        "changing",
        Command(
            "job urgency",
            "Set job urgency (0-31, hold, expedite, default)",
            [Option("v", "verbose", "Output old urgency value on success")],
            "id urgency",
            (2, 2),
        ),
    ),
    "raise": (
        "changing",
        Command(
            "job raise",
            "Raise exception on one or more jobs",
            [
                Option("s", "severity", "Set exception severity [0-7] (default=0)", "N"),
                Option("t", "type", "Set exception type (default=cancel)", "TYPE"),
                Option("m", "message", "Set exception note", "NOTE"),
            ],
            "ids... [--] [message ...]",
            (0, None),
        ),
    ),
    "raiseall": (
        "changing",
        Command(
            "job raiseall",
            "Raise an exception on multiple jobs",
            [
                Option("s", "severity", "Set exception severity [0-7] (default=7)", "N"),
                Option("u", "user", "Set target user or 'all' (instance owner only)", "USER"),
                Option("S", "states", "Set target job states (default=ACTIVE)", "STATES"),
                Option("f", "force", "Confirm the command"),
            ],
            "OPTIONS type [message ...]",
            (1, None),
        ),
    ),
    "kill": (
        "changing",
        Command(
            "job kill",
            "Send signal to one or more running jobs",
            [Option("s", "signal", "Send signal SIG (default SIGTERM)", "SIG")],
            "ids...",
            (1, None),
        ),
    ),
    "killall": (
        "changing",
        Command(
            "job killall",
            "Send signal to multiple running jobs",
            [
                Option("s", "signal", "Send signal SIG (default SIGTERM)", "SIG"),
                Option("u", "user", "Set target user or 'all' (instance owner only)", "USER"),
                Option("f", "force", "Confirm the command"),
            ],
        ),
    ),
    "attach": ("waiting", Command("job attach", "Interactively attach to job", _ATTACH, "id", (1, 1))),
    "status": (
        "waiting",
        Command(
            "job status",
            "Wait for jobs to complete and exit with largest exit code",
            [
                Option("v", "verbose", "Increase verbosity"),
                Option("j", "json", "Dump job result information gleaned from eventlog"),
                Option("e", "exception-exit-code", "Set the exit code for any job that terminates with N", "N"),
            ],
            "id [id...]",
            (1, None),
        ),
    ),
    "submit": (
        "changing",
        Command(
            "job submit",
            "Submit jobspec",
            [
                Option("u", "urgency", "Set job urgency (0-31), hold=0, default=16, expedite=31", "N"),
                Option("f", "flags", "Set submit comma-separated flags (e.g. debug, waitable)", "FLAGS"),
            ],
            "[jobspec]",
            (0, 1),
        ),
    ),
    "id": (
        "looking",
        Command(
            "job id",
            "Convert jobid(s) to another form",
            [Option("t", "to", "Convert jobid to specified form", "dec|kvs|hex|dothex|words|f58")],
            "[id ...]",
            (0, None),
        ),
    ),
    "eventlog": (
        "eventlogs",
        Command(
            "job eventlog",
            "Display eventlog for a job",
            [
                *_FORMAT,
                _COLOR,
                Option("F", "follow", "Follow the eventlog"),
                _PATH,
            ],
            "id",
            (1, 1),
        ),
    ),
    "wait-event": (
        "eventlogs",
        Command(
            "job wait-event",
            "Wait for an event",
            [
                *_FORMAT,
                Option("t", "timeout", "timeout after DURATION", "DURATION"),
                Option("m", "match-context", "match key=val in context", "KEY=VAL"),
                Option("c", "count", "required number of matches (default 1)", "COUNT"),
                Option("q", "quiet", "Do not output matched event"),
                Option("v", "verbose", "Output all events before matched event"),
                _COLOR,
                _PATH,
                Option("W", "waitcreate", "If path does not exist, wait for its creation"),
            ],
            "id event",
            (2, 2),
        ),
    ),
    "info": (
        "looking",
        Command(
            "job info",
            "Display info for a job",
            [
                Option("o", "original", "For key jobspec, return the original submitted jobspec"),
                Option("b", "base", "For keys jobspec or R, do not apply updates from eventlog"),
            ],
            "id key",
            (2, 2),
        ),
    ),
    "stats": ("looking", Command("job stats", "Get current job stats")),
    "namespace": (
        "looking",
        Command("job namespace", "Convert job ids to job guest kvs namespace names", (), "[id ...]", (0, None)),
    ),
    "wait": (
        "waiting",
        Command(
            "job wait",
            "Wait for job(s) to complete",
            [
                Option("a", "all", "Wait for all (waitable) jobs"),
                Option("v", "verbose", "Emit a line of output for all jobs, not just failing ones"),
            ],
            "[--all] [id]",
            (0, 1),
        ),
    ),
    "memo": (
        "changing",
        Command(
            "job memo",
            "Post an RFC 21 memo to a job",
            [Option("", "volatile", "Memo will not appear in eventlog (will be lost on restart)")],
            "[--volatile] id key=value [key=value, ...]",
            (2, None),
        ),
    ),
    "taskmap": (
        "tasks",
        Command(
            "job taskmap",
            "Utility function for working with job task maps",
            [
                Option("", "taskids", "Print idset of tasks on node NODEID", "NODEID"),
                Option("", "ntasks", "Print number of tasks on node NODEID", "NODEID"),
                Option("", "nodeid", "Print the shell rank/nodeid on which a taskid executed", "TASKID"),
                Option("", "hostname", "Print the hostname on which a taskid executed", "TASKID"),
                Option("", "to", "Convert an RFC 34 taskmap: raw, pmi, hosts, multiline", "FORMAT"),
            ],
            "JOBID|TASKMAP",
            (1, 1),
        ),
    ),
    "timeleft": (
        "looking",
        Command(
            "job timeleft",
            "Find remaining runtime for job or enclosing instance",
            [Option("H", "human", "Output in Flux Standard Duration instead of seconds.")],
            "[JOBID]",
            (0, 1),
        ),
    ),
    "hostpids": (
        "tasks",
        Command(
            "job hostpids",
            "Print host:pid pairs for tasks in job",
            [
                Option("d", "delimiter", "Set output delimiter (default=',')", "STRING"),
                Option("r", "ranks", "Include only task ranks in IDSET", "IDSET"),
                Option("t", "timeout", "timeout after DURATION", "DURATION"),
            ],
            "JOBID",
            (1, 1),
        ),
    ),
    "last": ("looking", Command("job last", "List my most recently submitted job id(s)", (), "SLICE", (0, 1))),
    "purge": (
        "changing",
        Command(
            "job purge",
            "Purge the oldest inactive jobs",
            [
                Option("", "age-limit", "Purge jobs that became inactive beyond age-limit.", "FSD"),
                Option("", "num-limit", "Purge oldest inactive jobs until COUNT are left.", "COUNT"),
                Option("f", "force", "Perform the irreversible purge."),
                Option("", "batch", "Limit number of jobs per request (default 50).", "COUNT"),
            ],
            "[--age-limit=FSD] [--num-limit=N] [--batch=COUNT] [--force] [ID ...]",
            (0, None),
        ),
    ),
}

#: Subcommands of older releases, and what to use in their place.
_FORMER = {"cancel": "cancel", "cancelall": "cancel --all", "drain": "queue drain", "undrain": "queue enable"}

COMMAND = Command(
    "job",
    "Work with jobs",
    subcommands=[command for _, command in _SUBCOMMANDS.values()],
    examples=(
        ("flux job attach ƒ2oRvKCz", "Show what a job writes, until it ends."),
        ("flux job eventlog -H ƒ2oRvKCz", "What has happened to a job."),
        ("flux job wait-event -t 30s ƒ2oRvKCz start", "Wait until a job starts, but not longer than half a minute."),
        ("flux job info ƒ2oRvKCz R", "The resources of a job."),
    ),
    see_also=("run", "submit", "jobs", "cancel"),
)


def _body(parsed: Parsed) -> int:
    name = parsed.command.name.partition(" ")[2]
    module = import_module(f"flux.cli.commands.job.{_SUBCOMMANDS[name][0]}")
    status: int = getattr(module, f"{name.replace('-', '_')}_command")(parsed)
    return status


def main(argv: list[str]) -> int:
    """Runs the command."""
    first = next((word for word in argv if not word.startswith("-")), None)
    if first not in _SUBCOMMANDS and not {"-h", "--help"} & set(argv):
        print(COMMAND.usage().replace("COMMAND [ARGS...]", "COMMAND ARGS", 1), file=sys.stderr)
        if first in _FORMER:
            print(f"flux-job: {first} is not there any more: use flux {_FORMER[first]}", file=sys.stderr)
        return 1
    return run(COMMAND, argv, _body)
