"""The command lines of `flux start` and `flux broker` (spec 03, section 3).

`parse` reads options as the reference's tools written in C do: GNU style, up to the first word that is no option.
argparse would take longer to import than a broker takes to start, and words its errors in another way.

Rules:
- An unusable command line is a UsageError; the text is what goes to stderr, program name included.
- `flux start` is a translation: its options become an argument list of `flux broker`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field


class UsageError(Exception):
    """An unusable command line; the text is complete."""


class HelpWanted(Exception):
    """`--help` was given."""


@dataclass(frozen=True)
class Option:
    """One option: `short` letter or "", `long` name, `arg` its argument's name or "", whether that is optional."""

    short: str
    long: str
    arg: str
    usage: str
    optional: bool = False


def parse(prog: str, table: tuple[Option, ...], words: list[str]) -> tuple[list[tuple[str, str | None]], list[str]]:
    """Options as (long name, argument) in order, and the words after them. Raises UsageError, HelpWanted."""
    shorts = {option.short: option for option in table if option.short}
    longs = {option.long: option for option in table}
    found: list[tuple[str, str | None]] = []
    rest = list(words)

    def fail(text: str) -> UsageError:
        return UsageError(f"{prog}: {text}\nTry `{prog} --help' for more information.")

    def argument(option: Option, attached: str | None, name: str) -> str | None:
        if attached is not None or not option.arg or option.optional:
            return attached
        if not rest:
            raise fail(f"option {name} requires an argument" if name[0] == "'" else name)
        return rest.pop(0)

    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            candidates = [name] if name in longs else [long for long in longs if long.startswith(name)]
            if len(candidates) > 1:
                raise fail(
                    f"option '--{name}' is ambiguous; possibilities: " + " ".join(f"'--{c}'" for c in candidates)
                )
            if not candidates:
                raise fail(f"unrecognized option '--{name}'")
            option = longs[candidates[0]]
            if equals and not option.arg:
                raise fail(f"option '--{option.long}' doesn't allow an argument")
            found.append((option.long, argument(option, value if equals else None, f"'--{option.long}'")))
        else:
            letters = word[1:]
            while letters:
                letter, letters = letters[0], letters[1:]
                if letter not in shorts:
                    raise fail(f"invalid option -- '{letter}'")
                option = shorts[letter]
                attached = None
                if option.arg and letters:
                    attached, letters = letters, ""
                found.append((option.long, argument(option, attached, f"option requires an argument -- '{letter}'")))
        if found[-1][0] == "help":
            raise HelpWanted
    return found, rest


def usage(prog: str, words: str, intro: str, table: tuple[Option, ...]) -> str:
    """A tool's help text, wrapped at COLUMNS or 80."""
    import textwrap

    columns = os.environ.get("COLUMNS", "")
    width = max(int(columns) if columns.isdigit() else 80, 40)
    lines = [f"Usage: {prog} {words}", *textwrap.wrap(intro, width)]
    for option in table:
        value = f"[={option.arg}]" if option.optional else f"={option.arg}" if option.arg else ""
        name = f"  -{option.short}, " if option.short else "      "
        name += f"--{option.long}{value}"
        indent = " " * 29
        text = textwrap.wrap(option.usage, width, initial_indent=indent, subsequent_indent=indent)
        if len(name) < 28:
            text[0] = name.ljust(29) + text[0][29:]
        else:
            lines.append(name)
        lines += text
    return "\n".join(lines)


# flux broker.

_HELP = Option("h", "help", "", "Display this message.")
_CONF = Option("", "conf", "VALUE", "Update the configuration: KEY=VAL, inline TOML or JSON, or a file. Repeatable.")
_CONFIG_PATH = Option("c", "config-path", "PATH", "Configuration file, or directory of TOML files.")

BROKER = (
    _HELP,
    Option("v", "verbose", "LEVEL", "Log to stderr in greater detail.", optional=True),
    Option("S", "setattr", "ATTR=VAL", "Set a broker attribute. Repeatable."),
    _CONFIG_PATH,
    _CONF,
)


@dataclass
class BrokerOptions:
    """What `flux broker` was told."""

    verbose: int = 0
    attributes: dict[str, str | None] = field(default_factory=dict)
    config_path: str | None = None
    conf: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    #: Set by `flux start --test-size`: the broker plays one of several, and reports how it ended.
    test_size: int = 0


def _level(prog: str, argument: str | None) -> int:
    if argument is None:
        return 1
    if not argument.strip("v"):
        return 1 + len(argument)  # -vv
    if argument.isdigit():
        return int(argument)
    raise UsageError(f"{prog}: --verbose: '{argument}' is not a number")


def broker_options(words: list[str], prog: str = "flux-broker") -> BrokerOptions:
    """Reads the words after `flux broker`. Raises UsageError, HelpWanted."""
    options = BrokerOptions()
    found, options.command = parse(prog, BROKER, words)
    for name, value in found:
        match name:
            case "verbose":
                level = _level(prog, value)
                options.verbose = options.verbose + level if value is None else level
            case "setattr":
                attribute, equals, text = (value or "").partition("=")
                options.attributes[attribute] = text if equals else None
            case "config-path":
                options.config_path = value
            case "conf":
                options.conf.append(value or "")
    return options


def broker_usage() -> str:
    """The text of `flux broker --help`."""
    return usage("flux-broker", "[OPTIONS] [initial-command [args...]]", "Run one broker of a Flux instance.", BROKER)


# flux start.

START = (
    _HELP,
    Option("S", "setattr", "ATTR=VAL", "Set broker attributes, separated by commas. Repeatable."),
    _CONFIG_PATH,
    _CONF,
    Option("r", "recovery", "TARGET", "Start in recovery mode, from a state directory or dump file.", optional=True),
    Option("", "sysconfig", "", "Use the configuration of the system instance."),
    Option("v", "verbose", "LEVEL", "Print the broker's command line.", optional=True),
    Option("X", "noexec", "", "Do not start anything (useful with -v)."),
    Option("o", "broker-opts", "OPTS", 'Add comma-separated broker options, e.g. "-o,-v".'),
    Option("", "wrap", "ARGS,...", "Run the broker under a command, given as words separated by commas."),
    Option("s", "test-size", "N", "Start a test instance of N brokers on this host. N must be 1 so far."),
    Option("", "test-hosts", "HOSTLIST", "Host names the brokers of a test instance take on."),
    Option("", "test-exit-timeout", "FSD", "How long to wait for the other brokers after one has exited."),
    Option("", "test-exit-mode", "any|leader", "Whose exit code is that of a test instance."),
    Option("", "test-start-mode", "all|leader", "Which brokers of a test instance to start."),
    Option("", "test-rundir", "DIR", "Run directory of a test instance."),
    Option("", "test-rundir-cleanup", "", "Remove the run directory of a test instance at its end."),
    Option("", "test-pmi-clique", "single|per-broker|none|TASKMAP", "How brokers of a test instance share hosts."),
)
_CHOICES = {"test-exit-mode": ("any", "leader"), "test-start-mode": ("all", "leader")}


@dataclass
class StartOptions:
    """What `flux start` was told: the broker's words, and what concerns `flux start` alone."""

    broker: list[str] = field(default_factory=list)
    verbose: int = 0
    noexec: bool = False
    wrap: list[str] = field(default_factory=list)
    test_size: int = 0


def start_options(words: list[str], sysconfig: str = "/etc/flux") -> StartOptions:
    """Reads the words after `flux start`. Raises UsageError, HelpWanted.

    Args:
        words: the command line.
        sysconfig: the directory of the system instance's configuration.
    """
    prog = "flux-start"
    options = StartOptions()
    found, command = parse(prog, START, words)
    given = {name: value or "" for name, value in found}
    last: list[str] = []
    for name, value in found:
        value = value or ""
        match name:
            case "setattr":
                options.broker += [f"-S{setting}" for setting in value.split(",") if setting]
            case "config-path":
                options.broker += ["-c", value]
            case "sysconfig":
                options.broker += ["-c", f"{sysconfig}/system/conf.d"]
            case "conf":
                options.broker.append(f"--conf={value}")
            case "broker-opts":
                options.broker += [word for word in value.split(",") if word]
            case "recovery":
                last = _recovery(prog, value, sysconfig)
            case "verbose":
                options.verbose = options.verbose + 1 if not value else _level(prog, value)
            case "noexec":
                options.noexec = True
            case "wrap":
                options.wrap += [word for word in value.split(",") if word]
    last += _test_instance(prog, options, given)
    options.broker += [*last, *command]
    # Checked here, so that a mistake is one of the user's command line and not of one that we made.
    broker_options(options.broker)
    return options


def _recovery(prog: str, target: str, sysconfig: str) -> list[str]:
    settings = ["broker.recovery-mode=1", "broker.quorum=1", "broker.module-nopanic=1", "log-stderr-level=5"]
    more: list[str] = []
    if not target:
        target, more = "/var/lib/flux", ["-c", f"{sysconfig}/system/conf.d"]
    if os.path.isdir(target):
        for path, mode in ((target, os.R_OK | os.W_OK | os.X_OK), (f"{target}/content.sqlite", os.R_OK | os.W_OK)):
            if not os.path.exists(path):
                raise UsageError(f"{prog}: {path}: No such file or directory")
            if os.stat(path).st_uid != os.getuid() or not os.access(path, mode):
                raise UsageError(f"{prog}: {path}: not owned by you, or no permission to read and write it")
        settings.append(f"statedir={target}")
    elif os.path.isfile(target):
        settings.append(f"content.restore={target}")
    else:
        raise UsageError(f"{prog}: {target}: No such file or directory")
    return [*(f"-S{setting}" for setting in settings), *more]


def _test_instance(prog: str, options: StartOptions, given: dict[str, str]) -> list[str]:
    if "test-size" not in given:
        for name in given:
            if name.startswith("test-"):
                raise UsageError(f"{prog}: --{name} only works with --test-size")
        return []
    size = given["test-size"]
    if not size.removeprefix("-").isdigit():
        raise UsageError(f"{prog}: --test-size: '{size}' is not a number")
    options.test_size = int(size)
    if options.test_size <= 0:
        raise UsageError(f"{prog}: --test-size argument must be > 0")
    for name, choices in _CHOICES.items():
        if name in given and given[name] not in choices:
            raise UsageError(f"{prog}: unknown --{name}: {given[name]}")
    if options.test_size > 1:
        raise UsageError(
            f"{prog}: --test-size={size}: several ranks need the overlay network, which this version of fluxlet"
            " does not have yet; use --test-size=1"
        )
    words = []
    if "test-hosts" in given:
        words.append(f"-Shostname={given['test-hosts']}")
    if "test-rundir" in given:
        words.append(f"-Srundir={given['test-rundir']}")
        if "test-rundir-cleanup" in given:
            words.append("-Srundir-cleanup=1")
    return words


def start_usage() -> str:
    """The text of `flux start --help`."""
    return usage(
        "flux-start",
        "[OPTIONS] [initial-command [args...]]",
        "Start a Flux instance on this host, run the command in it (a shell if there is none), and end with it.",
        START,
    )
