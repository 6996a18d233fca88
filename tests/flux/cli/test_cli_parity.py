"""The tables of the C-style commands against those of the reference (tests/spec/cli.json; spec 08, section 12)."""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from flux.cli.commands import (
    alloc,
    batch,
    bulksubmit,
    cancel,
    hostlist,
    housekeeping,
    job_exec_override,
    job_frobnicator,
    job_validator,
    jobs,
    jobtap,
    modprobe,
    multi_prog,
    pgrep,
    pkill,
    post_job_event,
    pstree,
    queue,
    resource,
    run,
    submit,
    update,
    uri,
    watch,
)
from flux.cli.options import Command
from flux.uri import FluxURIResolver

CLI = json.loads((Path(__file__).parents[2] / "spec" / "cli.json").read_text())
#: The table leaves out that these take an argument; spec 03, 14.5 has it.
for entry in CLI["module"]["subcommands"]["debug"]["options"]:
    if entry["flags"][0] in ("-S", "-s", "-c"):
        entry["arg"] = "MASK"
#: And it has these without their arguments.
for entry in CLI["R"]["subcommands"]["encode"]["options"]:
    arguments = {"--xml": "FILE", "--property": "NAME[:RANKS]"}
    entry["arg"] = arguments.get(entry["flags"][-1], entry["arg"])
NAMES = (
    *("env", "version", "help", "getattr", "setattr", "lsattr", "ping", "event", "dmesg", "logger", "relay", "proxy"),
    *("config", "uptime", "shutdown", "startlog", "module", "overlay", "exec"),
    *(
        "kvs",
        "content",
        "dump",
        "restore",
        "fsck",
        "gc",
        "R",
        "top",
        "lptest",
        "archive",
        "filemap",
        "pmi",
        "terminus",
        "cgroup",
    ),
)
INSTANCE_SIDE = ("pmi", "terminus", "relay", "proxy", "config", "help", "R")
PARSERS = {
    "uri": lambda: uri.parser(FluxURIResolver()),
    "hostlist": hostlist.parser,
    "modprobe": modprobe.parser,
    "resource": resource.parser,
    "alloc": alloc.parser,
    "batch": batch.parser,
    "run": run.parser,
    "submit": submit.parser,
    "bulksubmit": bulksubmit.parser,
    "multi-prog": multi_prog.parser,
    "update": update.parser,
    "watch": watch.parser,
    "jobs": jobs.parser,
    "cancel": cancel.parser,
    "queue": queue.parser,
    "pgrep": pgrep.parser,
    "pkill": pkill.parser,
    "pstree": pstree.parser,
    "housekeeping": housekeeping.parser,
    "job-exec-override": job_exec_override.parser,
    "job-frobnicator": job_frobnicator.parser,
    "job-validator": job_validator.parser,
    "jobtap": jobtap.parser,
    "post-job-event": post_job_event.parser,
}


def table(name: str) -> Command:
    package = "fluxlet.cmd" if name in INSTANCE_SIDE else "flux.cli.commands"
    command: Command = import_module(f"{package}.{name}").COMMAND
    return command


def compare(command: Command, expected: dict[str, Any]) -> None:
    found = {
        (f"-{option.letter}" if option.letter else None, f"--{option.name}", option.argument or None)
        for option in command.options
    }
    for option in expected["options"]:
        short = next((flag for flag in option["flags"] if not flag.startswith("--")), None)
        long = next(flag for flag in option["flags"] if flag.startswith("--"))
        if command.name.startswith("kvs "):
            # The table leaves out that they take arguments, but for those of --count.
            assert (short, long) in {entry[:2] for entry in found}
        else:
            assert (short, long, option["arg"]) in found
    subcommands = {sub.name.rpartition(" ")[2]: sub for sub in command.subcommands}
    assert set(subcommands) == set(expected.get("subcommands", {}))
    for name, sub in subcommands.items():
        compare(sub, expected["subcommands"][name])


@pytest.mark.parametrize("name", NAMES)
def test_options_have_the_same_names_letters_and_arguments(name: str) -> None:
    command = table(name)
    assert command.name == name
    compare(command, CLI[name])


@pytest.mark.parametrize("name", NAMES)
def test_every_option_and_command_is_explained(name: str) -> None:
    for command in (table(name), *table(name).subcommands):
        assert command.summary
        assert all(option.help for option in command.options)
        letters = [option.letter for option in command.options if option.letter]
        assert len(letters) == len(set(letters))


def same_options(parser: argparse.ArgumentParser, expected: dict[str, Any]) -> None:
    actions = [action for action in parser._actions if not isinstance(action, argparse._SubParsersAction)]
    found = {(*action.option_strings, action.metavar if action.nargs != 0 else None) for action in actions}
    for option in expected["options"]:
        assert (*option["flags"], *option.get("aliases", ()), option["arg"]) in found
    nargs = {argparse.REMAINDER: "remainder", None: 1}
    positionals = [
        (action.dest, nargs.get(action.nargs, action.nargs)) for action in actions if not action.option_strings
    ]
    assert positionals == [(entry["name"], entry["nargs"]) for entry in expected.get("positionals", ())]
    assert all(action.help for action in actions)


@pytest.mark.parametrize("name", PARSERS)
def test_python_commands_have_the_same_options(name: str) -> None:
    parser = PARSERS[name]()
    same_options(parser, CLI[name])
    choices: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            choices = action.choices
    assert set(choices) == set(CLI[name].get("subcommands", {}))
    for word, sub in choices.items():
        same_options(sub, CLI[name]["subcommands"][word])


def test_sproc_has_the_same_commands_and_options() -> None:
    from flux.cli.commands import sproc

    (commands,) = (action for action in sproc.parser()._actions if action.dest == "subcommand")
    expected = CLI["sproc"]["subcommands"]
    assert set(commands.choices) == set(expected)
    for name, sub in commands.choices.items():
        actions = sub._actions
        found = {(*action.option_strings, action.metavar if action.nargs != 0 else None) for action in actions}
        for option in expected[name]["options"]:
            assert (*option["flags"], option["arg"]) in found
        positionals = [(action.dest, action.nargs or 1) for action in actions if not action.option_strings]
        assert positionals == [(entry["name"], entry["nargs"]) for entry in expected[name].get("positionals", [])]
        assert all(action.help for action in actions)
