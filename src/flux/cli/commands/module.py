"""flux module — loads, removes and looks at broker modules (spec 03, 14.5)."""

from __future__ import annotations

import errno
import json
import os
from typing import Any

from flux.cli.options import Command, Option, Parsed
from flux.cli.tool import Failure, call, connect, run, show, text_of
from flux.core.handle import Flux

_CANCEL = Option("", "cancel", "End a module's process at once, without asking it to.")
_FORCE = Option("f", "force", "A module that is not loaded is no error.")
_HOW = [
    Option("", "name", "Load the module under this name.", "NAME"),
    Option("", "exec", "Run the module as a process of its own."),
    Option(
        "", "loader", "The program that runs the module; inproc: run its Python file in the broker's process.", "PATH"
    ),
]
_REMOVE = ([_FORCE, _CANCEL], "module", (1, 1))
_LOADED = ("@module",)

COMMAND = Command(
    "module",
    "Load, remove and look at broker modules",
    subcommands=[
        Command("module list", "List modules", [Option("l", "long", "With the paths of the modules.")]),
        Command("module remove", "Unload a module", *_REMOVE, complete=_LOADED),
        Command("module unload", "Unload a module", *_REMOVE, complete=_LOADED),
        Command("module load", "Load a module", _HOW, "module [ARGS...]", (1, None), complete=("@file",)),
        Command(
            "module reload",
            "Unload a module and load it again",
            [_FORCE, _CANCEL, *_HOW],
            "module",
            (1, None),
            complete=("@module|@file",),
        ),
        Command(
            "module stats",
            "Show or clear statistics of a module",
            [
                Option("p", "parse", "Show only what this name stands for; names within names with dots.", "OBJNAME"),
                Option("s", "scale", "Multiply a number by N (with --parse).", "N"),
                Option("t", "type", "Show a number in this form (with --parse).", "int|double"),
                Option("R", "rusage", "Show what it uses of the machine.", "self|children|thread", optional=True),
                Option("c", "clear", "Clear the statistics of this rank."),
                Option("C", "clear-all", "Clear the statistics of all ranks."),
            ],
            "module",
            (1, 1),
            complete=_LOADED,
        ),
        Command(
            "module debug",
            "Show or change the debug flags of a module",
            [
                Option("C", "clear", "Clear all flags."),
                Option("S", "set", "Set the flags to MASK.", "MASK"),
                Option("s", "setbit", "Set these flags.", "MASK"),
                Option("c", "clearbit", "Clear these flags.", "MASK"),
            ],
            "module",
            (1, 1),
            complete=_LOADED,
        ),
        Command(
            "module trace",
            "Show the messages of modules as they come and go",
            [
                Option("f", "full", "Show payloads, too."),
                Option("T", "topic", "Only messages whose topic matches this pattern.", "GLOB"),
                Option("t", "type", "Only these types of messages: request, response, event, control.", "TYPE,..."),
                Option("L", "color", "Colors: always, never or auto (default). Without WHEN: always.", "WHEN", True),
                Option("H", "human", "Make times easy to read: once a minute the date, then seconds since."),
                Option("d", "delta", "With --human: seconds since the message before."),
            ],
            "[module...]",
            (0, None),
            complete=_LOADED,
        ),
    ],
    help_status=1,
    description="A module is a part of the broker: a service with a name, or something that is done in the background. "
    "Modules of one's own are Python files; they run as a process of their own unless they are loaded into the "
    "broker's.",
    examples=(
        ("flux module list", "What is loaded."),
        ("flux module load ./greeter.py --lang=de", "Load a file, with an argument for it."),
        ("flux module trace --human heartbeat", "Watch the messages of a module."),
    ),
    see_also=("ping", "dmesg"),
)

_STATES = "IRFX"


# List.


def _line(name: str, idle: str, state: str, sendq: Any, recvq: Any, rest: str) -> str:
    return f"{name:<25.25} {idle:>4}  {state} {sendq:>5} {recvq:>5} {rest}"


def table(modules: list[dict[str, Any]], long: bool) -> list[str]:
    """The lines for what `module.list` tells; `long`: with paths."""
    lines = [_line("Module", "Idle", "S", "Sendq", "Recvq", f"{'Service':<8} Path" if long else "Service")]
    for module in modules:
        services = ",".join(name for name in module["services"] if name != module["name"])
        if long:
            short = services if len(services) <= 8 else services[:7] + "+"
            services = f"{short:<8} {module['path']}"
        idle = str(module["idle"]) if module["idle"] <= 99 else "idle"
        state = _STATES[module["status"]]
        lines.append(_line(module["name"], idle, state, module["sendqueue"], module["recvqueue"], services))
    return lines


def _list(parsed: Parsed, handle: Flux) -> None:
    modules = call(handle, "module.list", context="module.list")["mods"]
    show("\n".join(table(modules, parsed.has("long"))))


# Load, remove.


def _path(word: str) -> str:
    """A module as the broker is to be told of it: paths are the user's, the broker may be elsewhere."""
    if "/" not in word and not word.endswith(".so") and not (word.endswith(".py") and os.path.exists(word)):
        return word
    try:
        return os.path.realpath(word, strict=True)
    except OSError as exc:
        raise Failure(f"could not canonicalize module path '{word}': {exc.strerror}") from None


def _name(path: str) -> str:
    """The name of the module of a path, as the broker derives it."""
    base, suffix, rest = os.path.basename(path).partition(".so")
    if suffix and not rest.strip(".0123456789"):
        return base
    return os.path.basename(path).removesuffix(".py")


def _do_load(parsed: Parsed, handle: Flux) -> None:
    word, *args = parsed.words
    payload: dict[str, Any] = {"path": _path(word), "args": args, "exec": parsed.has("exec")}
    for key in ("name", "loader"):
        value = parsed.value(key)
        if value is not None:
            payload[key] = value
    call(handle, "module.load", payload, context=f"load {word}")


def _do_remove(parsed: Parsed, handle: Flux) -> None:
    word = parsed.words[0]
    given = parsed.value("name")
    try:
        handle.rpc("module.remove", {"name": given or _name(_path(word)), "cancel": parsed.has("cancel")}).get()
    except OSError as exc:
        if exc.errno != errno.ENOENT or not parsed.has("force"):
            raise Failure(f"remove {given or word}: {text_of(exc)}") from None


def _reload(parsed: Parsed, handle: Flux) -> None:
    _do_remove(parsed, handle)
    _do_load(parsed, handle)


# Stats, debug.


def _stats(parsed: Parsed, handle: Flux) -> None:
    name = parsed.words[0]
    if parsed.has("clear-all"):
        handle.event_send(f"{name}.stats-clear")
        return
    if parsed.has("clear"):
        call(handle, f"{name}.stats-clear", context=name)
        return
    if parsed.has("rusage"):
        who = parsed.value("rusage") or "self"
        answer = call(handle, f"{name}.rusage", {"who": who}, context=name)
    else:
        answer = call(handle, f"{name}.stats-get", context=name)
    wanted = parsed.value("parse")
    show(_json(answer) if wanted is None else _figure(parsed, answer, wanted))


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False)


def _figure(parsed: Parsed, value: Any, wanted: str) -> str:
    """What a dotted name stands for, in the form that is asked for."""
    for key in wanted.split("."):
        if not isinstance(value, dict) or key not in value:
            raise Failure(f"`{wanted}' not found in response")
        value = value[key]
    form = parsed.value("type")
    if form not in (None, "int", "double"):
        raise Failure(f"invalid --type '{form}': use int or double")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _json(value)
    try:
        scale = float(parsed.value("scale") or 1)
    except ValueError:
        raise Failure(f"invalid --scale '{parsed.value('scale')}': it must be a number") from None
    if form is None:
        form = "int" if isinstance(value, int) else "double"
    value = value * scale if scale != 1 else value
    return f"{int(value)}" if form == "int" else f"{value:f}"


def _mask(parsed: Parsed, option: str) -> int:
    text = parsed.value(option) or ""
    try:
        return int(text, 0)
    except ValueError:
        raise Failure(f"invalid --{option} '{text}': it must be a number such as 4 or 0x4") from None


def _debug(parsed: Parsed, handle: Flux) -> None:
    name = parsed.words[0]
    request: dict[str, Any] = {"op": "setbit", "flags": 0}  # changes nothing
    if parsed.has("clear"):
        request = {"op": "clr", "flags": 0}
    for option, op in (("set", "set"), ("setbit", "setbit"), ("clearbit", "clrbit")):
        if parsed.has(option):
            request = {"op": op, "flags": _mask(parsed, option)}
    show(f"0x{call(handle, f'{name}.debug', request, context=name)['flags']:x}")


def _trace(parsed: Parsed, handle: Flux) -> None:
    # Here, for the other sub-commands do not need it.
    from flux.cli.module_trace import follow

    follow(parsed, handle)


_ACTIONS = {
    "list": _list,
    "remove": _do_remove,
    "unload": _do_remove,
    "load": _do_load,
    "reload": _reload,
    "stats": _stats,
    "debug": _debug,
    "trace": _trace,
}


def _body(parsed: Parsed) -> int:
    action = _ACTIONS[parsed.command.name.removeprefix("module ")]
    with connect(COMMAND) as handle:
        action(parsed, handle)
    return 0


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
