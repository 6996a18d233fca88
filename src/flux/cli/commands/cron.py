"""flux cron — commands that the instance runs by time, date or event (spec 03, 13.8 and 14.13; flux-cron(1))."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from flux.cli.options import Command, Option, Parsed, UsageError
from flux.cli.tool import Failure, call, connect, run, show, text_of
from flux.core.handle import Flux
from flux.util.durations import fsd, parse_fsd

_OPTIONS = Option(
    "o",
    "options",
    "Settings for the tasks: timeout=SECONDS, rank=RANK, task-history-count=N, stop-on-failure=N; several with commas "
    "between them.",
    "OPTS",
)
_HOW = (
    _OPTIONS,
    Option("E", "preserve-env", "Run it in the environment of this command, not in that of the broker."),
    Option("d", "working-dir", "Run it in this directory, not in that of the broker.", "DIR"),
)
_COUNT = Option("c", "count", "Stop after N runs.", "N")
_NAME = Option("N", "name", "What the entry is called. Default: its command.", "S")

COMMAND = Command(
    "cron",
    "Run commands by time, date or event",
    subcommands=[
        Command("cron help", "Show the options of a command", arguments="[COMMAND]", words=(0, 1)),
        Command(
            "cron interval",
            "Run a command again and again",
            [
                _COUNT,
                _NAME,
                Option("a", "after", "Run it for the first time after so long. Default: INTERVAL.", "INTERVAL"),
                *_HOW,
            ],
            arguments="INTERVAL COMMAND",
            words=(2, None),
        ),
        Command(
            "cron event",
            "Run a command when there is an event",
            [
                Option("n", "nth", "Run it for one event in N only.", "N"),
                Option("a", "after", "Run it for the first time when there have been N events.", "N"),
                Option("i", "min-interval", "Let at least so much time pass between two runs.", "T"),
                _COUNT,
                _NAME,
                *_HOW,
            ],
            arguments="TOPIC COMMAND",
            words=(2, None),
        ),
        Command("cron tab", "Run the commands of a crontab", _HOW, arguments="[FILE]", words=(0, 1)),
        Command("cron at", "Run a command once, at a certain time", _HOW, arguments="TIME COMMAND", words=(2, None)),
        Command("cron list", "List entries"),
        Command(
            "cron dump",
            "Show all there is about entries",
            [Option("k", "key", "Show only what this name stands for, such as stats.count.", "KEY")],
            arguments="IDs",
            words=(1, None),
        ),
        Command("cron stop", "Stop entries", arguments="IDs", words=(1, None)),
        Command("cron start", "Start entries that are stopped", arguments="IDs", words=(1, None)),
        Command(
            "cron delete",
            "Remove entries",
            [Option("k", "kill", "End the tasks that they run, too.")],
            arguments="IDs",
            words=(1, None),
        ),
        Command(
            "cron sync",
            "Show or set the event that entries are run with",
            [
                Option("d", "disable", "Run entries whenever they are due."),
                Option("e", "epsilon", "How long after the event entries are still run at once.", "TIME"),
            ],
            arguments="[TOPIC]",
            words=(0, 1),
        ),
    ],
    description="The instance runs the commands on its own, outside of jobs, until their entry is deleted or the "
    "instance ends. What they print goes to the log of the instance: flux dmesg shows it. Entries that are due wait "
    "for the next heartbeat, so that commands run at the same time everywhere: flux cron sync.",
    examples=(
        ("flux cron interval --count=3 10s date", "Every ten seconds, three times."),
        ("flux cron event --nth=10 job-exception ./look", "For one event in ten."),
        ("flux cron at 'tomorrow 8am' ./wake-up", "Once."),
        ("echo '0 3 * * 1 ./weekly' | flux cron tab", "At three o'clock on Mondays."),
    ),
    see_also=("dmesg", "event", "logger"),
)


# What is given on the command line.


def _seconds(text: str, what: str) -> float:
    try:
        value = parse_fsd(text)
    except ValueError:
        value = math.inf
    if math.isinf(value):
        raise Failure(f"invalid {what} '{text}': it must be a duration such as 1.5s or 2m")
    return value


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Failure(f"invalid {what} '{text}': it must be a whole number")
    return int(text)


def _extended(text: str) -> dict[str, Any]:
    """The settings of the option ``--options``."""
    settings: dict[str, Any] = {}
    for word in text.split(","):
        key, _, value = word.partition("=")
        if key == "timeout":
            settings[key] = _seconds(value, key)
        elif key in ("rank", "task-history-count", "stop-on-failure"):
            settings[key] = _number(value, key)
        else:
            raise Failure(f"unknown option '{key}': use timeout, rank, task-history-count, stop-on-failure")
    return settings


def _entry(parsed: Parsed, kind: str, args: dict[str, Any], command: str) -> dict[str, Any]:
    """The payload of cron.create, as far as it is the same for all types."""
    name = parsed.value("name") or (command.split() or [""])[0]
    entry: dict[str, Any] = {"type": kind, "name": name, "command": command, "args": args}
    for text in parsed.values("options"):
        entry |= _extended(text)
    if parsed.has("count"):
        entry["repeat"] = _number(parsed.value("count") or "", "count")
    if parsed.has("preserve-env"):
        entry["environ"] = dict(os.environ)
    if parsed.has("working-dir"):
        entry["cwd"] = os.path.abspath(parsed.value("working-dir") or "")
    return entry


def _create(handle: Flux, what: str, entry: dict[str, Any]) -> None:
    created = call(handle, "cron.create", entry, context=what)
    show(f"{what}: cron-{created['id']} created")


# Creating entries.


def _interval(parsed: Parsed, handle: Flux) -> int:
    interval, *words = parsed.words
    args = {"interval": _seconds(interval, "interval")}
    if parsed.has("after"):
        args["after"] = _seconds(parsed.value("after") or "", "after")
    _create(handle, "interval", _entry(parsed, "interval", args, " ".join(words)))
    return 0


def _event(parsed: Parsed, handle: Flux) -> int:
    topic, *words = parsed.words
    args: dict[str, Any] = {"topic": topic}
    for option in ("nth", "after"):
        if parsed.has(option):
            args[option] = _number(parsed.value(option) or "", option)
    if parsed.has("min-interval"):
        args["min_interval"] = _seconds(parsed.value("min-interval") or "", "min-interval")
    _create(handle, "event", _entry(parsed, "event", args, " ".join(words)))
    return 0


def _tab(parsed: Parsed, handle: Flux) -> int:
    from flux.cli.crontab import parse_crontab

    path = parsed.words[0] if parsed.words else "-"
    try:
        if path == "-":
            path = "standard input"
            text = sys.stdin.read()
        else:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        # Before the first entry is created: a crontab that is wrong is not used in part.
        lines = parse_crontab(text)
    except OSError as exc:
        raise Failure(f"tab: {path}: {exc.strerror}") from None
    except ValueError as exc:
        raise Failure(f"tab: {path}: {exc}") from None
    for number, args, command in lines:
        try:
            _create(handle, "tab", _entry(parsed, "datetime", args, command))
        except Failure as exc:
            raise Failure(f"tab: {path}: line {number}: {exc.text.removeprefix('tab: ')}") from None
    return 0


def date_args(when: datetime) -> dict[str, int]:
    """The args of an entry that runs at a time; a fraction of a second is waited for, too."""
    if when.microsecond:
        when = (when + timedelta(seconds=1)).replace(microsecond=0)
    return {
        "second": when.second,
        "minute": when.minute,
        "hour": when.hour,
        "mday": when.day,
        "month": when.month - 1,
        "year": when.year - 1900,
    }


def _at(parsed: Parsed, handle: Flux) -> int:
    from flux.util.datetimes import parse_datetime

    text, *words = parsed.words
    now = datetime.now().astimezone()
    try:
        when = parse_datetime(text, now)
    except ValueError as exc:
        raise Failure(f"at: {exc}") from None
    except ImportError as exc:
        raise Failure(f"at: {exc}") from None
    if when <= now:
        # So that it comes after now, also on the way to the broker.
        if (now - when).total_seconds() > 1.0:
            raise Failure(f"at: {text} is in the past")
        when = now + timedelta(seconds=1)
    entry = {**_entry(parsed, "datetime", date_args(when), " ".join(words)), "repeat": 1}
    _create(handle, "at", entry)
    return 0


# Looking at entries.


def _line(number: Any, name: str, state: str, runs: Any, lastrun: str, status: str) -> str:
    return f"{number:>6} {name:<15.15} {state:<10} {runs:>7} {lastrun:>18}  {status:<18}"


def row(entry: dict[str, Any], now: float) -> str:
    """The line of an entry in the list; `now`: seconds since the epoch."""
    state = "Stopped" if entry["stopped"] else "Active"
    status = "-"
    for task in entry["tasks"]:
        if "code" in task:
            status = f"{task['state']} ({task['code']})" if task["code"] else task["state"]
            break
        state = task["state"]
    stats = entry["stats"]
    lastrun = f"{fsd(now - stats['lastrun'])} ago" if stats["lastrun"] else "-"
    return _line(entry["id"], entry["name"], state, stats["count"], lastrun, status)


def _list(parsed: Parsed, handle: Flux) -> int:
    entries = call(handle, "cron.list", {}, context="list")["entries"]
    now = datetime.now().timestamp()
    lines = [row(entry, now) for entry in sorted(entries, key=lambda entry: int(entry["id"]))]
    show("\n".join([_line("ID", "CMD/NAME", "STATE", "#RUNS", "LASTRUN", "STATUS"), *lines]))
    return 0


def flatten(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """What is in an entry, by dotted names; tasks count from 1, the last one."""
    if isinstance(value, dict):
        for key, member in value.items():
            yield from flatten(member, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for number, member in enumerate(value, 1):
            yield from flatten(member, f"{name.removesuffix('s')}.{number}")
    else:
        yield name, value if isinstance(value, str) else json.dumps(value)


def _dump(parsed: Parsed, handle: Flux) -> int:
    entries = {entry["id"]: entry for entry in call(handle, "cron.list", {}, context="dump")["entries"]}
    key = parsed.value("key")
    for number in _ids(parsed.words):
        if number not in entries:
            raise Failure(f"dump: cron-{number}: No such file or directory")
        found = dict(flatten(entries[number]))
        if key is None:
            show("\n".join(f"{name} = {value}" for name, value in found.items()))
            continue
        name = "task." + key.removeprefix("tasks.") if key.startswith("tasks.") else key
        if name not in found:
            raise Failure(f"dump: cron-{number}: there is no key '{key}'")
        show(found[name])
    return 0


# Changing entries.


def _ids(words: list[str]) -> list[int]:
    """The ids of entries: numbers, with or without ``cron-``, and sets of them."""
    from flux.idset import IDset

    found: list[int] = []
    for word in words:
        try:
            found += IDset(word.removeprefix("cron-"))
        except ValueError:
            raise Failure(f"invalid id '{word}': it must be a number, or a set of numbers such as 1-3") from None
    return found


def _change(method: str, done: str) -> Callable[[Parsed, Flux], int]:
    def change(parsed: Parsed, handle: Flux) -> int:
        status = 0
        for number in _ids(parsed.words):
            payload: dict[str, Any] = {"id": number}
            if method == "delete":
                payload["kill"] = parsed.has("kill")
            try:
                entry = handle.rpc(f"cron.{method}", payload).get()
            except OSError as exc:
                # The others are not to stay as they are because of this one.
                print(f"flux-cron: {method}: cron-{number}: {text_of(exc)}", file=sys.stderr)
                status = 1
            else:
                show(f"{done} cron-{number}: {entry['name']}")
        return status

    return change


def _sync(parsed: Parsed, handle: Flux) -> int:
    payload: dict[str, Any] = {}
    if parsed.has("disable"):
        payload["disable"] = True
        if parsed.words:
            raise Failure("sync: --disable cannot be used with a topic")
    if parsed.words:
        payload["topic"] = parsed.words[0]
    if parsed.has("epsilon"):
        payload["sync_epsilon"] = _seconds(parsed.value("epsilon") or "", "epsilon")
    answer = call(handle, "cron.sync", payload, context="sync")
    if answer.get("sync_disabled"):
        show("sync: disabled")
    else:
        show(f"sync: topic={answer['sync_event']} epsilon={fsd(answer['sync_epsilon'])}")
    return 0


_ACTIONS: dict[str, Callable[[Parsed, Flux], int]] = {
    "interval": _interval,
    "event": _event,
    "tab": _tab,
    "at": _at,
    "list": _list,
    "dump": _dump,
    "stop": _change("stop", "Stopped"),
    "start": _change("start", "Started"),
    "delete": _change("delete", "Removed"),
    "sync": _sync,
}


def _help(words: list[str]) -> UsageError:
    """What ``flux cron help`` shows."""
    if not words:
        return UsageError(COMMAND.usage(), 0)
    for command in COMMAND.subcommands:
        if command.name == f"cron {words[0]}":
            return UsageError(command.usage(), 0)
    return UsageError(f"flux-cron: Unknown subcommand: {words[0]}\n{COMMAND.usage()}")


def _body(parsed: Parsed) -> int:
    name = parsed.command.name.removeprefix("cron ")
    if name == "help":
        raise _help(parsed.words)
    with connect(COMMAND) as handle:
        return _ACTIONS[name](parsed, handle)


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
