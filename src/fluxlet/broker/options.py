"""The command lines of `flux start` and `flux broker` (spec 03, section 3).

Rules:
- An unusable command line is a UsageError; its text is what goes to stderr, program name included.
- `flux start` is a translation: its options become the words of a `flux broker` command line.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flux.cli.options import Command, Option, Parsed, UsageError

if TYPE_CHECKING:
    from fluxlet.broker.test_options import TestOptions

# flux broker.

_CONF = Option("", "conf", "Update the configuration: KEY=VAL, inline TOML or JSON, or a file. Repeatable.", "VALUE")
_CONFIG_PATH = Option("c", "config-path", "Configuration file, or directory of TOML files.", "PATH")

BROKER = Command(
    "broker",
    "Run one broker of a Flux instance",
    [
        Option("v", "verbose", "Log to stderr in greater detail.", "LEVEL", optional=True),
        Option("S", "setattr", "Set a broker attribute. Repeatable.", "ATTR=VAL"),
        _CONFIG_PATH,
        _CONF,
    ],
    arguments="[COMMAND [ARGS...]]",
    words=(0, None),
    complete=("@program", "@file"),
    description="Runs one broker: what flux start becomes once it has translated its options.",
    examples=(("flux broker -S log-stderr-level=7 true", "With all log messages on stderr."),),
    see_also=("start",),
)


class BrokerOptions:
    """What `flux broker` was told.

    Args:
        words: the words after `flux broker`.

    Raises UsageError.
    """

    def __init__(self, words: list[str]) -> None:
        parsed = BROKER.parse(words)
        self.verbose = _verbosity(parsed)
        self.attributes: dict[str, str | None] = {}
        for setting in parsed.values("setattr"):
            name, equals, value = setting.partition("=")
            self.attributes[name] = value if equals else None
        self.config_path = parsed.value("config-path")
        self.conf = parsed.values("conf")
        self.command = parsed.words


def _verbosity(parsed: Parsed) -> int:
    level = 0
    for value in parsed.values("verbose"):
        if not value.strip("v"):
            level += 1 + len(value)  # -v, -vv
        elif value.isascii() and value.isdigit():
            level = int(value)
        else:
            raise UsageError(f"{parsed.command.program}: --verbose: '{value}' is not a number")
    return level


# flux start.

START = Command(
    "start",
    "Start a Flux instance",
    [
        Option("S", "setattr", "Set broker attributes, separated by commas. Repeatable.", "ATTR=VAL"),
        _CONFIG_PATH,
        _CONF,
        Option(
            "r", "recovery", "Start in recovery mode, from a state directory or dump file.", "TARGET", optional=True
        ),
        Option("", "sysconfig", "Use the configuration of the system instance."),
        Option("v", "verbose", "Print the broker's command line.", "LEVEL", optional=True),
        Option("X", "noexec", "Do not start anything (useful with -v)."),
        Option("o", "broker-opts", "Add broker options, separated by commas, e.g. -o,-v.", "OPTS"),
        Option("", "wrap", "Run the broker under a command, given as words separated by commas.", "ARGS,..."),
        Option("s", "test-size", "Start a test instance of N brokers on this host.", "N"),
        Option("", "test-hosts", "Host names the brokers of a test instance take on.", "HOSTLIST"),
        Option("", "test-exit-timeout", "How long to wait for the other brokers after one has exited.", "FSD"),
        Option("", "test-exit-mode", "Whose exit code is that of a test instance.", "any|leader"),
        Option("", "test-start-mode", "Which brokers of a test instance to start.", "all|leader"),
        Option("", "test-rundir", "Run directory of a test instance.", "DIR"),
        Option("", "test-rundir-cleanup", "Remove the run directory of a test instance at its end."),
        Option("", "test-pmi-clique", "How brokers of a test instance share hosts.", "single|per-broker|none|TASKMAP"),
    ],
    arguments="[COMMAND [ARGS...]]",
    words=(0, None),
    complete=("@program", "@file"),
    description="Starts an instance, runs a command in it with FLUX_URI set, and ends the instance when the command "
    "has ended. The exit code is that of the command. A single word that is no file is a line for the shell; without a "
    "command there is an interactive shell, which exit or Ctrl-D leaves. Nothing is left behind.",
    examples=(
        ("flux start python script.py", "Run a program in an instance of its own."),
        ("flux start", "An instance to try things in."),
        (
            "flux start -c site.toml -S log-stderr-level=5 'flux uptime; flux lsattr'",
            "With a configuration and an attribute, and a line for the shell.",
        ),
    ),
    see_also=("shutdown", "config", "getattr", "proxy"),
)


class StartOptions:
    """What `flux start` was told.

    Args:
        words: the words after `flux start`.
        sysconfig: the directory of the system's configuration.

    `broker` are the words of the broker's command line, `wrap` those to put in front of it. Raises UsageError.
    """

    def __init__(self, words: list[str], sysconfig: str = "/etc/flux") -> None:
        parsed = START.parse(words)
        self.verbose = _verbosity(parsed)
        self.noexec = parsed.has("noexec")
        self.wrap = _split(parsed.values("wrap"))
        self.test = _test_instance(parsed)
        self.broker = [f"-S{setting}" for setting in _split(parsed.values("setattr"))]
        if parsed.has("sysconfig"):
            self.broker += ["-c", f"{sysconfig}/system/conf.d"]
        for path in parsed.values("config-path"):
            self.broker += ["-c", path]
        self.broker += [f"--conf={value}" for value in parsed.values("conf")]
        self.broker += _split(parsed.values("broker-opts"))
        if parsed.has("recovery"):
            self.broker += _recovery(parsed.value("recovery") or "", sysconfig)
        if parsed.words and parsed.words[0].startswith("-"):
            self.broker.append("--")
        self.broker += parsed.words


def _split(values: list[str]) -> list[str]:
    return [word for value in values for word in value.split(",") if word]


def _fail(text: str) -> UsageError:
    return UsageError(f"{START.program}: {text}")


def _recovery(target: str, sysconfig: str) -> list[str]:
    settings = ["broker.recovery-mode=1", "broker.quorum=1", "broker.module-nopanic=1", "log-stderr-level=5"]
    more: list[str] = []
    if not target:
        target, more = "/var/lib/flux", ["-c", f"{sysconfig}/system/conf.d"]
    if os.path.isdir(target):
        for path, mode in ((target, os.R_OK | os.W_OK | os.X_OK), (f"{target}/content.sqlite", os.R_OK | os.W_OK)):
            if not os.path.exists(path):
                raise _fail(f"{path}: No such file or directory")
            if os.stat(path).st_uid != os.getuid() or not os.access(path, mode):
                raise _fail(f"{path}: not owned by you, or no permission to read and write it")
        settings.append(f"statedir={target}")
    elif os.path.isfile(target):
        settings.append(f"content.restore={target}")
    else:
        raise _fail(f"{target}: No such file or directory")
    return [*(f"-S{setting}" for setting in settings), *more]


def _test_instance(parsed: Parsed) -> TestOptions | None:
    if parsed.has("test-size"):
        from fluxlet.broker.test_options import read  # who wants one broker does not pay for it

        return read(parsed, _fail)
    for option in START.options:
        if option.name.startswith("test-") and parsed.has(option.name):
            raise _fail(f"--{option.name} only works with --test-size")
    return None
