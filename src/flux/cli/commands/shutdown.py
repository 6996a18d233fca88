"""flux shutdown — ends an instance, and shows how that goes (spec 03, 14.8).

An instance may dump what its KVS refers to on its way out, so that it starts without the garbage of its past
(attribute `content.dump`). Where the configuration says after how many commits that is due, the user is asked.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

from flux.cli.options import Command, Option, Parsed
from flux.cli.target import resolve_target
from flux.cli.tool import Failure, call, run, text_of
from flux.constants import FLUX_RPC_STREAMING
from flux.core.handle import Flux

COMMAND = Command(
    "shutdown",
    "Shut down a Flux instance",
    [
        Option("", "skip-gc", "Do not dump the KVS, even if that is due."),
        Option("", "gc", "Dump the KVS, so that the next start is without its garbage."),
        Option("", "dump", "Dump the KVS to PATH.", "PATH"),
        Option("", "background", "Do not wait until the instance has ended."),
        Option("", "quiet", "Show only warnings and errors."),
        Option("v", "verbose", "Show more messages, or those up to severity LEVEL (0-7).", "LEVEL", optional=True),
        Option("y", "yes", "Answer yes to questions."),
        Option("n", "no", "Answer no to questions."),
    ],
    arguments="[TARGET]",
    words=(0, 1),
    builtin=True,
    description="Ends an instance: its initial program is told to stop, cleanup commands and rc3 are run, and the "
    "broker exits. What it logs meanwhile is shown. TARGET is a URI, or what flux uri resolves to one; without it, it "
    "is the instance that this runs in.",
    examples=(("flux shutdown --quiet", "End this instance, showing only what is wrong."),),
    see_also=("start", "uri"),
)

_QUIET, _NORMAL, _VERBOSE = 4, 6, 7
_AUTO = "auto"


def _level(parsed: Parsed) -> int:
    """The severity up to which the instance's messages are shown."""
    if parsed.has("verbose"):
        text = parsed.value("verbose")
        if text is None:
            return _VERBOSE
        if not (text.isascii() and text.isdigit()) or int(text) > _VERBOSE:
            raise Failure(f"invalid LEVEL '{text}': it must be 0 (emerg) to 7 (debug)")
        return int(text)
    return _QUIET if parsed.has("quiet") else _NORMAL


def _connect(parsed: Parsed) -> Flux:
    uri = None
    if parsed.words:
        target = parsed.words[0]
        uri = resolve_target(target, f"failed to resolve target {target} to a Flux URI")
    try:
        return Flux(uri)
    except OSError as exc:
        hints = (text_of(exc), *getattr(exc, "__notes__", ())) if uri is not None and uri.startswith("ssh://") else ()
        raise Failure(f"error connecting to Flux: {os.strerror(exc.errno or 0)}", hints=hints) from None


def _optional(handle: Flux, topic: str, payload: Any, *absent: int) -> Any:
    """The answer to a request; None if there is none because of the errno."""
    try:
        return handle.rpc(topic, payload).get()
    except OSError as exc:
        if exc.errno in absent:
            return None
        raise Failure(f"{topic}: {text_of(exc)}") from None


def _asked(question: str, parsed: Parsed) -> bool:
    """Whether the user says yes; no if there is nobody to ask."""
    if parsed.has("yes") or parsed.has("no"):
        return parsed.has("yes")
    if not sys.stdin.isatty():
        return False
    print(f"{question} [Y/n]? ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("", "y", "yes")


def _dump_wanted(handle: Flux, parsed: Parsed) -> str | None:
    """What attribute `content.dump` is to be set to; None: as it is."""
    dump = parsed.value("dump")
    if dump is not None:
        # The broker's working directory is another.
        return dump if dump == _AUTO else os.path.abspath(dump)
    if parsed.has("gc"):
        return _AUTO
    if parsed.has("skip-gc"):
        return None
    is_set = _optional(handle, "attr.get", {"name": "content.dump"}, errno.ENOENT)
    root = _optional(handle, "kvs.getroot", {"namespace": "primary"}, errno.ENOSYS)
    config = call(handle, "config.get", context="config.get")
    kvs = config.get("kvs")
    threshold = kvs.get("gc-threshold") if isinstance(kvs, dict) else None
    if is_set is not None or root is None or not isinstance(threshold, int) or root["rootseq"] <= threshold:
        return None
    question = f"gc threshold of {threshold} commits is exceeded, dump the KVS"
    return _AUTO if _asked(question, parsed) else None


def _body(parsed: Parsed) -> int:
    level = _level(parsed)
    for first, second in (("gc", "skip-gc"), ("dump", "skip-gc"), ("yes", "no")):
        if parsed.has(first) and parsed.has(second):
            raise Failure(f"--{first} and --{second} cannot be used together")
    with _connect(parsed) as handle:
        dump = _dump_wanted(handle, parsed)
        if dump is not None:
            call(handle, "attr.set", {"name": "content.dump", "value": dump}, context="error setting content.dump")
        if parsed.has("background"):
            call(handle, "shutdown.start", {"loglevel": level})
            return 0
        request = handle.rpc("shutdown.start", {"loglevel": level}, flags=FLUX_RPC_STREAMING)
        try:
            while True:
                print(request.get()["log"], end="", file=sys.stderr, flush=True)
                request.reset()
        except OSError as exc:
            if exc.errno != errno.ENODATA:
                raise Failure(text_of(exc)) from None
    return 0


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
