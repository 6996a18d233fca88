"""The `flux` command: finds the sub-command and runs it (spec 03, section 2).

Rules:
- This file is read by every command: it imports nothing that is not needed for all of them.
- A built-in command wins over any file. It runs in this process, and so do sub-commands written in Python:
  starting a second interpreter would take longer than most commands do.
- Nothing that commands import and make at their start is garbage: it is not collected over and over again.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from fluxlet.cmd.builtins import BUILTINS, FLAGS, FORMER, GROUPS

if TYPE_CHECKING:
    from flux.core.handle import Flux

_MORE = """
For general Flux documentation, please visit
    https://flux-framework.readthedocs.io"""

_FLAGS = {letter: name for letter, name, _ in FLAGS}
_MAX_DISTANCE = 3
_MAX_SUGGESTIONS = 3


class DriverError(Exception):
    """The command line cannot be served; the text is complete."""


def main() -> int:
    """Runs `sys.argv`; returns the exit code."""
    gc.disable()
    if sys.stdin is None or sys.stdout is None or sys.stderr is None:
        _fill_standard_streams()
    try:
        return _run(sys.argv[1:])
    except DriverError as exc:
        print(exc, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        # As a program that does not handle the signal: no traceback, and who called us can see it.
        import signal

        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        return 128 + signal.SIGINT


def _fill_standard_streams() -> None:
    """Opens /dev/null where there is no standard stream: a connection would get that number, and be taken for it."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, fd)
            if null != fd:
                os.close(null)
            setattr(sys, name, open(fd, "w" if fd else "r", closefd=False))  # noqa: SIM115  # for as long as we run


def _run(words: list[str]) -> int:
    flags, words = _options(words)
    if "help" in flags:
        print(usage(), file=sys.stderr)
        return 0
    from fluxlet.cmd.environment import driver_environment, front_end

    environ = driver_environment(os.environ, front_end())
    os.environ.update(environ)
    if "parent" in flags or "root" in flags:
        _climb(None if "root" in flags else flags.count("parent"))
    if "verbose" in flags:
        for name, value in environ.items():
            print(f"{name}={value}")
        sys.stdout.flush()
    if "version" in flags:
        _builtin("version", [])
    if not words:
        print(usage(), file=sys.stderr)
        return 1
    name, *rest = words
    if name in BUILTINS:
        _builtin(name, rest)
    if "/" in name:
        _execute(name, [name, *rest])
    return _external(name, rest, "verbose" in flags)


def _options(words: list[str]) -> tuple[list[str], list[str]]:
    flags: list[str] = []
    for index, word in enumerate(words):
        if word == "--":
            return flags, words[index + 1 :]
        if not word.startswith("-") or word == "-":
            return flags, words[index:]
        if word.startswith("--"):
            matches = [flag for flag in _FLAGS.values() if flag == word[2:]] or [
                flag for flag in _FLAGS.values() if len(word) > 2 and flag.startswith(word[2:])
            ]
            if len(matches) != 1:
                raise _unrecognized(word)
            flags.append(matches[0])
        else:
            for letter in word[1:]:
                if letter not in _FLAGS:
                    raise _unrecognized(f"-{letter}")
                flags.append(_FLAGS[letter])
    return flags, []


def _unrecognized(word: str) -> DriverError:
    return DriverError(f"flux: unrecognized option '{word}'\nTry `flux --help' for more information.")


def usage() -> str:
    """The text of `flux --help`."""
    parts = ["Usage: flux [OPTIONS] COMMAND ARGS"]
    parts += [f"  -{letter}, --{name:<17} {text}" for letter, name, text in FLAGS]
    parts.append(_MORE)
    for group, title in GROUPS:
        lines = [f"   {name:<18} {text}" for name, (_, member, text) in sorted(BUILTINS.items()) if member == group]
        if lines:
            parts += ["", f"{title}:", *lines]
    return "\n".join([*parts, "", "See 'flux help COMMAND' for more information about a specific command."])


# The enclosing instances.


def _climb(levels: int | None) -> None:
    """Points the environment at the parent, `levels` times; None: up to the root. Beyond the root is the root."""
    from flux.core.handle import Flux

    while levels is None or levels > 0:
        try:
            with Flux() as handle:
                if levels is None:
                    levels = int(handle.attr_get("instance-level"))
                uri = _attribute(handle, "parent-uri")
                namespace = _attribute(handle, "parent-kvs-namespace")
        except OSError as exc:
            raise DriverError(f"flux: flux_open: {os.strerror(exc.errno or 0)}") from None
        if uri is None:
            return
        os.environ["FLUX_URI"] = uri
        if namespace is None:
            os.environ.pop("FLUX_KVS_NAMESPACE", None)
        else:
            os.environ["FLUX_KVS_NAMESPACE"] = namespace
        levels -= 1


def _attribute(handle: Flux, name: str) -> str | None:
    try:
        return handle.attr_get(name)
    except FileNotFoundError:
        return None


# Running things.


def _builtin(name: str, words: list[str]) -> NoReturn:
    from importlib import import_module

    from fluxlet.cmd.leaving import leave

    module, _, function = BUILTINS[name][0].partition(":")
    command = getattr(import_module(module), function)
    gc.freeze()
    gc.enable()
    leave(command(words))


def _execute(path: str, argv: list[str]) -> None:
    """Becomes another program. Raises DriverError."""
    sys.stdout.flush()
    try:
        os.execv(path, argv)
    except OSError as exc:
        raise DriverError(f"flux: {path}: {exc.strerror}") from None


def _external(name: str, words: list[str], verbose: bool) -> int:
    from fluxlet.cmd.environment import unique

    search = unique(os.environ["FLUX_EXEC_PATH"], os.environ.get("PATH"))
    if verbose:
        print(f"sub-command search path: {search}", flush=True)
    for directory in search.split(":"):
        for path in (os.path.join(directory, f"flux-{name}.py"), os.path.join(directory, f"flux-{name}")):
            if verbose:
                print(f"flux: trying to exec {path}", file=sys.stderr)
            if not os.path.isfile(path) or not os.access(path, os.X_OK):
                continue
            if path.endswith(".py"):
                if os.access(path, os.R_OK):
                    return _run_python(path, words)
            else:
                try:
                    sys.stdout.flush()
                    os.execv(path, [path, *words])
                except OSError:
                    continue  # the next one may work
    raise _unknown(name, search)


def _run_python(path: str, words: list[str]) -> int:
    """Runs a sub-command written in Python as the main program of this process."""
    import runpy
    import sysconfig

    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    first = [*os.environ.get("FLUX_PYTHONPATH_PREPEND", "").split(":"), home]
    first += [sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "platlib", "purelib")]
    # Without the directory of the running script, which Python has put first.
    sys.path[:] = list(dict.fromkeys(entry for entry in [*first, *sys.path[1:]] if entry))
    sys.argv[:] = [path, *words]
    gc.enable()
    runpy.run_path(path, run_name="__main__")
    return 0


# Suggestions.


def _unknown(name: str, search: str) -> DriverError:
    lines = [f"flux: `{name}' is not a flux command.  See 'flux --help'"]
    if name in FORMER:
        lines.append("flux: It was one in older releases. In its place there is")
        lines += [f"flux: \t{other}" for other in FORMER[name]]
        return DriverError("\n".join(lines))
    known = {name for name, (_, group, _) in BUILTINS.items() if group}
    for directory in search.split(":"):
        try:
            entries = os.listdir(directory)
        except OSError:
            continue  # search paths name directories that do not exist
        known |= {entry[5:].removesuffix(".py") for entry in entries if entry.startswith("flux-")}
    distances = sorted((similarity(name, other), other) for other in known if other)
    # Only what is as close as the closest: who types jbs has not meant kvs.
    closest = min(distances[0][0], _MAX_DISTANCE)
    similar = [other for distance, other in distances if distance == closest][:_MAX_SUGGESTIONS]
    if similar:
        lines.append(f"flux: The most similar command{' is' if len(similar) == 1 else 's are'}")
        lines += [f"flux: \t{other}" for other in similar]
    return DriverError("\n".join(lines))


def similarity(typed: str, known: str) -> int:
    """How far a word is from a command's name: Levenshtein distance, less for what begins like it."""
    if known.startswith(typed) and len(typed) >= 5:
        return 0
    row = list(range(len(known) + 1))
    for i, left in enumerate(typed, 1):
        previous, row[0] = row[0], i
        for j, right in enumerate(known, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (left != right))
    return row[-1] - (1 if known.startswith(typed) else 0)


if __name__ == "__main__":
    sys.exit(main())
